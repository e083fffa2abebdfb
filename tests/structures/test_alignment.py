"""Alignments: everything that they say equals the sum over all paths, and a chain with 0/−inf edges says the same."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from onebound.errors import InputError, NonFinite
from onebound.structures import Alignment, AlignmentPotentials, Chain, ChainPotentials

INF = math.inf
EXACT = {"rtol": 1e-10, "atol": 1e-10}
# Frames and labels of three items; the blank is class 1 of 4.
ITEMS = [
    ((5, [0, 0]), (4, [2, 3, 2]), (3, [])),
    ((1, [0]), (2, [3, 3]), (0, []), (3, [2])),
    ((4, [0, 2]), (0, [3]), (3, [3, 0])),
]
CASES = [pytest.param(items, forbid, id=f"{i}-{forbid}") for i, items in enumerate(ITEMS) for forbid in (0.0, 0.25)]


def potentials(items: tuple[tuple[int, list[int]], ...], forbid: float = 0.0, seed: int = 0) -> AlignmentPotentials:
    """Random scores, a share `forbid` of them −inf."""
    g = torch.Generator().manual_seed(seed)
    frames = torch.tensor([t for t, _ in items])
    labels = torch.tensor([label for _, labels in items for label in labels], dtype=torch.int64)
    scores = 2 * torch.randn(int(frames.sum()), 4, generator=g, dtype=torch.float64)
    scores = scores.masked_fill(torch.rand(scores.shape, generator=g) < forbid, -INF)
    return AlignmentPotentials(scores, frames, labels, torch.tensor([len(labels) for _, labels in items]), 1)


def paths_of(w: AlignmentPotentials, n: int) -> dict[tuple[int, ...], float]:
    """Every path of item n with the sum of its scores, by plain sums."""
    t, first, labels = int(w.frames[n]), int(w.firsts[n]), w.labels_of(n).tolist()
    classes = [w.blank]
    for label in labels:
        classes += [label, w.blank]
    found = {}
    for z in itertools.product(range(len(classes)), repeat=t):
        said = [classes[s] for s, _ in itertools.groupby(z)]
        visited = [s for s, _ in itertools.groupby(z)]
        if any(b <= a for a, b in itertools.pairwise(visited)) or [s for s in visited if s % 2] != list(
            range(1, len(classes), 2)
        ):
            continue
        if any(a == b for a, b in itertools.pairwise(said)):
            continue
        found[z] = float(sum(w.scores[first + i, classes[s]] for i, s in enumerate(z)))
    return found


def brute(w: AlignmentPotentials, n: int) -> tuple[float, dict[tuple[int, ...], float]]:
    paths = paths_of(w, n)
    top = max(paths.values(), default=-INF)
    if top == -INF:
        return -INF, {}
    log_z = top + math.log(math.fsum(math.exp(score - top) for score in paths.values()))
    return log_z, {z: math.exp(score - log_z) for z, score in paths.items() if score > -INF}


@pytest.mark.parametrize(("items", "forbid"), CASES)
def test_what_an_alignment_says_equals_the_sum_over_all_paths(
    items: tuple[tuple[int, list[int]], ...], forbid: float
) -> None:
    w, other = potentials(items, forbid), potentials(items, seed=1)
    q, values = Alignment(w), potentials(items, seed=2)
    best = q.argmax
    for n in range(len(items)):
        log_z, paths = brute(w, n)
        a, t = int(w.firsts[n]), int(w.frames[n])
        np.testing.assert_allclose(q.log_partition[n], log_z, **EXACT)
        assert bool(q.infeasible[n]) == (not paths)
        np.testing.assert_allclose(q.entropy[n], -math.fsum(p * math.log(p) for p in paths.values()), **EXACT)
        worth = paths_of(values, n)
        np.testing.assert_allclose(q.expected(values)[n], math.fsum(p * worth[z] for z, p in paths.items()), **EXACT)
        used, states = np.zeros((t, 4)), np.zeros((t, 2 * len(items[n][1]) + 1))
        classes = [1, *itertools.chain.from_iterable((label, 1) for label in items[n][1])]
        for z, p in paths.items():
            for i, s in enumerate(z):
                used[i, classes[s]] += p
                states[i, s] += p
        np.testing.assert_allclose(q.marginals[a : a + t], used, **EXACT)
        np.testing.assert_allclose(q.occupancies(n), states, **EXACT)
        if paths:
            z = tuple(best[a : a + t].tolist())
            np.testing.assert_allclose(paths[z], max(paths.values()), **EXACT)
            other_z, other_p = brute(other, n)
            kl = math.fsum(p * (math.log(p) - math.log(other_p[z])) for z, p in paths.items())
            np.testing.assert_allclose(q.kl(Alignment(other))[n], kl, **EXACT)
            np.testing.assert_allclose(q.score(other, _placed(w, n, z))[n], paths_of(other, n)[z], **EXACT)
            assert other_z > -INF
        for z in itertools.product(range(states.shape[1]), repeat=t):
            found = float(q.log_prob(_placed(w, n, z))[n])
            wanted = math.log(paths[z]) if z in paths else -INF
            assert found == pytest.approx(wanted, rel=1e-10, abs=1e-10)
    identity = q.log_partition - q.expected(w)
    feasible = ~q.infeasible
    torch.testing.assert_close(q.entropy[feasible], identity[feasible], rtol=1e-10, atol=1e-10)


def _placed(w: AlignmentPotentials, n: int, z: tuple[int, ...]) -> Tensor:
    """Path z of item n among states 0 of the others."""
    found = torch.zeros(len(w.scores), dtype=torch.int64)
    a = int(w.firsts[n])
    found[a : a + len(z)] = torch.tensor(z, dtype=torch.int64)
    return found


def test_draws_come_as_often_as_their_probabilities_say() -> None:
    w = potentials(((5, [0, 0]), (4, [2, 3, 2]), (5, [2, 0])), 0.1, seed=5)
    q, size = Alignment(w), 20_000
    drawn = q.sample(size, torch.Generator().manual_seed(0))
    for n in range(3):
        a, t = int(w.firsts[n]), int(w.frames[n])
        _, paths = brute(w, n)
        assert paths
        counts: dict[tuple[int, ...], int] = {}
        for z in drawn[:, a : a + t].tolist():
            counts[tuple(z)] = counts.get(tuple(z), 0) + 1
        assert set(counts) <= set(paths)
        for z, p in paths.items():
            assert abs(counts.get(z, 0) - size * p) <= 5 * math.sqrt(size * p * (1 - p)) + 1e-9


def test_an_alignment_is_a_chain_with_edges_of_zero_or_minus_infinity() -> None:
    items = ((9, [2, 2, 3]), (7, [0, 3]), (6, []))
    w = potentials(items, 0.1, seed=3)
    q = Alignment(w)
    for n, (t, labels) in enumerate(items):
        classes = [1, *itertools.chain.from_iterable((label, 1) for label in labels)]
        k = len(classes)
        start, move = torch.full((k,), -INF, dtype=torch.float64), torch.full((k, k), -INF, dtype=torch.float64)
        start[:2] = 0.0
        for s in range(k):
            move[s, s : s + 2] = 0.0
            if s % 2 and s + 2 < k and classes[s] != classes[s + 2]:
                move[s, s + 2] = 0.0
        a = int(w.firsts[n])
        unary = w.scores[a : a + t][:, classes].clone()
        unary[-1, : max(k - 2, 0)] = -INF
        chain = Chain(ChainPotentials(start, move, unary, torch.tensor([t])))
        np.testing.assert_allclose(chain.log_partition[0], q.log_partition[n], **EXACT)
        np.testing.assert_allclose(chain.entropy[0], q.entropy[n], **EXACT)
        np.testing.assert_allclose(chain.marginals.unary, q.occupancies(n), **EXACT)
        assert torch.equal(chain.argmax, q.argmax[a : a + t])


@pytest.mark.parametrize("forbid", [0.0, 0.2])
def test_derivatives_are_right_as_often_as_promised(forbid: float) -> None:
    items = ((5, [0, 0]), (4, [2, 3]), (2, [3, 3]), (3, []))
    w, values = potentials(items, forbid, seed=7), potentials(items, seed=8)
    free = w.scores > -INF
    weights = torch.tensor([1.0, -0.5, 2.0, 0.7], dtype=torch.float64)

    def of(part: str):  # type: ignore[no-untyped-def]
        def f(x: Tensor) -> Tensor:
            q = Alignment(w.with_scores(w.scores.masked_scatter(free, x)))
            if part == "log_partition":
                return (q.log_partition.masked_fill(q.infeasible, 0.0) * weights).sum()
            if part == "marginals":
                return q.marginals
            if part == "kl":
                return q.kl(Alignment(values))
            return q.entropy if part == "entropy" else q.expected(values)

        return f

    x = w.scores[free].clone().requires_grad_()
    assert torch.autograd.gradcheck(of("log_partition"), (x,))
    assert torch.autograd.gradgradcheck(of("log_partition"), (x,))
    for part in ("marginals", "entropy", "expected", "kl"):
        assert torch.autograd.gradcheck(of(part), (x,)), part


def test_draws_are_a_distribution_too_and_a_point_has_no_entropy() -> None:
    w = potentials(((5, [0, 0]), (4, [2, 3]), (2, [3, 3])), seed=9)
    q = Alignment(w)
    hard = q.empirical(q.argmax.unsqueeze(0))
    feasible = ~q.infeasible
    assert q.infeasible.tolist() == [False, False, True]
    torch.testing.assert_close(hard.expected(w)[feasible], q.score(w, q.argmax)[feasible], rtol=1e-12, atol=1e-12)
    assert hard.entropy.tolist() == [0.0, 0.0, 0.0]
    torch.testing.assert_close(hard.kl(q)[feasible], -q.log_prob(q.argmax)[feasible], rtol=1e-12, atol=1e-12)
    some = q.empirical(q.sample(7, torch.Generator().manual_seed(1)))
    assert bool((some.kl(q) >= 0).all())
    assert bool((some.entropy <= math.log(7) + 1e-12).all())


def test_parts_of_a_batch_say_the_same_bits_and_restrictions_hold() -> None:
    w = potentials(((5, [0, 0]), (4, [2, 3]), (6, [3])), seed=11)
    q = Alignment(w)
    for n in range(3):
        one = q.select(slice(n, n + 1))
        assert one.log_partition[0].item() == q.log_partition[n].item()
        assert one.entropy[0].item() == q.entropy[n].item()
    forbidden = w.with_scores(w.scores.clone())
    forbidden.scores[2, 0] = -INF
    left = q.restrict(forbidden)
    assert left.marginals[2, 0] == 0.0
    assert bool(left.log_partition[0] < q.log_partition[0])
    assert "2 labels and 1 blank between repeated ones need 3 frames, got 2" in Alignment(
        potentials(((2, [3, 3]),))
    ).why_infeasible(0)
    bad = w.scores.clone()
    bad[5, 3] = math.nan
    with pytest.raises(NonFinite, match="got nan in item 1, frame 0, class 3"):
        _ = Alignment(w.with_scores(bad)).log_partition
    with pytest.raises(InputError, match="a state for each of the 15 frames"):
        q.log_prob(torch.zeros(3, dtype=torch.int64))
