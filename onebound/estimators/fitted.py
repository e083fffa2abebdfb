"""What a fitted mixture says of rows, with scikit-learn's habits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from onebound.algorithms.choose import Criteria
from onebound.algorithms.sweep import threads_for
from onebound.estimators import checks
from onebound.models import Mixture
from onebound.observations import Observations
from onebound.structures.base import Structure


class FittedMixture(DensityMixin, BaseEstimator):
    """Everything that needs `model_` and new rows alone."""

    model_: Mixture
    n_components: int
    missing: str
    random_state: Any

    def _coded(self, X: np.ndarray) -> np.ndarray:
        """X as the emission takes it."""
        return X

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

    def impute(self, X: Any) -> np.ndarray:
        """X with its missing cells at their conditional means, categories at the most probable code.  (N, D)

        Like `predict` it takes NaN where missing="marginalize".
        """
        X, obs = self._seen(X)
        return self.model_.impute(obs).numpy().astype(X.dtype)

    def sample_missing(self, X: Any, n_samples: int = 1) -> np.ndarray:
        """`n_samples` draws of X's missing cells given the observed ones: multiple imputation.  (n_samples, N, D)"""
        X, obs = self._seen(X)
        rng = check_random_state(self.random_state)
        return self.model_.sample_missing(obs, n_samples, seeded(rng)).numpy().astype(X.dtype)

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
