"""Classification metrics against sorting and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from advdl.metrics import Confusion, merge, top_k

LOGITS_BK = jax.random.normal(jax.random.key(0), (40, 7))
LABEL_B = jax.random.randint(jax.random.key(1), (40,), 0, 7)
MASK_B = jax.random.bernoulli(jax.random.key(2), 0.7, (40,)).astype(jnp.float32)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_top_k_finds_the_label_where_sorting_does(k):
    best_Bk = np.argsort(-np.asarray(LOGITS_BK), axis=1, kind="stable")[:, :k]
    hit_B = (best_Bk == np.asarray(LABEL_B)[:, None]).any(1)
    score = jax.jit(top_k, static_argnums=2)(LOGITS_BK, LABEL_B, k, MASK_B)
    assert score.compute() == pytest.approx(hit_B[np.asarray(MASK_B) == 1].mean(), abs=1e-6)


def test_equal_logits_are_right_for_the_first_classes_only():
    logits_BK, label_B = jnp.ones((5, 5)), jnp.arange(5)
    assert top_k(logits_BK, label_B, 1).compute() == pytest.approx(1 / 5)
    assert top_k(logits_BK, label_B, 2).compute() == pytest.approx(2 / 5)


def test_no_number_and_no_class_are_wrong():
    logits_BK = LOGITS_BK[:4].at[0].set(jnp.nan)
    label_B = logits_BK.argmax(1).at[1].set(-1).at[2].set(7)
    assert top_k(logits_BK, label_B, 1).compute() == 1 / 4


def test_more_answers_than_classes_are_refused():
    with pytest.raises(ValueError, match="k is 8"):
        top_k(LOGITS_BK, LABEL_B, 8)


@pytest.mark.parametrize("predicted", [False, True])
def test_confusion_equals_scikit_learns(predicted):
    prediction_B = LOGITS_BK.argmax(1)
    outputs = prediction_B if predicted else LOGITS_BK
    counts = jax.jit(Confusion.of, static_argnums=2)(outputs, LABEL_B, 7, MASK_B)
    kept = np.asarray(MASK_B) == 1
    label, prediction = np.asarray(LABEL_B)[kept], np.asarray(prediction_B)[kept]
    assert counts.matrix.dtype == jnp.int32
    np.testing.assert_array_equal(
        counts.compute(), confusion_matrix(label, prediction, labels=range(7))
    )
    assert counts.accuracy() == pytest.approx((label == prediction).mean())
    rates = {"labels": range(7), "average": None, "zero_division": np.nan}
    np.testing.assert_allclose(counts.recall(), recall_score(label, prediction, **rates))
    np.testing.assert_allclose(counts.precision(), precision_score(label, prediction, **rates))


def test_confusion_of_parts_adds_up_on_device_and_host():
    whole = Confusion.of(LOGITS_BK, LABEL_B, 7)
    parts = [Confusion.of(LOGITS_BK[i], LABEL_B[i], 7) for i in (slice(0, 13), slice(13, 40))]
    np.testing.assert_array_equal(merge(*parts).compute(), whole.compute())
    np.testing.assert_array_equal(merge(*jax.device_get(parts)).compute(), whole.compute())
    assert whole.compute().sum() == 40


def test_void_labels_and_outlandish_predictions_count_nowhere():
    label = jnp.array([[0, 1], [255, 1]], jnp.uint8)
    prediction = jnp.array([[0, 2], [1, 1]])
    np.testing.assert_array_equal(Confusion.of(prediction, label, 2).compute(), [[1, 0], [0, 1]])


def test_absent_classes_have_no_rate():
    counts = Confusion.of(jnp.array([0, 0]), jnp.array([0, 1]), 3)
    np.testing.assert_array_equal(counts.recall(), [1, 0, np.nan])
    np.testing.assert_array_equal(counts.precision(), [0.5, np.nan, np.nan])
    assert np.isnan(Confusion.of(jnp.array([0]), jnp.array([0]), 2, jnp.zeros(1)).accuracy())


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="7 classes|6 classes"):
        Confusion.of(LOGITS_BK, LABEL_B, 6)
    with pytest.raises(ValueError, match="do not fit"):
        Confusion.of(LABEL_B[:3], LABEL_B, 7)
