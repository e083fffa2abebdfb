"""Pictures, tables and the HTML pages: `write_report`, `write_comparison`, the figures, and displays of them.

Each loads matplotlib when it is first used, so that the shell can print numbers without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onebound.report.checks import confidence_figure, restarts_figure
    from onebound.report.chosen import choice_figure
    from onebound.report.displays import ConfidenceDisplay, RestartsDisplay, ScatterDisplay, TraceDisplay
    from onebound.report.page import write_comparison
    from onebound.report.pairs import pair_figure
    from onebound.report.pictures import profile_figure, scatter_figure
    from onebound.report.single import write_report
    from onebound.report.traces import trace_figure

_HOME = {
    "ConfidenceDisplay": "displays",
    "RestartsDisplay": "displays",
    "ScatterDisplay": "displays",
    "TraceDisplay": "displays",
    "choice_figure": "chosen",
    "confidence_figure": "checks",
    "pair_figure": "pairs",
    "profile_figure": "pictures",
    "restarts_figure": "checks",
    "scatter_figure": "pictures",
    "trace_figure": "traces",
    "write_comparison": "page",
    "write_report": "single",
}

__all__ = [
    "ConfidenceDisplay",
    "RestartsDisplay",
    "ScatterDisplay",
    "TraceDisplay",
    "choice_figure",
    "confidence_figure",
    "pair_figure",
    "profile_figure",
    "restarts_figure",
    "scatter_figure",
    "trace_figure",
    "write_comparison",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"onebound.report.{_HOME[name]}"), name)
    raise AttributeError(f"module 'onebound.report' has no attribute {name!r}")
