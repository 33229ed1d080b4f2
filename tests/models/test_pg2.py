"""PG²: its inputs, its loss and its shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from advdl import losses
from advdl.data import persons
from advdl.models import pg2

KEY = jax.random.key(0)


def keypoints(count=4, size=(48, 32)):
    points = persons.skeleton(np.random.default_rng(0).random((count, persons.ANGLES))) * size[0]
    return jnp.asarray(np.concatenate([points, np.ones((count, 18, 1))], -1), jnp.float32)


def test_heat_maps_are_disks_around_what_is_seen():
    given = keypoints().at[1, 4, 2].set(0.0)
    maps = np.asarray(pg2.heat_maps(given, (48, 32), 2.0))
    assert (
        maps.shape == (4, 48, 32, 18)
        and set(np.unique(maps)) == {-1, 1}
        and (maps[1, ..., 4] == -1).all()
    )
    y, x = np.mgrid[:48, :32] + 0.5
    for b, k in ((0, 0), (2, 9)):
        inside = np.hypot(x - given[b, k, 0], y - given[b, k, 1]) <= 2
        np.testing.assert_array_equal(maps[b, ..., k] > 0, inside)


def test_the_mask_is_the_dilated_skeleton():
    """Against points laid densely on the limbs, dilated by SciPy's distance transform, at a quarter
    of a pixel."""
    given, fine, radius = keypoints(1), 4, 3.0
    mask, none = jax.jit(
        lambda x: [
            pg2.pose_mask(seen, persons.LIMBS, (48, 32), radius)
            for seen in (x, x.at[..., 2].set(0.0))
        ]
    )(given)
    points, lines = np.asarray(given[0, :, :2]), np.ones((48 * fine, 32 * fine), bool)
    for a, b in persons.LIMBS:
        for share in np.linspace(0, 1, 400):
            x, y = points[a] + share * (points[b] - points[a])
            row, column = int(y * fine), int(x * fine)
            if 0 <= row < lines.shape[0] and 0 <= column < lines.shape[1]:
                lines[row, column] = False
    away = ndimage.distance_transform_edt(lines)[fine // 2 :: fine, fine // 2 :: fine] / fine
    sure = np.abs(away - radius) > 0.5
    np.testing.assert_array_equal(np.asarray(mask)[0][sure] > 0, away[sure] <= radius)
    assert not np.asarray(none).any()


def test_a_limb_of_which_one_end_is_not_seen_is_not_in_the_mask():
    """The mask is that of the other limbs alone, whether the end was a limb's first or last."""
    given, hidden = keypoints(1), 2
    others = [limb for limb in persons.LIMBS if hidden not in limb]
    assert {limb.index(hidden) for limb in persons.LIMBS if hidden in limb} == {0, 1}

    def mask(given, limbs):
        return pg2.pose_mask(given, limbs, (48, 32), 3.0)

    masks = jax.jit(lambda x: (mask(x.at[:, hidden, 2].set(0.0), persons.LIMBS), mask(x, others)))
    unseen, without = masks(given)
    np.testing.assert_array_equal(unseen, without)
    assert unseen.sum() < mask(given, persons.LIMBS).sum()


def test_the_loss_counts_the_person_twice():
    made, target = jnp.full((2, 4, 4, 3), 0.5), jnp.zeros((2, 4, 4, 3))
    mask = jnp.zeros((2, 4, 4)).at[1].set(1.0)
    np.testing.assert_allclose(losses.masked_l1(made, target, mask), [0.5, 1.0])


@pytest.mark.slow
def test_the_papers_size_has_its_code_and_shapes():
    x, pose = jnp.zeros((1, 128, 64, 3)), jnp.zeros((1, 18, 3))
    network = pg2.Coarse()
    (image, seen), variables = jax.eval_shape(lambda: network.init_with_output(KEY, x, pose))
    assert (
        image.shape == (1, 128, 64, 3)
        and seen["code"].shape == (1, 64)
        and seen["down5"].shape == (1, 8, 4, 640)
    )
    assert variables["params"]["code"]["kernel"].shape == (8 * 4 * 640, 64)
    assert variables["params"]["decode"]["kernel"].shape == (64, 8 * 4 * 128)
    _, seen = jax.eval_shape(lambda: pg2.Fine().init_with_output(KEY, x, x)[0])
    assert seen["down3"].shape == (1, 32, 16, 384)


def test_stage_1_is_its_blocks_in_plain_numpy():
    """Two levels: residual blocks, a convolution that halves, the code, and skips on the way up."""
    network, random = pg2.Coarse(2, levels=2, code=3, radius=1.5), np.random.default_rng(0)
    x = np.float32(random.standard_normal((2, 4, 6, 3)))
    keypoints = np.float32(random.uniform(0, 4, (2, 5, 3)))
    pose = np.asarray(pg2.heat_maps(keypoints, (4, 6), 1.5))
    variables = jax.eval_shape(lambda: network.init(KEY, x, keypoints))
    v = jax.tree.map(lambda leaf: np.float32(random.standard_normal(leaf.shape) / 2), variables)
    p = v["params"]

    def relu(x):
        return np.maximum(x, 0)

    def conv(x, name, stride=1):
        kernel = p[name]["kernel"]
        edge, (height, width) = (len(kernel) // 2,) * 2, x.shape[1:3]
        wide = np.pad(x, ((0, 0), edge, edge, (0, 0)))
        taps = [(a, b) for a in range(len(kernel)) for b in range(len(kernel))]
        y = sum(wide[:, a : a + height, b : b + width] @ kernel[a, b] for a, b in taps)
        return y[:, ::stride, ::stride] + p[name]["bias"]

    def residual(x, name):
        return x + relu(conv(relu(conv(x, f"{name}_conv1")), f"{name}_conv2"))

    def dense(x, name):
        return x @ p[name]["kernel"] + p[name]["bias"]

    down1 = residual(relu(conv(np.concatenate([x, pose], -1), "first")), "down1")
    down2 = residual(relu(conv(down1, "halve1", 2)), "down2")
    code = dense(down2.reshape(2, -1), "code")
    y = np.concatenate([dense(code, "decode").reshape(2, 2, 3, 2), down2], -1)
    y = relu(conv(residual(y, "up2").repeat(2, 1).repeat(2, 2), "double2"))
    wanted = conv(residual(np.concatenate([y, down1], -1), "up1"), "image")
    found, seen = jax.jit(network.apply)(v, x, keypoints)
    np.testing.assert_allclose(seen["code"], code, atol=1e-5 * np.abs(code).max())
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.slow
def test_stage_2_begins_with_what_stage_1_made():
    x = jax.random.normal(KEY, (2, 8, 8, 3))
    difference, _ = jax.jit(lambda: pg2.Fine(4).init_with_output(KEY, x, 2 * x)[0])()
    assert not np.asarray(difference).any()


def test_a_size_that_does_not_halve_is_refused():
    with pytest.raises(ValueError, match="do not halve 4 times"):
        jax.eval_shape(
            lambda: pg2.Coarse().init(KEY, jnp.zeros((1, 24, 24, 3)), jnp.zeros((1, 18, 3)))
        )
