"""Rules that figures are held against."""

import pytest

from advdl import metrics
from advdl.metrics import Bounds, Order

FIGURES = {
    "test/error": {"rnn": [0.1, 0.4, 0.2], "lstm": [0.01, 0.03, 0.02]},
    "test/accuracy": {"rnn": [0.9, 0.5, 0.8], "lstm": [0.95, 0.99, 0.9]},
}


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        (Bounds(at_most={"test/error": 0.05}), False),
        (Bounds(at_most={"test/error": 0.05}, names=["lstm"]), True),
        (
            Bounds(at_least={"test/accuracy": 0.9}, at_most={"test/error": 0.1}, names=["rnn"]),
            False,
        ),
        (Bounds(at_least={"test/accuracy": 0.99}), False),
        (Bounds(at_least={"test/accuracy": 0.99}, best=True), True),
        (Bounds(at_least={"test/accuracy": 0.99}, best=True, names=["rnn"]), False),
        (Bounds(at_most={"test/error": 0.1}, best=True, names=["rnn"]), True),
        (Bounds(at_most={"test/error": 0.0}, names=[]), True),
        (Bounds(at_most={"test/error": 0.0}, names=[], best=True), True),
    ],
)
def test_bounds_hold_for_every_seed_or_for_the_best(rule, holds):
    assert rule(FIGURES).holds is holds


def test_bounds_say_the_worst_seed_of_every_name():
    said = Bounds(at_most={"test/error": 0.1})(FIGURES, {"test/error": "the error"}).sentence
    assert said == (
        "For rnn the worst of 3 seeds has the error 0.4 (at most 0.1, missed)."
        " For lstm the worst of 3 seeds has the error 0.03 (at most 0.1)."
    )
    said = Bounds(at_least={"test/accuracy": 0.9}, names=["rnn"], best=True)(FIGURES).sentence
    assert said == "For rnn the best of 3 seeds has test/accuracy 0.9 (at least 0.9)."


def test_a_seed_that_is_no_number_keeps_no_bound():
    nan = {"test/error": {"rnn": [0.1, float("nan"), 0.2]}}
    assert Bounds(at_most={"test/error": 1.0})(nan).holds is False


def test_an_order_is_of_the_means_and_of_every_seed():
    def order(low, high, higher=True):
        return Order("loss", "20", "56", higher)({"loss": {"20": low, "56": high}}).holds

    low, high, mixed = [0.1, 0.2, 0.15], [0.5, 0.3, 0.4], [0.18, 0.3, 0.4]
    assert order(low, high) is True
    assert order(low, mixed) is False  # the seeds are not apart
    assert order(high, low) is False
    assert order(low, low, higher=False) is True
    assert order(low, mixed, higher=False) is False
    assert order(low[:2], high[:2]) is None
    assert Order("loss", "20", "20")({"loss": {"20": low}}).holds is None


def test_one_rule_that_is_broken_breaks_all_and_an_open_one_leaves_the_rest_open():
    def all_of(*kept):
        return metrics.all_hold([metrics.Verdict("", one) for one in kept])

    assert all_of(True, True) is True and all_of() is True
    assert all_of(True, None) is None and all_of(None, False) is False


@pytest.mark.parametrize(("low", "kept"), [([0.1, 0.2], True), ([0.1, 0.3], False), ([0.0], True)])
def test_a_ratio_holds_for_the_worst_of_one_beside_the_best_of_the_other(low, kept):
    rule = metrics.Ratio("a/spread", "low", "high", 5.0)
    found = rule({"a/spread": {"low": low, "high": [2.0, 1.0]}}, {"a/spread": "spread"})
    assert found.holds is kept and ("missed" in found.sentence) is not kept
    assert found.sentence.startswith("Spread, high to low: ")
