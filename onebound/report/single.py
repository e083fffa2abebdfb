"""One HTML page about one fitted model, whether its data are at hand or not."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from onebound.algorithms.choose import Criteria
from onebound.errors import InputError
from onebound.observations import Observations
from onebound.report import numbers
from onebound.report.checks import STACKED, confidence_figure, restarts_figure
from onebound.report.chosen import choice_section
from onebound.report.climbed import Climbed, climbed
from onebound.report.markup import chip, document, facts, figure, note, table, table_row, write_whole
from onebound.report.pairs import has_pairs, pair_figure, pair_points
from onebound.report.parameters import array, coded_columns, gaussian_part
from onebound.report.pictures import POINTS, sample
from onebound.report.sections import (
    EVIDENCE,
    climbs,
    component_heads,
    fit_facts,
    footer,
    parameters,
    plans,
    profiles,
    scatter,
    some_of,
)
from onebound.report.style import component_colour
from onebound.report.survey import SURE, Survey, survey, weighed
from onebound.report.words import SCALE, sentences

COLUMNS_SHOWN = 20
SAME = 1e-6  # Nats per row: a larger difference is no rounding, but other data.
NEAR = 1e-3  # Nats per row: restarts within it of the best ended on the same hill, as far as anyone can tell.


@dataclass(frozen=True)
class _Subject:
    """What the page is about: the model, its climb (None: not remembered), its data (None: not at hand)."""

    model: Any
    names: Sequence[str]
    fit: Climbed | None
    obs: Observations | None
    seen: Survey | None

    @property
    def about(self) -> dict[str, Any]:
        return getattr(self.model, "about", None) or {}

    @property
    def title(self) -> str:
        name, k = self.about.get("model"), len(array(self.model.weights))
        return f"{name}, {k} component{'s' if k != 1 else ''}" if name else str(self.model.title())


def write_report(
    path: str | os.PathLike[str],
    model: Any,
    summary: Any,
    y: Any,
    names: Sequence[str],
    subtitle: str | None = None,
    weights: Any = None,
) -> None:
    """Write one self-contained HTML page about one fitted model.

    summary: the Fit, or what its `summary()` said, or None where nobody remembers; y: the data (N, D), NaN where a cell is
    missing, or an Observations, or None where they are not at hand; names: the D columns'; subtitle: where the data come
    from; weights: (N,), the rows' own. What cannot be told without the summary or the data is left out, and the page says
    so. The file appears whole or not at all.
    Raises InputError for data that do not go with the model, or if the file cannot be written.
    """
    write_whole(Path(path), report_page(model, summary, y, names, subtitle, weights))


def report_page(
    model: Any, summary: Any, y: Any, names: Sequence[str], subtitle: str | None = None, weights: Any = None
) -> str:
    """The text of that page."""
    n_features = model.emission.n_features
    if len(names) != n_features:
        raise InputError(f"report: names must name the model's {n_features} columns, got {len(names)}.")
    obs = None if y is None else weighed(model, y, weights)
    subject = _Subject(
        model,
        names,
        None if summary is None else climbed(summary, str(model.title())),
        obs,
        None if obs is None else survey(model, obs),
    )
    sections = [
        f"<h1>{escape(subject.title)}</h1>",
        f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else "",
        *_fitted(subject),
        *(choice_section(subject.fit.choice) if subject.fit and subject.fit.choice else []),
        *_components(subject),
        *_confidence(subject),
        *_climb(subject),
        *_criteria(subject),
        *parameters(model, names, "In the units of the data."),
        *_columns(subject),
        *(plans([subject.fit]) if subject.fit and subject.fit.plan else []),
        footer(subtitle),
    ]
    return document(subject.title, "\n".join(section for section in sections if section))


def _fitted(subject: _Subject) -> list[str]:
    """What was fitted to what, and where it arrived."""
    told = [*_data_facts(subject), *(fit_facts(subject.fit) if subject.fit else [])]
    missing = []
    if subject.fit is None:
        missing.append("How it was fitted is not remembered: the climb, the plan and the restarts are left out.")
    if subject.seen is None:
        missing.append(
            "This page was made without the data: their pictures, the confidence and the criteria are left out."
        )
    return [
        "<h2>What was fitted to what</h2>",
        facts(told),
        *(note(text) for text in missing),
        _other_data(subject),
        f"<p>{EVIDENCE} <i>L</i> = ln p(y) − gap is the bound that was climbed. Its gap, a Kullback–Leibler divergence, is "
        "never below 0; where it is 0, <i>L</i> is the evidence itself.</p>",
    ]


def _data_facts(subject: _Subject) -> list[tuple[str, str]]:
    seen, d = subject.seen, len(subject.names)
    told = [("model", str(subject.model.title())), ("free parameters", numbers.count(subject.model.n_parameters()))]
    if seen is None:
        rows = subject.fit.n_items if subject.fit else None
        return [*told, *([("rows", numbers.count(rows))] if rows else []), ("columns", numbers.count(d))]
    gaps, cells = int(seen.missing.sum()), seen.n_items * d
    told += [("rows", numbers.count(seen.n_items)), ("columns", numbers.count(d))]
    told.append(("missing cells", f"{gaps:,} of {cells:,} ({numbers.share(gaps / cells)})" if gaps else "none"))
    if not np.isclose(seen.total_weight, seen.n_items, rtol=1e-12):
        told.append(("total weight", _weight_text(seen)))
    return told


def _weight_text(seen: Survey) -> str:
    """Σ weight, with decimals only where it has some."""
    whole = float(seen.total_weight).is_integer()
    return numbers.count(seen.total_weight) if whole else numbers.parameter(seen.total_weight, 6)


def _other_data(subject: _Subject) -> str:
    """Owns up to data that are not those of the fit."""
    if subject.seen is None or subject.fit is None or subject.fit.evidence is None:
        return ""
    if abs(subject.seen.evidence - subject.fit.evidence) <= SAME * (1 + abs(subject.fit.evidence)):
        return ""
    return note(
        f"On the data of this page the model's ln p(y) is {numbers.nats(subject.seen.evidence)} nats per row: they are not "
        "those that it was fitted to, or were weighted otherwise. Pictures, confidence and criteria are of this page's data."
    )


def _columns(subject: _Subject) -> list[str]:
    seen = subject.seen
    if seen is None:
        return []
    coded = coded_columns(subject.model.emission)
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


def _kind(subject: _Subject, d: int, is_coded: bool) -> str:
    name = subject.names[d]
    if not is_coded:
        return str((subject.about.get("kinds") or {}).get(name, "number"))
    n = len((subject.about.get("categories") or {}).get(name) or ())
    return f"{n} categories" if n else "codes"


def _components(subject: _Subject) -> list[str]:
    """What each component is, in pictures and in words."""
    model, names, obs = subject.model, subject.names, subject.obs
    pictures = [profiles(model, names, "Profile of each component", "What each component holds")]
    wide = ""
    if obs is not None and gaussian_part(model.emission):
        drawn = sample(obs, POINTS)
        pictures.insert(0, scatter(model, drawn, names, "The data and the components", "", of=obs.n_items))
        wide = _pairs(subject, drawn) if has_pairs(model) else ""
    # Words beside the first picture; the others follow.
    shown = [picture for picture in pictures if picture]
    parts = [*shown[:1], _words(model, names), *shown[1:]]
    return ["<h2>The components</h2>", f'<div class="pair">{"".join(parts)}</div>', wide]


def _words(model: Any, names: Sequence[str]) -> str:
    told = sentences(model, names)
    paragraphs = [f"<p>{chip(component_colour(k))}{escape(text)}</p>" for k, text in enumerate(told)]
    return f'<div class="words">{"".join(paragraphs)}{note(SCALE) if len(told) > 1 else ""}</div>'


def _pairs(subject: _Subject, drawn: Observations) -> str:
    columns, _ = gaussian_part(subject.model.emission) or ([], None)
    assert subject.obs is not None
    most = pair_points(len(columns), len(array(subject.model.weights)))
    shown, of = min(drawn.n_items, most), subject.obs.n_items
    caption = "Every pair of the columns; on the diagonal each alone, with its components' shares of the density."
    caption += "" if shown == of else f" {some_of(shown, of)}"
    drawing = figure(pair_figure(subject.model, drawn, subject.names), "Every pair of columns", "pairs", caption)
    return f'<div class="wide pairs" role="region" aria-label="Pair plot" tabindex="0">{drawing}</div>'


def _confidence(subject: _Subject) -> list[str]:
    seen = subject.seen
    if seen is None or len(seen.held) == 1:
        return []
    total = seen.total_weight
    heads = ["component", *component_heads(len(seen.held))]
    shares = np.divide(seen.sure, seen.assigned, out=np.full(len(seen.held), np.nan), where=seen.assigned > 0)
    rows = [
        table_row("share by responsibility", [numbers.share(v / total) for v in seen.held]),
        table_row("share of rows most probably its own", [numbers.share(v / total) for v in seen.assigned]),
        table_row(
            f"of those, responsibility above {SURE:g}",
            [numbers.ABSENT if np.isnan(v) else numbers.share(v) for v in shares],
        ),
    ]
    coloured = ", in the colour of the component that holds it" if len(seen.held) <= STACKED else ""
    caption = f"Every row by the largest of its responsibilities{coloured}."
    drawing = figure(confidence_figure(seen), "Histogram of the largest responsibility", "confidence", caption)
    text = (
        f"{numbers.share(seen.sure_share)} of the rows belong to one component with a probability above {SURE:g}; the "
        f"average uncertainty (entropy) of a row is {numbers.gap(seen.entropy / total)} nats, where not knowing at all "
        f"would be ln {len(seen.held)} = {numbers.nats(np.log(len(seen.held)))}."
    )
    held = table("How many rows each component holds.", heads, rows)
    body = f'<div class="pair">{drawing}<div class="held">{held}</div></div>'
    return ["<h2>How sure the assignment is</h2>", f"<p>{escape(text)}</p>", body]


def _climb(subject: _Subject) -> list[str]:
    fit = subject.fit
    if fit is None:
        return []
    known = any(record.bound is not None for record in fit.trace)
    repaired = "Repairs on the way: " + "; ".join(fit.repairs) + "." if fit.repairs else "Nothing had to be repaired."
    return [*(climbs([fit]) if known else ["<h2>The climb</h2>"]), *_restarts(fit), f"<p>{escape(repaired)}</p>"]


def _restarts(fit: Climbed) -> list[str]:
    ends = np.array(fit.restarts)
    if len(ends) < 2:
        return ["<p>There was one start. Several (restarts) show whether another would have ended higher.</p>"]
    near = int((ends >= ends.max() - NEAR).sum())
    best, near = numbers.nats(ends.max()), int((ends >= ends.max() - NEAR).sum())
    if near == len(ends):
        text = f"All {near} starts ended within {NEAR:g} nats per row of the best, {best}: the result does not hang on luck."
    else:
        text = (
            f"{len(ends)} starts ended between {numbers.nats(ends.min())} and {best} nats per row; the best one is kept. "
            + (f"{near} of them ended" if near > 1 else "No other ended")
            + f" within {NEAR:g} of it"
            + ("." if near > 1 else ", so more starts may find something better still.")
        )
    caption = "Where each start ended, one below the other in the order they were made; the diamond is the one kept."
    drawing = figure(restarts_figure(fit.restarts), "Final objective of each restart", "restarts", caption)
    return ["<h3>Restarts</h3>", f"<p>{escape(text)}</p>", drawing]


def _criteria(subject: _Subject) -> list[str]:
    if subject.seen is None:
        return []
    seen = subject.seen
    c = Criteria.of(subject.model.n_parameters(), seen.log_evidence, seen.entropy, seen.total_weight)
    values = [("BIC", c.bic), ("AIC", c.aic), ("ICL", c.icl)]
    text = (
        "Models of different size, fitted to the same rows and columns, are compared by these; lower is better. All are in "
        "nats times 2, over all rows together: AIC = −2 · ln p(y) + 2 P; BIC = −2 · ln p(y) + P · ln N, with "
        f"P = {c.n_parameters:,} free parameters and N = {_weight_text(subject.seen)} rows (their total "
        "weight); ICL = BIC + 2 · the entropy of the responsibilities, so it prefers components that keep apart. (Some "
        "programs report them with the other sign.)"
    )
    return [
        "<h2>To compare with other models</h2>",
        facts([(name, numbers.signed(f"{value:,.2f}")) for name, value in values]),
        f"<p>{escape(text)}</p>",
    ]
