"""fit: the public door to the loop, with starts and restarts around it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from onebound.algorithms.climb import Climb, Limits, climb_together
from onebound.algorithms.m_step import ClosedForm, Gradient
from onebound.algorithms.named import Algorithm, OnlineEM
from onebound.algorithms.online import fit_batches
from onebound.algorithms.plan import Plan, passes_over, plan, resolve, with_batches
from onebound.algorithms.result import Fit, number
from onebound.algorithms.stepwise import Stepwise
from onebound.algorithms.trace import Record
from onebound.errors import InputError, InputTypeError, whole_number
from onebound.models.base import Model
from onebound.observations import Observations
from onebound.streamed import Streamed


def fit(
    model: Model,
    y: Any,
    algorithm: Any = None,
    *,
    max_iter: int | None = None,
    tol: float | None = None,
    batch_size: int | None = None,
    restarts: int = 1,
    generator: torch.Generator | None = None,
    callbacks: Sequence[Callable[[Record], Any]] = (),
    init: Any = None,
    max_seconds: float | None = None,
    resume: Fit | None = None,
    checkpoint: Callable[[Search, bool], None] | None = None,
) -> Fit:
    """Climb L on y, changing `model` in place; the best restart is written back.

    `y`: a table, `Observations`, a stream of blocks, or an iterator of batches, each of which is seen once (ob.OnlineEM
    alone: the Fit's numbers are then those of the last batch under the final parameters; max_iter, tol, batch_size, restarts,
    resume and checkpoint are refused).

    `algorithm`: ob.EM(), ob.EG(), … or a name; None takes the first that the plan supports. `max_iter`: M steps (passes, for
    mini-batches). `tol`: relative change of L per item that ends the climb; 0 turns every stop off but max_iter and
    max_seconds. `batch_size`: items in a mini-batch (gradients, OnlineEM) or in a block (EM: changes nothing but memory).
    `init`: how to start ("k-means++", "k-means", "random", labels, responsibilities); None keeps a model that was fitted or
    assigned before. `restarts`: that many starts. `callbacks`: called with each Record; one that returns True ends the climb.
    `resume`: a Fit of the same model and data, continued to `max_iter` M steps in all under the limits given now, and
    ending at the same bits as if it had not stopped. (Adam's decay belongs to the first call's max_iter.)
    `checkpoint`: an ob.Checkpoint(path, every=60.0), from which ob.resume goes on after an interruption.
    Raises InputError for data or arguments that cannot work, and what `plan` raises.

    >>> import onebound as ob
    >>> model = ob.models.Mixture(ob.emissions.Gaussian(2, 1))
    >>> result = ob.fit(model, [[0.0], [0.2], [0.1], [5.0], [5.3], [5.1]], ob.EM(), generator=torch.Generator().manual_seed(0))
    >>> result.gap, result.converged
    (0.0, True)
    """
    if isinstance(y, Iterator):
        several = {
            "max_iter": max_iter,
            "tol": tol,
            "batch_size": batch_size,
            "resume": resume,
            "checkpoint": checkpoint,
        }
        _refuse_passes({**several, "restarts": None if restarts == 1 else restarts})
        return _from_batches(model, y, algorithm, max_seconds, callbacks=callbacks, init=init, generator=generator)
    resolved = resolve(model, algorithm)
    obs = observed(model, y, resolved, generator)
    chosen = with_batches(resolved, batch_size)
    batch_size = chosen.m_step.batch_rows if batch_size is None else batch_size
    max_iter = passes_over(chosen, obs.n_items, batch_size) if max_iter is None else max_iter
    limits = limits_of(chosen, max_iter, tol, max_seconds)
    whole_number("fit", "restarts", restarts)
    if batch_size is not None:
        whole_number("fit", "batch_size", batch_size)
    if isinstance(obs, Streamed) and batch_size is not None and isinstance(chosen.m_step, Gradient):
        raise InputError(
            f"fit: mini-batches of {chosen.name} are drawn from all rows, got a stream of blocks. Leave batch_size out "
            "(each pass then goes through all blocks), or read the data into memory."
        )
    if generator is not None and not isinstance(generator, torch.Generator):
        raise InputTypeError(
            f"fit: generator must be a torch.Generator, got {generator!r}. Write torch.Generator().manual_seed(0)."
        )
    if restarts > 1 and init is not None and not isinstance(init, str):
        raise InputError("fit: restarts from one given start would all be the same; leave init out, or restarts at 1.")
    if resume is not None:
        return _resumed(resume, model, obs, limits, callbacks)
    return Search(model, obs, chosen, limits, generator, batch_size, callbacks, init, restarts, checkpoint).run()


def observed(model: Model, y: Any, algorithm: Algorithm, generator: torch.Generator | None) -> Observations:
    """y, checked; where each batch is changed first, what is checked is y as it is changed."""
    augment = getattr(algorithm.e_step, "augment", None)
    if augment is None:
        return model.observe(y)
    obs = Observations.of(y)
    changed = model.observe(replace(obs, y=augment(obs.y, generator), checked_by=None))
    found = replace(changed, y=obs.y)
    found.__dict__.update(columns=changed.columns, has_gaps=changed.has_gaps)
    return found


def _refuse_passes(given: dict[str, Any]) -> None:
    """An iterator is one pass over batches that are cut already: what asks for more, or for other ones, cannot hold."""
    asked = [name for name, value in given.items() if value is not None]
    if asked:
        raise InputError(
            f"fit: an iterator of batches is seen once, as it comes, so {asked[0]} means nothing there, got "
            f"{given[asked[0]]!r}. Leave it out (max_seconds and callbacks can end the fit), or pass a table."
        )


def _from_batches(
    model: Model, batches: Iterator[Any], algorithm: Any, max_seconds: float | None, **options: Any
) -> Fit:
    chosen = resolve(model, OnlineEM() if algorithm is None else algorithm)
    if not isinstance(chosen.m_step, Stepwise):
        raise InputError(
            f"fit: {chosen.name} needs the data again in every pass, got an iterator, whose batches come once. Use "
            "ob.OnlineEM(), or list(batches) put together to one table."
        )
    return fit_batches(model, batches, chosen, max_seconds, **options)


@dataclass
class Kept:
    """A climb that has ended, with the parameters that it reached."""

    trace: list[Record]
    reason: str
    parameters: dict[str, torch.Tensor]
    psi: dict[str, torch.Tensor] | None
    climb: Climb | None = None

    @property
    def objective(self) -> float:
        """Of the returned parameters, per item."""
        return number(self.trace[-1].objective)


class Search:
    """Climbs from several starts, one after the other; the best is kept."""

    def __init__(
        self,
        model: Model,
        obs: Observations,
        algorithm: Algorithm,
        limits: Limits,
        generator: torch.Generator | None,
        batch_size: int | None,
        callbacks: Sequence[Callable[[Record], Any]],
        init: Any,
        restarts: int,
        checkpoint: Callable[[Search, bool], None] | None,
    ) -> None:
        self.model, self.obs, self.algorithm, self.limits = model, obs, algorithm, limits
        self.generator, self.batch_size, self.callbacks = generator, batch_size, callbacks
        self.init, self.restarts, self.checkpoint = init, restarts, checkpoint
        self.finals: list[float] = []
        self.seconds = 0.0
        self.best: Kept | None = None
        self.climb: Climb | None = None
        self._fresh = _recognition_state(algorithm)

    def run(self) -> Fit:
        """Climb from every start that is left, and write the best back."""
        if self._shares_passes():
            self._run_together()
        while len(self.finals) < self.restarts:
            if self.climb is None:
                self._start(first=not self.finals)
                self.climb = self.new_climb()
            self.climb.run()
            self._finish(self.climb)
        best = self.best
        assert best is not None
        climb = self._returned(best)
        self.model.load_state_dict(best.parameters)
        if best.psi is not None and climb.recognition is not None:
            climb.recognition.load_state_dict(best.psi)
        return _fit_of(climb, plan(self.model, self.algorithm, self.obs), self.finals, self.seconds)

    def _returned(self, best: Kept) -> Climb:
        """The climb of the model that is given back, standing where `best` ended."""
        if best.climb is not None and best.climb.model is self.model:
            return best.climb
        climb = self.new_climb()  # the best one came out of a checkpoint, or ran beside others on a copy of the model
        climb.trace, climb.reason = best.trace, best.reason
        if best.climb is not None:
            climb.stand_where(best.climb)
        return climb

    def _shares_passes(self) -> bool:
        """Whether to run all starts side by side: where reading the data is what takes long, and a pass serves them all."""
        plain = self.algorithm.e_step.is_posterior and type(self.algorithm.m_step) is ClosedForm
        return isinstance(self.obs, Streamed) and plain and self.checkpoint is None and self.restarts > 1

    def _run_together(self) -> None:
        climbs: list[Climb] = []
        for _ in range(self.restarts):
            self._start(first=not climbs)
            climbs.append(self.new_climb(copy.deepcopy(self.model)))
        climb_together(climbs)
        for climb in climbs:
            self._finish(climb)
        self.seconds = max(climb.seconds for climb in climbs)

    def new_climb(self, model: Model | None = None) -> Climb:
        """A climb from where the model stands."""
        return Climb(
            self.model if model is None else model,
            self.obs,
            self.algorithm,
            self.limits,
            self.generator,
            self.batch_size,
            self.callbacks,
            self._after_m,
        )

    def _after_m(self, ending: bool) -> None:
        if self.checkpoint is not None:
            self.checkpoint(self, ending)

    def _start(self, first: bool) -> None:
        if not first or self.init is not None or not bool(self.model.initialized):
            self.model.initialize(self.obs, self.generator, self.init)
        elif not bool(self.model.prepared):
            self.model.prepare(self.obs.columns)
        if not first and self._fresh is not None:
            self.algorithm.e_step.recognition.load_state_dict(self._fresh)  # type: ignore[attr-defined]

    def _finish(self, climb: Climb) -> None:
        parameters = {k: v.clone() for k, v in climb.model.state_dict().items()}
        ended = Kept(climb.trace, climb.reason, parameters, _recognition_state(climb.algorithm), climb)
        self.finals.append(ended.objective)
        self.seconds += climb.seconds
        if self.best is None or ended.objective > self.best.objective:
            self.best = ended
        if climb.reason == "callback":
            self.restarts = len(self.finals)
        self.climb = None


def _fit_of(climb: Climb, steps: Plan, finals: list[float], seconds: float) -> Fit:
    return Fit(
        model=climb.model,
        plan=steps,
        algorithm=climb.algorithm.name,
        trace=climb.trace,
        reason=climb.reason,
        n_items=climb.obs.n_items,
        seconds=seconds,
        restarts=finals,
        recognition=climb.recognition,
        climb=climb,
    )


def _resumed(
    stopped: Fit, model: Model, obs: Observations, limits: Limits, callbacks: Sequence[Callable[[Record], Any]]
) -> Fit:
    climb = stopped.climb
    if climb is None or climb.model is not model or climb.obs.n_items != obs.n_items:
        raise InputError("fit: resume must be a Fit of this same model on the same data.")
    climb.obs = obs
    finals = list(stopped.restarts)
    best = finals.index(stopped.objective)
    climb.resume(limits, callbacks)
    finals[best] = number(climb.trace[-1].objective)
    return _fit_of(climb, stopped.plan, finals, stopped.seconds + climb.seconds - climb.resumed_at)


def limits_of(algorithm: Algorithm, max_iter: int | None, tol: float | None, max_seconds: float | None) -> Limits:
    max_iter = algorithm.max_iter if max_iter is None else max_iter
    tol = algorithm.tol if tol is None else tol
    max_iter = whole_number("fit", "max_iter", max_iter, 0)
    if not isinstance(tol, int | float) or not 0 <= tol < float("inf"):
        raise InputError(f"fit: tol must be ≥ 0 and finite, got {tol!r}.")
    if max_seconds is not None and not (isinstance(max_seconds, int | float) and max_seconds > 0):
        raise InputError(f"fit: max_seconds must be > 0, got {max_seconds!r}.")
    return Limits(max_iter, float(tol), algorithm.window, max_seconds)


def _recognition_state(algorithm: Algorithm) -> dict[str, Any] | None:
    network = getattr(algorithm.e_step, "recognition", None)
    return None if network is None else copy.deepcopy(network.state_dict())
