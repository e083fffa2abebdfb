"""One fit as the pages read it, whether it was made just now or is remembered by a saved model."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from onebound.algorithms import Plan, Record
from onebound.errors import InputError

NEEDED = ("algorithm", "bound", "trace")


@dataclass(frozen=True)
class Climbed:
    """A fit without its model: what `Fit.summary()` says, read back. None stands where a number is not known."""

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


def climbed(fit: Any, title: str = "the model") -> Climbed:
    """The fit, from a `Fit` or from its summary (a dict, as `Fit.summary()` makes it). `title` names the model's plan.

    Raises InputError for something else.
    """
    summary = fit.summary() if hasattr(fit, "summary") else fit
    if not isinstance(summary, Mapping) or any(key not in summary for key in NEEDED):
        got = sorted(summary) if isinstance(summary, Mapping) else type(summary).__name__
        raise InputError(f"report: summary must be a Fit or Fit.summary(), with {', '.join(NEEDED)} in it, got {got}.")
    plan = summary.get("plan") or ""
    rows = plan if isinstance(plan, list) else []
    return Climbed(
        algorithm=str(summary["algorithm"]),
        plan=str(Plan(title, str(summary["algorithm"]), rows)) if rows else str(plan),
        trace=[_record(record) for record in summary["trace"]],
        bound=_number(summary["bound"]),
        evidence=_number(summary.get("evidence")),
        gap=_number(summary.get("gap")),
        n_items=summary.get("n_items"),
        converged=bool(summary.get("converged", False)),
        reason=str(summary.get("reason", "")),
        seconds=_number(summary.get("seconds")),
        restarts=[float(v) for v in summary.get("restarts") or [] if _number(v) is not None],
        repairs=[str(text) for text in summary.get("repairs") or []],
        choice=summary.get("choice"),
    )


def _record(values: Mapping[str, Any]) -> Record:
    known = {f.name: values[f.name] for f in fields(Record) if f.name in values}
    for name in ("bound", "evidence", "gap", "objective"):
        known[name] = _number(known.get(name))
    return Record(**{**known, "repairs": tuple(known.get("repairs", ()))})


def _number(value: Any) -> float | None:
    """JSON has no NaN: whatever stands for "not known" becomes None."""
    return None if value is None or math.isnan(value) else float(value)
