"""One HTML page that needs nothing but itself: several algorithms on one model and one set of data."""

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from onebound.errors import InputError
from onebound.observations import Observations
from onebound.report import numbers
from onebound.report.climbed import Climbed, climbed
from onebound.report.markup import document, figure, note, table, table_row, write_whole
from onebound.report.parameters import gaussian_part
from onebound.report.pictures import POINTS, sample, scatter_figure
from onebound.report.sections import EVIDENCE, WHY, climbs, footer, parameters, plans, profiles, scatter
from onebound.report.style import colours
from onebound.report.subject import Subject
from onebound.report.terms import Terms, rows_per_item, terms_of
from onebound.report.traces import labels
from onebound.report.vectors import vector_sections

NEAR = 1e-3  # Nats per row: what counts as having arrived.
TIED = 1e-6  # Nats per row: what counts as equally good.
SMALL_POINTS = 400
SMALL = 2.3  # Inches: the small multiples, drawn small so that their text is not scaled down.


def write_comparison(
    path: str | os.PathLike[str],
    title: str,
    fits: Sequence[Any],
    y: Any,
    names: Sequence[str],
    subtitle: str | None = None,
) -> None:
    """Write one self-contained HTML page that compares several fits of one model to the same data.

    fits: what `onebound.fit` returned, one an algorithm; y: the data (N, D) or an Observations; names: the D
    columns'; subtitle: where the data come from. Numbers are means per row, in nats. The file appears whole or not at all.
    Raises InputError if there is nothing to compare, or if the file cannot be written.
    """
    if not fits:
        raise InputError("write_comparison: expected at least one fit, got none. Pass the results of onebound.fit.")
    write_whole(Path(path), comparison_page(title, fits, y, names, subtitle))


def comparison_page(title: str, fits: Sequence[Any], y: Any, names: Sequence[str], subtitle: str | None = None) -> str:
    """The text of that page."""
    model = fits[0].model
    obs, terms = model.observe(y), terms_of(model)
    told = [climbed(fit, str(model.title()), rows=rows_per_item(obs), terms=terms) for fit in fits]
    best = best_fit(told)
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else "",
        *_explanation(told, terms, obs.n_rows),
        *_results(told, best, terms),
        *climbs(told),
        *(_vectors(fits[best], obs, names) if terms.is_vector else _classes(fits, best, obs, names)),
        *plans(told),
        footer(subtitle),
    ]
    return document(title, "\n".join(section for section in sections if section))


def best_fit(fits: Sequence[Any]) -> int:
    """Which fit explains the data best: the highest evidence (L where there is none); of equals, the fewest passes."""
    reached = [fit.bound if fit.evidence is None else fit.evidence for fit in fits]
    equal = [i for i, value in enumerate(reached) if value >= max(reached) - TIED]
    return min(equal, key=lambda i: fits[i].trace[-1].passes)


def passes_until_near(fit: Any, target: float) -> float | None:
    """Passes over the data until L came within 0.001 nats per row of the target; None if it never did."""
    return next((r.passes for r in fit.trace if r.bound is not None and r.bound >= target - NEAR), None)


def _explanation(fits: Sequence[Climbed], terms: Terms, n_rows: int) -> list[str]:
    starts = [record.evidence for fit in fits for record in fit.trace[:1]]
    known = [value for value in starts if value is not None]
    together = len(known) == len(starts) and max(known) - min(known) < TIED
    n = numbers.count(n_rows)
    what = "what z" if terms.is_vector else f"which {terms.part}"
    whom = "Every algorithm on this page fits" if len(fits) > 1 else "The algorithm on this page fits"
    return [
        f"<p>{whom} the same model to the same {n} rows{', from the same start,' if together else ''} by raising the same "
        f"number: the bound <i>L</i>. {EVIDENCE[terms.item]} To raise it, an algorithm "
        f"needs to guess {what} each row came from, and <i>L</i> is the evidence less a penalty for a wrong guess: "
        "<i>L</i> = ln p(y) − gap. That <i>gap</i>, a Kullback–Leibler divergence, is never below 0. Where it is 0, the "
        "guess is the exact posterior and <i>L</i> tells the whole truth; where it is wide, the model is better than its "
        "<i>L</i> says.</p>"
    ]


def _results(fits: Sequence[Any], best: int, terms: Terms) -> list[str]:
    called = list(zip(fits, labels(fits), strict=True))
    heads = ["algorithm", "L", "ln p(y)", "gap", "passes", "seconds", "why it stopped"]
    rows = [_result(fit, label, labels(fits), "best" if i == best else "") for i, (fit, label) in enumerate(called)]
    caption = "L, ln p(y) and the gap in nats per row, of the parameters that were returned; in bold the best of them."
    repaired = [note(f"{label} repaired: {terms.own('; '.join(fit.repairs))}.") for fit, label in called if fit.repairs]
    return [
        "<h2>Where each one arrived</h2>",
        table(caption, heads, rows, style="results"),
        _pace(fits, best),
        *repaired,
    ]


def _result(fit: Any, label: str, all_labels: Sequence[str], style: str) -> str:
    cells = [
        numbers.nats(fit.bound),
        numbers.nats(fit.evidence),
        numbers.gap(fit.gap),
        numbers.count(fit.trace[-1].passes),
        numbers.seconds(fit.seconds),
        WHY.get(fit.reason, fit.reason),
    ]
    return table_row(label, cells, colour=colours(all_labels)[label], style=style)


def _pace(fits: Sequence[Any], best: int) -> str:
    target = fits[best].bound if fits[best].evidence is None else fits[best].evidence
    arrived, others = [], []
    for fit, label in zip(fits, labels(fits), strict=True):
        passes = passes_until_near(fit, target)
        if passes is None:
            others.append(f"{label} (its L ends {numbers.nats(target - fit.bound)} below)")
        else:
            arrived.append(f"{label}\u00a0{numbers.count(passes)}")
    text = f"Passes over the data until L came within {NEAR:g} nats per row of the best ln p(y): {', '.join(arrived)}."
    if others:
        text += f" Not there: {', '.join(others)}."
    return f"<p>{escape(text)}</p>"


def _vectors(fit: Any, obs: Observations, names: Sequence[str]) -> list[str]:
    """What there is to see of the best fit where z is a vector."""
    return vector_sections(Subject(fit.model, names, None, obs, None))


def _classes(fits: Sequence[Any], best: int, obs: Observations, names: Sequence[str]) -> list[str]:
    """The same where it is a class or a state."""
    told = f"The best fit, {labels(fits)[best]}, in the units of the data."
    return [
        *_data(fits, best, sample(obs, POINTS), names, obs.n_rows),
        *parameters(fits[best].model, names, told),
    ]


def _data(fits: Sequence[Any], best: int, drawn: Observations, names: Sequence[str], n_rows: int) -> list[str]:
    model, label = fits[best].model, labels(fits)[best]
    parts, part = [], terms_of(model).part
    if gaussian_part(model.emission):
        told = f"The data and the {part}s of {label}", f"The best fit, {label}. "
        parts.append(scatter(model, drawn, names, *told, of=n_rows))
        small = [
            _small_scatter(fit, other, i, drawn, names)
            for i, (fit, other) in enumerate(zip(fits, labels(fits), strict=True))
            if i != best
        ]
        parts.append(f'<div class="small">{"".join(small)}</div>' if small else "")
    parts.append(profiles(model, names, f"Profile of each {part}, {label}", f"The {part}s as {label} found them"))
    return [f"<h2>The data and the {part}s</h2>", f'<div class="pair">{"".join(parts)}</div>']


def _small_scatter(fit: Any, label: str, number: int, y: Any, names: Sequence[str]) -> str:
    caption = f"{label}: ln p(y) = {numbers.nats(climbed(fit, rows=rows_per_item(y)).evidence)}"
    drawing = scatter_figure(fit.model, y, names, width=SMALL, points=SMALL_POINTS)
    return figure(drawing, f"The data and the {terms_of(fit.model).part}s of {label}", f"small-{number}", caption)
