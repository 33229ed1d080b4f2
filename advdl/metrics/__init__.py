"""Statistics that add up: metrics merged over batches, devices and hosts, and host-side scores of generated images."""

from advdl.metrics.base import Mean, compute, merge
from advdl.metrics.classic import classic_methods
from advdl.metrics.classification import Confusion, top_k
from advdl.metrics.generative import Coverage, Recognition, class_coverage, nearest
from advdl.metrics.linear import pca, pca_reconstruction, wiener
from advdl.metrics.segmentation import (
    class_accuracy,
    class_iou,
    frequency_weighted_iou,
    mean_iou,
    pixel_accuracy,
    segmentation_figures,
    segmentation_metrics,
    trivial_baselines,
)

__all__ = [
    "Confusion",
    "Coverage",
    "Mean",
    "Recognition",
    "class_accuracy",
    "class_coverage",
    "class_iou",
    "classic_methods",
    "compute",
    "frequency_weighted_iou",
    "mean_iou",
    "merge",
    "nearest",
    "pca",
    "pca_reconstruction",
    "pixel_accuracy",
    "segmentation_figures",
    "segmentation_metrics",
    "top_k",
    "trivial_baselines",
    "wiener",
]
