"""Generated images as parts of a report. Axes: N images, H height, W width, C channels, K
classes."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from advdl.metrics import Coverage
from advdl.present.chart import draw_bars, draw_histogram
from advdl.present.grid import draw_grid
from advdl.present.report import Section


def samples_section(
    samples_NHWC: np.ndarray,
    twins_NHWC: np.ndarray,
    distance_N: np.ndarray,
    floor_M: np.ndarray,
    count: int,
    folder: pathlib.Path,
    low: float = -1.0,
) -> Section:
    """Samples in rows of eight, beside each row the training image nearest to its last one (figure
    2 of Goodfellow et al. 2014), and how near samples come compared with real held-out images.
    Pixels lie in [low, 1].

    twins_NHWC, distance_N: of each sample the nearest of the `count` training images and how far it
    is; floor_M: how far that is of held-out images. A number of samples that eight divides.
    """
    sheet: dict[str, Any] = dict(columns=8, scale=8, right_RHWC=twins_NHWC[7::8])
    draw_grid(samples_NHWC, folder / "samples.png", low=low, high=1.0, **sheet)
    text = (
        "Fair draws, not picked. Beside each row the training image nearest to its last sample, "
        f"of all {count:,}: a copy would look the same."
    )
    figures = {
        "distance to the nearest training image, median": float(np.median(distance_N)),
        "the same of real held-out images": float(np.median(floor_M)),
        "training images": count,
    }
    return Section("Samples", text, ["samples.png"], figures)


def guess_section(
    samples_NHWC: np.ndarray,
    held_out: np.ndarray,
    accuracy: float,
    folder: pathlib.Path,
    low: float = -1.0,
    seed: int = 0,
) -> Section:
    """Real held-out and generated images mixed, for the eye to guess, and in another picture the
    answer. accuracy: a fresh network's."""
    random, half = np.random.default_rng(seed), 20
    real = held_out[random.choice(len(held_out), half, replace=len(held_out) < half)]
    images = np.concatenate([real, samples_NHWC[:half]])
    order = random.permutation(2 * half)
    images, generated = images[order], order >= half
    draw_grid(images, folder / "guess.png", low=low, high=1.0, columns=10, scale=6)
    shown = np.where(generated.reshape(-1, 1, 1, 1), images, low + 0.15 * (images - low))
    draw_grid(shown, folder / "answer.png", low=low, high=1.0, columns=10, scale=6)
    text = (
        "Half of these are photographs or scans, half were generated; in the second picture only"
        " the generated ones are bright."
    )
    title, figures = (
        "Which one is computer generated?",
        {"a fresh network is right, in shares": accuracy},
    )
    return Section(title, text, ["guess.png", "answer.png"], figures)


def coverage_section(found: Coverage, names: Sequence[str], folder: pathlib.Path) -> Section:
    """Which classes the samples cover and how sure the recognizer is of them, beside real images
    and trivial ones."""
    draw_bars(
        {"real, held out": found.test.recognized, "generated": found.samples.recognized},
        folder / "classes.png",
        names=names,
        title="share recognized as each class",
    )
    draw_histogram(
        {
            "real, held out": found.test.confidence,
            "generated": found.samples.confidence,
            "Gaussian fit of each pixel": found.gaussian.confidence,
            "uniform noise": found.noise.confidence,
        },
        folder / "confidence.png",
        title="how sure the recognizer is",
        xlabel="confidence",
    )
    text = (
        f"What is made of {len(found.samples.confidence):,} samples by one support vector machine"
        f" for each class, trained on {found.trained_on:,} real training images. Confidence is the"
        " largest of their probabilities; recognized is an image with more than 1/2."
    )
    pictures = ["classes.png", "confidence.png"]
    return Section("Classes", text, pictures, coverage_figures(found, names))


def modes_section(modes: Mapping[str, Mapping[str, float]], count: int, classes: int) -> Section:
    """How many of many classes have a sample, and how evenly, by set of images."""
    text = (
        f"Of {count:,} samples, and as many real held-out images, each channel's class is what a"
        f" network says that was trained for it. Counted are the classes, of {classes:,}, that"
        " occur; the divergence is that of their shares from equal ones, in nats."
    )
    figures = {
        f"{name.replace('_', ' ')}, {title}": value
        for title, found in modes.items()
        for name, value in found.items()
    }
    return Section("Modes", text, [], figures)


def coverage_figures(found: Coverage, names: Sequence[str]) -> dict[str, Any]:
    """The same as numbers."""
    sets = {
        "generated": found.samples,
        "real, held out": found.test,
        "Gaussian fit": found.gaussian,
        "noise": found.noise,
    }
    return {
        "assigned to the rarest class": float(found.samples.share.min()),
        "assigned to each class": dict(zip(names, map(float, found.samples.share), strict=True)),
        "recognized (confidence above 1/2)": {
            name: float(part.recognized.sum()) for name, part in sets.items()
        },
        "confidence at 5, 25, 50, 75, 95 %": {
            name: list(part.quantiles().values()) for name, part in sets.items()
        },
        "accuracy on real held-out images": found.accuracy,
        "real training images of the recognizer": found.trained_on,
        "real held-out images": len(found.test.confidence),
    }
