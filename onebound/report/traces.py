"""The climb as a matplotlib figure: L and ln p(y) of several fits, against passes or against seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from onebound.report import numbers
from onebound.report.style import INK, MUTED, PAPER, colours, dress, isolated, markers, new_figure
from onebound.report.terms import terms_of

ITERATIONS = 300  # Drawn per algorithm: about one a unit of the picture's width.
NEAREST = 1e-5  # Nats from the best: nearer than that nobody can tell two models apart.
CUT = 0.12  # Share of the width whose values may fall out of the upper panel, so that a bad start does not flatten it.


@dataclass(frozen=True)
class _Climb:
    """One algorithm's trace as arrays; NaN where a record has no value."""

    label: str
    x: np.ndarray
    bound: np.ndarray
    evidence: np.ndarray
    gap: np.ndarray


def labels(fits: Sequence[Any]) -> list[str]:
    """What each fit is called: its algorithm, numbered from the second fit on where two have the same."""
    names = [fit.algorithm for fit in fits]
    return [
        name if names[:i].count(name) == 0 else f"{name} {names[:i].count(name) + 1}" for i, name in enumerate(names)
    ]


def trace_figure(fits: Sequence[Any], x: Literal["passes", "seconds"] = "passes") -> Figure:
    """L (solid) and ln p(y) (dashed) of all fits against passes or seconds, the gap between them shaded.

    Above: nats per row (`unit`), from where the climb gets interesting. Below: how far each still is from the best evidence
    that any of them reached, on a log axis, so that 20 passes of EM and 2,000 of a VAE, a first step and a last, all show; for
    one fit alone the gap is drawn there too.
    """
    climbs = [_climb(fit, label, x) for fit, label in zip(fits, labels(fits), strict=True)]
    best = max(fit.bound if fit.evidence is None else fit.evidence for fit in fits)
    with isolated():
        figure = new_figure(4.9)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for axes in (above, below):
            dress(axes)
        for climb in climbs:
            _draw_climb(above, climb, [c.label for c in climbs])
            _draw_distance(below, climb, [c.label for c in climbs], best)
        if len(climbs) == 1:
            _draw_gap(below, climbs[0])
        _finish_above(above, climbs, unit(fits))
        _finish_below(below, climbs, x)
        _legend(figure, above, [climb.label for climb in climbs])
    return figure


def draw_climbs(axes: Axes, fits: Sequence[Any], x: Literal["passes", "seconds"] = "passes") -> None:
    """The upper panel of that picture alone, on the given axes."""
    drawn = [_climb(fit, label, x) for fit, label in zip(fits, labels(fits), strict=True)]
    dress(axes)
    for climb in drawn:
        _draw_climb(axes, climb, [c.label for c in drawn])
    _finish_above(axes, drawn, unit(fits))
    axes.set_xlabel(_across(x))
    axes.legend(handles=_meanings(), loc="lower right", frameon=False, labelcolor=INK)


def _climb(fit: Any, label: str, x: str) -> _Climb:
    records = [record for record in fit.trace if record.bound is not None]
    iterations = sorted({record.iteration for record in records})
    # Evenly on the log axis that they are drawn on: all of the first ones, ever fewer of the late ones.
    picked = np.unique(np.geomspace(1, max(1, len(iterations)), ITERATIONS).round().astype(int) - 1)
    kept = {iterations[i] for i in picked if iterations}
    records = [record for record in records if record.iteration in kept]
    values = [
        (getattr(r, x), r.bound, _evidence(r, after), np.nan if r.gap is None else r.gap)
        for r, after in zip(records, [*records[1:], None], strict=True)
    ]
    columns = np.array(values, dtype=float).reshape(-1, 4).T
    return _Climb(label, *columns)


def _evidence(record: Any, following: Any) -> float:
    # An E step writes no Θ: the evidence after the M step before it is the same number.
    if record.evidence is None and record.after == "M" and following is not None and following.after == "E":
        record = following
    return np.nan if record.evidence is None else float(record.evidence)


def _draw_climb(axes: Axes, climb: _Climb, all_labels: list[str]) -> None:
    colour, marker = colours(all_labels)[climb.label], markers(all_labels)[climb.label]
    known = ~np.isnan(climb.evidence)
    x, evidence = climb.x[known], climb.evidence[known]
    axes.fill_between(x, climb.bound[known], evidence, color=colour, alpha=0.22, linewidth=0)
    axes.plot(x, evidence, color=colour, linewidth=1.1, linestyle=(0, (4, 2)))
    axes.plot(climb.x, climb.bound, color=colour, linewidth=1.6)
    axes.plot(climb.x[-1:], climb.bound[-1:], marker, color=colour, markersize=5.5, markeredgecolor=PAPER, zorder=4)


def _draw_distance(axes: Axes, climb: _Climb, all_labels: list[str], best: float) -> None:
    colour, marker = colours(all_labels)[climb.label], markers(all_labels)[climb.label]
    distance = np.clip(best - climb.bound, NEAREST, None)
    axes.plot(climb.x, distance, color=colour, linewidth=1.6)
    axes.plot(
        climb.x[-1:],
        distance[-1:],
        marker,
        color=colour,
        markersize=5.5,
        markeredgecolor=PAPER,
        zorder=4,
        clip_on=False,
    )


def _draw_gap(axes: Axes, climb: _Climb) -> None:
    # After an exact E step the gap is 0, which a log axis has no place for: what is seen is the gap that M steps open.
    wide = climb.gap > NEAREST
    if wide.any():
        axes.plot(climb.x[wide], climb.gap[wide], color=MUTED, linewidth=1.2, linestyle=(0, (1, 1.5)), label="the gap")
        style: dict[str, Any] = {"frameon": False, "labelcolor": INK, "handlelength": 1.5}
        axes.legend(loc="upper left", **style)


def unit(fits: Sequence[Any]) -> str:
    """What the nats of these fits are per: a row, or a sequence of a chain that was not told how long they are."""
    first = fits[0]
    return str(getattr(first, "per", None) or (terms_of(first.model).item if hasattr(first, "model") else "row"))


def _finish_above(axes: Axes, climbs: Sequence[_Climb], per: str) -> None:
    axes.set_ylabel(f"nats per {per}")
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_ylim(*_interesting(climbs))
    axes.yaxis.set_major_formatter(lambda value, _: numbers.signed(f"{value:.6g}"))


def _interesting(climbs: Sequence[_Climb]) -> tuple[float, float]:
    """The range that holds every end, and all but the worst values of the climb, counted by the width they take."""
    values = np.concatenate([np.concatenate([c.bound, c.evidence[~np.isnan(c.evidence)]]) for c in climbs])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low = min(np.quantile(np.concatenate([c.bound for c in climbs]), CUT), *(c.bound[-1] for c in climbs if len(c.x)))
    high = values.max()
    margin = 0.07 * max(high - low, 1e-6)
    return float(max(low, values.min()) - margin), float(high + margin)


def _across(x: str) -> str:
    return "passes over the data" if x == "passes" else "seconds"


def _finish_below(axes: Axes, climbs: Sequence[_Climb], x: str) -> None:
    axes.set_yscale("log")
    axes.invert_yaxis()  # Up is better, as above.
    axes.set_ylim(top=NEAREST)
    axes.yaxis.set_major_formatter(
        lambda value, _: f"{value:.7f}".rstrip("0").rstrip(".") if value < 1 else f"{value:g}"
    )
    axes.minorticks_off()
    axes.set_ylabel("nats below the best" if len(climbs) > 1 else "nats below the end")
    axes.set_xlabel(_across(x))
    positive = np.concatenate([c.x[c.x > 0] for c in climbs])
    if len(positive) and positive.max() > 20 * positive.min():
        axes.set_xscale("log", nonpositive="clip")
        axes.set_xlim(positive.min() / 1.1, positive.max() * 1.15)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}" if value >= 1 else f"{value:g}")
        axes.minorticks_off()


def _meanings() -> list[Any]:
    return [
        Line2D([], [], color=INK, label="L, the bound"),
        Line2D([], [], color=INK, linestyle=(0, (4, 2)), linewidth=1.1, label="ln p(y), the evidence"),
        Patch(color=MUTED, alpha=0.3, linewidth=0, label="the gap"),
    ]


def _legend(figure: Figure, above: Axes, all_labels: list[str]) -> None:
    colour, marker = colours(all_labels), markers(all_labels)
    handles: list[Any] = [Line2D([], [], color=colour[a], marker=marker[a], markersize=5, label=a) for a in all_labels]
    style: dict[str, Any] = {"frameon": False, "labelcolor": INK, "handlelength": 1.5, "columnspacing": 1.2}
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 5), **style)
    above.legend(handles=_meanings(), loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=3, **style)
