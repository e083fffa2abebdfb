"""One HTML page about a recogniser: its climb with the errors it makes, what it hears, and where it finds each label."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onebound.data.recordings import Alphabet, Recordings, edits, errors
from onebound.report import numbers
from onebound.report.climbed import Climbed, climbed
from onebound.report.markup import document, facts, figure, note, table, table_row, write_whole
from onebound.report.sections import climbs, fit_facts, footer, plans
from onebound.report.style import FONT_SIZE, INK, MUTED, component_colour, dress, isolated, new_figure
from onebound.report.terms import Terms
from onebound.structures import Alignment

ALIGNED, HEARD, CONFUSED = (
    3,
    40,
    12,
)  # How many recordings are drawn, how many are listed, how many confusions are told.
SPECTRUM_WIDTH = 8.4  # Inches.
ITEMS = Terms("label", "recording", "")


@dataclass(frozen=True)
class Heard:
    """Recordings with what a recogniser makes of them; `seconds` a frame of the network, `hop` a frame of theirs."""

    model: Any
    alphabet: Alphabet
    recordings: Recordings
    seconds: float
    hop: float
    name: str


def write_recogniser(
    path: str | os.PathLike[str], model: Any, summary: Mapping[str, Any] | None, heard: Heard | None, subtitle: str
) -> None:
    """Write one self-contained HTML page about a CTC model, with recordings where they are at hand. It appears whole or not.

    summary: what its fit said, with `label_error_rates` a pass where something was held out.
    """
    write_whole(Path(path), recogniser_page(model, summary, heard, subtitle))


def recogniser_page(model: Any, summary: Mapping[str, Any] | None, heard: Heard | None, subtitle: str) -> str:
    """The text of that page."""
    fit = None if summary is None else climbed(summary, str(model.title()), terms=ITEMS)
    sections = [
        f"<h1>{escape(model.title())}</h1>",
        f'<p class="subtitle">{escape(subtitle)}</p>',
        *_facts(model, fit, summary),
        *([] if heard is None else [*_alignments(heard), *_decodings(heard)]),
        *([] if fit is None else [*climbs([fit]), *_rates(summary or {})]),
        *(plans([fit]) if fit is not None and fit.plan else []),
        footer(subtitle),
    ]
    return document(model.title(), "\n".join(sections))


def _facts(model: Any, fit: Climbed | None, summary: Mapping[str, Any] | None) -> list[str]:
    about, sizes = model.about, model.config()["network"] or {}
    told = [
        ("fitted to", f"{about['rows']:,} recordings of {about['data']}"),
        ("labels", f"{len(model.symbols) - 1} {about['units']}"),
        ("network", f"convolutions {sizes.get('channels')}, a bidirectional GRU of {sizes.get('hidden')}"),
        ("parameters", f"{model.n_parameters():,}"),
        *(fit_facts(fit) if fit is not None else []),
    ]
    if summary is not None and "label_error_rate" in summary:
        wrong, of = summary["label_errors"], summary["labels"]
        told.append(("label error rate, held out", f"{summary['label_error_rate']:.2%} ({wrong:,} of {of:,})"))
    return [facts(told)]


# --- where the labels are ------------------------------------------------------------------------------------------------


def _alignments(heard: Heard) -> list[str]:
    picked = [i for i, x in enumerate(heard.recordings.frames) if len(x)][:ALIGNED]
    if heard.recordings.texts is None or not picked:
        return []
    drawn = alignment_figure(heard, picked)
    told = "; ".join(f"{heard.recordings.files[i]}: {heard.recordings.texts[i]}" for i in picked)
    caption = (
        f"The first {len(picked)} recordings of {heard.name}. Above: energy in mel bands, low to high. Below: how probable "
        "each label is in each frame, given all that is said (the exact posterior over alignments); what is left is the blank. "
        "Dotted: where the best alignment has a label begin and end."
    )
    label = f"Log-mel energy and the posterior of labels over time, for {told}."
    head = "Where it finds the labels"
    return [
        f"<h2>{head}</h2>",
        f'<div class="wide pairs" role="region" aria-label="{head}" tabindex="0">',
        figure(drawn, label, "alignment", caption),
        "</div>",
    ]


@torch.no_grad()
def alignment_figure(heard: Heard, which: Sequence[int]) -> Figure:
    """Of some recordings, one below the other: log-mel frames, and under them p(label | frame, sound, text)."""
    with isolated():
        drawn = new_figure(2.5 * len(which), SPECTRUM_WIDTH)
        grids = drawn.subfigures(len(which), 1, squeeze=False)[:, 0]
        for i, part in zip(which, grids, strict=True):
            part.set_facecolor("none")
            above, below = part.subplots(2, 1, sharex=True, height_ratios=(3, 2))
            _draw_spectrum(above, heard, i)
            _draw_posterior(below, heard, i)
    return drawn


def _draw_spectrum(axes: Axes, heard: Heard, i: int) -> None:
    x = heard.recordings.frames[i].numpy()
    dress(axes)
    axes.grid(False)
    low, high = np.quantile(x, (0.02, 0.995))
    extent = (0.0, len(x) * heard.hop, 0.0, float(x.shape[1]))
    axes.imshow(x.T, origin="lower", aspect="auto", extent=extent, cmap="Greys", vmin=low, vmax=high)
    axes.set_ylabel("mel band", color=INK)
    axes.set_title(heard.recordings.files[i], loc="left", fontsize=FONT_SIZE, color=INK)
    axes.tick_params(labelbottom=False)


def _draw_posterior(axes: Axes, heard: Heard, i: int) -> None:
    model, files, texts = heard.model, heard.recordings.files, heard.recordings.texts
    assert texts is not None
    one = Recordings((files[i],), (heard.recordings.frames[i],), (texts[i],)).observations(heard.alphabet)
    w = model.log_potentials(model.observe(one))
    occupied = (
        Alignment(w).occupancies(0).numpy() if not bool(Alignment(w).infeasible[0]) else np.zeros((len(w.scores), 1))
    )
    spans = model.align(one)[0] if occupied.shape[1] > 1 else None
    middle = (np.arange(len(occupied)) + 0.5) * heard.seconds
    dress(axes)
    for u in range(occupied.shape[1] // 2):
        label = int(w.labels[u])
        colour = component_colour(label - 1 if label > model.blank else label)
        axes.fill_between(middle, occupied[:, 2 * u + 1], color=colour, alpha=0.75, linewidth=0, step="mid")
        assert spans is not None
        start, stop = float(spans.start[u]) * heard.seconds, float(spans.stop[u]) * heard.seconds
        for edge in (start, stop):
            axes.axvline(edge, color=MUTED, linewidth=0.6, linestyle=":")
        said = model.symbols[label]
        axes.text((start + stop) / 2, 1.04, said, ha="center", va="bottom", fontsize=FONT_SIZE - 1, color=INK)
    axes.set(ylim=(0, 1.3), yticks=[0, 1], xlim=(0, len(occupied) * heard.seconds))
    axes.set_ylabel("p(label)", color=INK)
    axes.set_xlabel("seconds", color=INK)


# --- what it hears -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _decodings(heard: Heard) -> list[str]:
    found = [best[0] for best in heard.model.decode(list(heard.recordings.frames))]
    said = [one.labels.tolist() for one in found]
    names, texts = heard.model.symbols, heard.recordings.texts
    if texts is None:
        heads = ["recording", "heard", "ln p, nats"]
        rows = [
            table_row(file, [heard.alphabet.text(labels), numbers.nats(one.log_prob)])
            for file, labels, one in zip(heard.recordings.files, said, found, strict=True)
        ]
        return ["<h2>What it hears</h2>", table(f"The recordings of {heard.name}.", heads, rows[:HEARD])]
    wanted = [heard.alphabet.labels(text, file) for text, file in zip(texts, heard.recordings.files, strict=True)]
    wrong = [errors(a, b) for a, b in zip(wanted, said, strict=True)]
    total, of = sum(wrong), sum(map(len, wanted))
    order = sorted(range(len(said)), key=lambda i: -wrong[i])[:HEARD]
    rows = [
        table_row(
            heard.recordings.files[i],
            [texts[i], heard.alphabet.text(said[i]), str(wrong[i]), numbers.nats(found[i].log_prob)],
            style="best" if wrong[i] else "",
        )
        for i in order
    ]
    listed = "All" if len(order) == len(said) else f"{len(order)} of {len(said)}"
    caption = (
        f"{listed} recordings of {heard.name}, those with errors first (in bold); ln p is of what was heard. Label error rate "
        f"{total / max(of, 1):.2%}: {total:,} of {of:,} labels put in, left out or changed."
    )
    return [
        "<h2>What it hears</h2>",
        table(caption, ["recording", "said", "heard", "errors", "ln p, nats"], rows),
        *_confusions(wanted, said, names),
    ]


def _confusions(wanted: Sequence[Sequence[int]], said: Sequence[Sequence[int]], names: Sequence[str]) -> list[str]:
    """The commonest pairs of what was said and what was heard in its place."""
    pairs: Counter[tuple[str, str]] = Counter()
    for a, b in zip(wanted, said, strict=True):
        for x, y in edits(a, b):
            if x != y:
                pairs[names[x] if x is not None else "nothing", names[y] if y is not None else "nothing"] += 1
    if not pairs:
        return [note("It makes no error there.")]
    rows = [table_row(a, [b, str(count)]) for (a, b), count in pairs.most_common(CONFUSED)]
    return [table("Its commonest errors.", ["said", "heard", "times"], rows)]


def _rates(summary: Mapping[str, Any]) -> list[str]:
    rates = summary.get("label_error_rates") or []
    if len(rates) < 2:
        return []
    with isolated():
        drawn = new_figure(2.4)
        axes = drawn.subplots()
        dress(axes)
        axes.plot(
            np.arange(1, len(rates) + 1), 100 * np.array(rates), color=component_colour(0), marker="o", markersize=3
        )
        axes.set_ylim(bottom=0)
        axes.set(xlabel="passes over the data", ylabel="label error rate, %")
    caption = f"Held out: the label error rate of the best path after each pass, {rates[-1]:.2%} at the end."
    return [figure(drawn, caption, "rates", caption)]


__all__ = ["Heard", "alignment_figure", "recogniser_page", "write_recogniser"]
