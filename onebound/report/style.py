"""What every picture of the report shares: colours that the colour-blind can tell apart, and plain axes.

A colour is drawn with its light value and leaves for the page as a CSS variable (see svg.py), so one drawing serves the
light page, the dark page and paper, and an algorithm or a component has one colour all over the page.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, RULE, PAPER = "#1b1f24", "#5b6570", "#d8dde2", "#fffffe"

# Okabe and Ito's colours for the algorithms: one fixed colour a name.
ALGORITHMS = {"EM": "#0072b2", "EG": "#d55e00", "VAE": "#009e73", "MCEM": "#cc79a7", "HardEM": "#e69f00"}
SPARE = ("#6f5fb8", "#8c564b", "#7f7f7f", "#56b4e9", "#8a8d00")
MARKERS = {"EM": "o", "EG": "s", "VAE": "^", "MCEM": "D", "HardEM": "v"}
SPARE_MARKERS = ("P", "X", "*", "p", "h")

# Paul Tol's muted colours for the components: others than the algorithms', so that no colour means two things.
COMPONENTS = ("#332288", "#cc6677", "#44aa99", "#999933", "#882255", "#88ccee", "#117733", "#aa4499", "#ddcc77")

# Light value → (CSS variable, value on the dark page).
VARIABLES: dict[str, tuple[str, str]] = {
    INK: ("--ink", "#e8eaed"),
    MUTED: ("--muted", "#a3adb8"),
    RULE: ("--rule", "#363d45"),
    PAPER: ("--paper", "#14171a"),
    "#0072b2": ("--em", "#5cb8f0"),
    "#d55e00": ("--eg", "#ff8f4d"),
    "#009e73": ("--vae", "#2fd3a0"),
    "#cc79a7": ("--mcem", "#f0a3cf"),
    "#e69f00": ("--hard-em", "#ffc857"),
    "#6f5fb8": ("--spare-1", "#b3a5ff"),
    "#8c564b": ("--spare-2", "#d9a298"),
    "#7f7f7f": ("--spare-3", "#b5b5b5"),
    "#56b4e9": ("--spare-4", "#9fd8ff"),
    "#8a8d00": ("--spare-5", "#d3d65a"),
    "#332288": ("--component-1", "#9d8cff"),
    "#cc6677": ("--component-2", "#ff8fa3"),
    "#44aa99": ("--component-3", "#5fd6c3"),
    "#999933": ("--component-4", "#cfcf57"),
    "#882255": ("--component-5", "#f06aa8"),
    "#88ccee": ("--component-6", "#88ccee"),
    "#117733": ("--component-7", "#5fc07f"),
    "#aa4499": ("--component-8", "#e07fd8"),
    "#ddcc77": ("--component-9", "#ddcc77"),
}

WIDTH = 4.6  # Inches: 331 units of an SVG, near a phone's width, so that text of 9 units is read at about its own size.
FONT_SIZE = 9.0


def colours(labels: Sequence[str]) -> dict[str, str]:
    """One colour a label: its own where the algorithm is a named one, else a spare one.

    >>> colours(["EM", "EG with L-BFGS"])
    {'EM': '#0072b2', 'EG with L-BFGS': '#6f5fb8'}
    """
    return _one_each(labels, ALGORITHMS, SPARE)


def markers(labels: Sequence[str]) -> dict[str, str]:
    """One marker a label, so that no line is known by its colour alone."""
    return _one_each(labels, MARKERS, SPARE_MARKERS)


def _one_each(labels: Sequence[str], own: dict[str, str], spare: Sequence[str]) -> dict[str, str]:
    others = [label for label in labels if label not in own]
    return {label: own.get(label) or spare[others.index(label) % len(spare)] for label in labels}


def component_colour(k: int) -> str:
    """The colour of component k; after nine they come again, and the number beside them tells them apart."""
    return COMPONENTS[k % len(COMPONENTS)]


@contextmanager
def isolated(**settings: Any) -> Iterator[None]:
    """Matplotlib's own defaults inside, the user's settings again outside: a report does not depend on a matplotlibrc."""
    # A column may be called "cost in $": no text of ours is a formula.
    ours: dict[Any, Any] = {"font.size": FONT_SIZE, "text.parse_math": False, **settings}
    # The backend is left out: to set it would close the user's figures.
    defaults: dict[Any, Any] = {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")}
    with matplotlib.rc_context({**defaults, **ours}):
        yield


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """A figure that belongs to nobody's state: no pyplot, transparent, laid out by constraint."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="none")


def dress(axes: Axes) -> None:
    """Plain axes: two spines, faint lines, everything in the page's own ink."""
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    axes.grid(True, color=RULE, linewidth=0.6)
    axes.tick_params(which="both", colors=MUTED, length=0, labelsize=FONT_SIZE - 0.5)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(MUTED)
        spine.set_linewidth(0.8)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
