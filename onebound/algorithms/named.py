"""The named algorithms: each a pair (E step, M step)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from onebound.algorithms.acceleration import Squared
from onebound.algorithms.e_step import Amortized, Argmax, Augment, EStep, Exact, PosteriorSamples
from onebound.algorithms.m_step import ClosedForm, Gradient, MStep, OptimizerFactory
from onebound.algorithms.stepwise import Stepwise
from onebound.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Algorithm:
    """A pair (E step, M step) with a name and its habits: how many M steps at most, and when to stop.

    `tol`: the climb ends when L changes by less than tol · (1 + |L|) per item over `window` iterations' means.
    """

    name: str
    e_step: EStep
    m_step: MStep
    max_iter: int = 1000
    tol: float = 1e-8
    window: int = 1


def EM(*, accelerate: str | None = None) -> Algorithm:
    """Exact E, closed-form M: L never falls.

    `accelerate`: "squarem" tries a longer step after every second M step, and keeps it where L is higher: fewer passes
    where components overlap and EM crawls, about as many elsewhere.

    >>> EM().e_step.describe(), EM().m_step.describe()
    ('exact posterior', 'closed form')
    """
    if accelerate not in (None, "squarem"):
        raise InputError(f'EM: accelerate must be None or "squarem", got {accelerate!r}.')
    return Algorithm("EM", Exact(), ClosedForm()) if accelerate is None else Algorithm("SQUAREM", Exact(), Squared())


def OnlineEM(decay: float = 0.6, *, step: float | None = None) -> Algorithm:
    """Online EM: exact E on a batch, closed-form M from a decaying sum of the batches, over and over.

    It has learnt much before a pass is over, and it is the one for streams: `ob.fit` also takes an iterator of batches, and
    `ob.Online` one at a time. `decay`, `step`: see `ob.Stepwise`. It ends near a maximum, and EM goes on from there.
    """
    return Algorithm("OnlineEM", Exact(), Stepwise(decay, step), 50, 1e-4, 2)


def EG(
    optimizer: str | OptimizerFactory = "lbfgs", *, lr: float | None = None, steps: int = 1, closed_form: bool = False
) -> Algorithm:
    """Exact E, gradient M: the expected gradient. `closed_form=True` keeps closed forms where they exist (GEM)."""
    m = Gradient(optimizer, lr=lr, steps=steps, closed_form=closed_form)
    name = "GEM" if closed_form else "EG"
    return Algorithm(name, Exact(), m, 1000, 1e-10) if m.line_search else Algorithm(name, Exact(), m, 2000, 1e-7, 25)


def GEM(optimizer: str | OptimizerFactory = "adam", *, lr: float | None = None, steps: int = 1) -> Algorithm:
    """Generalised EM: exact E, closed-form M where a part has one, gradient M elsewhere."""
    return EG(optimizer, lr=lr, steps=steps, closed_form=True)


def VAE(
    recognition: nn.Module | None = None,
    *,
    optimizer: str | OptimizerFactory = "adam",
    lr: float | None = None,
    samples: int = 1,
    estimator: str = "enumerated",
    warm_up: int = 0,
    augment: Augment | None = None,
    autocast: bool = False,
    closed_form: bool = False,
    record_every: int | None = None,
) -> Algorithm:
    """A recognition network as q; one gradient step moves Ψ and Θ together. See `Amortized` for the estimators.

    For a model under a network (`DeepGaussian`) the estimator is "reparameterized" or "importance" (IWAE), in mini-batches.
    `closed_form`: parts with a closed form keep it; there that is a prior that is a model, on the draws of each pass.
    `record_every`: there, where passes are long: so many steps from one record to the next, with what comes at a record
    (callbacks, a checkpoint, the look whether all is finite and whether to stop). It changes no step. None: once a pass.
    """
    e = Amortized(recognition, samples, estimator, warm_up=warm_up, augment=augment, autocast=autocast)
    m = Gradient(optimizer, lr=lr, closed_form=closed_form, record_every=record_every)
    return Algorithm("VAE", e, m, 1000, 1e-10) if m.line_search else Algorithm("VAE", e, m, 2000, 1e-7, 25)


def VEM(recognition: nn.Module | None = None, *, lr: float | None = None) -> Algorithm:
    """Amortised variational EM: gradient steps on Ψ, closed-form M."""
    return Algorithm("VEM", Amortized(recognition), ClosedForm(), 1000, 1e-7, 25)


def MCEM(samples: int = 10) -> Algorithm:
    """Samples of the exact posterior, closed-form M."""
    return Algorithm("MCEM", PosteriorSamples(samples), ClosedForm(), 200, 1e-4, 25)


def HardEM() -> Algorithm:
    """The best single z, closed-form M: k-means and Viterbi training. H(q) = 0, so its L has a gap at the end too."""
    return Algorithm("HardEM", Argmax(), ClosedForm())


NAMED: dict[str, Callable[..., Algorithm]] = {
    "em": EM,
    "squarem": lambda: EM(accelerate="squarem"),
    "online": OnlineEM,
    "eg": EG,
    "vae": VAE,
    "mcem": MCEM,
    "hard-em": HardEM,
    "vem": VEM,
    "gem": GEM,
}


def algorithm_from(value: Any) -> Algorithm:
    """An Algorithm as it is, or by name ("em", "squarem", "online", "eg", "vae", "mcem", "hard-em", "vem", "gem")."""
    if isinstance(value, Algorithm):
        return value
    if isinstance(value, str) and value.lower() in NAMED:
        return NAMED[value.lower()]()
    hint = (
        did_you_mean(value, NAMED) if isinstance(value, str) else f" Call it: ob.{getattr(value, '__name__', 'EM')}()."
    )
    raise InputError(
        f"algorithm must be one of {', '.join(NAMED)} or an ob.Algorithm such as ob.EM(), got {value!r}.{hint}"
    )
