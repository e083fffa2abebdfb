"""One HTML page about one fitted model, whether its data are at hand or not."""

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from onebound.errors import InputError
from onebound.observations import Observations
from onebound.report import numbers
from onebound.report.chains import moves_section, series_section
from onebound.report.chosen import choice_section
from onebound.report.climbed import Climbed, climbed
from onebound.report.judged import climb, confidence, criteria, weight_text
from onebound.report.markup import chip, document, facts, figure, note, table, table_row, write_whole
from onebound.report.pairs import has_pairs, pair_figure, pair_points
from onebound.report.parameters import array, coded_of, gaussian_part
from onebound.report.pictures import POINTS, sample
from onebound.report.sections import (
    EVIDENCE,
    fit_facts,
    footer,
    parameters,
    plans,
    profiles,
    scatter,
    some_of,
)
from onebound.report.style import component_colour
from onebound.report.subject import Subject
from onebound.report.survey import survey, weighed
from onebound.report.terms import n_columns, rows_per_item, terms_of
from onebound.report.vectors import vector_sections
from onebound.report.words import SCALE, sentences

COLUMNS_SHOWN = 20
SAME = 1e-6  # Nats per row: a larger difference is no rounding, but other data.


def write_report(
    path: str | os.PathLike[str],
    model: Any,
    summary: Any,
    y: Any,
    names: Sequence[str],
    subtitle: str | None = None,
    weights: Any = None,
    *,
    labels: Sequence[str | None] | None = None,
) -> None:
    """Write one self-contained HTML page about one fitted model.

    summary: the Fit, or what its `summary()` said, or None where nobody remembers; y: the data (N, D), NaN where a cell is
    missing, or an Observations, or None where they are not at hand; names: the D columns'; subtitle: where the data come
    from; weights: (N,), the rows' own; labels: (N,), known classes that colour the
    rows where z is a vector. What cannot be told without the summary or the data is left out, and the page says
    so. The file appears whole or not at all.
    Raises InputError for data that do not go with the model, or if the file cannot be written.
    """
    write_whole(Path(path), report_page(model, summary, y, names, subtitle, weights, labels=labels))


def report_page(
    model: Any,
    summary: Any,
    y: Any,
    names: Sequence[str],
    subtitle: str | None = None,
    weights: Any = None,
    *,
    labels: Sequence[str | None] | None = None,
) -> str:
    """The text of that page."""
    if len(names) != n_columns(model):
        raise InputError(f"report: names must name the model's {n_columns(model)} columns, got {len(names)}.")
    obs = None if y is None else weighed(model, y, weights)
    subject = Subject(
        model,
        names,
        None if summary is None else _climbed(model, summary, obs),
        obs,
        None if obs is None else survey(model, obs),
        labels,
    )
    sections = [
        f"<h1>{escape(subject.title)}</h1>",
        f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else "",
        *_fitted(subject),
        *(vector_sections(subject) if subject.terms.is_vector else _of_classes(subject)),
        *climb(subject),
        *criteria(subject),
        *([] if subject.terms.is_vector else parameters(model, names, "In the units of the data.")),
        *_columns(subject),
        *(plans([subject.fit]) if subject.fit and subject.fit.plan else []),
        footer(subtitle),
    ]
    return document(subject.title, "\n".join(section for section in sections if section))


def _of_classes(subject: Subject) -> list[str]:
    """What there is to say of a z that is a class or a state."""
    return [*_choice(subject), *_components(subject), *_chain(subject), *confidence(subject)]


def _climbed(model: Any, summary: Any, obs: Observations | None) -> Climbed:
    """The climb in nats per row, if the lengths of a chain's sequences are remembered or at hand."""
    known = None if isinstance(summary, Mapping) and "rows_per_item" in summary else obs
    rows = None if known is None else rows_per_item(known)
    return climbed(summary, str(model.title()), rows=rows, terms=terms_of(model))


def _fitted(subject: Subject) -> list[str]:
    """What was fitted to what, and where it arrived."""
    told = [*_data_facts(subject), *(fit_facts(subject.fit) if subject.fit else [])]
    missing = []
    if subject.fit is None:
        missing.append("How it was fitted is not remembered: the climb, the plan and the restarts are left out.")
    if subject.seen is None:
        missing.append(
            "This page was made without the data: their pictures, "
            + ("where they lie" if subject.terms.is_vector else "the confidence")
            + " and the criteria are left out."
        )
    return [
        "<h2>What was fitted to what</h2>",
        facts(told),
        *(note(text) for text in missing),
        _other_data(subject),
        f"<p>{EVIDENCE[subject.terms.item]} <i>L</i> = ln p(y) − gap is the bound that was climbed. Its gap, a "
        "Kullback–Leibler divergence, is never below 0; where it is 0, <i>L</i> is the evidence itself.</p>",
    ]


def _choice(subject: Subject) -> list[str]:
    fit = subject.fit
    return [] if fit is None or not fit.choice else choice_section(fit.choice, subject.terms, fit.per)


def _chain(subject: Subject) -> list[str]:
    """Of a chain: its states over the series, and how it moves between them."""
    if not subject.terms.is_chain:
        return []
    return [*(series_section(subject) if subject.obs is not None else []), *moves_section(subject)]


def _data_facts(subject: Subject) -> list[tuple[str, str]]:
    seen, d = subject.seen, len(subject.names)
    told = [("model", str(subject.model.title())), ("free parameters", numbers.count(subject.model.n_parameters()))]
    if seen is None:
        items = subject.fit.n_items if subject.fit else None
        return [
            *told,
            *([(f"{subject.terms.item}s", numbers.count(items))] if items else []),
            ("columns", numbers.count(d)),
        ]
    gaps, cells = int(seen.missing.sum()), seen.n_rows * d
    told.append(("rows", numbers.count(seen.n_rows)))
    if subject.terms.item == "sequence":
        told.append(("sequences", numbers.count(seen.n_items)))
    told.append(("columns", numbers.count(d)))
    told.append(("missing cells", f"{gaps:,} of {cells:,} ({numbers.share(gaps / cells)})" if gaps else "none"))
    if not np.isclose(seen.total_weight, seen.n_rows, rtol=1e-12):
        told.append(("total weight", weight_text(seen)))
    return told


def _other_data(subject: Subject) -> str:
    """Owns up to data that are not those of the fit."""
    if subject.seen is None or subject.fit is None or subject.fit.evidence is None:
        return ""
    if abs(subject.seen.evidence - subject.fit.evidence) <= SAME * (1 + abs(subject.fit.evidence)):
        return ""
    return note(
        f"On the data of this page the model's ln p(y) is {numbers.nats(subject.seen.evidence)} nats per row: they are not "
        "those that it was fitted to, or were weighted otherwise. Pictures, confidence and criteria are of this page's data."
    )


def _columns(subject: Subject) -> list[str]:
    seen = subject.seen
    if seen is None:
        return []
    coded = coded_of(subject.model)
    all_coded = len(coded) == len(subject.names)
    heads = ["column", "kind", "missing", *([] if all_coded else ["mean", "standard deviation", "lowest", "highest"])]
    rows = []
    for d, name in enumerate(subject.names[:COLUMNS_SHOWN]):
        cells = [_kind(subject, d, d in coded), numbers.count(seen.missing[d])]
        if not all_coded:
            measures = [numbers.parameter(seen.mean[d]), numbers.parameter(seen.sd[d])]
            measures += [numbers.signed(f"{v:,.6g}") for v in (seen.low[d], seen.high[d])]
            cells += [numbers.ABSENT] * 4 if d in coded else measures
        rows.append(table_row(name, cells))
    caption = "Over the cells that are there."
    if len(subject.names) > COLUMNS_SHOWN:
        caption += f" The first {COLUMNS_SHOWN} of {len(subject.names):,} columns."
    return ["<h2>The columns</h2>", table(caption, heads, rows)]


def _kind(subject: Subject, d: int, is_coded: bool) -> str:
    name = subject.names[d]
    if not is_coded:
        return str((subject.about.get("kinds") or {}).get(name, "number"))
    n = len((subject.about.get("categories") or {}).get(name) or ())
    return f"{n} categories" if n else "codes"


def _components(subject: Subject) -> list[str]:
    """What each component is, in pictures and in words."""
    model, names, obs, part = subject.model, subject.names, subject.obs, subject.terms.part
    pictures = [profiles(model, names, f"Profile of each {part}", f"What each {part} holds")]
    wide = ""
    if obs is not None and gaussian_part(model.emission):
        drawn = sample(obs, POINTS)
        pictures.insert(0, scatter(model, drawn, names, f"The data and the {part}s", "", of=obs.n_rows))
        wide = _pairs(subject, drawn) if has_pairs(model) else ""
    # Words beside the first picture; the others follow.
    shown = [picture for picture in pictures if picture]
    parts = [*shown[:1], _words(model, names), *shown[1:]]
    return [f"<h2>The {part}s</h2>", f'<div class="pair">{"".join(parts)}</div>', wide]


def _words(model: Any, names: Sequence[str]) -> str:
    told = sentences(model, names)
    paragraphs = [f"<p>{chip(component_colour(k))}{escape(text)}</p>" for k, text in enumerate(told)]
    scale = note(SCALE.format(part=terms_of(model).part)) if len(told) > 1 else ""
    return f'<div class="words">{"".join(paragraphs)}{scale}</div>'


def _pairs(subject: Subject, drawn: Observations) -> str:
    columns, _ = gaussian_part(subject.model.emission) or ([], None)
    assert subject.obs is not None
    most = pair_points(len(columns), len(array(subject.model.weights)))
    shown, of = min(drawn.n_rows, most), subject.obs.n_rows
    caption = (
        f"Every pair of the columns; on the diagonal each alone, with its {subject.terms.part}s' shares of the density."
    )
    caption += "" if shown == of else f" {some_of(shown, of)}"
    drawing = figure(pair_figure(subject.model, drawn, subject.names), "Every pair of columns", "pairs", caption)
    return f'<div class="wide pairs" role="region" aria-label="Pair plot" tabindex="0">{drawing}</div>'
