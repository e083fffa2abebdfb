"""THE loop: E, record, M, record, stop. Blocks, restarts and checkpoints live around it."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from onebound.algorithms.e_step import Amortized
from onebound.algorithms.m_step import ADAM_LR, Gradient, MStepRun, Step
from onebound.algorithms.named import Algorithm
from onebound.algorithms.optimizers import Adam, flat_gradient, flat_vector, write
from onebound.algorithms.plan import gradient_from_data
from onebound.algorithms.sampled import SampledSteps
from onebound.algorithms.sweep import Sweep, exact_sweeps, sweep, threads_for
from onebound.algorithms.trace import Record, fallen, flat, require_risen
from onebound.errors import InputError
from onebound.models.base import Model
from onebound.observations import Observations
from onebound.recognition import recognition_for
from onebound.streamed import Streamed

# Multiplications in a gradient step up to which a second thread would rather be in the way.
SMALL_STEP = 100_000_000
# Below this gradient per item (in unconstrained coordinates) a point is called stationary.
STATIONARY = 1e-7


@dataclass(frozen=True)
class Limits:
    """When a climb ends."""

    max_iter: int
    tol: float
    window: int
    max_seconds: float | None = None


class Climb:
    """One climb of `model` up L on `obs`, from where the model stands."""

    def __init__(
        self,
        model: Model,
        obs: Observations,
        algorithm: Algorithm,
        limits: Limits,
        generator: torch.Generator | None = None,
        batch_size: int | None = None,
        callbacks: Sequence[Callable[[Record], Any]] = (),
        after_m: Callable[[bool], None] = lambda ending: None,
    ) -> None:
        self.model, self.obs, self.limits, self.generator = model, obs, limits, generator
        self.algorithm = _with_recognition(algorithm, model, obs, generator)
        self.batch_size, self.callbacks, self.after_m = batch_size, callbacks, after_m
        self.trace: list[Record] = []
        self.passes, self.iteration, self.seconds = 0.0, 0, 0.0
        self.reason, self.resumed_at = "max_iter", 0.0
        self.total_weight = obs.total_weight
        self.minibatch = batch_size is not None and algorithm.m_step.in_batches
        self.backward = gradient_from_data(model, self.algorithm)
        self.statistics = not self.backward or getattr(algorithm.m_step, "closed_form", False)
        self.inexact = next((part.inexact for part in model.parts() if part.inexact), "")
        self.m_run = self._start_m()
        self.psi = self._start_psi()
        self._theta = [p.detach() for p in model.parameters()] + list(model.buffers())
        self._sufficient = all(p.sufficient for p in model.parts())
        self._reached: Sweep | None = None
        self.asked_to_stop = self._stationary = False
        self._state: dict[str, Any] | None = None

    # --- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Climb until a limit says stop; the last record is an E record of the parameters that are returned."""
        self.model.eval()
        with self._threads(), torch.enable_grad():
            steps, found = self.steps(), None
            with contextlib.suppress(StopIteration):
                while True:
                    collect = steps.send(found)
                    backward = self.backward and collect
                    found = self._sweep(self.obs, statistics=self.statistics and collect, backward=backward)

    def _threads(self) -> contextlib.AbstractContextManager[None]:
        if isinstance(self.m_run, SampledSteps) and self.batch_size is not None:
            return threads_for(self.m_run.operations(self.batch_size), SMALL_STEP)
        return threads_for(self.obs.extent, self.model.block_rows)

    def steps(self) -> Generator[bool, Sweep | None, None]:
        """The climb, to be driven from outside: it yields where it needs an E pass, and whether an M step will follow it."""
        start = time.perf_counter() - self.seconds
        self._clock = lambda: time.perf_counter() - start
        self._state = self._state or self._snapshot()
        while True:
            final, is_over = self._out_of_budget(), True
            if self.minibatch and not final and not self._arrived():
                is_over = self._minibatch_pass()
            else:
                final = final or self.minibatch
                here = yield from self._e_step(final)
                self._record_e(here)
                if final:
                    break
                if self._arrived():
                    self._keep(here)
                    break
                self._m_step(here)
            self.iteration += is_over
            self._state = self._snapshot()
            self.after_m(self.asked_to_stop)
        self.seconds = self._clock()

    def _e_step(self, final: bool) -> Generator[bool, Sweep | None, Sweep]:
        """The E pass. A final one only evaluates: it moves no Ψ and leaves no gradient."""
        if self._reached is not None:
            here, self._reached = self._reached, None
            return here
        if self.psi is not None and not final:
            for p in self._recognition_parameters():
                p.grad = None
            self._sweep(self.obs, statistics=False, backward=True)
            self._climb_psi()
            self.passes += 1
        self.passes += 1
        if self.backward and not final:
            self.m_run.zero()
        found = yield not final
        assert found is not None
        return found

    def _m_step(self, here: Sweep) -> None:
        exact = self.algorithm.m_step.needs_closed_form and not self.inexact
        before = [t.clone() for t in self._theta] if exact else []
        done = self.m_run.step(here, self._again, self.iteration)
        self.passes += done.passes
        self._reached = done.reached
        calm = done.gradient is not None and done.gradient < STATIONARY and not self.algorithm.e_step.noisy
        self._stationary = calm and self.limits.tol > 0
        self._record_m(here, done, before)

    def _again(self) -> Sweep:
        return self._sweep(self.obs, statistics=self.statistics, backward=self.backward)

    def _sweep(self, obs: Observations, *, statistics: bool, backward: bool) -> Sweep:
        if isinstance(self.m_run, SampledSteps):
            return self.m_run.sweep(obs, self.model.block_rows, self.generator)
        rows = None if self.minibatch else self.batch_size
        return sweep(
            self.model,
            obs,
            self.algorithm.e_step,
            self.generator,
            statistics=statistics,
            backward=backward,
            rows=rows,
            share=self.total_weight * obs.n_items / self.obs.n_items,
        )

    def _minibatch_pass(self) -> bool:
        """A pass in mini-batches, or what comes up to the next record, its records running means; whether the pass is over."""
        if isinstance(self.m_run, SampledSteps):
            assert self.batch_size is not None
            found = self.m_run.pass_over(self.obs, self.batch_size, self.generator, self._progress())
            share = self.m_run.share
            self.passes = math.floor(self.passes) + share
            self._record_e(found, running=True)
            self._append("M", None, None, None, running=True)
            return share == 1
        with torch.random.fork_rng(enabled=self.model.deep):
            # Dropout draws from torch's own generator: a pass depends on ours alone, so it can be resumed.
            if self.model.deep:
                torch.manual_seed(int(torch.randint(2**62, (), generator=self.generator)))
            self._steps_of_a_pass()
        return True

    def _steps_of_a_pass(self) -> None:
        e, m = Sweep(), 0.0
        repairs: tuple[str, ...] = ()
        self.model.train()
        for batch in self._batches():
            if not bool((batch.weights > 0).any()):
                continue
            if self.backward:
                self.m_run.zero()
            here = self._sweep(batch, statistics=self.statistics, backward=self.backward)
            repairs += self.m_run.step(here, self._again, self.iteration).repairs
            if not self.backward:
                m += self._q(here)
            here.statistics = None
            e.add(here)
        self.model.eval()  # outside of steps no item depends on its company (dropout)
        self.passes += 1
        self._record_e(e, running=True)
        bound = None if self.backward else m / e.weight
        self._append("M", bound, None, None, running=True, repairs=tuple(dict.fromkeys(repairs)))

    def _progress(self) -> float:
        """How much of its budget the climb has spent, of passes or of seconds: what a decaying step size follows."""
        spent = self.iteration / max(self.limits.max_iter, 1)
        return spent if self.limits.max_seconds is None else max(spent, self._clock() / self.limits.max_seconds)

    def _batches(self) -> Iterator[Observations]:
        """All items in mini-batches: shuffled, but those of a stream as they come."""
        assert self.batch_size is not None
        if isinstance(self.obs, Streamed):
            return self.obs.blocks(self.batch_size)
        order = torch.randperm(self.obs.n_items, generator=self.generator)
        return (self.obs.select(index) for index in order.split(self.batch_size))

    # --- records ---------------------------------------------------------------------------------------------------

    def _prior(self) -> float:
        with torch.no_grad():
            return float(self.model.log_prior())

    @torch.no_grad()
    def _q(self, here: Sweep) -> float:
        """L with q held, under the parameters of the moment, from the statistics: no pass."""
        assert here.statistics is not None
        return float(self.model.expected_log_joint(here.statistics) + here.statistics.tensor("entropy"))

    @torch.no_grad()
    def _falls(self, here: Sweep, before: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """How much each part of L fell in an M step, by component: Θ goes back for a moment to where it was `before`."""
        assert here.statistics is not None
        after = [t.clone() for t in self._theta]
        now = self.model.expected_log_joint_parts(here.statistics)
        for t, old in zip(self._theta, before, strict=True):
            t.copy_(old)
        then = self.model.expected_log_joint_parts(here.statistics)
        for t, new in zip(self._theta, after, strict=True):
            t.copy_(new)
        return {part: then[part] - now[part] for part in now}

    def _record_e(self, here: Sweep, running: bool = False) -> None:
        bound, evidence, gap = (
            here.bound / here.weight,
            known(here.evidence / here.weight),
            known(here.gap / here.weight),
        )
        previous = self.trace[-1] if self.trace and not self.trace[-1].running else None
        if previous is not None:  # the record after M: what is known of its parameters only now
            previous.evidence = evidence
            if previous.bound is None and self.algorithm.e_step.learned:
                previous.bound, previous.objective = bound, bound + self._prior() / self.total_weight
            previous.gap = None if previous.bound is None or evidence is None else evidence - previous.bound
        other = None if here.trained is None or here.trained == here.bound else here.trained / here.weight
        used = self.m_run.latents_in_use(self.obs) if isinstance(self.m_run, SampledSteps) else {}
        self._append("E", bound, evidence, gap, running=running, repairs=here.repairs, trained=other, **used)
        if previous is not None and self.algorithm.e_step.rises:
            require_risen(
                self.algorithm.name, previous, self.trace[-1], self.total_weight, self.model.rounding * here.scale
            )

    def _record_m(self, here: Sweep, done: Step, before: list[torch.Tensor]) -> None:
        complete = here.statistics is not None and self._sufficient
        bound: float | None = None
        if done.reached is not None:  # a line search has re-run E: L of its own last q
            bound = done.reached.bound / done.reached.weight
        elif complete:
            bound = self._q(here) / here.weight
        previous = self.trace[-1]
        self._append("M", bound, None, None, repairs=done.repairs)
        if before:
            require_risen(
                self.algorithm.name,
                previous,
                self.trace[-1],
                self.total_weight,
                self.model.rounding * here.scale,
                lambda: self._falls(here, before),
            )
        elif self.inexact and self.algorithm.m_step.needs_closed_form:
            self._note_fall(previous, self.model.rounding * here.scale)

    def _note_fall(self, previous: Record, rounding: float) -> None:
        """Where the closed form is not the maximum, a fall of L is no broken promise: it is recorded."""
        if fallen(previous, self.trace[-1], self.total_weight) > rounding:
            self.trace[-1].repairs += (f"L fell at the M step: {self.inexact}",)

    def _append(
        self,
        after: str,
        bound: float | None,
        evidence: float | None,
        gap: float | None,
        running: bool = False,
        repairs: tuple[str, ...] = (),
        **more: Any,
    ) -> None:
        objective = None if bound is None else bound + self._prior() / self.total_weight
        record = Record(
            self.iteration + 1,
            after,
            self.passes,
            bound,
            evidence,
            gap,
            objective,
            self._clock(),
            running,
            repairs,
            **more,
        )
        self.trace.append(record)
        for callback in self.callbacks:
            self.asked_to_stop |= callback(record) is True

    # --- stopping --------------------------------------------------------------------------------------------------

    def _out_of_budget(self) -> bool:
        if self.iteration >= self.limits.max_iter:
            self.reason = "max_iter"
        elif self.asked_to_stop:
            self.reason = "callback"
        elif self.limits.max_seconds is not None and self._clock() >= self.limits.max_seconds:
            self.reason = "time"
        else:
            return False
        return True

    def _arrived(self) -> bool:
        if self._stationary:
            self.reason = "stationary"
        elif flat(self.trace, self.limits.window, self.limits.tol):
            self.reason = "relative change"
        else:
            return False
        return True

    # --- parts of a run, and its state -----------------------------------------------------------------------------

    def _recognition_parameters(self) -> list[nn.Parameter]:
        return [] if self.recognition is None else list(self.recognition.parameters())

    def _start_m(self) -> MStepRun:
        m, e = self.algorithm.m_step, self.algorithm.e_step
        keep = isinstance(m, Gradient) and m.closed_form
        moved = [p for part in self.model.parts() if not (keep and part.closed_form) for p in part.parameters]
        moved = moved + self._recognition_parameters()
        if isinstance(e, Amortized) and isinstance(m, Gradient) and not self.model.latents()[0].exact_posterior:
            steps = self.limits.max_iter * -(-self.obs.n_items // (self.batch_size or self.obs.n_items))
            if e.warm_up and e.warm_up >= steps:
                raise InputError(
                    f"VAE: warm_up must end before the fit does, got {e.warm_up} of {steps} steps: what is climbed would never "
                    "be L. Lower warm_up, or raise max_iter."
                )
            return SampledSteps(self.model, e, m, moved, self.obs)
        run = m.start(self.model, moved, self.total_weight, self.limits.max_iter)
        run.backward = self.backward
        return run

    def _start_psi(self) -> Adam | None:
        """In amortised variational EM the E step has gradient steps of its own."""
        alone = self.algorithm.e_step.learned and not isinstance(self.algorithm.m_step, Gradient)
        return Adam(ADAM_LR) if alone else None

    def _climb_psi(self) -> None:
        assert self.psi is not None
        moved = self._recognition_parameters()
        write(self.psi.step(flat_vector(moved), flat_gradient(moved)), moved)

    def _snapshot(self) -> dict[str, Any]:
        """What a resumed climb goes back to; parameters and optimisers stand where the last M step left them."""
        return {
            "iteration": self.iteration,
            "passes": self.passes,
            "seconds": self._clock(),
            "trace": len(self.trace),
            "generator": None if self.generator is None else self.generator.get_state(),
            "reached": self._reached,
        }

    def restore(self, state: dict[str, Any], trace: list[Record], tensors: dict[str, dict[str, torch.Tensor]]) -> None:
        """Stand where a checkpoint stood: after an M step, the model's parameters being there already."""
        self.iteration, self.passes, self.seconds = state["iteration"], state["passes"], state["seconds"]
        self.trace = trace
        self.m_run.restore(tensors["m_step"])
        if self.psi is not None:
            self.psi.restore(tensors["psi"])
        if self.generator is not None and "state" in tensors["generator"]:
            self.generator.set_state(tensors["generator"]["state"])
        if state["reached"]:
            self._reached = self._again()  # at the same parameters, so the same bits; that pass is counted already

    def stand_where(self, other: Climb) -> None:
        """Be where a climb of a copy of the model has ended, so that `resume` goes on from there."""
        self._state, self.seconds = other._state, other.seconds

    def checkpoint(self) -> tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
        """What `restore` needs after an M step: plain values, and tensors by owner."""
        state = {"iteration": self.iteration, "passes": self.passes, "seconds": self._clock()}
        generator = {} if self.generator is None else {"state": self.generator.get_state()}
        psi = {} if self.psi is None else self.psi.state()
        tensors = {"m_step": self.m_run.state(), "psi": psi, "generator": generator}
        return {**state, "reached": self._reached is not None}, tensors

    @property
    def recognition(self) -> nn.Module | None:
        """The network of an amortised E step."""
        e = self.algorithm.e_step
        return e.recognition if isinstance(e, Amortized) else None

    def _keep(self, here: Sweep) -> None:
        """The E step that a stop came after is made already: a resumed climb goes on from it, not with another one."""
        if not self.backward and self._state is not None:
            self._state |= {"reached": here, "passes": self.passes}

    def resume(self, limits: Limits, callbacks: Sequence[Callable[[Record], Any]] = ()) -> None:
        """Go on after the last M step as if there had been no stop; what is new are the limits and the callbacks."""
        state = self._state
        assert state is not None
        self.asked_to_stop = self._stationary = False
        self.limits, self.callbacks = limits, callbacks
        if limits.max_seconds is not None:
            self.limits = replace(limits, max_seconds=limits.max_seconds + state["seconds"])
        del self.trace[state["trace"] :]
        self.iteration, self.passes, self.seconds = state["iteration"], state["passes"], state["seconds"]
        if self.generator is not None:
            self.generator.set_state(state["generator"])
        self._reached, self.reason, self.resumed_at = state["reached"], "max_iter", self.seconds
        self.run()


def known(value: float) -> float | None:
    """None for NaN: what nothing has evaluated."""
    return None if math.isnan(value) else value


def _with_recognition(
    algorithm: Algorithm, model: Model, obs: Observations, generator: torch.Generator | None
) -> Algorithm:
    e = algorithm.e_step
    if not isinstance(e, Amortized) or e.recognition is not None:
        return algorithm
    filled = copy.copy(e)
    filled.recognition = recognition_for(model, obs, generator=generator)
    return replace(algorithm, e_step=filled)


def climb_together(climbs: Sequence[Climb]) -> None:
    """Run climbs by exact E and closed-form M steps on the same data side by side: each pass reads them once for all."""
    obs = climbs[0].obs
    with threads_for(obs.n_rows, climbs[0].model.block_rows):
        driven = [(climb, climb.steps()) for climb in climbs]
        waiting = [(climb, steps, next(steps)) for climb, steps in driven]
        while waiting:
            found = exact_sweeps(
                [c.model for c, _, _ in waiting], obs, statistics=[collect for _, _, collect in waiting]
            )
            following = []
            for (climb, steps, _), here in zip(waiting, found, strict=True):
                with contextlib.suppress(StopIteration):
                    following.append((climb, steps, steps.send(here)))
            waiting = following
            if any(climb.asked_to_stop for climb in climbs):
                for climb in climbs:
                    climb.asked_to_stop = True
