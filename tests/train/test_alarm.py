"""Alarms: told once, when they have been true for long enough, and again only after they were
quiet."""

import json

import pytest

from advdl import reports, train

METRIC = "val/fd_pixels"


def high(figures):
    return f"x is {figures['train/x']}" if figures["train/x"] > 1 else None


def lines(*values, start=0):
    return [{"step": 10 * (start + n + 1), "train/x": x} for n, x in enumerate(values)]


def test_an_alarm_waits_for_its_steps_and_is_told_once():
    said = train.Watch([train.Alarm("too high", high, 20)]).over(lines(0, 2, 2, 2, 2, 2))
    assert said == ["too high since step 10: x is 2"]


def test_a_quiet_line_begins_anew():
    assert not train.Watch([train.Alarm("too high", high, 20)]).over(lines(2, 0, 2, 0, 2, 0))
    watch = train.Watch([train.Alarm("too high", high, 20)])
    assert len(watch.over(lines(2, 2, 2, 0))) == 1 and not watch.standing
    assert watch.over(lines(2, 2, 2, 2)) == list(watch.standing.values())
    twice = train.Watch([train.Alarm("too high", high, 20)]).over(lines(2, 2, 2, 0, 2, 2, 2))
    assert twice == ["too high since step 0: x is 2", "too high since step 40: x is 2"]


def test_lines_of_another_kind_neither_trip_nor_quiet():
    some = [
        line for one in lines(0, 2, 2, 2) for line in (one, {"step": one["step"], "test/y": 0.0})
    ]
    assert train.Watch([train.Alarm("too high", high, 20)]).over(some) == [
        "too high since step 10: x is 2"
    ]


@pytest.mark.experiments
def test_a_run_whose_discriminator_wins_says_so_keeps_its_best_and_reports_it(
    verb, monkeypatch, tmp_path
):
    alarms = [alarm._replace(steps=4) for alarm in reports.GAME_ALARMS]
    monkeypatch.setattr(reports, "GAME_ALARMS", alarms)
    monkeypatch.setattr(reports.generated, "GAME_ALARMS", alarms)
    folder = tmp_path / "run"
    flags = [
        "--preset",
        "digits",
        "--width",
        8,
        "--batch",
        16,
        "--steps",
        40,
        "--log-every",
        2,
        "--evaluate-every",
        10,
        "--learning-rate",
        1e-6,
    ]
    flags += ["--discriminator-learning-rate", 3e-3]
    status, _, err = verb("gan", "train", "--run", folder, *flags)
    assert status == 0, err
    told = [
        line for line in err.splitlines() if "alarm: the discriminator has won since step" in line
    ]
    assert len(told) == 1 and "above -0.1" in told[0]
    html = (folder / "report" / "report.html").read_text()
    assert "the discriminator has won since step" in html
    assert "best_step" in html
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    measured = [line for line in lines if METRIC in line]
    best = min(measured, key=lambda line: line[METRIC])
    assert any(str(best["step"]) == place.name for place in (folder / "checkpoints").rglob("*"))
