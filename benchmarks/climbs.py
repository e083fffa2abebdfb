"""How many passes over the data does each algorithm need to climb the same bound?

"VAE = EM" (McAllester 2017) says that on models with a closed-form M step alternating optimisation is "typically far
superior to any form of gradient descent". This script measures it, from the same starts on the same data, and writes what
came out to climbs.md and climbs.json beside itself (a run of fewer sets or starts is only printed, unless --out says where):

    python benchmarks/climbs.py --data DIR [--only iris,overlap] [--starts 5] [--jobs 2]

DIR (or $ONEBOUND_DATA) holds the data that do not travel with the package; a set that is not there is skipped, and said so:

    iris/iris.csv                          Fisher 1936; UCI Machine Learning Repository, "Iris"
    digits8x8/optdigits_train.csv.gz       UCI, "Optical Recognition of Handwritten Digits", with a header, 64 pixels first
    japanese_vowels/train.csv.gz           UCI, "Japanese Vowels", columns utterance, speaker, frame, lpc1 to lpc12
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from climbs_report import report
from natural import NG

import onebound as ob
from onebound.data import read_table
from onebound.errors import OneboundError
from onebound.models import HMM, Mixture, Model
from onebound.recognition import recognition_for

ALGORITHMS = ("EM", "EM, SQUAREM", "EG, Adam", "EG, L-BFGS", "NG", "VAE, Adam")
OF_CHAINS = ALGORITHMS[:-1]
CLOSE, CLOSER = 1e-3, 1e-6  # nats per item
LEARNING_RATES = (0.02, 0.06, 0.2)
BATCHES = 16  # mini-batches in a pass, where Adam takes them


@dataclass(frozen=True)
class DataSet:
    """Data, model and budgets. `full`, `mini`: passes for Adam; `natural`, `refresh`: iterations, and how old F may get.

    `load`: rows (N, D), or a list of sequences (T_n, D) for hidden Markov models, which no VAE climbs here.
    """

    name: str
    what: str
    load: Callable[[Path], Any]
    model: Callable[[], Model]
    full: int = 600
    mini: int = 60
    natural: int = 200
    refresh: int = 3
    algorithms: tuple[str, ...] = ALGORITHMS


def _faithful(folder: Path) -> np.ndarray:
    return read_table(Path(ob.__file__).parent / "data" / "old_faithful.csv").values


def _iris(folder: Path) -> np.ndarray:
    return read_table(folder / "iris" / "iris.csv").values[:, :4]


def _digits(folder: Path) -> np.ndarray:
    pixels = read_table(folder / "digits8x8" / "optdigits_train.csv.gz").values[:, :64]
    return (pixels > 7).astype(np.float64)


def _corners(distance: float) -> Callable[[Path], np.ndarray]:
    """1,000 draws from four spherical Gaussians of variance 1 at the corners of a square with sides `distance`."""

    def load(folder: Path) -> np.ndarray:
        rng = np.random.default_rng(0)
        corner = distance * np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        return corner[rng.integers(4, size=1000)] + rng.standard_normal((1000, 2))

    return load


def _vowels(folder: Path) -> list[np.ndarray]:
    table = read_table(folder / "japanese_vowels" / "train.csv.gz").values
    ends = np.flatnonzero(np.diff(table[:, 0])) + 1
    return np.split(table[:, 3:], ends)


def _switching(distance: float) -> Callable[[Path], list[np.ndarray]]:
    """100 draws of 30 steps from three states that stay with probability 0.8, Gaussians `distance` sd apart on a line."""

    def load(folder: Path) -> list[np.ndarray]:
        rng, matrix = np.random.default_rng(0), np.full((3, 3), 0.1) + 0.7 * np.eye(3)
        z = np.empty((100, 30), np.int64)
        z[:, 0] = rng.integers(3, size=100)
        for t in range(1, 30):
            z[:, t] = (rng.random((100, 1)) > matrix[z[:, t - 1]].cumsum(1)).sum(1)
        y = distance * z[..., None] + rng.standard_normal((100, 30, 1))
        return list(y)

    return load


def _chain(k: int, d: int, covariance: str) -> Callable[[], Model]:
    return lambda: HMM(ob.emissions.Gaussian(k, d, covariance))


def _gaussians(k: int, d: int) -> Callable[[], Model]:
    return lambda: Mixture(ob.emissions.Gaussian(k, d, "full"))


DATA = {
    d.name: d
    for d in (
        DataSet("old-faithful", "272 × 2, 2 full Gaussians", _faithful, _gaussians(2, 2)),
        DataSet("iris", "150 × 4, 3 full Gaussians", _iris, _gaussians(3, 4), full=1000, mini=100),
        DataSet("apart", "synthetic, 1,000 × 2, 4 full Gaussians, centres 8 sd apart", _corners(8.0), _gaussians(4, 2)),
        DataSet(
            "overlap",
            "synthetic, 1,000 × 2, 4 full Gaussians, centres 2 sd apart",
            _corners(2.0),
            _gaussians(4, 2),
            full=1500,
            mini=150,
        ),
        DataSet(
            "digits8x8",
            "3,823 × 64 pixels > 7, 10 Bernoulli components",
            _digits,
            lambda: Mixture(ob.emissions.Bernoulli(10, 64)),
            full=500,
            mini=80,
            natural=200,
            refresh=10,
        ),
        DataSet(
            "hmm-apart",
            "synthetic, 100 sequences × 30 × 1, HMM of 3 states, Gaussians 4 sd apart",
            _switching(4.0),
            _chain(3, 1, "full"),
            algorithms=OF_CHAINS,
        ),
        DataSet(
            "hmm-overlap",
            "synthetic, 100 sequences × 30 × 1, HMM of 3 states, Gaussians 1.5 sd apart",
            _switching(1.5),
            _chain(3, 1, "full"),
            full=1500,
            mini=150,
            algorithms=OF_CHAINS,
        ),
        DataSet(
            "vowels",
            "270 utterances × 7 to 26 frames × 12, HMM of 5 states, diagonal Gaussians",
            _vowels,
            _chain(5, 12, "diag"),
            full=400,
            mini=40,
            natural=100,
            algorithms=OF_CHAINS,
        ),
    )
}


@dataclass(frozen=True)
class Setting:
    """One way to run an algorithm."""

    label: str
    algorithm: Callable[[Any, Any], Any]  # (y, recognition network) → Algorithm
    max_iter: int
    batch_size: int | None = None
    tol: float | None = None


@dataclass
class Run:
    """One climb. `passes`, `bound`, `evidence`, `seconds`: a value after each E step, nats per item.

    `hilltop`: L where L-BFGS comes to rest from the end of this climb, the top of the hill that it was on.
    """

    data: str
    algorithm: str
    setting: str
    start: int
    passes: list[float] = field(default_factory=list)
    bound: list[float] = field(default_factory=list)
    evidence: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    reason: str = ""
    hilltop: float = math.nan
    repairs: int = 0

    def reach(self, target: float, series: str = "bound") -> int | None:
        """The index of the first E step at which `series` is at least `target`."""
        return next((i for i, value in enumerate(getattr(self, series)) if value >= target), None)


def settings(algorithm: str, data: DataSet, n_items: int) -> list[Setting]:
    """The ways to run it; where there are several, the best on the first start is taken for all."""
    if algorithm == "EM":
        return [Setting("", lambda y, net: ob.EM(), 3000, tol=1e-11)]
    if algorithm == "EM, SQUAREM":
        return [Setting("", lambda y, net: ob.EM(accelerate="squarem"), 3000, tol=1e-11)]
    if algorithm == "EG, L-BFGS":
        return [Setting("", lambda y, net: ob.EG("lbfgs"), 1000, tol=1e-11)]
    if algorithm == "NG":
        return [Setting("", lambda y, net: NG(y, refresh=data.refresh), data.natural, tol=1e-11)]
    make = ob.VAE if algorithm.startswith("VAE") else lambda net, lr: ob.EG("adam", lr=lr)
    return [
        Setting(f"lr {lr}{text}", partial(_with_rate, make, lr), budget, batch)
        for text, budget, batch in (("", data.full, None), (", mini-batches", data.mini, -(-n_items // BATCHES)))
        for lr in LEARNING_RATES
    ]


def _with_rate(make: Callable[..., Any], lr: float, y: Any, network: Any) -> Any:
    return make(network, lr=lr)


def climb(data: DataSet, y: Any, algorithm: str, setting: Setting, start: int) -> Run:
    """One climb from start number `start`, with L after every E step."""
    model = data.model()
    obs = model.observe(y)
    model.initialize(obs, torch.Generator().manual_seed(start))
    generator = torch.Generator().manual_seed(1000 + start)
    network = recognition_for(model, obs, generator=generator) if algorithm.startswith("VAE") else None
    run, aside = Run(data.name, algorithm, setting.label, start), 0.0

    def note(record: ob.Record) -> None:
        nonlocal aside
        if record.after != "E":
            return
        bound, evidence = _known(record.bound), _known(record.evidence)
        if record.running:  # a mean over the pass is no value of L: evaluate, outside the counts
            before = time.perf_counter()
            here = ob.bound(model, obs, network).mean()
            bound, evidence = here["bound"], here["evidence"]
            aside += time.perf_counter() - before
        run.passes.append(record.passes)
        run.bound.append(bound)
        run.evidence.append(evidence)
        run.seconds.append(record.seconds - aside)

    try:
        fit = ob.fit(
            model,
            obs,
            setting.algorithm(y, network),
            max_iter=setting.max_iter,
            tol=setting.tol,
            batch_size=setting.batch_size,
            generator=generator,
            callbacks=[note],
        )
        run.reason, run.repairs = fit.reason, len(fit.repairs)
    except OneboundError as error:
        run.reason = f"{type(error).__name__}: {error}"
    _find_hilltop(run, model, obs)
    return run


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def _find_hilltop(run: Run, model: Model, obs: Any) -> None:
    try:
        top = ob.fit(copy.deepcopy(model), obs, ob.EG("lbfgs"), max_iter=500, tol=1e-12)
    except OneboundError as error:
        run.reason += f"; no hilltop ({type(error).__name__}: {error})"
        return
    run.hilltop = max([top.bound, *run.bound])
    run.repairs += len(top.repairs)


def race(name: str, algorithm: str, folder: Path, starts: int) -> list[Run]:
    """The climbs of one algorithm on one data set from every start, in its best setting; the grid's own runs come last."""
    torch.set_num_threads(1)
    data = DATA[name]
    y = data.load(folder)
    grid = settings(algorithm, data, len(y))
    tried = [climb(data, y, algorithm, setting, 0) for setting in grid]
    best = min(range(len(grid)), key=lambda i: _speed(tried[i], max(max(r.bound, default=-math.inf) for r in tried)))
    rest = [climb(data, y, algorithm, grid[best], start) for start in range(1, starts)]
    return [tried[best], *rest, *(r for r in tried if r is not tried[best])]


def _speed(run: Run, top: float) -> tuple[float, float]:
    """Passes to within 1e-3 of the best that any setting reached on this start; then who ended highest."""
    at = run.reach(top - CLOSE)
    return (math.inf if at is None else run.passes[at], -max(run.bound, default=-math.inf))


def summary(runs: list[Run], series: str, target: Callable[[Run], float]) -> dict[str, Any]:
    """Median passes and seconds over the starts that reached their target, and how many did."""
    hits = [(r, r.reach(target(r), series)) for r in runs]
    passes = [r.passes[i] for r, i in hits if i is not None]
    seconds = [r.seconds[i] for r, i in hits if i is not None]
    return {
        "passes": median(passes) if passes else None,
        "seconds": round(median(seconds), 3) if seconds else None,
        "reached": len(passes),
        "of": len(runs),
    }


def results(runs: list[Run], starts: int) -> Iterator[dict[str, Any]]:
    """One row for each data set and algorithm (the VAE twice: its own L, and the evidence of its Θ)."""
    for name in dict.fromkeys(r.data for r in runs):
        yield from _rows_of(name, [r for r in runs if r.data == name], starts)


def _rows_of(name: str, here: list[Run], starts: int) -> Iterator[dict[str, Any]]:
    table = [r for a in ALGORITHMS for r in [r for r in here if r.algorithm == a][:starts]]
    # A component at the covariance floor is a spike of the likelihood, no optimum that anyone wants.
    best, highest = (
        max(r.hilltop for r in group if r.repairs == 0 and r.hilltop == r.hilltop) for group in (table, here)
    )
    for algorithm in DATA[name].algorithms:
        mine = [r for r in here if r.algorithm == algorithm][:starts]
        for series in ("bound", "evidence") if algorithm.startswith("VAE") else ("bound",):
            yield {
                "data": name,
                "algorithm": algorithm + (": ln p(y)" if series == "evidence" else ""),
                "setting": mine[0].setting,
                "best_known": best,
                "highest_of_discarded": highest,
                "to_best_known": summary(mine, series, lambda r: best - CLOSE),
                "to_hilltop": summary(mine, series, lambda r: r.hilltop - CLOSE),
                "to_hilltop_closer": summary(mine, series, lambda r: r.hilltop - CLOSER),
                "hilltop_below_best": median(best - r.hilltop for r in mine),
                "repaired": sum(r.repairs > 0 for r in mine),
                "failed": [f"start {r.start}: {r.reason}" for r in mine if ":" in r.reason],
            }


def _compact(run: Run) -> dict[str, Any]:
    """A run without its curves."""
    kept = {k: v for k, v in asdict(run).items() if not isinstance(v, list)}
    last = {k: getattr(run, k)[-1] if run.passes else None for k in ("passes", "bound", "evidence", "seconds")}
    return {**kept, **last, "passes_to_hilltop": _passes(run, CLOSE), "passes_to_hilltop_closer": _passes(run, CLOSER)}


def _passes(run: Run, tolerance: float) -> float | None:
    at = run.reach(run.hilltop - tolerance)
    return None if at is None else run.passes[at]


def available(names: list[str], folder: Path) -> tuple[list[str], dict[str, str]]:
    """The sets that can be loaded, and why the others cannot."""
    ready, skipped = [], {}
    for name in names:
        try:
            DATA[name].load(folder)
            ready.append(name)
        except OneboundError as error:
            skipped[name] = str(error).replace(str(folder), "DIR")
    return ready, skipped


def main() -> None:
    parser = argparse.ArgumentParser(description="Passes over the data to the optimum, algorithm by algorithm.")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ONEBOUND_DATA", "../shared/data")))
    parser.add_argument("--only", default=",".join(DATA), help=f"of {', '.join(DATA)}")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="where to write; a partial run is only printed without it")
    options = parser.parse_args()
    names = options.only.split(",")
    if set(names) - DATA.keys():
        parser.error(f"--only: expected some of {', '.join(DATA)}, got {options.only}")
    begun = time.perf_counter()
    ready, skipped = available(names, options.data)
    if not ready:
        parser.error("no data set is there. " + " ".join(f"{n}: {why}" for n, why in skipped.items()))
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        # The longest first, so that no worker is left with it at the end.
        tasks = {
            (n, a): pool.submit(race, n, a, options.data, options.starts)
            for n in ready[::-1]
            for a in DATA[n].algorithms
        }
        runs = []
        for (name, algorithm), task in tasks.items():
            runs += task.result()
            print(f"{time.perf_counter() - begun:6.0f} s  {name}, {algorithm}", flush=True)
    runs.sort(key=lambda r: ready.index(r.data))
    rows = list(results(runs, options.starts))
    minutes = (time.perf_counter() - begun) / 60
    about = {n: DATA[n].what for n in ready}
    home = Path(__file__).parent
    text = report(home / "climbs.md", rows, about, skipped, options.starts, options.jobs, minutes)
    print(text)
    # The committed table holds all sets and five starts; a run of less does not replace it by accident.
    out = options.out or (home if len(ready) == len(DATA) and options.starts >= 5 else None)
    if out is not None:
        raw = {"rows": rows, "runs": [_compact(r) for r in runs]}
        (out / "climbs.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
        (out / "climbs.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
