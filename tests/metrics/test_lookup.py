"""What a language model looks up: nothing that comes later, and what it says together with it."""

import numpy as np
import pytest

from advdl import metrics

RANDOM = np.random.default_rng(0)
KNOWN, STATES = RANDOM.normal(size=(40, 3)), RANDOM.normal(size=(300, 3))
KNOWN_NEXT, NEXT = RANDOM.integers(0, 4, 40), RANDOM.integers(0, 4, 300)


def test_the_nearest_places_before_each_one_are_found():
    found = metrics.similar_places(KNOWN, KNOWN_NEXT, STATES, NEXT, count=5)
    states, following = np.concatenate([KNOWN, STATES]), np.concatenate([KNOWN_NEXT, NEXT])
    for n in (0, 1, 17, 256, 299):
        before = np.square(states[: 40 + n] - STATES[n]).sum(1)
        near = np.argsort(before)[:5]
        own = np.argsort(found.distance[n])
        np.testing.assert_allclose(found.distance[n][own], before[near], rtol=1e-3, atol=1e-5)
        np.testing.assert_array_equal(found.right[n][own], following[near] == NEXT[n])


def test_what_comes_later_changes_nothing():
    one = metrics.similar_places(KNOWN, KNOWN_NEXT, STATES, NEXT, count=20)
    changed = np.concatenate([STATES[:100], -STATES[100:]])
    other = metrics.similar_places(
        KNOWN, KNOWN_NEXT, changed, np.append(NEXT[:100], NEXT[100:] + 9)
    )
    nats = np.full(300, 1.0)
    np.testing.assert_allclose(
        metrics.looked_up_nats(nats, one, 0.01, 0.5)[:100],
        metrics.looked_up_nats(nats, other, 0.01, 0.5)[:100],
        rtol=1e-4,
    )


def test_probabilities_of_all_tokens_add_up_to_one():
    """Each of the four tokens in turn is the one that comes next."""
    p, total = np.array([0.1, 0.2, 0.3, 0.4]), 0.0
    for token in range(4):
        found = metrics.similar_places(KNOWN, KNOWN_NEXT, STATES[:1], np.array([token]))
        total += np.exp(-metrics.looked_up_nats(-np.log(p[[token]]), found, 0.7, 0.3))
    np.testing.assert_allclose(total, 1, rtol=1e-6)


def test_with_nothing_to_look_up_the_share_is_lost():
    found = metrics.similar_places(KNOWN[:0], KNOWN_NEXT[:0], STATES[:2], NEXT[:2])
    nats = metrics.looked_up_nats(np.zeros(2), found, 1.0, 0.25)
    assert nats[0] == pytest.approx(-np.log(0.75))


@pytest.mark.parametrize(("useful", "share"), [(True, 0.9), (False, 0.0)])
def test_how_much_is_looked_up_is_fitted(useful, share):
    """States that say what comes next are looked up as much as may be, others not at all."""
    following = NEXT if useful else 9 + np.arange(300)
    states = np.eye(4)[NEXT] if useful else STATES
    known = np.eye(4)[KNOWN_NEXT] if useful else KNOWN
    found = metrics.similar_places(known, KNOWN_NEXT, states, following)
    assert metrics.fitted_lookup(np.full(300, np.log(4)), found)[1] == share
