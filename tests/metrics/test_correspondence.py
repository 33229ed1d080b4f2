"""What is kept of factors and of modes."""

import numpy as np
import pytest

from advdl import data, metrics

RANDOM = np.random.default_rng(0)


def test_what_is_kept_is_found():
    factors = RANDOM.random((500, 3))
    turned = np.stack([(0.3 - factors[:, 0]) % 1, 1 - factors[:, 2], factors[:, 1]], 1)
    found = metrics.factor_correlations(factors, turned, data.domains.FACTORS)
    assert found["hue_turned_or_mirrored"] == pytest.approx(1)
    assert abs(found["hue_kept"]) < 0.15
    assert found["size_with_height"] == pytest.approx(1)
    assert found["height_with_size"] == pytest.approx(-1)
    assert abs(found["size_with_size"]) < 0.15


def test_what_does_not_vary_goes_with_nothing():
    assert metrics.correlation(np.ones(5), RANDOM.random(5)) == 0


def test_a_target_is_where_most_of_a_mode_goes():
    """Three modes on a line: the first two go to the same one, one stray example to another."""
    own = np.repeat([0.0, 1.0, 2.0], 5)[:, None]
    translated = np.repeat([5.0, 5.0, 6.0], 5)[:, None]
    translated[0] = 7.0
    centers = np.arange(3.0)[:, None], np.arange(5.0, 8.0)[:, None]
    assert metrics.mode_targets(own, translated, *centers) == 2
