"""Brute force over all z, from the models' public parameters, with SciPy's densities and plain sums."""

from __future__ import annotations

import math

import numpy as np
import scipy.stats as st

import onebound as ob
from onebound.emissions import (
    Bernoulli,
    Categorical,
    Gaussian,
    GaussianEmission,
    Multinomial,
    NeuralGaussian,
    Poisson,
    Product,
)

assert Gaussian


def log_emission(emission: object, y: np.ndarray, k: int, x: np.ndarray | None) -> float:
    """ln p(y | k) of one row, its missing cells (NaN) integrated out."""
    seen = ~np.isnan(y)
    with np.errstate(divide="ignore"):
        match emission:
            case Product():
                parts = zip(emission.columns, emission.emissions, strict=True)
                return sum(log_emission(e, y[c], k, x) for c, e in parts)
            case NeuralGaussian():
                mean = emission.mean(x[None]).detach().numpy()[0, k]
                sd = (emission.scale * emission.log_sd.exp()).detach().numpy()[k]
                return float(st.norm.logpdf(y[seen], mean[seen], sd[seen]).sum())
            case GaussianEmission():
                if not seen.any():
                    return 0.0
                mean, cov = emission.mean.numpy()[k], emission.covariance.numpy()[k]
                return float(st.multivariate_normal.logpdf(y[seen], mean[seen], cov[np.ix_(seen, seen)]))
            case Bernoulli():
                p = emission.probability.numpy()[k]
                return float(sum(np.log(p[d] if y[d] else 1 - p[d]) for d in np.flatnonzero(seen)))
            case Categorical():
                p = emission.probability.numpy()[k]
                return float(sum(np.log(p[d, int(y[d])]) for d in np.flatnonzero(seen)))
            case Multinomial():
                p = emission.probability.numpy()[k]
                return float(st.multinomial.logpmf(y, y.sum(), p))
            case Poisson():
                return float(st.poisson.logpmf(y[seen], emission.rate.numpy()[k][seen]).sum())
    raise TypeError(type(emission))


def log_joint(model: ob.models.Model, obs: ob.Observations) -> np.ndarray:
    """ln p(z = k, y_n) for every n and k."""
    y = obs.y.numpy().astype(float)
    with np.errstate(divide="ignore"):
        log_pi = np.log(model.weights.numpy())
    table = np.empty((len(y), model.n_components))
    for n in range(len(y)):
        for k in range(model.n_components):
            x = None if obs.context is None else obs.context[n]
            allowed = obs.allowed is None or bool(obs.allowed[n, k])
            table[n, k] = log_pi[k] + log_emission(model.emission, y[n], k, x) if allowed else -math.inf
    return table


def conditional(mean: np.ndarray, cov: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E[y | observed cells] and Cov[y | observed cells] of one Gaussian row, 0 where observed.  (D,), (D, D)"""
    seen = ~np.isnan(y)
    o, m = np.flatnonzero(seen), np.flatnonzero(~seen)
    slope = cov[np.ix_(m, o)] @ np.linalg.inv(cov[np.ix_(o, o)])
    filled, spread = y.copy(), np.zeros_like(cov)
    filled[m] = mean[m] + slope @ (y[o] - mean[o])
    spread[np.ix_(m, m)] = cov[np.ix_(m, m)] - slope @ cov[np.ix_(o, m)]
    return filled, spread


def evidence(joint: np.ndarray) -> np.ndarray:
    """ln Σ_z p(z, y), item by item."""
    tops = joint.max(-1)
    return np.array(
        [
            t if t == -math.inf else t + math.log(math.fsum(math.exp(w - t) for w in row))
            for row, t in zip(joint, tops, strict=True)
        ]
    )


def posterior(joint: np.ndarray) -> np.ndarray:
    """p(z | y)."""
    return np.exp(joint - evidence(joint)[:, None])


def entropy(q: np.ndarray) -> np.ndarray:
    """−Σ q ln q."""
    return np.array([-math.fsum(p * math.log(p) for p in row if p > 0) for row in q])


def kl(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Σ q ln (q / p)."""
    return np.array(
        [math.fsum(a * math.log(a / b) for a, b in zip(x, y, strict=True) if a > 0) for x, y in zip(q, p, strict=True)]
    )


def expected(q: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Σ q w, with 0 · (−inf) = 0."""
    return np.array([math.fsum(a * b for a, b in zip(x, y, strict=True) if a > 0) for x, y in zip(q, w, strict=True)])
