"""The residual GAN: its tables, written out."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl import models, nn
from advdl.models import sngan


def count(module, *x):
    shapes = jax.eval_shape(lambda *x: module.init(jax.random.key(0), *x, train=False), *x)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def conv(inputs, outputs, side=3):
    return side * side * inputs * outputs + outputs


def test_for_32_pixels_it_is_table_4():
    z, x = jnp.zeros((1, 128)), jnp.zeros((1, 32, 32, 3))
    block = 2 * conv(256, 256) + conv(256, 256, 1) + 2 * 2 * 256
    assert count(sngan.Generator((32, 32, 3)), z) == 129 * 4 * 4 * 256 + 3 * block + 2 * 256 + conv(
        256, 3
    )
    first = conv(3, 128) + conv(128, 128) + conv(3, 128, 1)
    second = 2 * conv(128, 128) + conv(128, 128, 1)
    assert (
        count(sngan.Discriminator(), x) == first + second + 2 * 2 * conv(128, 128) + 128
    )  # no bias in the head


def test_for_128_pixels_it_is_table_6():
    """With the hidden channels and the head of the released code: gen_models/resnet.py and
    dis_models/snresnet.py."""
    assert sngan.generator_widths(128, 128, 64) == (1024, 512, 256, 128, 64)
    assert sngan.discriminator_widths(128, 128, 64) == (64, 128, 256, 512, 1024, 1024)
    total = conv(3, 64) + conv(64, 64) + conv(3, 64, 1) + 2 * conv(1024, 1024) + 1025
    for given, made in ((64, 128), (128, 256), (256, 512), (512, 1024)):
        total += conv(given, given) + conv(given, made) + conv(given, made, 1)
    assert count(sngan.Discriminator(), jnp.zeros((1, 128, 128, 3))) == total


def test_a_conditional_generator_differs_by_a_scale_and_a_bias_for_each_class_within_its_blocks():
    """The noise alone goes into the dense layer, and the last normalization is one for all
    (gen_models/resnet_32.py)."""
    z, label = jnp.zeros((1, 128)), jnp.zeros(1, jnp.int32)
    told, plain = sngan.Generator((32, 32, 3), classes=10), sngan.Generator((32, 32, 3))
    shapes = jax.eval_shape(lambda: told.init(jax.random.key(0), z, False, label))["params"]
    assert (
        sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count(plain, z) + 3 * 2 * 2 * 9 * 256
    )
    assert shapes["project"]["kernel"].shape[0] == 128 and shapes["norm"]["scale"].shape == (256,)
    assert (
        shapes["block1_norm1"]["scale"].shape == shapes["block3_norm2"]["bias"].shape == (10, 256)
    )


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (28, 1), (48, 3)])
def test_it_makes_and_judges_other_sizes(side, channels):
    generator, discriminator = (
        sngan.Generator((side, side, channels), width=4, classes=3),
        sngan.Discriminator(4, classes=3),
    )
    given = jnp.zeros(2, jnp.int32)

    def both(key):
        image, _ = generator.init_with_output(key, jnp.ones((2, 5)), False, given)
        return image, discriminator.init_with_output(key, image, False, given)[0][0]

    image, logit = jax.eval_shape(both, jax.random.key(0))
    assert image.shape == (2, side, side, channels) and logit.shape == (2,)


def relu(x):
    return np.maximum(x, 0)


def convolved(x, layer):
    """By a kernel of odd sides, in one size."""
    side = len(layer["kernel"])
    wide = np.pad(x, ((0, 0), (side // 2,) * 2, (side // 2,) * 2, (0, 0)))
    height, width = x.shape[1:3]
    taps = [(a, b) for a in range(side) for b in range(side)]
    parts = (wide[:, a : a + height, b : b + width] @ layer["kernel"][a, b] for a, b in taps)
    return sum(parts) + layer["bias"]


def random_variables(module, *given):
    """Biases too are random, and so are statistics."""
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *given))

    def draw(leaf):
        return random.standard_normal(leaf.shape).astype(np.float32) / 3

    variables = jax.tree.map(draw, shapes)
    return {**variables, "batch_stats": jax.tree.map(np.abs, variables.get("batch_stats", {}))}


def test_the_discriminator_is_its_blocks_in_plain_numpy():
    """Of 8×8 pixels, of which one block is halved; pooling comes last, in both of its branches."""
    module, label = sngan.Discriminator(2, classes=3), np.array([2, 0])
    x = np.random.default_rng(1).standard_normal((2, 8, 8, 1)).astype(np.float32)
    v = random_variables(module, x, False, label)
    p = v["params"]

    def block(x, number):
        y = convolved(x if number == 1 else relu(x), p[f"block{number}_conv1"])
        y = convolved(relu(y), p[f"block{number}_conv2"])
        if number > 1:
            return x + y
        y = y + convolved(x, p["block1_shortcut"])
        return y.reshape(2, 4, 2, 4, 2, 4).mean((2, 4))

    hidden = block(block(block(x, 1), 2), 3)
    total = relu(hidden).sum((1, 2))
    wanted = (total @ p["logit"]["kernel"])[:, 0] + (p["embedding"]["kernel"][label] * total).sum(1)
    found, seen = jax.jit(lambda v: module.apply(v, x, False, label))(v)
    np.testing.assert_allclose(seen["block3"], hidden, atol=1e-5 * np.abs(hidden).max())
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_the_generator_is_its_block_in_plain_numpy():
    """Of 8×8 pixels, which is one block; normalized by statistics and each class's parameters."""
    module, label = sngan.Generator((8, 8, 1), 1, classes=3), np.array([2, 0])
    z = np.random.default_rng(1).standard_normal((2, 5)).astype(np.float32)
    v = random_variables(module, z, False, label)
    p = v["params"]

    def normalized(x, name):
        own, stats = p[name], v["batch_stats"][name]

        def rows(table):
            return table[label][:, None, None] if table.ndim == 2 else table

        stats = stats.get("statistics", stats)
        x = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
        return relu(x * rows(own["scale"]) + rows(own["bias"]))

    def double(x):
        return x.repeat(2, 1).repeat(2, 2)

    x = (z @ p["project"]["kernel"] + p["project"]["bias"]).reshape(2, 4, 4, 4)
    y = convolved(double(normalized(x, "block1_norm1")), p["block1_conv1"])
    y = convolved(normalized(y, "block1_norm2"), p["block1_conv2"])
    x = normalized(convolved(double(x), p["block1_shortcut"]) + y, "norm")
    found = jax.jit(lambda v: module.apply(v, z, False, label))(v)
    wanted = np.tanh(convolved(x, p["image"]))
    assert wanted.std() > 0.1
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.slow
def test_a_normalized_kernel_is_divided_by_its_largest_singular_value_in_the_network_too():
    """By as many power iterations as there are applications in training mode."""
    network = sngan.Discriminator(2, conv=nn.spectral(nn.Conv), dense=nn.spectral(linen.Dense))
    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    variables = network.init(jax.random.key(1), x, train=False)
    run = jax.jit(lambda v: network.apply(v, x, train=True, mutable=["batch_stats"])[1])
    for _ in range(30):
        variables = {**variables, **run(variables)}
    sigma = variables["batch_stats"]["SpectralNorm_0"]["SpectralNorm_0"][
        "block1_conv1/kernel/sigma"
    ]
    kernel = np.asarray(variables["params"]["block1_conv1"]["kernel"])
    assert float(np.asarray(sigma).reshape(())) == pytest.approx(
        np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2), rel=1e-2
    )


def test_sizes_that_do_not_halve_are_refused():
    for size in ((4, 4), (30, 30), (32, 36 + 1)):
        with pytest.raises(ValueError, match="do not halve"):
            sngan.halvings(*size)
    assert models.sngan is sngan
