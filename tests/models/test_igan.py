"""iGAN: what an edit asks for, and how it is carried over."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl import data, models
from advdl.models import dcgan, igan

RANDOM = np.random.default_rng(0)
SIZE = 16


def wanted(**changes):
    """The same of every image."""
    nothing = igan.Wanted(*(jnp.zeros((SIZE, SIZE, *rest)) for rest in ((3,), (), (), ())))
    return igan.Wanted(*(x[None] for x in nothing._replace(**changes)))


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


def test_each_image_may_be_asked_for_something_else():
    x = jnp.asarray(RANDOM.random((3, SIZE, SIZE, 3)), jnp.float32)
    masks = jnp.asarray(RANDOM.random((2, 3, SIZE, SIZE)) < 0.1, jnp.float32)
    each = [
        wanted(color=x[n - 1], colored=masks[0, n], edges=x[n, ..., 0], sketched=masks[1, n])
        for n in range(3)
    ]
    error = jax.jit(igan.edit_error, static_argnums=2)
    together = igan.Wanted(*(jnp.concatenate(parts) for parts in zip(*each, strict=True)))
    alone = [error(x[n : n + 1], one, 4)[0] for n, one in enumerate(each)]
    np.testing.assert_allclose(error(x, together, 4), alone, rtol=1e-5)


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


@pytest.mark.slow
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


class Generator(nn.Module):
    """A smooth image of 8 by 8 pixels for each noise."""

    @nn.compact
    def __call__(self, z, train):
        h = jnp.tanh(nn.Dense(32)(z))
        return jnp.tanh(nn.Dense(64)(h)).reshape(-1, 8, 8, 1)


def space_of(prior="normal"):
    """(a latent space, the variables of its generator, its search compiled)."""
    space = igan.LatentSpace(Generator(), models.Noise(prior, 8), -1.0)
    variables = space.generator.init(jax.random.key(0), jnp.zeros((1, 8)), train=False)
    return space, variables, jax.jit(space.project, static_argnames="steps")


@pytest.mark.parametrize("prior", ["normal", "uniform"])
def test_optimization_comes_nearer_and_stays_where_the_noise_lies(prior):
    space, variables, project = space_of(prior)
    outside = 4 * space.noise.of_seed(1, 8)
    x, start = space.generate(variables, outside), outside / 8
    found = project(variables, x, start, steps=100)
    nearer = space.error(variables, found, x) < space.error(variables, start, x)
    assert np.asarray(nearer).all()
    length = np.linalg.norm(found, axis=1)
    if prior == "normal":  # the chi-squared quantile of 99 % with 8 degrees of freedom
        assert (length <= np.sqrt(20.09) * 1.0001).all() and length.max() > np.sqrt(20.09) * 0.99
    else:
        assert np.abs(found).max() == pytest.approx(np.sqrt(3))
    alone = project(variables, x[:1], start[:1], steps=100)
    np.testing.assert_allclose(alone, found[:1], atol=1e-4)  # nobody sees the others


def test_the_noise_of_a_generated_image_is_found():
    space, variables, project = space_of()
    z = space.noise.of_seed(3, 4)
    x = space.generate(variables, z)
    found = project(variables, x, 0.5 * z, steps=200)
    assert space.error(variables, found, x).max() < 1e-3


@pytest.mark.slow
def test_an_edit_of_the_first_step_is_where_it_began():
    space, variables, _ = space_of()
    z = space.noise.of_seed(1, 3)
    asked = igan.Wanted(*(jnp.ones((1, 8, 8, *rest)) for rest in ((1,), (), (), ())))
    found = space.edit(variables, z, z, asked, jnp.zeros(3), steps=1)
    image = (space.generate(variables, z) + 1) / 2
    np.testing.assert_allclose(found["first"], igan.edit_error(image, asked, 2), rtol=1e-5)
    assert (found["error"] < found["first"]).all()


def test_starts_lie_around_the_image_itself():
    z = RANDOM.normal(size=8).astype(np.float32)
    starts = igan.around(z, 64, seed=1)
    np.testing.assert_array_equal(starts[0], z)
    assert np.abs(starts - z).max() <= 0.5 and np.abs(starts[1:] - z).min(1).max() > 0


def test_the_best_are_shown_first_and_bad_ones_not():
    cost = np.array([5.0, 1.0, 1.2, 0.9, 1.9, 2.3])
    assert igan.ranked(cost).tolist() == [3, 1, 2, 4]  # twice the mean of .9, 1 and 1.2 is 2.07
    assert igan.ranked(cost, most=2).tolist() == [3, 1]


def test_a_line_has_its_ends():
    first, last = RANDOM.normal(size=(2, 8)).astype(np.float32)
    line = igan.between(first, last, 5)
    np.testing.assert_array_equal(line[[0, -1]], [first, last])
    np.testing.assert_allclose(line[2], (first + last) / 2, rtol=1e-6)


def test_what_is_moved_is_asked_for_where_it_goes():
    image = RANDOM.random((8, 8, 3)).astype(np.float32)
    stroke = {"kind": "warp", "from": [2, 4], "to": [5, 4], "radius": 1.2}
    strokes = data.parse_strokes({"strokes": [stroke]}, "here", (8, 8, 3))
    asked = igan.wanted_by(strokes, image)
    at = asked.colored[0] > 0
    assert at[:, 3:7].any() and not at[:, :3].any()
    rows, columns = np.nonzero(at)
    np.testing.assert_allclose(asked.color[0][at], image[rows, columns - 3], atol=1e-6)


@pytest.mark.slow
def test_an_original_of_any_size_is_changed_as_the_small_image_was():
    before, after = blob((0.45, 0.5), (1, 0.5, 0.2)), blob((0.45, 0.5), (0.2, 0.5, 1))
    large = [np.kron(x, np.ones((3, 3, 1), np.float32)) for x in (before, after)]
    found = igan.transfer(before, after, large[0], 0.0)
    assert np.square(found - large[1]).mean() < 0.35 * np.square(large[0] - large[1]).mean()
    assert found.min() >= 0 and found.max() <= 1


@pytest.mark.slow
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
