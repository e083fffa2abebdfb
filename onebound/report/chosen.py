"""Several models that were tried, and which one was kept: a curve and a table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onebound.report import numbers
from onebound.report.markup import figure, table, table_row
from onebound.report.style import INK, PAPER, SPARE, SPARE_MARKERS, dress, isolated, new_figure
from onebound.report.terms import TABLE, Terms

CALLED = {"bic": "BIC", "icl": "ICL", "aic": "AIC", "heldout": "ln p(y) held out"}


def choice_figure(choice: Mapping[str, Any], terms: Terms = TABLE) -> Figure:
    """The criteria of what was tried (`Choice.as_dict()`); lower is better, and the one that was kept has a ring."""
    with isolated():
        drawing = new_figure(2.6)
        draw_choice(drawing.subplots(), choice, terms)
    return drawing


def draw_choice(axes: Axes, choice: Mapping[str, Any], terms: Terms = TABLE) -> None:
    """That picture on the given axes."""
    dress(axes)
    tried: Sequence[Mapping[str, Any]] = choice["candidates"]
    held_out = choice["criterion"] == "heldout"
    across = np.arange(len(tried))
    for i, name in enumerate(("heldout",) if held_out else ("bic", "icl", "aic")):
        values = np.array([np.nan if c[name] is None else c[name] for c in tried], dtype=float)
        axes.plot(
            across, values, f"{SPARE_MARKERS[i]}-", color=SPARE[i], markersize=5, linewidth=1.4, label=CALLED[name]
        )
        if name == choice["criterion"]:
            best = [c["name"] for c in tried].index(choice["best"])
            style: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": INK, "markersize": 11}
            axes.plot(best, values[best], "o", **style)
    axes.set_xticks(across, [c["name"] for c in tried])
    axes.set(
        xlabel=f"{terms.part}s", ylabel=f"nats per {terms.item}, higher is better" if held_out else "lower is better"
    )
    axes.yaxis.set_major_formatter(lambda value, _: numbers.signed(f"{value:,.6g}"))
    axes.legend(frameon=False, labelcolor=INK, facecolor=PAPER, handlelength=1.6)


def choice_section(choice: Mapping[str, Any], terms: Terms = TABLE, per: str = "row") -> list[str]:
    """The part of a page that says what else was tried; `per`: what its nats are of, but for those held out."""
    tried, criterion = choice["candidates"], choice["criterion"]
    held_out = criterion == "heldout"
    heads = [f"{terms.part}s", "ln p(y)", "parameters", "BIC", "ICL", "AIC", *([CALLED["heldout"]] if held_out else [])]
    rows = []
    for c in tried:
        cells = [numbers.nats(c["evidence"]), numbers.count(c["n_parameters"])]
        cells += [numbers.signed(f"{c[name]:,.1f}") for name in ("bic", "icl", "aic")]
        cells += [numbers.nats(c["heldout"])] if held_out else []
        rows.append(table_row(c["name"], cells, style="best" if c["name"] == choice["best"] else ""))
    how = (
        f"of {terms.item}s kept from the fits, per {terms.item}, where higher is better"
        if held_out
        else "where lower is better"
    )
    caption = f"{len(tried)} models were fitted; {choice['best']} was kept, by {CALLED[criterion]}, {how}."
    drawing = figure(
        choice_figure(choice, terms), f"The criteria against the number of {terms.part}s: {caption}", "choice", caption
    )
    told = f"ln p(y) in nats per {per}; in bold the one that was kept."
    return [
        f"<h2>How many {terms.part}s</h2>",
        drawing,
        table(told, heads, rows),
    ]
