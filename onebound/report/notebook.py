"""What a notebook shows of a `Fit`, a `Plan` and a `Bound`: the pages' own pieces, styled inside their own box."""

import hashlib
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from onebound.report import numbers
from onebound.report.climbed import climbed
from onebound.report.markup import facts, figure, variables
from onebound.report.parameters import array
from onebound.report.sections import climb_label, fit_facts
from onebound.report.traces import trace_figure

LOWEST = 5  # Items whose ln p(y) is listed: the ones that a model explains worst are those to look at.
# On paper of its own: a notebook's theme may be dark where the system's is light.
STYLE = (
    ".onebound{background:var(--paper);color:var(--ink);padding:.6rem .9rem;max-width:40rem;line-height:1.5}"
    ".onebound .facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:.2rem 2rem;margin:.4rem 0}"
    ".onebound .facts div{display:flex;justify-content:space-between;gap:1rem;border-bottom:1px solid var(--rule)}"
    ".onebound .facts dt,.onebound figcaption{color:var(--muted);font-weight:400}"
    ".onebound .facts dd{margin:0;font-weight:600}"
    ".onebound figure{margin:.4rem 0;max-width:32rem}.onebound svg{width:100%;height:auto}"
    ".onebound table{border-collapse:collapse;background:var(--paper);color:var(--ink)}"
    ".onebound :is(th,td){text-align:left;padding:.2rem .9rem .2rem 0;border-bottom:1px solid var(--rule);"
    "vertical-align:top;background:var(--paper);color:var(--ink);white-space:normal}"
)


def fit_html(fit: Any) -> str:
    """Where a fit arrived, its climb, and its plan to unfold."""
    told = climbed(fit)
    rows = [("rows" if told.per == "row" else f"{told.per}s", numbers.count(told.n_items)), *fit_facts(told)]
    if len(told.restarts) > 1:
        spread = max(told.restarts) - min(told.restarts)
        rows.append(
            ("spread of the restarts", f"{len(told.restarts)} starts, {numbers.gap(spread)} nats per {told.per}")
        )
    parts = [facts(rows)]
    if any(record.bound is not None for record in told.trace):
        drawing = trace_figure([told])
        parts.append(figure(drawing, climb_label([told], "passes"), _prefix(told), "L, ln p(y) and the gap by passes."))
    parts += [f"<p>{escape(text)}</p>" for text in told.repairs]
    parts.append(f"<details><summary>plan</summary>{plan_table(fit.plan)}</details>")
    return _box(f"{told.algorithm} on {fit.plan.model}", parts)


def plan_html(plan: Any) -> str:
    """The steps of a plan as a table."""
    return _box(f"{plan.algorithm} on {plan.model}", [plan_table(plan)])


def bound_html(bound: Any) -> str:
    """L in both readings, and the items that the model explains worst."""
    m = bound.mean()
    rows = [
        ("L, nats per item", numbers.nats(m["bound"])),
        (f"ln p(y), nats per item ({bound.evidence_is})", numbers.nats(m["evidence"])),
        ("gap, nats per item", numbers.gap(m["gap"])),
        ("E_q ln p(z, y), nats per item", numbers.nats(m["expected_log_joint"])),
        ("H(q), nats per item", numbers.nats(m["entropy"])),
        ("items", numbers.count(len(bound.weights))),
    ]
    evidence = array(bound.evidence)
    worst = np.argsort(evidence, kind="stable")[:LOWEST]
    told = ", ".join(f"item {n}: {numbers.nats(evidence[n])}" for n in worst)
    return _box("The bound", [facts(rows), f"<p>Lowest ln p(y), items counted from 0: {escape(told)}.</p>"])


def plan_table(plan: Any) -> str:
    """Kind, name, step and why, a row each."""
    keys = ("kind", "name", "step", "why")
    head = "".join(f'<th scope="col">{"" if key == "kind" else key}</th>' for key in keys)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(row[key])}</td>' for key in keys)}</tr>" for row in plan.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _box(title: str, parts: Sequence[str]) -> str:
    style = f"<style>{variables('.onebound')}{STYLE}</style>"
    return f'{style}<div class="onebound"><b>{escape(title)}</b>{"".join(parts)}</div>'


def _prefix(told: Any) -> str:
    """One for each climb: two fits of a notebook share a page, and ids must not meet there."""
    return "fit-" + hashlib.sha256(repr(told.trace).encode()).hexdigest()[:10]
