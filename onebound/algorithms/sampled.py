"""Steps on models whose z is sampled from a recognition network: equation (3), in mini-batches, nothing read back inside.

Nothing in a step waits for the device: sums stay there until the next record, at the end of a pass or every so many steps. If
they are not finite then, those steps are made again from where they began, with a look at every term, so that the error can
name the site.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from onebound.algorithms.e_step import Amortized, Exact
from onebound.algorithms.latent_use import latent_use
from onebound.algorithms.m_step import Gradient, MStepRun, Step
from onebound.algorithms.sweep import Sweep
from onebound.algorithms.sweep import sweep as sweep_over
from onebound.bound import log_weights
from onebound.errors import InputError, NonFinite, Unsupported
from onebound.observations import Observations
from onebound.statistics import Statistics

# Of networks in single precision, in the last third of the passes decaying to 1 % (as for all of ours).
NETWORK_LR = 1e-3
# Items of which every record says how they use z.
LOOKED_AT = 500
# A prior without parameters: after how much of the climb it is fitted, on how many items, from how many starts.
PRIOR_AFTER, PRIOR_ITEMS, PRIOR_STARTS = 0.25, 20_000, 5


class SampledSteps(MStepRun):
    """The gradient steps of one climb: Ψ and Θ together, by Adam (fused) or the user's own optimiser."""

    backward = True

    def __init__(
        self,
        model: Any,
        e_step: Amortized,
        spec: Gradient,
        parameters: list[nn.Parameter],
        obs: Observations,
    ) -> None:
        if spec.line_search:
            raise InputError("VAE: a line search needs an exact L, and here L is sampled. Use optimizer='adam'.")
        self.model, self.e_step, self.spec = model, e_step, spec
        self.parameters = list(dict.fromkeys(parameters))
        _require_rows_for_the_prior(model, obs)
        self.per_item = obs.total_weight / obs.n_items
        self.plain = bool((obs.weights == 1).all())
        self.gaps = obs.has_gaps
        self.t = 0
        self.order: Tensor | None = None  # of the items in a pass that is under way, of which `at` are done
        self.at = 0
        self.prior_alone = spec.closed_form and any(p.name == "prior" and p.closed_form for p in model.parts())
        self.expected: Statistics | None = None  # of the prior, on draws of this pass
        own = None if isinstance(spec.optimizer, str) else spec.optimizer(self.parameters)
        self.optimizer = Moments(self.parameters) if own is None else own

    def operations(self, size: int) -> int:
        """About how many multiplications a step on `size` items takes: three for each parameter, item and draw."""
        return 3 * size * self.e_step.samples * sum(p.numel() for p in self.parameters)

    # --- a pass ------------------------------------------------------------------------------------------------------

    def step(self, sweep: Sweep, again: Callable[[], Sweep], iteration: int) -> Step:
        """Not how these steps are made: see `pass_over`."""
        raise AssertionError("sampled steps come in passes")

    def pass_over(self, obs: Observations, size: int, generator: torch.Generator | None, progress: float) -> Sweep:
        """Gradient steps in mini-batches, in random order, on all items or up to the next record; the running mean of L.

        `progress`: how much of the climb's budget is spent, 0 … 1; in the last third the step size decays.
        """
        self.model.eval()
        repairs = self._start_prior(obs, generator) if progress >= PRIOR_AFTER else ()
        self.model.train()
        self.expected = None
        before = self._snapshot(generator)
        rate = (self.spec.lr or NETWORK_LR) * min(1.0, max(3 - 3 * progress, 0.01))
        total, trained, weight = self._steps(obs, size, generator, rate)
        self.model.eval()  # outside of steps no item depends on its company (batch normalisation, dropout)
        found = Sweep(weight, float(total), float("nan"), float("nan"), trained=float(trained))
        if not (found.bound - found.bound == 0 and self._finite()):
            self._explain(before, obs, size, generator, rate)
        if self.expected is not None:
            repairs += tuple(f"prior: {text}" for text in self.model.prior.maximize(self.expected))
        found.repairs = repairs
        return found

    def _start_prior(self, obs: Observations, generator: torch.Generator | None) -> tuple[str, ...]:
        """Fit a prior without parameters by EM on a draw of q for each of the first rows, from several starts."""
        model = self.model
        if model.prior_started:
            return ()
        from onebound.algorithms.fit import fit  # The loop stands above its steps.

        few = self._augmented(obs.head(PRIOR_ITEMS), generator)
        with torch.no_grad():
            z = torch.cat([self.e_step.recognition(b).sample(1, generator) for b in few.blocks(model.block_rows)], 1)  # type: ignore[misc]
        drawn = model.drawn(few, z, few.weights.unsqueeze(0))
        fit(model.prior, drawn, max_iter=100, restarts=PRIOR_STARTS, init=None, generator=generator)
        model.prior_started = True
        return ("prior: N(0, 1) until here, then fitted on draws of q, and trained from there",)

    @torch.no_grad()
    def _collect(self, obs: Observations, z: Tensor, shares: Tensor | None) -> None:
        """Add the prior's expected statistics on these draws, each with its share of its item's weight."""
        weights = obs.weights / len(z) if shares is None else obs.weights * shares
        drawn = self.model.drawn(obs, z.detach(), weights.expand(len(z), -1))
        found = sweep_over(self.model.prior, drawn, Exact(), None, statistics=True, backward=False).statistics
        self.expected = found if self.expected is None or found is None else self.expected + found

    def _steps(
        self, obs: Observations, size: int, generator: torch.Generator | None, rate: float, watch: bool = False
    ) -> tuple[Tensor, Tensor, float]:
        total = trained = torch.zeros((), dtype=torch.float64, device=obs.y.device)
        weight = 0.0
        for batch in self.batches(obs, size, generator):
            bound, objective = self.surrogate(batch, generator, watch)
            w = None if self.plain else batch.weights
            loss = -(objective if w is None else objective * w).sum() / (self.per_item * batch.n_items)
            loss.backward()
            if watch:
                self._watch_gradients()
            self._update(rate)
            total = total + _sum(bound, w)
            trained = total if objective is bound else trained + _sum(objective, w)
            weight += batch.n_items if w is None else float(w.sum())
        return total, trained, weight

    def batches(self, obs: Observations, size: int, generator: torch.Generator | None) -> Iterator[Observations]:
        """All items, shuffled, `size` at a time, transformed where the E step says so; up to the next record."""
        if self.order is None:
            self.order = torch.randperm(obs.n_items, generator=generator)
        left = self.order[self.at :]
        for index in left.split(size)[: self.spec.record_every]:
            self.at += len(index)
            batch = self._select(obs, index)
            yield self._augmented(batch, generator)
        if self.at == obs.n_items:
            self.order, self.at = None, 0

    @property
    def share(self) -> float:
        """How much of the pass is done."""
        return 1.0 if self.order is None else self.at / len(self.order)

    def _select(self, obs: Observations, index: Tensor) -> Observations:
        if obs.lengths is not None:
            return obs.select(index)
        context = None if obs.context is None else obs.context[index]
        batch = Observations(
            obs.y[index], obs.weights[index], context=context, names=obs.names, checked_by=obs.checked_by
        )
        batch.__dict__["has_gaps"] = self.gaps  # known of the whole: not looked for in every step
        return batch

    def _augmented(self, batch: Observations, generator: torch.Generator | None) -> Observations:
        if self.e_step.augment is None:
            return batch
        changed = replace(batch, y=self.e_step.augment(batch.y, generator))
        changed.__dict__["has_gaps"] = self.gaps
        return changed

    def surrogate(
        self, obs: Observations, generator: torch.Generator | None, watch: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The estimate of L of every item, and what is climbed: the same, or with β < 1, or IWAE-K.   Equation (3).  (N,)"""
        with self._autocast(obs):
            return self._estimates(obs, generator, watch)

    def _estimates(self, obs: Observations, generator: torch.Generator | None, watch: bool) -> tuple[Tensor, Tensor]:
        q = self.e_step.recognition(obs)  # type: ignore[misc]
        z = q.sample(self.e_step.samples, generator)
        if watch:
            _watch({"q's mean": q.mean, "q's variance": q.variance})
        if self.e_step.estimator == "importance":
            log_w = log_weights(self.model, obs, q, z, held=True)
            if self.prior_alone and self.model.prior_started:
                self._collect(obs, z, log_w.detach().softmax(0))
            return importance_weighted(obs, z, log_w)
        if self.prior_alone and self.model.prior_started:
            self._collect(obs, z, None)
        parts = self.model.sampled_parts(obs, q, z)
        if watch:
            _watch(parts)
        fit, *rest = parts.values()
        others = sum(rest[1:], start=rest[0])
        bound = fit + others
        beta = self._beta()
        return bound, bound if beta == 1 else fit + beta * others

    def _autocast(self, obs: Observations) -> contextlib.AbstractContextManager[Any]:
        if not self.e_step.autocast:
            return contextlib.nullcontext()
        return torch.autocast(obs.y.device.type, torch.bfloat16)

    def _beta(self) -> float:
        """The weight of everything but ln p(y | z): it rises to 1 in `warm_up` steps."""
        return 1.0 if self.t >= self.e_step.warm_up else (self.t + 1) / (self.e_step.warm_up + 1)

    def _update(self, rate: float) -> None:
        self.t += 1
        if isinstance(self.optimizer, Moments):
            self.optimizer.step(rate)
            return
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def sweep(self, obs: Observations, rows: int, generator: torch.Generator | None) -> Sweep:
        """L of all items by sampling, at the parameters of the moment; ln p(y) is not known."""
        self.model.eval()
        repairs = self._start_prior(obs, generator)  # the climb has ended before it came to that
        total = torch.zeros((), dtype=torch.float64, device=obs.y.device)
        for block in obs.blocks(rows):
            here = self._augmented(block, generator)
            q = self.e_step.recognition(here)  # type: ignore[misc]
            parts = self.model.sampled_parts(here, q, q.sample(self.e_step.samples, generator))
            total = total + _sum(sum(parts.values()), here.weights)
        return Sweep(obs.total_weight, float(total), float("nan"), float("nan"), repairs=repairs)

    def latents_in_use(self, obs: Observations) -> dict[str, Any]:
        """What a record says of z: active units and KL, on the first items."""
        first = self._augmented(obs.head(LOOKED_AT), torch.Generator(obs.y.device).manual_seed(0))
        use = latent_use(self.model, first)
        return {"active_units": use.active, "kl": float(use.kl.sum())}

    # --- what went wrong ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _finite(self) -> bool:
        return all(bool(p.isfinite().all()) for p in self.parameters)

    def _explain(
        self,
        before: dict[str, Any],
        obs: Observations,
        size: int,
        generator: torch.Generator | None,
        rate: float,
    ) -> None:
        """Go through the pass again with open eyes, put the last good state back, and raise."""
        self._restore(before, generator)
        first = self.t - self.at // size
        try:
            self._steps(obs, size, generator, rate, watch=True)
            site, number = "a parameter after the last step", self.t - first
        except NonFinite as error:
            site, number = str(error), self.t - first + 1
        self._restore(before, generator)
        since = "from before that pass" if self.spec.record_every is None else "of the last record"
        raise NonFinite(
            f"VAE: expected finite numbers, got {site} in step {number} of a pass; the parameters are those {since}. Lower lr, "
            "standardise the data, or look for huge values there."
        )

    def _watch_gradients(self) -> None:
        names = {id(p): name for name, p in self.model.named_parameters()}
        found = {f"the gradient of {names.get(id(p), 'the recognition network')}": p.grad for p in self.parameters}
        _watch({name: g for name, g in found.items() if g is not None})

    def _snapshot(self, generator: torch.Generator | None) -> dict[str, Any]:
        state = None if generator is None else generator.get_state()
        moments = self.optimizer.copy() if isinstance(self.optimizer, Moments) else None
        parameters = [p.detach().clone() for p in self.parameters]
        return {"p": parameters, "m": moments, "t": self.t, "g": state, "order": self.order, "at": self.at}

    @torch.no_grad()
    def _restore(self, before: dict[str, Any], generator: torch.Generator | None) -> None:
        for p, old in zip(self.parameters, before["p"], strict=True):
            p.copy_(old)
            p.grad = None
        self.t, self.order, self.at = before["t"], before["order"], before["at"]
        if isinstance(self.optimizer, Moments):
            self.optimizer.put(before["m"])
        if generator is not None:
            generator.set_state(before["g"])

    # --- the state ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Step count, moments and where in a pass, for a checkpoint."""
        if not isinstance(self.optimizer, Moments):
            raise Unsupported("Gradient: a torch optimizer of your own cannot be checkpointed. Use 'adam'.")
        under_way = {} if self.order is None else {"order": self.order, "at": torch.tensor(self.at)}
        return {"t": torch.tensor(self.t), **under_way, **self.optimizer.state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`."""
        self.t, self.order, self.at = int(state["t"]), state.get("order"), int(state.get("at", 0))
        assert isinstance(self.optimizer, Moments)
        self.optimizer.restore(state)


def _require_rows_for_the_prior(model: Any, obs: Observations) -> None:
    """A prior that is still to be fitted needs rows, and better now than after a quarter of the climb."""
    if model.prior_started:
        return
    emission = getattr(model.prior, "emission", None)
    least = max(2, getattr(emission, "n_components", 0), model.n_latent + 1)
    if obs.n_rows < least:
        raise InputError(
            f"VAE: a prior without parameters is fitted on draws, which takes at least {least} rows here, got {obs.n_rows}. "
            "Give it parameters (prior.assign), or fewer components."
        )


class Moments:
    """Adam's moments of parameters of one or more dtypes, updated by torch's fused kernel.

    Its function and not its class: the first torch.optim object of a process spends seconds on importing the compiler.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]
        self.steps = [torch.zeros((), dtype=torch.float32, device=p.device) for p in parameters]
        kinds = dict.fromkeys((p.dtype, p.device) for p in parameters)
        self.groups = [[i for i, p in enumerate(parameters) if (p.dtype, p.device) == kind] for kind in kinds]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step down the gradients, which are forgotten."""
        for group in self.groups:
            used = [i for i in group if self.parameters[i].grad is not None]
            if not used:
                continue
            lists: Iterable[list[Tensor]] = (
                [x[i] for i in used] for x in (self.parameters, self.first, self.second, self.steps)
            )
            p, first, second, steps = lists
            gradients = [q.grad for q in p]
            adam(
                p, gradients, first, second, [], steps,  # type: ignore[arg-type]
                fused=True, amsgrad=False, beta1=0.9, beta2=0.999, lr=rate, weight_decay=0.0, eps=1e-8, maximize=False,
            )  # fmt: skip
        for q in self.parameters:
            q.grad = None

    def copy(self) -> list[list[Tensor]]:
        """The moments and step counts as they are."""
        return [[t.clone() for t in x] for x in (self.first, self.second, self.steps)]

    def put(self, saved: list[list[Tensor]]) -> None:
        """Back to what `copy` gave."""
        self.first, self.second, self.steps = ([t.clone() for t in x] for x in saved)

    def state(self) -> dict[str, Tensor]:
        """By name, for a file."""
        parts = {"first": self.first, "second": self.second, "steps": self.steps}
        return {f"{i}.{name}": t for name, x in parts.items() for i, t in enumerate(x)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`."""
        n = len(self.parameters)
        self.first, self.second, self.steps = (
            [state[f"{i}.{name}"].clone() for i in range(n)] for name in ("first", "second", "steps")
        )


def importance_weighted(obs: Observations, z: Tensor, log_w: Tensor) -> tuple[Tensor, Tensor]:
    """L and ln (1/K) Σ_k p(z_k, y) / q(z_k) of every item; the gradient of the second in Ψ is doubly reparameterised.

    In Θ it is Σ w̃_k ∇ ln p, in Ψ Σ w̃_k² ∂ ln w_k / ∂z_k · ∂z_k / ∂Ψ, with q's own parameters held in `log_w` (K, N).
    Source: Tucker, Lawson, Gu & Maddison 2019, equation 8.
    """
    value = log_w.logsumexp(0) - math.log(len(z))
    if not z.requires_grad:
        return log_w.mean(0), value
    shares = log_w.detach().softmax(0)  # (K, N)
    of_rows = shares if obs.lengths is None else shares.repeat_interleave(obs.lengths, -1)
    z.register_hook(lambda g: g * of_rows.unsqueeze(-1).to(g.dtype))
    return log_w.mean(0), value.detach() + (shares * (log_w - log_w.detach())).sum(0)


def _sum(each: Tensor, weights: Tensor | None) -> Tensor:
    found = each.detach().to(torch.float64)
    return (found if weights is None else found * weights).sum()


def _watch(parts: dict[str, Tensor]) -> None:
    for name, value in parts.items():
        if not bool(value.isfinite().all()):
            raise NonFinite(f"{value[~value.isfinite()][0].item():g} in {name}")
