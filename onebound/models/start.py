"""Where a climb starts: seeds among the data, and the items assigned to the nearest."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

# Rows among which seeds are looked for: enough to meet every cluster that holds 0.1 % of the data.
SEED_ROWS = 20_000
# Items up to which a permutation of all of them is drawn: beyond, it would take more memory than the rows themselves.
PERMUTED_ROWS = 10_000_000
# Share of each item that goes to all components alike: a component that starts with one item, or without a symbol, is
# not stuck with a point-like covariance or an exact zero.
SMOOTHING = 0.1


def rows_for_seeds(n_items: int, generator: torch.Generator | None) -> Tensor:
    """The numbers of SEED_ROWS different items, in order.  (SEED_ROWS,)"""
    if n_items <= PERMUTED_ROWS:
        return torch.randperm(n_items, generator=generator)[:SEED_ROWS].sort().values
    chosen = torch.zeros(0, dtype=torch.int64)
    while len(chosen) < SEED_ROWS:
        chosen = torch.cat([chosen, torch.randint(n_items, (SEED_ROWS,), generator=generator)]).unique()
    return chosen[torch.randperm(len(chosen), generator=generator)[:SEED_ROWS]].sort().values


def k_means_plus_plus(points: Tensor, weights: Tensor, k: int, generator: torch.Generator | None) -> Tensor:
    """k seeds: each is the best of a few candidates drawn by squared distance.  (n, F) → (k, F)

    Source: Arthur & Vassilvitskii 2007, with the greedy choice among 2 + ln k candidates of their section 5.
    """
    trials = 2 + int(math.log(k))
    first = _draw(weights, 1, generator)
    seeds = [points[first[0]]]
    nearest = (points - seeds[0]).square().sum(-1)  # (n,)
    for _ in range(1, k):
        mass = weights * nearest
        candidates = _draw(mass if float(mass.sum()) > 0 else weights, trials, generator)
        distances = torch.minimum(nearest, torch.cdist(points[candidates], points).square())  # (trials, n)
        best = int((distances * weights).sum(-1).argmin())
        seeds.append(points[candidates[best]])
        nearest = distances[best]
    return torch.stack(seeds)


def k_means(points: Tensor, weights: Tensor, k: int, generator: torch.Generator | None) -> Tensor:
    """The centres that k-means ends at from k-means++ seeds.  (n, F) → (k, F)"""
    from sklearn.cluster import KMeans  # half a second that the other starts do not need
    from threadpoolctl import threadpool_limits

    seeds = k_means_plus_plus(points, weights, k, generator).numpy()
    with threadpool_limits(1), warnings.catch_warnings():  # With several threads, sums have the order of their arrival.
        warnings.simplefilter("ignore")  # of fewer different rows than centres: EM has its own rules for those
        found = KMeans(k, init=seeds, n_init=1).fit(points.numpy(), sample_weight=weights.numpy())
    return torch.from_numpy(found.cluster_centers_)


def random_rows(points: Tensor, weights: Tensor, k: int, generator: torch.Generator | None) -> Tensor:
    """k different rows, drawn by weight.  (n, F) → (k, F)"""
    left = weights.clone()
    chosen = []
    for _ in range(k):
        i = int(_draw(left, 1, generator)[0])
        chosen.append(i)
        left[i] = 0.0
    return points[chosen]


def assigned(points: Tensor, seeds: Tensor, allowed: Tensor | None) -> Tensor:
    """Responsibilities that give each item to its nearest allowed seed, smoothed.  (n, F), (k, F) → (n, k)"""
    distances = torch.cdist(points, seeds)
    if allowed is not None:
        distances = distances.masked_fill(~allowed, math.inf)
    r = torch.full_like(distances, SMOOTHING / len(seeds))
    r.scatter_add_(-1, distances.argmin(-1, keepdim=True), torch.full_like(distances[:, :1], 1 - SMOOTHING))
    if allowed is not None:
        r = r * allowed
    return r / r.sum(-1, keepdim=True).clamp_min(1e-300)


def labelled_seeds(points: Tensor, allowed: Tensor, seeds: Tensor) -> Tensor:
    """Seeds of components that have items of their own (known labels) are those items' means.  (k, F)"""
    known = allowed & (allowed.sum(-1, keepdim=True) == 1)  # (n, k)
    share = known.to(points)
    means = share.T @ points / share.sum(0).clamp_min(1.0).unsqueeze(-1)
    return torch.where((share.sum(0) > 0).unsqueeze(-1), means, seeds)


def _draw(mass: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """n row numbers, each with probability proportional to its mass. (torch.multinomial stops at 2²⁴ rows.)"""
    cdf = mass.to(torch.float64).cumsum(0)
    u = torch.rand(n, dtype=torch.float64, generator=generator) * cdf[-1]
    return torch.searchsorted(cdf, u, right=True).clamp_max(len(mass) - 1)
