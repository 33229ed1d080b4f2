"""Reports of forecasts, with functions in place of networks."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from advdl import data, metrics, train
from advdl.errors import UserError
from advdl.reports import ForecastReport

PARTS = data.SeriesSplits(data.open_series("waves"), 26, 6)
COMPARISON = train.Comparison({"lstm": None}, 2)
REPORT = ForecastReport(COMPARISON, PARTS.spec)


def trained(folder, factors=(1.0, 1.0)):
    """The first network says what came a season before, the second that and 1 more. Their errors
    are those of the best of the others, times these factors."""

    def apply(function, inputs):
        history = PARTS.spec.denormalize(inputs["history"])
        more = float(function == "lstm-s1/forecast")
        return PARTS.spec.normalize(metrics.seasonal_naive(history, 6, 24) + more)

    splits = data.Splits.of_sources(
        lambda: PARTS.spec,
        {part: (lambda part=part: PARTS.source(part)) for part in ("train", "val", "test")},
        50,
        0,
    )
    naive = REPORT.naive_errors(splits).values()
    least = np.min([rmse for _, rmse in naive], 0)
    figures, lines = {}, []
    for seed, factor in enumerate(factors):
        member = f"lstm-s{seed}"
        figures |= {
            f"test/{member}/rmse_by_step": factor * least,
            f"test/{member}/mae_by_step": np.full(6, 0.1),
        }
        keys = ("test/{}/rmse_first_step", "test/{}/rmse_all_steps", "val/{}/rmse_all_steps")
        lines += [
            {"step": step, key.format(member): 1 / step}
            for step in (5, 10)
            for key in (*keys, "train/{}/mae")
        ]
    run = train.Run(folder)
    run.report.mkdir(parents=True, exist_ok=True)
    return SimpleNamespace(
        run=run,
        folder=run.report,
        splits=splits,
        apply=apply,
        figures=figures,
        lines=lambda: lines,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factors", "holds"), [((0.5, 0.9), True), ((0.5, 1.1), False), ((1.2, 1.1), False)]
)
def test_every_seed_has_to_be_better_than_the_best_method_without_parameters(
    tmp_path, factors, holds
):
    page = REPORT(trained(tmp_path, factors))
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["holds"] is holds
    assert verdict["test/skill_first_step"]["lstm"] == pytest.approx(
        [1 - factor**2 for factor in factors]
    )
    assert page.picture == "test.png"
    assert [figure.label for figure in page.figures] == [
        "RMSE, 1 step ahead",
        "RMSE, 6 steps ahead",
        "RMSE, 1 to 6 steps ahead",
    ]
    assert page.figures[0].baseline.startswith("seasonal-naive")
    assert all((tmp_path / "report" / f"{name}.png").exists() for name in ("test", "ahead"))


@pytest.mark.slow
def test_the_forecast_is_the_mean_of_the_seeds_and_its_interval_is_kept_and_used(tmp_path):
    given = trained(tmp_path)
    REPORT(given)
    stored = json.loads((tmp_path / "intervals.json").read_text())
    history, future = given.splits.evaluations["val"].source.values()
    error = future - metrics.seasonal_naive(history, 6, 24) - 0.5
    np.testing.assert_allclose(
        stored["offsets"], metrics.error_quantiles(error, stored["share"]), atol=1e-5
    )
    given.splits = None
    found = REPORT.predict(given, SimpleNamespace(csv=""), tmp_path)
    assert found["after"] == "1200" and list(found["forecast"]) == [f"+{n}" for n in range(1, 7)]
    rows = list(csv.DictReader((tmp_path / "forecast.csv").read_text().splitlines()))
    for step, row in enumerate(rows):
        row = {name: float(value) for name, value in row.items()}
        assert row["forecast"] == pytest.approx(row["seasonal-naive"] + 0.5, rel=1e-5)
        assert row["seed 1"] == pytest.approx(row["seed 0"] + 1, rel=1e-5)
        for end, name in enumerate(("low", "high")):
            offset = stored["offsets"][end][step]
            assert row[name] == pytest.approx(row["forecast"] + offset, rel=1e-5)


def test_without_a_finished_report_there_is_no_interval_and_a_short_series_is_refused(tmp_path):
    given = trained(tmp_path)
    REPORT.predict(given, SimpleNamespace(csv=""), tmp_path)
    assert "low" not in (tmp_path / "forecast.csv").read_text()
    (tmp_path / "own.csv").write_text("1\n2\n")
    with pytest.raises(UserError, match="own has 2 values; this run forecasts from 26"):
        REPORT.predict(given, SimpleNamespace(csv=str(tmp_path / "own.csv")), tmp_path)
