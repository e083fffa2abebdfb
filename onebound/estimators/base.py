"""What every mixture estimator shares: scikit-learn's contract around `onebound.fit`. Validation and NumPy live here."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from onebound.algorithms import EG, EM, VAE, Algorithm, Fit, Online, OnlineEM, fit
from onebound.algorithms.stepwise import StepwiseRun
from onebound.algorithms.sweep import threads_for
from onebound.bound import mean_bound
from onebound.emissions import Emission
from onebound.estimators import checks, starts
from onebound.estimators.fitted import FittedMixture, seeded
from onebound.estimators.stopping import LastTwo, Progress
from onebound.models import Mixture
from onebound.observations import Observations

# With gradients by L-BFGS an iteration is a step that cannot lower L, so `tol` and `max_iter` mean what they mean for EM.
ALGORITHMS: dict[str, Callable[[], Algorithm]] = {
    "em": EM,
    "eg": EG,
    "vae": lambda: VAE(optimizer="lbfgs"),
    "online": OnlineEM,
}
SEEDED = ("vae", "online")  # These draw numbers of their own.


@dataclass(frozen=True)
class Table:
    """The training data: X and weights as they were checked, and both as Observations."""

    X: np.ndarray
    weights: np.ndarray | None
    obs: Observations


@dataclass(frozen=True)
class Climbed:
    """One climb, and the rule that ended it."""

    fit: Fit
    rule: LastTwo

    def objective(self) -> float:
        """Of the parameters that were reached, nats per row."""
        return self.fit.objective


class MixtureEstimator(FittedMixture, ABC):
    """A mixture with scikit-learn's habits. Subclasses say which emission, and how its parameters are shown.

    Shared parameters: `n_components`; `tol` (stop when L, in nats per row, changes by less between the last two E steps),
    `max_iter` (M steps), `n_init` (starts, best kept), `init_params` ("kmeans", "k-means++", "random",
    "random_from_data"), `random_state`, `warm_start`, `verbose`, `verbose_interval`; `missing`: "error", or "marginalize",
    which integrates NaN cells out exactly; `algorithm`: "em", "eg" (gradients), "vae" (a recognition network) or
    "online" (online EM: `max_iter` and `n_iter_` count passes, and `fit` takes an iterator of batches too).

    Shared attributes: `weights_` (K,); `converged_`, `n_iter_`; `lower_bound_`, L of the returned parameters in nats per
    row; `lower_bounds_[i]`, L after i + 1 M steps; `bound_`, an `onebound.Bound` of the training data, summed up in one row;
    `restarts_`, the final objective of every start; `repairs_`, what was mended on the way; `model_`, the fitted
    `onebound.models.Mixture`, for `onebound.save` and everything else; `n_features_in_`, `feature_names_in_`.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [StrOptions(starts.WAYS)],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
        "missing": [StrOptions({"error", "marginalize"})],
        "algorithm": [StrOptions(set(ALGORITHMS))],
    }

    _online: Online | None = None  # what `partial_fit` goes on from

    # --- what a subclass says --------------------------------------------------------------------------------------

    @abstractmethod
    def _emission(self, X: np.ndarray) -> Emission:
        """The emission for data like X."""

    @abstractmethod
    def _publish(self, emission: Any, dtype: Any) -> None:
        """Set the attributes that show the emission's parameters, in the data's float type."""

    def _begin(self, model: Mixture, data: Table, rng: np.random.RandomState) -> None:
        """Write starting parameters: components share the items out, and none is left without a share of any of them."""
        model.prepare(data.obs.columns)
        points = model.emission.coordinates(data.obs.y).numpy()
        way = self.init_params
        if way in starts.SHARING:
            begun = starts.SHARING[way](points, self.n_components, rng, data.weights)
        else:
            begun = starts.nearest(points, starts.NAMING[way](points, self.n_components, rng, data.weights))
        model.initialize(data.obs, how=torch.from_numpy(starts.smoothed(begun, self.n_components)))

    # --- fitting ---------------------------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Climb L on X (N, D), rows counted `sample_weight` times (N,); y is ignored. Returns self.

        Raises ValueError for data that cannot be fitted; warns (ConvergenceWarning) where max_iter came first. With
        algorithm="online" X may be an iterator of batches (n, D), each seen once, as by `partial_fit`.
        """
        if isinstance(X, Iterator):
            return self._fit_batches(X, sample_weight)
        self._fit(X, sample_weight)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn from a batch of rows (n, D) by online EM, whatever `algorithm` is; y is ignored. Returns self.

        It goes on from the batches before, or from a fit with algorithm="online"; else it begins anew, and this batch should
        be large enough to show every component. `n_iter_` counts batches; `lower_bounds_` has L of each before anything was
        learnt from it; `lower_bound_` and `bound_` are those of the last one after.
        """
        self._learn(X, sample_weight)
        return self

    def _fit_batches(self, batches: Iterator[Any], sample_weight: Any) -> Self:
        name = type(self).__name__
        if self.algorithm != "online" or sample_weight is not None:
            raise ValueError(
                f'{name}: an iterator of batches needs algorithm="online" and no sample_weight, got algorithm='
                f"{self.algorithm!r}. Weights of a batch go with partial_fit(batch, sample_weight=w)."
            )
        self._online = None
        for batch in batches:
            self._learn(batch, None)
        if self._online is None:
            raise ValueError(f"{name}: expected at least one batch of rows, got an iterator that has none left.")
        return self

    def _learn(self, X: Any, sample_weight: Any) -> None:
        """Online EM on one batch."""
        online = self._online
        X = checks.table(self, X, reset=online is None)
        weights = checks.item_weights(sample_weight, X)
        if online is None:
            checks.enough_rows(X, self.n_components)
            model = Mixture(self._emission(X))
            data = Table(X, weights, self._observe(model, X, weights))
            self._begin(model, data, check_random_state(self.random_state))
            online = Online(model)
        model = cast(Mixture, online.model)
        obs = self._observe(model, X, weights)
        online.update(obs)
        self._online = online
        self.n_iter_, self.converged_, self._last_e = online.batches, False, -math.inf
        self.repairs_ = [f"{text} (batch {r.iteration})" for r in online.trace for text in r.repairs]
        self._show(model, obs, X.dtype)
        self.lower_bounds_ = [record.bound for record in online.trace if record.after == "E"]
        self.lower_bound_ = float(self.bound_.value)
        self.restarts_ = [self.lower_bound_]

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """`fit`, and the most probable component of every row.  (N,) int64"""
        return self._labels(self._fit(X, sample_weight).obs)

    def _fit(self, X: Any, sample_weight: Any) -> Table:
        X = checks.table(self, X, reset=True)
        checks.enough_rows(X, self.n_components)
        weights = checks.item_weights(sample_weight, X)
        model = Mixture(self._emission(X))
        again = self._continue(model)
        with threads_for(len(X), model.block_rows):
            data = Table(X, weights, self._observe(model, X, weights))
            self._keep(self._best_climb(model, data, again), data)
        return data

    def _continue(self, model: Mixture) -> bool:
        """Warm start: take over the last fit's parameters, where they belong to a model of this form."""
        if not (self.warm_start and hasattr(self, "converged_")):
            return False
        old, new = self.model_.state_dict(), model.state_dict()
        if {k: v.shape for k, v in old.items()} != {k: v.shape for k, v in new.items()}:
            return False
        model.load_state_dict(old)
        return True

    def _best_climb(self, model: Mixture, data: Table, again: bool) -> Climbed:
        rng = check_random_state(self.random_state)
        climbs: list[Climbed] = []
        reached: list[dict[str, torch.Tensor]] = []
        for start in range(1 if again else self.n_init):
            climbs.append(self._climb(start, model, data, rng, again))
            reached.append({k: v.clone() for k, v in model.state_dict().items()})
        self.restarts_ = [climb.objective() for climb in climbs]
        best = int(np.argmax(self.restarts_))
        model.load_state_dict(reached[best])
        return climbs[best]

    def _climb(self, start: int, model: Mixture, data: Table, rng: np.random.RandomState, again: bool) -> Climbed:
        progress = Progress(self.verbose, self.verbose_interval)
        progress.begin(start)
        if not again:
            self._begin(model, data, rng)
        rule = LastTwo(self.tol, self._last_e if again else -math.inf, progress)
        # Only an algorithm that needs a seed draws one: the starts' own numbers must stay those of scikit-learn.
        generator = seeded(rng) if self.algorithm in SEEDED else None
        result = fit(
            model,
            data.obs,
            ALGORITHMS[self.algorithm](),
            max_iter=self.max_iter,
            tol=0.0,
            generator=generator,
            callbacks=[rule],
        )
        progress.end(result.bound, rule.converged)
        return Climbed(result, rule)

    def _keep(self, climbed: Climbed, data: Table) -> None:
        """Set the attributes of the best climb."""
        result = climbed.fit
        bounds = [record.bound for record in result.trace if record.after == "E"]
        self.n_iter_, self.converged_ = len(bounds) - 1, climbed.rule.converged
        if not self.converged_ and self.max_iter > 0:
            warnings.warn(
                "Best performing initialization did not converge. Try different init parameters, or increase max_iter, "
                "tol, or check for degenerate data.",
                ConvergenceWarning,
                stacklevel=4,
            )
        self.lower_bound_, self.lower_bounds_ = result.bound, bounds[1:]
        self.repairs_ = result.repairs
        self._last_e = climbed.rule.last
        self._show(cast(Mixture, result.model), data.obs, data.X.dtype, result.recognition)
        self._online = self._going_on(result)

    def _show(self, model: Mixture, obs: Observations, dtype: Any, recognition: Any = None) -> None:
        """Set the attributes that show the parameters, and their L of `obs`."""
        self.model_ = model
        self.bound_ = mean_bound(model, obs, recognition)
        self.weights_ = model.weights.numpy().astype(dtype)
        self._publish(model.emission, dtype)

    def _going_on(self, result: Fit) -> Online | None:
        """What `partial_fit` goes on from: the decaying sum of an online fit."""
        if result.climb is None or not isinstance(result.climb.m_run, StepwiseRun):
            return None
        online = Online(result.model)
        online.run, online.n_items = result.climb.m_run, result.n_items
        online.run.total_weight = math.inf  # more is to come
        return online
