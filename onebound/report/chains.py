"""The parts of a page that only a chain has: its states over the series, and how it moves between them."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from onebound.report import numbers
from onebound.report.markup import figure, note, table, table_row
from onebound.report.moves import Moves, duration_text, moves_of
from onebound.report.sections import component_heads
from onebound.report.series import SEQUENCES, first_series, series_figure, telling_columns
from onebound.report.style import FONT_SIZE, INK, component_colour, dress, isolated, new_figure
from onebound.report.subject import Subject

NUMBERED = 10  # States up to which each transition has its number in the picture.


def series_section(subject: Subject) -> list[str]:
    """The timeline, and what it leaves out."""
    model, obs = subject.model, subject.obs
    assert obs is not None
    if obs.n_rows == 0:
        return []
    drawing = figure(
        series_figure(model, obs, subject.names), "The states over the series", "series", _series_caption(subject)
    )
    return [
        "<h2>The states over the series</h2>",
        f'<div class="wide pairs" role="region" aria-label="The states over the series" tabindex="0">{drawing}</div>',
    ]


def _series_caption(subject: Subject) -> str:
    obs = subject.obs
    assert obs is not None
    shown = first_series(subject.model, obs)
    drawn, d = telling_columns(subject.model, shown), len(subject.names)
    told = [
        "Bands: the most probable path (above), and the probability of each state given the whole sequence (below)."
    ]
    if 0 < len(drawn) < d:
        which = "column" if len(drawn) == 1 else f"{len(drawn)} columns"
        told.append(f"Above them the {which} of {d} on which the states differ most.")
    if obs.n_items > len(shown):
        told.append(f"The first {SEQUENCES} of {obs.n_items:,} sequences.")
    size = max(one.rows_per_band for one in shown)
    if size > 1:
        told.append(
            f"Each place stands for {'up to ' if len(shown) > 1 else ''}{size:,} rows, and is as full of a colour as they are "
            "of the state."
        )
        if drawn:
            told.append("A column is drawn from the lowest to the highest of their values, with the mean as a line.")
    return " ".join(told)


def moves_section(subject: Subject) -> list[str]:
    """Where the chain starts, how long it stays, where it goes next: a table and a picture."""
    moves = moves_of(subject.model)
    assert moves is not None
    k = len(moves.share)
    caption = "From the state of a row (down) to that of the next one (across); the fuller a cell, the more probable."
    told = "" if k <= NUMBERED else " The numbers are in `onebound show --json`."
    drawing = figure(transition_figure(moves), "The transition probabilities", "moves", caption + told)
    body = [
        table_row("long-run share", [f"{100 * v:.1f} %" for v in moves.share]),
        table_row("at the start of a sequence", [f"{100 * v:.1f} %" for v in moves.initial]),
        table_row("stays for the next row", [numbers.quantity("probability", v) for v in np.diag(moves.transition)]),
        table_row("expected duration, rows", [duration_text(v) for v in moves.duration]),
        table_row("goes on to, most often", [_next(moves, i) for i in range(k)]),
    ]
    told = table("How each state begins, stays and ends.", ["state", *component_heads(k)], body)
    words = note(
        "The expected duration is 1 / (1 − a), where a is the probability to stay. The long-run share is the stationary "
        "distribution of the transitions: the share of the rows that a state has in a sequence without end."
    )
    return [
        "<h2>How it moves between states</h2>",
        f'<div class="pair">{drawing}<div class="held">{told}</div></div>',
        words,
    ]


def _next(moves: Moves, i: int) -> str:
    """The likeliest other state, and how likely once i is left."""
    others = moves.transition[i].copy()
    others[i] = 0.0
    if others.sum() == 0:
        return numbers.ABSENT
    j = int(others.argmax())
    return f"{j + 1} ({numbers.share(others[j] / others.sum())})"


def transition_figure(moves: Moves) -> Figure:
    """The transition matrix, its cells filled as far as the probabilities go, in the colour of the state that is entered."""
    k = len(moves.share)
    with isolated():
        drawing = new_figure(0.7 + min(0.34 * k, 4.0))
        draw_transitions(drawing.subplots(), moves)
    return drawing


def draw_transitions(axes: Axes, moves: Moves) -> None:
    """That picture on the given axes."""
    k = len(moves.share)
    dress(axes)
    axes.grid(False)
    for i in range(k):
        for j in range(k):
            _cell(axes, i, j, float(moves.transition[i, j]), k)
    axes.set(xlim=(0, k), ylim=(k, 0), xlabel="to state", ylabel="from state")
    ticks, labels = np.arange(k) + 0.5, [str(n + 1) for n in range(k)]
    axes.set_yticks(ticks, labels, color=INK)
    axes.set_xticks(ticks, labels, color=INK)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.spines[:].set_visible(False)


def _cell(axes: Axes, i: int, j: int, p: float, k: int) -> None:
    colour = component_colour(j)
    place: Any = (j + 0.04, i + 0.08)
    axes.add_patch(Rectangle(place, 0.92, 0.84, facecolor=to_rgba(colour, 0.1), linewidth=0))
    if p > 0:
        axes.add_patch(Rectangle(place, 0.92 * p, 0.84, facecolor=to_rgba(colour, 0.55), linewidth=0))
    if k <= NUMBERED:
        text = "0" if p == 0 else "< 0.001" if p < 1e-3 else f"{p:.3f}"
        size = FONT_SIZE - (1 if k <= 6 else 2.5)
        axes.text(j + 0.5, i + 0.52, text, ha="center", va="center", fontsize=size, color=INK)
