"""Layers that adversarial training adds: spectral normalization and differentiable augmentation."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.models import dcgan
from advdl.nn import POLICIES, Bias, Conv, differentiable_augment, spectral

IMAGES = np.random.default_rng(0).uniform(-1, 1, (6, 16, 16, 3)).astype(np.float32)
augment = jax.jit(differentiable_augment, static_argnums=2)


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (
            spectral(Conv)(5, kernel_size=3, use_bias=False),
            jax.random.normal(jax.random.key(1), (2, 3, 3, 4)),
        ),
        (spectral(linen.Dense)(5, use_bias=False), jax.random.normal(jax.random.key(1), (2, 36))),
    ],
)
def test_a_normalized_kernel_has_spectral_norm_one(layer, x):
    variables = layer.init(jax.random.key(2), x)
    (kernel,) = jax.tree.leaves(variables["params"])
    advance = jax.jit(lambda variables: layer.apply(variables, x, mutable=["batch_stats"]))
    for _ in range(100):
        y, seen = advance(variables)
        variables = {**variables, **seen}
    rows = np.asarray(kernel, np.float64).reshape(-1, 5)
    largest = np.linalg.svd(rows, compute_uv=False)[0]
    # A convolution by one window that is the whole image is a matrix product.
    np.testing.assert_allclose(
        y.reshape(2, 5), np.asarray(x).reshape(2, -1) @ rows / largest, rtol=1e-4, atol=1e-5
    )


def settled(layer, x, variables):
    """Variables after so many steps of the power iteration that it has converged."""
    advance = jax.jit(lambda variables: layer.apply(variables, x, mutable=["batch_stats"])[1])
    for _ in range(100):
        variables = {**variables, **advance(variables)}
    return variables


def test_a_normalized_dense_layer_is_1_lipschitz_and_no_less():
    layer, (x, y) = (
        spectral(linen.Dense)(5, use_bias=False),
        np.random.default_rng(1).standard_normal((2, 64, 8)).astype(np.float32),
    )
    variables = settled(layer, x, layer.init(jax.random.key(2), x))
    apply = jax.jit(lambda x: layer.apply(variables, x))
    gain = np.linalg.norm(apply(x) - np.asarray(apply(y)), axis=1) / np.linalg.norm(x - y, axis=1)
    assert gain.max() <= 1 + 1e-5
    (kernel,) = jax.tree.leaves(variables["params"])
    steepest = np.linalg.svd(kernel)[0][:, 0]
    assert np.linalg.norm(apply(steepest[None])) == pytest.approx(1, abs=1e-4)


def test_a_normalized_convolution_is_not_1_lipschitz_but_root_of_the_taps_bounds_its_gain():
    """The counter-example to 1-Lipschitz: nine equal taps, whose matrix has the singular value 1,
    on a constant image."""
    equal = dict(kernel_size=3, padding=1, use_bias=False, kernel_init=linen.initializers.ones)
    layer, x = spectral(Conv)(1, **equal), np.ones((1, 64, 64, 1), np.float32)
    variables = settled(layer, x, layer.init(jax.random.key(2), x))
    y = np.asarray(jax.jit(layer.apply)(variables, x))
    np.testing.assert_allclose(y[0, 1:-1, 1:-1], 3, rtol=1e-5)
    gain = np.linalg.norm(y) / np.linalg.norm(x)
    assert 2.9 < gain <= 3


def test_the_power_iteration_moves_on_in_training_only():
    layer = spectral(linen.Dense)(5)
    x = jax.random.normal(jax.random.key(1), (2, 8))
    variables = layer.init(jax.random.key(2), x)
    first = layer.apply(variables, x)
    np.testing.assert_array_equal(layer.apply(variables, x), first)
    _, seen = layer.apply(variables, x, mutable=["batch_stats"])
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), variables["batch_stats"], seen["batch_stats"]
    )
    assert all(jax.tree.leaves(moved))


def test_parameters_of_a_network_are_those_that_it_has_without():
    plain = dcgan.Discriminator(width=4, norm=Bias)
    normalized = dcgan.Discriminator(
        width=4, norm=Bias, conv=spectral(Conv), dense=spectral(linen.Dense)
    )
    shapes = [
        jax.eval_shape(lambda net=net: net.init(jax.random.key(0), IMAGES, train=False))
        for net in (plain, normalized)
    ]
    assert jax.tree.map(jnp.shape, shapes[0]["params"]) == jax.tree.map(
        jnp.shape, shapes[1]["params"]
    )
    assert set(shapes[1]) - set(shapes[0]) == {"batch_stats"}


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_augmentation_distorts_every_image_in_its_own_way_and_passes_gradients(policy):
    same = np.broadcast_to(IMAGES[:1], IMAGES.shape)
    seen = augment(same, jax.random.key(3), (policy,))
    assert seen.shape == same.shape
    assert len({np.asarray(image).tobytes() for image in seen}) > 1
    summed = jax.grad(lambda x: augment(x, jax.random.key(3), (policy,)).sum())
    slope = np.asarray(jax.jit(summed)(IMAGES))
    assert np.isfinite(slope).all() and (np.abs(slope).sum((1, 2, 3)) > 0).all()


def test_no_policy_changes_nothing():
    np.testing.assert_array_equal(differentiable_augment(IMAGES, jax.random.key(3), ()), IMAGES)


@pytest.mark.parametrize(("side", "eighth"), [(16, 2), (20, 3)])
def test_translation_moves_by_at_most_an_eighth_rounded_half_up(side, eighth):
    center = side // 2
    dot = np.zeros((128, side, side, 1), np.float32)
    dot[:, center, center] = 1
    seen = np.asarray(augment(dot, jax.random.key(4), ("translation",)))
    places = np.argwhere(seen[..., 0])[:, 1:]
    assert (
        len(places) == 128 and places.min() == center - eighth and places.max() == center + eighth
    )


def test_policies_in_turn_draw_numbers_of_their_own():
    """A point that is shifted twice by up to 2 is found at every distance up to 4; shifted by the
    same number twice, it would be at even ones."""
    dot = np.zeros((128, 16, 16, 1), np.float32)
    dot[:, 8, 8] = 1
    seen = augment(dot, jax.random.key(4), ("translation", "translation"))
    places = np.argwhere(np.asarray(seen)[..., 0])[:, 1:]
    assert set((places - 8).ravel().tolist()) == set(range(-4, 5))


def each_draw_once(monkeypatch, policy, side):
    """Images of ones (N, side, side) under every pair of numbers that the policy can draw, each
    pair once."""
    ranges = []

    def asked(key, shape, low, high):
        ranges.append((int(low), int(high)))
        return jnp.asarray(low)

    monkeypatch.setattr(jax.random, "randint", asked)
    jax.eval_shape(lambda: POLICIES[policy](jnp.ones((side, side, 1)), jax.random.key(0)))
    rows, columns = (np.arange(low, high) for low, high in ranges)

    def distorted(row, column):
        drawn = iter((row, column))
        monkeypatch.setattr(jax.random, "randint", lambda key, shape, low, high: next(drawn))
        return POLICIES[policy](jnp.ones((side, side, 1)), jax.random.key(0))[..., 0]

    pairs = np.meshgrid(rows, columns, indexing="ij")
    return np.asarray(jax.jit(jax.vmap(distorted))(*map(np.ravel, pairs)))


@pytest.mark.parametrize("side", [8, 10, 11, 16, 20, 28])
@pytest.mark.parametrize("policy", ["cutout", "translation"])
def test_every_pixel_is_zeroed_as_often_as_its_mirror_image(monkeypatch, policy, side):
    """By all that can be drawn, not by chance: even and odd boxes, sides that eight divides and
    others."""
    zeroed = (each_draw_once(monkeypatch, policy, side) == 0).mean(0)
    assert zeroed.max() > 0
    for mirrored in (zeroed[::-1], zeroed[:, ::-1], zeroed.T):
        np.testing.assert_array_equal(zeroed, mirrored)


def test_cutout_takes_a_box_of_half_of_each_side_or_what_lies_inside():
    seen = (
        np.asarray(augment(np.ones((200, 16, 16, 1), np.float32), jax.random.key(5), ("cutout",)))[
            ..., 0
        ]
        == 0
    )
    rows, columns = seen.any(2).sum(1), seen.any(1).sum(1)
    np.testing.assert_array_equal(seen.sum((1, 2)), rows * columns)  # a box
    assert rows.max() == columns.max() == 8 and rows.min() >= 4 and columns.min() >= 4


def test_color_is_an_affine_map_that_keeps_gray_gray():
    gray = np.broadcast_to(IMAGES[..., :1], IMAGES.shape)
    seen = np.asarray(augment(gray, jax.random.key(6), ("color",)))
    np.testing.assert_allclose(seen, np.broadcast_to(seen[..., :1], seen.shape), atol=1e-5)
