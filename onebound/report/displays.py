"""The report's pictures for notebooks and papers: made from a fit, drawn on axes of their own or on yours."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onebound.errors import InputError
from onebound.report.checks import confidence_figure, draw_confidence, draw_restarts, restarts_figure
from onebound.report.climbed import Climbed, climbed
from onebound.report.latent import means_of
from onebound.report.pairs import has_pairs, pair_figure
from onebound.report.parameters import gaussian_part
from onebound.report.pictures import POINTS, draw_profiles, draw_scatter, sample, scatter_figure
from onebound.report.style import isolated
from onebound.report.survey import Survey, survey, weighed
from onebound.report.terms import terms_of
from onebound.report.traces import draw_climbs, trace_figure
from onebound.report.vector_pictures import draw_latent, latent_figure

FORMATS = (".png", ".svg")


class Display(ABC):
    """A picture that knows what it shows. `plot()` draws it; then `figure_` is the matplotlib figure. Abstract."""

    figure_: Figure

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw on a figure of its own, or on the given axes; returns the display, with `figure_` set."""
        if ax is None:
            self.figure_ = self._figure()
            return self
        with isolated():
            self._draw(ax)
        self.figure_ = ax.figure.figure  # The root, whatever sub-figure the axes sit in.
        return self

    def savefig(self, path: str | os.PathLike[str], *, dpi: float = 200) -> None:
        """Write a PNG or SVG file, on white. Raises InputError for another ending or a folder that is not there."""
        target = Path(path)
        if target.suffix.lower() not in FORMATS or not target.parent.is_dir():
            raise InputError(
                f"{type(self).__name__}.savefig: path must end in .png or .svg, in a folder that exists, got {str(path)!r}."
            )
        if not hasattr(self, "figure_"):
            self.plot()
        with isolated():
            self.figure_.savefig(target, dpi=dpi, facecolor="white")

    @abstractmethod
    def _figure(self) -> Figure:
        """The picture on a figure of its own."""

    @abstractmethod
    def _draw(self, axes: Axes) -> None:
        """The picture on given axes."""


def _remembered(model: Any) -> Climbed:
    about = getattr(model, "about", None) or {}
    if "fit" not in about:
        raise InputError(
            "from_estimator: this model does not remember its fit. Pass the Fit to from_fit, or keep "
            'model.about["fit"] = fit.summary().'
        )
    return climbed(about["fit"], terms=terms_of(model))


class TraceDisplay(Display):
    """L, ln p(y) and the gap against passes or seconds; of several fits together where several are given."""

    def __init__(self, fits: Sequence[Climbed], x: Literal["passes", "seconds"] = "passes") -> None:
        self.fits, self.x = list(fits), x

    @classmethod
    def from_fit(cls, *fits: Any, x: Literal["passes", "seconds"] = "passes") -> "TraceDisplay":
        """Of one or more fits (or their summaries)."""
        if not fits:
            raise InputError("TraceDisplay.from_fit: expected at least one fit, got none.")
        return cls([climbed(fit) for fit in fits], x).plot()

    @classmethod
    def from_estimator(cls, model: Any, y: Any = None, *, x: Literal["passes", "seconds"] = "passes") -> "TraceDisplay":
        """Of the fit that a model remembers in `model.about["fit"]`; y is not looked at."""
        return cls([_remembered(model)], x).plot()

    def _figure(self) -> Figure:
        return trace_figure(self.fits, self.x)

    def _draw(self, axes: Axes) -> None:
        draw_climbs(axes, self.fits, self.x)


class RestartsDisplay(Display):
    """Where each restart ended."""

    def __init__(self, restarts: Sequence[float], per: str = "row") -> None:
        self.restarts, self.per = list(restarts), per

    @classmethod
    def from_fit(cls, fit: Any) -> "RestartsDisplay":
        """Of one fit (or its summary)."""
        told = climbed(fit)
        return cls(told.restarts, told.per).plot()

    @classmethod
    def from_estimator(cls, model: Any, y: Any = None) -> "RestartsDisplay":
        """Of the fit that a model remembers in `model.about["fit"]`; y is not looked at."""
        told = _remembered(model)
        return cls(told.restarts, told.per).plot()

    def _figure(self) -> Figure:
        return restarts_figure(self.restarts, self.per)

    def _draw(self, axes: Axes) -> None:
        draw_restarts(axes, self.restarts, self.per)


class ConfidenceDisplay(Display):
    """The histogram of the largest responsibility; `survey` holds the numbers behind it."""

    def __init__(self, seen: Survey) -> None:
        self.survey = seen

    @classmethod
    def from_fit(cls, fit: Any, y: Any, *, weights: Any = None) -> "ConfidenceDisplay":
        """Of a fit's model on y (N, D)."""
        return cls.from_estimator(fit.model, y, weights=weights)

    @classmethod
    def from_estimator(cls, model: Any, y: Any, *, weights: Any = None) -> "ConfidenceDisplay":
        """Of a model on y (N, D). Raises InputError for one whose z is a vector, which is no class to be sure of."""
        if terms_of(model).is_vector:
            raise InputError(
                "ConfidenceDisplay: z is a vector in this model, no class. ScatterDisplay shows where rows lie."
            )
        return cls(survey(model, y, weights)).plot()

    def _figure(self) -> Figure:
        return confidence_figure(self.survey)

    def _draw(self, axes: Axes) -> None:
        draw_confidence(axes, self.survey)


class ScatterDisplay(Display):
    """The data with the components: a scatter plot, a pair plot, or the profiles of a model without Gaussian columns.

    Where z is a vector: the rows in its space.
    """

    def __init__(self, model: Any, y: Any, names: Sequence[str] | None = None, *, pairs: bool = False) -> None:
        self.model, self.obs = model, weighed(model, y)
        about = getattr(model, "about", None) or {}
        default = about.get("columns") or self.obs.names or [f"column {d}" for d in range(self.obs.n_features)]
        self.names = list(names if names is not None else default)
        self.pairs = pairs

    @classmethod
    def from_fit(cls, fit: Any, y: Any, *, names: Sequence[str] | None = None, pairs: bool = False) -> "ScatterDisplay":
        """Of a fit's model and y (N, D)."""
        return cls.from_estimator(fit.model, y, names=names, pairs=pairs)

    @classmethod
    def from_estimator(
        cls, model: Any, y: Any, *, names: Sequence[str] | None = None, pairs: bool = False
    ) -> "ScatterDisplay":
        """Of a model and y (N, D); `pairs`: every pair of 3 to 6 Gaussian columns, instead of the two that tell most."""
        return cls(model, y, names, pairs=pairs).plot()

    def _figure(self) -> Figure:
        if terms_of(self.model).is_vector:
            return latent_figure(means_of(self.model, sample(self.obs, POINTS)), None)
        draw = pair_figure if self.pairs else scatter_figure
        return draw(self.model, self.obs, self.names)

    def _draw(self, axes: Axes) -> None:
        if terms_of(self.model).is_vector:
            draw_latent(axes, means_of(self.model, sample(self.obs, POINTS)))
            return
        if self.pairs and has_pairs(self.model):
            raise InputError("ScatterDisplay.plot: a pair plot needs a figure of its own; leave ax out.")
        if gaussian_part(self.model.emission) is None:
            draw_profiles(axes, self.model, self.names)
            return
        draw_scatter(axes, self.model, self.obs, self.names)
