"""HMMs beside hmmlearn in one process: same start, same iterations, least time over repeats on both sides.

Run by hand: `python -m benchmarks.chain` writes benchmarks/chain.md. Tests never assert times.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ITERATIONS = 10
REPEATS = 5


@dataclass(frozen=True)
class Shape:
    """Sequences × steps, states and columns; the least ratios to hmmlearn's two modes that are aimed at."""

    n: int
    t: int
    k: int
    d: int
    log: float
    scaling: float

    def __str__(self) -> str:
        return f"{self.n} × {self.t:,}, {self.k}, {self.d}"

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Sequences of a chain that stays in a state for ten steps on average, and means to start from."""
        rng = np.random.default_rng(self.k + self.t)
        centres = 3.0 * rng.normal(size=(self.k, self.d))
        moves = rng.random(self.n * self.t) < 0.1
        moves[:: self.t] = True
        runs = np.cumsum(moves) - 1
        z = rng.integers(self.k, size=runs[-1] + 1)[runs]
        y = centres[z] + rng.normal(size=(len(z), self.d))
        return y, centres + 0.5 * rng.normal(size=centres.shape)

    def transition(self) -> np.ndarray:
        """Where both begin: states that stay with probability 0.8."""
        k = self.k
        return np.full((k, k), 0.2 / (k - 1)) + np.eye(k) * (0.8 - 0.2 / (k - 1))


SHAPES = [
    Shape(100, 1_000, 5, 3, 12, 3),
    Shape(100, 1_000, 32, 8, 30, 6),
    Shape(20, 1_000, 128, 16, 100, 15),
    Shape(1, 100_000, 5, 2, 6, 1.5),
    Shape(50, 100, 2, 1, 6, 3),
    Shape(50, 100, 5, 1, 6, 3),
    Shape(50, 100, 10, 1, 6, 3),
]


def ours(shape: Shape, y: np.ndarray, means: np.ndarray) -> float:
    """Seconds of one iteration of EM, the last look at the likelihood included."""
    import onebound as ob

    model = ob.models.HMM(ob.emissions.Gaussian(shape.k, shape.d, "diag"))
    model.assign(np.full(shape.k, 1 / shape.k), shape.transition(), mean=means, covariance=np.ones_like(means))
    obs = ob.Observations.of(y, lengths=[shape.t] * shape.n)
    start = time.perf_counter()
    ob.fit(model, obs, ob.EM(), max_iter=ITERATIONS, tol=0)
    return (time.perf_counter() - start) / ITERATIONS


def theirs(shape: Shape, y: np.ndarray, means: np.ndarray, implementation: str) -> float:
    """Seconds of one iteration of hmmlearn's EM from the same start."""
    from hmmlearn.hmm import GaussianHMM

    peer = GaussianHMM(shape.k, "diag", n_iter=ITERATIONS, tol=-np.inf, init_params="", implementation=implementation)
    peer.startprob_, peer.transmat_ = np.full(shape.k, 1 / shape.k), shape.transition()
    peer.means_, peer.covars_ = means.copy(), np.ones_like(means)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.fit(y, [shape.t] * shape.n)
    return (time.perf_counter() - start) / ITERATIONS


def row(shape: Shape) -> str:
    """One line of the table: the three in turn."""
    y, means = shape.data()
    ours(shape, y, means)  # compiles, or loads what was compiled
    slow = shape.k > 64
    least = [np.inf] * 3
    for repeat in range(REPEATS):
        least[0] = min(least[0], ours(shape, y, means))
        least[2] = min(least[2], theirs(shape, y, means, "scaling"))
        if repeat < (1 if slow else 3):  # the logarithms of the largest take a minute each
            least[1] = min(least[1], theirs(shape, y, means, "log"))
    mine, log, scaling = (1e3 * x for x in least)
    cells = [f"{log / mine:.1f} (≥ {shape.log:g}{'' if log / mine >= shape.log else ', open'})"]
    cells.append(f"{scaling / mine:.1f} (≥ {shape.scaling:g}{'' if scaling / mine >= shape.scaling else ', open'})")
    return f"| {shape} | {log:.2f} | {scaling:.2f} | {mine:.2f} | {' | '.join(cells)} |"


def header() -> str:
    """The machine and the versions."""
    import hmmlearn
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
    return (
        f"# Gaussian HMMs (diagonal) beside hmmlearn {hmmlearn.__version__}\n\n"
        f"Written by `python -m benchmarks.chain` as it came out. {cpu}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f} at the start, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"torch {torch.__version__} with {torch.get_num_threads()} threads. Milliseconds of one EM iteration, from fits of "
        f"{ITERATIONS} with the same start, least over up to {REPEATS} repeats; in brackets what was aimed at.\n\n"
        "| sequences × steps, states, columns | hmmlearn `log` | hmmlearn `scaling` | onebound | log ÷ onebound | "
        "scaling ÷ onebound |\n|---|---|---|---|---|---|"
    )


def main() -> None:
    """Run the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the rows to run, from 0; nothing is written")
    options = parser.parse_args()
    lines = [header()]
    chosen = SHAPES if options.only is None else [SHAPES[i] for i in options.only]
    for shape in chosen:
        lines.append(row(shape))
        print(lines[-1], flush=True)
        if options.only is None:
            options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
