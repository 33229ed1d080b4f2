"""Pictures: pure functions of arrays that write files, and the page that shows them. The same
input, the same bytes."""

from advdl.present.chart import draw_bars, draw_histogram, draw_trade
from advdl.present.classified import (
    confusion_section,
    filters_section,
    heat_section,
    mistaken_section,
    overlay,
)
from advdl.present.confusion import draw_confusion
from advdl.present.curves import Panel, draw_curves
from advdl.present.encoded import draw_map, draw_rows
from advdl.present.forecasts import draw_forecasts
from advdl.present.generated import (
    coverage_figures,
    coverage_section,
    guess_section,
    modes_section,
    samples_section,
)
from advdl.present.grid import animate, draw_grid, tile
from advdl.present.looks import draw_looks
from advdl.present.painter import browser, data_url, from_data_url, photograph, serve, serve_forever
from advdl.present.points import Cloud, Line, draw_clouds, draw_lines, smoothed_density
from advdl.present.report import Figure, Page, Picture, Section, write_report
from advdl.present.segmentation import (
    colorize,
    default_palette,
    draw_overlays,
    draw_receptive_field,
    error_map,
    extremes,
    image_accuracy,
    legend,
    overlay_mask,
    tile_overlays,
)
from advdl.present.sequences import draw_attention, draw_by_step, draw_states
from advdl.present.words import draw_characters, draw_weighed, draw_words

__all__ = [
    "Cloud",
    "Line",
    "Panel",
    "Figure",
    "Page",
    "Picture",
    "Section",
    "animate",
    "browser",
    "colorize",
    "confusion_section",
    "coverage_figures",
    "coverage_section",
    "data_url",
    "default_palette",
    "draw_attention",
    "draw_bars",
    "draw_by_step",
    "draw_clouds",
    "draw_confusion",
    "draw_curves",
    "draw_forecasts",
    "draw_grid",
    "draw_histogram",
    "draw_lines",
    "draw_looks",
    "draw_map",
    "draw_overlays",
    "draw_receptive_field",
    "draw_rows",
    "draw_states",
    "draw_characters",
    "draw_weighed",
    "draw_words",
    "draw_trade",
    "error_map",
    "extremes",
    "filters_section",
    "from_data_url",
    "guess_section",
    "modes_section",
    "heat_section",
    "image_accuracy",
    "legend",
    "mistaken_section",
    "overlay",
    "overlay_mask",
    "photograph",
    "samples_section",
    "serve",
    "serve_forever",
    "smoothed_density",
    "tile",
    "tile_overlays",
    "write_report",
]
