"""The one number, L, in both readings.

L(q, Θ) = E_q ln p(z, y; Θ) + H(q)                 (1)  how we climb
        = ln p(y; Θ) − KL(q ‖ p(z | y; Θ))          (2)  what we report: the evidence and the gap
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from onebound.errors import InputError, InputTypeError, whole_number
from onebound.numerics import INF
from onebound.observations import Observations, weighted_total


@dataclass(frozen=True)
class Bound:
    """L of each item, in nats: (N,) tensors in both readings, with the items' weights.

    `evidence_is` says whether `evidence` (and so `gap`) is "exact" or an "estimate": then it is ln of the mean importance
    weight of `samples` draws (IWAE-K), low in expectation, so that the gap is at least so large; `evidence_half` is that of
    half as many, and shows the bias that is left. `n_items`: of how many items the rows are the means; None for a row each.
    """

    expected_log_joint: Tensor
    entropy: Tensor
    evidence: Tensor
    gap: Tensor
    weights: Tensor
    evidence_is: str = "exact"
    n_items: int | None = None
    samples: int | None = None
    evidence_half: Tensor | None = None

    @property
    def value(self) -> Tensor:
        """L = E_q ln p(z, y) + H(q).   Equation (1).  (N,), nats"""
        return self.expected_log_joint + self.entropy

    def mean(self) -> dict[str, float]:
        """The weighted means over items, in nats per item: bound, evidence, gap, expected_log_joint, entropy."""
        total = float(self.weights.sum())
        parts = {
            "bound": self.value,
            "evidence": self.evidence,
            "gap": self.gap,
            "expected_log_joint": self.expected_log_joint,
            "entropy": self.entropy,
        }
        return {name: float(weighted_total(self.weights, part)) / total for name, part in parts.items()}

    def standard_error(self, name: str = "gap") -> float:
        """sd over items / √N of "bound", "evidence" or "gap": of the mean as an estimate for more items like these, nats."""
        part = self.value if name == "bound" else getattr(self, name)
        share = self.weights / self.weights.sum()
        centred = part - (share * part).sum()
        return float((share.square() * centred.square()).sum().sqrt())

    def __repr__(self) -> str:
        m = self.mean()
        if self.evidence_half is not None:
            half = float(weighted_total(self.weights, self.evidence_half)) / float(self.weights.sum())
            return (
                f"Bound(L = {m['bound']:.3f}, ln p(y) ≥ {m['evidence']:.3f} (IWAE, K = {self.samples}; {half:.3f} with K / 2), "
                f"gap ≥ {m['gap']:.3g} ± {self.standard_error():.1g} nats per item; {len(self.weights)} items, evidence "
                f"{self.evidence_is})"
            )
        return (
            f"Bound(L = {m['bound']:.6f}, ln p(y) = {m['evidence']:.6f}, gap = {m['gap']:.3g} nats per item; "
            f"{len(self.weights) if self.n_items is None else self.n_items} items, evidence {self.evidence_is})"
        )


PER_ITEM = ("expected_log_joint", "entropy", "evidence", "gap", "weights")


class Distribution(Protocol):
    """What the bound needs of q and of the exact posterior; a Structure is one."""

    log_potentials: Tensor

    @property
    def log_partition(self) -> Tensor:
        """ln Z.  (N,)"""

    @property
    def entropy(self) -> Tensor:
        """H.  (N,)"""

    @property
    def infeasible(self) -> Tensor:
        """Items with no allowed z.  (N,) boolean"""

    def expected(self, log_potentials: Tensor) -> Tensor:
        """⟨marginals, log_potentials⟩.  (N,)"""

    def kl(self, other: Any) -> Tensor:
        """KL(self ‖ other).  (N,)"""


def both_readings(q: Distribution, exact: Distribution, weights: Tensor) -> Bound:
    """L of q under the model whose exact posterior is `exact` (ln Z of it is ln p(y)).   Equations (1) and (2)."""
    nothing = q.infeasible | exact.infeasible  # no z at all: L is −inf, as ln p(y) is
    return Bound(
        expected_log_joint=q.expected(exact.log_potentials).masked_fill(nothing, -INF),
        entropy=q.entropy,
        evidence=exact.log_partition,
        gap=q.kl(exact).masked_fill(q.infeasible & ~exact.infeasible, INF),
        weights=weights,
    )


@torch.no_grad()
def bound(model: Any, y: Any, q: Any = None, *, samples: int = 1000, generator: torch.Generator | None = None) -> Bound:
    """L of every item under `model`, in both readings.   Equations (1) and (2).

    `q`: None for the exact posterior (gap 0), a recognition network (called on blocks of items), or a Posterior over all
    items. All results are (N,) float64, in nats. Where ln p(y) has no closed form (`DeepGaussian`) None means the model's own
    network, and L, ln p(y) and the gap are estimates from `samples` draws for each item.

    >>> import onebound as ob, torch
    >>> m = ob.models.Mixture(ob.emissions.Bernoulli(2, 1))
    >>> ob.bound(m, [[0.0], [1.0]]).value
    tensor([-0.6931, -0.6931], dtype=torch.float64)
    """
    obs: Observations = model.observe(y)
    sampled = not all(latent.exact_posterior for latent in model.latents())
    pick = _picker(q, obs, by_row=sampled)
    if sampled:
        return _estimated(model, obs, pick, samples, generator)
    parts, start = [], 0
    for block in obs.blocks(model.block_rows):
        exact = model.posterior(block)
        chosen = exact if pick is None else pick(block, start, exact)
        parts.append(both_readings(chosen, exact, block.weights))
        start += block.n_items
    log_joint, entropy, evidence, gap, weights = (torch.cat([getattr(p, name) for p in parts]) for name in PER_ITEM)
    return Bound(log_joint, entropy, evidence, gap, weights)


# Draws of rows that are decoded at a time.
DRAWS = 20_000


def _estimated(
    model: Any,
    obs: Observations,
    pick: Callable[[Observations, int, Any], Any] | None,
    samples: int,
    generator: torch.Generator | None,
) -> Bound:
    """L and ln p(y) by draws of q: `model.q` where none is picked."""
    whole_number("bound", "samples", samples, 2)
    found, start = [], 0
    for block in obs.blocks(min(model.block_rows, 200)):
        q = model.q(block) if pick is None else pick(block, start, None)
        found.append((*_by_draws(model, block, q, samples, generator), block.weights))
        start += block.n_rows
    value, entropy, evidence, half, weights = (torch.cat(each) for each in zip(*found, strict=True))
    return Bound(
        value - entropy,
        entropy,
        evidence,
        evidence - value,
        weights,
        "estimate",
        samples=samples,
        evidence_half=half,
    )


def _by_draws(
    model: Any, obs: Observations, q: Any, samples: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """L, H(q), ln of the mean weight, and the mean of that of either half of the draws.  (N,) each"""
    halves = [samples // 2, samples - samples // 2]
    value = torch.zeros(obs.n_items, dtype=torch.float64, device=obs.y.device)
    masses = []
    for share in halves:
        mass = torch.full_like(value, -INF)
        for count in _chunks(share, max(DRAWS // obs.n_rows, 1)):
            z = q.sample(count, generator)
            value += sum(part.to(torch.float64) for part in model.sampled_parts(obs, q, z).values()) * (count / samples)
            mass = torch.logaddexp(mass, log_weights(model, obs, q, z).logsumexp(0))
        masses.append(mass)
    evidence = torch.logaddexp(*masses) - math.log(samples)
    half = 0.5 * (masses[0] - math.log(halves[0]) + masses[1] - math.log(halves[1]))
    return value, model.by_item(obs, q.entropy).to(torch.float64), evidence, half


def log_weights(model: Any, obs: Observations, q: Any, z: Tensor, held: bool = False) -> Tensor:
    """ln p(z, y) − ln q(z) of every item and draw; `held`: q's own parameters get no gradient.  (S, R, L) → (S, N), nats"""
    log_p = model.by_item(obs, model.log_likelihood(obs, z).to(torch.float64))
    log_q = model.by_item(obs, (q.detach() if held else q).log_prob(z).to(torch.float64))
    found: Tensor = log_p + model.log_prior_of(obs, z) - log_q
    return found


def _chunks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


@torch.no_grad()
def bracket(
    model: Any, n: int = 100, *, samples: int = 1000, generator: torch.Generator | None = None
) -> dict[str, float]:
    """ln p(y) of `n` items drawn from the model, between two estimates: nats per item, means and standard errors.

    Below: IWAE-K, low in expectation. Above: the same average with the z that made y as one of the K, high in expectation,
    since that z is a draw of p(z | y). They meet as K grows and as q nears the posterior.
    Keys: "lower", "upper", "lower_error", "upper_error", "width_error". Source: Grosse, Ghahramani & Adams 2015.

    >>> import onebound as ob, torch
    >>> model = ob.models.DeepGaussian("gaussian", 1, n_features=2, hidden=(4,))
    >>> sorted(ob.bracket(model, 5, samples=20))
    ['lower', 'lower_error', 'upper', 'upper_error', 'width_error']
    """
    whole_number("bracket", "n", n, 2)
    whole_number("bracket", "samples", samples)
    if all(latent.exact_posterior for latent in model.latents()):
        raise InputError(f"bracket: ln p(y) of a {type(model).__name__} is exact. Use model.evidence(y).")
    if getattr(model, "context_features", 0):
        raise InputError(
            "bracket: expected items that need no context. Use ob.bound(model, Observations.of(y, context=x))."
        )
    y, made_by = model.sample(n, generator)
    obs = model.observe(y)
    if obs.n_items != n:
        raise InputError("bracket: expected a model of rows, got one of sequences. Use ob.bound(model, y).")
    lower, upper = [], []
    start = 0
    for block in obs.blocks(200):
        q = model.q(block)
        true = log_weights(model, block, q, made_by[start : start + block.n_rows].unsqueeze(0))[0]
        mass = torch.full_like(true, -INF)
        for count in _chunks(samples - 1, max(DRAWS // block.n_rows, 1)):
            mass = torch.logaddexp(mass, log_weights(model, block, q, q.sample(count, generator)).logsumexp(0))
        other = log_weights(model, block, q, q.sample(1, generator))[0]
        lower.append(torch.logaddexp(mass, other) - math.log(samples))
        upper.append(torch.logaddexp(mass, true) - math.log(samples))
        start += block.n_rows
    low, high = torch.cat(lower), torch.cat(upper)

    def error(each: Tensor) -> float:
        return float(each.std() / math.sqrt(n))

    return {
        "lower": float(low.mean()),
        "upper": float(high.mean()),
        "lower_error": error(low),
        "upper_error": error(high),
        "width_error": error(high - low),
    }


def _picker(q: Any, obs: Observations, by_row: bool) -> Callable[[Observations, int, Any], Any] | None:
    if q is None:
        return None
    if not callable(q) and not hasattr(q, "log_potentials"):
        raise InputTypeError(
            f"bound: q must be None, a recognition network or a Posterior over all items, got {type(q).__name__}."
        )
    if callable(q):
        # A network cannot know what the model forbids; a given Posterior is taken at its word.
        return lambda block, start, exact: q(block) if exact is None else q(block).restrict(exact.log_potentials)
    what, size = ("rows", obs.n_rows) if by_row else ("items", obs.n_items)
    if len(q.log_potentials) != size:
        raise InputError(f"bound: q must cover the {size} {what} of y, got {len(q.log_potentials)}.")
    return lambda block, start, exact: q.select(slice(start, start + (block.n_rows if by_row else block.n_items)))


@torch.no_grad()
def mean_bound(model: Any, obs: Observations, q: Any = None) -> Bound:
    """L of all items in both readings, as one row of weighted means: no (N,) array is kept."""
    sums, weight = dict.fromkeys(PER_ITEM[:-1], 0.0), 0.0
    for part in obs.parts(obs.n_rows):
        fused = model.exact_pass(part, statistics=True) if q is None else None
        if fused is not None and not math.isnan(
            fused.entropy
        ):  # of the exact posterior the two readings are one number
            weight += fused.weight
            sums["entropy"] += fused.entropy
            sums["expected_log_joint"] += fused.evidence - fused.entropy
            sums["evidence"] += fused.evidence
            continue
        for block in part.blocks(model.block_rows):
            here = bound(model, block, q)
            weight += block.total_weight
            for name in PER_ITEM[:-1]:
                sums[name] += float(weighted_total(here.weights, getattr(here, name)))
    joint, entropy, evidence, gap = (torch.tensor([total / weight], dtype=torch.float64) for total in sums.values())
    return Bound(joint, entropy, evidence, gap, torch.tensor([weight], dtype=torch.float64), n_items=obs.n_items)
