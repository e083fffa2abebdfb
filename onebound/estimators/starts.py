"""Where a climb starts: scikit-learn's four ways with scikit-learn's own random numbers, so that the same `random_state`
gives the same start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.metrics import pairwise_distances_argmin

# k-means sees at most this many rows; beyond it, more rows move the centres less than EM's first step does.
KMEANS_ROWS = 100_000
# Share of each item that goes to all components alike where a probability of exactly 0 would never be left again.
SMOOTHING = 0.1

Weights = np.ndarray | None


def filled(X: np.ndarray) -> np.ndarray:
    """X with its missing cells at their columns' means; X itself where none is missing.  (N, D)"""
    missing = np.isnan(X)
    return np.where(missing, np.nanmean(X, axis=0), X).astype(X.dtype) if missing.any() else X


def kmeans(X: np.ndarray, k: int, rng: np.random.RandomState, weights: Weights) -> np.ndarray:
    """Labels of one k-means, by a subsample and its nearest centres beyond 100,000 rows.  (N,)"""
    chosen = slice(None) if len(X) <= KMEANS_ROWS else np.sort(rng.choice(len(X), KMEANS_ROWS, replace=False))
    machine = KMeans(n_clusters=k, n_init=1, random_state=rng)
    machine.fit(X[chosen], sample_weight=None if weights is None else weights[chosen])
    return machine.labels_ if len(X) <= KMEANS_ROWS else machine.predict(X)


def random(X: np.ndarray, k: int, rng: np.random.RandomState, weights: Weights) -> np.ndarray:
    """Responsibilities at random.  (N, K)"""
    r = rng.uniform(size=(len(X), k)).astype(X.dtype)
    return r / r.sum(axis=1, keepdims=True)


def plus_plus(X: np.ndarray, k: int, rng: np.random.RandomState, weights: Weights) -> np.ndarray:
    """Rows far apart, by k-means++.  (K,)"""
    return kmeans_plusplus(X, k, sample_weight=weights, random_state=rng)[1]


def any_rows(X: np.ndarray, k: int, rng: np.random.RandomState, weights: Weights) -> np.ndarray:
    """Different rows at random, by weight.  (K,)"""
    return rng.choice(len(X), size=k, replace=False, p=None if weights is None else weights / weights.sum())


# Ways that share the items out among components, and ways that name one row for each component.
SHARING: dict[str, Callable[..., np.ndarray]] = {"kmeans": kmeans, "random": random}
NAMING: dict[str, Callable[..., np.ndarray]] = {"k-means++": plus_plus, "random_from_data": any_rows}
WAYS = {*SHARING, *NAMING}


def nearest(X: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The number of the nearest of `rows` for every item.  (N,)"""
    return pairwise_distances_argmin(X, X[rows])


def covariance_at(X: np.ndarray, rows: np.ndarray, covariance_type: str, ridge: float) -> np.ndarray:
    """Covariances of Gaussian components that hold one row each: the ridge alone.

    Tied ones are scikit-learn's, who takes all rows' second moment there less that of the K means, over K.
    """
    k, d = len(rows), X.shape[1]
    if covariance_type == "tied":
        # The means are rows themselves, so the difference is the second moment of the others, without cancellation.
        others = np.delete(X, rows, axis=0).astype(np.float64)
        return definite(others.T @ others / k + ridge * np.eye(d))
    shapes = {"full": np.broadcast_to(np.eye(d), (k, d, d)), "diag": np.ones((k, d)), "spherical": np.ones(k)}
    return ridge * shapes[covariance_type]


def definite(covariance: np.ndarray) -> np.ndarray:
    """The covariance itself; where float64 finds it singular, with 1e-12 of its diagonal added.  (D, D)"""
    scale = np.sqrt(np.diag(covariance))
    if np.linalg.eigvalsh(covariance / np.outer(scale, scale))[0] > 1e-12:
        return covariance
    return covariance + 1e-12 * np.diag(scale**2)


def smoothed(start: np.ndarray, k: int) -> np.ndarray:
    """Labels or responsibilities with a share of each item given to all components.  (N, K)"""
    r: Any = np.eye(k)[start] if start.ndim == 1 else start
    return (1 - SMOOTHING) * r + SMOOTHING / k
