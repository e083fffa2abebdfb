"""What a climb leaves behind: a record after every E and M step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from onebound.errors import NotMonotone


@dataclass
class Record:
    """Means per item, in nats.

    `after` "E": L, ln p(y) and gap of what `iteration` − 1 M steps have reached. `after` "M": L with q held; its evidence
    and gap are filled in by the next E step (None where nothing evaluated them). `objective` = bound + ln p(Θ) / Σ weight.
    `passes` over the data so far. `running`: a mean over the mini-batches of a pass, or of so many of its steps (record_every),
    not one evaluation; `iteration` is then the pass. `trained`: what was climbed in place of L (IWAE-K, β < 1), where that is
    another number. `active_units`, `kl`: of z under a network, how many dimensions are used on the first items, and Σ over
    them of KL(q ‖ prior) by dimension, nats per row.
    """

    iteration: int
    after: str
    passes: float
    bound: float | None
    evidence: float | None
    gap: float | None
    objective: float | None
    seconds: float
    running: bool = False
    repairs: tuple[str, ...] = ()
    trained: float | None = None
    active_units: int | None = None
    kl: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The record as plain values."""
        return asdict(self)


def flat(trace: Sequence[Record], window: int, tol: float) -> bool:
    """Whether the objective changed by less than tol · (1 + |objective|) per item, a window's mean against the last's."""
    recent = [r.objective for r in trace[-4 * window :] if r.after == "E" and r.objective is not None]
    if tol <= 0 or len(recent) < 2 * window:
        return False
    now, then = sum(recent[-window:]) / window, sum(recent[-2 * window : -window]) / window
    return abs(now - then) < tol * (1 + abs(now))


def fallen(previous: Record, now: Record, weight: float) -> float:
    """By how much the objective fell, in nats summed over items; 0 where it is not known."""
    if previous.objective is None or now.objective is None:
        return 0.0
    return (previous.objective - now.objective) * weight


def require_risen(
    name: str,
    previous: Record,
    now: Record,
    weight: float,
    rounding: float,
    falls_by_part: Callable[[], Mapping[str, Tensor]] = dict,
) -> None:
    """The guarantee of EM: raise NotMonotone where the objective fell by more than rounding can explain.

    `rounding` is that much, in nats, summed over items. `falls_by_part`: how much each part's share of L fell, by
    component, to name the culprit.
    """
    fall = fallen(previous, now, weight)
    if fall <= rounding:
        return
    falls = falls_by_part()
    worst = max(falls, key=lambda part: float(falls[part].max())) if falls else None
    where = f" in {worst}, component {int(falls[worst].argmax())}" if worst else ""
    raise NotMonotone(
        f"{name}: the objective must not fall, but it fell by {fall:.3g} nats at the {now.after} step of iteration "
        f"{now.iteration}{where}. Please report it with the data; ob.EG() does not rely on this step."
    )
