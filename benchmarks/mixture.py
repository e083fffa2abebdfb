"""EM for Gaussian mixtures beside scikit-learn's: seconds per iteration and peak memory, in one run, as ratios.

    python -m benchmarks.mixture            # writes benchmarks/mixture.md as it came out
    python -m benchmarks.mixture --cpu      # processor seconds, one thread on both sides: for a machine that others use

Both start from the same means, weights and precisions and make the same number of iterations; an iteration's time is the
difference of two fits, so that starts and final E steps drop out. On the small table it is a whole `fit` of the estimators
instead, with their common start by k-means and their common rule to stop. Least over repeats on both sides; the peer at its
best of 1 and 2 threads. The share of GEMM is ours against NumPy's products of the same shapes, counting 4·N·K·P operations a
pass with P = D(D + 1)/2 + D + 1 numbers in φ(x).
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ.pop("OPENBLAS_CORETYPE", None)  # the peer must choose its own kernels
REPEATS = 3
SHORT, LONG = 1, 4
CLOCK = time.perf_counter
PEER_THREADS: tuple[int, ...] = (1, 2)
MEMORY_LIMIT = 300.0
SMALL = 10_000  # rows below which a whole fit is timed


@dataclass(frozen=True)
class Shape:
    """One row of the table; `target`: scikit-learn's time over ours, at least (float64)."""

    n: int
    d: int
    k: int
    form: str
    target: float | None = None

    def __str__(self) -> str:
        return f"{self.n:,} × {self.d}, {self.k}, {self.form}"

    def data(self, dtype: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows around K centres 3 apart, and the centres moved a little: the start."""
        g = np.random.default_rng(0)
        centres = 3.0 * g.normal(size=(self.k, self.d))
        y = np.empty((self.n, self.d), dtype)
        for start in range(0, self.n, 100_000):
            rows = y[start : start + 100_000]
            rows[:] = centres[g.integers(0, self.k, len(rows))] + g.normal(size=rows.shape)
        return y, centres + 0.3 * g.normal(size=centres.shape)

    def covariance(self) -> np.ndarray:
        """Unit covariances in the shape of the form."""
        eye = np.eye(self.d)
        return {
            "full": np.tile(eye, (self.k, 1, 1)),
            "tied": eye,
            "diag": np.ones((self.k, self.d)),
        }[self.form]


SHAPES = [
    Shape(200_000, 16, 16, "full", 12),
    Shape(1_000_000, 4, 8, "full", 10),
    Shape(50_000, 64, 32, "full", 4),
    Shape(200_000, 16, 16, "tied", 15),
    Shape(200_000, 16, 16, "diag", 4),
    Shape(272, 2, 2, "full", 1.5),
]
LARGE = Shape(5_000_000, 4, 64, "full")


def ours(shape: Shape, y: np.ndarray, means: np.ndarray, iterations: int) -> float:
    """Seconds of `iterations` of EM."""
    import onebound as ob

    model = ob.models.Mixture(ob.emissions.Gaussian(shape.k, shape.d, shape.form))
    model.assign(np.full(shape.k, 1 / shape.k), mean=means, covariance=shape.covariance())
    start = CLOCK()
    ob.fit(model, y, ob.EM(), max_iter=iterations, tol=0)
    return CLOCK() - start


def theirs(shape: Shape, y: np.ndarray, means: np.ndarray, iterations: int) -> float:
    """Seconds of `iterations` of scikit-learn's EM from the same start."""
    from sklearn.mixture import GaussianMixture

    peer = GaussianMixture(
        shape.k,
        covariance_type=shape.form,
        means_init=means.astype(y.dtype),
        weights_init=np.full(shape.k, 1 / shape.k, y.dtype),
        precisions_init=shape.covariance().astype(y.dtype),
        max_iter=iterations,
        tol=0,
    )
    start = CLOCK()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.fit(y)
    return CLOCK() - start


def per_iteration(run: Callable[..., float], shape: Shape, dtype: str) -> float:
    """Seconds per iteration: the least long fit less the least short one."""
    y, means = shape.data(dtype)
    run(shape, y, means, SHORT)
    times = [(run(shape, y, means, SHORT), run(shape, y, means, LONG)) for _ in range(REPEATS)]
    least = [min(t) for t in zip(*times, strict=True)]
    return (least[1] - least[0]) / (LONG - SHORT)


def whole_fit(estimator: Any, shape: Shape) -> float:
    """Seconds of a `fit` with all that belongs to it, at its defaults, in a process that has made some."""
    y, _ = shape.data("float64")
    times = []
    for _ in range(30 * REPEATS):
        start = CLOCK()
        estimator(shape.k, covariance_type=shape.form, random_state=0).fit(y)
        times.append(CLOCK() - start)
    return min(times)


def gemm_rate(shape: Shape) -> float:
    """Operations a second of NumPy's two products of these shapes, the best of 1 and 2 threads and of two block sizes."""
    from threadpoolctl import threadpool_limits

    p, best, g = shape.d * (shape.d + 1) // 2 + shape.d + 1, 0.0, np.random.default_rng(0)
    for rows in (1024, 16_384):
        phi, eta, r = g.normal(size=(rows, p)), g.normal(size=(p, shape.k)), g.random((rows, shape.k))
        for threads in PEER_THREADS:
            with threadpool_limits(threads):
                for _ in range(5 * REPEATS):
                    start = CLOCK()
                    phi @ eta
                    r.T @ phi
                    best = max(best, 4 * rows * shape.k * p / (CLOCK() - start))
    return best


def memory(shape: Shape, who: str) -> float:
    """MiB of peak memory above that after import and with the data there, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.mixture", "--memory", who, *map(str, (shape.n, shape.d, shape.k))]
    done = subprocess.run([*command, shape.form], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _measure_memory(who: str, shape: Shape) -> None:
    tiny = Shape(500, shape.d, shape.k, shape.form)
    run = {"ours": ours, "theirs": theirs}[who]
    run(tiny, *tiny.data("float64"), 1)  # imports, compiled code, thread stacks
    y, means = shape.data("float64")
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is in use
    run(shape, y, means, 2)
    print((_status("VmHWM") - before) / 1024)


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[1])


def row(shape: Shape, dtype: str) -> str:
    """One line of the table: both sides in turn."""
    from sklearn.mixture import GaussianMixture as Theirs
    from threadpoolctl import threadpool_limits

    from onebound.estimators import GaussianMixture as Ours

    small = shape.n < SMALL
    mine = whole_fit(Ours, shape) if small else per_iteration(ours, shape, dtype)
    peers = []
    for threads in PEER_THREADS:
        with threadpool_limits(threads):
            peers.append(whole_fit(Theirs, shape) if small else per_iteration(theirs, shape, dtype))
    ratio = min(peers) / mine
    share, target = "", ""
    if shape.form == "full" and not small:
        p = shape.d * (shape.d + 1) // 2 + shape.d + 1
        share = f"{4 * shape.n * shape.k * p / mine / gemm_rate(shape):.0%}"
    if shape.target is not None and dtype == "float64":
        target = f"{shape.target:g}{'' if ratio >= shape.target else ' (open)'}"
    times = f"{' / '.join(f'{1e3 * p:.2f}' for p in peers)} | {1e3 * mine:.2f}"
    name = f"{shape}: a whole fit" if small else str(shape)
    return f"| {name} | {dtype} | {times} | {ratio:.1f} | {target} | {share} |"


def header() -> str:
    """The machine, the versions and the peer's BLAS."""
    import sklearn
    import torch
    from threadpoolctl import threadpool_info

    blas = sorted({f"{i['internal_api']} {i.get('architecture', '')}".strip() for i in threadpool_info()})
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
    return (
        f"# Gaussian mixtures beside scikit-learn {sklearn.__version__}\n\n"
        f"Written by `python -m benchmarks.mixture` as it came out. {cpu}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f} at the start, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"torch {torch.__version__} with {torch.get_num_threads()} threads; {', '.join(blas)}. Least over {REPEATS} repeats "
        f"on both sides, {'processor time' if CLOCK is time.process_time else 'wall time'}.\n\n"
        f"| N × D, K, covariance | data | scikit-learn, ms an iteration ({' / '.join(map(str, PEER_THREADS))} threads) | "
        "onebound, ms | ratio | target | share of GEMM |\n|---|---|---|---|---|---|---|"
    )


def _one_thread() -> None:
    global CLOCK, PEER_THREADS, REPEATS, LONG
    import torch

    torch.set_num_threads(1)
    CLOCK, PEER_THREADS, REPEATS, LONG = time.process_time, (1,), 2, 2


def main() -> None:
    """Run the table, or one measurement of memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", nargs=5, metavar=("WHO", "N", "D", "K", "FORM"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    parser.add_argument("--cpu", action="store_true", help="processor time of one thread on both sides")
    options = parser.parse_args()
    if options.cpu:
        _one_thread()
    if options.memory:
        who, n, d, k, form = options.memory
        _measure_memory(who, Shape(int(n), int(d), int(k), form))
        return
    theirs(SHAPES[-1], *SHAPES[-1].data("float64"), 1)  # so that the header names the BLAS that the peer has loaded
    lines = [header()]
    jobs = [(s, "float64") for s in SHAPES] + [(s, "float32") for s in SHAPES[:1]]
    for shape, dtype in jobs:
        lines.append(row(shape, dtype))
        print(lines[-1], flush=True)
        options.out.write_text("\n".join(lines) + "\n")
    lines += ["", "Peak memory beyond the data and what importing takes, MiB:", ""]
    lines += ["| N × D, K, covariance | scikit-learn | onebound | at most |", "|---|---|---|---|"]
    first = SHAPES[0]
    lines.append(f"| {first} | {memory(first, 'theirs'):.0f} | {memory(first, 'ours'):.0f} | |")
    lines.append(f"| {LARGE} | not run: several GiB | {memory(LARGE, 'ours'):.0f} | {MEMORY_LIMIT:.0f} |")
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines[-2:]))


if __name__ == "__main__":
    main()
