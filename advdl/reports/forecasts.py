"""Forecasts of a time series beside those of methods without parameters. Axes: N windows, T values
of history, H steps ahead."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np

from advdl import data, metrics, present, train
from advdl.errors import UserError
from advdl.present import files
from advdl.reports.comparison import ComparisonReport, Curve, spread
from advdl.reports.trained import Trained

SHARE = 0.8
"""Share of the values that an interval is made for."""
INTERVALS = "intervals.json"


class Intervals(TypedDict):
    """What this file has: for each step of the horizon, the ends of an interval around 0."""

    share: float
    offsets: list[list[float]]


class ForecastReport(NamedTuple):
    """The report of one forecaster from several initializations; it is called with a `Trained`.

    comparison: one learner with a function `forecast`, `{"history": (B, T)} -> (B, H)`, normalized.
    Its evaluations have `rmse_first_step`, `rmse_all_steps`, `mae_by_step` and `rmse_by_step`, its
    training has `mae`, all in the unit of the series. spec: what it knows of the series.

    The forecast that is drawn and predicted is the mean over the seeds, whose square error is at
    most the mean of theirs. Its interval is measured: the middle 80 % of its errors on the
    validation part, for every step ahead. The run keeps it in intervals.json.
    """

    comparison: train.Comparison
    spec: data.SeriesSpec

    def __call__(self, trained: Trained) -> present.Page:
        columns = self.columns()
        naive = {
            name: metrics.horizon_errors(*by_step, self.spec.naive_scale)
            for name, by_step in self.naive_errors(trained.splits).items()
        }
        best = {
            column: min(naive, key=lambda name, column=column: naive[name][f"rmse_{column}"])
            for column in columns
        }

        def measure(trained, member):
            mae, rmse = (trained.figures[f"test/{member}/{w}_by_step"] for w in ("mae", "rmse"))
            found = metrics.horizon_errors(mae, rmse, self.spec.naive_scale)
            for column, name in best.items():
                error, least = found[f"rmse_{column}"], naive[name][f"rmse_{column}"]
                found[f"skill_{column}"] = metrics.skill(error, least)
            return {f"test/{metric}": value for metric, value in found.items()}

        skills = {f"test/skill_{c}": f"skill over {best[c]}, {columns[c]}" for c in columns}
        errors = {
            f"test/{what}_{column}": f"{what.upper()}, {ahead}"
            for column, ahead in columns.items()
            for what in ("mae", "rmse", "mase")
        }
        curves = [
            Curve(
                f"RMSE on the test part, {columns[column]}",
                {"": f"test/rmse_{column}"},
                log=True,
                references={name: own[f"rmse_{column}"] for name, own in naive.items()},
            )
            for column in columns
            if column != "last_step"
        ]
        curves.append(Curve("RMSE on the validation part", {"": "val/rmse_all_steps"}))
        curves.append(Curve("absolute error in training", {"": "train/mae"}))
        report = ComparisonReport(
            self.comparison,
            "The network is better than the best of persistence, seasonal-naive and drift.",
            [metrics.Bounds(at_least=dict.fromkeys(skills, 0.0))],
            skills | errors,
            sections=[self.windows_section, self.errors_section],
            curves=curves,
            measure=measure,
            about=self.about(trained.splits),
        )
        (name,), found = self.comparison.learners, report.found(trained)
        figures = [
            present.Figure(
                f"{errors[metric]}{self.spec.unit and ', '}{self.spec.unit}",
                spread(found[metric][name]),
                f"{best[column]} {naive[best[column]][f'rmse_{column}']:.4g}",
            )
            for column in columns
            for metric in [f"test/rmse_{column}"]
        ]
        return report(trained)._replace(figures=figures)

    def columns(self) -> dict[str, str]:
        """What is reported of the steps ahead, and what it is in prose."""
        step, horizon = self.spec.step, self.spec.horizon
        first = {"first_step": f"1 {step} ahead"}
        if horizon == 1:
            return first
        last = {"last_step": f"{horizon} {step}s ahead"}
        return first | last | {"all_steps": f"1 to {horizon} {step}s ahead"}

    def forecast(self, trained: Trained, history_NT: np.ndarray) -> np.ndarray:
        """(seeds, N, H) in the unit of the series, as the histories are."""
        inputs = {"history": self.spec.normalize(history_NT)}
        (name,) = self.comparison.learners
        found = [
            trained.apply(f"{member}/forecast", inputs) for member in self.comparison.members(name)
        ]
        return self.spec.denormalize(np.stack(found))

    def naive(self, history_NT: np.ndarray) -> dict[str, np.ndarray]:
        """Forecasts (N, H) of the methods without parameters."""
        return {
            name: method(history_NT, self.spec.horizon, self.spec.season)
            for name, method in metrics.BASELINES.items()
        }

    def naive_errors(self, splits: data.Splits) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Mean absolute and root mean square errors (H,) of these methods on the test part."""
        history, future = splits.evaluations["test"].source.values()
        errors = {name: found - future for name, found in self.naive(history).items()}
        return {
            name: (np.abs(error).mean(0), np.sqrt(np.square(error).mean(0)))
            for name, error in errors.items()
        }

    def baselines(self, splits: data.Splits) -> dict[str, np.ndarray]:
        """The same as figures for `evaluate --baselines`."""
        return {
            f"test/{metrics.BASELINES[name].__name__}/{what}_by_step": error
            for name, both in self.naive_errors(splits).items()
            for what, error in zip(("mae", "rmse"), both, strict=True)
        }

    def windows_section(self, trained: Trained) -> present.Section:
        """Forecasts and their intervals over the end of the test part."""
        test, val = (trained.splits.evaluations[part].source for part in ("test", "val"))
        history, future = val.values()
        offsets = metrics.error_quantiles(future - self.forecast(trained, history).mean(0), SHARE)
        trained.run.write(INTERVALS, {"share": SHARE, "offsets": offsets.tolist()})
        history, future = test.values()
        forecast = self.forecast(trained, history).mean(0)
        error = future - forecast
        inside = np.mean((offsets[0] <= error) & (error <= offsets[1]))
        rows = np.arange(len(test) - 1, -1, -max(self.spec.horizon, 6))[3::-1]
        first = max(0, int(test.origins[rows[0]]) - max(2 * self.spec.horizon, 12))
        lines = {"network": forecast[rows], **self.naive(history[rows])}
        end, places = test.series.end(first), test.origins[rows] - first
        title = f"{self.spec.name}, the end of the test part"
        self.draw(trained.folder / "test.png", end, places, lines, offsets, title)
        text = WINDOWS.format(share=SHARE, inside=inside)
        return present.Section("Forecasts over what came", text, ["test.png"])

    def errors_section(self, trained: Trained) -> present.Section:
        """Errors by steps ahead, and those of the methods without parameters."""
        naive = self.naive_errors(trained.splits)
        lines = self.comparison.figures(trained.figures, "test/rmse_by_step")
        lines |= {name: [rmse] for name, (_, rmse) in naive.items()}
        present.draw_by_step(
            lines,
            trained.folder / "ahead.png",
            f"{self.spec.name}: errors on the test part",
            f"{self.spec.step}s ahead",
            f"RMSE{self.spec.unit and ', '}{self.spec.unit}",
        )
        errors = {name: metrics.horizon_errors(*both, 1) for name, both in naive.items()}
        table = {
            ahead: {name: own[f"rmse_{column}"] for name, own in errors.items()}
            for column, ahead in self.columns().items()
        }
        return present.Section("Errors by steps ahead", ERRORS, ["ahead.png"], table)

    def draw(
        self,
        path: Path,
        series: data.Series,
        origins: np.ndarray,
        lines: Mapping[str, np.ndarray],
        offsets: np.ndarray | None,
        title: str,
    ) -> Path:
        """Draws a series and forecasts (N, H) at these origins (N,); returns the path."""
        network, *_ = lines.values()
        intervals = [] if offsets is None else [line + offsets for line in network]
        return present.draw_forecasts(
            series.values,
            {name: list(zip(origins, found, strict=True)) for name, found in lines.items()},
            path,
            [series.label(place) for place in range(len(series.values))],
            title,
            self.spec.unit,
            intervals=list(zip(origins, intervals, strict=False)),
            interval_label=f"{SHARE:.0%} interval",
        )

    def about(self, splits: data.Splits) -> str:
        """What was forecast from what."""
        test, spec = splits.evaluations["test"].source, self.spec
        label, count = test.series.label, len(test.series.values)
        first = int(test.origins[0])
        return (
            f"{spec.name}, {count:,} values, unit {spec.unit or 'none'}: {spec.history} of them are"
            f" read and {spec.horizon} forecast, at {len(test):,} origins of the test part,"
            f" {label(first)} to {label(count - 1)}. MASE is the mean absolute error over that of"
            f" seasonal-naive (a season is {spec.season}) on the training part."
        )

    def predict(self, trained: Trained, options: Any, folder: Path) -> Mapping[str, Any]:
        """What comes after the end of the series, or of that in `options.csv`."""
        spec = self.spec
        series = data.read_series(options.csv) if options.csv else spec.end()
        if (count := len(series.values)) < spec.history:
            raise UserError(
                f"{series.name} has {count} values; this run forecasts from {spec.history}"
            )
        history = series.values[None, -spec.history :]
        seeds = self.forecast(trained, history)
        lines = {"network": seeds.mean(0), **self.naive(history)}
        columns = {"forecast": lines["network"][0]}
        stored, offsets = trained.run.read(INTERVALS, Intervals), None
        if stored is not None:
            if list(map(len, offsets := stored["offsets"])) != 2 * [spec.horizon]:
                raise UserError(f"{INTERVALS} of {trained.run.folder} is of another horizon")
            offsets = np.array(offsets)
            columns |= dict(zip(("low", "high"), lines["network"] + offsets, strict=True))
        columns |= {name: found[0] for name, found in self.naive(history).items()}
        columns |= {f"seed {seed}": found for seed, found in enumerate(seeds[:, 0])}
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow([f"{spec.step}s ahead", *columns])
        for step, values in enumerate(zip(*columns.values(), strict=True), 1):
            rows.writerow([step, *(f"{value:.7g}" for value in values)])
        end = series.end(max(0, count - max(spec.history, 3 * spec.horizon)))
        origin, title = np.array([len(end.values)]), f"{series.name}, and on"
        picture = self.draw(folder / "forecast.png", end, origin, lines, offsets, title)
        return {
            "after": end.label(len(end.values) - 1),
            "unit": spec.unit,
            "forecast": {f"+{step}": float(x) for step, x in enumerate(columns["forecast"], 1)},
            "csv": str(files.write(folder / "forecast.csv", text.getvalue().encode())),
            "picture": str(picture),
        }


WINDOWS = """From a few origins, whose dots lie on the last value that was known. The network's \
forecast is the mean over the seeds. Its interval is where the middle {share:.0%} of its errors on \
the validation part lie; on the test part {inside:.1%} of all values lie in it."""
ERRORS = """Root mean square errors on the test part; the table is of the methods without \
parameters. Seasonal-naive is the value one season before, and drift adds the change over the last \
season."""
