"""One pass over the data under a fitted model, in blocks: what the report says that needs the data."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from onebound.errors import InputError
from onebound.observations import Observations, weighted_total
from onebound.report.parameters import array
from onebound.report.terms import terms_of

BINS = 20  # Of the histogram of the largest responsibility, each 0.05 wide.
SURE = 0.9


@dataclass(frozen=True)
class Survey:
    """Sums over the rows, each times its weight; `n_items` of them are counted as one in ln p(y) if they are sequences.

    `log_evidence` is Σ w ln p(y), `entropy` Σ w H(p(z | y)), both in nats. By component: `held` sums responsibilities,
    `assigned` the rows that it is the most probable one for, `sure` those of them with a responsibility above 0.9;
    `histogram` (K, 20) sorts them by that responsibility, from 0 to 1. By column (D,): `missing` cells (not weighted),
    `low` and `high`, and `mean` and `sd` of the cells that are there.
    """

    n_items: int
    n_rows: int
    total_weight: float
    log_evidence: float
    entropy: float
    held: np.ndarray
    assigned: np.ndarray
    sure: np.ndarray
    histogram: np.ndarray
    missing: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    sd: np.ndarray

    @property
    def evidence(self) -> float:
        """ln p(y), nats per row."""
        return self.log_evidence / self.total_weight

    @property
    def sure_share(self) -> float:
        """The share of the rows whose component is sure: a responsibility above 0.9."""
        return float(self.sure.sum()) / self.total_weight


def weighed(model: Any, y: Any, weights: Any = None) -> Observations:
    """y with its weights, checked by the model; an Observations brings its own."""
    if isinstance(y, Observations) and weights is not None:
        raise InputError("report: an Observations has its weights inside; leave weights out.")
    observed: Observations = model.observe(y if isinstance(y, Observations) else Observations.of(y, weights=weights))
    return observed


@torch.no_grad()
def survey(model: Any, y: Any, weights: Any = None) -> Survey:
    """Look at every row once, a block at a time.  y (N, D) or an Observations"""
    obs = weighed(model, y, weights)
    columns = obs.columns
    blocks = [_block(model, block) for block in obs.blocks(model.block_rows)]
    sums = {name: sum(block[name] for block in blocks) for name in blocks[0] if name not in ("low", "high")}
    return Survey(
        n_items=obs.n_items,
        n_rows=obs.n_rows,
        total_weight=obs.total_row_weight,
        low=np.fmin.reduce([block["low"] for block in blocks]),
        high=np.fmax.reduce([block["high"] for block in blocks]),
        mean=array(columns.mean),
        sd=np.sqrt(array(columns.variance)),
        **sums,
    )


def _block(model: Any, block: Observations) -> dict[str, Any]:
    y = array(block.y)
    absent = np.isnan(y)
    columns = {
        "missing": absent.sum(axis=0),
        "low": np.where(absent, np.inf, y).min(axis=0),
        "high": np.where(absent, -np.inf, y).max(axis=0),
    }
    return (_vectors(model, block) if terms_of(model).is_vector else _classes(model, block)) | columns


def _vectors(model: Any, block: Observations) -> dict[str, Any]:
    """Nobody holds a row whose z is a vector; ln p(y) is known unless a network decodes it."""
    nobody = {name: np.zeros(0) for name in ("held", "assigned", "sure", "histogram")}
    if not terms_of(model).is_exact:
        return {"log_evidence": float("nan"), "entropy": float("nan"), **nobody}
    q = model.posterior(block)
    return {
        "log_evidence": float(weighted_total(block.weights, q.log_partition)),
        "entropy": float(weighted_total(block.weights, q.entropy)),
        **nobody,
    }


def _classes(model: Any, block: Observations) -> dict[str, Any]:
    q = model.posterior(block)
    r, w = array(model.row_responsibilities(q)), array(block.as_rows().weights)  # (n, K), (n,)
    best = r.argmax(axis=1)
    largest = np.minimum(r[np.arange(len(r)), best], 1.0)  # Rounding may leave it above 1.
    one_hot = np.eye(r.shape[1])[best] * w[:, None]  # (n, K)
    bins = np.minimum((largest * BINS).astype(int), BINS - 1)
    return {
        "log_evidence": float(weighted_total(block.weights, q.log_partition)),
        "entropy": float(weighted_total(block.weights, q.entropy)),
        "held": w @ r,
        "assigned": one_hot.sum(axis=0),
        "sure": one_hot[largest > SURE].sum(axis=0),
        "histogram": one_hot.T @ np.eye(BINS)[bins],
    }
