"""Which of several models, for instance with 1 to 10 components: fit each, and compare them by one criterion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from onebound.algorithms.fit import fit
from onebound.algorithms.result import Fit
from onebound.errors import InputError, NoExactPosterior, did_you_mean
from onebound.models.base import Model
from onebound.observations import Observations, weighted_total
from onebound.streamed import Streamed

HELD_OUT = 0.2  # Share of the items that the criterion "heldout" keeps from the fits.
CRITERIA = ("bic", "icl", "aic", "heldout")


@dataclass(frozen=True)
class Criteria:
    """What one compares models of different size by; lower is better. All in units of −2 ln, over all items together.

    `bic` = −2 ln p + P ln N, `aic` = −2 ln p + 2 P, `icl` = bic + 2 · Σ w H(p(z | y)), with P free parameters and N the
    total weight of the rows: signed as scikit-learn's GaussianMixture signs them. Of sequences N counts the rows too, or one
    long series would know no penalty; a chain's parameters are learnt from each of them.
    Sources: Schwarz 1978; Akaike 1974; Biernacki, Celeux & Govaert 2000, whose ICL-BIC this is.

    >>> Criteria.of(n_parameters=2, log_evidence=-10.0, entropy=0.5, total_weight=1.0)
    Criteria(n_parameters=2, aic=24.0, bic=20.0, icl=21.0)
    """

    n_parameters: int
    aic: float
    bic: float
    icl: float

    @staticmethod
    def of(n_parameters: int, log_evidence: float, entropy: float, total_weight: float) -> Criteria:
        """From the sums Σ w ln p(y) and Σ w H(p(z | y)), in nats."""
        misfit = -2 * log_evidence
        bic = misfit + n_parameters * math.log(total_weight)
        return Criteria(n_parameters, misfit + 2 * n_parameters, bic, bic + 2 * entropy)


@dataclass(frozen=True)
class Candidate:
    """One model that was tried; `heldout` is ln p(y) of the items kept from it, nats per item, where some were."""

    name: str
    fit: Fit
    criteria: Criteria
    heldout: float | None = None

    def value(self, criterion: str) -> float:
        """The criterion, signed so that lower is better."""
        if criterion != "heldout":
            return float(getattr(self.criteria, criterion))
        assert self.heldout is not None
        return -self.heldout

    def as_dict(self) -> dict[str, Any]:
        """Plain values, JSON-able."""
        c = self.criteria
        reached = {"bound": self.fit.bound, "evidence": self.fit.evidence, "converged": self.fit.converged}
        criteria = {"n_parameters": c.n_parameters, "aic": c.aic, "bic": c.bic, "icl": c.icl, "heldout": self.heldout}
        return {"name": self.name, **reached, **criteria}


@dataclass(frozen=True)
class Choice:
    """What was tried, in the order given, and the fit of the best: of all items, also where some were held out."""

    criterion: str
    candidates: list[Candidate]
    best: int
    fit: Fit

    def as_dict(self) -> dict[str, Any]:
        """Plain values, JSON-able."""
        tried = [candidate.as_dict() for candidate in self.candidates]
        return {"criterion": self.criterion, "best": self.candidates[self.best].name, "candidates": tried}

    def __repr__(self) -> str:
        tried = ", ".join(f"{c.name}: {c.value(self.criterion):.2f}" for c in self.candidates)
        return f"Choice({self.criterion}, lower is better: {tried}; best {self.candidates[self.best].name})"


def choose(
    models: Sequence[Model],
    y: Any,
    algorithm: Any = None,
    *,
    criterion: str = "bic",
    generator: torch.Generator | None = None,
    names: Sequence[str] | None = None,
    after_each: Callable[[Candidate], Any] = lambda candidate: None,
    **how: Any,
) -> Choice:
    """Fit every model to y and keep the one that the criterion prefers.

    `criterion`: "bic", "icl" (prefers components that keep apart), "aic", or "heldout": ln p(y) of a fifth of the items,
    drawn at random and kept from the fits; the best model is then fitted to all of them. `names`: what the models are
    called in the result, 1, 2, … by default. Each climb begins with the generator as it was given, so the chosen one is
    what `ob.fit` alone would have made. `after_each` is called with each candidate. Everything else goes to `ob.fit`, and
    raises what that raises.

    >>> import onebound as ob
    >>> y = [[0.0], [0.2], [0.1], [0.3], [5.0], [5.3], [5.1], [5.2]]
    >>> models = [ob.models.Mixture(ob.emissions.Gaussian(k, 1)) for k in (1, 2)]
    >>> ob.choose(models, y, generator=torch.Generator().manual_seed(0)).fit.model.n_components
    2
    """
    sampled = next((m for m in models if not all(latent.exact_posterior for latent in m.latents())), None)
    if sampled is not None:
        raise NoExactPosterior(
            f"choose: criteria need ln p(y), which {type(sampled).__name__} has no exact form of. Compare "
            "ob.bound(model, held_out).mean()['evidence'] of each."
        )
    if not models:
        raise InputError("choose: expected at least one model, got none.")
    if criterion not in CRITERIA:
        raise InputError(
            f"choose: criterion must be one of {', '.join(CRITERIA)}, got {criterion!r}.{did_you_mean(criterion, CRITERIA)}"
        )
    obs = Observations.of(y)
    called = [str(k + 1) for k in range(len(models))] if names is None else list(names)
    state = None if generator is None else generator.get_state()
    train, test = _split(obs, generator) if criterion == "heldout" else (obs, None)
    candidates = []
    for name, model in zip(called, models, strict=True):
        _rewind(generator, state)
        fitted = fit(model, train, algorithm, generator=generator, **how)
        entropy, log_evidence = _totals(model, train)
        criteria = Criteria.of(model.n_parameters(), log_evidence, entropy, train.total_row_weight)
        kept = None if test is None else _totals(model, test)[1] / test.total_weight
        candidates.append(Candidate(name, fitted, criteria, kept))
        after_each(candidates[-1])
        if fitted.reason == "callback":
            break
    values = [candidate.value(criterion) for candidate in candidates]
    best = min(range(len(values)), key=values.__getitem__)
    chosen = candidates[best].fit
    if test is not None and chosen.reason != "callback":
        _rewind(generator, state)
        how = {**how, "init": how.get("init") or "k-means++"}  # Not on from the fit of the four fifths.
        chosen = fit(models[best], obs, algorithm, generator=generator, **how)
    return Choice(criterion, candidates, best, chosen)


def _rewind(generator: torch.Generator | None, state: torch.Tensor | None) -> None:
    if generator is not None and state is not None:
        generator.set_state(state)


def _split(obs: Observations, generator: torch.Generator | None) -> tuple[Observations, Observations]:
    """Four fifths of the items, and the others, both in their order."""
    if isinstance(obs, Streamed):
        raise InputError("choose: heldout needs the items in memory, got a stream. Use criterion='bic' or 'icl'.")
    order = torch.randperm(obs.n_items, generator=generator)
    n = round(HELD_OUT * obs.n_items)
    if not 0 < n < obs.n_items:
        raise InputError(
            f"choose: heldout needs at least 3 items to keep some of, got {obs.n_items}. Use criterion='bic'."
        )
    return obs.select(order[n:].sort().values), obs.select(order[:n].sort().values)


@torch.no_grad()
def _totals(model: Model, obs: Observations) -> tuple[float, float]:
    """Σ w H(p(z | y)) and Σ w ln p(y), in nats; −∞ where the model cannot make an item."""
    kept, model.keep_infeasible = model.keep_infeasible, True
    entropy = log_evidence = 0.0
    try:
        for block in model.observe(obs).blocks(model.block_rows):
            q = model.posterior(block)
            entropy += float(weighted_total(block.weights, q.entropy))
            log_evidence += float(weighted_total(block.weights, q.log_partition))
    finally:
        model.keep_infeasible = kept
    return entropy, log_evidence
