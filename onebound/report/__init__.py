"""Pictures, tables and the HTML page: `write_comparison`, `trace_figure`, `scatter_figure`, `profile_figure`."""

from onebound.report.page import write_comparison
from onebound.report.pictures import profile_figure, scatter_figure
from onebound.report.traces import trace_figure

__all__ = ["profile_figure", "scatter_figure", "trace_figure", "write_comparison"]
