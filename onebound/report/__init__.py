"""Pictures, tables and the HTML page: `write_comparison`, `trace_figure`, `scatter_figure`, `profile_figure`.

Each loads matplotlib when it is first used, so that the shell can print numbers without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onebound.report.page import write_comparison
    from onebound.report.pictures import profile_figure, scatter_figure
    from onebound.report.traces import trace_figure

__all__ = ["profile_figure", "scatter_figure", "trace_figure", "write_comparison"]

_HOME = {
    "profile_figure": "pictures",
    "scatter_figure": "pictures",
    "trace_figure": "traces",
    "write_comparison": "page",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"onebound.report.{_HOME[name]}"), name)
    raise AttributeError(f"module 'onebound.report' has no attribute {name!r}")
