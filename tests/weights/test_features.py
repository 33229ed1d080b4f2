"""Spaces of features: a network's, by a file; what the Inception network is fed."""

import hashlib

import flax.linen as nn
import jax
import numpy as np
import pytest

from advdl import data, models, weights
from advdl.errors import UserError
from advdl.models import inception_v3

PIXELS = np.random.default_rng(0).integers(0, 256, (130, 8, 8, 1), dtype=np.uint8)
X = data.to_float(-1.0, 1.0)({"image": PIXELS})["image"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    network = models.classifier("resnet8").build(num_classes=10)
    variables = network.init(jax.random.key(0), X[:1], train=False)
    path = tmp_path_factory.mktemp("features") / "resnet8.safetensors"
    weights.export(path, network, variables)
    return path, network, variables


@pytest.mark.slow
def test_features_are_the_networks_last_pooled_ones_in_whatever_portions(exported):
    path, network, variables = exported
    features = weights.open_features(f"resnet8:{path}", (8, 8, 1), 10)
    found, probability = features.of(PIXELS)
    logits, seen = jax.jit(lambda x: network.apply(variables, x, train=False))(X)
    np.testing.assert_allclose(found, seen["pooled"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(probability, jax.nn.softmax(logits), atol=1e-5)


def test_a_space_is_called_by_its_network_and_its_weights(exported):
    digest = hashlib.sha256(exported[0].read_bytes()).hexdigest()
    features = weights.open_features(f"resnet8:{exported[0]}", (8, 8, 1), 10)
    assert features.sha256 == digest and features.name == f"FD (resnet8 {digest[:8]})"


def test_images_that_are_no_bytes_are_refused(exported):
    with pytest.raises(ValueError, match="expected uint8"):
        weights.open_features(f"resnet8:{exported[0]}", (8, 8, 1), 10).of(X)


class Mean(nn.Module):
    """Stands in for the Inception network: its features are the mean color."""

    @nn.compact
    def __call__(self, x, train=False):
        pooled = x.mean((1, 2))
        return nn.Dense(5, name="fc")(pooled), {"pooled": pooled}


@pytest.fixture
def fid(monkeypatch):
    """`fid(bias)`: the space of `Mean` with this bias of the logits."""

    def load(path, network, empty):
        return {
            "params": {
                "fc": {"kernel": np.arange(15.0, dtype=np.float32).reshape(3, 5), "bias": load.bias}
            }
        }, None

    def opened(bias):
        load.bias = np.asarray(bias, np.float32)
        return weights.open_features(f"inception:{__file__}", (6, 9, 1), 10)

    monkeypatch.setattr(inception_v3, "InceptionV3", Mean)
    monkeypatch.setattr(weights.features, "load", load)
    return opened


def test_only_inceptions_is_called_fid_and_it_names_its_weights(fid):
    with open(__file__, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    assert fid(np.zeros(5)).name == f"FID (inception {digest[:8]})"


@pytest.mark.slow
def test_the_inception_score_leaves_the_bias_of_the_logits_out(fid):
    images = np.random.default_rng(1).integers(0, 256, (4, 6, 9, 1), dtype=np.uint8)
    (without, p), (biased, q) = (fid(bias).of(images) for bias in (np.zeros(5), [3, 0, -3, 1, 2]))
    np.testing.assert_array_equal(without, biased)
    np.testing.assert_allclose(p, q, atol=1e-6)
    kernel = np.arange(15.0).reshape(3, 5)
    np.testing.assert_allclose(p, jax.nn.softmax(without @ kernel), atol=1e-5)


def tensorflow_1(image_HW, size):
    """Its bilinear resizing, a pixel at a time: pixel i lies at i times the ratio of the sides."""
    height, width = image_HW.shape
    found = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            y, x = i * height / size, j * width / size
            top, left = int(y), int(x)
            below, right = min(top + 1, height - 1), min(left + 1, width - 1)
            rows = [
                image_HW[n, left] + (image_HW[n, right] - image_HW[n, left]) * (x - left)
                for n in (top, below)
            ]
            found[i, j] = rows[0] + (rows[1] - rows[0]) * (y - top)
    return found


@pytest.mark.parametrize("shape", [(6, 9), (299, 299), (400, 310)])
def test_inception_is_fed_what_the_released_graph_makes_of_bytes(shape):
    """Resized as TensorFlow 1 does it, with neither half-pixel centers nor antialiasing; then (x -
    128) / 128."""
    image = np.random.default_rng(2).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    found = np.asarray(inception_v3.preprocess(image))
    assert found.shape == (2, 299, 299, 3) and found.dtype == np.float32
    expected = (tensorflow_1(image[1, ..., 2].astype(np.float64), 299) - 128) / 128
    np.testing.assert_allclose(
        found[1, ..., 2], expected, atol=2e-4
    )  # places are float32, as there
    gray = np.asarray(inception_v3.preprocess(image[..., :1]))
    np.testing.assert_array_equal(gray, np.repeat(found[..., :1], 3, -1))


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("resnet8", "expected MODEL:FILE"),
        ("inception:{}", "fit|no entry|missing|names"),
        ("resnet14:{}", "stage|fit|missing|no entry"),
    ],
)
def test_a_file_that_does_not_fit_is_told(exported, spec, line):
    with pytest.raises(UserError, match=line):
        weights.open_features(spec.format(exported[0]), (8, 8, 1), 10)
