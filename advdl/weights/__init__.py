"""Published weights: read into a network name by name, with a strict report, and written back."""

from advdl.weights.backbone import (
    backbone,
    encoder_mask,
    encoder_start,
    in_encoder,
    load_backbone,
    place_backbone,
)
from advdl.weights.features import Features, open_features
from advdl.weights.files import check, read, write
from advdl.weights.load import Report, export, load, start_from
from advdl.weights.names import Entry, entries, styles
from advdl.weights.pretraining import digits_start, learn_digits
from advdl.weights.vectors import read_vectors, vector_size, vectors_start

__all__ = [
    "Entry",
    "Features",
    "Report",
    "backbone",
    "check",
    "digits_start",
    "encoder_mask",
    "encoder_start",
    "entries",
    "export",
    "in_encoder",
    "learn_digits",
    "load",
    "load_backbone",
    "open_features",
    "place_backbone",
    "read",
    "read_vectors",
    "styles",
    "start_from",
    "vector_size",
    "vectors_start",
    "write",
]
