"""The states over a series: its columns, and under them the most probable path and the probabilities, as coloured bands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from onebound.observations import Observations
from onebound.report import numbers
from onebound.report.parameters import array, coded_columns
from onebound.report.style import FONT_SIZE, INK, MUTED, RULE, component_colour, dress, isolated, new_figure

ACROSS = 400  # Bands side by side: with more rows than that, several share one.
SEQUENCES = 3  # Drawn: the first ones.
COLUMNS = 2  # Drawn of each: those on which the states differ most.
SERIES_WIDTH = 8.4  # Inches.
COLUMN_HEIGHT, BAND_HEIGHT, FULL_BAND_HEIGHT = 1.15, 0.22, 0.45  # Inches; a band that several rows share is higher.


@dataclass(frozen=True)
class Series:
    """One sequence: y (T, D), the probabilities of its states (T, K), and its most probable path (T,)."""

    y: np.ndarray
    probability: np.ndarray
    path: np.ndarray

    @property
    def rows_per_band(self) -> int:
        """How many rows share a band."""
        return -(-len(self.y) // ACROSS)

    def bands(self, of_rows: np.ndarray) -> np.ndarray:
        """Means over the rows of each band.  (T, K) → (bands, K)"""
        starts = np.arange(0, len(of_rows), self.rows_per_band)
        counts = np.diff(np.append(starts, len(of_rows)))
        return np.asarray(np.add.reduceat(of_rows, starts, axis=0) / counts[:, None])

    @property
    def edges(self) -> np.ndarray:
        """Where bands begin and end, the first row being 1."""
        return np.append(np.arange(0, len(self.y), self.rows_per_band), len(self.y)) + 0.5


@torch.no_grad()
def first_series(model: Any, y: Any, n: int = SEQUENCES) -> list[Series]:
    """The first n sequences that have rows, with what the model says of them."""
    obs = model.observe(y)
    assert obs.lengths is not None
    picked = (obs.lengths > 0).nonzero().flatten()[:n]
    found = []
    for i in picked.tolist():
        one: Observations = obs.select(slice(i, i + 1))
        q = model.posterior(one)
        found.append(Series(array(one.y), array(model.row_responsibilities(q)), q.argmax.numpy()))
    return found


def series_figure(model: Any, y: Any, names: Sequence[str]) -> Figure:
    """The first sequences, one below the other: the columns on which the states differ most, and two bands under them.

    The upper band is the most probable path (Viterbi), the lower the probability of each state. Of more than 400 rows
    several share a place: a column is then drawn from its lowest to its highest value with the mean as a line, and a band
    is as full of a colour as its rows are of that state.
    """
    shown = first_series(model, y)
    columns = telling_columns(model, shown)
    band = BAND_HEIGHT if all(one.rows_per_band == 1 for one in shown) else FULL_BAND_HEIGHT
    tall = [*([COLUMN_HEIGHT] * len(columns)), band, band]
    with isolated():
        figure = new_figure(0.35 + len(shown) * (sum(tall) + 0.55), SERIES_WIDTH)
        grids = figure.subfigures(len(shown), 1, squeeze=False)[:, 0]
        for i, (one, part) in enumerate(zip(shown, grids, strict=True)):
            part.set_facecolor("none")
            axes = part.subplots(len(tall), 1, sharex=True, squeeze=False, height_ratios=tall)[:, 0]
            for panel, d in zip(axes, columns, strict=False):
                _draw_column(panel, one, d, names[d])
            _draw_bands(axes[-2], one, np.eye(one.probability.shape[1])[one.path], "path")
            _draw_bands(axes[-1], one, one.probability, "probability")
            axes[-1].set_xlim(0.5, len(one.y) + 0.5)
            axes[-1].set_xlabel("row" if len(shown) == 1 else f"row of sequence {i + 1}")
            part.align_ylabels(axes)
            axes[-1].xaxis.set_major_formatter(lambda value, _: numbers.count(round(value)))
        _legend(figure, shown[0].probability.shape[1])
    return figure


def telling_columns(model: Any, shown: Sequence[Series]) -> list[int]:
    """Columns with a scale, at most two: those whose means by state lie farthest apart, for their spread."""
    y = np.concatenate([one.y for one in shown])
    r = np.concatenate([one.probability for one in shown])
    coded = coded_columns(model.emission)
    apart = {d: _apart(y[:, d], r) for d in range(y.shape[1]) if d not in coded}
    return sorted(sorted(apart, key=lambda d: -apart[d])[:COLUMNS])


def _apart(values: np.ndarray, r: np.ndarray) -> float:
    there = ~np.isnan(values)
    values, r = values[there], r[there]
    if not len(values) or np.ptp(values) == 0:
        return 0.0
    held = r.sum(axis=0)
    means = np.divide(values @ r, held, out=np.full(len(held), values.mean()), where=held > 0)
    return float(held @ (means - values.mean()) ** 2 / (len(values) * values.var()))


def _draw_column(axes: Axes, one: Series, d: int, name: str) -> None:
    dress(axes)
    axes.tick_params(labelbottom=False)
    values, size = one.y[:, d], one.rows_per_band
    if size == 1:
        x = np.arange(1, len(values) + 1)
        axes.plot(x, values, color=MUTED, linewidth=0.7)
        for k in range(one.probability.shape[1]):
            here = one.path == k
            axes.scatter(x[here], values[here], s=9, color=component_colour(k), linewidths=0, zorder=3)
    else:
        _draw_condensed(axes, one, values)
    axes.set_ylabel(name if len(name) <= 16 else name[:15] + "…", color=INK)
    axes.locator_params(axis="y", nbins=4)
    axes.yaxis.set_major_formatter(lambda value, _: numbers.signed(f"{value:,.6g}"))


def _draw_condensed(axes: Axes, one: Series, values: np.ndarray) -> None:
    """From the lowest to the highest value of each place, and the mean."""
    starts = np.arange(0, len(values), one.rows_per_band)
    counted = np.add.reduceat(~np.isnan(values), starts).astype(float)
    counted[counted == 0] = np.nan  # Nothing was observed there.
    mean = np.add.reduceat(np.nan_to_num(values), starts) / counted
    low = np.fmin.reduceat(values, starts)
    high = np.fmax.reduceat(values, starts)
    middle = 0.5 * (one.edges[1:] + one.edges[:-1])
    axes.fill_between(middle, low, high, color=RULE, linewidth=0, step="mid")
    axes.plot(middle, mean, color=INK, linewidth=0.8)


def _draw_bands(axes: Axes, one: Series, of_rows: np.ndarray, label: str) -> None:
    """Each place filled with the states' colours, as much of each as its rows have."""
    dress(axes)
    axes.grid(False)
    shares = one.bands(of_rows)  # (bands, K)
    base = np.zeros(len(shares))
    for k, height in enumerate(shares.T):
        # A state that never shows needs no path in the file.
        if height.max() > 1e-3:
            axes.stairs(base + height, one.edges, baseline=base, fill=True, color=component_colour(k), linewidth=0)
        base = base + height
    axes.set(ylim=(0, 1), yticks=[0.5], yticklabels=[label])
    axes.tick_params(labelbottom=label == "probability", labelcolor=MUTED, labelsize=FONT_SIZE - 1)
    axes.spines[:].set_visible(False)


def _legend(figure: Figure, n_states: int) -> None:
    handles = [Patch(color=component_colour(k), linewidth=0, label=str(k + 1)) for k in range(n_states)]
    style: dict[str, Any] = {"frameon": False, "labelcolor": INK, "handlelength": 1.0, "columnspacing": 1.0}
    figure.legend(handles=handles, loc="outside upper center", ncols=min(n_states, 20), **style)
