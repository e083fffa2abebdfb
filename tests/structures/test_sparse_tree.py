"""Sparse grammars: what they say equals the sum over all derivations, with unary cycles against rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from onebound.data.grammars import johnson_rules, read_grammar
from onebound.errors import InputError, NonFinite, Unsupported
from onebound.structures import DenseTree, TreePotentials
from onebound.structures.grammar import Grammar
from onebound.structures.sparse_tree import GrammarPotentials, SparseTree
from onebound.structures.tree_potentials import spans_beside
from onebound.trees import Rule, Terminal

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
EXACT = {"rtol": 1e-10, "atol": 1e-10}
A, B = Terminal("a"), Terminal("b")
# Long right sides, words among them, unary rules without and with cycles.
RULES = [
    Rule("S", ("X", "Y"), 0.4),
    Rule("S", ("X", A, "Y"), 0.25),
    Rule("S", ("X", "X", "Y", "Z"), 0.15),
    Rule("S", ("X",), 0.2),
    Rule("X", ("Y",), 0.3),
    Rule("X", (A,), 0.5),
    Rule("X", ("S", "Z"), 0.2),
    Rule("Y", ("Z",), 0.25),
    Rule("Y", (B,), 0.45),
    Rule("Y", ("X", "X"), 0.3),
    Rule("Z", ("X",), 0.5),
    Rule("Z", (A,), 0.25),
    Rule("Z", (A, "Z", B), 0.25),
]
GRAMMAR = Grammar(RULES, "S")
SENTENCES = ["a b", "a a b", "a", "b", "a a a b", "a b a a b", "b b"]


def potentials(
    grammar: Grammar, sentences: list[str], weights: Tensor | None = None, **options: object
) -> GrammarPotentials:
    encoded = [grammar.encode(sentence.split()) for sentence in sentences]
    return GrammarPotentials(
        grammar,
        grammar.weights.log() if weights is None else weights,
        torch.tensor([word for one in encoded for word in one], dtype=torch.int64),
        torch.tensor([len(one) for one in encoded], dtype=torch.int64),
        **options,
    )


def exact_sum(rules: list[Rule], start: str, words: list[str]) -> Fraction:
    """p(words) as a fraction: linear equations a span, Gauss and nothing else."""
    weight = [Fraction(rule.weight).limit_denominator(1000) for rule in rules]
    symbols = list(dict.fromkeys(rule.left for rule in rules))
    n = len(words)
    p: dict[tuple[str, int, int], Fraction] = {}

    def split(right: tuple, i: int, j: int) -> Fraction:
        """Σ over ways to make words i … j − 1 by a row of symbols and words, all but one-symbol rows over the same span."""
        if not right:
            return Fraction(int(i == j))
        first, rest = right[0], right[1:]
        if isinstance(first, Terminal):
            return split(rest, i + 1, j) if i < j and words[i] == first.word else Fraction(0)
        return sum((p[first, i, k] * split(rest, k, j) for k in range(i + 1, j - len(rest) + 1)), Fraction(0))

    for width in range(1, n + 1):
        for i in range(n - width + 1):
            j = i + width
            free = {s: Fraction(0) for s in symbols}
            unary = {(s, t): Fraction(0) for s in symbols for t in symbols}
            for r, rule in enumerate(rules):
                if len(rule.right) == 1 and isinstance(rule.right[0], str):
                    unary[rule.left, rule.right[0]] += weight[r]
                else:
                    for s in symbols:
                        p.setdefault((s, i, j), Fraction(0))
                    free[rule.left] += weight[r] * split(rule.right, i, j)
            for s, value in zip(symbols, solved(symbols, unary, free), strict=True):
                p[s, i, j] = value
    return p[start, 0, n]


def solved(symbols: list[str], unary: dict, free: dict) -> list[Fraction]:
    """x = U x + free."""
    m = [[Fraction(int(s == t)) - unary[s, t] for t in symbols] + [free[s]] for s in symbols]
    for k in range(len(m)):
        pivot = next(row for row in range(k, len(m)) if m[row][k] != 0)
        m[k], m[pivot] = m[pivot], m[k]
        m[k] = [v / m[k][k] for v in m[k]]
        for row in range(len(m)):
            if row != k and m[row][k] != 0:
                m[row] = [v - m[row][k] * u for v, u in zip(m[row], m[k], strict=True)]
    return [row[-1] for row in m]


def test_the_unary_closure_equals_rational_arithmetic() -> None:
    q = SparseTree(potentials(GRAMMAR, SENTENCES))
    for n, sentence in enumerate(SENTENCES):
        wanted = exact_sum(RULES, "S", sentence.split())
        assert float(q.log_partition[n].exp()) == pytest.approx(float(wanted), rel=1e-12)
    assert q.infeasible.tolist() == [False] * 7


def test_expected_uses_are_the_gradient_and_unary_cycles_are_used_more_than_once() -> None:
    leaf = GRAMMAR.weights.log().requires_grad_()
    seeds = torch.tensor([1.0, 0.5, 2.0, 0.0, 1.0, 3.0, -1.0], dtype=torch.float64)
    q = SparseTree(potentials(GRAMMAR, SENTENCES, leaf))
    (q.log_partition * seeds).sum().backward()
    torch.testing.assert_close(leaf.grad, q.weighted_marginals(seeds), **EXACT)
    assert torch.autograd.gradcheck(lambda x: SparseTree(potentials(GRAMMAR, SENTENCES, x)).log_partition, [leaf])
    # Each derivation has as many leaves as words: uses of word rules, counted with the words that longer rules name.
    words = torch.tensor([sum(isinstance(x, Terminal) for x in rule.right) for rule in RULES], dtype=torch.float64)
    torch.testing.assert_close(q.uses_by_sentence() @ words, q.log_potentials.lengths.double(), **EXACT)
    loop = Grammar([Rule("S", ("T",), 0.9), Rule("S", (A,), 0.1), Rule("T", ("S",), 1.0)], "S")
    used = SparseTree(potentials(loop, ["a"])).marginals
    torch.testing.assert_close(used, torch.tensor([9.0, 1.0, 9.0], dtype=torch.float64), **EXACT)


def test_log_space_says_the_same_and_takes_over_where_scaling_cannot() -> None:
    from onebound.structures.sparse_tree import _Insides

    w = potentials(GRAMMAR, SENTENCES)
    plain, forced = _Insides(w), _Insides(w)
    forced.lost[:] = True
    found = np.full(len(w), -np.inf)
    forced._go(True, found, None)
    np.testing.assert_allclose(found, plain.log_partition.numpy(), rtol=1e-12)
    seeds = torch.linspace(0, 2, len(w), dtype=torch.float64)
    torch.testing.assert_close(forced.uses(seeds), plain.uses(seeds), **EXACT)
    once, used = SparseTree(w).in_one_pass(seeds)
    torch.testing.assert_close(once, plain.log_partition, rtol=0, atol=0)
    torch.testing.assert_close(used, plain.uses(seeds), rtol=0, atol=0)
    far = GRAMMAR.weights.log()
    far[[1, 4, 7]] -= torch.tensor([800.0, 400.0, 900.0], dtype=torch.float64)  # e^−800 is no float64
    q = SparseTree(potentials(GRAMMAR, ["b b", "a b"], far))
    assert bool(q._insides.lost.all())
    small = SparseTree(potentials(GRAMMAR, ["b b", "a b"], far - 5.0 * torch.ones(13)))
    assert bool(q.log_partition.isfinite().all())
    n_rules = (q.uses_by_sentence() * torch.ones(13)).sum(1)
    assert bool((small.log_partition < q.log_partition).all())
    assert bool((n_rules > 1).all())


def test_derivations_are_drawn_by_their_share_and_the_best_is_the_best() -> None:
    sentence = "a b a a b"
    q = SparseTree(potentials(GRAMMAR, [sentence]))
    (draws,) = q.sample(4000, torch.Generator().manual_seed(0))
    counts = torch.stack([torch.bincount(z, minlength=13).double() for z in draws])
    error = counts.std(0) / math.sqrt(4000)
    assert bool(((counts.mean(0) - q.marginals).abs() < 5 * error + 1e-9).all())
    scores = torch.stack([q.log_prob([z])[0] for z in draws])
    assert float(scores.max()) <= float(q.log_prob(q.argmax)[0]) + 1e-12
    best = GRAMMAR.tree(q.argmax[0].tolist())
    assert " ".join(best.words) == sentence
    assert all(" ".join(GRAMMAR.tree(z.tolist()).words) == sentence for z in draws[:50])
    assert float(q.entropy) == pytest.approx(-float(scores.mean()), abs=5 * float(scores.std()) / math.sqrt(4000))


def derivations_above(sentence: str, least: float) -> list[tuple[float, list[int]]]:
    """All derivations with ln p above `least`, best first: leftmost steps, given up when they cannot get there."""
    words, found = sentence.split(), []
    todo: list[tuple[float, list[int], list, int]] = [(0.0, [], ["S"], 0)]
    while todo:
        score, used, rest, at = todo.pop()
        while rest and isinstance(rest[0], Terminal) and at < len(words) and rest[0].word == words[at]:
            rest, at = rest[1:], at + 1
        if not rest:
            found += [(score, used)] if at == len(words) else []
        elif isinstance(rest[0], str) and len(rest) <= len(words) - at:
            for r, rule in enumerate(RULES):
                if rule.left == rest[0] and score + math.log(rule.weight) > least:
                    todo.append((score + math.log(rule.weight), [*used, r], [*rule.right, *rest[1:]], at))
    return sorted(found, key=lambda one: -one[0])


def test_the_best_derivations_in_order_cycles_among_them() -> None:
    for sentence, least in (("a b", -14.0), ("a b a a b", -19.0)):
        wanted = derivations_above(sentence, least)
        assert len(wanted) > 30
        q = SparseTree(potentials(GRAMMAR, [sentence, "c"]))
        found, none = q.best(len(wanted))
        assert none == []
        scores = [float(q.log_prob([z, q.argmax[1]])[0] + q.log_partition[0]) for z in found]
        np.testing.assert_allclose(scores, [score for score, _ in wanted], rtol=1e-12)
        assert len({tuple(z.tolist()) for z in found}) == len(wanted)
        assert {tuple(z.tolist()) for z in found[:20]} <= {tuple(used) for _, used in wanted}
        assert len(GRAMMAR.tree(found[-1].tolist()).words) == len(sentence.split())
        torch.testing.assert_close(q.best(1)[0][0], q.argmax[0])


def test_phrases_are_counted_at_every_height_and_the_likely_ones_make_a_tree() -> None:
    sentence = "a b a a b"
    q = SparseTree(potentials(GRAMMAR, [sentence, "c"]))
    found, none = q.phrases()
    assert none == []
    expected: dict[tuple[str, int, int], float] = {}
    total = math.exp(float(q.log_partition[0]))
    for score, used in derivations_above(sentence, -26.0):
        for span in GRAMMAR.tree(used).spans():
            expected[span] = expected.get(span, 0.0) + math.exp(score) / total
    for start, stop, a, number in found:
        assert number == pytest.approx(expected.get((GRAMMAR.symbols[a], start, stop), 0.0), abs=2e-4)
    tree, nothing = q.mbr()
    assert nothing is None
    assert tree.words == tuple(sentence.split())
    likely = {(GRAMMAR.symbols[a], i, j) for i, j, a, number in found if number > 0.5}
    assert likely <= set(tree.spans())
    assert tree.label == "S"


def test_a_grammar_in_normal_form_is_a_dense_tree() -> None:
    g = torch.Generator().manual_seed(0)
    names = ["N0", "N1", "P0", "P1", "P2"]
    rules = [Rule(x, (y, z)) for x in names[:2] for y in names for z in names]
    rules += [Rule(x, (Terminal(w),)) for x in names[2:] for w in "ab"]
    rules += [Rule("TOP", (x,)) for x in names]
    grammar = Grammar(rules, "TOP")
    weights = torch.randn(len(rules), generator=g, dtype=torch.float64)
    w = potentials(grammar, ["a b a a", "b", "a a b a b b"], weights)
    words = weights[50:56].reshape(3, 2).T[torch.tensor([0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 1])]
    dense = DenseTree(TreePotentials(weights[56:], weights[:50].reshape(2, 5, 5), words, w.lengths))
    sparse = SparseTree(w)
    torch.testing.assert_close(sparse.log_partition, dense.log_partition, **EXACT)
    torch.testing.assert_close(sparse.marginals[:50].reshape(2, 5, 5), dense.marginals.binary, **EXACT)
    torch.testing.assert_close(sparse.entropy, dense.entropy, rtol=1e-9, atol=1e-9)
    spans, tags = dense.visits()
    for n, phrases in enumerate(sparse.phrases()):
        start = int(dense.log_potentials.ends[n])
        for i, j, a, number in phrases:
            if a < 5:
                wanted = spans[n, i, j - i, a] if j - i > 1 else tags[start + i, a - 2] if a > 1 else 0.0
                assert number == pytest.approx(float(wanted), abs=1e-10)
    allowed = spans_beside([[(1, 3)], [], [(0, 2), (2, 5)]], [4, 1, 6])
    inside = SparseTree(potentials(grammar, ["a b a a", "b", "a a b a b b"], weights, allowed=allowed)).log_partition
    torch.testing.assert_close(inside, DenseTree(dense.log_potentials.allowing(allowed)).log_partition, **EXACT)


def test_the_same_bits_in_any_company_and_on_any_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = [" ".join("ab"[(i * k) % 3 % 2] for i in range(1, k + 2)) for k in range(12)]
    together = SparseTree(potentials(GRAMMAR, sentences))
    alone = [SparseTree(potentials(GRAMMAR, [s])).log_partition[0] for s in sentences]
    assert (together.log_partition == torch.stack(alone)).all()
    used = together.marginals
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert (SparseTree(potentials(GRAMMAR, sentences)).marginals == used).all()


def test_what_cannot_be_is_named() -> None:
    q = SparseTree(potentials(GRAMMAR, ["a c b", "a b", ""]))
    assert q.infeasible.tolist() == [True, False, True]
    assert q.why_infeasible(0) == ": nothing makes its word 2"
    assert q.why_infeasible(2) == ": it has no words"
    assert float(q.entropy[0]) == 0
    assert q.argmax[0].tolist() == []
    torch.testing.assert_close(q.marginals, SparseTree(potentials(GRAMMAR, ["a b"])).marginals, **EXACT)
    one = Grammar([Rule("S", (A, B)), Rule("S", ("T",)), Rule("T", (A,))], "S")
    assert SparseTree(potentials(one, ["b a"])).why_infeasible(0) == ": no derivation covers all its words"
    full = Grammar([Rule("S", ("T",), 1.0), Rule("T", ("S",), 1.0), Rule("T", (A,), 1.0)], "S")
    with pytest.raises(InputError, match="unary rules among S, T form a cycle that keeps 1 of its mass"):
        _ = SparseTree(potentials(full, ["a"])).log_partition
    with pytest.raises(NonFinite, match="got nan for the rule S → X Y"):
        _ = SparseTree(potentials(GRAMMAR, ["a"], torch.full((13,), math.nan, dtype=torch.float64))).log_partition
    with pytest.raises(Unsupported, match=r"Use ob\.EM"):
        q.empirical(None)
    with pytest.raises(InputError, match="start symbol 'Q'"):
        Grammar(RULES, "Q")
    with pytest.raises(InputError, match="at least one rule"):
        Grammar([], "S")
    lone = Grammar([*RULES, Rule("U", ("V", "U")), Rule("S", ("V", "X"))], "S")
    assert lone.useless() == {"unproductive": ["U", "V"], "unreachable": ["U"]}
    with pytest.raises(InputError, match="ends before the tree does"):
        GRAMMAR.tree([0, 5])


JOHNSON = """S1 --> S
S --> NP VP
NP --> Det N
VP --> V
VP --> V NP
VP --> NP V
VP --> V NP NP
VP --> NP NP V
""" + "".join(f"{p} --> {w}\n" for p in ("Det", "N", "V") for w in ["the", "a", "dog", "man", "bone", "bites", "gives"])
CORPUS = [
    "the dog bites a man",
    "the man bites a dog",
    "a man gives the dog a bone",
    "the dog gives a man the bone",
    "a dog bites a bone",
]


def test_the_trace_of_johnsons_program() -> None:
    start, rules = johnson_rules(JOHNSON)
    grammar, found = Grammar(rules, start), []
    p = grammar.normalized(grammar.weights)
    for _ in range(5):
        q = SparseTree(potentials(grammar, CORPUS, p.log()))
        found.append(-float(q.log_partition.sum()))
        p = grammar.normalized(q.marginals)
    np.testing.assert_allclose(found, [61.0128, 42.6594, 30.227, 27.8137, 27.8111], atol=5e-5)


def test_parse_counts_of_a_large_grammar() -> None:
    if not (SHARED / "atis").is_dir():
        pytest.skip("the ATIS grammar is not beside this checkout")
    start, rules = read_grammar(SHARED / "atis" / "atis.cfg", encoding="latin-1")
    grammar = Grammar(rules, start)
    assert len(grammar) == 5517
    lines = (SHARED / "atis" / "atis_sentences.txt").read_text(encoding="latin-1").splitlines()
    told = [line.split(":", 1) for line in lines if line.strip() and not line.startswith("#")]
    assert len(told) == 98
    q = SparseTree(potentials(grammar, [words for _, words in told], torch.zeros(5517, dtype=torch.float64)))
    wanted = torch.tensor([float(count) for count, _ in told], dtype=torch.float64)
    torch.testing.assert_close(q.log_partition.exp(), wanted, rtol=1e-12, atol=0)
