"""Pictures: pure functions of arrays that write files, and the page that shows them. The same input, the same bytes."""

from advdl.present.chart import draw_bars, draw_histogram
from advdl.present.confusion import draw_confusion
from advdl.present.curves import Panel, draw_curves
from advdl.present.grid import animate, draw_grid, tile
from advdl.present.report import Picture, Section, read_metrics, write_report

__all__ = [
    "Panel",
    "Picture",
    "Section",
    "animate",
    "draw_bars",
    "draw_confusion",
    "draw_curves",
    "draw_grid",
    "draw_histogram",
    "read_metrics",
    "tile",
    "write_report",
]
