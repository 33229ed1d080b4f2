"""Pictures: pure functions of arrays that write files, and the page that shows them. The same input, the same bytes."""

from advdl.present.chart import draw_bars, draw_histogram
from advdl.present.confusion import draw_confusion
from advdl.present.curves import Panel, draw_curves
from advdl.present.generated import coverage_figures, coverage_section, samples_section
from advdl.present.grid import animate, draw_grid, tile
from advdl.present.report import Picture, Section, read_metrics, write_report

__all__ = [
    "Panel",
    "Picture",
    "Section",
    "animate",
    "coverage_figures",
    "coverage_section",
    "draw_bars",
    "draw_confusion",
    "draw_curves",
    "draw_grid",
    "draw_histogram",
    "read_metrics",
    "samples_section",
    "tile",
    "write_report",
]
