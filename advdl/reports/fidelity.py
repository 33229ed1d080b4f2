"""Generated images beside real ones: which classes they cover, how far they are, whether they are
copies.

Axes: N images, H height, W width, C channels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from advdl import data, metrics, weights
from advdl.errors import UserError
from advdl.reports.recognizer import recognizer
from advdl.reports.trained import Trained

VALIDATION = 1000
"""Number of images, at most, by which the bandwidth of the Parzen windows is chosen."""
NEIGHBORS = 5
"""Which neighbor of an image its ball reaches to, in precision, recall, density and coverage."""


@dataclass(frozen=True)
class RealImages:
    """The real images that generated ones are compared with, of which pixels lie in [low, 1].

    No figure depends on the order of the real images, which may be sorted by class: Fréchet
    distances are of all of them and neighbors are sought among all of them, read by blocks;
    whatever else shows or compares real images takes some that a seed draws, at most `limit`.
    """

    low: float
    training: data.Source
    held_out: data.Source
    validation: data.Source | None = None
    limit: int = 10_000

    @classmethod
    def of(cls, trained: Trained) -> Self:
        """Those that a run is trained on, tested on, and chosen by where it is."""
        parts = trained.splits.evaluations
        validation = parts["val"].source if "val" in parts else None
        held_out = parts["test"].source
        return cls(trained.spec.low, trained.splits.train.source, held_out, validation)

    def to_range(self, pixels: np.ndarray) -> np.ndarray:
        """Images uint8 in [low, 1], float32."""
        return data.to_float(self.low, 1.0)({"image": pixels})["image"]

    def draw(
        self, source: data.Source, count: int = 0, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Up to `count` images of a source (0: `limit`), drawn by the seed, and their labels."""
        found = source.read(data.selected(source, count or self.limit, seed))
        return self.to_range(found["image"]), found["label"]

    def nearest(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The nearest to each image among all training images, and how far it is, (N,)."""
        row, distance = metrics.nearest_streamed(images, map(self.to_range, _blocks(self.training)))
        return self.to_range(self.training.read(row)["image"]), distance

    def coverage(self, samples: np.ndarray) -> metrics.Coverage | None:
        """What a classifier of the real images makes of the samples; None where the data has too
        few classes or images to train one."""
        real, held_out = self.draw(self.training), self.draw(self.held_out)
        classes = len(self.training.label_names)
        try:
            return metrics.class_coverage(samples, *real, *held_out, classes=classes)
        except ValueError:
            return None

    def modes(self, sets: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
        """How sets of stacked images, by name, cover the classes, beside images held out, as many
        as the first set has: the number of classes of which there are any, and the reverse
        Kullback-Leibler divergence of their shares from equal ones. Nothing where the training
        images are not stacked.

        The class of a channel is what a network says that is trained for it on the gray images that
        training images are stacked of; `right` is its share of right answers on those held out.
        """
        stacked, held_out = self.training.stacked, self.held_out.stacked
        if stacked is None or held_out is None:
            return {}
        count, found = len(stacked.label_names), {}
        classify = recognizer(*self.draw(stacked), count)
        real = self.draw(self.held_out, len(next(iter(sets.values()))))[0]
        for name, images in {**sets, "real, held out": real}.items():
            gray_NCHW1 = np.moveaxis(images, -1, 1)[..., None]
            digit_NC = classify(gray_NCHW1.reshape(-1, *gray_NCHW1.shape[2:])).reshape(
                len(images), -1
            )
            channels = digit_NC.shape[1]
            label = np.ravel_multi_index(tuple(digit_NC.T), (count,) * channels)
            shares = metrics.mode_figures(np.bincount(label, minlength=count**channels), len(label))
            found[name] = {figure: shares[figure] for figure in ("modes", "reverse_kl")}
        gray, label = self.draw(held_out)
        found["real, held out"]["right"] = float((classify(gray) == label).mean())
        return found

    def fidelity(self, samples: np.ndarray, features: str) -> dict[str, Any]:
        """Samples, held-out images, a Gaussian of all pixels and noise, compared with the training
        images in a space of features, see `weights.open_features`; Parzen-window log-likelihoods of
        held-out images; and how near to a training image the samples come. Raises UserError where
        there are too few images."""
        count, fitted = len(samples), self.draw(self.training)[0]
        sizes = {"generated": count, "training": len(self.training), "held-out": len(self.held_out)}
        for what, number in sizes.items():
            if number <= NEIGHBORS:
                raise UserError(
                    f"--features looks at {NEIGHBORS} neighbors of each image; {number} {what}"
                    " images are too few"
                )
        space = weights.open_features(
            features, self.training.image_shape, len(self.training.label_names)
        )

        def described(parts, count: int, probability: bool = True) -> metrics.FeatureSet:
            rows = data.selected(count, self.limit)
            return metrics.FeatureSet.streamed(map(space.of, parts), rows, probability)

        noise = np.random.default_rng(0).uniform(self.low, 1, samples.shape).astype(np.float32)
        made = {
            "generated": samples,
            "Gaussian fit": metrics.gaussian_fit(fitted, count, self.low, 1.0),
            "noise": noise,
        }
        sets = {
            title: described([data.to_uint8(images, self.low, 1.0)], count)
            for title, images in made.items()
        }
        sets["real, held out"] = described(_blocks(self.held_out), len(self.held_out))
        training = described(_blocks(self.training), len(self.training), probability=False)
        found = metrics.fidelity_figures(training, sets, space.name, NEIGHBORS)
        for title in ("generated", "Gaussian fit"):
            found[title] |= self.likelihood(made[title])
        found["Gaussian fit"]["training images of the fit"] = len(fitted)
        return {
            "features": features,
            "sha256 of its weights": space.sha256,
            "figures": found,
            "least distance to a training image": self.copies(samples),
        }

    def likelihood(self, samples: np.ndarray) -> dict[str, float]:
        """The Parzen-window log-likelihood of held-out images. Goodfellow et al. 2014 draw 10,000
        samples, choose the bandwidth by 1,000 validation images and take the 10,000 test images.
        Where there is no validation part, training images choose it."""

        def scaled(images):
            return ((images - self.low) / (1 - self.low)).reshape(len(images), -1)

        kind, source = "validation", self.validation
        if source is None:
            kind, source = "training", self.training
        choosing = scaled(self.draw(source, VALIDATION, 1)[0])
        test = scaled(self.draw(self.held_out)[0])
        figures = metrics.parzen(scaled(samples), choosing, test)._asdict()
        figures |= {
            "samples": len(samples),
            f"{kind} images for the bandwidth": len(choosing),
            "test images": len(test),
        }
        return {f"Parzen {name}": value for name, value in figures.items()}

    def copies(self, samples: np.ndarray) -> dict[str, float]:
        """The least distance of a sample to any training image, and that of as many held-out
        images."""
        held_out = self.draw(self.held_out, len(samples))[0]
        _, distance = self.nearest(np.concatenate([samples, held_out]))
        return {
            "samples": float(distance[: len(samples)].min()),
            "real, held out": float(distance[len(samples) :].min()),
            "held-out images": len(held_out),
            "training images": len(self.training),
        }


def _blocks(source: data.Source) -> Iterator[np.ndarray]:
    """All images of a source, uint8, some at a time."""
    return (part["image"] for part in data.read_blocks(source))
