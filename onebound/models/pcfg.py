"""PCFG: a sentence is made from the top down by rules root → A, A → B C and P → word; z is the tree that made it.

ln p(z, y) = ln p(root → A) + Σ_nodes ln p(A → B C) + Σ_t ln p(P_t → y_t)      the log-potentials of a tree
ln p(y)    = their log-partition: the sum over all trees (inside)
M step:      every left side's rules ∝ expected uses (+ α − 1)
NeuralPCFG:  the same rules from embeddings and networks, without a closed form: EG

Source: Baker 1979; Lari & Young 1990; Kim, Dyer & Rush 2019, Compound probabilistic context-free grammars, section 2.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NoReturn, Self

import torch
from torch import Tensor, nn

from onebound.emissions.base import Part
from onebound.emissions.priors import prior_from
from onebound.errors import InputError, Unsupported, whole_number
from onebound.models.base import Latent
from onebound.models.sentences import ENDLESS, SentenceModel
from onebound.numerics import Simplex, weighted
from onebound.observations import Observations, weighted_total
from onebound.statistics import ExactSums, Statistics
from onebound.structures import DenseTree, TreePotentials


class TreeModel(SentenceModel):
    """A grammar of NT nonterminals and P preterminals over a vocabulary. Abstract: rules come from tables or networks."""

    cure_of_infeasible = "Give the grammar a prior, so that no rule is exactly 0"

    def __init__(
        self,
        n_nonterminals: int,
        n_preterminals: int,
        vocabulary: int | Sequence[str],
        *,
        keep_infeasible: bool = False,
    ) -> None:
        super().__init__(vocabulary, keep_infeasible=keep_infeasible)
        self.n_nonterminals = whole_number(type(self).__name__, "n_nonterminals", n_nonterminals)
        self.n_preterminals = whole_number(type(self).__name__, "n_preterminals", n_preterminals)

    @property
    def n_symbols(self) -> int:
        """S = NT + P."""
        return self.n_nonterminals + self.n_preterminals

    @property
    def symbols(self) -> tuple[str, ...]:
        """What trees call them: N1, N2, … and P1, P2, …"""
        return (*(f"N{i + 1}" for i in range(self.n_nonterminals)), *(f"P{i + 1}" for i in range(self.n_preterminals)))

    @abstractmethod
    def log_rules(self) -> tuple[Tensor, Tensor, Tensor]:
        """ln p(root → A) (S,), ln p(A → B C) (NT, S, S), ln p(P → word) (P, V)."""

    def latents(self) -> list[Latent]:
        """z, the tree of each sentence."""
        what = f"the tree over each sentence, of {self.n_nonterminals} phrases and {self.n_preterminals} kinds of words"
        return [Latent("z", what, self.n_symbols, DenseTree, True, False)]

    def log_potentials(self, obs: Any) -> TreePotentials:
        """Roots, rules and words; nats."""
        obs = self.observe(obs)
        root, binary, words = self.log_rules()
        assert obs.lengths is not None
        return TreePotentials(root, binary, words.T[obs.y[:, 0].long()], obs.lengths, obs.allowed)

    @torch.no_grad()
    def sample(  # type: ignore[override]
        self, n: int, generator: torch.Generator | None = None, context: Any = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """n sentences, their words' numbers, and their trees, nodes start, stop, symbol in preorder."""
        root, binary, words = (x.exp() for x in self.log_rules())
        rows, trees = [], []
        for _ in range(whole_number(f"{type(self).__name__}.sample", "n", n)):
            said: list[int] = []
            nodes: list[list[int]] = []
            stack = [int(torch.multinomial(root, 1, generator=generator))]
            while stack:
                symbol = stack.pop()
                if symbol < 0:  # all that the node of that number makes is said
                    nodes[~symbol][1] = len(said)
                    continue
                nodes.append([len(said), len(said) + 1, symbol])
                if symbol >= self.n_nonterminals:
                    said.append(int(torch.multinomial(words[symbol - self.n_nonterminals], 1, generator=generator)))
                else:
                    pair = int(torch.multinomial(binary[symbol].flatten(), 1, generator=generator))
                    stack += [~(len(nodes) - 1), pair % self.n_symbols, pair // self.n_symbols]
                if len(said) + len(stack) > ENDLESS:
                    raise InputError(
                        f"{type(self).__name__}.sample: a sentence passed {ENDLESS:,} words, so this grammar need not end. Fit "
                        "it to sentences first."
                    )
            rows.append(torch.tensor(said))
            trees.append(torch.tensor(nodes))
        return rows, trees

    def title(self) -> str:
        """For instance "PCFG of 30 nonterminals, 60 preterminals, 1,000 words"."""
        sizes = f"{self.n_nonterminals} nonterminals, {self.n_preterminals} preterminals, {self.n_words:,} words"
        return f"{type(self).__name__} of {sizes}"

    def config(self) -> dict[str, Any]:
        """Sizes and vocabulary."""
        return {
            "n_nonterminals": self.n_nonterminals,
            "n_preterminals": self.n_preterminals,
            "vocabulary": self.n_words if self.vocabulary is None else list(self.vocabulary),
            "keep_infeasible": self.keep_infeasible,
        }


class PCFG(TreeModel):
    """Tables of rules, fitted by EM. `prior`: a Dirichlet on the rules of every left side; zeros never come back.

    >>> PCFG(5, 8, 20).n_parameters()
    1004
    """

    def __init__(
        self,
        n_nonterminals: int,
        n_preterminals: int,
        vocabulary: int | Sequence[str],
        *,
        prior: Any = None,
        keep_infeasible: bool = False,
    ) -> None:
        super().__init__(n_nonterminals, n_preterminals, vocabulary, keep_infeasible=keep_infeasible)
        s = self.n_symbols
        self.root = Simplex((s,))
        self.binary = Simplex((self.n_nonterminals, s * s))
        self.words = Simplex((self.n_preterminals, self.n_words))
        self.prior = prior

    @property
    def tables(self) -> dict[str, Simplex]:
        """The rules by kind."""
        return {"root": self.root, "binary": self.binary, "words": self.words}

    def parts(self) -> list[Part]:
        """Roots, binary rules and words."""
        how = "normalised expected uses"
        return [Part(name, list(t.parameters()), t.n_free(), True, True, how) for name, t in self.tables.items()]

    @torch.no_grad()
    def assign(self, root: Any, binary: Any, words: Any) -> Self:
        """Given rules: p(root → A) (S,), p(A → B C) (NT, S, S), p(P → word) (P, V); zeros leave the grammar."""
        s = self.n_symbols
        shapes = ((s,), (self.n_nonterminals, s, s), (self.n_preterminals, self.n_words))
        for (name, table), given, shape in zip(self.tables.items(), (root, binary, words), shapes, strict=True):
            p = torch.as_tensor(given, dtype=torch.float64)
            sums = p.sum((-2, -1) if name == "binary" else -1)
            if p.shape != shape or bool((p < 0).any()) or not bool(((sums - 1).abs() <= 1e-6).all()):
                got = tuple(p.shape) if p.shape != shape else f"sums {sums.tolist()}"
                raise InputError(f"PCFG.assign: {name} must be {shape}, ≥ 0, each left side adding up to 1, got {got}.")
            table.assign(p.reshape(table.support.shape))
        self.initialized.fill_(True)
        return self

    def log_rules(self) -> tuple[Tensor, Tensor, Tensor]:
        """From the tables."""
        root, binary, words = (t.log_probabilities() for t in self.tables.values())
        return root, binary.reshape(-1, self.n_symbols, self.n_symbols), words

    # --- the M step ------------------------------------------------------------------------------------------------

    def _collected(self, obs: Observations, used: TreePotentials) -> dict[str, Tensor | Statistics]:
        """Expected uses by table."""
        words = used.words.to(torch.float64)
        counts = words.new_zeros(self.n_words, self.n_preterminals).index_add_(0, obs.y[:, 0].long(), words).T
        return {
            "root": used.root.to(torch.float64),
            "binary": used.binary.to(torch.float64).flatten(1),
            "words": counts,
        }

    def statistics(self, obs: Any, q: Any) -> Statistics:
        """Σ weight, Σ weight · H(q), and expected uses of roots (S,), rules (NT, S²) and words (P, V)."""
        obs = self.observe(obs)
        used = self._collected(obs, q.weighted_marginals(obs.weights))
        return Statistics({"weight": obs.weights.sum(), "entropy": weighted_total(obs.weights, q.entropy), **used})

    @torch.no_grad()
    def exact_pass(self, obs: Observations, *, statistics: bool) -> ExactSums | None:
        """Inside and outside block by block; H(q) = ln p(y) − E_q ln p(z, y), from the sums."""
        obs = self.observe(obs)
        weight = evidence = scale = 0.0
        entropy, sums = math.nan, None
        for block in obs.blocks(self.block_rows):
            q = DenseTree(self.log_potentials(block))
            self.require_feasible(q, block)
            weight += block.total_weight
            evidence += float(weighted_total(block.weights, q.log_partition))
            scale += float(weighted_total(block.weights, 1 + q.log_partition.abs()))
            if statistics:
                used = self._collected(block, q.summed(block.weights))
                here = Statistics(
                    {"weight": block.weights.sum(), "entropy": torch.zeros((), dtype=torch.float64), **used}
                )
                sums = here if sums is None else sums + here
        if sums is not None:
            left = evidence - self.expected_log_joint(sums)
            sums, entropy = Statistics({**sums.sums, "entropy": left}), float(left)
        return ExactSums(weight, evidence, entropy, scale, None, sums)

    def expected_log_joint_parts(self, statistics: Statistics) -> dict[str, Tensor]:
        """⟨uses, ln p⟩ of each left side; nats."""
        return {
            name: weighted(statistics.tensor(name), t.log_probabilities()).sum(-1) for name, t in self.tables.items()
        }

    @torch.no_grad()
    def maximize(self, statistics: Statistics, *, partial: bool = False) -> list[str]:
        """Rules ∝ uses + α − 1. A left side that nothing was counted for stays as it is."""
        repairs = []
        for name, table in self.tables.items():
            counts = statistics.tensor(name)
            if self.prior is not None:
                counts = counts + (self.prior.concentration - 1)
            counts = (counts * table.support).clamp_min(0.0)
            empty = counts.sum(-1, keepdim=True) <= 0
            table.assign(torch.where(empty, table.probabilities(), counts))
            if name != "root":
                letter = "N" if name == "binary" else "P"
                repairs += [
                    f"{letter}{int(k) + 1} is never used: it keeps its rules" for k in empty.flatten().nonzero()
                ]
        return repairs

    def log_prior(self) -> Tensor:
        """Dirichlet on the rules of each left side, nats, up to a constant."""
        total = torch.zeros((), dtype=torch.float64)
        if self.prior is None:
            return total
        for table in self.tables.values():
            log_p = table.log_probabilities()
            extra = torch.full_like(log_p, self.prior.concentration - 1).masked_fill(~table.support, 0.0)
            total = total + weighted(extra, log_p).sum()
        return total

    def count(self, y: Any, trees: Tensor) -> Statistics:
        """The statistics of sentences whose trees are known, nodes (M, 3): the complete-data M step is `maximize` of them."""
        obs = self.observe(y)
        q = DenseTree(self.log_potentials(obs)).empirical(trees.unsqueeze(0))
        used = self._collected(obs, q.weighted_marginals(obs.weights))
        return Statistics({"weight": obs.weights.sum(), "entropy": torch.zeros((), dtype=torch.float64), **used})

    # --- the start -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def initialize(self, y: Any, generator: torch.Generator | None = None, how: Any = None) -> Self:
        """Rules drawn evenly from all distributions (Dirichlet 1), words' times how often each occurs.

        Which optimum EM then reaches is chance: use restarts. Source: Carroll & Charniak 1992.
        """
        if how not in (None, "random"):
            raise InputError(f"{type(self).__name__}.initialize: init must be 'random', got {how!r}.")
        obs = self.observe(y)
        assert obs.lengths is not None
        weights = obs.weights.repeat_interleave(obs.lengths)
        often = torch.zeros(self.n_words, dtype=torch.float64).index_add_(0, obs.y[:, 0].long(), weights)
        for name, table in self.tables.items():
            draws = -torch.rand(table.support.shape, dtype=torch.float64, generator=generator).clamp_min(1e-12).log()
            table.assign(draws * (often + 0.01 * often.mean()) if name == "words" else draws)
        self.prepared.fill_(True)
        self.initialized.fill_(True)
        return self

    def config(self) -> dict[str, Any]:
        """Sizes, vocabulary and prior."""
        return {**super().config(), "prior": None if self.prior is None else self.prior.config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The model of these sizes."""
        options = {k: v for k, v in config.items() if k != "prior"}
        return cls(**options, prior=None if config["prior"] is None else prior_from(config["prior"]))


class NeuralPCFG(TreeModel):
    """Rules from embeddings of symbols and networks, as in Kim, Dyer & Rush 2019: no closed form, fitted by EG.

    ln p(A → B C) = log-softmax over B C of ⟨e_A, u_BC⟩ + b_BC;   ln p(P → w) and ln p(root → A) likewise, of a residual network
    of the embedding. `size`: of embeddings and layers.
    """

    deep = True

    def __init__(
        self,
        n_nonterminals: int,
        n_preterminals: int,
        vocabulary: int | Sequence[str],
        *,
        size: int = 64,
        generator: torch.Generator | None = None,
        keep_infeasible: bool = False,
    ) -> None:
        super().__init__(n_nonterminals, n_preterminals, vocabulary, keep_infeasible=keep_infeasible)
        self.size, s = whole_number("NeuralPCFG", "size", size), self.n_symbols
        self.embeddings = nn.Parameter(torch.empty(self.n_nonterminals + self.n_preterminals + 1, self.size))
        self.of_root, self.of_words = _Residual(self.size, s), _Residual(self.size, self.n_words)
        self.of_pairs = nn.Linear(self.size, s * s)
        self._start(generator)

    @torch.no_grad()
    def _start(self, generator: torch.Generator | None) -> None:
        """Glorot's uniform draws, in double precision from one generator, so that a seed means the same everywhere."""
        for p in self.parameters():
            if p.ndim > 1:
                bound = math.sqrt(6 / (p.shape[0] + p.shape[1]))
                p.copy_((2 * torch.rand(p.shape, dtype=torch.float64, generator=generator) - 1) * bound)
            else:
                p.zero_()

    def log_rules(self) -> tuple[Tensor, Tensor, Tensor]:
        """From the networks."""
        nt, e = self.n_nonterminals, self.embeddings
        binary = self.of_pairs(e[:nt]).log_softmax(-1).reshape(nt, self.n_symbols, self.n_symbols)
        return self.of_root(e[-1]).log_softmax(-1), binary, self.of_words(e[nt:-1]).log_softmax(-1)

    def parts(self) -> list[Part]:
        """The networks."""
        moved = [p for p in self.parameters() if p.requires_grad]
        n = sum(p.numel() for p in moved)
        return [Part("networks", moved, n, False, False, "the M step of networks has no closed form.")]

    def initialize(self, y: Any, generator: torch.Generator | None = None, how: Any = None) -> Self:
        """Draw the networks' parameters anew."""
        if how not in (None, "random"):
            raise InputError(f"NeuralPCFG.initialize: init must be 'random', got {how!r}.")
        self.observe(y)
        self._start(generator)
        self.prepared.fill_(True)
        self.initialized.fill_(True)
        return self

    def _refuse(self, what: str) -> NoReturn:
        raise Unsupported(
            f"NeuralPCFG.{what}: networks have no sufficient statistics. Use ob.EG(), whose gradient is from the data."
        )

    def statistics(self, obs: Observations, q: Any) -> NoReturn:
        """Refused."""
        self._refuse("statistics")

    def expected_log_joint_parts(self, statistics: Any) -> NoReturn:
        """Refused."""
        self._refuse("expected_log_joint")

    def maximize(self, statistics: Any, *, partial: bool = False) -> NoReturn:
        """Refused."""
        self._refuse("maximize")

    def config(self) -> dict[str, Any]:
        """Sizes and vocabulary."""
        return {**super().config(), "size": self.size, "dtype": str(self.embeddings.dtype).removeprefix("torch.")}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The model of these sizes."""
        options = {k: v for k, v in config.items() if k != "dtype"}
        model = cls(**options)
        return model.double() if config.get("dtype") == "float64" else model


class _Residual(nn.Module):
    """x → (x + relu layers) → scores, as the paper's two residual blocks."""

    def __init__(self, size: int, out: int) -> None:
        super().__init__()
        self.first = nn.Linear(size, size)
        self.blocks = nn.ModuleList(nn.Linear(size, size) for _ in range(4))
        self.last = nn.Linear(size, out)

    def forward(self, x: Tensor) -> Tensor:
        """(…, size) → (…, out)"""
        x = self.first(x)
        for i in (0, 2):
            x = x + self.blocks[i + 1](self.blocks[i](x).relu()).relu()
        found: Tensor = self.last(x)
        return found


__all__ = ["PCFG", "NeuralPCFG", "TreeModel"]
