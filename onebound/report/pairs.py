"""All pairs of a few Gaussian columns at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onebound.errors import InputError
from onebound.observations import Observations
from onebound.report.parameters import array, gaussian_part
from onebound.report.pictures import POINTS, draw_ellipses, draw_histogram, draw_points, drawn, span
from onebound.report.style import FONT_SIZE, INK, dress, isolated, new_figure

FEWEST, MOST = 3, 6  # Columns: two are a scatter plot, and of seven a panel is too small to be read.
MARKS = 12_000  # Over all panels, were every row shared by all components: a page with more of them opens slowly.
PANEL = 1.5  # Inches: text is then about as large as in the other pictures.


def has_pairs(model: Any) -> bool:
    """Whether a pair plot can be drawn: the model has 3 to 6 Gaussian columns."""
    part = gaussian_part(model.emission)
    return part is not None and FEWEST <= len(part[0]) <= MOST


def pair_points(n_columns: int, n_components: int) -> int:
    """How many rows each panel shows."""
    panels = n_columns * (n_columns - 1) // 2
    return max(1, min(POINTS, MARKS // (panels * (n_components + 1))))


def pair_figure(model: Any, y: Any, names: Sequence[str]) -> Figure:
    """Every pair of the Gaussian columns as a scatter plot with the components' ellipses; each alone on the diagonal.

    Raises InputError unless the model has 3 to 6 Gaussian columns.
    """
    part = gaussian_part(model.emission)
    if part is None or not has_pairs(model):
        raise InputError(
            f"pair_figure: expected {FEWEST} to {MOST} Gaussian columns, got {len(part[0]) if part else 0}. "
            "Use scatter_figure, which picks two."
        )
    columns, gaussian = part
    rows, responsibilities = drawn(model, Observations.of(y), pair_points(len(columns), len(array(model.weights))))
    rows = rows[:, columns]
    mean, covariance, weights = array(gaussian.mean), array(gaussian.covariance), array(model.weights)
    n = len(columns)
    with isolated():
        figure = new_figure(PANEL * n, PANEL * n * 1.1)
        grid = figure.subplots(n, n, squeeze=False)
        for i in range(n):
            for j in range(n):
                axes = grid[i, j]
                if j > i:
                    axes.remove()
                    continue
                dress(axes)
                if i == j:
                    sd = np.sqrt(covariance[:, i, i])
                    draw_histogram(axes, rows[:, i], mean[:, i], sd, weights)
                else:
                    _panel(
                        axes, rows[:, [j, i]], responsibilities, mean[:, [j, i]], covariance[:, [j, i]][:, :, [j, i]]
                    )
                _finish(axes, i, j, [names[c] for c in columns], rows)
    return figure


def _panel(axes: Axes, xy: np.ndarray, responsibilities: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> None:
    draw_points(axes, xy, responsibilities, size=5)
    for k in range(len(mean)):
        draw_ellipses(axes, k, mean[k], covariance[k], number=False)


def _finish(axes: Axes, i: int, j: int, names: Sequence[str], rows: np.ndarray) -> None:
    """Names and numbers at the left and at the bottom only; the diagonal's density has no scale to be read."""
    last = len(names) - 1
    axes.set_xlim(*span(rows[:, j]))
    if i != j:
        axes.set_ylim(*span(rows[:, i]))
    axes.locator_params(nbins=3)
    axes.tick_params(labelbottom=i == last, labelleft=j == 0 and i != j, labelsize=FONT_SIZE - 2)
    axes.set_xlabel(_folded(names[j]) if i == last else "", fontsize=FONT_SIZE - 1.5, color=INK)
    axes.set_ylabel(_folded(names[i]) if j == 0 else "", fontsize=FONT_SIZE - 1.5, color=INK)
    if i == j:
        axes.set_yticks([])


def _folded(name: str, limit: int = 18) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"
