"""The table of climbs.py as markdown; a reading written by hand between two marks is carried over from run to run."""

from __future__ import annotations

import datetime
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- reading: written by hand, kept by climbs.py -->", "<!-- end of reading -->"

TO_BEST = """\
Passes over the data until L is within 1e-3 nats per item of the **best known** optimum: the highest point that a climb in the
table, of any algorithm from any start, led to. The median over the starts that got there, and how many of the {starts} did; the
others climbed another hill (or used up their budget), so look at the count before the number. The discarded settings of Adam's
grid do not count, because they would give Adam more tries than the others; where one led higher, it is said below."""

TO_TOP = """\
The same without the luck of the start: passes until L is within 1e-3 nats per item of the **top of its own hill**, which is
where L-BFGS comes to rest when it goes on from the end of that climb (those passes are not counted). Fewer than {starts} here
means that the budget ran out first (Adam: 500 to 1,500 whole passes, or 60 to 150 in mini-batches). Different
algorithms may be on different hills from the same start; the table after the next says how far
those lie below the best known."""

CLOSER = """\
The same, within **1e-6** nats per item: the last stretch, where the linear convergence of EM shows. (For the L of a VAE the gap
of its q must close to 1e-6, too.)"""

BELOW = """\
How far the top of its hill lies below the best known, nats per item: the median over the starts."""

SECONDS = """\
Seconds to within 1e-3 of the top of its own hill, median, one thread, on a machine that was busy with other work: a rough
guide. They compare our implementations; passes compare the algorithms."""

NOTES = """\
Every algorithm ran from the same {starts} starts (k-means++, seeds 0 to {last}; the start's own passes are not counted). One
pass = every item visited once, forward or forward and backward. Every evaluation in a line search counts. EG takes its gradient
from the expected statistics. NG is the natural gradient: the evidence's gradient times the inverse of the damped empirical
Fisher information of the observed data, in a trust region; a trial is a pass, and so is renewing the Fisher information, every
third step (digits8x8: every tenth, because there it takes the time of some fifty plain passes). Adam had a grid: learning rate
0.02, 0.06 or 0.2, with whole passes or with 16 mini-batches a pass; the best on the first start was taken for all starts, and
is named below. Its learning rate decays over the last third of its budget. The VAE has the exact expectation under q
(enumerated) and a recognition network that can represent the exact posterior; its row counts its own L, and the row below
counts ln p(y) of the same Θ. L after mini-batches is a full evaluation that is not counted. Climbs that end with a covariance
clipped at the floor are not candidates for the best known. The seeds and budgets are in `climbs.py`, every climb's end is in
`climbs.json`."""


def cell(summary: dict[str, Any], key: str = "passes") -> str:
    """median (reached/of)"""
    value = summary[key]
    shown = "–" if value is None else f"{value:.3g}" if key == "seconds" else f"{value:.0f}"
    return shown if key == "seconds" else f"{shown} ({summary['reached']}/{summary['of']})"


def table(rows: list[dict[str, Any]], names: list[str], show: Any) -> str:
    """Algorithms down, data sets across."""
    by = {(r["algorithm"], r["data"]): r for r in rows}
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    down = dict.fromkeys(r["algorithm"] for r in rows)
    return "\n".join(
        [
            *lines,
            *(f"| {a} | " + " | ".join(show(by[a, n]) if (a, n) in by else "" for n in names) + " |" for a in down),
        ]
    )


def _reading(path: Path) -> str:
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    found = re.search(re.escape(BEGIN) + r"\n(.*?)" + re.escape(END), old, re.DOTALL)
    return f"{BEGIN}\n{found.group(1) if found else ''}{END}"


def _machine(jobs: int, minutes: float) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("onebound", "torch", "numpy"))
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    return (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}; {cpu}, {jobs} processes of one thread, {minutes:.0f} minutes in all; "
        f"Python {platform.python_version()}, {versions}.\n\n    python benchmarks/climbs.py --data DIR\n"
    )


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def _tops(best: float, highest: float) -> str:
    known = f"best known L = {best:.6f} nats per item"
    return known + (f" ({highest:.6f} from a discarded setting)" if highest > best + 1e-6 else "")


def _settings(rows: list[dict[str, Any]], names: list[str]) -> str:
    adam = [r for r in rows if r["setting"] and not r["algorithm"].endswith("ln p(y)")]
    return table(adam, names, lambda r: r["setting"])


def _troubles(rows: list[dict[str, Any]]) -> list[str]:
    out = []
    for r in rows:
        if r["algorithm"].endswith("ln p(y)"):
            continue
        if r["repaired"]:
            out.append(
                f"- {r['data']}, {r['algorithm']}: {r['repaired']} climbs had a covariance clipped at the floor."
            )
        out += [f"- {r['data']}, {r['algorithm']}, {text}" for text in r["failed"]]
    return out


def report(
    earlier: Path,
    rows: list[dict[str, Any]],
    about: dict[str, str],
    skipped: dict[str, str],
    starts: int,
    jobs: int,
    minutes: float,
) -> str:
    """The report as text, with the reading that the `earlier` one holds."""
    names = list(about)
    best = {r["data"]: r["best_known"] for r in rows}
    highest = {r["data"]: r["highest_of_discarded"] for r in rows}
    sets = [f"- **{n}**: {what}; {_tops(best[n], highest[n])}" for n, what in about.items()]
    sets += [f"- **{n}**: skipped. {why}" for n, why in skipped.items()]
    parts = [
        "# Passes to the optimum, algorithm by algorithm",
        _reading(earlier),
        TO_BEST.format(starts=starts),
        table(rows, names, lambda r: cell(r["to_best_known"])),
        TO_TOP.format(starts=starts),
        table(rows, names, lambda r: cell(r["to_hilltop"])),
        CLOSER,
        table(rows, names, lambda r: cell(r["to_hilltop_closer"])),
        BELOW,
        table(rows, names, lambda r: f"{max(r['hilltop_below_best'], 0.0):.4f}"),
        SECONDS,
        table(rows, names, lambda r: cell(r["to_hilltop"], "seconds")),
        "## What was run",
        "\n".join(sets),
        NOTES.format(starts=starts, last=starts - 1),
        _settings(rows, names),
        _machine(jobs, minutes),
    ]
    troubles = _troubles(rows)
    if troubles:
        parts.insert(-1, "What went wrong on the way:\n\n" + "\n".join(troubles))
    return "\n\n".join(parts).rstrip("\n") + "\n"
