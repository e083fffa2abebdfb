"""One fit as the pages read it, whether it was made just now or is remembered by a saved model.

A chain's numbers are per sequence where they come from, and per row here, so that series of any length can be compared.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from onebound.algorithms import Plan, Record
from onebound.errors import InputError
from onebound.report.terms import Terms, terms_of

NEEDED = ("algorithm", "bound", "trace")


@dataclass(frozen=True)
class Climbed:
    """A fit without its model: what `Fit.summary()` says, read back. None stands where a number is not known.

    `per`: what its nats are per, a row, or a sequence whose length nobody knows; `size`: rows of an item.
    """

    algorithm: str
    plan: str
    trace: list[Record]
    bound: float | None
    evidence: float | None
    gap: float | None
    n_items: int | None
    converged: bool
    reason: str
    seconds: float | None
    restarts: list[float]
    repairs: list[str]
    choice: Mapping[str, Any] | None = None  # `Choice.as_dict()`, if this fit is the best of several models'
    per: str = "row"
    size: float = 1.0
    estimate: Mapping[str, Any] | None = None  # of ln p(y) and how z is used, where ln p(y) has no sum


def climbed(fit: Any, title: str = "the model", *, rows: float | None = None, terms: Terms | None = None) -> Climbed:
    """The fit, from a `Fit` or from its summary (a dict, as `Fit.summary()` makes it). `title` names the model's plan.

    `rows`: how many an item has, where the summary does not say; `terms`: of the model, where a summary comes without it.
    Raises InputError for something else.
    """
    summary = fit.summary() if hasattr(fit, "summary") else fit
    if not isinstance(summary, Mapping) or any(key not in summary for key in NEEDED):
        got = sorted(summary) if isinstance(summary, Mapping) else type(summary).__name__
        raise InputError(f"report: summary must be a Fit or Fit.summary(), with {', '.join(NEEDED)} in it, got {got}.")
    plan = summary.get("plan") or ""
    steps = plan if isinstance(plan, list) else []
    known = rows if rows is not None else summary.get("rows_per_item")
    terms = terms_of(fit.model) if terms is None and hasattr(fit, "model") else terms
    size = known or 1.0
    return Climbed(
        algorithm=str(summary["algorithm"]),
        plan=str(Plan(title, str(summary["algorithm"]), steps)) if steps else str(plan),
        trace=[_record(record, size) for record in summary["trace"]],
        bound=_number(summary["bound"], size),
        evidence=_number(summary.get("evidence"), size),
        gap=_number(summary.get("gap"), size),
        n_items=summary.get("n_items"),
        converged=bool(summary.get("converged", False)),
        reason=str(summary.get("reason", "")),
        seconds=_number(summary.get("seconds")),
        restarts=[float(v) / size for v in summary.get("restarts") or [] if _number(v) is not None],
        repairs=[str(text) for text in summary.get("repairs") or []],
        choice=_choice(summary.get("choice"), size),
        per=terms.item if terms is not None and known is None else "row",
        size=size,
        estimate=summary.get("estimate"),
    )


def _choice(choice: Mapping[str, Any] | None, size: float) -> Mapping[str, Any] | None:
    """Per row, but what was held out: its sequences have lengths of their own."""
    if choice is None:
        return None
    tried = [
        {**c, "bound": _number(c["bound"], size), "evidence": _number(c["evidence"], size)}
        for c in choice["candidates"]
    ]
    return {**choice, "candidates": tried}


def _record(values: Mapping[str, Any], size: float) -> Record:
    known = {f.name: values[f.name] for f in fields(Record) if f.name in values}
    for name in ("bound", "evidence", "gap", "objective", "trained"):
        known[name] = _number(known.get(name), size)
    return Record(**{**known, "repairs": tuple(known.get("repairs", ()))})


def _number(value: Any, size: float = 1.0) -> float | None:
    """JSON has no NaN: whatever stands for "not known" becomes None."""
    return None if value is None or math.isnan(value) else float(value) / size
