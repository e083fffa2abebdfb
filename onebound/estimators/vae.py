"""The VAE with scikit-learn's habits."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from onebound.algorithms import VAE as climb_vae
from onebound.algorithms import Record, fit, latent_use
from onebound.bound import Bound, bound
from onebound.emissions import Gaussian
from onebound.errors import InputError
from onebound.estimators import checks
from onebound.estimators.fitted import seeded
from onebound.models import DeepGaussian, Mixture
from onebound.observations import Observations

NAMES = ("gaussian", "network-gaussian", "bernoulli", "poisson", "negative-binomial")
# Rows of the training data for which `bound_` is estimated.
LOOKED_AT = 200


def _has_components(estimator: Any) -> bool:
    if estimator.prior_components is None:
        raise AttributeError("VAE.predict: there are no components under N(0, 1). Fit with prior_components=K.")
    return True


class VAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):
    """A variational autoencoder: `n_components` latent dimensions, networks with `hidden` layers (tanh) on either side.

    `likelihood`: "gaussian" (a learned variance for each column), "network-gaussian", "bernoulli", "poisson",
    "negative-binomial"; `prior_components`: None for N(0, 1), or K for a mixture of K Gaussians, summed exactly (GMM-VAE: then
    `predict` names the component); `max_iter` passes over the data (None: 100, of few rows
    more, for at least 5,000 steps) in batches of `batch_size`; `learning_rate` of Adam, which
    decays in the last third; `samples` draws of z for each row and step, weighted (IWAE) with `importance`; `warm_up` steps in
    which the KL term grows to its weight; `missing`: "error", or "marginalize": NaN cells are left out of the likelihood.

    Attributes: `model_`, the `onebound.models.DeepGaussian`; `lower_bounds_`, the running mean of L in each pass, nats per row;
    `bound_`, an `onebound.Bound` of up to 200 training rows with the estimated gap; `latent_use_`: which dimensions carry
    something; `n_iter_`, `repairs_`.

    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> VAE(1, hidden=(8,), max_iter=2, random_state=0).fit(X).transform(X).shape
    (60, 1)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "likelihood": [StrOptions(set(NAMES))],
        "hidden": ["array-like"],
        "prior_components": [Interval(Integral, 1, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0.0, None, closed="neither")],
        "samples": [Interval(Integral, 1, None, closed="left")],
        "importance": ["boolean"],
        "warm_up": [Interval(Integral, 0, None, closed="left")],
        "missing": [StrOptions({"error", "marginalize"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components: int = 2,
        *,
        likelihood: str = "gaussian",
        hidden: Any = (200, 200),
        prior_components: int | None = None,
        max_iter: int | None = None,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        samples: int = 1,
        importance: bool = False,
        warm_up: int = 0,
        missing: str = "error",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.likelihood = likelihood
        self.hidden = hidden
        self.prior_components = prior_components
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.samples = samples
        self.importance = importance
        self.warm_up = warm_up
        self.missing = missing
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Climb L on X (N, D), rows counted `sample_weight` times (N,); y is ignored. Returns self."""
        X = checks.table(self, X, reset=True)
        generator = seeded(check_random_state(self.random_state))
        k = self.prior_components
        prior = None if k is None else Mixture(Gaussian(k, self.n_components))
        model = DeepGaussian(
            self.likelihood,
            self.n_components,
            n_features=X.shape[1],
            hidden=self.hidden,
            prior=prior,
            generator=generator,
        )
        obs = self._observe(model, X, checks.item_weights(sample_weight, X))
        algorithm = climb_vae(
            lr=self.learning_rate,
            samples=self.samples,
            estimator="importance" if self.importance else "reparameterized",
            warm_up=self.warm_up,
        )
        result = fit(
            model,
            obs,
            algorithm,
            max_iter=self.max_iter,
            batch_size=self.batch_size,
            generator=generator,
            callbacks=[self._show] if self.verbose else [],
        )
        self.model_, self.repairs_ = model, result.repairs
        self.lower_bounds_ = [r.bound for r in result.trace if r.after == "E" and r.running]
        self.n_iter_ = len(self.lower_bounds_)
        self.bound_ = bound(model, obs.head(LOOKED_AT), generator=generator)
        self.latent_use_ = latent_use(model, obs)
        return self

    def _show(self, record: Record) -> None:
        if record.after == "E" and record.running and record.iteration % int(self.verbose) == 0:
            print(f"  Pass {record.iteration}\t L {record.bound:.5f}\t active {record.active_units}")

    # --- what a fitted model says --------------------------------------------------------------------------------------

    @torch.no_grad()
    def transform(self, X: Any) -> np.ndarray:
        """The means of q(z | x).  (N, K)"""
        X, obs = self._seen(X)
        return self._means(obs).numpy().astype(X.dtype)

    def _means(self, obs: Observations) -> torch.Tensor:
        return torch.cat([self.model_.q(block).mean for block in obs.blocks(self.model_.block_rows)])

    @torch.no_grad()
    def inverse_transform(self, X: Any) -> np.ndarray:
        """E[y | z].  (N, K) → (N, D)"""
        check_is_fitted(self)
        z = torch.as_tensor(np.asarray(X, dtype=np.float32))
        if z.ndim != 2 or z.shape[1] != self.n_components:
            raise InputError(
                f"VAE.inverse_transform: expected (N, {self.n_components}) values of z, got {tuple(z.shape)}."
            )
        return self.model_.likelihood.mean(self.model_.decode(z)).numpy()

    def reconstruct(self, X: Any) -> np.ndarray:
        """E[y | z = the mean of q(z | x)].  (N, D)"""
        X, obs = self._seen(X)
        return self.model_.reconstruct(obs).numpy().astype(X.dtype)

    @available_if(_has_components)
    def predict(self, X: Any) -> np.ndarray:
        """The prior's most probable component of q's mean; only with `prior_components`.  (N,) int64"""
        _, obs = self._seen(X)
        assert self.model_.prior is not None
        with torch.no_grad():
            found: np.ndarray = self.model_.prior.posterior(self._means(obs).to(torch.float64)).argmax.numpy()
        return found

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Draws: rows (n, D) and z (n, K)."""
        check_is_fitted(self)
        y, z = self.model_.sample(n_samples, seeded(check_random_state(self.random_state)))
        return y.numpy(), z.numpy()

    def bound(self, X: Any, n_draws: int = 1000) -> Bound:
        """L, ln p (IWAE, `n_draws` draws) and the gap of every row, nats."""
        obs = self._seen(X)[1]
        return bound(self.model_, obs, samples=n_draws, generator=seeded(check_random_state(self.random_state)))

    def score_samples(self, X: Any, n_draws: int = 1000) -> np.ndarray:
        """ln p of every row, an importance-weighted estimate (low in expectation), nats.  (N,)"""
        return self.bound(X, n_draws).evidence.numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`, nats per row."""
        return float(np.mean(self.score_samples(X)))

    # --- the way in ----------------------------------------------------------------------------------------------------

    def _observe(self, model: DeepGaussian, X: np.ndarray, weights: np.ndarray | None = None) -> Observations:
        names = [str(name) for name in self.feature_names_in_] if hasattr(self, "feature_names_in_") else None
        return model.observe(Observations.of(X, weights=weights, names=names))

    def _seen(self, X: Any) -> tuple[np.ndarray, Observations]:
        check_is_fitted(self)
        X = checks.table(self, X, reset=False)
        return X, self._observe(self.model_, X)

    @property
    def _n_features_out(self) -> int:
        return int(self.n_components)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "marginalize"
        tags.non_deterministic = True  # scores are sampled
        return tags
