"""Networks that give each pixel a class: what they say, what they see, and what they refuse."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from advdl import models
from advdl.errors import UserError
from advdl.nn import Conv


class Dense(nn.Module):
    """A dense prediction that sees 5 by 5 pixels."""

    @nn.compact
    def __call__(self, x, train):
        x = Conv(4, 3, padding=1)(x)
        return Conv(3, 3, padding=1)(x), {}


@pytest.mark.slow
def test_a_pixel_sees_what_lies_within_its_receptive_field():
    x = jax.random.normal(jax.random.key(0), (2, 12, 15, 2))
    variables = Dense().init(jax.random.key(1), x, train=False)
    functions = models.mask_functions(Dense())
    sees = np.asarray(functions["sees"](variables, {"image": x}))
    expected = np.zeros((2, 12, 15), bool)
    expected[:, 4:9, 5:10] = True
    np.testing.assert_array_equal(sees, expected)


def test_classes_are_those_of_the_largest_logits():
    x = jax.random.normal(jax.random.key(0), (2, 6, 5, 2))
    variables = Dense().init(jax.random.key(1), x, train=False)
    found = models.mask_functions(Dense())["classes"](variables, {"image": x}, samples=3)
    logits = np.asarray(Dense().apply(variables, x, train=False)[0])
    assert set(found) == {"class"} and found["class"].dtype == np.uint8  # it has no dropout
    np.testing.assert_array_equal(found["class"], logits.argmax(-1))


@pytest.mark.slow
def test_classes_over_draws_come_with_their_uncertainty():
    network = models.segnet.SegNetBasic(3, features=2, levels=2, dropout=0.5)
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 1))
    variables = network.init(jax.random.key(1), x, train=False)
    found = models.predict_classes(network, variables, x, samples=4)
    p, uncertainty = models.segnet.sampled(network, variables, x, jax.random.key(0), 4)
    np.testing.assert_array_equal(found["class"], p.argmax(-1))
    np.testing.assert_array_equal(found["uncertainty"], uncertainty)


@pytest.mark.parametrize(
    ("network", "options", "said"),
    [
        (models.unet.unet_valid(), {"window": 203}, "--window is 203; tiles of a UNet need 204"),
        (models.unet.unet_valid(), {"samples": 2}, "--samples 2 is for SegNets with dropout"),
        (models.segnet.segnet(), {"samples": 2}, "the network is a SegNet"),
    ],
)
def test_a_network_is_not_evaluated_in_a_way_that_it_has_not(network, options, said):
    with pytest.raises(UserError, match=said):
        models.mask_predictor(network, **options)


def test_a_network_of_no_such_name_or_for_no_such_images_is_refused():
    with pytest.raises(UserError, match="no network 'segnot'.*nearest: segnet"):
        models.segmenter("segnot", 2)
    with pytest.raises(UserError, match="--learned all is for the FCNs"):
        models.segmenter("unet", 2, "all")
    assert models.segmenter("fcn8s", 2, "inner", width=0.5).learned == "inner"
    valid = models.unet.UNet(num_classes=2)
    with pytest.raises(UserError, match="U does not take images of 30 by 20: level"):
        models.check_shape("U", valid, (30, 20, 1))
