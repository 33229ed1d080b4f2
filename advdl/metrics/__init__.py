"""Statistics that add up: metrics merged over batches, devices and hosts, and host-side scores of generated images."""

from advdl.metrics.base import Mean, compute, merge
from advdl.metrics.classic import classic_methods
from advdl.metrics.classification import Confusion, top_k
from advdl.metrics.density import (
    Divergence,
    Modes,
    js_divergence,
    mode_figures,
    mode_metrics,
    optimal_discriminator,
    optimal_value,
    wasserstein_1,
)
from advdl.metrics.fidelity import (
    Manifold,
    Moments,
    Parzen,
    Spread,
    classifier_score,
    fidelity_figures,
    frechet_distance,
    gaussian_fit,
    kernel_distance,
    manifold,
    parzen,
)
from advdl.metrics.generative import Coverage, PixelDistance, Recognition, class_coverage, nearest
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
from advdl.metrics.sequence import ByStep
from advdl.metrics.similarity import bounding_box, detail, ssim
from advdl.metrics.text import bleu, caption_figures, cider_d, corpus_bleu, rouge_l, tokenize, word_error_rate
from advdl.metrics.verdict import verdict

__all__ = [
    "ByStep",
    "Confusion",
    "Coverage",
    "Divergence",
    "Manifold",
    "Mean",
    "Modes",
    "Moments",
    "Parzen",
    "PixelDistance",
    "Recognition",
    "Spread",
    "bleu",
    "bounding_box",
    "caption_figures",
    "cider_d",
    "class_accuracy",
    "class_coverage",
    "class_iou",
    "classic_methods",
    "classifier_score",
    "compute",
    "corpus_bleu",
    "detail",
    "fidelity_figures",
    "frechet_distance",
    "frequency_weighted_iou",
    "gaussian_fit",
    "js_divergence",
    "kernel_distance",
    "manifold",
    "mean_iou",
    "merge",
    "mode_figures",
    "mode_metrics",
    "nearest",
    "optimal_discriminator",
    "optimal_value",
    "parzen",
    "pca",
    "pca_reconstruction",
    "pixel_accuracy",
    "rouge_l",
    "segmentation_figures",
    "segmentation_metrics",
    "ssim",
    "tokenize",
    "top_k",
    "trivial_baselines",
    "verdict",
    "wasserstein_1",
    "wiener",
    "word_error_rate",
]
