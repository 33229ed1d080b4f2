"""How far generated images are from real ones, in a space of features: distances, coverage, and
likelihood.

They run on the host, in NumPy with float64, and know no network: features come as arrays, of
whatever made them. A figure says little without that network's name, the number of images, the same
figure of real held-out images (the floor) and of a trivial generator; callers print them together,
and call nothing FID that is not of the 2015 Inception network.

No figure may depend on the order of a set's images, which may be sorted by class: Fréchet distances
are of all images, and what compares images in pairs takes random ones.

Axes: N images, D dimensions of a feature, K classes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Moments(NamedTuple):
    """Mean (D,) and scatter Σ (x - mean)(x - mean)ᵀ (D, D), float64, of `count` features; what a
    Fréchet distance needs of a set of any size. `Moments.of(a).joined(Moments.of(b))` are those of
    both sets."""

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, features_ND: np.ndarray) -> "Moments":
        """Of features at once. Raises ValueError where there are none or some is not finite."""
        x = _features(features_ND)
        mean = x.mean(0)
        away = x - mean
        return cls(len(x), mean, away.T @ away)

    @classmethod
    def streamed(cls, parts: Iterable[np.ndarray]) -> "Moments":
        """Of features that come part by part, (n, D) each; only one part is held at a time."""
        total = None
        for part in parts:
            own = cls.of(part)
            total = own if total is None else total.joined(own)
        if total is None:
            raise ValueError("no features")
        return total

    def joined(self, other: "Moments") -> "Moments":
        """Of both sets (Chan, Golub and LeVeque 1983)."""
        count = self.count + other.count
        apart = other.mean - self.mean
        scatter = (
            self.scatter
            + other.scatter
            + np.outer(apart, apart) * (self.count * other.count / count)
        )
        return Moments(count, self.mean + apart * (other.count / count), scatter)

    @property
    def covariance(self) -> np.ndarray:
        """(D, D), divided by count - 1."""
        return self.scatter / max(self.count - 1, 1)


class FeatureSet(NamedTuple):
    """What the figures need of a set of images, in bounded memory however many there are.

    moments: of the features of all images. features: those of some of them, (n, D), for what
      compares images in pairs.
    probability: class probabilities of all of them, (N, K), where they were kept.
    """

    moments: Moments
    features: np.ndarray
    probability: np.ndarray | None = None

    @classmethod
    def streamed(
        cls,
        parts: Iterable[tuple[np.ndarray, np.ndarray]],
        rows: np.ndarray,
        probability: bool = True,
    ) -> "FeatureSet":
        """Of features (b, D) and class probabilities (b, K) that come part by part, of which one is
        held at a time.

        rows: the images whose features are kept, ascending, such as `advdl.data.selected` draws.
        probability: whether the probabilities are kept too. Raises ValueError where there is no
        image, or a row that is not there.
        """
        total, seen, kept, probabilities = None, 0, [], []
        for features, p in parts:
            own = Moments.of(features)
            total = own if total is None else total.joined(own)
            first, last = np.searchsorted(rows, (seen, seen + len(features)))
            kept.append(features[rows[first:last] - seen])
            probabilities += [p] if probability else []
            seen += len(features)
        if total is None or (len(rows) and rows[-1] >= seen):
            raise ValueError(
                f"{seen} images, of which rows up to {max(rows, default=0)} were to be kept"
            )
        return cls(
            total, np.concatenate(kept), np.concatenate(probabilities) if probability else None
        )


def frechet_distance(a: Moments, b: Moments) -> float:
    """|m_a - m_b|² + tr(S_a + S_b - 2 (S_a S_b)^1/2) of Gaussians with these moments (Heusel et al.
    2017, arXiv:1706.08500, equation 6), at least 0.

    The trace of the root is the sum of the square roots of the eigenvalues of S_a^1/2 S_b S_a^1/2,
    which is symmetric: nothing becomes complex, and no root of an unsymmetric matrix is taken.
    Biased upwards for few features (by more the fewer).
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {len(a.mean)} and of {len(b.mean)} dimensions")
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    inner = root @ b.covariance @ root
    trace = np.sqrt(np.maximum(np.linalg.eigvalsh((inner + inner.T) / 2), 0)).sum()
    apart = a.mean - b.mean
    return max(
        0.0, float(apart @ apart + np.trace(a.covariance) + np.trace(b.covariance) - 2 * trace)
    )


class Spread(NamedTuple):
    """A figure's mean over subsets, and its standard deviation over them."""

    mean: float
    deviation: float


def kernel_distance(
    real_ND: np.ndarray, fake_ND: np.ndarray, subsets: int = 100, size: int = 1000, seed: int = 0
) -> Spread:
    """Unbiased squared maximum mean discrepancy for the kernel (x·y / D + 1)³, over random subsets
    of `size` of each set (Binkowski et al. 2018, arXiv:1801.01401); near 0, and as often below as
    above, for two sets of one distribution.

    A set smaller than `size` is the subset. Raises ValueError for sets of fewer than two or of
    different dimensions.
    """
    real, fake = _pair(real_ND, fake_ND)
    random = np.random.default_rng(seed)
    size, found = min(size, len(real), len(fake)), []
    for _ in range(subsets):
        both = np.concatenate([x[random.choice(len(x), size, replace=False)] for x in (real, fake)])
        root = both @ both.T / both.shape[1] + 1
        # The product is several times as fast as root**3, which takes logarithms.
        kernel = (root * root * root).reshape(2, size, 2, size)
        inside = sum(kernel[n, :, n].sum() - np.trace(kernel[n, :, n]) for n in range(2)) / (
            size * (size - 1)
        )
        found.append(inside - 2 * kernel[0, :, 1].mean())
    return Spread(float(np.mean(found)), float(np.std(found)))


class Manifold(NamedTuple):
    """precision: share of samples in some ball of real features (Kynkäänniemi et al. 2019,
    arXiv:1904.06991); recall: of real features in some ball of samples; density: mean number of
    real balls that a sample is in, over k (Naeem et al. 2020, arXiv:2002.09797; may exceed 1);
    coverage: share of real balls with a sample in them. A ball reaches to the k-th neighbor in its
    own set."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(real_ND: np.ndarray, fake_ND: np.ndarray, k: int = 5, rows: int = 1024) -> Manifold:
    """The four figures. rows: distances are held for so many features at a time. Take as many
    samples as real images: all four depend on the number. Raises ValueError where a set has no more
    than k features."""
    real, fake = _pair(real_ND, fake_ND)
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"{len(real)} and {len(fake)} features; more than {k} of each are needed")
    ball_real, ball_fake = (_neighbor(features, k, rows) for features in (real, fake))
    inside = np.zeros(len(fake))
    covered, recalled = np.zeros((2, len(real)), bool)
    for first in range(0, len(real), rows):
        part = slice(first, first + rows)
        square = _squares(real[part], fake)
        within = square < ball_real[part, None]
        inside += within.sum(0)
        covered[part] = within.any(1)
        recalled[part] = (square < ball_fake[None]).any(1)
    return Manifold(
        float((inside > 0).mean()),
        float(recalled.mean()),
        float(inside.mean() / k),
        float(covered.mean()),
    )


def classifier_score(probability_NK: np.ndarray, splits: int = 10, seed: int = 0) -> Spread:
    """exp of the mean KL(p(y|x) ‖ p(y)) over x, over random splits of the samples (Salimans et al.
    2016, arXiv:1606.03498, section 4), between 1 and K. With the 2015 Inception's 1,008 classes,
    whose bias the release leaves out of the logits, it is the Inception score; with another
    classifier it is not.

    The release splits the samples in their order, which is random too where they are drawn
    independently; real images sorted by class would get a score near 1.
    """
    p = np.random.default_rng(seed).permutation(np.asarray(probability_NK, np.float64))
    found = []
    for part in np.array_split(p, min(splits, len(p))):
        marginal = part.mean(0, keepdims=True)
        ratio = np.log(np.maximum(part, 1e-300)) - np.log(np.maximum(marginal, 1e-300))
        found.append(math.exp(float((part * ratio).sum(1).mean())))
    return Spread(float(np.mean(found)), float(np.std(found)))


class Parzen(NamedTuple):
    """Mean log-likelihood of test examples in nats, its standard error over them, and the bandwidth
    chosen."""

    log_likelihood: float
    standard_error: float
    bandwidth: float


def parzen(
    samples_ND: np.ndarray,
    validation_ND: np.ndarray,
    test_ND: np.ndarray,
    bandwidths: Sequence[float] | None = None,
) -> Parzen:
    """Log-likelihood of test examples under Gaussians around samples, as Goodfellow et al. 2014
    computed it (section 5, and the code released with it): the bandwidth of ten from 0.1 to 1,
    evenly spaced in logarithm, that suits the validation examples best; the mean over test
    examples, ± standard deviation / √N.

    All (N, D) with values in [0, 1]. The paper draws 10,000 samples and takes 1,000 validation
    examples; it warns of the method's high variance, and of its behavior in many dimensions.
    """
    samples, validation, test = (_features(x) for x in (samples_ND, validation_ND, test_ND))
    if not samples.shape[1] == validation.shape[1] == test.shape[1]:
        raise ValueError(
            f"{samples.shape[1]}, {validation.shape[1]} and {test.shape[1]} dimensions"
        )
    grid = np.logspace(-1, 0, 10) if bandwidths is None else np.asarray(bandwidths, np.float64)
    square = np.concatenate(
        [
            _squares(validation[first : first + 256], samples)
            for first in range(0, len(validation), 256)
        ]
    )
    means = [_log_likelihood(square, samples.shape[1], float(sigma)).mean() for sigma in grid]
    best = float(grid[int(np.argmax(means))])
    parts = [_squares(test[first : first + 256], samples) for first in range(0, len(test), 256)]
    found = np.concatenate([_log_likelihood(part, samples.shape[1], best) for part in parts])
    return Parzen(float(found.mean()), float(found.std() / math.sqrt(len(found))), best)


def _log_likelihood(square_NM: np.ndarray, dimensions: int, sigma: float) -> np.ndarray:
    exponent = -square_NM / (2 * sigma**2)
    top = exponent.max(1, keepdims=True)
    mean = np.log(np.exp(exponent - top).mean(1)) + top[:, 0]
    return mean - dimensions * math.log(sigma * math.sqrt(2 * math.pi))


def _neighbor(features: np.ndarray, k: int, rows: int) -> np.ndarray:
    """Square distance of each to its k-th neighbor among the others, (N,)."""
    parts = []
    for first in range(0, len(features), rows):
        square = _squares(features[first : first + rows], features)
        parts.append(np.partition(square, k, axis=1)[:, k])  # the nearest is itself
    return np.concatenate(parts)


def _squares(a_ND: np.ndarray, b_MD: np.ndarray) -> np.ndarray:
    """Square Euclidean distances, (N, M), at least 0."""
    return np.maximum((a_ND**2).sum(1)[:, None] - 2 * a_ND @ b_MD.T + (b_MD**2).sum(1)[None], 0)


def _features(features: np.ndarray) -> np.ndarray:
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or not len(x):
        raise ValueError(f"features of shape {x.shape}; expected (N, D) with N of at least 1")
    if not np.isfinite(x).all():
        raise ValueError("a feature is not finite")
    return x


def _pair(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = _features(real), _features(fake)
    if a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"features of shapes {a.shape} and {b.shape}; expected two sets (N, D) of one D and at"
            " least two each"
        )
    return a, b


def fidelity_figures(
    real: FeatureSet, sets: Mapping[str, FeatureSet], name: str, k: int = 5, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Every figure of every set, by the set's name, beside the number of its images and of the real
    ones.

    real: the training images. sets: with probabilities. name: of the Fréchet distance in this
    space; that is of all images. The kernel distance is between subsets of the features that were
    kept; the four figures of `manifold` are of as many of these, drawn by the seed, in the one set
    as in the other. Raises ValueError for a set without probabilities.
    """
    found = {}
    for title, own in sets.items():
        random, count = np.random.default_rng(seed), min(len(real.features), len(own.features))
        if own.probability is None:
            raise ValueError(f"the set {title!r} has no probabilities")
        some_real, some_own = (
            x.features[random.choice(len(x.features), count, replace=False)] for x in (real, own)
        )
        distance = kernel_distance(real.features, own.features, seed=seed)
        score = classifier_score(own.probability)
        classes = np.bincount(own.probability.argmax(1), minlength=own.probability.shape[1])
        found[title] = {
            "images": own.moments.count,
            "real images": real.moments.count,
            name: frechet_distance(real.moments, own.moments),
            "kernel distance": distance.mean,
            "its deviation over subsets": distance.deviation,
            "images of each set, precision to coverage": count,
            **manifold(some_real, some_own, k)._asdict(),
            "classifier score": score.mean,
            "classes": int((classes > 0).sum()),
            "rarest class": float(classes.min() / classes.sum()),
        }
    return found


def gaussian_fit(
    images_NHWC: np.ndarray, count: int, low: float, high: float, seed: int = 0
) -> np.ndarray:
    """Draws of one Gaussian with the mean and the covariance of all pixels, cut off at [low, high]:
    what a trivial generator reaches. (count, H, W, C) float32."""
    x = np.asarray(images_NHWC, np.float64).reshape(len(images_NHWC), -1)
    moments = Moments.of(x)
    values, vectors = np.linalg.eigh(moments.covariance)
    normal = np.random.default_rng(seed).standard_normal((count, x.shape[1]))
    drawn = moments.mean + (normal * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return np.clip(drawn, low, high).reshape(count, *np.shape(images_NHWC)[1:]).astype(np.float32)
