"""GrammarPCFG: the probabilities of a given grammar's rules, of any length and any kind; z is the derivation of a sentence.

ln p(z, y) = Σ over uses of rules in z of ln p(left → right)
ln p(y)    = the sum over all derivations, unary cycles closed exactly
M step:      every left side's rules ∝ expected uses (+ α − 1); of a treebank, whose trees are seen, ∝ counted uses

Source: Baker 1979; Stolcke 1995; Charniak 1996, Tree-bank grammars.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from onebound.emissions.base import Part
from onebound.emissions.priors import prior_from
from onebound.errors import InputError, whole_number
from onebound.models.base import Latent
from onebound.models.sentences import ENDLESS, SentenceModel
from onebound.numerics import INF, weighted
from onebound.observations import Observations, weighted_total
from onebound.statistics import ExactSums, Statistics
from onebound.structures import Grammar, GrammarPotentials, SparseTree
from onebound.trees import Rule, Terminal, Tree, rules_of


class GroupedSimplex(nn.Module):
    """Probabilities (R,) that add up to 1 within each of some groups, `group` (R,): finite logits + support bits.

    As `Simplex`, whose groups are the rows of a table.
    """

    support: Tensor
    group: Tensor

    def __init__(self, group: Tensor, n_groups: int) -> None:
        super().__init__()
        self.n_groups = n_groups
        self.logits = nn.Parameter(torch.zeros(len(group), dtype=torch.float64))
        self.register_buffer("group", group)
        self.register_buffer("support", torch.ones(len(group), dtype=torch.bool))

    def totals(self, values: Tensor) -> Tensor:
        """Σ of values (R,) in each group.  (G,)"""
        return values.new_zeros(self.n_groups).index_add(0, self.group, values)

    def log_probabilities(self) -> Tensor:
        """ln p, −inf outside the support.  (R,)"""
        x = self.logits.masked_fill(~self.support, -INF)
        none = x.new_full((self.n_groups,), -INF)
        top = none.scatter_reduce(0, self.group, x.detach(), "amax").nan_to_num(neginf=0.0)[self.group]
        return x - (self.totals((x - top).exp())[self.group].log() + top)

    @torch.no_grad()
    def assign(self, values: Tensor) -> None:
        """Set p ∝ values (R,) ≥ 0 in every group; zeros leave the support. A group of zeros stays as it is."""
        total = self.totals(values)[self.group]
        shares = torch.where(total > 0, values / total, self.log_probabilities().exp())
        tiny = torch.finfo(torch.float64).tiny  # a share that underflows is no zero
        self.support.copy_(torch.where(total > 0, values > 0, self.support))
        self.logits.copy_(torch.where(self.support, shares.clamp_min(tiny), 1.0).log())

    def n_free(self) -> int:
        """Free parameters: supported entries less one for each group."""
        return int((self.totals(self.support.to(torch.float64)) - 1).clamp_min(0).sum())


class GrammarPCFG(SentenceModel):
    """Probabilities of given rules, by EM from sentences or by counting trees; `prior`: a Dirichlet on each left side's rules.

    Rules start with the weights they come with, over the sum of their left side's.

    >>> m = GrammarPCFG([Rule("S", ("S", "S"), 1.0), Rule("S", (Terminal("a"),), 3.0)], "S")
    >>> [tree.text() for tree in m.parse(m.encode([["a", "a", "a"]]))[0]], round(m.rules()[0].weight, 9)
    (['(S (S a) (S (S a) (S a)))'], 0.25)
    """

    cure_of_infeasible = "Give it rules for these words or the <unk> word, or leave these sentences out"

    def __init__(self, rules: Iterable[Rule], start: str, *, prior: Any = None, keep_infeasible: bool = False) -> None:
        grammar = Grammar(rules, start)
        if not grammar.words:
            raise InputError("GrammarPCFG: no rule makes a word, so the grammar makes no sentence.")
        super().__init__(grammar.words, keep_infeasible=keep_infeasible)
        self.grammar, self.prior = grammar, prior
        self.table = GroupedSimplex(torch.from_numpy(grammar.left), len(grammar.symbols))
        self.table.assign(grammar.weights)
        self.prepared.fill_(True)
        self.initialized.fill_(True)

    def latents(self) -> list[Latent]:
        """z, the derivation of each sentence."""
        what = f"the derivation of each sentence by {len(self.grammar):,} rules"
        return [Latent("z", what, len(self.grammar.symbols), SparseTree, True, False)]

    def parts(self) -> list[Part]:
        """The rules."""
        how = "normalised expected uses"
        return [Part("rules", list(self.table.parameters()), self.table.n_free(), True, True, how)]

    def rules(self) -> list[Rule]:
        """The rules with their probabilities."""
        p = self.table.log_probabilities().detach().exp().tolist()
        return [Rule(rule.left, rule.right, value) for rule, value in zip(self.grammar.rules, p, strict=True)]

    def log_potentials(self, obs: Any) -> GrammarPotentials:
        """ln p of rules over the words; nats."""
        obs = self.observe(obs)
        assert obs.lengths is not None
        words = obs.y[:, 0].long()
        return GrammarPotentials(self.grammar, self.table.log_probabilities(), words, obs.lengths, obs.allowed)

    @torch.no_grad()
    def parse(self, y: Any, *, how: str = "viterbi", k: int = 1) -> list[list[Tree]]:
        """The best trees of each sentence: its k most probable ones ("viterbi"), or that of all phrases that are more probable
        than not ("mbr"). None where there is no tree.
        """
        q = SparseTree(self.log_potentials(y))  # sentences without a tree stay in
        if how == "mbr":
            if k != 1:
                raise InputError("GrammarPCFG.parse: mbr makes one tree a sentence; k goes with viterbi.")
            return [[] if tree is None else [tree] for tree in q.mbr()]
        if how != "viterbi":
            raise InputError(f"GrammarPCFG.parse: how must be 'viterbi' or 'mbr', got {how!r}.")
        return [[self.grammar.tree(z.tolist()) for z in best if len(z)] for best in q.best(k)]

    # --- the M step ------------------------------------------------------------------------------------------------

    def statistics(self, obs: Any, q: Any) -> Statistics:
        """Σ weight, Σ weight · H(q), and expected uses of rules (R,)."""
        obs = self.observe(obs)
        used = q.weighted_marginals(obs.weights)
        entropy = weighted_total(obs.weights, q.entropy)
        return Statistics({"weight": obs.weights.sum(), "entropy": entropy, "rules": used})

    @torch.no_grad()
    def exact_pass(self, obs: Observations, *, statistics: bool) -> ExactSums | None:
        """Inside and outside block by block; H(q) = ln p(y) − E_q ln p(z, y), from the sums."""
        obs = self.observe(obs)
        weight = evidence = scale = 0.0
        sums, entropy = None, math.nan
        uses = torch.zeros(len(self.grammar), dtype=torch.float64)
        for block in obs.blocks(self.block_rows):
            q = SparseTree(self.log_potentials(block))
            found, used = q.in_one_pass(block.weights if statistics else torch.zeros_like(block.weights))
            if bool((found == -INF).any()):
                self.require_feasible(q, block)
            weight += block.total_weight
            evidence += float(weighted_total(block.weights, found))
            scale += float(weighted_total(block.weights, 1 + found.abs()))
            uses += used
        if statistics:
            given = {"weight": torch.tensor(weight, dtype=torch.float64), "rules": uses}
            zero = torch.zeros((), dtype=torch.float64)
            left = evidence - self.expected_log_joint(Statistics({**given, "entropy": zero}))
            sums, entropy = Statistics({**given, "entropy": left}), float(left)
        return ExactSums(weight, evidence, entropy, scale, None, sums)

    def expected_log_joint_parts(self, statistics: Statistics) -> dict[str, Tensor]:
        """⟨uses, ln p⟩ of each left side; nats.  (symbols,)"""
        return {"rules": self.table.totals(weighted(statistics.tensor("rules"), self.table.log_probabilities()))}

    @torch.no_grad()
    def maximize(self, statistics: Statistics, *, partial: bool = False) -> list[str]:
        """Rules ∝ uses + α − 1. A left side that nothing was counted for stays as it is."""
        counts = statistics.tensor("rules")
        if self.prior is not None:
            counts = counts + (self.prior.concentration - 1)
        counts = (counts * self.table.support).clamp_min(0.0)
        self.table.assign(counts)
        empty = int(((self.table.totals(counts) <= 0) & (self.table.totals(torch.ones_like(counts)) > 0)).sum())
        return [f"{empty} symbols are never used: they keep their rules"] if empty else []

    def log_prior(self) -> Tensor:
        """Dirichlet on the rules of each left side, nats, up to a constant."""
        if self.prior is None:
            return torch.zeros((), dtype=torch.float64)
        log_p = self.table.log_probabilities()
        return (self.prior.concentration - 1) * log_p[self.table.support].sum()

    def count(self, trees: Sequence[Tree], weights: Any = None) -> Statistics:
        """The statistics of trees that are known: the complete-data M step is `maximize` of them.

        InputError names a rule that the grammar lacks, or a tree that does not begin with its start.
        """
        number = {(rule.left, rule.right): r for r, rule in enumerate(self.grammar.rules)}
        each = torch.ones(len(trees), dtype=torch.float64) if weights is None else torch.as_tensor(weights)
        uses = torch.zeros(len(self.grammar), dtype=torch.float64)
        for n, (tree, weight) in enumerate(zip(trees, each.tolist(), strict=True)):
            if tree.label != self.grammar.start:
                raise InputError(f"GrammarPCFG.count: tree {n} must begin with {self.grammar.start}, got {tree.label}.")
            for rule in rules_of([tree]):
                if (rule.left, rule.right) not in number:
                    raise InputError(f"GrammarPCFG.count: tree {n} uses {rule}, which the grammar lacks.")
                uses[number[rule.left, rule.right]] += weight * rule.weight
        zero = torch.zeros((), dtype=torch.float64)
        return Statistics({"weight": each.sum().to(torch.float64), "entropy": zero, "rules": uses})

    # --- the start, draws, and what a file holds -------------------------------------------------------------------

    @torch.no_grad()
    def initialize(self, y: Any, generator: torch.Generator | None = None, how: Any = None) -> Self:
        """The weights that the rules came with ("grammar"), or drawn evenly from all distributions ("random")."""
        if how not in (None, "grammar", "random"):
            raise InputError(f"GrammarPCFG.initialize: init must be 'grammar' or 'random', got {how!r}.")
        weights = self.grammar.weights
        if how == "random":
            draws = torch.rand(len(weights), dtype=torch.float64, generator=generator)
            weights = -draws.clamp_min(1e-12).log() * (weights > 0)
        self.table.support.fill_(True)
        self.table.logits.zero_()
        self.table.assign(weights)
        return self

    @torch.no_grad()
    def sample(  # type: ignore[override]
        self, n: int, generator: torch.Generator | None = None, context: Any = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """n sentences, their words' numbers, and their derivations, rule numbers in preorder."""
        g, p = self.grammar, self.table.log_probabilities().exp().numpy()
        order = np.argsort(g.left, kind="stable")
        begins = np.searchsorted(g.left[order], np.arange(len(g.symbols) + 1))
        sentences, derivations = [], []
        for _ in range(whole_number("GrammarPCFG.sample", "n", n)):
            said: list[int] = []
            used: list[int] = []
            stack: list[str | Terminal] = [g.start]
            while stack:
                x = stack.pop()
                if isinstance(x, Terminal):
                    said.append(g.word_number[x.word])
                    continue
                mine = order[begins[g.number[x]] : begins[g.number[x] + 1]]
                if not len(mine) or not p[mine].sum() > 0:
                    raise InputError(f"GrammarPCFG.sample: {x} has no rule, so sentences with it never end.")
                u = float(torch.rand((), dtype=torch.float64, generator=generator))
                rule = int(mine[min(int(np.searchsorted(p[mine].cumsum(), u, side="right")), len(mine) - 1)])
                used.append(rule)
                stack += reversed(g.rules[rule].right)
                if len(said) + len(stack) + len(used) > ENDLESS:
                    raise InputError(
                        f"GrammarPCFG.sample: a sentence passed {ENDLESS:,} steps, so this grammar need not end. Fit it to "
                        "sentences first."
                    )
            sentences.append(torch.tensor(said))
            derivations.append(torch.tensor(used))
        return sentences, derivations

    def title(self) -> str:
        """For instance "PCFG of 5,517 rules, 216 symbols, 925 words"."""
        g = self.grammar
        return f"PCFG of {len(g):,} rules, {len(g.symbols):,} symbols, {len(g.words):,} words"

    def config(self) -> dict[str, Any]:
        """The rules: left side, right side with words in lists of one, and the weight it came with."""
        rules = [
            [rule.left, [[x.word] if isinstance(x, Terminal) else x for x in rule.right], rule.weight]
            for rule in self.grammar.rules
        ]
        prior = None if self.prior is None else self.prior.config()
        return {"rules": rules, "start": self.grammar.start, "prior": prior, "keep_infeasible": self.keep_infeasible}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The model of these rules."""
        rules = [
            Rule(left, tuple(x if isinstance(x, str) else Terminal(x[0]) for x in right), weight)
            for left, right, weight in config["rules"]
        ]
        prior = None if config["prior"] is None else prior_from(config["prior"])
        return cls(rules, config["start"], prior=prior, keep_infeasible=config["keep_infeasible"])


__all__ = ["GrammarPCFG", "GroupedSimplex"]
