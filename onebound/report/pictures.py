"""The data with its components, and the components' profiles, as matplotlib figures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle

from onebound.observations import Observations
from onebound.report import numbers
from onebound.report.parameters import Quantity, array, gaussian_part, quantities
from onebound.report.style import (
    FONT_SIZE,
    INK,
    PAPER,
    RULE,
    WIDTH,
    component_colour,
    dress,
    isolated,
    new_figure,
)
from onebound.report.terms import terms_of

POINTS = 2000  # Rows drawn: more only blacken the picture and swell the page.
PROFILE_ROWS = 40


def scatter_figure(model: Any, y: Any, names: Sequence[str], *, width: float = WIDTH, points: int = POINTS) -> Figure:
    """The data in their components' colours, and what the components look like.

    Gaussian columns: two of them (those on which the components differ most) as a scatter plot, every row drawn in each
    component's colour as opaquely as the component is responsible for it, with the ellipses of 1 and 2 standard
    deviations; one column alone as a histogram under the components' densities. Other models: `profile_figure`.
    """
    if gaussian_part(model.emission) is None:
        return profile_figure(model, names)
    with isolated():
        figure = new_figure(0.8 * width, width)
        draw_scatter(figure.subplots(), model, y, names, points=points, size=14 * (width / WIDTH) ** 2)
    return figure


def draw_scatter(
    axes: Axes, model: Any, y: Any, names: Sequence[str], *, points: int = POINTS, size: float = 14
) -> None:
    """That picture on the given axes, of a model that has Gaussian columns."""
    part = gaussian_part(model.emission)
    assert part is not None
    columns, gaussian = part
    obs = Observations.of(y)
    rows, responsibilities = drawn(model, obs, points)
    mean, covariance, weights = array(gaussian.mean), array(gaussian.covariance), array(model.weights)
    dress(axes)
    if len(columns) == 1:
        draw_histogram(axes, rows[:, columns[0]], mean[:, 0], np.sqrt(covariance[:, 0, 0]), weights)
        axes.set(xlabel=names[columns[0]], ylabel="density")
        return
    i, j = most_different(mean, covariance, weights)
    draw_points(axes, rows[:, [columns[i], columns[j]]], responsibilities, size)
    for k in range(len(mean)):
        draw_ellipses(axes, k, mean[k, [i, j]], covariance[k][np.ix_([i, j], [i, j])])
    # From the data alone, so that the pictures of two fits can be laid side by side.
    across, up = (span(array(obs.y[:, columns[d]])) for d in (i, j))
    axes.set(xlabel=names[columns[i]], ylabel=names[columns[j]], xlim=across, ylim=up)


def drawn(model: Any, obs: Observations, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most that many rows, drawn at random but always the same ones, and their responsibilities.  (n, D), (n, K)"""
    if obs.lengths is None:
        some = sample(obs, points)
        return array(some.y), array(model.posterior(some).marginals)
    blocks = model.observe(obs).blocks(model.block_rows)  # Whole sequences: a row's state depends on its neighbours.
    picked = _picked(obs.n_rows, points)
    responsibilities = np.concatenate([array(model.row_responsibilities(model.posterior(b))) for b in blocks])
    return array(obs.y)[picked], responsibilities[picked]


def span(values: np.ndarray) -> tuple[float, float]:
    """An axis' limits that leave a margin around the values."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.1 * (high - low) or 0.5  # A column that never changes has a picture too.
    return low - margin, high + margin


def n_drawn(y: Any) -> tuple[int, int]:
    """How many rows a scatter plot of y shows, and how many there are."""
    n_rows = Observations.of(y).n_rows
    return min(n_rows, POINTS), n_rows


def sample(obs: Observations, points: int) -> Observations:
    """At most that many items, in their order; sequences whole and all."""
    if obs.n_items <= points or obs.lengths is not None:
        return obs.select(slice(0, obs.n_items))  # In memory, wherever they come from.
    return obs.select(torch.as_tensor(_picked(obs.n_items, points)))


def _picked(n: int, points: int) -> np.ndarray:
    """At most that many of n, in their order, always the same ones."""
    return np.arange(n) if n <= points else np.sort(np.random.default_rng(0).choice(n, points, replace=False))


def most_different(mean: np.ndarray, covariance: np.ndarray, weights: np.ndarray) -> tuple[int, int]:
    """The two columns with the largest variance between components, relative to that within; left one first."""
    centre = weights @ mean  # (D,)
    between = weights @ (mean - centre) ** 2
    within = weights @ np.diagonal(covariance, axis1=1, axis2=2)
    first, second = np.sort(np.argsort(-between / within, kind="stable")[:2])
    return int(first), int(second)


def draw_points(axes: Axes, xy: np.ndarray, responsibilities: np.ndarray, size: float) -> None:
    """Every row in each component's colour, as opaquely as the component is responsible for it."""
    for k in range(responsibilities.shape[1]):
        seen = (responsibilities[:, k] > 0.02) & ~np.isnan(xy).any(axis=1)
        # One shade in twenty, so that rows of the same shade share their SVG style.
        alpha = np.ceil(20 * responsibilities[seen, k]) / 20
        axes.scatter(xy[seen, 0], xy[seen, 1], s=size, color=component_colour(k), alpha=0.75 * alpha, linewidths=0)


def draw_ellipses(axes: Axes, k: int, mean: np.ndarray, covariance: np.ndarray, *, number: bool = True) -> None:
    """Component k at 1 and 2 standard deviations, with its number at the mean."""
    values, vectors = np.linalg.eigh(covariance)
    angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))  # Of the longest axis: eigh sorts upwards.
    width, height = 2 * np.sqrt(values[[1, 0]])
    for sds, alpha in ((1, 0.16), (2, 0.0)):
        face, edge = to_rgba(component_colour(k), alpha), to_rgba(component_colour(k))
        axes.add_patch(
            Ellipse(tuple(mean), sds * width, sds * height, angle=angle, facecolor=face, edgecolor=edge, linewidth=1.4)
        )
    if not number:
        return
    box = {"boxstyle": "circle,pad=0.25", "facecolor": PAPER, "edgecolor": component_colour(k), "linewidth": 1.2}
    axes.text(
        mean[0], mean[1], str(k + 1), color=INK, ha="center", va="center", fontsize=FONT_SIZE - 1, bbox=box, zorder=5
    )


def draw_histogram(axes: Axes, values: np.ndarray, mean: np.ndarray, sd: np.ndarray, weights: np.ndarray) -> None:
    """One column, and each component's share of its density."""
    values = values[~np.isnan(values)]
    axes.hist(values, bins="auto", density=True, color=RULE, linewidth=0)
    x = np.linspace(values.min(), values.max(), 300)
    for k, weight in enumerate(weights):
        density = weight * np.exp(-0.5 * ((x - mean[k]) / sd[k]) ** 2) / (sd[k] * np.sqrt(2 * np.pi))
        axes.fill_between(x, density, color=component_colour(k), alpha=0.2, linewidth=0)
        axes.plot(x, density, color=component_colour(k), linewidth=1.6)
        top = int(density.argmax())
        axes.annotate(
            str(k + 1), (x[top], density[top]), color=INK, ha="center", xytext=(0, 3), textcoords="offset points"
        )


def most_telling(rows: Sequence[Quantity], limit: int) -> list[Quantity]:
    """At most `limit` rows, those on which the components differ most, in the order they came in."""
    ranked = sorted(rows, key=lambda row: -row.spread)[:limit]
    return [row for row in rows if any(row is kept for kept in ranked)]


def profile_figure(model: Any, names: Sequence[str]) -> Figure:
    """Each component's probabilities and rates as a heat map: columns of the data down, components across.

    The fuller a cell, the larger its value: of 1 for a probability, of the row's largest for a rate.
    """
    with isolated():
        figure = new_figure(0.7 + 0.19 * len(_profile_rows(model, names)))
        draw_profiles(figure.subplots(), model, names)
    return figure


def draw_profiles(axes: Axes, model: Any, names: Sequence[str]) -> None:
    """That picture on the given axes."""
    rows, n_components = _profile_rows(model, names), len(array(model.weights))
    dress(axes)
    axes.grid(False)
    for i, row in enumerate(rows):
        for k in range(n_components):
            _cell(axes, k, i, row, n_components)
    axes.set(xlim=(0, n_components), ylim=(len(rows), 0))
    axes.set_yticks(np.arange(len(rows)) + 0.5, [_short(row.column) for row in rows], color=INK)
    axes.set_xticks(np.arange(n_components) + 0.5, [str(k + 1) for k in range(n_components)], color=INK)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel(terms_of(model).part)
    axes.spines[:].set_visible(False)


def _profile_rows(model: Any, names: Sequence[str]) -> list[Quantity]:
    return most_telling([row for row in quantities(model, names) if row.what in ("probability", "rate")], PROFILE_ROWS)


def _cell(axes: Axes, k: int, i: int, row: Quantity, n_components: int) -> None:
    largest = 1.0 if row.what == "probability" else max(float(row.values.max()), 1e-300)
    share = float(np.clip(row.values[k] / largest, 0, 1))
    colour = component_colour(k)
    frame = Rectangle((k + 0.04, i + 0.08), 0.92, 0.84, facecolor=to_rgba(colour, 0.1), linewidth=0)
    bar = Rectangle((k + 0.04, i + 0.08), 0.92 * share, 0.84, facecolor=to_rgba(colour, 0.55), linewidth=0)
    axes.add_patch(frame)
    axes.add_patch(bar)
    if n_components <= 6:
        text = f"{row.values[k]:.2f}" if row.what == "probability" else numbers.parameter(row.values[k])
        axes.text(k + 0.5, i + 0.52, text, ha="center", va="center", fontsize=FONT_SIZE - 2, color=INK)


def _short(name: str, limit: int = 22) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"
