"""Spaces of features: a network's, by a file."""

import jax
import numpy as np
import pytest

from advdl import models, weights
from advdl.errors import UserError

X = np.random.default_rng(0).uniform(-1, 1, (130, 8, 8, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    network = models.classifier("resnet8").build(num_classes=10)
    variables = network.init(jax.random.key(0), X[:1], train=False)
    path = tmp_path_factory.mktemp("features") / "resnet8.safetensors"
    weights.export(path, network, variables)
    return path, network, variables


def test_features_are_the_networks_last_pooled_ones_in_whatever_portions(exported):
    path, network, variables = exported
    features = weights.open_features(f"resnet8:{path}", (8, 8, 1), 10)
    found, probability = features.of(X)
    logits, seen = jax.jit(lambda x: network.apply(variables, x, train=False))(X)
    np.testing.assert_allclose(found, seen["pooled"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(probability, jax.nn.softmax(logits), atol=1e-5)


def test_only_inceptions_is_called_fid(exported):
    assert weights.open_features(f"resnet8:{exported[0]}", (8, 8, 1), 10).name == "FD (resnet8)"


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
