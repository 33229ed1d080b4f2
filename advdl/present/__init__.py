"""Pictures: pure functions of arrays that write files, and the page that shows them. The same input, the same bytes."""

from advdl.present.chart import draw_bars, draw_histogram
from advdl.present.classified import (
    confusion_section,
    filters_section,
    heat_section,
    learning_section,
    mistaken_section,
    overlay,
)
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
    "confusion_section",
    "coverage_figures",
    "coverage_section",
    "draw_bars",
    "draw_confusion",
    "draw_curves",
    "draw_grid",
    "draw_histogram",
    "filters_section",
    "heat_section",
    "learning_section",
    "mistaken_section",
    "overlay",
    "read_metrics",
    "samples_section",
    "tile",
    "write_report",
]
