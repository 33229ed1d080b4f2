"""Mixing neighbors, and ten crops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl import data

KINDS = {
    "mixup": jax.jit(lambda batch, key: data.mixup(batch, key, 0.8)),
    "cutmix": jax.jit(lambda batch, key: data.cutmix(batch, key, 1.0)),
    "either": jax.jit(lambda batch, key: data.mix(batch, key, 0.8, 1.0)),
}


@pytest.fixture
def batch():
    images = np.random.default_rng(0).normal(size=(64, 9, 12, 2)).astype(np.float32)
    number = np.arange(64, dtype=np.int32)
    return {"image": images, "label": number, "index": number}


def partner(x):
    return np.asarray(x).reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_the_weight_is_the_share_of_the_image_that_is_its_own(batch, kind):
    mixed = KINDS[kind](batch, jax.random.key(1))
    image, weight, own = (
        np.asarray(mixed["image"]),
        np.asarray(mixed["weight"]),
        np.asarray(batch["image"]),
    )
    np.testing.assert_array_equal(mixed["other"], partner(batch["label"]))
    np.testing.assert_array_equal(mixed["label"], batch["label"])
    assert weight.dtype == np.float32 and image.dtype == np.float32
    assert np.all((weight >= 0) & (weight <= 1)) and np.std(weight) > 0.1
    np.testing.assert_array_equal(weight[::2], weight[1::2])
    share = (image - partner(own)) / (
        own - partner(own)
    )  # of every pixel, what is the example's own
    np.testing.assert_allclose(share.mean((1, 2, 3)), weight, atol=1e-3)


def test_mixup_blends_and_cutmix_pastes_one_rectangle(batch):
    own = np.asarray(batch["image"])
    blended = KINDS["mixup"](batch, jax.random.key(2))
    weight = np.asarray(blended["weight"])[:, None, None, None]
    np.testing.assert_allclose(
        blended["image"], weight * own + (1 - weight) * partner(own), atol=1e-6
    )
    pasted = np.asarray(KINDS["cutmix"](batch, jax.random.key(2))["image"])
    other = (pasted == partner(own)).all(-1)
    np.testing.assert_array_equal(pasted[~other], own[~other])
    rectangle = other.any(2)[:, :, None] & other.any(1)[:, None, :]
    np.testing.assert_array_equal(other, rectangle)
    assert other.any((1, 2)).sum() > 50 and not other.all((1, 2)).all()


def test_cutmix_draws_rectangles_as_the_papers_code_does():
    """Its rule in NumPy: a share from Beta(1, 1), sides its root, a uniform center, cut off at the
    border."""
    big = {"image": np.zeros((4000, 20, 30, 1), np.float32), "label": np.zeros(4000, np.int32)}
    weight = np.asarray(KINDS["cutmix"](big, jax.random.key(0))["weight"])[::2]
    rng = np.random.default_rng(0)
    height, width = (
        np.floor(side * np.sqrt(1 - share)) for share in [rng.random(2000)] for side in (20, 30)
    )
    top, left = rng.integers(0, 20, 2000) - height // 2, rng.integers(0, 30, 2000) - width // 2
    tall = (top + height // 2 * 2).clip(0, 20) - top.clip(0, 20)
    wide = (left + width // 2 * 2).clip(0, 30) - left.clip(0, 30)
    expected = 1 - tall * wide / 600
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert np.quantile(weight, quantile) == pytest.approx(
            np.quantile(expected, quantile), abs=0.04
        )


def test_weights_are_distributed_as_beta():
    many = {"image": np.ones((8000, 1, 1, 1), np.float32), "label": np.zeros(8000, np.int32)}
    for alpha in (0.2, 1.0):
        weight = np.asarray(data.mixup(many, jax.random.key(3), alpha)["weight"])[::2]
        assert weight.mean() == pytest.approx(0.5, abs=0.03)
        assert weight.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


@pytest.mark.slow
def test_mix_takes_one_of_the_two_for_each_pair(batch):
    key = jax.random.key(5)
    for alphas, alone in (
        ((0.8, 0), data.mixup(batch, key, 0.8)),
        ((0, 1.0), data.cutmix(batch, key, 1.0)),
    ):
        jax.tree.map(np.testing.assert_array_equal, data.mix(batch, key, *alphas), alone)
    image = np.asarray(KINDS["either"](batch, key)["image"])
    whole = (image == np.asarray(batch["image"])).all(-1) | (image == partner(batch["image"])).all(
        -1
    )
    pasted = whole.all((1, 2))
    np.testing.assert_array_equal(pasted[::2], pasted[1::2])
    assert 16 < pasted.sum() < 48
    unmixed = data.mix(batch, key, 0, 0)
    np.testing.assert_array_equal(unmixed["image"], batch["image"])
    np.testing.assert_array_equal(unmixed["weight"], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_replicas_mix_as_one_device_does(batch, kind):
    whole = KINDS[kind](batch, jax.random.key(7))
    apart = jax.tree.map(lambda x: x.reshape(4, 16, *x.shape[1:]), batch)
    mixed = jax.pmap(KINDS[kind], "replica", in_axes=(0, None), devices=jax.devices()[:4])(
        apart, jax.random.key(7)
    )
    for name in whole:
        together = np.asarray(mixed[name]).reshape(whole[name].shape)
        np.testing.assert_allclose(together, whole[name], atol=1e-6, err_msg=name)


def test_what_cannot_be_mixed_is_refused(batch):
    key = jax.random.key(0)
    odd = {name: value[:5] for name, value in batch.items()}
    with pytest.raises(ValueError, match="5 images"):
        data.mixup(odd, key, 1.0)
    with pytest.raises(ValueError, match="to_float"):
        data.cutmix({**batch, "image": batch["image"].astype(jnp.uint8)}, key, 1.0)
    for refused in (lambda: data.mixup(batch, key, 0), lambda: data.mix(batch, key, -1, 1)):
        with pytest.raises(ValueError, match="expected"):
            refused()


@pytest.mark.parametrize("module", [np, jnp])
def test_ten_crops_are_corners_and_middle_and_their_mirrors(module):
    image = np.random.default_rng(0).normal(size=(3, 9, 12, 2)).astype(np.float32)
    crops = data.ten_crop(module.asarray(image), (5, 6))
    assert isinstance(crops, np.ndarray) == (module is np) and crops.shape == (3, 10, 5, 6, 2)
    expected = [
        image[:, :5, :6],
        image[:, :5, 6:],
        image[:, 4:, :6],
        image[:, 4:, 6:],
        image[:, 2:7, 3:9],
    ]
    np.testing.assert_array_equal(crops[:, :5], np.stack(expected, 1))
    np.testing.assert_array_equal(crops[:, 5:], np.asarray(crops)[:, :5, :, ::-1])
    with pytest.raises(ValueError, match="10 by 10"):
        data.ten_crop(image, 10)
