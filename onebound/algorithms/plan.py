"""Which step each latent and each parameter gets, and why: checked once, when the pair meets the model."""

from __future__ import annotations

import copy
import textwrap
from dataclasses import dataclass, replace
from typing import Any

from onebound.algorithms.e_step import Amortized
from onebound.algorithms.m_step import ClosedForm, Gradient
from onebound.algorithms.named import EG, EM, VAE, Algorithm, algorithm_from
from onebound.emissions.base import Part
from onebound.errors import InputError, NoClosedForm, NoExactPosterior, OneboundError, Unsupported
from onebound.models.base import Model
from onebound.recognition import OwnRecognition

# What a model under a network is trained with where nothing is said: items in a mini-batch, passes over the data, and steps,
# of which few items would make too few in so many passes.
NETWORK_BATCH, NETWORK_PASSES, NETWORK_STEPS = 128, 100, 5000
# A network over sequences: items in a mini-batch, passes, and the step size.
SEQUENCE_BATCH, SEQUENCE_PASSES, SEQUENCE_LR = 8, 30, 5e-3


@dataclass(frozen=True)
class Plan:
    """The steps of one algorithm on one model; `str(plan)` prints them like EXPLAIN. `notes`: what the data make suspicious."""

    model: str
    algorithm: str
    rows: list[dict[str, str]]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.algorithm} on {self.model}"]
        for r in self.rows:
            lines.append(f"  {r['kind']:<9} {r['name']:<12} {r['step']}")
            lines += textwrap.wrap(r["why"], 80, initial_indent=" " * 14, subsequent_indent=" " * 14)
        for note in self.notes:
            lines += textwrap.wrap(note + ".", 80, initial_indent="  note      ", subsequent_indent=" " * 14)
        return "\n".join(lines)


def plan(model: Model, algorithm: Any = None, y: Any = None) -> Plan:
    """Which E step each latent gets and which M step each parameter, and why; with `y` also what is suspicious about it.

    Raises NoClosedForm, NoExactPosterior or Unsupported for what cannot work, and says what would. algorithm=None takes
    the first that works: EM, else EG (closed forms kept), else VAE.

    >>> import onebound as ob
    >>> print(ob.plan(ob.models.Mixture(ob.emissions.Poisson(2, 1))))
    EM on Mixture of 2 Poisson
      latent    z            exact posterior
                  the component of an item, one of 2: summed exactly, gap 0
      parameter weights      closed form
                  normalised expected counts (1 free)
      parameter emission     closed form
                  Poisson: weighted means (2 free)
    """
    chosen = resolve(model, algorithm)
    rows = [_latent_row(model, chosen), *(_part_row(p, chosen) for p in model.parts())]
    notes = () if y is None else tuple(model.lint(model.observe(y)))
    return Plan(str(model.title()), chosen.name, rows, notes)


def resolve(model: Model, algorithm: Any = None) -> Algorithm:
    """The algorithm that the plan is about, after checking that it can work on this model."""
    if algorithm is None:
        return under_networks(model, _first_that_works(model))
    chosen = under_networks(model, algorithm_from(algorithm))
    _check(model, chosen)
    m = chosen.m_step
    if (
        isinstance(m, Gradient)
        and m.closed_form
        and not chosen.e_step.learned
        and all(p.closed_form for p in model.parts())
    ):
        return replace(chosen, m_step=ClosedForm())  # nothing is left for the gradient
    return chosen


def under_networks(model: Model, algorithm: Algorithm) -> Algorithm:
    """The algorithm as it runs where z is under a network: sampled, in mini-batches, to the last pass."""
    e = algorithm.e_step
    if not isinstance(e, Amortized) or all(latent.exact_posterior for latent in model.latents()):
        return algorithm
    if e.estimator == "score":
        raise Unsupported(
            f"{algorithm.name}: z is a vector under a network. Use estimator='reparameterized' or 'importance'."
        )
    if e.recognition is not None and not isinstance(e.recognition, OwnRecognition):
        raise InputError(
            f"{algorithm.name}: a {type(model).__name__} brings its own recognition network, got "
            f"{type(e.recognition).__name__}. Build the model with encoder=network, from features to 2 × n_latent numbers."
        )
    if e.estimator == "enumerated":
        e = copy.copy(e)
        e.estimator = "reparameterized"
    m = copy.copy(algorithm.m_step)
    m.batch_rows, m.on_draws = NETWORK_BATCH, True
    return replace(algorithm, e_step=e, m_step=m, max_iter=NETWORK_PASSES, tol=0.0)


def passes_over(algorithm: Algorithm, n_items: int, batch_size: int | None) -> int:
    """How many passes a climb takes at most where nothing is said; of few items more, so that networks get their steps."""
    if not algorithm.m_step.on_draws:
        return algorithm.max_iter
    return max(algorithm.max_iter, -(-NETWORK_STEPS // -(-n_items // (batch_size or NETWORK_BATCH))))


def _gradient_in_batches() -> Algorithm:
    """EG on mini-batches, to the last pass: how a model that is all network is trained where nothing is said."""
    found = EG("adam", lr=SEQUENCE_LR)
    m = copy.copy(found.m_step)
    m.batch_rows = SEQUENCE_BATCH
    return replace(found, m_step=m, max_iter=SEQUENCE_PASSES, tol=0.0)


def _first_that_works(model: Model) -> Algorithm:
    if model.deep:
        return _gradient_in_batches()
    mixed = any(p.closed_form for p in model.parts())
    candidates = [EM(), EG("adam", closed_form=True) if mixed else EG(), VAE()]
    for candidate in candidates:
        try:
            _check(model, candidate)
        except OneboundError as error:
            last = error
            continue
        return candidate
    raise last


def _check(model: Model, algorithm: Algorithm) -> None:
    for latent in model.latents():
        if algorithm.e_step.exact_posterior and not latent.exact_posterior:
            raise NoExactPosterior(
                f"{algorithm.name}: latent {latent.name} has no exact posterior. Use ob.VAE(...), whose q is a network."
            )
        if algorithm.e_step.points and not latent.structure.has_points:
            raise Unsupported(
                f"{algorithm.name}: latent {latent.name} is a vector, whose single values have no entropy (H = −∞), so L would "
                "be −∞. Use ob.EM(), ob.EG() or ob.VAE()."
            )
        if getattr(algorithm.e_step, "estimator", "") == "importance" and latent.exact_posterior:
            raise Unsupported(
                f"{algorithm.name}: ln p(y) is exact for this model, so there is nothing to weight. Leave estimator out."
            )
        if getattr(algorithm.e_step, "estimator", "") == "reparameterized" and not latent.reparameterized:
            raise Unsupported(
                f"{algorithm.name}: a discrete z cannot be reparameterised, and latent {latent.name} is one. Use "
                "estimator='enumerated' or 'score'."
            )
    for part in model.parts():
        if algorithm.m_step.needs_closed_form and not part.closed_form:
            use = (
                "ob.EG(...)"
                if model.deep
                else "ob.GEM(...) or ob.EG(...), which take gradient steps there, or ob.VAE(...)"
            )
            raise NoClosedForm(f"{algorithm.name}: {part.how} Use {use}.")
    if getattr(algorithm.m_step, "record_every", None) is not None and not algorithm.m_step.on_draws:
        raise Unsupported(
            f"{algorithm.name}: record_every goes with models under a network (DeepGaussian). Leave it out: a record comes "
            "with every pass."
        )
    if isinstance(algorithm.m_step, Gradient) and algorithm.m_step.steps > 1 and _backward(model, algorithm):
        raise InputError(
            f"{algorithm.name}: steps > 1 hold q fixed, which needs sufficient statistics; here the gradient comes from the "
            "data. Use steps=1."
        )


def _backward(model: Model, algorithm: Algorithm) -> bool:
    return algorithm.e_step.learned or not all(p.sufficient for p in model.parts())


def gradient_from_data(model: Model, algorithm: Algorithm) -> bool:
    """Whether the M step's gradient needs the data themselves (a network somewhere), not only statistics."""
    return isinstance(algorithm.m_step, Gradient) and _backward(model, algorithm)


def with_batches(algorithm: Algorithm, batch_size: int | None) -> Algorithm:
    """The algorithm as it runs on mini-batches: no line search there."""
    m = algorithm.m_step
    if batch_size is not None and isinstance(m, Gradient) and m.closed_form and not m.on_draws:
        raise InputError(
            f"{algorithm.name}: closed forms need whole passes, got batch_size={batch_size}; on a mini-batch they would "
            "jump to its own optimum. Use ob.EG('adam'), or leave batch_size out."
        )
    if batch_size is None or not isinstance(m, Gradient) or not m.line_search:
        return algorithm
    if algorithm.name != "EG":
        raise InputError(
            f"{algorithm.name}: a line search needs whole passes, got batch_size={batch_size}. Use optimizer='adam'."
        )
    adam = Gradient("adam", lr=m.lr, steps=m.steps, closed_form=m.closed_form)
    return replace(algorithm, m_step=adam, max_iter=200, tol=1e-6, window=10)


def _latent_row(model: Model, algorithm: Algorithm) -> dict[str, str]:
    latent, e = model.latents()[0], algorithm.e_step
    return {"kind": "latent", "name": latent.name, "step": e.describe(), "why": f"{latent.what}: {e.why}"}


def _part_row(part: Part, algorithm: Algorithm) -> dict[str, str]:
    m = algorithm.m_step
    closed = part.closed_form and (m.needs_closed_form or (isinstance(m, Gradient) and m.closed_form))
    if closed:
        step, why = "closed form", part.how
    elif isinstance(m, Gradient):
        source = "from the expected statistics" if not _gradient_needs_data(part, algorithm) else "through the data"
        step, why = m.describe(), f"{source}; unconstrained coordinates"
    else:
        step, why = m.describe(), part.how
    return {"kind": "parameter", "name": part.name, "step": step, "why": f"{why} ({part.n_parameters} free)"}


def _gradient_needs_data(part: Part, algorithm: Algorithm) -> bool:
    return algorithm.e_step.learned or not part.sufficient
