"""Generated images beside real ones: nothing depends on the order of the real ones."""

import numpy as np
import pytest

from advdl import data, reports, weights
from advdl.errors import UserError


def drawn(count, seed):
    """As many images of either of two classes that lie apart: uint8 (2·count, 4, 4, 1), sorted by
    class, and labels."""
    random = np.random.default_rng(seed)
    pixels = np.concatenate([random.normal(level, 25, (count, 4, 4, 1)) for level in (70, 185)])
    return np.rint(pixels).clip(0, 255).astype(np.uint8), np.repeat([0, 1], count)


def source_of(pixels, labels, split="train"):
    return data.ArraySource(
        "two classes", split, {"image": pixels, "label": labels}, ("dark", "bright")
    )


@pytest.fixture
def by_pixels(monkeypatch):
    """Features are the pixels, probabilities those of being dark and bright."""

    def of(images):
        flat = np.asarray(images, np.float32).reshape(len(images), -1) / 127.5 - 1
        bright = (flat.mean(1) > 0).astype(np.float32)
        return flat, np.stack([1 - bright, bright], 1)

    space = weights.Features("FD (pixels)", of, "0" * 64)
    monkeypatch.setattr(weights, "open_features", lambda *_: space)


@pytest.fixture
def real():
    """`real(pixels, labels)`: training images of these rows, and held-out ones."""
    held_out = source_of(*drawn(250, 1), "test")
    return lambda *rows, **options: reports.RealImages(-1.0, source_of(*rows), held_out, **options)


def in_range(pixels):
    return data.to_float(-1.0, 1.0)({"image": pixels})["image"]


@pytest.mark.experiments
def test_a_perfect_generator_measures_as_held_out_images_where_training_images_are_sorted_by_class(
    real, by_pixels
):
    """More than 10,000 of them, so that the first 10,000 are of other classes than all."""
    samples = in_range(drawn(250, 2)[0])
    figures = real(*drawn(6000, 0)).fidelity(samples, "")["figures"]
    made, floor = figures["generated"], figures["real, held out"]
    assert (made["images"], made["real images"], floor["images"]) == (500, 12_000, 500)
    assert made["FD (pixels)"] < 2 * floor["FD (pixels)"]
    for name in ("precision", "recall", "density", "coverage"):
        assert made[name] == pytest.approx(floor[name], abs=0.15)
    # What is expected of two draws of one distribution.
    assert made["density"] == pytest.approx(1, abs=0.15)


@pytest.mark.slow
def test_measures_do_not_depend_on_the_order_of_real_images(real, by_pixels):
    samples, (pixels, labels) = in_range(drawn(50, 2)[0]), drawn(700, 0)
    order = np.random.default_rng(3).permutation(len(pixels))
    found = [
        real(pixels[rows], labels[rows], limit=300).fidelity(samples, "")
        for rows in (np.arange(1400), order)
    ]
    nearest = [each["least distance to a training image"] for each in found]
    assert nearest[0] == nearest[1]
    made = [each["figures"]["generated"] for each in found]
    assert made[0]["FD (pixels)"] == pytest.approx(made[1]["FD (pixels)"], rel=1e-9)
    for name, margin in (
        ("precision", 0.1),
        ("density", 0.2),
        ("kernel distance", 0.02),
        ("Parzen log_likelihood", 1.0),
    ):
        assert made[0][name] == pytest.approx(made[1][name], abs=margin), name


@pytest.mark.slow
def test_a_copy_of_the_last_of_many_training_images_is_found(real, by_pixels):
    pixels, labels = drawn(6000, 0)
    samples = in_range(np.concatenate([drawn(50, 2)[0], pixels[-1:]]))
    images = real(pixels, labels)
    found = images.fidelity(samples, "")["least distance to a training image"]
    assert found["samples"] == 0 < found["real, held out"]
    twins, distance = images.nearest(samples)
    np.testing.assert_array_equal(twins[-1], samples[-1])
    assert distance[-1] == 0 < distance[:-1].min()


@pytest.mark.slow
def test_samples_are_measured_as_the_bytes_that_a_file_would_hold(real, by_pixels):
    pixels = drawn(60, 2)[0]
    less = np.random.default_rng(0).uniform(-0.4, 0.4, pixels.shape).astype(np.float32) / 127.5
    images = real(*drawn(100, 0))
    exact, between = (
        images.fidelity(x, "")["figures"]["generated"]["FD (pixels)"]
        for x in (in_range(pixels), in_range(pixels) + less)
    )
    assert exact == between


def test_the_recognizer_sees_every_class_of_training_images_sorted_by_class(real):
    found = real(*drawn(700, 0), limit=300).coverage(in_range(drawn(50, 2)[0]))
    assert found.accuracy > 0.95 and found.samples.share.min() > 0.4 and found.trained_on == 300


def test_images_of_one_class_have_no_recognizer(real):
    pixels, labels = drawn(20, 0)
    assert real(pixels[:20], labels[:20]).coverage(in_range(pixels)) is None


@pytest.mark.experiments
def test_the_classes_of_stacked_images_are_counted_beside_real_ones(optimized):
    train, test = (
        data.StackedDigits("stacked", data.digits(split), 6000, seed)
        for seed, split in enumerate(("train", "test"))
    )
    images = reports.RealImages(-1.0, train, test)
    real = images.draw(train, 6000)[0]
    one_digit = real.copy()
    one_digit[..., 0] = real[0, ..., 0]  # a generator that makes one digit in red
    found = images.modes({"all": real, "one digit in red": one_digit})
    # Of 6,000 draws of 1,000 equally likely classes 2.5 are missing on the mean, and the divergence
    # is about 999 / 12,000.
    assert found["real, held out"]["right"] > 0.95
    for name in ("all", "real, held out"):
        assert found[name]["modes"] > 985 and found[name]["reverse_kl"] < 0.15
    fewer = found["one digit in red"]
    assert 85 < fewer["modes"] <= 101 and fewer["reverse_kl"] > 2.2  # log 10 = 2.3
    gray = reports.RealImages(-1.0, data.digits("train"), data.digits("test"))
    assert gray.modes({"all": real}) == {}


def test_a_validation_part_chooses_the_bandwidth_where_there_is_one(real):
    samples, part = in_range(drawn(30, 2)[0]), source_of(*drawn(20, 3), "val")
    whole = real(*drawn(50, 0)).likelihood(samples)
    assert whole["Parzen training images for the bandwidth"] == 100
    found = real(*drawn(50, 0), validation=part).likelihood(samples)
    assert found["Parzen validation images for the bandwidth"] == 40


def test_too_few_images_for_neighborhoods_are_told_in_one_line(real):
    with pytest.raises(UserError, match="5 neighbors of each image; 4 generated images are too"):
        real(*drawn(20, 0)).fidelity(in_range(drawn(2, 2)[0]), "")
