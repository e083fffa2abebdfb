"""What is said of a z that is a vector: its means, its use, and the estimate of ln p(y) where that has no sum."""

from typing import Any

import numpy as np
import torch

from onebound.bound import bound
from onebound.observations import Observations
from onebound.report.parameters import array
from onebound.report.terms import classes_of, rows_per_item, terms_of

ROWS = 200  # Of which ln p(y) is estimated: some seconds.
LOOKED_AT = 2000  # Rows of which is told how they use z.
DRAWS = 1000  # Of each: what an estimate in a report must have at least, but of sequences of thousands of rows.
LEAST, DECODED = 20, 2_000_000  # Draws of such sequences, and rows that are decoded for an estimate at most.


def some_items(obs: Observations, rows: int = ROWS) -> Observations:
    """At most that many rows, drawn at random but always the same ones; of sequences the first ones, and at least one."""
    if obs.lengths is None:
        if obs.n_items <= rows:
            return obs.select(slice(0, obs.n_items))
        picked = np.sort(np.random.default_rng(0).choice(obs.n_items, rows, replace=False))
        return obs.select(torch.as_tensor(picked))
    whole = int((obs.lengths.cumsum(0) <= 10 * rows).sum())
    return obs.select(slice(0, min(max(whole, 1), rows)))


@torch.no_grad()
def means_of(model: Any, obs: Observations) -> np.ndarray:
    """E z of every row: of the exact posterior, or what the encoder says.  (R, L)"""
    exact = terms_of(model).is_exact
    found = [array((model.posterior(b) if exact else model.q(b)).mean) for b in obs.blocks(model.block_rows)]
    return np.concatenate(found)


@torch.no_grad()
def classes_at(model: Any, z: np.ndarray, lengths: Any = None, *, path: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Of these z (R, L): the probabilities of the prior's classes (R, K) and the likeliest, along a chain's `path` or each."""
    prior = classes_of(model)
    q = prior.posterior(Observations.of(torch.from_numpy(z), lengths=lengths))
    r = array(prior.row_responsibilities(q))
    return r, q.argmax.numpy() if path else r.argmax(1)


def draws_for(obs: Observations) -> int:
    """How many draws an item can have: 1,000, but of very long sequences fewer."""
    return int(min(DRAWS, max(LEAST, DECODED // max(obs.n_rows, 1))))


def estimate(model: Any, obs: Observations) -> dict[str, Any]:
    """ln p(y) and L of some items by importance-weighted draws, and how z is used, JSON-able; nats per item."""
    some, seen = some_items(obs), some_items(obs, LOOKED_AT)
    k = draws_for(some)
    found = bound(model, some, samples=k, generator=torch.Generator().manual_seed(0))
    assert found.evidence_half is not None
    mean = found.mean()
    weights = found.weights / found.weights.sum()
    return {
        "items": some.n_items,
        "draws": k,
        "rows_per_item": rows_per_item(some),
        "bound": mean["bound"],
        "evidence": mean["evidence"],
        "evidence_half": float((weights * found.evidence_half).sum()),
        "gap": mean["gap"],
        "gap_error": found.standard_error(),
        "latent_use": latent_use_of(model, seen),
    }


def latent_use_of(model: Any, obs: Observations) -> dict[str, Any]:
    """How the dimensions of z are used on these items, JSON-able; KL in nats per row."""
    from onebound.algorithms.latent_use import latent_use

    use = latent_use(model, obs)
    return {
        "active": use.active,
        "size": use.size,
        "kl": use.kl.tolist(),
        "activity": use.activity.tolist(),
        "advice": use.advice,
    }
