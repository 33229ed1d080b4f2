"""Verdicts over seeds: figures against rules that were fixed before the run."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Figures = Mapping[str, Mapping[str, Sequence[float]]]
"""By metric and by the name of what is compared, a value for each seed."""


class Verdict(NamedTuple):
    """What a rule finds in the figures of a run.

    sentence: the figures and the bounds, in words. holds: whether the rule is kept; None where the
      run cannot decide it.
    """

    sentence: str
    holds: bool | None


Rule = Callable[[Figures, Mapping[str, str]], Verdict]
"""`(figures, labels)`, where `labels` says in prose what a metric is."""


class Bounds(NamedTuple):
    """A rule: figures are at least, or at most, so much.

    at_least, at_most: metric -> bound. names: those it is about, of the ones that are compared
    (default: all). best: it is enough that the best seed of one of them keeps the bounds; by
    default every seed of all of them has to.
    """

    at_least: Mapping[str, float] = {}
    at_most: Mapping[str, float] = {}
    names: Sequence[str] | None = None
    best: bool = False

    def __call__(self, figures: Figures, labels: Mapping[str, str] = {}) -> Verdict:
        compared = dict.fromkeys(name for each in figures.values() for name in each)
        found = []
        for name in compared:
            if self.names is not None and name not in self.names:
                continue
            own = {metric: each[name] for metric, each in figures.items()}
            holds, of, outcome = _bounded(own, self.at_least, self.at_most, self.best, labels)
            found.append(Verdict(f"For {name} the {of} seeds has {outcome}.", holds))
        kept = [one.holds for one in found]
        holds = (any(kept) or not kept) if self.best else all(kept)
        return Verdict(" ".join(one.sentence for one in found), holds)


class Order(NamedTuple):
    """A rule: a metric ends higher for `high` than for `low`, on the mean, and for every seed of
    the one than for every seed of the other. With `higher=False`: its mean does not end higher.

    One run of fewer than three seeds, or of one name twice, does not decide it.
    """

    metric: str
    low: str
    high: str
    higher: bool = True

    def __call__(self, figures: Figures, labels: Mapping[str, str] = {}) -> Verdict:
        low, high = (figures[self.metric][name] for name in (self.low, self.high))
        means = float(np.mean(low)), float(np.mean(high))
        apart = min(high) > max(low)
        above = sum(h > one for h, one in zip(high, low, strict=True))
        sentence = (
            f"{labels.get(self.metric, self.metric).capitalize()}: {self.high} {means[1]:.4g},"
            f" {self.low} {means[0]:.4g}; {above} of {len(high)} seeds of {self.high} end higher,"
            f" and {'every' if apart else 'not every'} seed of it is above every seed of"
            f" {self.low}."
        )
        kept = (means[1] > means[0] and apart) if self.higher else means[1] <= means[0]
        return Verdict(sentence, kept if self.low != self.high and len(high) > 2 else None)


class Ratio(NamedTuple):
    """A rule: every seed's value of a metric is for `high` at least so many times that of every
    seed of `low`."""

    metric: str
    low: str
    high: str
    at_least: float

    def __call__(self, figures: Figures, labels: Mapping[str, str] = {}) -> Verdict:
        low = float(np.max(figures[self.metric][self.low]))
        high = float(np.min(figures[self.metric][self.high]))
        ratio = high / low if low else float("inf")
        kept = ratio >= self.at_least
        missed = "" if kept else ", missed"
        label = labels.get(self.metric, self.metric)
        return Verdict(
            f"{label.capitalize()}, {self.high} to {self.low}: {ratio:.3g} times"
            f" (at least {self.at_least:g}{missed}).",
            kept,
        )


def verdict(
    name: str,
    figures: Mapping[str, Sequence[float]],
    at_least: Mapping[str, float],
    at_most: Mapping[str, float],
) -> str:
    """Whether the worst of every figure, which has a number for each seed, keeps its bound, in a
    sentence; a bound of a figure that is not there does not count."""
    holds, of, outcome = _bounded(figures, at_least, at_most)
    return f"{name} {'passes' if holds else 'fails'}; {of}: {outcome}."


def all_hold(verdicts: Sequence[Verdict]) -> bool | None:
    """Whether all rules are kept; None where all but undecided ones are."""
    kept = [one.holds for one in verdicts]
    return False if False in kept else None if None in kept else True


def _bounded(
    figures: Mapping[str, Sequence[float]],
    at_least: Mapping[str, float],
    at_most: Mapping[str, float],
    best: bool = False,
    labels: Mapping[str, str] = {},
) -> tuple[bool, str, str]:
    """(Whether all bounds are kept, "worst of 3", the figures beside their bounds.)"""
    outcome, holds, seeds = [], True, 0
    for bounds, sign, words in ((at_least, 1, "at least"), (at_most, -1, "at most")):
        for figure, bound in bounds.items():
            if figure in figures:
                seeds = len(figures[figure])
                value = (np.max if (sign > 0) == best else np.min)(figures[figure])  # NaN is kept
                kept = bool(sign * value >= sign * bound)
                holds &= kept
                missed = "" if kept else ", missed"
                outcome.append(
                    f"{labels.get(figure, figure)} {value:.3g} ({words} {bound:g}{missed})"
                )
    return holds, f"{'best' if best else 'worst'} of {seeds}", ", ".join(outcome)
