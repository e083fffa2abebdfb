"""What a page about one model is about, and what it may be told with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onebound.observations import Observations
from onebound.report.climbed import Climbed
from onebound.report.survey import Survey
from onebound.report.terms import Terms, sized, terms_of


@dataclass(frozen=True)
class Subject:
    """What the page is about: the model, its climb (None: not remembered), its data (None: not at hand)."""

    model: Any
    names: Sequence[str]
    fit: Climbed | None
    obs: Observations | None
    seen: Survey | None
    labels: Sequence[str | None] | None = None  # known classes of the rows, which colour them where z is a vector

    @property
    def terms(self) -> Terms:
        """What its parts and items are called."""
        return terms_of(self.model)

    @property
    def about(self) -> dict[str, Any]:
        """The notes that travel with the model."""
        return getattr(self.model, "about", None) or {}

    @property
    def title(self) -> str:
        """The name of the model and how many parts it has."""
        name = self.about.get("model")
        return f"{name}, {sized(self.model)}" if name else str(self.model.title())
