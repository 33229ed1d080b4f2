"""An encoder that has learned single digits before the network that it serves learns anything."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl import data, models, weights
from advdl.errors import UserError

KEY, SHAPE = jax.random.key(0), (32, 32, 1)
RNG = np.random.default_rng(0)


def grays(split, size=16):
    """Ten classes of which each is a level of gray, under noise that the split draws."""
    rng = np.random.default_rng({"train": 0, "test": 1}[split])
    label = np.arange(200) % 10
    image = 12 + 22 * label[:, None, None, None] + rng.integers(0, 9, (200, size, size, 1))
    arrays = {"image": image.astype(np.uint8), "label": label}
    return data.ArraySource("grays", split, arrays, tuple("0123456789"))


def captioner():
    """On a residual network, and its other input."""
    return models.Captioner(models.encoder("resnet8", 4), "stage3", 9, 6, 7), (5,)


def fcn():
    return models.segmenter("fcn_resnet50", 4, width=1 / 16).clone(blocks=(2, 1, 1, 1)), None


def segnet():
    return models.segmenter("segnet", 4, width=1 / 16), None


@pytest.mark.experiments
@pytest.mark.parametrize("make", [captioner, fcn, segnet], ids=lambda make: make.__name__)
def test_an_encoder_learns_single_digits_and_the_rest_of_the_network_stays(make):
    """Whatever classifier a network begins as: it tells held-out classes apart, its convolutions
    lie in the network afterwards, and the network's other parameters are what they were."""
    network, tokens = make()
    learned, accuracy = weights.learn_digits(network, 100, grays)
    assert accuracy > 0.5  # 0.1 by chance
    others = [] if tokens is None else [jnp.zeros((1, *tokens), int)]
    shapes = jax.eval_shape(lambda: network.init(KEY, jnp.zeros((1, *SHAPE)), *others, train=False))
    before = jax.tree.map(lambda x: RNG.normal(size=x.shape).astype(x.dtype), shapes)
    after = weights.place_backbone(network, before, learned)
    assert jax.tree.map(np.shape, after) == jax.tree.map(np.shape, before)
    known = {np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(learned)}
    placed = jax.tree_util.tree_flatten_with_path(after["params"])[0]
    for (path, leaf), old in zip(placed, jax.tree.leaves(before["params"]), strict=True):
        inside = weights.in_encoder(network, [part.key for part in path])
        assert (np.asarray(leaf).tobytes() in known) == inside, path
        assert np.array_equal(leaf, old) != inside, path


@pytest.mark.parametrize("scenes", ["camvid:PATH", "folder:PATH"])
def test_other_data_has_no_single_digits(scenes):
    singles = data.singles_of(scenes)
    with pytest.raises(UserError, match="--pretrain is for scenes of digits"):
        weights.digits_start(captioner()[0], 1, singles)
    assert weights.digits_start(captioner()[0], 0, singles) == {}
