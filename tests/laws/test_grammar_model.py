"""A given grammar as a model: EM never falls, trees that are known are counted, what is saved comes back."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch

import onebound as ob
from onebound.emissions import Dirichlet
from onebound.errors import Infeasible, InputError
from onebound.models.grammar import GrammarPCFG
from onebound.trees import Rule, Terminal, read_brackets, rules_of

A, B = Terminal("a"), Terminal("b")
RULES = [
    Rule("S", ("X", "Y"), 2.0),
    Rule("S", ("X", A, "Y"), 1.0),
    Rule("S", ("X",), 1.0),
    Rule("X", ("Y",), 1.0),
    Rule("X", (A,), 3.0),
    Rule("Y", ("X",), 1.0),
    Rule("Y", (B,), 2.0),
    Rule("Y", ("X", "X"), 1.0),
]
SENTENCES = [["a", "b"], ["a", "a", "b"], ["a"], ["b", "a"], ["a", "a", "a", "b", "b"]]
WEIGHTS = [1.0, 2.0, 0.5, 1.0, 3.0]


@pytest.mark.parametrize("prior", [None, Dirichlet(1.5)])
@pytest.mark.parametrize("init", [None, "random"])
def test_em_never_falls_and_its_bound_is_the_evidence(prior: Dirichlet | None, init: str | None) -> None:
    m = GrammarPCFG(RULES, "S", prior=prior)
    obs = m.encode(SENTENCES, weights=WEIGHTS)
    fit = ob.fit(m, obs, init=init, max_iter=30, tol=0, generator=torch.Generator().manual_seed(1))
    objective = [r.objective for r in fit.trace if r.after == "E"]
    assert all(b >= a - 1e-10 * (1 + abs(a)) for a, b in itertools.pairwise(objective))
    assert objective[-1] > objective[0]
    evidence = m.evidence(obs).detach()
    mean = float((evidence * torch.tensor(WEIGHTS)).sum() / sum(WEIGHTS))
    assert fit.evidence == pytest.approx(mean, rel=1e-10)
    b = ob.bound(m, obs)
    torch.testing.assert_close(b.value, b.evidence, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_statistics_in_one_pass_equal_those_of_the_posterior() -> None:
    m = GrammarPCFG(RULES, "S")
    obs = m.encode(SENTENCES, weights=WEIGHTS)
    fused, plain = m.exact_pass(obs, statistics=True), m.statistics(obs, m.posterior(obs))
    for name in ("weight", "entropy", "rules"):
        torch.testing.assert_close(fused.statistics.tensor(name), plain.tensor(name), rtol=1e-10, atol=1e-10)


def test_trees_that_are_known_are_the_complete_data_m_step() -> None:
    trees = list(read_brackets("(S (N dog) (V barks)) (S (N dog) (V (V bites) (N dog)))"))
    m = GrammarPCFG(rules_of(trees), "S")
    m.maximize(m.count(trees))
    p = {str(rule): rule.weight for rule in m.rules()}
    assert p["V → V N"] == pytest.approx(1 / 3)
    assert p["N → 'dog'"] == pytest.approx(1)
    assert m.parse(m.encode([["dog", "bites", "dog"]]))[0] == [trees[1]]
    assert m.parse(m.encode([["dog", "bites", "dog"]]), how="mbr")[0] == [trees[1]]
    with pytest.raises(InputError, match="tree 0 must begin with S, got N"):
        m.count(list(read_brackets("(N dog)")))
    with pytest.raises(InputError, match=r"tree 0 uses S → N, which the grammar lacks"):
        m.count(list(read_brackets("(S (N dog))")))


def test_gradients_are_expected_uses_through_the_table() -> None:
    m = GrammarPCFG(RULES, "S")
    m.evidence(m.encode(SENTENCES)).sum().backward()
    used = m.posterior(m.encode(SENTENCES)).marginals
    p = m.table.log_probabilities().detach().exp()
    wanted = used - p * m.table.totals(used)[m.table.group]
    torch.testing.assert_close(m.table.logits.grad, wanted, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_sentences_are_drawn_as_often_as_they_are_probable() -> None:
    m = GrammarPCFG(RULES, "S")
    rows, derivations = m.sample(4000, torch.Generator().manual_seed(0))
    words = tuple(m.grammar.tree(derivations[0].tolist()).words)
    assert tuple(m.grammar.words[w] for w in rows[0]) == words
    for sentence in (["a"], ["a", "b"]):
        p = float(m.evidence(m.encode([sentence])).exp())
        code = m.grammar.encode(sentence)
        share = sum(row.tolist() == code for row in rows) / len(rows)
        assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / len(rows))


def test_a_saved_grammar_comes_back(tmp_path: Path) -> None:
    m = GrammarPCFG(RULES, "S", prior=Dirichlet(1.5))
    ob.fit(m, m.encode(SENTENCES), max_iter=3)
    ob.save(m, tmp_path / "m.safetensors")
    again = ob.load(tmp_path / "m.safetensors")
    assert again.rules() == m.rules()
    assert again.title() == "PCFG of 8 rules, 3 symbols, 2 words"


def test_what_cannot_be_is_named() -> None:
    m = GrammarPCFG(RULES, "S")
    with pytest.raises(InputError, match="word 'c' of sentence 1 is not among the 2 words"):
        m.encode([["a"], ["c"]])
    with pytest.raises(InputError, match=r"a sentence must be a list of words, got the text 'a b' as sentence 0"):
        m.encode(["a b"])
    for weight in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match=r"a weight must be ≥ 0 and finite, got .* for the rule S → 'a'"):
            GrammarPCFG([Rule("S", (A,), weight)], "S")
    with pytest.raises(InputError, match="sentence 0 has no words"):
        m.encode([[]])
    one = GrammarPCFG([Rule("S", (A, B))], "S")
    with pytest.raises(Infeasible, match="no derivation covers all its words"):
        one.evidence(one.encode([["b", "a"]]))
    assert one.parse(one.encode([["b", "a"], ["a", "b"]]))[0] == []
    with pytest.raises(InputError, match="no rule makes a word"):
        GrammarPCFG([Rule("S", ("S", "S"))], "S")
    with pytest.raises(InputError, match="how must be 'viterbi' or 'mbr'"):
        one.parse(one.encode([["a", "b"]]), how="best")
    endless = GrammarPCFG([Rule("S", ("S", "S"), 0.9), Rule("S", (A,), 0.1)], "S")
    with pytest.raises(InputError, match="need not end"):
        endless.sample(20, torch.Generator().manual_seed(0))
