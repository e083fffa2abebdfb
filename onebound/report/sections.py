"""The parts that the pages share: the climb, the data with the components, the parameters, the plans, the foot."""

import os
import platform
from collections.abc import Mapping, Sequence
from html import escape
from importlib import metadata
from typing import Any

from onebound.report import numbers
from onebound.report.climbed import Climbed
from onebound.report.markup import chip, figure, table, table_row
from onebound.report.parameters import array, gaussian_part, quantities
from onebound.report.pictures import PROFILE_ROWS, most_telling, n_drawn, profile_figure, scatter_figure
from onebound.report.style import component_colour
from onebound.report.terms import terms_of
from onebound.report.traces import labels, trace_figure, unit

TABLE_ROWS = 80
WHY = {
    "relative change": "L had stopped changing",
    "stationary": "L was flat: no gradient left",
    "max_iter": "max_iter was reached",
    "time": "its time was up",
    "callback": "a callback said stop",
}
ROWS_SHOWN = "The {rows} rows on which the {part}s differ most, of {of}."
EVIDENCE = {
    "row": (
        "The <i>evidence</i> ln p(y) says how well the model explains a row, as the mean logarithm of the probability "
        "(density) that it gives to one, in nats; higher is better."
    ),
    "sequence": (
        "The <i>evidence</i> ln p(y) says how well the model explains the sequences, as the logarithm of the probability "
        "(density) that it gives to them, in nats; divided by their rows it is the mean over rows, each given those before "
        "it. Higher is better."
    ),
}


def climbs(fits: Sequence[Any]) -> list[str]:
    """The climb against passes and against seconds."""
    aim = "the best ln p(y)" if len(fits) > 1 else "the ln p(y) it ended at, and the gap (dotted)"
    parts = []
    for x in ("passes", "seconds"):
        caption = (
            f"Against {'passes over the data' if x == 'passes' else 'time'}. Above: L (solid), ln p(y) (dashed) and the gap "
            f"between them (shaded); first steps far below are cut off. Below: how far L still is from {aim}, on a log "
            "scale; up is better."
        )
        parts.append(figure(trace_figure(fits, x), climb_label(fits, x), f"trace-{x}", caption))
    return ["<h2>The climb</h2>", f'<div class="pair">{"".join(parts)}</div>']


def climb_label(fits: Sequence[Any], x: str) -> str:
    """What the picture of a climb says to those who cannot see it."""
    told = ", ".join(
        f"{label} ends at L = {numbers.nats(f.bound)}" for f, label in zip(fits, labels(fits), strict=True)
    )
    return f"L and ln p(y) in nats per {unit(fits)} against {x}: {told}."


def fit_facts(fit: Climbed) -> list[tuple[str, str]]:
    """Where a fit arrived, and why it stopped there."""
    return [
        ("algorithm", fit.algorithm),
        (f"L, nats per {fit.per}", numbers.nats(fit.bound)),
        *(_known(fit) if fit.estimate is None else _estimated(fit, fit.estimate)),
        ("passes over the data", numbers.count(fit.trace[-1].passes if fit.trace else None)),
        ("seconds", numbers.seconds(fit.seconds)),
        ("why it stopped", WHY.get(fit.reason, fit.reason)),
    ]


def _known(fit: Climbed) -> list[tuple[str, str]]:
    return [
        (f"ln p(y), nats per {fit.per}", numbers.nats(fit.evidence)),
        *_in_all(fit),
        (f"gap, nats per {fit.per}", numbers.gap(fit.gap)),
    ]


def _estimated(fit: Climbed, estimate: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Of some items, so that L of all of them and this are two numbers, and the gap is theirs."""
    size = 1.0 if fit.per != "row" else estimate["rows_per_item"]
    error = f" ± {numbers.parameter(estimate['gap_error'] / size, 2)}" if estimate["items"] > 1 else ""
    return [
        (f"ln p(y), nats per {fit.per}", f"≥\u00a0{numbers.nats(estimate['evidence'] / size)}"),
        (f"gap, nats per {fit.per}", f"≥\u00a0{numbers.nats(estimate['gap'] / size)}{error}"),
        ("both estimated on", f"{estimate['items']:,} items, {estimate['draws']:,} draws each"),
    ]


def _in_all(fit: Climbed) -> list[tuple[str, str]]:
    """What a chain's ln p(y) is of a sequence, where the other numbers are of a row."""
    if fit.size == 1 or fit.evidence is None:
        return []
    whole = "nats in all" if fit.n_items == 1 else "nats per sequence"
    return [(f"ln p(y), {whole}", numbers.nats(fit.evidence * fit.size))]


def scatter(model: Any, y: Any, names: Sequence[str], label: str, whose: str, *, of: int | None = None) -> str:
    """The data and the components; `of`: how many rows y was drawn from, `whose`: how the caption begins."""
    shown, n_rows = n_drawn(y)
    n_rows = of or n_rows
    one, part = len((gaussian_part(model.emission) or ([], None))[0]) == 1, terms_of(model).part
    told = (
        f"The data and each {part}'s share of their density"
        if one
        else f"Each row in the colour of its {part} (mixed where two share it); ellipses at 1 and 2 standard deviations"
    )
    some = "" if shown == n_rows else f" {some_of(shown, n_rows)}"
    return figure(scatter_figure(model, y, names), label, "scatter", f"{whose}{told}.{some}")


def some_of(shown: int, n_rows: int) -> str:
    """The sentence that owns up to a sample."""
    return f"{numbers.count(shown)} rows of {numbers.count(n_rows)}, drawn at random."


def profiles(model: Any, names: Sequence[str], label: str, whose: str) -> str:
    """Probabilities and rates as a heat map; empty where the model has none."""
    discrete = [row for row in quantities(model, names) if row.what in ("probability", "rate")]
    if not discrete:
        return ""
    caption = f"{whose}; the fuller a cell, the larger the value."
    if len(discrete) > PROFILE_ROWS:
        caption += " " + ROWS_SHOWN.format(rows=PROFILE_ROWS, of=len(discrete), part=terms_of(model).part)
    return figure(profile_figure(model, names), label, "profiles", caption)


def parameters(model: Any, names: Sequence[str], caption: str) -> list[str]:
    """The table of parameters, a column a component."""
    weights = array(model.weights)
    every = quantities(model, names)
    rows = most_telling(every, TABLE_ROWS)
    terms = terms_of(model)
    heads = [terms.part, *component_heads(len(weights))]
    body = [table_row(terms.share, [f"{100 * w:.1f} %" for w in weights])]
    body += [table_row(row.label, [numbers.quantity(row.what, v) for v in row.values]) for row in rows]
    if len(rows) < len(every):
        caption += " " + ROWS_SHOWN.format(rows=len(rows), of=len(every), part=terms.part)
    return ["<h2>The parameters</h2>", table(caption, heads, body)]


def component_heads(n_components: int) -> list[str]:
    """1, 2, … with the components' colours, as HTML."""
    return [f"{chip(component_colour(k))}{k + 1}" for k in range(n_components)]


def plans(fits: Sequence[Any]) -> list[str]:
    """Which step each latent and each parameter got."""
    told = [
        f'<section><h3>{escape(label)}</h3><pre tabindex="0">{escape(str(fit.plan).rstrip())}</pre></section>'
        for fit, label in zip(fits, labels(fits), strict=True)
    ]
    return [
        f"<h2>The plan{'s' if len(fits) > 1 else ''}</h2>",
        "<p>An algorithm is a pair of steps: E chooses the guess q, M writes the parameters. Which of each:</p>",
        "".join(told),
    ]


def footer(subtitle: str | None) -> str:
    """Where the data come from, and with what the page was made."""
    versions = [f"{name} {metadata.version(name)}" for name in ("onebound", "torch", "numpy", "matplotlib")]
    source = f"Data: {escape(subtitle)}<br>" if subtitle else ""
    made = escape(", ".join([*versions, f"Python {platform.python_version()}"]))
    return f"<footer>{source}{made}. Seconds are those of this machine ({os.cpu_count()} processors).</footer>"
