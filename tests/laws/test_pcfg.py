"""Grammars as models: the sum over trees is exact, EM never falls, known trees are counted, networks climb by expected uses."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import onebound as ob
from onebound.emissions import Dirichlet
from onebound.errors import Infeasible, InputError, NoClosedForm
from onebound.models import PCFG, NeuralPCFG
from onebound.structures import DenseTree
from onebound.structures.tree_potentials import spans_beside

SENTENCES = [[0, 1, 2, 3], [2, 2], [1], [3, 0, 1], [0, 1, 0, 1, 0]]


def grammar(seed: int = 0, **options: object) -> PCFG:
    return PCFG(2, 3, 4, **options).initialize(SENTENCES, torch.Generator().manual_seed(seed))


def total(model: PCFG, words: list[int]) -> float:
    """p(words) by every way to split them, in plain numbers."""
    root, binary, emit = (x.exp() for x in model.log_rules())
    nt = model.n_nonterminals

    def inside(i: int, j: int) -> Tensor:
        found = torch.zeros(model.n_symbols, dtype=torch.float64)
        if j - i == 1:
            found[nt:] = emit[:, words[i]]
        else:
            for k in range(i + 1, j):
                found[:nt] += torch.einsum("abc,b,c->a", binary, inside(i, k), inside(k, j))
        return found

    return float(root @ inside(0, len(words)))


@torch.no_grad()
def test_evidence_is_the_sum_over_trees_and_all_sentences_add_up() -> None:
    m = grammar()
    found = m.evidence(SENTENCES)
    for n, words in enumerate(SENTENCES):
        assert found[n] == pytest.approx(math.log(total(m, words)), rel=1e-10)
    short = [list(y) for n in (1, 2, 3) for y in itertools.product(range(4), repeat=n)]
    mass = m.evidence(short).exp()
    lengths = torch.tensor([len(y) for y in short])
    once = float(m.log_rules()[0][2:].logsumexp(0).exp())
    assert float(mass[lengths == 1].sum()) == pytest.approx(once, rel=1e-10)
    assert float(mass.sum()) < 1


@pytest.mark.parametrize("prior", [None, Dirichlet(1.5)])
def test_em_never_falls_and_its_bound_is_the_evidence(prior: Dirichlet | None) -> None:
    m = grammar(prior=prior)
    weights = [1.0, 2.0, 0.5, 1.0, 3.0]
    obs = ob.Observations.of([torch.tensor(y).reshape(-1, 1) for y in SENTENCES], weights=weights)
    fit = ob.fit(m, obs, init=None, max_iter=40, tol=0)
    objective = [r.objective for r in fit.trace if r.after == "E"]
    assert all(b >= a - 1e-10 * (1 + abs(a)) for a, b in itertools.pairwise(objective))
    assert objective[-1] > objective[0]
    assert fit.evidence == pytest.approx(
        float((m.evidence(obs).detach() * torch.tensor(weights)).sum() / sum(weights)), rel=1e-10
    )
    b = ob.bound(m, obs)
    torch.testing.assert_close(b.value, b.evidence, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_statistics_in_one_pass_equal_those_of_the_posterior() -> None:
    m = grammar(1)
    obs = m.observe(SENTENCES)
    fused = m.exact_pass(obs, statistics=True)
    q = m.posterior(obs)
    plain = m.statistics(obs, q)
    torch.testing.assert_close(fused.statistics.to_vector(), plain.to_vector(), rtol=1e-10, atol=1e-10)
    assert fused.evidence == pytest.approx(float(m.evidence(obs).sum()), rel=1e-12)
    bound = float(m.expected_log_joint(plain)) + float(plain.tensor("entropy"))
    assert bound == pytest.approx(fused.evidence, rel=1e-10)


@torch.no_grad()
def test_known_trees_are_the_complete_data_m_step() -> None:
    m = grammar(2)
    z = m.posterior(SENTENCES).sample(1, torch.Generator().manual_seed(0))[0]
    counted = m.count(SENTENCES, z)
    before = float(m.expected_log_joint(counted))
    assert before == pytest.approx(float(m.log_joint(SENTENCES, z).sum()), rel=1e-10)
    nodes = z[z[:, 1] - z[:, 0] == 1]
    words = torch.cat([torch.tensor(y) for y in SENTENCES])
    wanted = torch.zeros(3, 4, dtype=torch.float64)
    for node, word in zip(nodes.tolist(), words.tolist(), strict=True):
        wanted[node[2] - 2, word] += 1
    torch.testing.assert_close(counted.tensor("words"), wanted)
    repairs = m.maximize(counted)
    assert float(m.log_joint(SENTENCES, z).sum()) >= before
    torch.testing.assert_close(
        m.words.probabilities()[wanted.sum(1) > 0], (wanted / wanted.sum(1, keepdim=True))[wanted.sum(1) > 0]
    )
    assert all("keeps its rules" in r for r in repairs)


def test_brackets_raise_nothing_and_forbid_what_crosses_them() -> None:
    m = grammar(3)
    spans = spans_beside([[(0, 2)], [], [], [(1, 3)], [(0, 4), (2, 4)]], [len(y) for y in SENTENCES])
    obs = ob.Observations.of([torch.tensor(y).reshape(-1, 1) for y in SENTENCES], allowed=spans)
    inside, free = m.evidence(obs), m.evidence(SENTENCES)
    assert bool((inside <= free + 1e-12).all())
    assert float(inside[0]) < float(free[0])
    trees = m.posterior(obs).argmax
    ends = {(int(i), int(j)) for i, j, _ in trees[:7]}
    assert (0, 2) in ends or not any(i < 2 < j and (i, j) != (0, 4) for i, j in ends)
    fit = ob.fit(grammar(3), obs, init=None, max_iter=5)
    assert fit.gap == pytest.approx(0, abs=1e-9)


def test_networks_climb_by_expected_uses() -> None:
    """∇ ln p(y) = Σ over rules of expected uses · ∇ ln p(rule): Fisher's identity, by hand and by autograd."""
    m = NeuralPCFG(2, 3, 4, size=6, generator=torch.Generator().manual_seed(0)).double()
    m.initialize(SENTENCES, torch.Generator().manual_seed(1))
    m.evidence(SENTENCES).sum().backward()
    by_autograd = [p.grad.clone() for p in m.parameters()]
    m.zero_grad()
    with torch.no_grad():
        used = m.posterior(SENTENCES).marginals
    root, binary, words = m.log_rules()
    per_word = torch.zeros(4, 3, dtype=torch.float64).index_add_(
        0, torch.cat([torch.tensor(y) for y in SENTENCES]), used.words
    )
    ((used.root * root).sum() + (used.binary * binary).sum() + (per_word.T * words).sum()).backward()
    for p, wanted in zip(m.parameters(), by_autograd, strict=True):
        torch.testing.assert_close(p.grad, wanted, rtol=1e-10, atol=1e-10)


def test_eg_climbs_a_neural_grammar_and_em_is_refused() -> None:
    m = NeuralPCFG(2, 3, 4, size=8)
    g = torch.Generator().manual_seed(0)
    fit = ob.fit(m, SENTENCES, ob.EG(), max_iter=30, batch_size=5, generator=g)
    values = [r.bound for r in fit.trace if r.bound is not None]
    assert values[-1] > values[0] + 0.5
    assert fit.gap == 0
    with pytest.raises(NoClosedForm, match="no closed form"):
        ob.fit(m, SENTENCES, ob.EM())
    same = NeuralPCFG(2, 3, 4, size=8)
    ob.fit(same, SENTENCES, ob.EG(), max_iter=30, batch_size=5, generator=torch.Generator().manual_seed(0))
    assert all((a == b).all() for a, b in zip(m.parameters(), same.parameters(), strict=True))


def test_a_gradient_step_and_an_m_step_agree_about_where_to_stay() -> None:
    m = grammar(4)
    ob.fit(m, SENTENCES, ob.EM(), init=None, max_iter=3000, tol=0)
    m.evidence(SENTENCES).sum().backward()
    assert max(float(p.grad.abs().max()) for p in m.parameters()) < 1e-3


def test_draws_have_their_tree_and_their_share() -> None:
    m = PCFG(1, 1, 2).assign([0.5, 0.5], [[[0.0, 0.0], [0.25, 0.75]]], [[0.3, 0.7]])
    rows, trees = m.sample(2000, torch.Generator().manual_seed(0))
    once = sum(len(y) == 1 for y in rows) / 2000
    assert abs(once - 0.5) < 5 * math.sqrt(0.25 / 2000)
    assert all(len(z) == 2 * len(y) - 1 and z[0].tolist()[:2] == [0, len(y)] for y, z in zip(rows, trees, strict=True))
    assert bool(m.log_joint(rows[:50], torch.cat(trees[:50])).isfinite().all())
    endless = PCFG(1, 1, 2).assign([1.0, 0.0], [[[1.0, 0.0], [0.0, 0.0]]], [[0.3, 0.7]])
    with pytest.raises(InputError, match="need not end"):
        endless.sample(1)


def test_words_are_named_where_they_are_not_known(tmp_path: Path) -> None:
    m = PCFG(2, 2, ["a", "b", "<unk>"])
    assert m.encode([["a", "zebra"]]).y.flatten().tolist() == [0, 2]
    with pytest.raises(InputError, match="word 'zebra' of sentence 1"):
        PCFG(2, 2, ["a", "b"]).encode([["a"], ["b", "zebra"]])
    with pytest.raises(InputError, match="sentence 1 has no words"):
        m.encode([["a"], []])
    with pytest.raises(InputError, match=r"numbers 0 … 2, got 3"):
        m.evidence([[0, 3]])
    with pytest.raises(InputError, match="different words"):
        PCFG(2, 2, ["a", "a"])
    with pytest.raises(InputError, match="binary must be"):
        m.assign([1, 0, 0, 0], [[1.0]], [[1.0]])
    dead = PCFG(1, 1, 2).assign([0.0, 1.0], [[[0.0, 0.0], [0.0, 1.0]]], [[1.0, 0.0]])
    with pytest.raises(Infeasible, match="nothing makes its word 1"):
        dead.posterior([[0], [1]])
    m.initialize(m.encode([["a", "b"]]), torch.Generator().manual_seed(0))
    ob.save(m, tmp_path / "m.safetensors")
    again = ob.load(tmp_path / "m.safetensors")
    assert again.vocabulary == ("a", "b", "<unk>")
    assert (again.evidence([[0, 1]]) == m.evidence([[0, 1]])).all()
    n = NeuralPCFG(2, 2, 3, size=4)
    n.initialize([[0, 1]], torch.Generator().manual_seed(0))
    ob.save(n, tmp_path / "n.safetensors")
    assert (ob.load(tmp_path / "n.safetensors").evidence([[0, 1]]) == n.evidence([[0, 1]])).all()


@torch.no_grad()
def test_its_posterior_is_a_dense_tree() -> None:
    q = grammar().posterior(SENTENCES)
    assert isinstance(q, DenseTree)
    assert float(q.span_posteriors.sum()) == pytest.approx(sum(len(y) - 1 for y in SENTENCES), abs=1e-9)
