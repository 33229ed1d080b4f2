"""Forecasting: runs that are whole, what they conclude, and that nothing looks ahead."""

import csv
import json

import jax
import numpy as np
import pytest
from PIL import Image

EVERY = ["--steps", 4, "--evaluate-every", 2, "--log-every", 2, "--save-every", 2, "--batch", 8]
TINY = ["--data", "waves", "--features", 4, "--seeds", 2, "--history", 26, "--horizon", 6, *EVERY]


def small(load, **settings):
    module = load("forecast")
    config = module.Config(data="waves", features=4, seeds=2, history=26, horizon=6, **settings)
    parts = module.data.Parts(module.data.open_series("waves"), 26, 6)
    return module, config, parts


@pytest.mark.experiments
@pytest.mark.parametrize("decoder", ["direct", "autoregressive"])
def test_it_is_trained_judged_drawn_resumed_and_asked(verb, tmp_path, decoder):
    run = tmp_path / "run"
    flags = [*TINY, "--decoder", decoder, "--schedule", "constant"]
    status, _, err = verb("forecast", "train", "--run", run, *flags)
    assert status == 0, err
    judged = json.loads((run / "verdict.json").read_text())
    assert (
        set(judged["skill"]) == {"1 step", "6 steps", "1 to 6 steps"}
        and judged["verdict"].count("ahead the network") == 3
    )
    assert (
        set(judged["persistence"]["1 step"]) == {"MAE", "RMSE", "MASE"}
        and "network, seed 1" in judged
    )
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
    assert (
        status == 0
        and len(found["s0/RMSE by step"]) == len(found["seasonal-naive/RMSE by step"]) == 6
    ), err
    assert found["s0/RMSE by step"][0] == pytest.approx(found["s0/RMSE, 1 step"], rel=1e-5)
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
    assert (tmp_path / "out" / "forecast.png").exists()


@pytest.mark.experiments
def test_a_series_of_ones_own_is_trained_on_and_gone_on_with(verb, load, tmp_path):
    module = load("forecast")
    values = module.data.open_series("waves").values[:300]
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
    judged = json.loads((run / "verdict.json").read_text())
    assert set(judged["skill"]) == {"1 step"} and judged["seasonal-naive"] == judged["persistence"]


@pytest.mark.parametrize("decoder", ["direct", "autoregressive"])
def test_values_that_come_later_change_no_forecast(load, decoder):
    module, config, parts = small(load, decoder=decoder)
    changed = parts.series.values.copy()
    changed[parts.begin + 5 :] += 100
    other = module.data.Parts(parts.series._replace(values=changed), 26, 6)
    held_out = [own.held_out().read(np.arange(len(own.held_out()))) for own in (parts, other)]
    history, future = held_out[0]["history"], held_out[0]["future"]
    network = module.Forecasts(config, parts)
    variables = network.module.init(jax.random.key(0), history[:1], future[:1])
    variables = jax.tree.map(lambda x: x + 0.1, variables)
    before, after = (
        np.asarray(network.module.apply(variables, found["history"])) for found in held_out
    )
    early = parts.held_out().origins <= parts.begin + 5
    np.testing.assert_array_equal(before[early], after[early])
    assert (before[~early] != after[~early]).any(1).all()


def test_errors_of_the_untrained_network_are_those_of_persistence(load):
    """Which is what it begins as; by the learner's evaluation over padded batches, and by the
    table."""
    module, config, parts = small(load)
    experiment = module.build(config)
    batches = module.data.EvalBatches(parts.held_out(), 50)
    state = experiment.learner.init(jax.random.key(0), batches[0])
    evaluate = jax.jit(experiment.learner.evaluate)
    total = evaluate(state, batches[0])
    for number in range(1, len(batches)):
        total = module.metrics.merge(total, evaluate(state, batches[number]))
    figures, free = module.metrics.compute(total), experiment.baselines()
    values, origins = parts.series.values, parts.origins("test")
    by_hand = [np.abs(values[origins + h] - values[origins - 1]).mean() for h in range(6)]
    np.testing.assert_allclose(free["persistence/MAE by step"], by_hand)
    by_hand = [
        np.sqrt(np.square(values[origins + h] - values[origins + h - 24]).mean()) for h in range(6)
    ]
    np.testing.assert_allclose(free["seasonal-naive/RMSE by step"], by_hand)
    for what in ("MAE by step", "RMSE by step"):
        np.testing.assert_allclose(figures[f"s1/{what}"], free[f"persistence/{what}"], rtol=1e-4)
    board = module.Board(config, module.Forecasts(config, parts))
    own, last = board.table(figures, "s0"), board.table(free, "persistence")
    assert own["1 to 6 steps"] == pytest.approx(last["1 to 6 steps"], rel=1e-4)
    train = values[: parts.end]
    assert last["1 step"]["MASE"] == pytest.approx(
        last["1 step"]["MAE"] / np.abs(train[24:] - train[:-24]).mean()
    )


def test_the_verdict_is_on_every_seed_against_the_best_that_costs_nothing(load):
    module, config, parts = small(load)
    board = module.Board(config, module.Forecasts(config, parts))
    least = min(board.baselines[f"{name}/RMSE by step"][0] for name in module.metrics.BASELINES)
    for factors, word in (
        ((0.5, 0.9), "the network beats"),
        ((0.5, 1.1), "in 1 of 2 beats"),
        ((1.2, 1.1), "does not beat"),
    ):
        figures = {}
        for n, factor in enumerate(factors):
            figures |= {
                f"s{n}/MAE by step": np.full(6, 0.1),
                f"s{n}/RMSE by step": np.full(6, factor * least),
            }
        found = board.judge(figures)
        assert word in found["verdict"].split(";")[0]
        assert found["skill"]["1 step"]["network, seed 0"] == pytest.approx(1 - factors[0] ** 2)


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
        (["--data", "csv:none.csv"], "none.csv cannot be read"),
        (["--history", 20], "--history is 20; expected a season at least, which is 24"),
        (["--horizon", 400], "too short"),
        (["--test", 0.5], "--test is 0.5; expected a share above 0 and at most 0.4"),
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
