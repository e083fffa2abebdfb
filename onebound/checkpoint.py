"""Interrupt a fit and go on: a checkpoint file that ends at the same bits as an uninterrupted climb."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from onebound.algorithms import (
    Algorithm,
    Amortized,
    Argmax,
    ClosedForm,
    EStep,
    Exact,
    Fit,
    Gradient,
    MStep,
    PosteriorSamples,
    Record,
    Squared,
    Stepwise,
)
from onebound.algorithms.climb import Limits
from onebound.algorithms.fit import Kept, Search, observed
from onebound.data.transforms import rebinarized
from onebound.errors import StoreError, Unsupported
from onebound.models.base import Model
from onebound.observations import Observations
from onebound.recognition import Recognition
from onebound.store import built, described, filled, read, write
from onebound.streamed import Streamed

E_STEPS: dict[str, type[EStep]] = {c.__name__: c for c in (Exact, PosteriorSamples, Argmax, Amortized)}
M_STEPS: dict[str, type[MStep]] = {c.__name__: c for c in (ClosedForm, Gradient, Squared, Stepwise)}
TRANSFORMS = {rebinarized.__name__: rebinarized}


class Checkpoint:
    """For `ob.fit(..., checkpoint=...)`: write `path` whenever `every` seconds have passed, and when a callback stops.

    A kill loses at most the last `every` seconds; `ob.resume` goes on. `every=0` writes after each M step.
    """

    def __init__(self, path: str | os.PathLike[str], every: float = 60.0) -> None:
        self.path, self.every = path, every
        self._last = time.monotonic()

    def __call__(self, search: Search, ending: bool = False) -> None:
        """Called after each M step, and when the climb is being stopped."""
        if ending or time.monotonic() - self._last >= self.every:
            save_search(search, self.path)
            self._last = time.monotonic()


def save_search(search: Search, path: str | os.PathLike[str]) -> None:
    """Write everything that `resume` needs. Unsupported for networks or optimizers of the user's own."""
    climb = search.climb
    assert climb is not None
    state, owners = climb.checkpoint()
    tensors = {f"{owner}/{name}": t for owner, parts in owners.items() for name, t in parts.items()}
    tensors |= {f"model/{name}": t for name, t in search.model.state_dict().items()}
    if climb.recognition is not None:
        tensors |= {f"network/{name}": t for name, t in climb.recognition.state_dict().items()}
    best = None
    if search.best is not None:
        best = {"trace": [r.as_dict() for r in search.best.trace], "reason": search.best.reason}
        tensors |= {f"best/{name}": t for name, t in search.best.parameters.items()}
        tensors |= {f"best-network/{name}": t for name, t in (search.best.psi or {}).items()}
    plans = {
        "algorithm": _algorithm_config(climb.algorithm),
        "limits": asdict(search.limits),
        "batch_size": search.batch_size,
        "init": search.init if isinstance(search.init, str) else None,
        "restarts": search.restarts,
        "finals": search.finals,
        "seconds": search.seconds,
        "generator": search.generator is not None,
        "data": _fingerprint(search.obs),
    }
    trace = [r.as_dict() for r in climb.trace]
    header = {**described(search.model), "climb": {**plans, **state, "trace": trace, "best": best}}
    write(path, header, tensors)


def resume(
    path: str | os.PathLike[str],
    y: Any,
    *,
    into: Model | None = None,
    max_iter: int | None = None,
    tol: float | None = None,
    max_seconds: float | None = None,
    callbacks: Sequence[Callable[[Record], Any]] = (),
    checkpoint: Checkpoint | None = None,
) -> Fit:
    """Go on from a checkpoint on the same data `y`; ends at the same bits as a fit that was never interrupted.

    What is not given stays as it was. `into`: for a model with networks of your own, one of the same form.
    Raises StoreError for a file that is no checkpoint, or other data.
    """
    header, tensors = read(path)
    if "climb" not in header:
        raise StoreError(
            f"resume: {path} is a fitted model, not a checkpoint. Load it and go on with ob.fit(ob.load(path), y)."
        )
    saved = header["climb"]
    model = filled(path, built(path, header) if into is None else into, header, _part(tensors, "model"))
    algorithm = _algorithm_from(saved["algorithm"])
    obs = observed(model, y, algorithm, torch.Generator())
    if _fingerprint(obs) != saved["data"]:
        raise StoreError(
            f"resume: {path} belongs to other data: expected {saved['data']['n_items']} items with the same values and "
            f"weights, got {obs.n_items} items. Give the data that the fit began with."
        )
    given = {"max_iter": max_iter, "tol": tol, "max_seconds": max_seconds}
    limits = Limits(**{**saved["limits"], **{k: v for k, v in given.items() if v is not None}})
    search = Search(
        model,
        obs,
        algorithm,
        limits,
        torch.Generator() if saved["generator"] else None,
        saved["batch_size"],
        callbacks,
        saved["init"],
        saved["restarts"],
        checkpoint,
    )
    _refill(search, saved, tensors)
    return search.run()


def _refill(search: Search, saved: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    search.finals, search.seconds = list(saved["finals"]), saved["seconds"]
    search.climb = climb = search.new_climb()
    if climb.recognition is not None:
        climb.recognition.load_state_dict(_part(tensors, "network"))
    owners = {owner: _part(tensors, owner) for owner in ("m_step", "psi", "generator")}
    climb.restore(saved, [_record(r) for r in saved["trace"]], owners)
    if saved["best"] is not None:
        trace = [_record(r) for r in saved["best"]["trace"]]
        network = _part(tensors, "best-network") or None
        search.best = Kept(trace, saved["best"]["reason"], _part(tensors, "best"), network)


def _algorithm_config(algorithm: Algorithm) -> dict[str, Any]:
    e = algorithm.e_step
    network = getattr(e, "recognition", None)
    if network is not None and not isinstance(network, Recognition):
        raise Unsupported(
            f"Checkpoint: a recognition network of your own ({type(network).__name__}) cannot be described in a file. "
            "Leave recognition out, or checkpoint with state_dict() in a callback."
        )
    augment = getattr(e, "augment", None)
    if augment is not None and augment not in TRANSFORMS.values():
        raise Unsupported(
            "Checkpoint: augment is a function of your own and cannot be described in a file. Known are "
            f"{', '.join(TRANSFORMS)}."
        )
    changed = {} if augment is None else {"augment": augment.__name__}
    return {
        "name": algorithm.name,
        "e_step": [type(e).__name__, {**e.arguments(), **changed}],
        "m_step": [type(algorithm.m_step).__name__, algorithm.m_step.arguments()],
        "max_iter": algorithm.max_iter,
        "tol": algorithm.tol,
        "window": algorithm.window,
    }


def _algorithm_from(config: dict[str, Any]) -> Algorithm:
    (e, e_arguments), (m, m_arguments) = config["e_step"], config["m_step"]
    if e not in E_STEPS or m not in M_STEPS:
        raise StoreError(f"resume: the checkpoint asks for the steps {e} and {m}; known are {[*E_STEPS, *M_STEPS]}.")
    if "augment" in e_arguments:
        e_arguments = {**e_arguments, "augment": TRANSFORMS[e_arguments["augment"]]}
    steps = E_STEPS[e](**e_arguments), M_STEPS[m](**m_arguments)
    return Algorithm(config["name"], *steps, config["max_iter"], config["tol"], config["window"])


def _record(values: dict[str, Any]) -> Record:
    return Record(**{**values, "repairs": tuple(values["repairs"])})


def _part(tensors: Mapping[str, Tensor], owner: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{owner}/"): t for name, t in tensors.items() if name.startswith(f"{owner}/")}


def _fingerprint(obs: Observations) -> dict[str, Any]:
    """What tells these data from others: their size and a digest of their values and weights."""
    sha = hashlib.sha256()
    streamed = isinstance(obs, Streamed)
    parts = [(obs.weights, obs.lengths)] if streamed else []
    rows = obs.as_rows().blocks(obs.n_rows) if streamed else [obs]
    for tensors in (*parts, *((b.y, b.weights, b.lengths, b.context, b.allowed) for b in rows)):
        for t in tensors:
            if t is not None:
                sha.update(t.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return {"n_items": obs.n_items, "sha256": sha.hexdigest()}
