"""The pictures of a z that is a vector: where rows lie, what its dimensions carry, what is decoded, and a network's climb."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from onebound.report import numbers
from onebound.report.pictures import draw_ellipses, span
from onebound.report.style import (
    ALGORITHMS,
    FONT_SIZE,
    INK,
    MUTED,
    PAPER,
    WIDTH,
    component_colour,
    dress,
    isolated,
    new_figure,
)

SMALLEST_IMAGE = 64  # Columns, a square number of them: fewer are read as numbers.
NUMBERED = 12  # Rows and columns up to which a heat map's cells have numbers.
POSITIVE, NEGATIVE = component_colour(2), component_colour(1)


def side_of(n_columns: int) -> int | None:
    """The side of the image that so many columns are; None where they are none."""
    side = round(n_columns**0.5)
    return side if n_columns >= SMALLEST_IMAGE and side * side == n_columns else None


@dataclass(frozen=True)
class Plane:
    """Two dimensions to look at z in: the first two principal axes of the means, or z itself where it has no more.

    `axes` (L, 2) and `centre` (L,) map z there; `names` say what is seen; `share` of the means' variance.
    """

    centre: np.ndarray
    axes: np.ndarray
    names: tuple[str, ...]
    share: float

    @classmethod
    def of(cls, z: np.ndarray) -> "Plane":
        """The plane of these means.  (R, L)"""
        size = z.shape[1]
        if size <= 2:
            return cls(np.zeros(size), np.eye(size), ("z1", "z2")[:size], 1.0)
        centre = z.mean(axis=0)
        _, values, axes = np.linalg.svd(z - centre, full_matrices=False)
        total = float((values**2).sum()) or 1.0
        names = ("first principal axis of z", "second principal axis of z")
        return cls(centre, axes[:2].T, names, float((values[:2] ** 2).sum()) / total)

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """(…, L) → (…, 2)"""
        return np.asarray((z - self.centre) @ self.axes)


def latent_figure(
    z: np.ndarray, labels: Sequence[str | None] | None, prior: Any = None, own: np.ndarray | None = None
) -> Figure:
    """The rows where their z lies most probably: see `draw_latent`."""
    with isolated():
        figure = new_figure(0.8 * WIDTH if z.shape[1] > 1 else 2.4)
        draw_latent(figure.subplots(), z, labels, prior, own)
    return figure


def draw_latent(
    axes: Axes,
    z: np.ndarray,
    labels: Sequence[str | None] | None = None,
    prior: Any = None,
    own: np.ndarray | None = None,
) -> None:
    """The rows at z (R, L), coloured by known classes or by the prior's, whose ellipses are drawn; on the given axes.

    labels: of the rows; prior: a mixture or a chain of Gaussians over z, or None; own: the class (R,) that it gives each row,
    which colours them where no labels do.
    """
    if labels is None and own is not None:
        labels = [str(k + 1) for k in own.tolist()]
    else:
        own = None
    plane = Plane.of(z)
    xy, called = plane(z), sorted({v for v in labels or () if v is not None})
    paints = {name: component_colour(k if own is None else int(name) - 1) for k, name in enumerate(called)}
    dress(axes)
    if z.shape[1] == 1:
        _draw_strip(axes, xy[:, 0], labels, paints)
        return
    _draw_places(axes, xy, labels, paints, named=own is None)
    if prior is not None:
        _draw_prior(axes, plane, prior)
    axes.set(xlim=span(xy[:, 0]), ylim=span(xy[:, 1]), xlabel=plane.names[0], ylabel=plane.names[1])
    for text in axes.texts:  # A young prior may lie where no row does: its number makes no room for itself.
        text.set(clip_on=True, in_layout=False)


def _draw_places(
    axes: Axes, xy: np.ndarray, labels: Sequence[str | None] | None, colour: dict[str, str], *, named: bool
) -> None:
    size = 11
    known = np.array(["" if v is None else v for v in labels]) if labels is not None else np.full(len(xy), "")
    rest = known == ""
    axes.scatter(xy[rest, 0], xy[rest, 1], s=size, color=MUTED if colour else POSITIVE, alpha=0.6, linewidths=0)
    for name, paint in colour.items():
        own = known == name
        axes.scatter(xy[own, 0], xy[own, 1], s=size, color=paint, alpha=0.65, linewidths=0)
    for name, paint in colour.items() if named else ():
        _tag(axes, np.median(xy[known == name], axis=0), name, paint)


def _tag(axes: Axes, place: np.ndarray, text: str, colour: str) -> None:
    box = {"boxstyle": "round,pad=0.25", "facecolor": PAPER, "edgecolor": colour, "linewidth": 1.2, "alpha": 0.9}
    short = text if len(text) <= 14 else text[:13] + "…"
    axes.text(
        float(place[0]),
        float(place[1]),
        short,
        color=INK,
        ha="center",
        va="center",
        fontsize=FONT_SIZE - 1,
        bbox=box,
        zorder=6,
    )


def _draw_prior(axes: Axes, plane: Plane, prior: Any) -> None:
    mean, covariance = (v.detach().cpu().numpy() for v in (prior.emission.mean, prior.emission.covariance))
    for k in range(len(mean)):
        draw_ellipses(axes, k, plane(mean[k]), plane.axes.T @ covariance[k] @ plane.axes)


def _draw_strip(axes: Axes, x: np.ndarray, labels: Sequence[str | None] | None, colour: dict[str, str]) -> None:
    edges = np.histogram_bin_edges(x, bins=30).tolist()
    if not colour:
        axes.hist(x, bins=edges, color=POSITIVE, alpha=0.7, linewidth=0)
    else:
        known = np.array([v or "" for v in labels or ()])
        heads = [*colour, *([""] if (known == "").any() else [])]
        each = [x[known == name] for name in heads]
        paints = [colour.get(name, MUTED) for name in heads]
        axes.hist(
            each,
            bins=edges,
            stacked=True,
            color=paints,
            label=[name or "unknown" for name in heads],
            alpha=0.75,
            linewidth=0,
        )
        axes.legend(frameon=False, labelcolor=INK)
    axes.set(xlabel="z1", ylabel="rows")


def use_figure(kl: Sequence[float], activity: Sequence[float]) -> Figure:
    """KL of each dimension as bars, in their order; pale where a dimension is not used."""
    with isolated():
        figure = new_figure(2.4)
        axes = figure.subplots()
        dress(axes)
        axes.grid(False, axis="x")
        for d, (value, moved) in enumerate(zip(kl, activity, strict=True)):
            axes.bar(d + 1, value, 0.8, color=to_rgba(POSITIVE, 0.8 if moved > 0.01 else 0.25), linewidth=0)
        axes.set(xlabel="dimension of z", ylabel="KL, nats per row", xlim=(0.4, len(kl) + 0.6))
        axes.locator_params(axis="x", integer=True)
    return figure


def images_figure(rows: Sequence[np.ndarray], heads: Sequence[str], *, diverging: bool = False) -> Figure:
    """Rows of images, (n, side²) each, one below the other, with their names; dark is high, or red and blue about 0."""
    side = round(rows[0].shape[1] ** 0.5)
    n = max(len(row) for row in rows)
    sheet = np.full((len(rows) * (side + 1) - 1, n * (side + 1) - 1), np.nan)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            sheet[i * (side + 1) :, j * (side + 1) :][:side, :side] = image.reshape(side, side)
    values = sheet[~np.isnan(sheet)]
    low, high = (-abs(values).max(), abs(values).max()) if diverging else np.quantile(values, [0.0, 0.999])
    with isolated():
        figure = new_figure(WIDTH * sheet.shape[0] / sheet.shape[1] + 0.1)
        axes = figure.subplots()
        colours = "RdBu_r" if diverging else "Greys"
        axes.imshow(sheet, cmap=colours, vmin=low, vmax=high or 1.0, interpolation="none")
        axes.set_yticks([i * (side + 1) + side / 2 for i in range(len(rows))], heads, color=INK)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.set_facecolor("none")
        axes.spines[:].set_visible(False)
    return figure


def lines_figure(rows: Sequence[np.ndarray], labels: Sequence[str], names: Sequence[str]) -> Figure:
    """Rows over their columns, a panel each; of several curves the first is solid.  rows: (n, D) each"""
    n = len(rows[0])
    with isolated():
        figure = new_figure(1.0 * n + 0.4)
        every = np.atleast_1d(figure.subplots(n, 1, sharex=True))
        x = np.arange(len(names))
        for i, axes in enumerate(every):
            dress(axes)
            for k, (row, label) in enumerate(zip(rows, labels, strict=True)):
                style = "-" if k == 0 else (0, (4, 2))
                axes.plot(x, row[i], color=component_colour(k + 1), linestyle=style, linewidth=1.4, label=label)
        if len(rows) > 1:
            every[0].legend(frameon=False, labelcolor=INK, loc="upper right", ncols=len(rows))
        some = x[:: max(1, len(x) // 8)]
        every[-1].set_xticks(some, [names[i] for i in some])
    return figure


def heat_figure(values: np.ndarray, down: Sequence[str], across: Sequence[str], limit: float) -> Figure:
    """Signed cells (n, m): one colour above 0, another below, as full as the value is of `limit`."""
    with isolated():
        figure = new_figure(0.6 + 0.2 * len(down))
        draw_heat(figure.subplots(), values, down, across, limit)
    return figure


def heats_figure(parts: Sequence[tuple[str, np.ndarray]], names: Sequence[str]) -> Figure:
    """Square heat maps of the same columns side by side, each under its name; from −1 to 1."""
    numbered = len(names) <= NUMBERED
    short = [name if len(name) <= 14 else name[:13] + "…" for name in names]
    with isolated():
        figure = new_figure(0.55 * WIDTH if not numbered else 0.7 + 0.26 * len(names), WIDTH if not numbered else 8.4)
        every = np.atleast_1d(figure.subplots(1, len(parts), sharey=True))
        for i, (axes, (called, values)) in enumerate(zip(every, parts, strict=True)):
            if numbered:
                draw_heat(axes, values, short if i == 0 else [], [str(k + 1) for k in range(len(names))], 1.0)
            else:
                axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="none")
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
            axes.set_title(called, color=INK, fontsize=FONT_SIZE)
    return figure


def draw_heat(axes: Axes, values: np.ndarray, down: Sequence[str], across: Sequence[str], limit: float) -> None:
    """That picture on the given axes."""
    dress(axes)
    axes.grid(False)
    n, m = values.shape
    for i in range(n):
        for j in range(m):
            v = float(values[i, j])
            paint = to_rgba(POSITIVE if v >= 0 else NEGATIVE, min(0.75, 0.75 * abs(v) / (limit or 1.0)))
            axes.add_patch(Rectangle((j + 0.03, i + 0.06), 0.94, 0.88, facecolor=paint, linewidth=0))
            if m <= NUMBERED:
                text = numbers.signed(f"{v:.2f}")
                axes.text(j + 0.5, i + 0.52, text, ha="center", va="center", fontsize=FONT_SIZE - 2, color=INK)
    axes.set(xlim=(0, m), ylim=(n, 0))
    if len(down):
        axes.set_yticks(np.arange(n) + 0.5, down, color=INK)
    axes.set_xticks(np.arange(m) + 0.5, across, color=INK)
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)


def network_climb_figure(fit: Any) -> Figure:
    """L over the passes, what was climbed in its place where that was another number, and below the KL that z carries."""
    records = [r for r in fit.trace if r.after == "E" and r.bound is not None]
    x = np.array([r.passes for r in records])
    values = np.array([[np.nan if v is None else v for v in (r.bound, r.trained, r.kl)] for r in records], dtype=float)
    colour = ALGORITHMS["VAE"]
    with isolated():
        figure = new_figure(4.0)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for axes in (above, below):
            dress(axes)
        above.plot(x, values[:, 0], color=colour, linewidth=1.6, label="L")
        if not np.isnan(values[:, 1]).all():
            above.plot(x, values[:, 1], color=MUTED, linewidth=1.3, linestyle=(0, (1, 1.5)), label="what was climbed")
        seen = values[:, :2][np.isfinite(values[:, :2])]
        if seen.size:
            low, high = np.quantile(seen, 0.1), seen.max()
            margin = 0.07 * max(high - low, 1e-6)
            above.set_ylim(low - margin, high + margin)
        above.set_ylabel(f"nats per {fit.per}")
        above.yaxis.set_major_formatter(lambda value, _: numbers.signed(f"{value:.6g}"))
        above.legend(frameon=False, labelcolor=INK, loc="lower right")
        below.plot(x, values[:, 2], color=colour, linewidth=1.6)
        below.set(xlabel="passes over the data", ylabel="KL of z, nats per row")
    return figure
