"""iGAN: what an edit asks for, and how it is carried over."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.models import dcgan, igan

RANDOM = np.random.default_rng(0)
SIZE = 16


def wanted(**changes):
    nothing = igan.Wanted(*(jnp.zeros((SIZE, SIZE, *rest)) for rest in ((3,), (), (), ())))
    return nothing._replace(**changes)


def line(turned):
    """A bright line across the middle, upright or turned."""
    image = np.zeros((1, SIZE, SIZE), np.float32)
    image[0, SIZE // 2] = 1
    return jnp.asarray(image.swapaxes(1, 2) if turned else image)


def test_colors_count_where_they_are_asked_for():
    mask = jnp.zeros((SIZE, SIZE)).at[2:4, 2:6].set(1.0)
    asked = wanted(color=jnp.ones((SIZE, SIZE, 3)), colored=mask)
    x = jnp.stack(
        [
            jnp.zeros((SIZE, SIZE, 3)),
            jnp.ones((SIZE, SIZE, 3)),
            jnp.zeros((SIZE, SIZE, 3)).at[3, 2].set(1.0),
        ]
    )
    np.testing.assert_allclose(
        jax.jit(igan.edit_error, static_argnums=2)(x, asked, 4), [1, 0, 7 / 8], atol=1e-4
    )


def test_an_edge_is_told_by_its_direction_and_not_by_its_sign():
    histogram = jax.jit(functools.partial(igan.edge_histogram, cell=4))
    upright, across = histogram(line(True)), histogram(line(False))
    assert upright.shape == (1, 4, 4, igan.ORIENTATIONS)
    assert (
        int(upright[0, 1, 2].argmax()) == 0
        and int(across[0, 2, 1].argmax()) == igan.ORIENTATIONS // 2
    )
    np.testing.assert_allclose(histogram(1 - line(True))[0, 1, 2], upright[0, 1, 2], atol=1e-3)
    np.testing.assert_allclose(histogram(jnp.ones((1, SIZE, SIZE))), 0, atol=1e-5)


@pytest.mark.parametrize("axis", [1, 2])
def test_a_step_votes_where_it_is_and_not_at_the_opposite_border(axis):
    """A step from 0 to 1 in the middle: between it and each border the image is flat."""
    place = jnp.arange(SIZE).reshape((-1, 1) if axis == 1 else (1, -1))
    step = jnp.broadcast_to(place >= SIZE // 2, (1, SIZE, SIZE)).astype(jnp.float32)
    votes = (
        np.asarray(jax.jit(functools.partial(igan.edge_histogram, cell=4))(step))
        .sum(-1)
        .sum(3 - axis)[0]
    )
    assert votes[2] > 1
    np.testing.assert_allclose(votes[[0, 1, 3]], 0, atol=1e-5)


def test_a_sketch_is_fulfilled_by_its_edges():
    asked = wanted(edges=line(False)[0], sketched=jnp.ones((SIZE, SIZE)))
    x = jnp.repeat(
        jnp.concatenate([line(False), line(True), jnp.zeros((1, SIZE, SIZE))])[..., None], 3, -1
    )
    error = jax.jit(igan.edit_error, static_argnums=2)(x, asked, 4)
    assert error[0] < 1e-5 and error[1] > error[2] > 0.01
    gradient = jax.grad(lambda x: igan.edit_error(x, asked, 4).sum())(x)
    assert np.isfinite(gradient).all()  # at flat places too


def test_what_is_moved_is_interpolated():
    x = jnp.asarray(RANDOM.random((6, 8, 2)), jnp.float32)
    offset = jnp.zeros((6, 8, 2)).at[..., 0].set(1.0).at[..., 1].set(0.5)
    found = np.asarray(jax.jit(igan.moved)(x, offset))
    np.testing.assert_allclose(
        found[:5, :7], (np.asarray(x)[:5, 1:] + np.asarray(x)[1:, 1:]) / 2, atol=1e-6
    )
    np.testing.assert_allclose(found[5, 7], x[5, 7], atol=1e-6)


def test_a_flow_is_in_shares_of_the_images_sides():
    """A quarter of the width and half of the height, of an image that is wider than high."""
    flow = jnp.broadcast_to(jnp.array([0.25, 0.5]), (2, 2, 2))
    colors = jnp.broadcast_to(jnp.eye(3), (2, 2, 3, 3)), jnp.zeros((2, 2, 3))
    x = np.random.default_rng(1).random((4, 8, 3)).astype(np.float32)
    found = jax.jit(igan.Change(flow, *colors).of)(x)
    np.testing.assert_allclose(found[:2, :6], x[2:, 2:], atol=1e-6)


def blob(center, color):
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    near = np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / 0.03)
    return jnp.asarray(near[..., None] * np.array(color), jnp.float32)


@pytest.mark.parametrize(
    "after",
    [blob((0.6, 0.5), (1, 0.5, 0.2)), blob((0.45, 0.5), (0.2, 0.5, 1))],
    ids=["moved", "colored"],
)
def test_a_change_is_found_and_holds_for_a_larger_image(after):
    before = blob((0.45, 0.5), (1, 0.5, 0.2))
    change = jax.jit(igan.change_between)(before, after)

    def error(x, y):
        return float(np.square(np.asarray(x) - np.asarray(y)).mean())

    assert error(change.of(before), after) < 0.2 * error(before, after)
    large = [jnp.asarray(np.kron(x, np.ones((3, 3, 1), np.float32))) for x in (before, after)]
    assert error(change.of(large[0]), large[1]) < 0.35 * error(*large)


def test_no_change_is_no_change():
    x = blob((0.5, 0.5), (1, 0, 0))
    np.testing.assert_allclose(jax.jit(igan.change_between)(x, x).of(x), x, atol=1e-3)


def test_the_encoder_is_the_discriminator_with_more_outputs():
    x = jnp.zeros((2, 32, 32, 3))
    encoder, judge = dcgan.Encoder(100, width=8), dcgan.Discriminator(width=8)
    own, other = (
        jax.eval_shape(lambda n=n: n.init(jax.random.key(0), x, train=False))
        for n in (encoder, judge)
    )
    assert own["params"].pop("code")["kernel"].shape == (4 * 4 * 32, 100)
    other["params"].pop("logit")
    assert own == other
