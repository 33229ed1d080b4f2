"""Reports of comparisons, on figures without a training."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
from PIL import Image

from advdl import metrics, present, train
from advdl.reports import ComparisonReport, Curve
from advdl.reports.comparison import last_tenth, spread

COMPARISON = train.Comparison({"a": None, "b": None}, 2)
LABELS = {"test/accuracy": "accuracy on the test set", "train/loss": "loss in training"}
CURVES = [
    Curve("loss", {"": "train/loss"}, log=True),
    Curve("accuracy", {"training": "train/accuracy", "test": "test/accuracy"}),
]


def trained(folder, accuracy):
    """accuracy: by name a value for each seed."""
    keys = COMPARISON.keys("test/accuracy")
    figures = {
        key: value for name in keys for key, value in zip(keys[name], accuracy[name], strict=True)
    }
    lines = [
        {"step": step, f"train/{member}/loss": 1 / step, f"train/{member}/accuracy": 0.5}
        for name in keys
        for member in COMPARISON.members(name)
        for step in (5, 10, 20)
    ] + [{"step": step, **figures} for step in (10, 20)]
    run = train.Run(folder)
    run.report.mkdir(parents=True)
    return SimpleNamespace(run=run, folder=run.report, figures=figures, lines=lambda: lines)


def report(**settings):
    rules = settings.pop("rules", [metrics.Bounds(at_least={"test/accuracy": 0.9}, names=["a"])])
    return ComparisonReport(
        COMPARISON, "A learns it.", rules, LABELS, **{"curves": CURVES} | settings
    )


def test_the_page_and_the_verdict_have_every_figure_by_name_and_seed(tmp_path):
    given = trained(tmp_path, {"a": (0.95, 0.97), "b": (0.5, 0.6)})
    page = report(references={"chance": 0.1}, shown=["a"])(given)
    assert page.sentence == "A learns it. This holds."
    label = "accuracy on the test set: a"
    assert page.figures == [present.Figure(label, "0.96 (0.95 … 0.97)", "chance 0.1")]
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["holds"] is True and verdict["verdict"].startswith(page.sentence)
    assert "worst of 2 seeds has accuracy on the test set 0.95 (at least 0.9)" in verdict["verdict"]
    assert verdict["test/accuracy"] == {"a": [0.95, 0.97], "b": [0.5, 0.6]}
    assert verdict["train/loss"] == {"a": [1 / 20] * 2, "b": [1 / 20] * 2}
    assert page.sections[-1].figures["accuracy on the test set"]["b"] == "0.55 (0.5 … 0.6)"
    with Image.open(tmp_path / "report" / page.picture) as image:
        assert image.width > 500
    present.write_report(tmp_path / "report", "a run", page)


def test_a_claim_that_fails_or_is_not_decided_is_said_to(tmp_path):
    low = trained(tmp_path / "low", {"a": (0.95, 0.8), "b": (0.5, 0.6)})
    assert report()(low).sentence.endswith("This does not hold.")
    assert (
        "has accuracy on the test set 0.8 (at least 0.9, missed)"
        in (tmp_path / "low" / "verdict.json").read_text()
    )
    order = [metrics.Order("test/accuracy", "b", "a")]
    two = trained(tmp_path / "two", {"a": (0.95, 0.8), "b": (0.5, 0.6)})
    assert report(rules=order)(two).sentence.endswith("This run does not decide it.")


def test_sections_see_the_run_and_come_first_and_measured_figures_are_among_the_others(tmp_path):
    given = trained(tmp_path, {"a": (1, 1), "b": (0, 0)})

    def draw(trained):
        (trained.folder / "own.png").write_bytes(b"")
        return present.Section(f"{len(trained.figures)} figures", "", ["own.png"])

    made = report(
        sections=[draw],
        measure=lambda trained, member: {"samples/distance": float(member[-1])},
    )
    made = dataclasses.replace(made, figures=LABELS | {"samples/distance": "distance"})
    page = made(given)
    assert page.sections[0].title == "4 figures" and page.picture == "own.png"
    assert made.found(given)["samples/distance"] == {"a": [0.0, 1.0], "b": [0.0, 1.0]}


def test_a_chart_has_a_color_for_each_name_and_a_dash_for_each_metric():
    groups = {"first": {"a": "A"}, "second": {"b": "B"}}
    panels = report(groups=groups).panels()
    assert [panel.title for panel in panels] == [
        "first: loss",
        "second: loss",
        "first: accuracy",
        "second: accuracy",
    ]
    assert panels[3].series == {
        "B, training": ["train/b-s0/accuracy", "train/b-s1/accuracy"],
        "B, test": ["test/b-s0/accuracy", "test/b-s1/accuracy"],
    }
    assert panels[3].styles == {"B, training": (0, 0), "B, test": (0, 1)}
    assert [panel.title for panel in report(curves=()).panels()] == list(LABELS.values())
    both = report().panels()
    assert [panel.title for panel in both] == ["loss", "accuracy"]
    assert list(both[0].series) == ["a", "b"] and both[0].log
    assert both[0].styles == {"a": (0, 0), "b": (1, 1)}


def test_the_last_tenth_is_that_of_the_updates_whatever_the_windows():
    lines = [{"step": step, "a": float(step)} for step in (50, 85, 90, 92, 100)] + [
        {"step": 95, "b": 1.0}
    ]
    assert last_tenth(lines, "a") == pytest.approx((2 * 92 + 8 * 100) / 10)
    assert last_tenth(lines[:2], "a") == 85.0


def test_one_seed_has_no_spread():
    assert spread([0.123456]) == "0.1235" and spread([1.0, 2.0]) == "1.5 (1 … 2)"
