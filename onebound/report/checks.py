"""The pictures by which a fit is checked: how far its restarts lie apart, how sure its responsibilities are."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onebound.errors import InputError
from onebound.report import numbers
from onebound.report.style import INK, MUTED, component_colour, dress, isolated, new_figure
from onebound.report.survey import BINS, SURE, Survey

NARROWEST = 2e-3  # Nats per row left and right of the strip.
STACKED = 9  # Components with a colour of their own; with more, all are drawn as one.


def confidence_figure(seen: Survey) -> Figure:
    """How many rows have which largest responsibility, in the colours of the components that hold it."""
    with isolated():
        figure = new_figure(2.6)
        draw_confidence(figure.subplots(), seen)
    return figure


def draw_confidence(axes: Axes, seen: Survey) -> None:
    """That picture on the given axes."""
    dress(axes)
    axes.grid(False, axis="x")
    edges, base = np.linspace(0, 1, BINS + 1), np.zeros(BINS)
    shares = seen.histogram / seen.total_weight  # (K, BINS)
    bars = shares if len(shares) <= STACKED else shares.sum(axis=0, keepdims=True)
    for k, heights in enumerate(bars):
        colour = component_colour(k) if len(bars) > 1 else MUTED
        axes.bar(edges[:-1], heights, 1 / BINS, base, align="edge", color=colour, alpha=0.75, linewidth=0)
        base = base + heights
    axes.axvline(SURE, color=INK, linewidth=1, linestyle=(0, (4, 2)))
    axes.text(
        SURE, 1.02, f"{numbers.share(seen.sure_share)} above {SURE:g}", color=INK, ha="right", va="bottom",
        transform=axes.get_xaxis_transform(),
    )  # fmt: skip
    lowest = min(0.5, 1 / len(shares))
    axes.set(xlim=(np.floor(lowest * BINS) / BINS, 1), xlabel="largest responsibility", ylabel="share of the rows")
    axes.yaxis.set_major_formatter(
        lambda value, _: f"{100 * value:.0f} %" if value == 0 or value >= 0.01 else f"{100 * value:.1g} %"
    )


def restarts_figure(restarts: Sequence[float], per: str = "row") -> Figure:
    """Where each start ended, as a strip: the farther right the better. Raises InputError if there is none."""
    if not restarts:
        raise InputError("restarts_figure: expected at least one restart's final objective, got none.")
    with isolated():
        figure = new_figure(1.25)
        draw_restarts(figure.subplots(), restarts, per)
    return figure


def draw_restarts(axes: Axes, restarts: Sequence[float], per: str = "row") -> None:
    """That picture on the given axes."""
    values = np.asarray(restarts, dtype=float)
    dress(axes)
    axes.grid(False, axis="y")
    best = values == values.max()
    # One below the other in the order they were made: starts that ended at the same place stay apart.
    height = np.linspace(1, 0, len(values)) if len(values) > 1 else np.array([0.5])
    axes.scatter(values[~best], height[~best], s=26, color=MUTED, alpha=0.7, linewidths=0)
    axes.scatter(values[best], height[best], s=44, color=INK, marker="D", linewidths=0)
    # Never so near that differences which mean nothing fill the picture.
    margin = max(0.06 * float(np.ptp(values)), NARROWEST)
    axes.set(
        xlim=(values.min() - margin, values.max() + margin), ylim=(-0.25, 1.25), xlabel=f"objective, nats per {per}"
    )
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.xaxis.set_major_formatter(lambda value, _: numbers.signed(f"{value:.6g}"))
