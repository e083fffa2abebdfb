"""The parts of a page whose model has a vector as its z: factors, or a latent under a network."""

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np
import torch

from onebound.report import numbers
from onebound.report.chains import moves_section
from onebound.report.latent import classes_at, draws_for, latent_use_of, means_of, some_items
from onebound.report.markup import facts, figure, table, table_row
from onebound.report.parameters import array
from onebound.report.pictures import POINTS, sample
from onebound.report.sections import parameters as class_parameters
from onebound.report.sections import some_of
from onebound.report.subject import Subject
from onebound.report.terms import classes_of, terms_of
from onebound.report.vector_pictures import (
    Plane,
    heat_figure,
    heats_figure,
    images_figure,
    latent_figure,
    lines_figure,
    network_climb_figure,
    side_of,
    use_figure,
)

SHOWN = 8  # Items that are shown beside what is decoded, and steps of an interpolation.
LINES = 12  # Columns from which rows are drawn as lines.
LOADINGS = 60  # Columns in a heat map of loadings.
LISTED_COLUMNS = 20  # In a table of them.
LISTED = 4  # Items in a table beside what is decoded.
CELLS = 9  # Columns in a table of rows.
COMPLETE = 5000  # Rows of which the data's correlations are made.


def vector_sections(subject: Subject) -> list[str]:
    """What there is to say of z, with the data at hand or without."""
    exact = subject.terms.is_exact
    return [
        *(_factors(subject) if exact else [*_gap(subject), *_use(subject)]),
        *_latent(subject),
        *_decoded(subject),
        *(_correlations(subject) if exact else _network(subject)),
    ]


# --- factors -------------------------------------------------------------------------------------------------------------


def _factors(subject: Subject) -> list[str]:
    """The loadings, as a heat map or as images, and what they explain."""
    model, names = subject.model, subject.names
    w, noise = array(model.components), np.sqrt(array(model.noise_variance))
    sd = np.sqrt(np.diag(array(model.covariance)))
    explained = 1 - noise**2 / sd**2
    scaled = w / sd[:, None]
    kept = np.sort(np.argsort(-explained, kind="stable")[:LOADINGS])
    caption = (
        "How far one unit of a factor moves a column, in standard deviations of the column: its correlation with the factor. "
        "Factors are known up to a rotation."
    )
    if side_of(len(names)):
        drawing = images_figure([scaled.T], [""], diverging=True)
        caption += " Each factor as an image, red above 0 and blue below."
    else:
        heads = [f"{k + 1}" for k in range(model.n_latent)]
        drawing = heat_figure(scaled[kept], [names[d] for d in kept], heads, 1.0)
        caption += (
            "" if len(kept) == len(names) else f" The {len(kept)} of {len(names)} columns that are explained best."
        )
    listed = np.sort(np.argsort(-explained, kind="stable")[:LISTED_COLUMNS])
    rows = [
        table_row(names[d], [numbers.parameter(v) for v in (model.mean[d], noise[d])] + [numbers.share(explained[d])])
        for d in listed
    ]
    told = table("Each column's mean, the noise that no factor explains, and the share of its variance that they do.",
                 ["column", "mean", "noise, standard deviation", "explained"], rows)  # fmt: skip
    picture = figure(drawing, "The loadings", "loadings", caption)
    return ["<h2>The factors</h2>", f'<div class="pair">{picture}<div class="held">{told}</div></div>']


def _correlations(subject: Subject) -> list[str]:
    """What the model makes of how the columns go together, beside the data."""
    covariance = array(subject.model.covariance)
    sd = np.sqrt(np.diag(covariance))
    parts = [("the model", covariance / np.outer(sd, sd))]
    if subject.obs is not None:
        y = array(sample(subject.obs, COMPLETE).y)
        whole = y[~np.isnan(y).any(axis=1)]
        if len(whole) > 2 and (whole.std(axis=0) > 0).all():
            parts.insert(0, ("the data", np.atleast_2d(np.corrcoef(whole.T))))
    if len(sd) < 2:
        return []
    caption = "Correlations of the columns, in their order; the model's are W Wᵀ + Ψ in units of the columns."
    drawing = figure(heats_figure(parts, subject.names), "The correlations of the columns", "correlations", caption)
    return [
        "<h2>How the columns go together</h2>",
        f'<div class="wide pairs" role="region" aria-label="Correlations" tabindex="0">{drawing}</div>',
    ]


# --- under a network -----------------------------------------------------------------------------------------------------


def _gap(subject: Subject) -> list[str]:
    """How far L is from ln p(y), and whose fault it is."""
    if subject.obs is None:
        return []
    from onebound.algorithms.gaps import gap_report

    some = some_items(subject.obs)
    generator = torch.Generator().manual_seed(0)
    found = gap_report(subject.model, some, samples=draws_for(some), generator=generator)
    per = subject.terms.item
    rows = [
        table_row("L", [numbers.nats(found.bound), "", "of the encoder's q"]),
        table_row("amortisation gap", [numbers.nats(found.amortization), _error(found, "amortization"),
                                       "what the encoder costs beside the best q of its family for each row"]),
        table_row("approximation gap", [f"≥ {numbers.nats(found.approximation)}", _error(found, "approximation"),
                                        "what the family of q (a Gaussian with independent dimensions) costs"]),
        table_row("ln p(y)", [f"≥ {numbers.nats(found.evidence)}", "",
                              f"IWAE, K = {found.samples}; {numbers.nats(found.evidence_half)} with K / 2"]),
    ]  # fmt: skip
    text = (
        "Under a network ln p(y) has no sum. It is estimated from below by importance-weighted draws of q; so the gap "
        f"ln p(y) − L is at least {numbers.nats(found.gap)} nats per {per}. {found.advice}"
    )
    n = f"{found.n_items:,} {per}s" if found.n_items != 1 else f"1 {per}"
    caption = f"From L up to ln p(y), in nats per {per}, means over {n} with standard errors."
    return [
        "<h2>How far L is from ln p(y)</h2>",
        f"<p>{escape(text)}</p>",
        table(caption, ["", "nats", "±", "what it is"], rows, style="results"),
    ]


def _error(found: Any, name: str) -> str:
    return numbers.parameter(getattr(found, f"{name}_error"), 2) if found.n_items > 1 else numbers.ABSENT


def _use(subject: Subject) -> list[str]:
    """What the dimensions carry."""
    if subject.obs is None:
        return []
    use = latent_use_of(subject.model, some_items(subject.obs, POINTS))
    caption = (
        "KL of each dimension's q from its prior, the mean over rows: the nats that z says of a row there. Pale: not used, for "
        "the encoder's mean varies by less than 0.01."
    )
    drawing = figure(use_figure(use["kl"], use["activity"]), "KL by dimension", "use", caption)
    told = [
        ("dimensions", numbers.count(use["size"])),
        ("of them used", numbers.count(use["active"])),
        ("KL, nats per row", numbers.nats(sum(use["kl"]))),
    ]
    words = f'<div class="words">{facts(told)}<p>{escape(use["advice"])}</p></div>'
    return ["<h2>How z is used</h2>", f'<div class="pair">{drawing}{words}</div>']


def _network(subject: Subject) -> list[str]:
    """The parameters of a prior that has some."""
    inner = classes_of(subject.model)
    if inner is None or not subject.model.prior_started:
        return []
    names = [f"z{d + 1}" for d in range(subject.model.n_latent)]
    heading, *rest = class_parameters(inner, names, "The prior of z, in its own units.")
    moves = moves_section(replace(subject, model=inner)) if terms_of(inner).is_chain else []
    return [heading.replace("The parameters", "The prior"), *rest, *moves]


def network_climb(subject: Subject) -> list[str]:
    """The climb of a network, whose ln p(y) is not known on the way."""
    fit = subject.fit
    assert fit is not None
    if not any(r.bound is not None for r in fit.trace):
        return []
    other = any(r.trained is not None for r in fit.trace)
    caption = "Above: L, a running mean over each pass; first passes far below are cut off."
    caption += " What was climbed in its place (a weighted KL, or IWAE-K) is dotted." if other else ""
    caption += " Below: the KL that z carries, of the first rows."
    label = f"L in nats per {fit.per} against passes ends at {numbers.nats(fit.bound)}"
    return ["<h2>The climb</h2>", figure(network_climb_figure(fit), label, "trace", caption)]


# --- both ----------------------------------------------------------------------------------------------------------------


def _latent(subject: Subject) -> list[str]:
    """Where the rows lie."""
    if subject.obs is None:
        return []
    drawn = sample(subject.obs, POINTS) if subject.obs.lengths is None else some_items(subject.obs, POINTS // 10)
    z = means_of(subject.model, drawn)
    labels = _labels_of(subject, drawn.n_rows)
    inner = classes_of(subject.model)
    prior = inner if inner is not None and subject.model.prior_started else None
    own = None if prior is None or labels else classes_at(subject.model, z, drawn.lengths, path=True)[1]
    who = "posterior's" if subject.terms.is_exact else "encoder's"
    caption = f"Each row at the {who} mean of its z"
    plane = Plane.of(z)
    if z.shape[1] > 2:
        caption += f", seen along the axes in which these vary most ({numbers.share(plane.share)} of their variance)"
    caption += f"; in the colour of its known class ({subject.about.get('label') or '--label'})" if labels else ""
    caption += "" if own is None else f"; in the colour of the prior's likeliest {terms_of(inner).part} there"
    caption += "." if prior is None or z.shape[1] < 2 else "; ellipses: the prior at 1 and 2 standard deviations."
    if drawn.n_rows < subject.obs.n_rows:
        caption += f" {some_of(drawn.n_rows, subject.obs.n_rows)}"
    drawing = figure(latent_figure(z, labels, prior, own), "The rows in the space of z", "latent", caption)
    return ["<h2>Where the rows lie</h2>", drawing]


def _labels_of(subject: Subject, n: int) -> list[str | None] | None:
    """Of the rows that `sample` draws: the same ones, in the same order."""
    assert subject.obs is not None
    if subject.labels is None:
        return None
    known = list(subject.labels)
    if subject.obs.lengths is not None or n == len(known):
        return known[:n]
    picked = np.sort(np.random.default_rng(0).choice(len(known), n, replace=False))
    return [known[i] for i in picked]


def decode(model: Any, z: np.ndarray) -> np.ndarray:
    """E[y | z].  (R, L) → (R, D)"""
    if hasattr(model, "components"):
        return array(model.mean) + z @ array(model.components).T
    like = next(model.decoder.parameters())
    with torch.no_grad():
        return array(model.likelihood.mean(model.decode(torch.from_numpy(z).to(like), None)))


def _decoded(subject: Subject) -> list[str]:
    """Rows beside what z keeps of them, new rows, and the way from one row to another."""
    model = subject.model
    if getattr(model, "context_features", 0):  # A context says more than z, and there is none to draw from.
        return []
    drawn = array(model.sample(SHOWN, torch.Generator().manual_seed(0))[0])
    parts = []
    if subject.obs is not None:
        some = some_items(subject.obs)
        y, z = array(some.y), means_of(model, some)
        far = int(np.argmax(((z - z[0]) ** 2).sum(axis=1)))
        way = z[0] + np.linspace(0, 1, SHOWN)[:, None] * (z[far] - z[0])
        kept = [y[:SHOWN], decode(model, z[:SHOWN])]
        parts.append(
            _rows(subject, kept, ["data", "decoded"], "rows", "Rows of the data, and what is decoded from their z.")
        )
        told = "The way in z from one row to the one that lies farthest from it, decoded at equal steps."
        parts.append(_rows(subject, [decode(model, way)], ["way"], "way", told))
    parts.append(_rows(subject, [drawn], ["drawn"], "drawn", "New rows, drawn from the model."))
    beside = "<figure>" in parts[0]  # Tables stand one below the other: side by side they would scroll.
    body = "".join(f"<div>{part}</div>" for part in parts) if beside else "".join(parts)
    return ["<h2>What z keeps, and what the model makes</h2>", f'<div class="pair">{body}</div>' if beside else body]


def _rows(subject: Subject, rows: Sequence[np.ndarray], heads: Sequence[str], prefix: str, caption: str) -> str:
    """Rows as images, as lines, or as a table, by how many columns there are."""
    names = subject.names
    if side_of(len(names)):
        return figure(images_figure(rows, heads), caption, prefix, caption)
    if len(names) >= LINES and not _coded(subject):
        few = [row[:4] if prefix == "rows" else row[:: max(1, len(row) // 4)] for row in rows]
        return figure(lines_figure(few, heads, names), caption, prefix, caption)
    return _listed(subject, rows, heads, caption)


def _coded(subject: Subject) -> bool:
    return hasattr(getattr(subject.model, "likelihood", None), "n_symbols")


def _listed(subject: Subject, rows: Sequence[np.ndarray], heads: Sequence[str], caption: str) -> str:
    names = subject.names[:CELLS]
    if len(subject.names) > CELLS:
        caption += f" The first {CELLS} of {len(subject.names)} columns."
    body = []
    for i in range(min(len(rows[0]), LISTED) if len(rows) > 1 else len(rows[0])):
        for head, row in zip(heads, rows, strict=True):
            body.append(
                table_row(f"{head} {i + 1}", [_cell(subject, name, v) for name, v in zip(names, row[i], strict=False)])
            )
    return table(caption, ["", *map(escape, names)], body)


def _cell(subject: Subject, name: str, value: float) -> str:
    if np.isnan(value):
        return numbers.ABSENT
    known = (subject.about.get("categories") or {}).get(name)
    return known[int(value)] if known else numbers.parameter(value)
