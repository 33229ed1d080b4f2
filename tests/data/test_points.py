"""Points of known densities."""

import jax
import numpy as np
import pytest

from advdl import data
from advdl.data.points import MIXTURES
from advdl.errors import UserError


@pytest.mark.parametrize("name", sorted(MIXTURES))
def test_moments_are_those_of_what_is_drawn(name):
    mixture = MIXTURES[name]
    u = np.random.default_rng(0).random((20_000, 1 + len(mixture.mean)))
    for points in (mixture.points(u)[0], np.asarray(mixture.sample(jax.random.key(0), 20_000))):
        np.testing.assert_allclose(points.mean(0), mixture.mean, atol=0.08)
        np.testing.assert_allclose(points.std(0), mixture.std, rtol=0.03)


def test_a_density_integrates_to_one_and_is_scipys():
    from scipy.stats import norm

    x = np.linspace(0, 8, 4001)
    p = MIXTURES["normal"].density(x[:, None])
    assert np.trapezoid(p, x) == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(p, norm(4, 0.5).pdf(x), rtol=1e-12)
    side = np.linspace(-5, 5, 251)  # less than a standard deviation apart, which is fine enough
    plane = MIXTURES["grid"].density(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2))
    assert plane.sum() * 0.04**2 == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", sorted(MIXTURES))
def test_a_point_lies_at_the_component_that_its_label_names(name):
    source = data.open_points(name, "test")
    read = source.read(np.arange(500))
    away = np.abs(read["point"] - source.mixture.centers_KD[read["label"]]).max()
    assert away < 6 * source.mixture.deviation
    assert set(read["label"]) == set(range(len(source.mixture.centers_KD)))


def test_training_never_sees_a_point_twice_and_the_test_points_are_fixed():
    training, held_out = (data.open_points("ring", split) for split in ("train", "test"))
    batches = data.TrainBatches(training, 64, 0)
    seen = np.concatenate([batches(t)["point"] for t in range(100)])  # more than its length
    assert len(np.unique(seen, axis=0)) == len(seen) == 6400 > len(training)
    np.testing.assert_array_equal(batches(3)["point"], seen[3 * 64 : 4 * 64])
    again = data.open_points("ring", "test")
    np.testing.assert_array_equal(
        *(source.read(np.arange(9))["point"] for source in (held_out, again))
    )


def test_the_edges_of_the_unit_interval_are_finite_points():
    points, _ = MIXTURES["normal"].points(np.array([[0.0, 0.0], [1 - 2.0**-53, 1 - 2.0**-53]]))
    assert np.isfinite(points).all()


def test_an_unknown_name_is_told_with_what_is_near():
    with pytest.raises(UserError, match="no points called 'rnig'.*ring"):
        data.open_points("rnig", "train")
    with pytest.raises(UserError, match="no split called 'valid'"):
        data.open_points("ring", "valid")


@pytest.mark.parametrize("count", [1, 3])
def test_the_batches_of_several_steps_are_dealt_back(count):
    source = data.open_points("grid", "train")
    batches = data.TrainBatches(source, 8, 1)
    joined = data.StackedBatches(batches, count)(2)
    for j in range(count):
        for name, value in batches(2 * count + j).items():
            np.testing.assert_array_equal(joined[name][j::count], value)
