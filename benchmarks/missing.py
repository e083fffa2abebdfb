"""How long does EM take where cells are missing, and what do the gaps cost beside the same table without them?

Full covariance, K components, a fixed number of iterations: the table as it is, its rows without gaps alone, and what a
naive fill with the columns' means would have climbed on. Writes what came out to missing.md beside itself:

    python benchmarks/missing.py --data DIR [--iterations 20] [--threads 1] [--out FILE]

DIR (or $ONEBOUND_DATA, or ../shared/data beside the repository) holds the data that do not travel with the package; a set
that is not there is skipped, and said so:

    beijing_air/beijing_air.npz   UCI Machine Learning Repository, "Beijing Multi-Site Air Quality"; key X, 420,768 × 11
    penguins/penguins.csv         Gorman, Williams & Fraser 2014; the four measurements of 344 penguins
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import onebound as ob
from onebound.data import read_table
from onebound.models import Mixture

ROOT = Path(__file__).parent.parent
# More rows in a block than the model would choose: more rows for each factorisation of a pattern's covariance.
LARGE_BLOCK = 12_000
MEASUREMENTS = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")


@dataclass(frozen=True)
class DataSet:
    """A table with gaps and the number of components to fit."""

    name: str
    file: str
    load: Callable[[Path], np.ndarray]
    components: int


DATA = (
    DataSet("beijing_air", "beijing_air/beijing_air.npz", lambda path: np.load(path)["X"], 8),
    DataSet("penguins", "penguins/penguins.csv", lambda path: read_table(path, MEASUREMENTS).values, 3),
)


def climb(y: np.ndarray, components: int, iterations: int, block: int | None) -> tuple[float, float, int]:
    """Seconds per iteration (from the first E record to the last), ln p(y) per row at the end, and repairs made."""
    model = Mixture(ob.emissions.Gaussian(components, y.shape[1]))
    model.initialize(y, torch.Generator().manual_seed(0))
    fit = ob.fit(model, y, ob.EM(), max_iter=iterations, tol=0, batch_size=block)
    first, last = fit.trace[0], fit.trace[-1]
    return (last.seconds - first.seconds) / iterations, fit.evidence, len(fit.repairs)


def lines_of(data: DataSet, y: np.ndarray, iterations: int) -> list[str]:
    """The rows of the table for one data set."""
    missing = np.isnan(y)
    whole = ~missing.any(1)
    patterns = len(np.unique(missing, axis=0))
    filled = np.where(missing, np.nanmean(y, 0, dtype=np.float64), y).astype(y.dtype)
    tables = [
        ("as it is", y, None),
        (f"as it is, in blocks of {LARGE_BLOCK:,} rows", y, LARGE_BLOCK),
        ("rows without gaps alone", y[whole], None),
        ("gaps filled with the columns' means", filled, None),
    ]
    lines = []
    for what, table, block in tables if len(y) > LARGE_BLOCK else [t for t in tables if t[2] is None]:
        begin = time.perf_counter()
        seconds, evidence, repairs = climb(table, data.components, iterations, block)
        lines.append(
            f"| {data.name}, K = {data.components}, {what} | {len(table):,} × {table.shape[1]} | "
            f"{int((~np.isfinite(table).all(1)).sum()):,} | {patterns if table is y else 1} | {seconds:.4f} | "
            f"{time.perf_counter() - begin:.2f} | {evidence:.4f} | {repairs} |"
        )
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Fit every data set that is there and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("ONEBOUND_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    text = [
        "# EM around missing cells",
        "",
        f"`python benchmarks/missing.py --iterations {given.iterations} --threads {given.threads}` on {os.cpu_count()} "
        f"cores ({platform.machine()}), load {os.getloadavg()[0]:.1f} when it began; torch {torch.__version__}, "
        f"{time.strftime('%Y-%m-%d')}. Full covariance, k-means++ start, {given.iterations} iterations of EM. The number "
        "ln p(y) compares fits of one table only: a row with fewer cells has another density.",
        "",
        "| data | rows × columns | rows with gaps | patterns | s an iteration | s in all | ln p(y), nats a row | repairs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for data in DATA:
        path = Path(given.data) / data.file
        if path.exists():
            text += lines_of(data, data.load(path), given.iterations)
        else:
            text += ["", f"{data.name}: skipped, for there is no {path.name} under --data.", ""]
            print(text[-2])
    given.out.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
