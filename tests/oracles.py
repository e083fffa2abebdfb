"""Brute force over all z, from the models' public parameters, with SciPy's densities and plain sums."""

from __future__ import annotations

import itertools
import math

import numpy as np
import scipy.stats as st

import onebound as ob
from onebound.emissions import (
    Bernoulli,
    Categorical,
    Gaussian,
    GaussianEmission,
    MixtureOf,
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
            case MixtureOf():
                shares, m = emission.weights.numpy()[k], emission.n_inner
                each = [math.log(c) + log_emission(emission.inner, y, k * m + i, x) for i, c in enumerate(shares)]
                return float(evidence(np.array([each]))[0])
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


def all_z(model: ob.models.Model, obs: ob.Observations) -> tuple[np.ndarray, np.ndarray]:
    """Every z that any item can have, (Z, N) classes or (Z, R) paths, and which of them an item counts, (Z, N) boolean.

    A short sequence has fewer paths than a long one: those that stay at 0 after its end.
    """
    k = model.n_components
    if obs.lengths is None:
        return np.tile(np.arange(k)[:, None], obs.n_items), np.ones((k, obs.n_items), bool)
    lengths = obs.lengths.numpy()
    paths = np.array(list(itertools.product(range(k), repeat=int(lengths.max()))))  # (Z, T)
    counted = np.stack([~paths[:, n:].any(-1) for n in lengths], -1)
    return np.concatenate([paths[:, :n] for n in lengths], -1), counted


def log_joint(model: ob.models.Model, obs: ob.Observations) -> np.ndarray:
    """ln p(z, y_n) for every n and z of `all_z`, −inf where z does not count.  (N, Z)"""
    if isinstance(model, ob.models.HMM):
        return _log_joint_of_paths(model, obs)
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


def _log_joint_of_paths(model: ob.models.HMM, obs: ob.Observations) -> np.ndarray:
    y, ends = obs.y.numpy().astype(float), np.concatenate([[0], np.cumsum(obs.lengths.numpy())])
    log_pi = model.initial.log_probabilities().detach().numpy()
    moves = model.transition
    steps = moves.log_probabilities() if not isinstance(moves, ob.models.NeuralTransition) else None
    log_a = (moves.log_probabilities(obs.context) if steps is None else steps.expand(len(y), -1, -1)).detach().numpy()
    emitted = np.full((len(y), model.n_components), -math.inf)
    for r in range(len(y)):
        for k in range(model.n_components):
            if obs.allowed is None or bool(obs.allowed[r, k]):
                emitted[r, k] = log_emission(model.emission, y[r], k, None if obs.context is None else obs.context[r])
    paths, counted = all_z(model, obs)
    table = np.full(counted.T.shape, -math.inf)
    for i, z in enumerate(paths):
        for n in np.flatnonzero(counted[i]):
            here = range(ends[n], ends[n + 1])
            total = (
                math.fsum(emitted[r, z[r]] for r in here)
                if all(emitted[r, z[r]] > -math.inf for r in here)
                else -math.inf
            )
            if len(here):
                total += log_pi[z[here[0]]] + sum(log_a[r, z[r - 1], z[r]] for r in here[1:])
            table[n, i] = total
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


def log_evidence(model: ob.models.Model, obs: ob.Observations) -> np.ndarray:
    """ln p(y) of every item: the sum over all z, or the density of the one Gaussian that a linear model is."""
    if isinstance(model, ob.models.FactorAnalysis | ob.models.ProbabilisticPCA):
        y, mean, cov = obs.y.numpy(), model.mean.numpy(), model.covariance.numpy()
        each = [(row[seen], mean[seen], cov[np.ix_(seen, seen)]) for row in y for seen in [~np.isnan(row)]]
        return np.array([st.multivariate_normal.logpdf(*part) if len(part[0]) else 0.0 for part in each])
    return evidence(log_joint(model, obs))


def posterior(joint: np.ndarray) -> np.ndarray:
    """p(z | y)."""
    return np.exp(joint - evidence(joint)[:, None])


def row_posterior(model: ob.models.Model, obs: ob.Observations) -> np.ndarray:
    """p(component of the row | y) of every row of y.  (R, K)"""
    every, (z, _) = posterior(log_joint(model, obs)), all_z(model, obs)
    item = np.arange(len(obs.y)) if obs.lengths is None else np.repeat(np.arange(obs.n_items), obs.lengths)
    shares = [[every[n] @ (z[:, row] == k) for k in range(model.n_components)] for row, n in enumerate(item)]
    return np.array(shares)


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
