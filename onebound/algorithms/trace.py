"""What a climb leaves behind: a record after every E and M step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Record:
    """Means per item, in nats.

    `after` "E": L, ln p(y) and gap of what `iteration` − 1 M steps have reached. `after` "M": L with q held; its evidence
    and gap are filled in by the next E step (None where nothing evaluated them). `objective` = bound + ln p(Θ) / Σ weight.
    `passes` over the data so far. `running`: a mean over the mini-batches of a pass, not one evaluation.
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

    def as_dict(self) -> dict[str, Any]:
        """The record as plain values."""
        return asdict(self)
