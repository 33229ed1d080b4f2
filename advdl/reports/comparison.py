"""Learners compared over several seeds: figures by name and seed, curves, and a verdict."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
    log: bool = False
    references: Mapping[str, float] = {}


@dataclass(frozen=True)
class ComparisonReport:
    """The report of a `train.Comparison`; it is called with a `Trained` and returns the page.

    comparison: the names and seeds. claim: the sentence that the run is to decide.
    rules: what has to hold for the claim, fixed before the run, such as `metrics.Bounds`.
    figures: metric -> what it is in prose. `"test/accuracy"` is taken from the last evaluation;
      `"train/loss"` is its mean over the last tenth of the updates. The page opens with the first.
    references: label -> value of that first figure that a trivial method has.
    shown: the names whose figures the page opens with (default: the first three).
    sections: functions of `Trained` that draw what is particular, and return a section each. The
      first picture is the page's.
    curves: charts over training (default: one for each figure, with the references).
    groups: title -> {name: label}, the names that share a chart (default: all share one).
    measure: `(trained, member) -> {metric: value}`, figures that are no result of an evaluation,
      such as `{"samples/distance": 0.1}`.
    about: how the figures were measured.

    verdict.json has the verdict in words, whether it holds (null: not decided), and by metric and
    name a value for each seed.
    """

    comparison: train.Comparison
    claim: str
    rules: Sequence[metrics.Rule]
    figures: Mapping[str, str]
    references: Mapping[str, float] = field(default_factory=dict)
    shown: Sequence[str] = ()
    sections: Sequence[Callable[[Trained], present.Section]] = ()
    curves: Sequence[Curve] = ()
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    measure: Callable[[Trained, str], Mapping[str, float]] = lambda *_: {}
    about: str = ""

    def __call__(self, trained: Trained) -> present.Page:
        found = self.found(trained)
        verdicts = [rule(found, self.figures) for rule in self.rules]
        holds = metrics.all_hold(verdicts)
        sentence = f"{self.claim} {HOLDS[holds]}"
        said = " ".join(one.sentence for one in verdicts if one.sentence)
        verdict = {"verdict": f"{sentence} {said}", "holds": holds, **found}
        trained.run.write("verdict.json", verdict)
        curves = trained.folder / "curves.png"
        present.draw_curves(trained.lines(), curves, self.panels(), share=len(self.groups) == 2)
        table = {
            label: {name: spread(values) for name, values in found[metric].items()}
            for metric, label in self.figures.items()
        }
        sections = [
            *(section(trained) for section in self.sections),
            present.Section("Over training", "Thin: every seed. Bold: their mean.", [curves.name]),
            present.Section("Verdict", f"{said}\n\n{self.about} {SPREAD}".strip(), [], table),
        ]
        picture = next(picture for section in sections for picture in section.pictures)
        return present.Page(picture, self.headlines(found), sentence, sections)

    def headlines(self, found: metrics.Figures) -> list[present.Figure]:
        """The first figure of up to three names, beside the references."""
        metric, label = next(iter(self.figures.items()))
        baseline = ", ".join(f"{name} {value:.4g}" for name, value in self.references.items())
        return [
            present.Figure(f"{label}: {name}", spread(found[metric][name]), baseline)
            for name in self.shown or list(self.comparison.learners)[:3]
        ]

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
        groups = self.groups or {"": {name: name for name in self.comparison.learners}}
        curves = self.curves or [
            Curve(label, {"": metric}, references=self.references)
            for metric, label in self.figures.items()
        ]
        panels = []
        for curve in curves:
            keys = {what: self.comparison.keys(metric) for what, metric in curve.metrics.items()}
            for group, labels in groups.items():
                series, styles = {}, {}
                for color, (name, label) in enumerate(labels.items()):
                    for dash, what in enumerate(keys):
                        line = f"{label}, {what}" if what else label
                        series[line] = keys[what][name]
                        styles[line] = color, dash if len(keys) > 1 else color
                title = f"{group}: {curve.title}" if group else curve.title
                drawn = series, curve.references, curve.log, styles
                panels.append(present.Panel(title, *drawn))
        return panels


HOLDS = {True: "This holds.", False: "This does not hold.", None: "This run does not decide it."}
SPREAD = "Mean over the seeds, in parentheses the least and the greatest."


def spread(values: Sequence[float]) -> str:
    """Values of several seeds as text: `mean (least … greatest)`, one number where they agree."""
    least, greatest = f"{min(values):.4g}", f"{max(values):.4g}"
    mean = f"{np.mean(values):.4g}"
    return mean if least == greatest else f"{mean} ({least} … {greatest})"


def last_tenth(lines: Sequence[Mapping[str, Any]], key: str) -> float:
    """Mean of a metric of training over the last tenth of the updates: of the lines of
    metrics.jsonl whose updates all lie in it, else the last line."""
    logged = [line for line in lines if key in line]
    step = np.array([0] + [line["step"] for line in logged])
    inside = step[:-1] >= 0.9 * step[-1]
    inside[-1] = True
    values = np.array([line[key] for line in logged])
    return float(np.average(values[inside], weights=np.diff(step)[inside]))
