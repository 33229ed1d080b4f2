"""Statistics that add up: metrics merged over batches, devices and hosts, and host-side scores of generated images."""

from advdl.metrics.base import Mean, compute, merge
from advdl.metrics.classic import classic_methods
from advdl.metrics.classification import Confusion, top_k
from advdl.metrics.generative import Coverage, Recognition, class_coverage, nearest

__all__ = [
    "Confusion",
    "Coverage",
    "Mean",
    "Recognition",
    "class_coverage",
    "classic_methods",
    "compute",
    "merge",
    "nearest",
    "top_k",
]
