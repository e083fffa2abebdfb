"""One sequence of T steps, T = 10³ … 10⁷: time a step, and peak memory beyond the imports and the data, a process each.

Run by hand: `python -m benchmarks.long_chain` writes benchmarks/long_chain.md.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

STATES, PASSES = 8, 3
LENGTHS = (10**3, 10**4, 10**5, 10**6, 10**7)


def peak() -> float:
    """MiB of the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(steps: int) -> None:
    """Fit one sequence and print seconds of the start, seconds of a pass, and MiB beyond the imports and the data."""
    import torch

    import onebound as ob

    rng = np.random.default_rng(0)
    z = np.cumsum(rng.random(steps) < 0.05) % STATES
    y = (2.0 * z + rng.normal(size=steps))[:, None]
    del z
    ob.fit(ob.models.HMM(ob.emissions.Gaussian(STATES, 1, "diag")), y[:1000], max_iter=1, tol=0)
    before, model = peak(), ob.models.HMM(ob.emissions.Gaussian(STATES, 1, "diag"))
    begin = time.perf_counter()
    model.initialize(y, torch.Generator().manual_seed(0))
    middle = time.perf_counter()
    ob.fit(model, y, ob.EM(), max_iter=PASSES - 1, tol=0)
    print(middle - begin, (time.perf_counter() - middle) / PASSES, peak() - before)


def main() -> None:
    """Run the table, or one measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parser.parse_args()
    if options.steps:
        measure(options.steps)
        return
    lines = [
        "# One long sequence\n",
        f"Written by `python -m benchmarks.long_chain` as it came out, {os.cpu_count()} cores: a Gaussian HMM of {STATES} "
        f"states and one column, float64, EM; a pass is the mean of {PASSES}. Memory is the peak beyond the imports and the "
        "data.\n",
        "| steps | start, s | a pass, s | ns a step and pass | memory, MiB | the data, MiB |\n|---:|---:|---:|---:|---:|---:|",
    ]
    for steps in LENGTHS:
        command = [sys.executable, "-m", "benchmarks.long_chain", "--steps", str(steps)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        start, one, memory = map(float, done.stdout.split())
        lines.append(
            f"| {steps:,} | {start:.2f} | {one:.4f} | {1e9 * one / steps:,.0f} | {memory:.0f} | {8 * steps / 2**20:.1f} |"
        )
        print(lines[-1], flush=True)
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
