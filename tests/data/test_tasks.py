"""Sequences made to order: what they ask can be found in them, and only where it should be."""

import numpy as np
import pytest

from advdl import data
from advdl.errors import UserError


def drawn(source, count=400, seed=0):
    return source.read(np.arange(count), np.random.default_rng(seed).random((count, source.draws)))


def test_bits_have_their_parity():
    found = drawn(data.bits("train", 1, 40))
    assert (found["sequence"].sum(-1) == 1).all()
    tokens = found["sequence"].argmax(-1)
    for token, length, label, parity in zip(
        tokens, *(found[key] for key in ("length", "label", "parity")), strict=True
    ):
        assert 1 <= length <= 40 and not token[length:].any()
        assert label == token[:length].sum() % 2 == parity[length - 1]
    assert {1, 40} <= set(found["length"]) and 0.4 < tokens[found["length"] == 40].mean() < 0.6
    assert data.task_units(found) == {"tokens": found["length"].sum()}


def test_bits_are_read_from_text_and_from_nothing_else():
    assert data.parse_bits("0110").tolist() == [0, 1, 1, 0]
    assert data.parity(data.parse_bits("0110")).tolist() == [0, 1, 0, 0]
    for text in ("", "01x", "0 1"):
        with pytest.raises(UserError, match="expected 0 and 1"):
            data.parse_bits(text)


def test_what_is_to_be_added_is_marked_in_either_half():
    found = drawn(data.adding("train", 21))
    value, marked = found["sequence"][..., 0], found["sequence"][..., 1]
    assert (marked[:, :10].sum(1) == 1).all() and (marked[:, 10:].sum(1) == 1).all()
    np.testing.assert_allclose((value * marked).sum(1), found["target"], atol=1e-6)
    assert {*np.argwhere(marked[:, :10])[:, 1]} == set(range(10)) and {
        *np.argwhere(marked[:, 10:])[:, 1]
    } == set(range(11))
    target = drawn(data.adding("train", 21), 20_000)["target"]
    assert np.square(target - 1).mean() == pytest.approx(1 / 6, rel=0.03)  # who knows nothing


def test_the_order_of_two_symbols_is_the_target():
    found = drawn(data.temporal_order("train", 100))
    symbol = found["sequence"].argmax(-1)
    for one, label in zip(symbol, found["target"], strict=True):
        first, second = np.flatnonzero(one >= 4)
        assert 10 <= first < 20 and 50 <= second < 60
        assert label == 2 * (one[first] - 4) + one[second] - 4
    assert np.bincount(found["target"], minlength=4).min() > 50


def test_a_test_split_is_fixed_and_a_training_split_is_not():
    for make in (lambda split: data.adding(split, 20), lambda split: data.bits(split, 3, 9)):
        held_out = make("test")
        rows = np.array([5, 0, 5])
        one, two = held_out.read(rows), make("test").read(rows)
        assert held_out.draws == 0 and all((one[key] == two[key]).all() for key in one)
        assert all((value[0] == value[2]).all() for value in one.values())
        training = make("train")
        assert any(
            (drawn(training, seed=0)[key] != drawn(training, seed=1)[key]).any() for key in one
        )
        with pytest.raises(ValueError, match="draws"):
            training.read(rows)


def test_beside_one_another_each_is_what_it_is_alone():
    both = data.ZipSource({"20": data.adding("train", 20), "30": data.adding("train", 30)})
    u = np.random.default_rng(0).random((6, both.draws))
    found = both.read(np.arange(6), u)
    np.testing.assert_array_equal(
        found["sequence/30"], data.adding("train", 30).read(np.arange(6), u[:, 22:])["sequence"]
    )
    assert found["sequence/20"].shape == (6, 20, 2) and len(both) == len(data.adding("train", 20))
