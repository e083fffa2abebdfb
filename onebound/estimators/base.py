"""What every mixture estimator shares: scikit-learn's contract around `onebound.fit`. Validation and NumPy live here."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from sklearn.base import BaseEstimator, DensityMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from onebound.algorithms import EG, EM, VAE, Algorithm, Fit, fit
from onebound.algorithms.choose import Criteria
from onebound.algorithms.climb import threads_for
from onebound.bound import Bound, bound
from onebound.emissions import Emission
from onebound.estimators import checks, starts
from onebound.estimators.stopping import LastTwo, Progress
from onebound.models import Mixture
from onebound.observations import Columns, Observations, weighted_total
from onebound.structures.base import Structure

# With gradients by L-BFGS an iteration is a step that cannot lower L, so `tol` and `max_iter` mean what they mean for EM.
ALGORITHMS: dict[str, Callable[[], Algorithm]] = {"em": EM, "eg": EG, "vae": lambda: VAE(optimizer="lbfgs")}


READINGS = ("expected_log_joint", "entropy", "evidence", "gap")


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


class MixtureEstimator(DensityMixin, BaseEstimator, ABC):
    """A mixture with scikit-learn's habits. Subclasses say which emission, and how its parameters are shown.

    Shared parameters: `n_components`; `tol` (stop when L, in nats per row, changes by less between the last two E steps),
    `max_iter` (M steps), `n_init` (starts, best kept), `init_params` ("kmeans", "k-means++", "random",
    "random_from_data"), `random_state`, `warm_start`, `verbose`, `verbose_interval`; `missing`: "error", or "marginalize",
    which integrates NaN cells out exactly; `algorithm`: "em", "eg" (gradients) or "vae" (a recognition network).

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

    # --- what a subclass says --------------------------------------------------------------------------------------

    @abstractmethod
    def _emission(self, X: np.ndarray) -> Emission:
        """The emission for data like X."""

    @abstractmethod
    def _publish(self, emission: Any, dtype: Any) -> None:
        """Set the attributes that show the emission's parameters, in the data's float type."""

    def _coded(self, X: np.ndarray) -> np.ndarray:
        """X as the emission takes it."""
        return X

    def _begin(self, model: Mixture, data: Table, rng: np.random.RandomState) -> None:
        """Write starting parameters: components share the items out, and none is left without a share of any of them."""
        model.prepare(Columns.of(data.obs, model.block_rows))
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

        Raises ValueError for data that cannot be fitted; warns (ConvergenceWarning) where max_iter came first.
        """
        self._fit(X, sample_weight)
        return self

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
        generator = seeded(rng) if self.algorithm == "vae" else None
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
        self.model_ = cast(Mixture, result.model)
        self.bound_ = bound_of_all(self.model_, data.obs, result.recognition)
        self.weights_ = self.model_.weights.numpy().astype(data.X.dtype)
        self._last_e = climbed.rule.last
        self._publish(self.model_.emission, data.X.dtype)

    # --- what a fitted mixture says ----------------------------------------------------------------------------------

    def predict(self, X: Any) -> np.ndarray:
        """The most probable component of every row.  (N,) int64"""
        return self._labels(self._seen(X)[1])

    def predict_proba(self, X: Any) -> np.ndarray:
        """The components' posterior probabilities.  (N, K)"""
        X, obs = self._seen(X)
        return self._each(obs, lambda posterior: posterior.marginals).astype(X.dtype)

    def score_samples(self, X: Any) -> np.ndarray:
        """ln p of every row, nats.  (N,)"""
        X, obs = self._seen(X)
        return self._each(obs, lambda posterior: posterior.log_partition).astype(X.dtype)

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of ln p over rows, nats."""
        return float(np.mean(self.score_samples(X)))

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Draws in the order of their components: rows (n, D) and components (n,)."""
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"Invalid value for 'n_samples': {n_samples}. The sampling requires at least one sample.")
        rng = check_random_state(self.random_state)
        counts = rng.multinomial(n_samples, self.model_.weights.numpy())
        z = np.repeat(np.arange(self.n_components), counts)
        return self.model_.emission.sample(torch.from_numpy(z), seeded(rng)).numpy(), z

    def aic(self, X: Any) -> float:
        """Akaike's criterion, −2 Σ ln p + 2 × parameters: lower is better."""
        return self._criteria(X).aic

    def bic(self, X: Any) -> float:
        """The Bayesian information criterion, −2 Σ ln p + parameters × ln N: lower is better."""
        return self._criteria(X).bic

    def icl(self, X: Any) -> float:
        """The integrated completed likelihood, BIC + 2 Σ H(q): BIC that also asks for clear-cut components."""
        return self._criteria(X).icl

    def _criteria(self, X: Any) -> Criteria:
        obs = self._seen(X)[1]
        each = self._each(obs, lambda posterior: torch.stack([posterior.log_partition, posterior.entropy], -1))
        log_evidence, entropy = each.sum(0).tolist()
        return Criteria.of(self._n_parameters(), log_evidence, entropy, float(obs.n_items))

    # --- the way in --------------------------------------------------------------------------------------------------

    def _n_parameters(self) -> int:
        return self.model_.n_parameters()

    def _observe(self, model: Mixture, X: np.ndarray, weights: np.ndarray | None = None) -> Observations:
        """X as Observations that the model has checked."""
        names = [str(name) for name in self.feature_names_in_] if hasattr(self, "feature_names_in_") else None
        return model.observe(Observations.of(self._coded(X), weights=weights, names=names))

    def _seen(self, X: Any) -> tuple[np.ndarray, Observations]:
        check_is_fitted(self)
        X = checks.table(self, X, reset=False)
        return X, self._observe(self.model_, X)

    @torch.no_grad()
    def _each(self, obs: Observations, read: Callable[[Structure], torch.Tensor]) -> np.ndarray:
        """What `read` finds in the posterior of every row, block by block."""
        rows = self.model_.block_rows
        with threads_for(obs.n_items, rows):
            return np.concatenate([read(self.model_.posterior(block)).numpy() for block in obs.blocks(rows)])

    def _labels(self, obs: Observations) -> np.ndarray:
        return self._each(obs, lambda posterior: posterior.argmax)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "marginalize"
        return tags


def seeded(rng: np.random.RandomState) -> torch.Generator:
    """A generator of torch's that begins where NumPy's says."""
    return torch.Generator().manual_seed(int(rng.randint(2**31 - 1)))


def bound_of_all(model: Mixture, obs: Observations, q: Any = None) -> Bound:
    """L of all items in both readings, as one row of weighted means: no (N,) array is kept."""
    sums, weight = dict.fromkeys(READINGS, 0.0), 0.0
    for block in obs.blocks(model.block_rows):
        here, n = bound(model, block, q), block.total_weight
        weight += n
        for name in READINGS:
            sums[name] += float(weighted_total(here.weights, getattr(here, name)))
    joint, entropy, evidence, gap = (torch.tensor([total / weight], dtype=torch.float64) for total in sums.values())
    return Bound(joint, entropy, evidence, gap, torch.tensor([weight], dtype=torch.float64), n_items=obs.n_items)
