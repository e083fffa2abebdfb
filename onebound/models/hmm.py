"""HMM: z₁ ~ π, z_t | z_{t−1} ~ A[z_{t−1}], y_t | z_t = k ~ emission k, for each of N sequences.

ln p(z, y) = ln π[z₁] + Σ_{t ≥ 2} ln A[z_{t−1}, z_t] + Σ_t ln p(y_t | z_t)      the log-potentials of a chain
ln p(y)    = the chain's log-partition
M step:      π ∝ Σ p(z₁ = k), A[i, j] ∝ Σ_t p(z_{t−1} = i, z_t = j) (+ α − 1), and the emission's own from p(z_t = k)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from onebound.emissions import Emission, emission_from
from onebound.emissions.base import Part
from onebound.emissions.priors import Dirichlet, prior_from
from onebound.errors import Infeasible, InputError
from onebound.models import start
from onebound.models.base import BLOCK_CELLS, Latent
from onebound.models.emitting import EmittingModel
from onebound.models.mixture import Mixture
from onebound.models.pieces import LongSums, long_pass
from onebound.models.transitions import NeuralTransition, initial_from, numbers, transition_from
from onebound.numerics import INF, Simplex, weighted
from onebound.observations import Observations, weighted_total
from onebound.statistics import ExactSums, Statistics
from onebound.streamed import Streamed
from onebound.structures import Chain, ChainPotentials

# Of a state's transitions at the start, the share that goes to all of its steps alike.
STEADY = 0.1


class HMM(EmittingModel):
    """K states with initial probabilities π, transitions A and an emission each. An item is a sequence.

    `transition`: a (K, K) matrix whose zeros never become steps (see `left_to_right`, `banded`), or a `NeuralTransition`.
    `initial`: (K,) likewise. `prior`, `initial_prior`: Dirichlet on the rows of A, and on π. Data: a list of arrays
    (T_n, D), or `Observations.of(y, lengths=…)`; a single table is one sequence. NaN cells are missing, rows may be
    missing altogether; `weights` are the sequences', `allowed` (ΣT, K) are states that are known.

    >>> from onebound.emissions import Gaussian
    >>> HMM(Gaussian(n_components=3, n_features=2)).n_parameters()
    23
    """

    def __init__(
        self,
        emission: Emission,
        *,
        transition: Any = None,
        initial: Any = None,
        prior: Dirichlet | None = None,
        initial_prior: Dirichlet | None = None,
        keep_infeasible: bool = False,
    ) -> None:
        super().__init__(keep_infeasible=keep_infeasible)
        self.n_components = emission.n_components
        self.initial = initial_from(initial, self.n_components)
        self.transition = transition_from(transition, self.n_components)
        self.emission = emission
        self.prior, self.initial_prior = prior, initial_prior

    @torch.no_grad()
    def assign(self, initial: Any, transition: Any, **emission: Any) -> Self:
        """Given start: π (K,), A (K, K) with rows that add up to 1, and the emission's parameters (see its `assign`)."""
        k = self.n_components
        pi, a = numbers("HMM.assign", "initial", initial), numbers("HMM.assign", "transition", transition)
        for name, p, shape in (("initial", pi, (k,)), ("transition", a, (k, k))):
            sums = p.sum(-1)
            if p.shape != shape or bool((p < 0).any()) or not bool(((sums - 1).abs() <= 1e-6).all()):
                got = tuple(p.shape) if p.shape != shape else f"rows that add up to {sums.tolist()}"
                raise InputError(f"HMM.assign: {name} must be {shape}, ≥ 0, rows adding up to 1, got {got}.")
        self.initial.assign(pi)
        self._matrix("assign").assign(a)
        if emission:
            self.emission.assign(**emission)  # type: ignore[operator]
        self.initialized.fill_(True)
        return self

    def _matrix(self, who: str) -> Simplex:
        if isinstance(self.transition, NeuralTransition):
            raise InputError(f"HMM.{who}: the transitions are a network, not a matrix.")
        return self.transition

    @property
    def transition_matrix(self) -> Tensor:
        """A.  (K, K)"""
        return self._matrix("transition_matrix").probabilities().detach()

    @property
    def weights(self) -> Tensor:
        """The stationary distribution of A, the states' shares in the long run; π's mean path where there are several.  (K,)"""
        return stationary(self.transition_matrix, self.initial.probabilities().detach())

    # --- the distribution ------------------------------------------------------------------------------------------

    def latents(self) -> list[Latent]:
        """z, the path of states of each sequence."""
        what = f"the state at each step of a sequence, one of {self.n_components}"
        return [Latent("z", what, self.n_components, Chain, True, False)]

    def parts(self) -> list[Part]:
        """The initial probabilities, the transitions, and the emission's parts."""
        n = self.initial.n_free()
        parts = [Part("initial", list(self.initial.parameters()), n, True, True, "normalised expected counts")]
        moves, closed = self.transition, isinstance(self.transition, Simplex)
        how = "normalised expected counts" if closed else "the M step of transition (a network) has no closed form."
        parts.append(Part("transition", list(moves.parameters()), moves.n_free(), closed, closed, how))
        return [*parts, *self.emission.parts("emission")]

    def observe(self, y: Any) -> Observations:
        """Sequences, checked once; a table is taken as one."""
        return super().observe(Observations.of(y).as_sequences())

    def log_potentials(self, y: Any) -> ChainPotentials:
        """Starts (K,), steps (K, K) or (ΣT, K, K), and states (ΣT, K), −inf where a state is not allowed; nats."""
        obs = self.observe(y)
        unary = self.emission.log_prob(obs.y, obs.context)
        if obs.allowed is not None:
            unary = unary.masked_fill(~obs.allowed, -INF)
        assert obs.lengths is not None
        moves = self.transition
        steps = moves.log_probabilities() if isinstance(moves, Simplex) else moves.log_probabilities(obs.context)
        return ChainPotentials(self.initial.log_probabilities(), steps, unary, obs.lengths)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        context: Tensor | None = None,
        lengths: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """n steps, of one sequence or of several with these `lengths`: y (n, D) and z (n,)."""
        ell = torch.tensor([n] if lengths is None else list(lengths))
        if int(ell.sum()) != n or bool((ell < 0).any()):
            raise InputError(
                f"HMM.sample: lengths must add up to the {n} steps asked for, each ≥ 0, got {ell.tolist()}."
            )
        moves, k = self.transition, self.n_components
        steps = moves.log_probabilities() if isinstance(moves, Simplex) else moves.log_probabilities(context)
        nothing = torch.zeros(n, k, dtype=torch.float64)
        z = Chain(ChainPotentials(self.initial.log_probabilities(), steps, nothing, ell)).sample(1, generator)[0]
        return self.emission.sample(z, generator, context), z

    def row_responsibilities(self, q: Any) -> Tensor:
        """p(z_t = k) of each row.  (R, K)"""
        states: Tensor = q.marginals.unary
        return states

    @torch.no_grad()
    def exact_pass(self, obs: Observations, *, statistics: bool) -> ExactSums | None:
        """The emission's fused pass over whole sequences where it has one for these data, else one kernel call a block.

        There H(q) = ln p(y) − E_q ln p(z, y), from the sums. None where the sums do not stand for the data.
        """
        moves = self.transition
        if isinstance(moves, NeuralTransition) or not self.emission.sufficient or obs.y.device.type != "cpu":
            return None
        obs, sums, of_states = self.observe(obs), _Sums(), math.nan
        start, steps = self.initial.log_probabilities(), moves.log_probabilities()
        if isinstance(obs, Streamed):
            return self._long(obs, long_pass(self, obs, start, steps, statistics=statistics))
        left: Observations | None = obs
        fused = self.emission.chain_pass(obs, start, steps, statistics=statistics)
        if fused is not None:
            done = ~fused.log_partition.isnan()
            sums.add(fused.log_partition.masked_fill(~done, 0.0), obs.weights * done)
            if fused.emission is not None:
                sums.statistics = self._collected(sums.weight, fused.initial, fused.transition, fused.emission)
            lost = (~done).nonzero().flatten()
            left = obs.select(lost) if len(lost) else None
        for block in left.blocks(self.block_rows) if left is not None else ():
            q = Chain(self.log_potentials(block))
            used, weight = q.summed(block.weights), block.total_weight
            self.require_feasible(q, block)
            sums.add(q.log_partition, block.weights)
            if statistics:
                emission = self.emission.statistics(block.y, used.unary)
                here = self._collected(weight, used.start, used.transition, emission)
                sums.statistics = here if sums.statistics is None else sums.statistics + here
        if sums.statistics is not None:
            entropy = sums.evidence - self.expected_log_joint(sums.statistics)
            sums.statistics = Statistics({**sums.statistics.sums, "entropy": entropy})
            if left is None:  # nothing else is latent there: it is the states' own entropy
                of_states = float(entropy)
        return ExactSums(sums.weight, sums.evidence, of_states, sums.scale, None, sums.statistics)

    def _long(self, obs: Streamed, found: LongSums) -> ExactSums:
        """Of one sequence that is longer than memory."""
        if found.dead is not None and not self.keep_infeasible and obs.total_weight > 0:
            raise Infeasible(
                f"{type(self).__name__}: every sequence must have some states that can make it, but ln p(y) = −inf for "
                f"sequence {obs.number(0)}, where everything has died at step {found.dead}. Give the emission a prior, so that "
                "no probability is exactly 0, or keep_infeasible=True to see −inf."
            )
        sums, statistics = _Sums(), None
        sums.add(torch.tensor([found.log_partition], dtype=torch.float64), obs.weights)
        if found.emission is not None:
            weight = sums.weight
            emission = found.emission * weight
            statistics = self._collected(weight, found.start * weight, found.transition * weight, emission)
            entropy = sums.evidence - self.expected_log_joint(statistics)
            statistics = Statistics({**statistics.sums, "entropy": entropy})
        return ExactSums(sums.weight, sums.evidence, math.nan, sums.scale, None, statistics)

    def _collected(self, weight: float, initial: Tensor, transition: Tensor, emission: Statistics) -> Statistics:
        """What `statistics` collects, the entropy still to come."""
        sums: dict[str, Tensor | Statistics] = {
            "weight": torch.tensor(weight, dtype=torch.float64),
            "entropy": torch.zeros((), dtype=torch.float64),
            "initial": initial,
            "emission": emission,
            "transition": transition,
        }
        return Statistics(sums)

    # --- the M step ------------------------------------------------------------------------------------------------

    def statistics(self, y: Any, q: Any) -> Statistics:
        """Σ weight, Σ weight · H(q), expected counts of starts (K,) and steps (K, K), and the emission's statistics."""
        obs = self.observe(y)
        used = q.weighted_marginals(obs.weights)
        entropy = weighted_total(obs.weights, q.entropy) + self.emission.latent_entropy(obs.y, used.unary)
        sums: dict[str, Tensor | Statistics] = {
            "weight": obs.weights.sum(),
            "entropy": entropy,
            "initial": used.start,
            "emission": self.emission.statistics(obs.y, used.unary),
        }
        return Statistics(sums if used.transition.ndim == 3 else {**sums, "transition": used.transition})

    def expected_log_joint_parts(self, statistics: Statistics) -> dict[str, Tensor]:
        """⟨counts, ln π⟩, ⟨counts, ln A⟩ of each row, and the emission's share, (K,) each; nats."""
        return {
            "initial": weighted(statistics.tensor("initial"), self.initial.log_probabilities()),
            "transition": weighted(
                statistics.tensor("transition"), self._matrix("expected_log_joint").log_probabilities()
            ).sum(-1),
            "emission": self.emission.expected_log_prob(statistics.part("emission")),
        }

    @torch.no_grad()
    def maximize(self, statistics: Statistics, *, partial: bool = False) -> list[str]:
        """π and the rows of A ∝ counts + α − 1 over the steps that exist, and the emission's own M step."""
        repairs = self.emission.maximize(statistics.part("emission"), partial=partial)
        starts = _counted(statistics.tensor("initial"), self.initial_prior, self.initial)
        if bool(starts.any()):  # else no sequence has a first step
            self.initial.assign(starts)
        if isinstance(self.transition, NeuralTransition):
            return repairs
        counts = _counted(statistics.tensor("transition"), self.prior, self.transition)
        never = counts.sum(-1) <= 0
        if bool(never.any()):
            counts = torch.where(never.unsqueeze(-1), self.transition.probabilities(), counts)
        self.transition.assign(counts)
        return repairs + [f"state {int(k)} is never left: it keeps its transitions" for k in never.nonzero().flatten()]

    def log_prior(self) -> Tensor:
        """Dirichlet on π and on the rows of A, and the emission's prior, nats, up to a constant."""
        total = self.emission.log_prior()
        if self.initial_prior is not None:
            total = total + _log_dirichlet(self.initial, self.initial_prior)
        if self.prior is not None:
            total = total + _log_dirichlet(self._matrix("log_prior"), self.prior)
        return total

    # --- the start -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def initialize(self, y: Any, generator: torch.Generator | None = None, how: Any = None) -> Self:
        """Write starting parameters: the emission as a mixture's of the rows, whatever their order, then π and A from it.

        `how`: "k-means++" (default), "k-means", "random", or labels (ΣT,) or responsibilities (ΣT, K) of all rows.
        """
        obs = self.observe(y)
        rows = obs.as_rows()
        mixture = Mixture(self.emission, keep_infeasible=True).initialize(rows, generator, how)
        self.prepared.fill_(True)
        few = obs.head(start.SEED_ROWS)
        if how is None or isinstance(how, str):
            near = mixture.posterior(few.as_rows()).marginals  # (R, K)
        else:
            given = torch.as_tensor(how)[: few.n_rows]
            near = torch.nn.functional.one_hot(given.long(), self.n_components) if given.ndim == 1 else given
        self._start_chain(near.to(torch.float64), few)
        self.initialized.fill_(True)
        return self

    def _start_chain(self, near: Tensor, obs: Observations) -> None:
        """π and A as if the states of neighbouring rows were independent, a share STEADY spread evenly."""
        assert obs.lengths is not None
        form = ChainPotentials(near[0], near[:1].T @ near[:1], near, obs.lengths)
        weights = obs.weights[form.row_sequence].unsqueeze(-1)
        first, here = near[form.firsts] * weights[form.firsts], form.inner
        self.initial.assign(_spread(first.sum(0, keepdim=True), self.initial.support.unsqueeze(0))[0])
        if isinstance(self.transition, Simplex):
            counts = (near[here - 1] * weights[here]).T @ near[here]  # (K, K)
            self.transition.assign(_spread(counts, self.transition.support))

    # --- the data and the file -------------------------------------------------------------------------------------

    def check(self, obs: Observations) -> None:
        """What the emission asks of y; `allowed` (ΣT, K)."""
        self.emission.check(obs)
        if obs.allowed is not None and obs.allowed.shape != (obs.n_rows, self.n_components):
            raise InputError(f"HMM: allowed must be {(obs.n_rows, self.n_components)}, got {tuple(obs.allowed.shape)}.")

    @property
    def block_rows(self) -> int:
        """Rows in a block of whole sequences."""
        k = self.n_components
        steps = k * k if isinstance(self.transition, NeuralTransition) else k
        return max(64, BLOCK_CELLS // max(k * self.emission.row_cells, steps))

    def title(self) -> str:
        """For instance "HMM of 2 FullGaussian"."""
        return f"HMM of {self.n_components} {type(self.emission).__name__}"

    def config(self) -> dict[str, Any]:
        """The emission, the steps that exist and the priors."""
        described: dict[str, Any] = {
            "emission": {"class": type(self.emission).__name__, "config": self.emission.config()}
        }
        if isinstance(self.transition, NeuralTransition):
            return self.transition.config()
        if self.keep_infeasible:
            described["keep_infeasible"] = True
        for name in ("prior", "initial_prior"):
            if getattr(self, name) is not None:
                described[name] = getattr(self, name).config()
        return described

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The HMM that `config` described; which steps exist comes with the parameters."""
        options: dict[str, Any] = {
            name: prior_from(config[name]) for name in ("prior", "initial_prior") if name in config
        }
        return cls(emission_from(config["emission"]), keep_infeasible=config.get("keep_infeasible", False), **options)


@dataclass
class _Sums:
    """Σ weight · (1, ln p(y), 1 + |ln p(y)|), and statistics."""

    weight: float = 0.0
    evidence: float = 0.0
    scale: float = 0.0
    statistics: Statistics | None = None

    def add(self, log_partition: Tensor, weights: Tensor) -> None:
        """Take in some sequences."""
        self.weight += float(weights.sum())
        self.evidence += float(weighted_total(weights, log_partition))
        self.scale += float(weighted_total(weights, 1 + log_partition.abs()))


def stationary(transition: Tensor, initial: Tensor) -> Tensor:
    """A distribution that `transition` leaves as it is: the limit of the mean over time, from `initial`.  (K, K), (K,) → (K,)

    ½ (I + A) has the same stationary distributions and no periods; squaring it 60 times is 2⁶⁰ steps.
    """
    power = 0.5 * (torch.eye(len(initial), dtype=transition.dtype) + transition)
    for _ in range(60):
        power = power @ power
        power = power / power.sum(-1, keepdim=True)
    return initial @ power


def _extra(prior: Dirichlet | None) -> float:
    return 0.0 if prior is None else prior.concentration - 1


def _counted(expected: Tensor, prior: Dirichlet | None, p: Simplex) -> Tensor:
    """Expected counts and the prior's α − 1, none below 0, and none outside the support."""
    counts = expected if prior is None else expected + _extra(prior)
    return (counts * p.support).clamp_min(0.0)


def _log_dirichlet(p: Simplex, prior: Dirichlet) -> Tensor:
    log_p = p.log_probabilities()
    return weighted(torch.full_like(log_p, prior.concentration - 1).masked_fill(~p.support, 0.0), log_p).sum()


def _spread(counts: Tensor, support: Tensor) -> Tensor:
    """Rows of counts as probabilities, a share STEADY of each spread over its support."""
    even = support.to(torch.float64)
    even = even / even.sum(-1, keepdim=True)
    counts = counts * support
    total = counts.sum(-1, keepdim=True)
    return torch.where(total > 0, (1 - STEADY) * counts / total.clamp_min(1e-300), even) + STEADY * even
