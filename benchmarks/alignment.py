"""Loss and gradient of CTC from logits beside torch's, in one process: same inputs, same threads, medians of taken turns.

Ours is `ctc_loss(…, from_logits=True)` and its backward pass, torch's `log_softmax`, `F.ctc_loss` and theirs. Each gradient is
also held against one in float64, and the memory of each is taken in a process of its own.
Run by hand: `python -m benchmarks.alignment` writes benchmarks/alignment.md. Tests never assert times.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

# Frames, items, classes, labels, and how many times faster than torch we want to be.
ROWS = [
    (500, 32, 64, 60, 5),
    (1000, 16, 1000, 100, 4),
    (200, 64, 30, 30, 4),
    (150, 1, 28, 40, 4),
    (150, 16, 28, 40, 4),
    (150, 64, 28, 40, 4),
    (150, 128, 28, 40, 4),
    (150, 16, 5000, 20, 3),
    (3000, 1, 100, 300, 6),
]
SECONDS, LEAST = 2.0, 7  # of each side in a row, and how many turns at least
SIDES = ("onebound", "torch")

Items = tuple[Tensor, Tensor, Tensor, Tensor]


def items(t: int, b: int, c: int, u: int) -> Items:
    """Logits (T, B, C), targets (B, U), and both lengths, all of them whole."""
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(t, b, c, generator=g)
    targets = torch.randint(1, c, (b, u), generator=g)
    return logits, targets, torch.full((b,), t), torch.full((b,), u)


def step_of(side: str, data: Items) -> Callable[[], Tensor]:
    """A call that computes the loss and returns the gradient of the logits."""
    from onebound.functional import ctc_loss

    logits, targets, frames, sizes = data
    x = logits.clone().requires_grad_()

    def ours() -> Tensor:
        x.grad = None
        ctc_loss(x, targets, frames, sizes, from_logits=True).backward()
        assert x.grad is not None
        return x.grad

    def theirs() -> Tensor:
        x.grad = None
        F.ctc_loss(x.log_softmax(-1), targets, frames, sizes).backward()
        assert x.grad is not None
        return x.grad

    return ours if side == "onebound" else theirs


def timed(data: Items) -> dict[str, float]:
    """Median seconds of each side, turn by turn."""
    steps = {side: step_of(side, data) for side in SIDES}
    for step in steps.values():
        step()
        step()
    spent: dict[str, list[float]] = {side: [] for side in SIDES}
    while len(spent["torch"]) < LEAST or sum(map(sum, spent.values())) < 2 * SECONDS:
        for side, step in steps.items():
            start = time.perf_counter()
            step()
            spent[side].append(time.perf_counter() - start)
    return {side: statistics.median(each) for side, each in spent.items()}


def apart(data: Items) -> dict[str, float]:
    """The largest difference of each gradient from one in float64, over the largest value there is."""
    logits, *rest = data
    exact = step_of("onebound", (logits.double(), *rest))()  # held against log space at 1e-9 by the tests
    most = float(exact.abs().max())
    return {side: float((step_of(side, data)().double() - exact).abs().max()) / most for side in SIDES}


def memory(side: str, row: tuple[int, int, int, int]) -> float:
    """MiB that a step adds to the peak of a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, side, *map(str, row)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def grown(side: str, row: tuple[int, int, int, int]) -> float:
    """The same, in this process, after a small step has loaded what there is to load."""
    torch.set_num_threads(1)
    step_of(side, items(4, 1, row[2], 2))()
    step = step_of(side, items(*row))
    Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on that of what follows
    before = peak()
    step()
    return peak() - before


def peak() -> float:
    """The most memory that this process has had resident since the peak was reset, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def processor() -> str:
    """The processor's name."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(": ")[2] if names else platform.machine()


def main() -> None:
    lines = [
        "# CTC: loss and gradient from logits",
        "",
        f"Written by `python -m benchmarks.alignment` on {processor()}, {os.cpu_count()} processors, torch",
        f"{torch.__version__}, float32. Milliseconds are medians of taken turns in one process; the error is the largest of",
        "a gradient, over its largest value; MiB are what a step adds to the peak of a process of its own.",
        "",
        "| T, B, C, U | threads | onebound ms | torch ms | torch ÷ ours | wanted | error | torch's | MiB | torch's |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for *shape, wanted in ROWS:
        t, b, c, u = shape
        data = items(t, b, c, u)
        off = apart(data)
        used = {side: memory(side, (t, b, c, u)) for side in SIDES}
        for threads in dict.fromkeys((1, min(2, os.cpu_count() or 1))):
            torch.set_num_threads(threads)
            spent = timed(data)
            cells = [
                f"{t}, {b}, {c}, {u}",
                str(threads),
                *(f"{1e3 * spent[side]:.2f}" for side in SIDES),
                f"{spent['torch'] / spent['onebound']:.1f}",
                str(wanted),
                *(f"{off[side]:.0e}" for side in SIDES),
                *(f"{used[side]:.0f}" for side in SIDES),
            ]
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        t, b, c, u = map(int, sys.argv[2:])
        print(grown(sys.argv[1], (t, b, c, u)))
    else:
        main()
