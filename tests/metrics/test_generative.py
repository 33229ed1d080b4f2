"""What the classifier says of real digits, collapsed generators and rubbish; nearest neighbors
against SciPy."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from advdl.metrics import class_coverage, nearest, nearest_streamed


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = (images[order] / 8 - 1).reshape(-1, 8, 8, 1).astype(np.float32), labels[order]
    return images[:1000], labels[:1000], images[1000:1400], labels[1000:1400], images[1400:]


@pytest.fixture(scope="module")
def coverage(digits):
    train, train_labels, test, test_labels, fresh = digits
    return class_coverage(fresh, train, train_labels, test, test_labels)


@pytest.mark.slow
def test_fresh_real_images_look_like_the_test_images(coverage):
    assert coverage.accuracy > 0.97
    assert coverage.samples.classes(0.05) == coverage.test.classes(0.05) == 10
    np.testing.assert_allclose(coverage.samples.share, 0.1, atol=0.05)
    assert abs(coverage.samples.quantiles()[0.5] - coverage.test.quantiles()[0.5]) < 0.02


def test_shares_are_shares(coverage):
    for seen in (coverage.samples, coverage.test, coverage.noise, coverage.gaussian):
        assert seen.share.sum() == pytest.approx(1) and (seen.recognized <= seen.share).all()
        assert seen.recognized.sum() == pytest.approx((seen.confidence > 0.5).mean())
        assert ((seen.confidence >= 0) & (seen.confidence <= 1)).all()
        assert list(seen.quantiles().values()) == sorted(seen.quantiles().values())


def test_trivial_generators_are_not_recognized(coverage):
    assert coverage.noise.recognized.sum() < 0.01 and coverage.noise.classes(0.02) == 0
    assert coverage.gaussian.recognized.sum() < 0.4 * coverage.test.recognized.sum()
    assert coverage.test.recognized.sum() > 0.95


@pytest.mark.slow
def test_a_collapsed_generator_covers_what_it_makes(digits):
    train, train_labels, test, test_labels, _ = digits
    collapsed = test[np.isin(test_labels, (3, 7))]
    seen = class_coverage(collapsed, train, train_labels, test, test_labels, limit=500).samples
    assert seen.classes(0.05) == 2 and seen.share[[3, 7]].sum() > 0.9


@pytest.mark.slow
def test_coverage_is_a_function_of_its_arguments(digits):
    train, train_labels, test, test_labels, fresh = digits
    once, again = (
        class_coverage(fresh[:50], train, train_labels, test, test_labels, limit=300)
        for _ in range(2)
    )
    np.testing.assert_equal(once, again)


@pytest.mark.slow
def test_the_classifier_is_scikit_learns_with_its_own_kernel(digits):
    train, train_labels, test, test_labels, fresh = digits
    seen = class_coverage(fresh[:100], train[:400], train_labels[:400], test, test_labels)
    rows = [
        np.reshape(images, (len(images), -1)).astype(np.float64)
        for images in (train[:400], fresh[:100])
    ]
    machine = CalibratedClassifierCV(SVC(), cv=3, ensemble=False)
    machines = [clone(machine).fit(rows[0], train_labels[:400] == k) for k in range(10)]
    expected = np.max([machine.predict_proba(rows[1])[:, 1] for machine in machines], axis=0)
    np.testing.assert_allclose(seen.samples.confidence, expected, atol=5e-3)


def test_what_does_not_fit_is_refused(digits):
    train, train_labels, test, test_labels, fresh = digits
    with pytest.raises(ValueError, match="differ in shape"):
        class_coverage(fresh[:, :4], train, train_labels, test, test_labels)
    with pytest.raises(ValueError, match="11 classes, the rarest with 0"):
        class_coverage(fresh, train, train_labels, test, test_labels, classes=11)


def test_nearest_equals_all_pairs(digits):
    train, _, test, _, _ = digits
    index, distance = nearest(test[:60], train, rows=137)
    pairs = cdist(test[:60].reshape(60, -1), train.reshape(1000, -1))
    np.testing.assert_array_equal(index, pairs.argmin(1))
    np.testing.assert_allclose(distance, pairs.min(1), rtol=1e-12)


def test_nearest_does_not_depend_on_the_order_or_the_parts_of_the_training_images(digits):
    train, _, test, _, _ = digits
    order = np.random.default_rng(1).permutation(len(train))
    parts = np.split(train[order], [1, 300, 999])
    index, distance = nearest_streamed(test[:60], iter(parts))
    expected = nearest(test[:60], train)
    np.testing.assert_array_equal(order[index], expected[0])
    np.testing.assert_array_equal(distance, expected[1])


def test_a_copy_is_at_distance_zero(digits):
    train = digits[0]
    index, distance = nearest(train[[5, 700]], np.concatenate([train, train]), rows=64)
    np.testing.assert_array_equal(index, [5, 700])  # the first of the two copies
    np.testing.assert_array_equal(distance, 0)


def test_nearest_works_on_bytes(digits):
    pixels = np.round((digits[0][:20] + 1) * 127).astype(np.uint8)
    index, distance = nearest(pixels[:3] + np.uint8(1), pixels)
    np.testing.assert_array_equal(index, [0, 1, 2])
    np.testing.assert_allclose(distance, 8)


def test_nearest_to_nothing_is_refused(digits):
    with pytest.raises(ValueError, match="do not fit"):
        nearest(digits[0], digits[0][:0])
    with pytest.raises(ValueError, match="do not fit"):
        nearest(digits[0], digits[0][:, :4])
