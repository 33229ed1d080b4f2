"""Metrics of segmentation, all of one confusion matrix over the pixels of a whole set (Long et al.
2015, FCN, section 5).

`Confusion.of(logits_BHWK, mask_BHW, K)` counts a batch in int32, which 2³¹ pixels fit into; merged
on the host (`merge`) counts are int64. n_ij is how many pixels of class i were called j, t_i = Σ_j
n_ij; void pixels are in none of them. A figure of a whole set is never a mean over its images.
Axes: B batch, H height, W width, K classes.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from advdl.metrics.base import Mean
from advdl.metrics.classification import Confusion


def mask_accuracy(logits_BHWK: jax.Array, mask_BHW: jax.Array, void: int | None = None) -> Mean:
    """Share of the pixels of a batch that have the right class, of those that have one."""
    mask_BHW = mask_BHW.astype(jnp.int32)
    counted_BHW = (mask_BHW < logits_BHWK.shape[-1]) & (mask_BHW != (-1 if void is None else void))
    return Mean.of((logits_BHWK.argmax(-1) == mask_BHW).astype(jnp.float32), counted_BHW)


def pixel_accuracy(counts: Confusion | np.ndarray) -> float:
    """Σ n_ii / Σ t_i, SegNet's "global" accuracy; NaN where nothing was counted. counts:
    `Confusion`, or its (K, K)."""
    return _of(counts).accuracy()


def class_accuracy(counts: Confusion | np.ndarray) -> float:
    """Mean of n_ii / t_i over the classes that are there (t_i > 0); NaN where none is."""
    return _mean(_of(counts).recall())


def class_iou(counts: Confusion | np.ndarray) -> np.ndarray:
    """(K,) intersection over union n_ii / (t_i + Σ_j n_ji - n_ii); NaN for a class that neither is
    there nor was called. One that was called and is nowhere has 0."""
    matrix = _of(counts).compute()
    hits = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def mean_iou(counts: Confusion | np.ndarray) -> float:
    """Mean of `class_iou` without the NaN ones; NaN where all are."""
    return _mean(class_iou(counts))


def frequency_weighted_iou(counts: Confusion | np.ndarray) -> float:
    """Σ t_i IoU_i / Σ t_i; NaN where nothing was counted."""
    matrix = _of(counts).compute()
    total = matrix.sum()
    return float(np.nansum(matrix.sum(1) * class_iou(matrix)) / total) if total else float("nan")


@flax.struct.dataclass
class Scored:
    """A confusion matrix that computes one of `segmentation_figures`: `matrix` (K, K) counts,
    `figure` its name."""

    matrix: jax.Array | np.ndarray
    figure: str = flax.struct.field(pytree_node=False)

    def compute(self) -> float:
        """The figure of everything counted, on the host."""
        return segmentation_figures(Confusion(self.matrix))[self.figure]


def segmentation_metrics(counts: Confusion) -> dict[str, Confusion | Scored]:
    """Mergeable: the matrix itself as `confusion`, and each of `segmentation_figures`."""
    return {"confusion": counts} | {name: Scored(counts.matrix, name) for name in FIGURES}


FIGURES = ("pixel_accuracy", "class_accuracy", "mean_iou", "frequency_weighted_iou")


def segmentation_figures(counts: Confusion | np.ndarray) -> dict[str, float]:
    """The four figures by name, shares of 1."""
    functions = (pixel_accuracy, class_accuracy, mean_iou, frequency_weighted_iou)
    return {name: function(counts) for name, function in zip(FIGURES, functions, strict=True)}


def most_frequent_class(counts: Confusion | np.ndarray) -> Confusion:
    """The confusion of a method that calls every pixel by the class of which there are most."""
    pixels_K = _of(counts).compute().sum(1)
    return Confusion(np.outer(pixels_K, np.arange(len(pixels_K)) == pixels_K.argmax()))


def trivial_baselines(train: Any, test: Any) -> dict[str, Confusion]:
    """What a network must beat: `most_frequent_class` of the training pixels everywhere, and
    `mode_of_each_pixel`, the class that is most often at that place of the training images (where
    all are void, the most frequent one).

    train, test: `advdl.data.Source`. Gives each one's confusion on `test`, (K, K) int64 on the
    host. Raises ValueError where their classes or sizes differ.
    """
    if train.label_names != test.label_names or train.image_shape[:2] != test.image_shape[:2]:
        raise ValueError(
            f"{train.name} has other classes or sizes in {train.split} than {test.name} in"
            f" {test.split}"
        )
    classes = len(train.label_names)
    votes_KHW, seen_KHW = (_class_counts(source, classes) for source in (train, test))
    frequent = int(votes_KHW.sum((1, 2)).argmax())
    mode_HW = np.where(votes_KHW.any(0), votes_KHW.argmax(0), frequent)
    guesses = {
        "most_frequent_class": np.full_like(mode_HW, frequent),
        "mode_of_each_pixel": mode_HW,
    }
    return {name: Confusion(_confusion(seen_KHW, guess_HW)) for name, guess_HW in guesses.items()}


def _class_counts(source: Any, classes: int) -> np.ndarray:
    """(K, H, W) int32: in how many images each pixel is of each class."""
    counts_KHW = np.zeros((classes, *source.image_shape[:2]), np.int32)
    for rows in np.array_split(np.arange(len(source)), len(source) // 64 + 1):
        mask_BHW = source.read(rows)["mask"]
        for k in range(classes):
            counts_KHW[k] += (mask_BHW == k).sum(0, dtype=np.int32)
    return counts_KHW


def _confusion(seen_KHW: np.ndarray, guess_HW: np.ndarray) -> np.ndarray:
    """Of one guess for every image, from how often each pixel is of each class."""
    called = [seen_KHW[:, guess_HW == j].sum(1, dtype=np.int64) for j in range(len(seen_KHW))]
    return np.stack(called, axis=1)


def _of(counts: Confusion | np.ndarray) -> Confusion:
    return counts if isinstance(counts, Confusion) else Confusion(counts)


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")
