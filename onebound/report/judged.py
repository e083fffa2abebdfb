"""How good a fit is: how sure the assignment, how the climb went, how its restarts lie apart, and its criteria."""

from html import escape

import numpy as np

from onebound.algorithms.choose import Criteria
from onebound.report import numbers
from onebound.report.checks import STACKED, confidence_figure, restarts_figure
from onebound.report.climbed import Climbed
from onebound.report.markup import facts, figure, table, table_row
from onebound.report.sections import climbs, component_heads
from onebound.report.subject import Subject
from onebound.report.survey import SURE, Survey
from onebound.report.vectors import network_climb

NEAR = 1e-3  # Nats per row: restarts within it of the best ended on the same hill, as far as anyone can tell.


def confidence(subject: Subject) -> list[str]:
    seen = subject.seen
    if seen is None or len(seen.held) < 2:
        return []
    total, part = seen.total_weight, subject.terms.part
    heads = [part, *component_heads(len(seen.held))]
    shares = np.divide(seen.sure, seen.assigned, out=np.full(len(seen.held), np.nan), where=seen.assigned > 0)
    rows = [
        table_row("share by responsibility", [numbers.share(v / total) for v in seen.held]),
        table_row("share of rows most probably its own", [numbers.share(v / total) for v in seen.assigned]),
        table_row(
            f"of those, responsibility above {SURE:g}",
            [numbers.ABSENT if np.isnan(v) else numbers.share(v) for v in shares],
        ),
    ]
    coloured = f", in the colour of the {part} that holds it" if len(seen.held) <= STACKED else ""
    caption = f"Every row by the largest of its responsibilities{coloured}."
    drawing = figure(confidence_figure(seen), "Histogram of the largest responsibility", "confidence", caption)
    text = (
        f"{numbers.share(seen.sure_share)} of the rows belong to one {part} with a probability above {SURE:g}; the "
        f"{_uncertainty(subject)} {numbers.gap(seen.entropy / total)} nats, where not knowing at all "
        f"would be ln {len(seen.held)} = {numbers.nats(np.log(len(seen.held)))}."
    )
    held = table(f"How many rows each {part} holds.", heads, rows)
    body = f'<div class="pair">{drawing}<div class="held">{held}</div></div>'
    return ["<h2>How sure the assignment is</h2>", f"<p>{escape(text)}</p>", body]


def _uncertainty(subject: Subject) -> str:
    if subject.terms.is_chain:
        return "uncertainty (entropy) of the whole path, divided by its rows, is"
    return "average uncertainty (entropy) of a row is"


def climb(subject: Subject) -> list[str]:
    fit = subject.fit
    if fit is None:
        return []
    known = any(record.bound is not None for record in fit.trace)
    repaired = (
        ("Repairs on the way: " if subject.terms.is_exact else "On the way: ")
        + "; ".join(map(subject.terms.own, fit.repairs))
        + "."
        if fit.repairs
        else "Nothing had to be repaired."
    )
    drawn = ["<h2>The climb</h2>"]
    if known:
        drawn = climbs([fit]) if subject.terms.is_exact else network_climb(subject)
    return [*drawn, *_restarts(fit), f"<p>{escape(repaired)}</p>"]


def _restarts(fit: Climbed) -> list[str]:
    ends = np.array(fit.restarts)
    if len(ends) < 2:
        return ["<p>There was one start. Several (restarts) show whether another would have ended higher.</p>"]
    near = int((ends >= ends.max() - NEAR).sum())
    best = numbers.nats(ends.max())
    if near == len(ends):
        within = f"within {NEAR:g} nats per {fit.per} of the best, {best}"
        text = f"All {near} starts ended {within}: the result does not hang on luck."
    else:
        text = (
            f"{len(ends)} starts ended between {numbers.nats(ends.min())} and {best} nats per {fit.per}; the best one is kept. "
            + (f"{near} of them ended" if near > 1 else "No other ended")
            + f" within {NEAR:g} of it"
            + ("." if near > 1 else ", so more starts may find something better still.")
        )
    caption = "Where each start ended, one below the other in the order they were made; the diamond is the one kept."
    drawing = figure(restarts_figure(fit.restarts, fit.per), "Final objective of each restart", "restarts", caption)
    return ["<h3>Restarts</h3>", f"<p>{escape(text)}</p>", drawing]


def criteria(subject: Subject) -> list[str]:
    if subject.seen is None or not subject.terms.is_exact:
        return []
    seen = subject.seen
    c = Criteria.of(subject.model.n_parameters(), seen.log_evidence, seen.entropy, seen.total_weight)
    whose = "the paths" if subject.terms.is_chain else "the responsibilities"
    values = [("BIC", c.bic), ("AIC", c.aic), *([] if subject.terms.is_vector else [("ICL", c.icl)])]
    icl = (
        "."  # The entropy of a vector depends on its units.
        if subject.terms.is_vector
        else f"; ICL = BIC + 2 · the entropy of {whose}, so it prefers {subject.terms.part}s that keep apart."
    )
    text = (
        "Models of different size, fitted to the same rows and columns, are compared by these; lower is better. All are in "
        "nats times 2, over all rows together: AIC = −2 · ln p(y) + 2 P; BIC = −2 · ln p(y) + P · ln N, with "
        f"P = {c.n_parameters:,} free parameters and N = {weight_text(subject.seen)} rows (their total "
        f"weight){icl} (Some "
        "programs report them with the other sign.)"
    )
    return [
        "<h2>To compare with other models</h2>",
        facts([(name, numbers.signed(f"{value:,.2f}")) for name, value in values]),
        f"<p>{escape(text)}</p>",
    ]


def weight_text(seen: Survey) -> str:
    """Σ weight, with decimals only where it has some."""
    whole = float(seen.total_weight).is_integer()
    return numbers.count(seen.total_weight) if whole else numbers.parameter(seen.total_weight, 6)
