"""Scores of generated images that need no downloaded network: what a classifier of real images
makes of them.

They run on the host, in NumPy and scikit-learn. Every score comes with its floor (real test images)
and with what trivial generators reach. Axes: N images, H height, W width, C channels, K classes.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from advdl.metrics.fidelity import Moments, frechet_distance


class Recognition(NamedTuple):
    """What the classifier makes of one set of images.

    share: (K,) share of the images assigned to each class, the likeliest one; sums to 1. Every
      image is assigned, noise too, so alone it says nothing.
    recognized: (K,) share of the images assigned to each class with a confidence above 1/2; what is
      missing to 1 looks like no class.
    confidence: (N,) each image's confidence.
    """

    share: np.ndarray
    recognized: np.ndarray
    confidence: np.ndarray

    def classes(self, threshold: float) -> int:
        """Number of classes of which at least a share of `threshold` of all images is
        recognized."""
        return int((self.recognized >= threshold).sum())

    def quantiles(self, at: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> dict[float, float]:
        """Quantiles of the confidence."""
        return {float(q): float(np.quantile(self.confidence, q)) for q in at}


class Coverage(NamedTuple):
    """The result of `class_coverage`: the samples; beside them real test images, as many images of
    uniform noise and of a Gaussian fitted to each pixel alone; the classifier's accuracy on the
    test images, and how many it was trained on."""

    samples: Recognition
    test: Recognition
    noise: Recognition
    gaussian: Recognition
    accuracy: float
    trained_on: int


def class_coverage(
    samples_NHWC: np.ndarray,
    train_images: np.ndarray,
    train_labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    classes: int | None = None,
    limit: int = 4000,
    seed: int = 0,
) -> Coverage:
    """Which classes a generator covers, as seen by a classifier of the real training images.

    The classifier is one support vector machine (RBF kernel) for each class against the rest, on
    raw pixels. Its decision value becomes a probability by Platt's sigmoid, fitted on three-fold
    cross-validated decision values (`CalibratedClassifierCV(SVC(), ensemble=False)`). Confidence is
    the largest of the K probabilities, **not** normalized over classes: an image unlike any class
    is then refused by all. Normalized, or with pairwise machines voting, uniform noise gets the
    confidence of real images.

    samples_NHWC, train_images, test_images: (…, H, W, C) in the same range; labels are integers in
      0..classes-1 (classes: by default as many as occur). limit: training images used, drawn
      without replacement; time grows with its square. seed: of that draw and of the two baselines;
      the result is a function of the arguments.

    Raises ValueError where the shapes do not fit, there is one class only, or one has fewer than
    three of the training images used.
    """
    # Here, since it is a second to import, and training needs none of it.
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    samples, train, test = _rows(samples_NHWC), _rows(train_images), _rows(test_images)
    if not samples.shape[1] == train.shape[1] == test.shape[1]:
        shapes = [np.shape(images)[1:] for images in (samples_NHWC, train_images, test_images)]
        raise ValueError(
            "samples {}, training {} and test images {} differ in shape".format(*shapes)
        )
    train_labels, test_labels = np.asarray(train_labels), np.asarray(test_labels)
    classes = classes or int(max(train_labels.max(), test_labels.max())) + 1
    random = np.random.default_rng(seed)
    mean, std, low, high = train.mean(0), train.std(0), train.min(), train.max()
    noise = random.uniform(low, high, samples.shape)
    gaussian = np.clip(mean + std * random.standard_normal(samples.shape), low, high)
    if len(train) > limit:
        chosen = np.sort(random.choice(len(train), limit, replace=False))
        train, train_labels = train[chosen], train_labels[chosen]
    if (few := np.bincount(train_labels, minlength=classes).min()) < 3 or classes < 2:
        raise ValueError(
            f"{classes} classes, the rarest with {few} training images; two classes of three are"
            " needed"
        )

    squares = (train**2).sum(1)
    width = train.shape[1] * train.var() or 1.0  # scikit-learn's gamma="scale"

    def kernel(images: np.ndarray) -> np.ndarray:
        """exp(-|a - b|² / width), one matrix product for all machines, where libsvm would take each
        pair for each."""
        distance = (images**2).sum(1)[:, None] - 2 * images @ train.T + squares
        return np.exp(-np.maximum(distance, 0) / width)

    to_train = kernel(train)
    machines = [
        CalibratedClassifierCV(
            SVC(kernel="precomputed"),
            method="sigmoid",
            cv=3,
            ensemble=False,  # pyright: ignore[reportArgumentType]: its default is text
        ).fit(to_train, train_labels == k)
        for k in range(classes)
    ]

    def probability(images: np.ndarray) -> np.ndarray:
        to_images = kernel(images)
        return np.stack([machine.predict_proba(to_images)[:, 1] for machine in machines], axis=1)

    def recognize(images: np.ndarray) -> tuple[Recognition, np.ndarray]:
        parts = [probability(images[first : first + 1000]) for first in range(0, len(images), 1000)]
        probability_NK = np.concatenate(parts)
        assigned, confidence = probability_NK.argmax(1), probability_NK.max(1)
        count = np.bincount(assigned, minlength=classes)
        sure = np.bincount(assigned[confidence > 0.5], minlength=classes)
        return Recognition(count / len(images), sure / len(images), confidence), assigned

    seen, assigned = recognize(test)
    return Coverage(
        samples=recognize(samples)[0],
        test=seen,
        noise=recognize(noise)[0],
        gaussian=recognize(gaussian)[0],
        accuracy=float((assigned == test_labels).mean()),
        trained_on=len(train),
    )


@flax.struct.dataclass
class PixelDistance:
    """Fréchet distance of images averaged down to 8×8, which needs no network: for choosing a
    checkpoint within a run, not for comparing generators. Sums that merge: counts (2,), of vectors
    (2, D) and of their outer products (2, D, D), float32; first data, then samples."""

    count: jax.Array
    total: jax.Array
    outer: jax.Array

    @classmethod
    def of(
        cls, real_BHWC: jax.Array, fake_BHWC: jax.Array, mask: jax.Array | None = None
    ) -> "PixelDistance":
        """mask (B,): 0 leaves an image of each out."""
        both = jnp.stack([real_BHWC, fake_BHWC]).astype(jnp.float32)
        small = jax.image.resize(both, (*both.shape[:2], 8, 8, both.shape[-1]), "linear")
        x = small.reshape(*small.shape[:2], -1)
        keep = jnp.ones(len(real_BHWC)) if mask is None else (mask != 0).astype(jnp.float32)
        kept = x * keep[None, :, None]
        return cls(
            jnp.full(2, keep.sum()),
            kept.sum(1),
            jnp.einsum("sbi,sbj->sij", kept, x, precision="highest"),
        )

    def compute(self) -> float:
        """The distance, on the host."""
        moments = []
        for count, total, outer in zip(
            *(np.asarray(x, np.float64) for x in (self.count, self.total, self.outer)), strict=True
        ):
            mean = total / count
            moments.append(Moments(int(count), mean, outer - count * np.outer(mean, mean)))
        return frechet_distance(*moments)


def nearest(
    samples_NHWC: np.ndarray, train_images: np.ndarray, rows: int = 4096
) -> tuple[np.ndarray, np.ndarray]:
    """`nearest_streamed` of images in memory, of which `rows` at a time are held in float64."""
    return nearest_streamed(
        samples_NHWC,
        (train_images[first : first + rows] for first in range(0, len(train_images), rows)),
    )


def nearest_streamed(
    samples_NHWC: np.ndarray, parts: Iterable[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest training image of each sample, by Euclidean distance of pixels, as in figure 2 of
    Goodfellow et al.
    2014: (index (N,) int64, distance (N,) float64 in the images' unit).

    parts: all training images, (b, H, W, C) after (b, H, W, C), of which one part is held at a
    time; the index counts through all of them. Of equally near ones the first. A distance near 0 is
    a copy; the distance of real images that were not trained on says what to expect of images that
    are none. Raises ValueError where the shapes do not fit or there are no training images.
    """
    samples, first = _rows(samples_NHWC), 0
    best, index = np.full(len(samples), np.inf), np.zeros(len(samples), np.int64)
    for images in parts:
        if np.shape(samples_NHWC)[1:] != np.shape(images)[1:]:
            raise ValueError(
                f"samples {np.shape(samples_NHWC)} do not fit training images {np.shape(images)}"
            )
        part = _rows(images)
        # |a - b|² = |a|² - 2 a·b + |b|², and |a|² is the same for all b: a matrix product instead
        # of all differences.
        near = ((part**2).sum(1)[None] - 2 * samples @ part.T).argmin(1)
        # The distance itself, without that cancellation.
        distance = np.sqrt(((samples - part[near]) ** 2).sum(1))
        index = np.where(distance < best, near + first, index)
        best, first = np.minimum(distance, best), first + len(part)
    if not first:
        raise ValueError(
            f"samples {np.shape(samples_NHWC)} do not fit training images of which there are none"
        )
    return index, best


def _rows(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    return images.reshape(len(images), -1).astype(np.float64)
