"""Small real fits that the report's laws are tried on: one line a kind of model."""

import copy
from functools import cache
from importlib import resources

import numpy as np
import torch

import onebound as ob
from onebound.emissions import Bernoulli, Categorical, Gaussian, Poisson, Product
from onebound.models import Mixture

NAMES = ("eruptions", "waiting")


@cache
def geyser_rows() -> np.ndarray:
    """Old Faithful, every fourth row.  (68, 2)"""
    table = resources.files("onebound.data").joinpath("old_faithful.csv").read_text(encoding="utf-8")
    rows = [line.split(",") for line in table.splitlines() if line and line[0].isdigit()]
    return np.array(rows, dtype=float)[::4]


def fits_of(model: Mixture, y: np.ndarray, algorithms: list[ob.Algorithm], max_iter: int = 6) -> list[ob.Fit]:
    """One fit an algorithm, all from one start."""
    model.initialize(y, torch.Generator().manual_seed(0))
    seeds = (torch.Generator().manual_seed(1) for _ in algorithms)
    return [
        ob.fit(copy.deepcopy(model), y, a, max_iter=max_iter, generator=g)
        for a, g in zip(algorithms, seeds, strict=True)
    ]


@cache
def geyser_fits() -> list[ob.Fit]:
    """EM, EG, VAE and hard EM on the geyser, from one start."""
    return fits_of(Mixture(Gaussian(2, 2)), geyser_rows(), [ob.EM(), ob.EG(), ob.VAE(), ob.HardEM()])


def _table(seed: int) -> np.ndarray:
    """Six columns, two kinds of row: real, real, real, 0/1, code 0 to 2, count; column 2 tells nothing.  (60, 6)"""
    rng = np.random.default_rng(seed)
    z = np.arange(60) % 2
    real = rng.normal(size=(60, 3)) + np.outer(z, [6.0, 6.0, 0.0])
    return np.column_stack([real, rng.random(60) < 0.2 + 0.6 * z, rng.integers(0, 2, 60) + z, rng.poisson(2 + 5 * z)])


TABLE = _table(0)
HOLES = np.where(np.random.default_rng(1).random((60, 3)) < 0.1, np.nan, TABLE[:, :3])
MIXED = Product(
    [([0, 1, 2], Gaussian(2, 3, "diag")), ([3], Bernoulli(2, 1)), ([4], Categorical(2, [3])), ([5], Poisson(2, 1))]
)

# One line a kind of model: name → (emission, data).
ZOO = {
    "one column": (Gaussian(2, 1), TABLE[:, :1]),
    "three columns": (Gaussian(2, 3), TABLE[:, :3]),
    "missing cells": (Gaussian(2, 3, "diag"), HOLES),
    "one component": (Gaussian(1, 2), TABLE[:, :2]),
    "bernoulli": (Bernoulli(2, 1), TABLE[:, 3:4]),
    "categorical": (Categorical(2, [3, 2]), TABLE[:, [4, 3]]),
    "poisson": (Poisson(2, 1), TABLE[:, 5:]),
    "mixed": (MIXED, TABLE),
    "mixed without Gaussian": (Product([([0], Bernoulli(2, 1)), ([1], Poisson(2, 1))]), TABLE[:, [3, 5]]),
}
