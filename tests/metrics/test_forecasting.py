"""What costs nothing, by hand; scores of forecasts."""

import numpy as np
import pytest

from advdl import metrics

HISTORY = np.array([[1.0, 2, 3, 4, 6]])


def test_baselines_by_hand():
    np.testing.assert_array_equal(metrics.persistence(HISTORY, 4), [[6, 6, 6, 6]])
    np.testing.assert_array_equal(metrics.seasonal_naive(HISTORY, 7, 3), [[3, 4, 6, 3, 4, 6, 3]])
    np.testing.assert_array_equal(metrics.seasonal_naive(HISTORY, 3, 5), [[1, 2, 3]])
    # From 2, a season before the last value, to 6: four more each season.
    np.testing.assert_array_equal(
        metrics.seasonal_drift(HISTORY, 7, 3), [[7, 8, 10, 11, 12, 14, 15]]
    )
    np.testing.assert_array_equal(metrics.seasonal_drift(HISTORY, 3, 5), [[1, 2, 3]])
    with pytest.raises(ValueError, match="does not hold a season"):
        metrics.seasonal_naive(HISTORY, 1, 6)


def test_without_a_season_seasonal_naive_is_persistence():
    np.testing.assert_array_equal(
        metrics.seasonal_naive(HISTORY, 4, 1), metrics.persistence(HISTORY, 4)
    )


def test_a_wave_on_a_slope_is_known_with_drift():
    t = np.arange(60)
    values = np.sin(2 * np.pi * t / 12) + 0.3 * t
    np.testing.assert_allclose(
        metrics.seasonal_drift(values[None, :30], 30, 12)[0], values[30:], atol=1e-9
    )


def test_scores_by_hand():
    assert (
        metrics.skill(1.0, 2.0) == 0.75
        and metrics.skill(2.0, 2.0) == 0
        and metrics.skill(2.0, 1.0) == -3
    )
    assert np.isnan(metrics.skill(1.0, 0.0))
    assert metrics.RootMean.of(
        np.array([9.0, 16.0, 100.0]), np.array([1, 1, 0])
    ).compute() == pytest.approx(12.5**0.5)
    found = metrics.RootByStep.of(
        np.array([[1.0, 9.0], [7.0, 25.0]]), np.array([1.0, 1.0])
    ).compute()
    np.testing.assert_allclose(found, [2, 17**0.5], rtol=1e-6)


def test_errors_of_the_first_the_last_and_all_steps():
    found = metrics.horizon_errors(np.array([1.0, 2.0, 6.0]), np.array([1.0, 3.0, 5.0]), 2.0)
    assert found["mae_first_step"] == 1 and found["mae_last_step"] == 6
    assert found["mae_all_steps"] == 3 and found["mase_all_steps"] == 1.5
    assert (
        found["rmse_all_steps"] == pytest.approx((35 / 3) ** 0.5) and found["rmse_last_step"] == 5
    )
    assert set(metrics.horizon_errors(np.ones(1), np.ones(1), 1.0)) == {
        "mae_first_step",
        "rmse_first_step",
        "mase_first_step",
    }
    assert np.isnan(metrics.horizon_errors(np.ones(1), np.ones(1), 0.0)["mase_first_step"])


def test_quantiles_hold_their_share_of_the_errors():
    error = np.random.default_rng(0).normal(size=(4000, 2)) * [1, 5]
    low, high = metrics.error_quantiles(error, 0.8)
    inside = ((low <= error) & (error <= high)).mean(0)
    np.testing.assert_allclose(inside, 0.8, atol=0.001)
    assert (high[1] - low[1]) / (high[0] - low[0]) == pytest.approx(5, rel=0.1)
