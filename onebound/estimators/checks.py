"""What comes in: scikit-learn's own validation and messages, and what it does not know of."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import _check_sample_weight, validate_data

from onebound.errors import InputError, Unsupported

FLOATS = [np.float64, np.float32]


def table(estimator: BaseEstimator, X: Any, *, reset: bool) -> np.ndarray:
    """X as a float array (N, D), checked as scikit-learn does; NaN passes where missing="marginalize".

    Raises Unsupported for arrays of another library under array API dispatch, InputError for a column without an
    observed cell, and scikit-learn's ValueError for the rest.
    """
    name = type(estimator).__name__
    if get_config()["array_api_dispatch"] and hasattr(X, "__dlpack__") and not isinstance(X, np.ndarray):
        raise Unsupported(
            f"{name}: array API dispatch is not supported, got {type(X).__module__}.{type(X).__name__}. "
            "Pass a NumPy array, or set array_api_dispatch=False."
        )
    gaps = estimator.missing == "marginalize"
    X = validate_data(
        estimator,
        X,
        reset=reset,
        dtype=FLOATS,
        ensure_all_finite="allow-nan" if gaps else True,
        ensure_min_samples=2 if reset else 1,
    )
    if reset and gaps:
        _check_gaps(estimator, X)
    return X


def _check_gaps(estimator: Any, X: np.ndarray) -> None:
    missing = np.isnan(X)
    if not missing.any():
        return
    name, empty = type(estimator).__name__, missing.all(axis=0)
    if empty.any():
        d = int(empty.argmax())
        column = repr(str(estimator.feature_names_in_[d])) if hasattr(estimator, "feature_names_in_") else d
        raise InputError(f"{name}: column {column} must have an observed value, got only missing ones. Drop it.")
    silent = int(missing.all(axis=1).sum())
    if silent:
        warnings.warn(
            f"{name}: {silent} of {len(X)} rows have no observed value; they say nothing about the parameters.",
            UserWarning,
            stacklevel=2,
        )


def item_weights(sample_weight: Any, X: np.ndarray) -> np.ndarray | None:
    """Weights (N,) float64, finite and ≥ 0; None for one each."""
    if sample_weight is None:
        return None
    return _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)


def enough_rows(X: np.ndarray, n_components: int) -> None:
    """ValueError where there are fewer rows than components."""
    if len(X) < n_components:
        raise ValueError(
            f"Expected n_samples >= n_components but got n_components = {n_components}, n_samples = {len(X)}"
        )


# --- starting parameters of a Gaussian mixture -------------------------------------------------------------------------


def _shaped(values: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    array = check_array(values, dtype=FLOATS, ensure_2d=False, allow_nd=True)
    if array.shape != shape:
        raise ValueError(f"The parameter '{name}' should have the shape of {shape}, but got {array.shape}")
    return array


def starting_weights(weights: Any, n_components: int) -> np.ndarray:
    """Shares (K,) in [0, 1] that add up to 1."""
    weights = _shaped(weights, (n_components,), "weights")
    low, high = weights.min(), weights.max()
    if low < 0 or high > 1:
        # The smallest stands where "max" is said: the message is scikit-learn's, to the letter.
        raise ValueError(
            f"The parameter 'weights' should be in the range [0, 1], but got max value {low:.5f}, min value {high:.5f}"
        )
    if abs(1 - weights.sum()) > (1e-6 if weights.dtype == np.float32 else 1e-8):
        raise ValueError(f"The parameter 'weights' should be normalized, but got sum(weights) = {weights.sum():.5f}")
    return weights


def starting_means(means: Any, n_components: int, n_features: int) -> np.ndarray:
    """Means (K, D)."""
    return _shaped(means, (n_components, n_features), "means")


def starting_covariances(precisions: Any, covariance_type: str, n_components: int, n_features: int) -> np.ndarray:
    """The covariances that positive definite `precisions` are the inverse of, in the shape of the covariance type."""
    k, d = n_components, n_features
    shape = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[covariance_type]
    precisions = _shaped(precisions, shape, f"{covariance_type} precision").astype(np.float64)
    if covariance_type in ("diag", "spherical"):
        if (precisions <= 0).any():
            raise ValueError(f"'{covariance_type} precision' should be positive")
        return 1 / precisions
    symmetric = np.allclose(precisions, np.swapaxes(precisions, -1, -2))
    if not symmetric or (np.linalg.eigvalsh(precisions) <= 0).any():
        raise ValueError(f"'{covariance_type} precision' should be symmetric, positive-definite")
    return np.linalg.inv(precisions)
