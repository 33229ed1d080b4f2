"""Figures of segmentation against scikit-learn and their sums written out; baselines against known
ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import jaccard_score, recall_score

from advdl import data, metrics
from advdl.metrics import Confusion

RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 7, (5, 9, 11)).astype(
    np.uint8
)  # 5 classes, one of which is nowhere; 5 and 6 are void
TRUTH[TRUTH == 3] = 6
GUESS = (
    np.where(RNG.random(TRUTH.shape) < 0.6, TRUTH, RNG.integers(0, 3, TRUTH.shape))
    .clip(0, 4)
    .astype(np.int32)
)
KEPT = TRUTH < 5


@pytest.fixture(scope="module")
def counts():
    return Confusion.of(jnp.asarray(GUESS), jnp.asarray(TRUTH), 5)


def test_the_share_of_right_pixels_leaves_out_those_that_have_no_class():
    logits = jnp.asarray(np.eye(5, dtype=np.float32)[GUESS])
    found = metrics.mask_accuracy(logits, jnp.asarray(TRUTH)).compute()
    assert found == pytest.approx((TRUTH == GUESS)[KEPT].mean())
    kept = KEPT & (TRUTH != 1)
    found = metrics.mask_accuracy(logits, jnp.asarray(TRUTH), void=1).compute()
    assert found == pytest.approx((TRUTH == GUESS)[kept].mean())


def test_the_most_frequent_class_everywhere_is_right_where_that_class_is():
    found = metrics.most_frequent_class(np.array([[1, 2], [3, 4]])).compute()
    np.testing.assert_array_equal(found, [[0, 3], [0, 7]])


def test_figures_are_scikit_learns_over_the_pixels_that_count(counts):
    truth, guess = TRUTH[KEPT], GUESS[KEPT]
    there = [0, 1, 2, 4]
    iou = jaccard_score(truth, guess, labels=there, average=None)
    np.testing.assert_allclose(metrics.class_iou(counts)[there], iou)
    assert np.isnan(metrics.class_iou(counts)[3])
    assert metrics.mean_iou(counts) == pytest.approx(iou.mean())
    assert metrics.pixel_accuracy(counts) == pytest.approx((truth == guess).mean())
    assert metrics.class_accuracy(counts) == pytest.approx(
        recall_score(truth, guess, labels=there, average="macro")
    )
    weighted = jaccard_score(truth, guess, labels=there, average="weighted")
    assert metrics.frequency_weighted_iou(counts) == pytest.approx(weighted)
    figures = metrics.segmentation_figures(counts.compute())
    assert list(figures) == [
        "pixel_accuracy",
        "class_accuracy",
        "mean_iou",
        "frequency_weighted_iou",
    ]
    assert figures["mean_iou"] == metrics.mean_iou(counts)


def test_a_class_that_is_called_and_nowhere_has_no_overlap_but_no_accuracy():
    matrix = np.array([[3, 1, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(metrics.class_iou(matrix), [0.75, 0, np.nan])
    assert metrics.mean_iou(matrix) == 0.375 and metrics.class_accuracy(matrix) == 0.75


def test_nothing_counted_has_no_figures():
    assert all(
        np.isnan(figure)
        for figure in metrics.segmentation_figures(np.zeros((3, 3), np.int64)).values()
    )


def test_figures_of_a_set_are_those_of_its_pixels_beyond_what_int32_holds(counts):
    parts = [
        jax.device_get(Confusion.of(jnp.asarray(g), jnp.asarray(t), 5))
        for g, t in zip(GUESS, TRUTH, strict=True)
    ]
    total = parts[0]
    for part in parts[1:]:
        total = metrics.merge(total, part)
    np.testing.assert_array_equal(total.compute(), counts.compute())
    many = Confusion(np.full((2, 2), 2**31 - 1, np.int32))
    twice = metrics.merge(many, many)
    assert twice.compute().tolist() == [[2**32 - 2] * 2] * 2
    assert metrics.mean_iou(twice) == pytest.approx(1 / 3) and metrics.pixel_accuracy(twice) == 0.5


def test_what_fills_up_the_last_batch_counts_nowhere():
    images = np.zeros((5, 9, 11, 1), np.uint8)
    source = data.array_scenes("a", "test", images, np.minimum(TRUTH, 5), list("abcde"), void=5)
    held = data.EvalBatches(source, 4)
    guess = jnp.asarray(GUESS)
    parts = [
        jax.device_get(Confusion.of(guess[held[n]["index"]], jnp.asarray(held[n]["mask"]), 5))
        for n in range(2)
    ]
    np.testing.assert_array_equal(
        metrics.merge(*parts).compute(), Confusion.of(guess, jnp.asarray(TRUTH), 5).compute()
    )


def scenes(split, ids, void=3):
    ids = np.asarray(ids, np.uint8)
    return data.array_scenes("a", split, ids[..., None], ids, ("a", "b", "c"), void)


def test_baselines_are_learned_on_training_masks_without_void():
    train = scenes(
        "train", [[[0, 1, 3]], [[2, 1, 3]], [[2, 0, 3]], [[2, 3, 3]]]
    )  # 0: 2, 1: 2, 2: 3
    test = scenes("test", [[[2, 1, 0]], [[3, 0, 2]]])
    found = metrics.trivial_baselines(train, test)
    assert list(found) == ["most_frequent_class", "mode_of_each_pixel"]
    assert found["most_frequent_class"].compute().tolist() == [[0, 0, 2], [0, 0, 1], [0, 0, 2]]
    guess = np.broadcast_to([[2, 1, 2]], (2, 1, 3))
    expected = Confusion.of(
        jnp.asarray(guess), jnp.asarray([[[2, 1, 0]], [[3, 0, 2]]]), 3
    ).compute()
    np.testing.assert_array_equal(found["mode_of_each_pixel"].compute(), expected)
    with pytest.raises(ValueError, match="other classes or sizes"):
        metrics.trivial_baselines(train, scenes("test", [[[0, 1]]]))


def test_baselines_of_a_folder_in_camvids_layout_are_those_of_its_pixels(tmp_path):
    """Against the counts of every pixel with NumPy, and figures with scikit-learn."""
    rng = np.random.default_rng(0)
    ids = {
        split: np.minimum(rng.geometric(0.25, (count, 4, 5)) - 1, 11).astype(np.uint8)
        for split, count in (("train", 7), ("test", 3))
    }
    for split, masks in ids.items():
        for place in (folders := [tmp_path / split / kind for kind in ("images", "masks")]):
            place.mkdir(parents=True)
        for n, mask in enumerate(masks):
            Image.fromarray(20 * mask).convert("RGB").save(folders[0] / f"{n}.png")
            Image.fromarray(mask).save(folders[1] / f"{n}.png")
    train, test = (data.open_scenes(f"camvid:{tmp_path}", split) for split in ("train", "test"))
    found = metrics.trivial_baselines(train, test)
    counts = (ids["train"][..., None] == np.arange(11)).sum(0)
    guesses = np.full((4, 5), counts.sum((0, 1)).argmax()), counts.argmax(-1)
    for guess, confusion in zip(guesses, found.values(), strict=True):
        kept = ids["test"] < 11
        truth, guess = ids["test"][kept], np.broadcast_to(guess, kept.shape)[kept]
        there = np.unique(np.concatenate([truth, guess]))
        assert metrics.pixel_accuracy(confusion) == pytest.approx((truth == guess).mean())
        assert metrics.class_accuracy(confusion) == pytest.approx(
            recall_score(truth, guess, labels=np.unique(truth), average="macro")
        )
        assert metrics.mean_iou(confusion) == pytest.approx(
            jaccard_score(truth, guess, labels=there, average="macro")
        )
