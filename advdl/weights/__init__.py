"""Published weights: read into a network name by name, with a strict report, and written back."""

from advdl.weights.backbone import (
    backbone,
    encoder_mask,
    in_encoder,
    load_backbone,
    place_backbone,
    warm_start,
)
from advdl.weights.features import Features, open_features
from advdl.weights.files import check, read, write
from advdl.weights.load import Report, export, load, start_from
from advdl.weights.names import Entry, entries, styles

__all__ = [
    "Entry",
    "Features",
    "Report",
    "backbone",
    "check",
    "entries",
    "export",
    "encoder_mask",
    "in_encoder",
    "load",
    "load_backbone",
    "open_features",
    "place_backbone",
    "warm_start",
    "read",
    "styles",
    "start_from",
    "write",
]
