"""Forecasting: runs that are whole, what they conclude, and that nothing looks ahead."""

import csv
import json

import jax
import numpy as np
import pytest
from PIL import Image

from advdl import data, metrics

EVERY = ["--steps", 4, "--evaluate-every", 2, "--log-every", 2, "--save-every", 2, "--batch", 8]
TINY = ["--data", "waves", "--features", 4, "--seeds", 2, "--history", 26, "--horizon", 6, *EVERY]


def small(load, opened, **settings):
    config = load("forecast").Config(
        data="waves", features=4, seeds=2, history=26, horizon=6, **settings
    )
    return opened("forecast", config)


@pytest.mark.experiments
@pytest.mark.parametrize("decoder", ["direct", "autoregressive"])
def test_it_is_trained_drawn_resumed_and_asked(verb, load, tmp_path, monkeypatch, decoder):
    run = tmp_path / "run"
    flags = [*TINY, "--decoder", decoder, "--schedule", "constant"]
    status, _, err = verb("forecast", "train", "--run", run, *flags)
    assert status == 0, err
    verdict = json.loads((run / "verdict.json").read_text())
    for column in ("first_step", "last_step", "all_steps"):
        for what in ("skill", "mae", "rmse", "mase"):
            assert len(verdict[f"test/{what}_{column}"]["lstm"]) == 2
    assert verdict["holds"] is False and "1 to 6 steps ahead" in verdict["verdict"]
    assert np.shape(json.loads((run / "intervals.json").read_text())["offsets"]) == (2, 6)
    for name in ("ahead.png", "test.png", "curves.png"):
        with Image.open(run / "report" / name) as image:
            assert image.width > 500
    status, _, err = verb("forecast", "train", "--run", run, *flags, "--steps", 6)
    assert status == 0 and "resuming" in err, err
    whole = tmp_path / "whole"
    assert verb("forecast", "train", "--run", whole, *flags, "--steps", 6)[0] == 0
    resumed, straight = (
        json.loads((folder / "summary.json").read_text())["digest"] for folder in (run, whole)
    )
    assert resumed == straight
    status, out, err = verb("forecast", "evaluate", "--run", run, "--json", "--baselines")
    found = json.loads(out)
    assert status == 0, err
    by_step = found["test/lstm-s0/rmse_by_step"]
    assert len(by_step) == len(found["test/seasonal_naive/rmse_by_step"]) == 6
    assert by_step[0] == pytest.approx(found["test/lstm-s0/rmse_first_step"], rel=1e-5)
    assert len(found["val/lstm-s1/rmse_by_step"]) == 6

    def closed(*_):
        raise AssertionError("predict opens no data")

    monkeypatch.setattr(load("forecast").data, "open_series", closed)
    status, out, err = verb(
        "forecast", "predict", "--run", run, "--out", tmp_path / "out", "--json"
    )
    answer = json.loads(out)
    assert (
        status == 0
        and answer["after"] == "1200"
        and list(answer["forecast"]) == [f"+{n}" for n in range(1, 7)]
    ), err
    rows = list(csv.DictReader((tmp_path / "out" / "forecast.csv").read_text().splitlines()))
    assert [row["steps ahead"] for row in rows] == [str(n) for n in range(1, 7)]
    for row in rows:
        assert float(row["forecast"]) == pytest.approx(
            (float(row["seed 0"]) + float(row["seed 1"])) / 2, rel=1e-5
        )
        assert float(row["low"]) < float(row["high"])
    assert (tmp_path / "out" / "forecast.png").exists()


@pytest.mark.experiments
def test_a_series_of_ones_own_is_trained_on_and_gone_on_with(verb, tmp_path):
    values = data.open_series("waves").values[:300]
    own = tmp_path / "own.csv"
    own.write_text("day,depth\n" + "".join(f"d{n},{value:.5f}\n" for n, value in enumerate(values)))
    run = tmp_path / "run"
    flags = ["--data", f"csv:{own}:depth", "--season", 24, *TINY[2:]]
    status, _, err = verb("forecast", "train", "--run", run, *flags)
    assert status == 0, err

    def asked(path):
        return verb(
            "forecast", "predict", "--run", run, "--out", tmp_path / "out", "--json", "--csv", path
        )

    status, out, err = verb("forecast", "predict", "--run", run, "--json")
    first = json.loads(out)
    assert status == 0 and first["after"] == "d299" and first["unit"] == "depth", err
    status, out, err = asked(own)
    assert status == 0 and json.loads(out)["forecast"] == first["forecast"], err
    longer = tmp_path / "longer.csv"
    longer.write_text(own.read_text() + "d300,30\n")
    status, out, err = asked(longer)
    assert (
        status == 0
        and json.loads(out)["after"] == "d300"
        and json.loads(out)["forecast"] != first["forecast"]
    ), err
    for text, line in (
        ("a,1\nb,?\n", "line 2: '?' is no finite number"),
        ("1\n2\n", "2 values; this run forecasts from 26"),
    ):
        longer.write_text(text)
        status, _, err = asked(longer)
        assert status == 2 and line in err and err.count("\n") == 1, err


@pytest.mark.experiments
def test_one_step_without_a_season_is_enough(verb, tmp_path):
    run = tmp_path / "run"
    status, _, err = verb(
        "forecast", "train", "--run", run, *TINY, "--season", 1, "--horizon", 1, "--seeds", 1
    )
    assert status == 0, err
    verdict = json.loads((run / "verdict.json").read_text())
    assert {metric for metric in verdict if "/" in metric} == {
        f"test/{what}_first_step" for what in ("skill", "mae", "rmse", "mase")
    }
    assert isinstance(verdict["test/skill_first_step"]["lstm"][0], float)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["direct", "autoregressive"])
@pytest.mark.usefixtures("all_examples")
def test_values_that_come_later_change_no_forecast(load, opened, decoder):
    splits, experiment = small(load, opened, decoder=decoder)
    test = splits.evaluations["test"].source
    begin, changed = int(test.origins[0]), test.series.values.copy()
    changed[begin + 5 :] += 100
    other = data.SeriesSplits(test.series._replace(values=changed), 26, 6).source("test")
    rows = np.arange(len(test))
    state = experiment.learner.init(jax.random.key(0), test.read(rows[:1]))
    state = state.replace(
        players={
            name: player.replace(params=jax.tree.map(lambda x: x + 0.1, player.params))
            for name, player in state.players.items()
        }
    )
    forecast = experiment.learner.functions["lstm-s0/forecast"]
    before, after = (np.asarray(forecast(state, own.read(rows))) for own in (test, other))
    early = test.origins <= begin + 5
    np.testing.assert_array_equal(before[early], after[early])
    assert (before[~early] != after[~early]).any(1).all()


@pytest.mark.usefixtures("all_examples")
def test_errors_of_the_untrained_network_are_those_of_persistence(load, opened):
    """Which is what it begins as; by the learner's evaluation over padded batches, and by the
    baselines."""
    splits, experiment = small(load, opened)
    test = splits.evaluations["test"].source
    batches = data.EvalBatches(test, 50)
    state = experiment.learner.init(jax.random.key(0), batches[0])
    evaluate = jax.jit(experiment.learner.evaluate)
    total = evaluate(state, batches[0])
    for number in range(1, len(batches)):
        total = metrics.merge(total, evaluate(state, batches[number]))
    figures, naive = metrics.compute(total), experiment.baselines(splits)
    values, origins = test.series.values, test.origins
    by_hand = [np.abs(values[origins + h] - values[origins - 1]).mean() for h in range(6)]
    np.testing.assert_allclose(naive["test/persistence/mae_by_step"], by_hand)
    by_hand = [
        np.sqrt(np.square(values[origins + h] - values[origins + h - 24]).mean()) for h in range(6)
    ]
    np.testing.assert_allclose(naive["test/seasonal_naive/rmse_by_step"], by_hand)
    for what in ("mae_by_step", "rmse_by_step"):
        own = figures[f"lstm-s1/{what}"]
        np.testing.assert_allclose(own, naive[f"test/persistence/{what}"], rtol=1e-4)
    train = values[: int(splits.evaluations["val"].source.origins[0])]
    assert splits.spec.naive_scale == pytest.approx(np.abs(train[24:] - train[:-24]).mean())


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (
            ["--data", "wave"],
            (
                "no series 'wave'; there are co2, elnino, sunspots, waves, csv:PATH[:COLUMN]"
                " (nearest: waves"
            ),
        ),
        (["--data", "csv:none.csv"], "cannot read none.csv"),
        (["--history", 20], "--history is 20; expected a season at least, which is 24"),
        (["--horizon", 400], "too short"),
        (["--test", 0.5], "--test is 0.5; expected more than 0 and at most 0.4"),
        (["--validation", 0], "--validation is 0.0"),
        (["--decoder", "both"], "invalid choice 'both'"),
        (["--seeds", 0], "--seeds is 0"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(verb, tmp_path, flags, line):
    status, _, err = verb("forecast", "train", "--run", tmp_path / "run", *TINY, *flags)
    assert status == 2 and line in err and err.count("\n") == 1, err


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1\n2\nx\n", "line 3: 'x' is no finite number"),
        ("1\n\n2\n", "line 2: 0 cells"),
        ("1\n2\n", "own is too short"),
    ],
)
def test_a_file_that_does_not_do_is_told_in_one_line(verb, tmp_path, text, line):
    own = tmp_path / "own.csv"
    own.write_text(text)
    status, _, err = verb(
        "forecast",
        "train",
        "--run",
        tmp_path / "run",
        *TINY,
        "--data",
        f"csv:{own}",
        "--season",
        12,
    )
    assert status == 2 and line in err and err.count("\n") == 1, err
