"""Learners compared over several seeds: figures by name and seed, curves, and a verdict."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from advdl import metrics, present, train
from advdl.reports.trained import Trained


class Curve(NamedTuple):
    """A chart over training: its title, and by label the metrics that every member has, such as
    `{"training": "train/error", "test": "test/error"}`. log: logarithmic vertical axis. references:
    label -> value, horizontal lines."""

    title: str
    metrics: Mapping[str, str]
    ylabel: str = ""
    log: bool = False
    references: Mapping[str, float] = {}


@dataclass(frozen=True)
class ComparisonReport:
    """The report of a `train.Comparison`; it is called with a `Trained` and returns the page.

    comparison: the names and seeds. claim: the sentence that the run is to decide.
    rules: what has to hold for the claim, fixed before the run, such as `metrics.Bounds`.
    figures: metric -> what it is in prose. `"test/accuracy"` is taken from the last evaluation;
      `"train/loss"` is its mean over the last tenth of the updates.
    curves: charts over training. headlines: the figures that the page opens with, at most three;
      the value of each is `(metric, name)`, and is replaced by what the run has found.
    groups: title -> {name: label}, the names that share a chart (default: one chart of all).
    sections: functions of `Trained` that draw what is particular, and return a section each.
    picture: the page's first picture; by default the curves.
    measure: `(trained, member) -> {metric: value}`, figures that are no result of an evaluation,
      such as those of samples; "/" is in their names too.
    about: how the figures were measured.

    verdict.json has the verdict in words, whether it holds (null: not decided), and by metric and
    name a value for each seed.
    """

    comparison: train.Comparison
    claim: str
    rules: Sequence[metrics.Rule]
    figures: Mapping[str, str]
    curves: Sequence[Curve]
    headlines: Sequence[present.Figure] = ()
    groups: Mapping[str, Mapping[str, str]] | None = None
    sections: Sequence[Callable[[Trained], present.Section]] = ()
    picture: str = "curves.png"
    measure: Callable[[Trained, str], Mapping[str, float]] = lambda *_: {}
    about: str = ""

    def __call__(self, trained: Trained) -> present.Page:
        found = self.found(trained)
        verdicts = [rule(found, self.figures) for rule in self.rules]
        holds = metrics.all_hold(verdicts)
        said = " ".join(one.sentence for one in verdicts if one.sentence)
        sentence = f"{self.claim} {HOLDS[holds]}"
        verdict = {"verdict": f"{sentence} {said}", "holds": holds, **found}
        trained.run.write("verdict.json", verdict)
        title, share = "Over training", len(self.groups or ()) == 2
        present.draw_curves(
            trained.lines(), trained.folder / "curves.png", self.panels(), title, share=share
        )
        table = {
            f"{self.figures[metric]}: {name}": spread(values)
            for metric, each in found.items()
            for name, values in each.items()
        }
        return present.Page(
            self.picture,
            [
                figure._replace(value=spread(found[figure.value[0]][figure.value[1]]))
                for figure in self.headlines
            ],
            sentence,
            [
                *(section(trained) for section in self.sections),
                present.Section("Verdict", f"{said}\n\n{self.about}{SPREAD}", [], table),
                present.Section(title, "Thin: every seed. Bold: their mean.", ["curves.png"]),
            ],
        )

    def found(self, trained: Trained) -> dict[str, dict[str, list[float]]]:
        """By metric and by name, the figure of each seed."""
        comparison, lines, figures = self.comparison, trained.lines(), dict(trained.figures)
        for name in comparison.learners:
            for member in comparison.members(name):
                for metric, value in self.measure(trained, member).items():
                    split, _, own = metric.partition("/")
                    figures[f"{split}/{member}/{own}"] = value
        for metric in self.figures:
            if metric.startswith("train/"):
                keys = (key for each in comparison.keys(metric).values() for key in each)
                figures |= {key: last_tenth(lines, key) for key in keys}
        return {metric: comparison.figures(figures, metric) for metric in self.figures}

    def panels(self) -> list[present.Panel]:
        """A chart for each curve and group; a color for each name, and a dash for each metric of a
        curve that has several."""
        panels, groups = [], self.groups or {"": {name: name for name in self.comparison.learners}}
        for curve in self.curves:
            keys = {what: self.comparison.keys(metric) for what, metric in curve.metrics.items()}
            for group, labels in groups.items():
                series, styles = {}, {}
                for color, (name, label) in enumerate(labels.items()):
                    for dash, what in enumerate(keys):
                        line = f"{label}, {what}" if what else label
                        series[line] = keys[what][name]
                        styles[line] = color, dash if len(keys) > 1 else color
                title = f"{group}: {curve.title}" if group else curve.title
                drawn = series, curve.ylabel, curve.references, curve.log, styles
                panels.append(present.Panel(title, *drawn))
        return panels


HOLDS = {
    True: "This holds.",
    False: "This does not hold.",
    None: "This run does not decide it.",
}
SPREAD = "Mean over the seeds, in parentheses the least and the greatest."


def spread(values: Sequence[float]) -> str:
    """Values of several seeds as text: `mean (least … greatest)`."""
    if len(values) == 1:
        return f"{values[0]:.4g}"
    return f"{np.mean(values):.4g} ({min(values):.4g} … {max(values):.4g})"


def last_tenth(lines: Sequence[Mapping[str, Any]], key: str) -> float:
    """Mean of a metric of training over the last tenth of the updates: of the lines of
    metrics.jsonl whose updates all lie in it, else the last line."""
    logged = [line for line in lines if key in line]
    step = np.array([0] + [line["step"] for line in logged])
    inside = step[:-1] >= 0.9 * step[-1]
    inside[-1] = True
    values = np.array([line[key] for line in logged])
    return float(np.average(values[inside], weights=np.diff(step)[inside]))
