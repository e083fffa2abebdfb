"""Hidden Markov models on public series: `python examples/series.py FOLDER` prints what it finds as a Markdown page.

FOLDER holds the files below; each function names its file, its columns and where it can be had. Files that are missing are
left out. Everything is fitted by EM from 10 starts.
"""

from __future__ import annotations

import csv
import gzip
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import onebound as ob
from onebound.models import HMM, Mixture

STARTS = 10


def columns(path: Path) -> dict[str, list[str]]:
    """The columns of a csv file by name."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def number(cell: str) -> float:
    """A cell as a number, NaN where it is empty."""
    return float(cell) if cell else math.nan


def fitted(model: HMM | Mixture, y: object, starts: int = STARTS, **options: object) -> ob.Fit:
    """EM from several starts, always the same ones."""
    generator = torch.Generator().manual_seed(0)
    return ob.fit(model, y, ob.EM(), restarts=starts, max_iter=1000, generator=generator, **options)


def total(fit: ob.Fit) -> float:
    """ln p of all sequences, nats."""
    return fit.evidence * fit.n_items


def earthquakes(folder: Path) -> Iterator[str]:
    """earthquakes.csv: year, count. Earthquakes of magnitude 7 and more, 1900-2006 (USGS; Zucchini & MacDonald 2009)."""
    y = np.array([number(c) for c in columns(folder / "earthquakes.csv")["count"]])
    yield "| states | ln p | free parameters | BIC | rates a year |"
    yield "|---|---|---|---|---|"
    for k in (1, 2, 3, 4):
        model = HMM(ob.emissions.Poisson(k, 1))
        fit = fitted(model, y)
        bic = -2 * total(fit) + model.n_parameters() * math.log(len(y))
        rates = ", ".join(f"{r:.1f}" for r in sorted(model.emission.rate.flatten().tolist()))
        yield f"| {k} | {total(fit):.3f} | {model.n_parameters()} | {bic:.1f} | {rates} |"


def geyser(folder: Path) -> Iterator[str]:
    """geyser299.csv: waiting and duration, in order (Azzalini & Bowman 1990; in R, MASS::geyser). Fitted on the first 200."""
    table = columns(folder / "geyser299.csv")
    y = torch.tensor([[number(c) for c in table[name]] for name in ("waiting", "duration")], dtype=torch.float64).T
    head = y[:200]
    yield "| model of 2 states | nats per observation, first 200 | on the 99 that follow |"
    yield "|---|---|---|"
    mixture = Mixture(ob.emissions.Gaussian(2, 2))
    fit = fitted(mixture, head)
    held_out = float(mixture.evidence(y[200:]).detach().mean())
    yield f"| mixture, order ignored | {fit.evidence:.4f} | {held_out:.4f} |"
    hmm = HMM(ob.emissions.Gaussian(2, 2))
    fit = fitted(hmm, head)
    held_out = (float(hmm.evidence(y).detach()) - total(fit)) / 99
    yield f"| HMM | {total(fit) / 200:.4f} | {held_out:.4f} |"


def returns(folder: Path) -> Iterator[str]:
    """sp500_weekly_returns.csv: week_ending, return. Growth of the S&P 500, 2003-2012 (in R, astsa::sp500w)."""
    y = np.array([100 * number(c) for c in columns(folder / "sp500_weekly_returns.csv")["return"]])
    yield "| regimes | ln p | BIC | mean, % a week | standard deviation | expected weeks |"
    yield "|---|---|---|---|---|---|"
    for k in (1, 2, 3):
        model = HMM(ob.emissions.Gaussian(k, 1))
        fit = fitted(model, y)
        bic = -2 * total(fit) + model.n_parameters() * math.log(len(y))
        order = model.emission.mean.flatten().argsort(descending=True)
        means = ", ".join(f"{model.emission.mean[i, 0]:.2f}" for i in order)
        spreads = ", ".join(f"{model.emission.covariance[i, 0, 0].sqrt():.2f}" for i in order)
        stays = ", ".join("–" if k == 1 else f"{1 / (1 - model.transition_matrix[i, i]):.0f}" for i in order)
        yield f"| {k} | {total(fit):.2f} | {bic:.1f} | {means} | {spreads} | {stays} |"


def sleep(folder: Path) -> Iterator[str]:
    """infant_sleep1.csv: infant, minute, state 1-6, movements. Twelve infants, minute by minute (Stoffer et al. 1988)."""
    table = columns(folder / "infant_sleep1.csv")
    state = np.array([number(c) for c in table["state"]])[:, None] - 1
    infants = np.array(table["infant"])
    lengths = [int((infants == i).sum()) for i in dict.fromkeys(table["infant"])]
    obs = ob.Observations.of(state, lengths=lengths)
    seen = int((~np.isnan(state)).sum())
    yield f"{seen:,} minutes with a state, {len(state) - seen} without. A hidden state for each of the six that are scored:"
    yield ""
    yield "| hidden states | ln p | BIC |"
    yield "|---|---|---|"
    for k in (1, 3, 6):
        model = HMM(ob.emissions.Categorical(k, [6]))
        fit = fitted(model, obs)
        yield f"| {k} | {total(fit):.1f} | {-2 * total(fit) + model.n_parameters() * math.log(seen):.0f} |"


def electricity(folder: Path) -> Iterator[str]:
    """vic_electricity.csv.gz: Demand, Temperature, half-hourly, 2012-2014 (in R, tsibbledata::vic_elec)."""
    table = columns(folder / "vic_electricity.csv.gz")
    y = np.array([[number(c) for c in table[name]] for name in ("Demand", "Temperature")]).T
    yield f"{len(y):,} rows, full covariance, from 2 starts."
    yield ""
    yield "| states | ln p per row, nats | passes | seconds |"
    yield "|---|---|---|---|"
    for k in (2, 4, 8):
        begin = time.perf_counter()
        fit = fitted(HMM(ob.emissions.Gaussian(k, 2)), y, starts=2)
        seconds = time.perf_counter() - begin
        yield f"| {k} | {total(fit) / len(y):.4f} | {fit.trace[-1].passes:g} | {seconds:.1f} |"


def phage(folder: Path) -> Iterator[str]:
    """lambda_phage.fa.gz: the genome of phage lambda, 48,502 bases (GenBank NC_001416.1)."""
    with gzip.open(folder / "lambda_phage.fa.gz", "rt") as file:
        text = "".join(line.strip() for line in file if not line.startswith(">"))
    y = np.array(["ACGT".index(c) for c in text], dtype=float)[:, None]
    yield "Started from windows of 100, 300, 1,000 and 3,000 bases, sorted by their share of G + C; the best of the four."
    yield ""
    yield "| states | ln p | BIC | share of G + C by state | expected bases in a state |"
    yield "|---|---|---|---|---|"
    for k in (1, 2, 3, 4):
        models = [HMM(ob.emissions.Categorical(k, [4])) for _ in WINDOWS]
        fits = [ob.fit(m, y, init=windows(y, w, k), max_iter=300) for m, w in zip(models, WINDOWS, strict=True)]
        fit = max(fits, key=total)
        model = fit.model
        bic = -2 * total(fit) + model.n_parameters() * math.log(len(y))
        gc = model.emission.probability[:, 0, 1:3].sum(-1)
        order = gc.argsort()
        shares = ", ".join(f"{gc[i]:.3f}" for i in order)
        stays = ", ".join("–" if k == 1 else f"{1 / (1 - model.transition_matrix[i, i]):,.0f}" for i in order)
        yield f"| {k} | {total(fit):.1f} | {bic:.0f} | {shares} | {stays} |"


WINDOWS = (100, 300, 1_000, 3_000)


def windows(y: np.ndarray, size: int, k: int) -> torch.Tensor:
    """States to start from: windows of `size` bases in k groups by their share of G + C."""
    gc = np.isin(y[:, 0], (1, 2))
    shares = np.array([gc[i : i + size].mean() for i in range(0, len(gc), size)])
    groups = shares.argsort().argsort() * k // len(shares)
    return torch.from_numpy(np.repeat(groups, size)[: len(gc)])


RUNS = {
    "earthquakes.csv": ("Earthquakes a year: Poisson states", earthquakes),
    "geyser299.csv": ("Old Faithful in order: does the order matter?", geyser),
    "sp500_weekly_returns.csv": ("Regimes of the S&P 500", returns),
    "infant_sleep1.csv": ("Infants asleep: twelve sequences with gaps", sleep),
    "vic_electricity.csv.gz": ("Electricity in Victoria", electricity),
    "lambda_phage.fa.gz": ("Phage lambda: stretches of the genome", phage),
}


def main() -> None:
    """Run all that the folder has files for."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python examples/series.py FOLDER   (what it should hold stands on top of the script)")
    folder = Path(sys.argv[1])
    print("# Hidden Markov models on real series\n\nWritten by `python examples/series.py FOLDER` as it came out.")
    for file, (title, run) in RUNS.items():
        found = next(iter(sorted(folder.rglob(file))), None)
        if found is None:
            continue
        assert run.__doc__ is not None
        print(f"\n## {title}\n\n{run.__doc__}\n", flush=True)
        for line in run(found.parent):
            print(line, flush=True)


if __name__ == "__main__":
    main()
