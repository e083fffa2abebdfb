"""Dense trees: everything that they say equals the sum over all trees, and a right-linear grammar is a chain."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from onebound.errors import InputError, NonFinite
from onebound.structures import (
    Chain,
    ChainPotentials,
    DenseTree,
    TreePotentials,
    tree_inside,
    tree_outside,
    tree_passes,
)
from onebound.structures.tree_potentials import spans_beside
from onebound.structures.tree_smooth import log_space, smooth

INF = math.inf
EXACT = {"rtol": 1e-10, "atol": 1e-10}
NT, P = 2, 2
S = NT + P
LENGTHS = [4, 1, 0, 2, 3]


def potentials(
    lengths: list[int] = LENGTHS,
    *,
    own: bool = False,
    forbid: float = 0.0,
    sd: float = 1.0,
    seed: int = 0,
    nt: int = NT,
    p: int = P,
    brackets: list[list[tuple[int, int]]] | None = None,
    dtype: torch.dtype = torch.float64,
) -> TreePotentials:
    """Random potentials, a share `forbid` of them −inf; with `own` rules and roots of each sentence."""
    g = torch.Generator().manual_seed(seed)
    lead = [len(lengths)] if own else []
    parts = []
    for shape in ([*lead, nt + p], [*lead, nt, nt + p, nt + p], [sum(lengths), p]):
        x = sd * torch.randn(shape, generator=g, dtype=torch.float64)
        parts.append(x.masked_fill(torch.rand(x.shape, generator=g) < forbid, -INF).to(dtype))
    return TreePotentials(
        *parts, torch.tensor(lengths, dtype=torch.int64), spans_beside(brackets, lengths) if brackets else None
    )


@cache
def shapes(i: int, j: int, nt: int, p: int) -> list[tuple[tuple[int, int, int], ...]]:
    """All trees over words i … j − 1, as nodes in preorder."""
    if j - i == 1:
        return [((i, j, s),) for s in range(nt, nt + p)]
    return [
        ((i, j, a), *left, *right)
        for a in range(nt)
        for k in range(i + 1, j)
        for left in shapes(i, k, nt, p)
        for right in shapes(k, j, nt, p)
    ]


def score(w: TreePotentials, n: int, nodes: tuple[tuple[int, int, int], ...]) -> float:
    root = w.root if w.root.ndim == 1 else w.root[n]
    binary = w.binary if w.binary.ndim == 3 else w.binary[n]
    by_span = {node[:2]: node[2] for node in nodes}
    total = float(root[nodes[0][2]])
    for at, (i, j, a) in enumerate(nodes):
        if j - i == 1:
            total += float(w.words[int(w.ends[n]) + i, a - w.sizes[0]])
        else:
            k = nodes[at + 1][1]
            total += float(binary[a, by_span[i, k], by_span[k, j]])
    if w.allowed is not None and not all(bool(w.allowed[int(w.ends[n]) + j - 1, j - i - 1]) for i, j, _ in nodes):
        return -INF
    return total


def trees_of(w: TreePotentials, n: int) -> dict[tuple[tuple[int, int, int], ...], float]:
    size = int(w.lengths[n])
    return {nodes: score(w, n, nodes) for nodes in (shapes(0, size, *w.sizes) if size else [])}


def brute(w: TreePotentials, n: int) -> tuple[float, dict[tuple[tuple[int, int, int], ...], float]]:
    scores = trees_of(w, n)
    top = max(scores.values(), default=-INF)
    if top == -INF:
        return -INF, {}
    log_z = top + math.log(sum(math.exp(v - top) for v in scores.values()))
    return log_z, {z: math.exp(v - log_z) for z, v in scores.items()}


CASES = [
    pytest.param(
        {"own": own, "forbid": forbid, "brackets": b}, id=f"{'own' if own else 'shared'}-{forbid}-{b is not None}"
    )
    for own in (False, True)
    for forbid in (0.0, 0.3)
    for b in (None, [[(1, 3)], [(0, 1)], [], [], [(0, 2), (1, 2)]])
]


@pytest.mark.parametrize("case", CASES)
def test_everything_equals_the_sum_over_all_trees(case: dict) -> None:
    w = potentials(**case)
    q = DenseTree(w)
    uses = [torch.zeros_like(x) for x in w.parts]
    for n in range(len(w)):
        log_z, shares = brute(w, n)
        assert q.log_partition[n] == pytest.approx(log_z, rel=1e-10)
        entropy = -sum(p * math.log(p) for p in shares.values() if p > 0)
        assert float(q.entropy[n]) == pytest.approx(entropy, abs=1e-10)
        for nodes, p in shares.items():
            _count(w, n, nodes, p, uses)
        spans = np.zeros((4, 5))
        for nodes, p in shares.items():
            for i, j, _ in nodes:
                spans[i, j - i] += p * (j - i > 1)
        np.testing.assert_allclose(q.span_posteriors[n], spans, atol=1e-10)
    found = q.marginals
    for mine, wanted in zip(found.parts, uses, strict=True):
        torch.testing.assert_close(mine, wanted, **EXACT)


def _count(w: TreePotentials, n: int, nodes: tuple[tuple[int, int, int], ...], p: float, uses: list[Tensor]) -> None:
    root, binary, words = uses
    (root if root.ndim == 1 else root[n])[nodes[0][2]] += p
    by_span = {node[:2]: node[2] for node in nodes}
    for at, (i, j, a) in enumerate(nodes):
        if j - i == 1:
            words[int(w.ends[n]) + i, a - w.sizes[0]] += p
        else:
            k = nodes[at + 1][1]
            (binary if binary.ndim == 3 else binary[n])[a, by_span[i, k], by_span[k, j]] += p


@pytest.mark.parametrize("case", CASES)
def test_the_best_trees_draws_and_log_prob(case: dict) -> None:
    w = potentials(**case)
    q = DenseTree(w)
    trees, scores = q.best(6)
    draws = q.sample(1500, torch.Generator().manual_seed(1))
    firsts = [0, *w.nodes.cumsum(0).tolist()]
    feasible = (~q.infeasible).nonzero().flatten()
    kept = DenseTree(w.select(feasible))
    rows = (~q.infeasible).repeat_interleave(w.nodes)
    np.testing.assert_allclose(kept.log_prob(trees[0, rows]), scores[0, feasible], rtol=1e-10)
    assert (kept.argmax == trees[0, rows]).all()
    for n in range(len(w)):
        _, shares = brute(w, n)
        ranked = sorted(shares.values(), reverse=True)[:6]
        mine = scores[:, n][scores[:, n] > -INF].exp().tolist()
        np.testing.assert_allclose(mine, [p for p in ranked if p > 0], rtol=1e-9)
        at = slice(firsts[n], firsts[n + 1])
        found = [tuple(map(tuple, z.tolist())) for z in trees[: len(mine), at]]
        assert len(set(found)) == len(mine)
        np.testing.assert_allclose([shares[z] for z in found], mine, rtol=1e-9)
        if not shares:
            assert not trees[:, at].any()
            assert not draws[:, at].any()
            continue
        drawn: dict = {}
        for z in draws[:, at].tolist():
            drawn[tuple(map(tuple, z))] = drawn.get(tuple(map(tuple, z)), 0) + 1
        assert set(drawn) <= {z for z, p in shares.items() if p > 0}
        common = {z: p for z, p in shares.items() if p > 0.01}  # a count of 15 and more is near enough to normal
        for z, p in common.items():
            assert abs(drawn.get(z, 0) / 1500 - p) < 5 * math.sqrt(p * (1 - p) / 1500) + 1e-9
        rare = 1 - sum(common.values())
        others = sum(count for z, count in drawn.items() if z not in common)
        assert abs(others / 1500 - rare) < 5 * math.sqrt(max(rare * (1 - rare), 0) / 1500) + 2e-3


@pytest.mark.parametrize("labelled", [False, True])
def test_the_tree_with_most_expected_right_spans(labelled: bool) -> None:
    w = potentials([4, 2, 1], seed=3)
    trees = DenseTree(w).mbr(labelled=labelled)
    firsts = [0, *w.nodes.cumsum(0).tolist()]
    for n in range(len(w)):
        _, shares = brute(w, n)

        def gain(nodes: tuple, shares: dict = shares) -> float:
            mine = {node if labelled else node[:2] for node in nodes if node[1] - node[0] > 1}
            return sum(
                p * len(mine & {node if labelled else node[:2] for node in other}) for other, p in shares.items()
            )

        found = tuple(map(tuple, trees[firsts[n] : firsts[n + 1]].tolist()))
        assert found in shares
        assert gain(found) == pytest.approx(max(map(gain, shares)), rel=1e-9)


def test_expected_kl_restriction_and_draws_as_distributions() -> None:
    w, v = potentials(seed=1), potentials(seed=2)
    q, other = DenseTree(w), DenseTree(v)
    for n in range(len(w)):
        (_, shares), (log_v, _) = brute(w, n), brute(v, n)
        wanted = sum(p * score(v, n, z) for z, p in shares.items())
        assert q.expected(v)[n] == pytest.approx(wanted, rel=1e-10, abs=1e-12)
        kl = sum(p * (math.log(p) - score(v, n, z) + log_v) for z, p in shares.items())
        assert q.kl(other)[n] == pytest.approx(kl, abs=1e-10)
    torch.testing.assert_close(q.entropy, (q.log_partition - q.expected(w)).masked_fill(q.infeasible, 0.0), **EXACT)
    forbidden = potentials(seed=1, forbid=0.3)
    hard = q.restrict(forbidden)
    wanted = DenseTree(
        w.with_parts(x.masked_fill(y == -INF, -INF) for x, y in zip(w.parts, forbidden.parts, strict=True))
    )
    torch.testing.assert_close(hard.log_partition, wanted.log_partition, **EXACT)
    minus = q.expected(forbidden)
    assert (minus[[0, 4]] == -INF).all()
    drawn = q.empirical(q.sample(50, torch.Generator().manual_seed(0)))
    alive = ~q.infeasible
    torch.testing.assert_close(drawn.log_prob(drawn.z)[:, alive].exp().mean(0), drawn.log_masses.exp().mean(0)[alive])
    uses, share = drawn.weighted_marginals(torch.ones(len(w))), drawn.expected(w)
    total = sum(float((a * b).sum()) for a, b in zip(uses.parts, w.parts, strict=True))
    assert total == pytest.approx(float(share.sum()), rel=1e-10)
    assert (drawn.kl(q)[alive] >= 0).all()
    assert drawn.sample(3).shape == (3, int(w.nodes.sum()), 3)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("forbid", [0.0, 0.25])
def test_derivatives(own: bool, forbid: float) -> None:
    w = potentials([3, 1, 4], own=own, forbid=forbid, seed=4)
    free = [x > -INF for x in w.parts]
    leaves = [x[f].clone().requires_grad_() for x, f in zip(w.parts, free, strict=True)]

    def filled(*values: Tensor) -> TreePotentials:
        return w.with_parts(
            torch.full_like(x, -INF).masked_scatter(f, v) for x, f, v in zip(w.parts, free, values, strict=True)
        )

    def sound(x: Tensor) -> Tensor:
        return x[x > -INF]

    v = potentials([3, 1, 4], own=own, seed=5)
    assert torch.autograd.gradcheck(lambda *x: sound(DenseTree(filled(*x)).log_partition), leaves)
    assert torch.autograd.gradgradcheck(lambda *x: sound(DenseTree(filled(*x)).log_partition), leaves)
    assert torch.autograd.gradcheck(lambda *x: DenseTree(filled(*x)).entropy, leaves)
    assert torch.autograd.gradcheck(lambda *x: DenseTree(filled(*x)).expected(v), leaves)
    weights = torch.tensor([0.5, 2.0, 1.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *x: DenseTree(filled(*x)).weighted_marginals(weights).parts, leaves)


@pytest.mark.parametrize("lengths", [[5, 1, 7, 2, 0, 7], [6, 6, 6], [0, 0], []])
@pytest.mark.parametrize("own", [False, True])
def test_the_recursion_in_torch_and_the_kernel_agree(lengths: list[int], own: bool) -> None:
    b = [[(0, 2)], [], [(2, 5), (3, 5)], [], [], []] if len(lengths) > 2 and lengths[2] > 4 else None
    b = b and b[: len(lengths)]
    w = potentials(lengths, own=own, forbid=0.1, nt=3, p=4, seed=6, brackets=b)
    weights = torch.rand(len(lengths), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kernel, batched = tree_passes._Compiled(w), tree_passes._Batched(w)
    torch.testing.assert_close(kernel.log_partition, batched.log_partition, **EXACT)
    torch.testing.assert_close(kernel.log_partition, smooth(w), **EXACT)
    torch.testing.assert_close(kernel.log_partition, log_space(w), **EXACT)
    for mine, theirs in zip(kernel.uses(weights), batched.uses(weights), strict=True):
        torch.testing.assert_close(mine, theirs, **EXACT)


@pytest.mark.parametrize("sd", [1.0, 4.0, 16.0, 60.0, 250.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_scores_are_right(sd: float, dtype: torch.dtype) -> None:
    w = potentials([9, 12, 3], nt=3, p=3, sd=sd, forbid=0.4, seed=7, dtype=dtype)
    leaves = [x.to(torch.float64).requires_grad_() for x in w.parts]
    log_z = log_space(w.with_parts(leaves))
    wanted = torch.autograd.grad(log_z[log_z > -INF].sum(), leaves)
    tolerance = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 2e-5, "atol": 2e-5}
    for batched in (False, True):
        q = DenseTree(w)
        if batched:
            main = tree_passes._Batched(w)
            doubt = main.in_doubt()
            sound = torch.ones(3, dtype=torch.bool).index_fill(0, doubt, False)
            torch.testing.assert_close(main.log_partition[sound], log_z.detach()[sound], **tolerance)
            continue
        torch.testing.assert_close(q.log_partition, log_z.detach(), **tolerance)
        for mine, theirs in zip(q.marginals.parts, wanted, strict=True):
            torch.testing.assert_close(mine.double(), theirs, **tolerance)


def test_a_path_that_looks_hopeless_until_the_last_rule_is_not_lost() -> None:
    """The only whole tree goes through cells e^−600 below their neighbours, twice: float64 cannot hold it scaled."""
    w = potentials([6], nt=2, p=2, seed=8)
    binary = torch.full_like(w.binary, 0.0)
    binary[1] = -700.0  # whatever nonterminal 1 makes is far below what 0 makes,
    root = torch.tensor([-INF, 0.0, -INF, -INF], dtype=torch.float64)  # and only it may be the top,
    binary[1, 0, :], binary[1, :, 0] = -INF, -INF  # with no part that is a 0
    w = w.with_parts((root, binary, w.words))
    sweep = tree_passes.Sweep(w)
    assert sweep.again.tolist() == [0]  # else this test is of nothing
    torch.testing.assert_close(sweep.log_partition, log_space(w), rtol=1e-12, atol=0)
    q = DenseTree(w)
    assert float(q.span_posteriors[0, :, 2:].sum()) == pytest.approx(5, abs=1e-9)
    torch.testing.assert_close(q.log_prob(q.sample(1)[0]) <= q.log_prob(q.argmax), torch.tensor([True]))
    assert float(q.entropy) == pytest.approx(float(q.log_partition - q.expected(w)), abs=1e-9)
    leaves = [x.clone().requires_grad_() for x in w.parts]
    uses = DenseTree(w.with_parts(leaves)).marginals
    assert float(uses.binary.sum().detach()) == pytest.approx(5, abs=1e-9)


def test_a_uniform_grammar_counts_bracketings() -> None:
    n = 12
    zero = torch.zeros(1, 2, 2, dtype=torch.float64)
    q = DenseTree(TreePotentials(zero[0, 0], zero, zero.new_zeros(n, 1), torch.tensor([n])))
    catalan = math.comb(2 * (n - 1), n - 1) // n
    assert float(q.entropy) == pytest.approx(math.log(catalan), abs=1e-10)
    assert float(q.span_posteriors.sum()) == pytest.approx(n - 1, abs=1e-10)


def test_a_right_linear_grammar_is_a_chain() -> None:
    """A[z] → P[z] A[z'] and A[z] → P[z] P[z']: the words' preterminals are a chain's states."""
    k, lengths = 3, torch.tensor([5, 2, 7])
    g = torch.Generator().manual_seed(0)
    start, move = (torch.randn(*s, generator=g, dtype=torch.float64) for s in ((k,), (k, k)))
    words = torch.randn(14, k, generator=g, dtype=torch.float64)
    binary = torch.full((k, 2 * k, 2 * k), -INF, dtype=torch.float64)
    for a in range(k):
        binary[a, k + a, :k] = move[a]
        binary[a, k + a, k:] = move[a]
    root = torch.cat([start, start])
    tree = DenseTree(TreePotentials(root, binary, words, lengths))
    chain = Chain(ChainPotentials(start, move, words, lengths))
    torch.testing.assert_close(tree.log_partition, chain.log_partition, **EXACT)
    torch.testing.assert_close(tree.entropy, chain.entropy, **EXACT)
    torch.testing.assert_close(tree.marginals.words, chain.marginals.unary, **EXACT)
    z = tree.argmax
    torch.testing.assert_close(z[z[:, 1] - z[:, 0] == 1][:, 2] - k, chain.argmax, rtol=0, atol=0)


def test_a_batch_is_its_sentences_one_by_one_whatever_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [7, 3, 12, 1, 5, 9, 9, 2, 14, 6]
    w = potentials(lengths, nt=5, p=7, seed=9, dtype=torch.float32)
    together = DenseTree(w)
    for n in range(len(w)):
        assert together.log_partition[n] == DenseTree(w.select(torch.tensor([n]))).log_partition[0]
    weights = torch.rand(len(w), dtype=torch.float64)
    used = together.weighted_marginals(weights)
    for threads in (1, 2, 5):
        monkeypatch.setattr(tree_passes, "threads", lambda threads=threads: threads)
        again = DenseTree(w)
        assert (again.log_partition == together.log_partition).all()
        assert all((a == b).all() for a, b in zip(again.weighted_marginals(weights).parts, used.parts, strict=True))


def test_rules_of_each_sentence_that_are_alike_are_shared_rules() -> None:
    w = potentials(nt=3, p=2, seed=10)
    own = w.with_parts((w.root.expand(5, -1), w.binary.expand(5, -1, -1, -1), w.words))
    torch.testing.assert_close(DenseTree(own).log_partition, DenseTree(w).log_partition, **EXACT)
    torch.testing.assert_close(DenseTree(own).marginals.binary.sum(0), DenseTree(w).marginals.binary, **EXACT)


def test_selecting_keeps_an_item_with_its_brackets() -> None:
    w = potentials(brackets=[[(1, 3)], [], [], [(0, 2)], [(1, 3)]])
    q = DenseTree(w)
    for index in (torch.tensor([4, 0, 0]), slice(1, 4)):
        torch.testing.assert_close(q.select(index).log_partition, q.log_partition[index], **EXACT)


def test_what_no_tree_can_make_is_told_and_touches_no_neighbour() -> None:
    w = potentials([3, 4, 0, 3], seed=11)
    words = w.words.clone()
    words[1] = -INF
    brackets = [[], [(0, 2), (1, 3)], [], []]
    q = DenseTree(TreePotentials(w.root, w.binary, words, w.lengths, spans_beside(brackets, [3, 4, 0, 3])))
    assert q.infeasible.tolist() == [True, True, True, False]
    assert q.why_infeasible(1) == ": the spans that are allowed leave no tree"
    blocked = w.binary.clone()
    blocked[:, NT:, NT:] = -INF
    assert DenseTree(w.with_parts((w.root, blocked, w.words))).why_infeasible(1) == ": no tree covers all its words"
    assert q.why_infeasible(0) == ": nothing makes its word 2"
    assert q.why_infeasible(2) == ": it has no words"
    leaves = [x.clone().requires_grad_() for x in (w.root, w.binary, words)]
    found = DenseTree(TreePotentials(*leaves, w.lengths, spans_beside(brackets, [3, 4, 0, 3])))
    found.log_partition[3].backward()
    alone = DenseTree(
        TreePotentials(w.root, w.binary, words, w.lengths, spans_beside(brackets, [3, 4, 0, 3])).select(
            torch.tensor([3])
        )
    )
    torch.testing.assert_close(leaves[1].grad, alone.marginals.binary, **EXACT)
    assert not leaves[2].grad[:7].any()
    assert not q.entropy[:3].any()
    assert bool((q.span_posteriors[0] == 0).all())
    all_of_them = [x.clone().requires_grad_() for x in (w.root, w.binary, words)]
    DenseTree(
        TreePotentials(*all_of_them, w.lengths, spans_beside(brackets, [3, 4, 0, 3]))
    ).log_partition.sum().backward()
    assert all(bool(x.grad.isfinite().all()) for x in all_of_them)


def test_wrong_input_is_refused_in_words() -> None:
    w = potentials([3, 2])
    with pytest.raises(InputError, match=r"binary must be \(2, 3, 3\) or"):
        TreePotentials(w.root, w.binary[:, :, :3], w.words, w.lengths)
    with pytest.raises(InputError, match=r"words must be \(5, 2\)"):
        TreePotentials(w.root, w.binary, w.words[:4], w.lengths)
    with pytest.raises(InputError, match=r"stop ≤ 2, got \(0, 3\) in sentence 1"):
        spans_beside([[(0, 2)], [(0, 3)]], [3, 2])
    with pytest.raises(InputError, match=r"allowed must be \(5, 3 or more\)"):
        w.allowing(torch.ones(5, 2, dtype=torch.bool))
    words = w.words.index_put((torch.tensor(2), torch.tensor(1)), w.words.new_tensor(math.nan))
    with pytest.raises(NonFinite, match=r"words must be finite or −inf, got nan at index \[2, 1\]"):
        _ = DenseTree(w.with_parts((w.root, w.binary, words))).log_partition
    with pytest.raises(InputError, match="nodes of all trees"):
        DenseTree(w).log_prob(torch.zeros(7, 3, dtype=torch.int64))
    z = DenseTree(w).argmax
    z[1, 2] = 99
    with pytest.raises(InputError, match="node 1 of item 0 does not fit"):
        DenseTree(w).log_prob(z)


def test_entropies_and_visits_do_not_need_shared_scale() -> None:
    """The torch outside pass alone gives what the structure reports, on a batch with its own rules."""
    w = potentials([6, 4], own=True, nt=3, p=3, seed=12)
    chart = tree_inside.inside(tree_inside.tables(w))
    found = tree_outside.outside(chart, torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(tree_outside.entropies(chart, found), DenseTree(w).entropy, **EXACT)
