"""How does a series go on? An LSTM, one step ahead and many, beside the last value and the value
one season ago.

    pip install -e '.[series]'                                         # the built-in series, which are measured
    python experiments/forecast.py train                               # laptop: carbon dioxide, week by week, a year ahead
    python experiments/forecast.py train --preset elnino               # the sea's temperature by month; also sunspots, waves
    python experiments/forecast.py train --data csv:FILE --season 12   # a series of your own
    python experiments/forecast.py predict [--csv FILE]                # what comes after the end

A network that repeats the last value looks right in every picture of a series; so its errors stand
beside those of the methods that cost nothing, on the same windows: the last value (persistence),
the value one season ago (seasonal-naive), and that plus the change over the last season (with
drift), which is the one to beat where a series climbs. Skill is 1 - MSE / MSE of the best of them.
The series is parted by time, 65, 15 and 20 %; the network sees the training part alone, so does the
normalization.

Recorded on one core of an AMD EPYC, JAX 0.10.2, other work beside it: three seeds in one run, the
mean of their errors on the test part, and their skills as printed, mean (least … greatest). MAE /
RMSE in the series' unit / MASE:

    `train`: co2, ppm, 65 s           1 week ahead               52 weeks                  1 to 52 weeks
    network                           0.291 / 0.387 / 0.246      0.728 / 0.935 / 0.617     0.562 / 0.728 / 0.476
    persistence                       0.408 / 0.519 / 0.346      1.73 / 1.91 / 1.47        2.68 / 3.32 / 2.27
    seasonal-naive                    1.67 / 1.87 / 1.41         1.73 / 1.91 / 1.47        1.72 / 1.90 / 1.45
    seasonal-naive with drift         0.498 / 0.679 / 0.422      1.13 / 1.43 / 0.957       0.807 / 1.04 / 0.684
    skill                             0.44 (0.43 … 0.45)         0.57 (0.56 … 0.59)        0.51 (0.49 … 0.52)

    `train --preset elnino`: °C, 10 s   1 month ahead            12 months                 1 to 12 months
    network                           0.460 / 0.583 / 0.377      0.919 / 1.18 / 0.752      0.882 / 1.17 / 0.722
    persistence                       0.983 / 1.16 / 0.805       0.873 / 1.14 / 0.714      2.41 / 2.96 / 1.98
    seasonal-naive                    1.02 / 1.41 / 0.834        0.873 / 1.14 / 0.714      0.918 / 1.23 / 0.752
    seasonal-naive with drift         0.565 / 0.689 / 0.463      1.68 / 2.15 / 1.37        1.27 / 1.67 / 1.04
    skill                             0.28 (0.23 … 0.31)         -0.07 (-0.10 … -0.04)     0.11 (0.08 … 0.13)

    `train --preset sunspots`, 9 s    1 year ahead               11 years                  1 to 11 years
    network                           20.5 / 28.3 / 0.931        29.4 / 42.5 / 1.33        37.6 / 52.0 / 1.71
    persistence                       27.0 / 35.2 / 1.23         27.4 / 36.5 / 1.25        58.9 / 73.5 / 2.68
    seasonal-naive                    29.8 / 40.0 / 1.35         27.4 / 36.5 / 1.25        29.3 / 39.2 / 1.33
    seasonal-naive with drift         22.7 / 30.8 / 1.03         47.8 / 63.6 / 2.17        41.9 / 53.4 / 1.90
    skill                             0.15 (0.07 … 0.25)         -0.36 (-0.56 … -0.19)     -0.76 (-0.99 … -0.58)

So the network is better throughout on co2. On elnino every seed is for the first three months, and
none from the fifth on. On sunspots it is better one year ahead, and over the cycle clearly worse
than the cycle before: it has learned from 201 years of 44 sunspots on the mean, and in the test
part there are 74. Skills on co2 with `--decoder autoregressive` (383 s, beside more other work):
0.45 (0.42 … 0.47), 0.53 (0.52 … 0.54), 0.46 (0.45 … 0.47).

Features (16 or 32) and the 500 steps of the short series (of 200 to 2,000) were chosen on the
validation part; the test figures of elnino after 2,000 steps had been seen by then (skill over 1 to
12 months -0.05).
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from advdl import cli, data, metrics, models, present, train
from advdl.errors import UserError
from advdl.metrics import Mean, RootByStep, RootMean
from advdl.present import files


@dataclass(frozen=True)
class Config(cli.Config):
    data: str = "co2"
    """co2, elnino, sunspots (measured), waves (made), or csv:PATH[:COLUMN], one value a row, the
    oldest first."""
    season: int = 0
    """Values after which the series comes around (0: the series' own; 1: there is none)."""
    history: int = 0
    """Values that a forecast is made from (0: two seasons, and 24 at least)."""
    horizon: int = 0
    """Values that are forecast (0: a season, or 12 where there is none)."""
    decoder: Literal["direct", "autoregressive"] = "direct"
    """All steps at once, or one after another, each from the forecast before it."""
    features: int = 32
    """Units of the LSTM."""
    layers: int = 1
    """Of LSTMs, one on another."""
    weight_decay: float = 0.0
    """Of AdamW."""
    seeds: int = 3
    """Initializations of the network."""
    validation: float = 0.15
    """Share of the series that settings are chosen on."""
    test: float = 0.2
    """Share of the series, its end, that is reported."""


LAPTOP = dict(
    batch=64,
    steps=2000,
    learning_rate=2e-3,
    schedule="cosine",
    clip=1.0,
    evaluate_every=200,
    save_every=1000,
    log_every=50,
)
SHORT = dict(
    steps=500, evaluate_every=50, save_every=500, log_every=10
)  # series of few values are soon learned by heart
PRESETS = {
    "laptop": Config(**LAPTOP),
    "elnino": Config(preset="elnino", data="elnino", **LAPTOP | SHORT),
    "sunspots": Config(preset="sunspots", data="sunspots", **LAPTOP | SHORT),
    "waves": Config(preset="waves", data="waves", **LAPTOP),
}


@dataclass(frozen=True)
class Predict(cli.Predict):
    csv: str = ""
    """PATH[:COLUMN] of the series to go on with, in the unit of the run's own (default: the run's
    own)."""


class Forecasts:
    """The network of a run."""

    def __init__(self, config: Config, parts: data.Parts):
        self.config, self.parts = config, parts
        self.module = models.Forecaster(
            parts.horizon,
            config.decoder,
            "lstm",
            config.features,
            config.layers,
            dtype=config.dtype,
        )
        self._apply = jax.jit(self.module.apply)

    def learner(self) -> train.Learner:
        """Least squares; the autoregressive decoder learns from what came (teacher forcing), and is
        evaluated on its own."""
        config, module, scale = self.config, self.module, self.parts.scale

        def apart(variables, batch, *future):
            return module.apply(variables, batch["history"], *future) - batch["future"]

        def loss(variables, batch, rng):
            apart_BH = apart(variables, batch, batch["future"])
            return train.Loss(
                Mean.of(jnp.square(apart_BH)),
                {"absolute error": Mean.of(scale * jnp.abs(apart_BH))},
            )

        def evaluate(variables, batch):
            apart_BH = scale * apart(variables, batch)
            size_BH, square_BH = jnp.abs(apart_BH), jnp.square(apart_BH)
            test = batch["mask"] * batch["test"]
            return {
                "MAE": Mean.of(size_BH, test),
                "RMSE": RootMean.of(square_BH, test),
                "RMSE, 1 step": RootMean.of(square_BH[:, 0], test),
                "validation RMSE": RootMean.of(square_BH, batch["mask"] * ~batch["test"]),
                "MAE by step": metrics.ByStep.of(size_BH, test),
                "RMSE by step": RootByStep.of(square_BH, test),
            }

        def init(key, batch):
            return module.init(key, batch["history"], batch["future"])

        rule = train.chain(
            optax.adamw(config.scheduled(), weight_decay=config.weight_decay), config.clip
        )
        return train.minimize(
            train.Player(init, loss, rule, config.ema or None, config.accumulate, config.remat),
            evaluate,
        )

    def __call__(self, variables: train.Variables, history_BT: np.ndarray) -> np.ndarray:
        """(B, H) float64 in the series' unit, of histories in that unit."""
        found = models.in_portions(
            partial(self._apply, variables), self.parts.normalize(history_BT)
        )
        return found.astype(np.float64) * self.parts.scale + self.parts.mean


def build(config: Config) -> cli.Experiment:
    cli.at_least(0, config, "season", "history", "horizon", "weight_decay")
    cli.at_least(1, config, "features", "layers", "seeds")
    for name in ("validation", "test"):
        if not 0 < getattr(config, name) <= 0.4:
            raise UserError(
                f"--{name} is {getattr(config, name)}; expected a share above 0 and at most 0.4"
            )
    series = data.open_series(config.data, config.season)
    history = config.history or max(2 * series.season, 24)
    if history < series.season:
        raise UserError(
            f"--history is {history}; expected a season at least, which is {series.season}, for"
            " seasonal-naive"
        )
    horizon = config.horizon or (series.season if series.season > 1 else 12)
    parts = data.Parts(series, history, horizon, config.validation, config.test)
    forecasts = Forecasts(config, parts)
    board, learner = Board(config, forecasts), forecasts.learner()
    return cli.Experiment(
        learner=train.together({f"s{seed}": learner for seed in range(config.seeds)}),
        train=data.TrainBatches(parts.training(), config.batch, config.seed),
        test=data.EvalBatches(parts.held_out(), config.batch),
        report=board.report,
        predict=board.predict,
        baselines=lambda: board.baselines,
        counts=lambda batch: {"steps of the series": batch["history"].size + batch["future"].size},
    )


class Board:
    """What the networks of a run came to."""

    def __init__(self, config: Config, forecasts: Forecasts):
        self.config, self.forecasts, self.parts = config, forecasts, forecasts.parts
        self.series, self.horizon = self.parts.series, self.parts.horizon
        self.columns = {"1 step": slice(0, 1)}
        if self.horizon > 1:
            last = slice(self.horizon - 1, self.horizon)
            self.columns |= {
                f"{self.horizon} steps": last,
                f"1 to {self.horizon} steps": slice(None),
            }
        history, future = self.parts.windows(self.series.values, self.parts.origins("test"))
        self.baselines = {}
        for name, method in metrics.BASELINES.items():
            apart = method(history, self.horizon, self.series.season) - future
            self.baselines[f"{name}/MAE by step"] = np.abs(apart).mean(0)
            self.baselines[f"{name}/RMSE by step"] = np.sqrt(np.square(apart).mean(0))

    def table(self, figures: Mapping[str, Any], name: str) -> dict[str, dict[str, float]]:
        """Errors of one network or method, by steps ahead; MASE is without unit, the others have
        the series'."""
        scale = metrics.naive_scale(self.series.values[: self.parts.end], self.series.season)
        found = {}
        for column, steps in self.columns.items():
            absolute = float(figures[f"{name}/MAE by step"][steps].mean())
            square = float(np.square(figures[f"{name}/RMSE by step"][steps]).mean())
            scaled = absolute / scale if scale else float("nan")
            found[column] = {"MAE": absolute, "RMSE": square**0.5, "MASE": scaled}
        return found

    def judge(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Errors of everyone, skills of every seed, and whether the network is better than the best
        of what costs nothing."""
        free = {name: self.table(self.baselines, name) for name in metrics.BASELINES}
        own = {f"network, seed {n}": self.table(figures, f"s{n}") for n in range(self.config.seeds)}
        said, skills = [], {}
        for column in self.columns:
            best = min(free, key=lambda name, column=column: free[name][column]["RMSE"])
            least = free[best][column]["RMSE"]
            skills[column] = {"against": best} | {
                name: metrics.skill(own[name][column]["RMSE"], least) for name in own
            }
            each = [skills[column][name] for name in own]
            better = sum(value > 0 for value in each)
            word = (
                "beats"
                if better == len(each)
                else "does not beat"
                if not better
                else f"in {better} of {len(each)} beats"
            )
            span = f"{np.mean(each):.2f} ({min(each):.2f} … {max(each):.2f})"
            said.append(f"{column} ahead the network {word} {best}: skill {span}")
        return {"verdict": "; ".join(said) + ".", "skill": skills, **own, **free}

    def report(
        self, state: train.State, run: train.Run, figures: Mapping[str, Any]
    ) -> list[present.Section]:
        folder, found = run.report, self.judge(figures)
        run.write("verdict.json", found)
        cli.say(found["verdict"])
        seeds, unit = range(self.config.seeds), self.series.unit
        lines = {"network": [figures[f"s{n}/RMSE by step"] for n in seeds]}
        lines |= {name: [self.baselines[f"{name}/RMSE by step"]] for name in metrics.BASELINES}
        title, ahead = f"{self.series.name}: errors on the test part", f"{self.series.step}s ahead"
        present.draw_by_step(
            lines, folder / "ahead.png", title, ahead, f"RMSE{unit and ', '}{unit}"
        )
        self.draw(state, folder / "test.png")
        free = {name: self.table(self.baselines, name) for name in metrics.BASELINES}
        last = list(self.columns)[-1]
        pairs = {"RMSE, 1 step": ("1 step", f"one {self.series.step} ahead")}
        if self.horizon > 1:
            pairs["RMSE"] = last, f"1 to {self.horizon} ahead"
        panels = [
            present.Panel(
                f"RMSE on the test part, {title}",
                {"network": [f"test/s{n}/{figure}" for n in seeds]},
                unit,
                log=True,
                references={name: table[column]["RMSE"] for name, table in free.items()},
            )
            for figure, (column, title) in pairs.items()
        ]
        panels.append(
            present.Panel(
                "RMSE on the validation part",
                {"network": [f"test/s{n}/validation RMSE" for n in seeds]},
                unit,
            )
        )
        panels.append(
            present.Panel(
                "absolute error in training",
                {"network": [f"train/s{n}/absolute error" for n in seeds]},
                unit,
            )
        )
        present.draw_curves(
            present.read_metrics(run.folder / "metrics.jsonl"), folder / "curves.png", panels
        )
        skills = {f"skill, {column}": value for column, value in found["skill"].items()}
        rows = {
            f"{name}, {column}": ", ".join(f"{what} {value:.3g}" for what, value in row.items())
            for name in (*(f"network, seed {n}" for n in seeds), *free)
            for column, row in found[name].items()
        }
        return [
            present.Section(
                "The verdict", f"{found['verdict']}\n\n{self.about()}", ["ahead.png"], skills | rows
            ),
            present.Section("Forecasts over what came", TEST, ["test.png"]),
            present.Section("Over training", "Thin every seed, bold their mean.", ["curves.png"]),
        ]

    def about(self) -> str:
        """What was asked on what."""
        parts, label = self.parts, self.series.label
        count = len(parts.origins("test"))
        return (
            f"{self.series.name}, {len(self.series.values):,} values, unit"
            f" {self.series.unit or 'none'}: {parts.history} of them are read and {parts.horizon}"
            f" forecast, at {count:,} origins of the test part, {label(parts.begin)} to"
            f" {label(len(self.series.values) - 1)}. The training part ends with"
            f" {label(parts.end - 1)}. MASE is the mean absolute error over that of seasonal-naive"
            f" (a season is {self.series.season}) on the training part."
        )

    def draw(self, state: train.State, path: Path, most: int = 4) -> None:
        """The end of the test part, and forecasts from origins a horizon apart and more."""
        origins, horizon = self.parts.origins("test"), self.horizon
        chosen = np.unique(origins[-1] - np.arange(most) * max(horizon, 6))
        chosen = chosen[chosen >= origins[0]]
        first = max(0, int(chosen[0]) - max(2 * horizon, 12))
        history, _ = self.parts.windows(self.series.values, chosen)
        each = {
            "network (first seed)": self.forecasts(state["s0/model"].average, history)
        } | self.naive(history)
        lines = {
            name: [(int(origin) - first, line) for origin, line in zip(chosen, found, strict=True)]
            for name, found in each.items()
        }
        labels = [self.series.label(n) for n in range(first, len(self.series.values))]
        present.draw_forecasts(
            self.series.values[first:],
            lines,
            path,
            labels,
            f"{self.series.name}, end of the test part",
            self.series.unit,
            "what came",
        )

    def naive(self, history: np.ndarray) -> dict[str, np.ndarray]:
        """What the last value and the last season say, (B, H) each."""
        methods = {"persistence": metrics.persistence, "seasonal-naive": metrics.seasonal_naive}
        return {
            name: method(history, self.horizon, self.series.season)
            for name, method in methods.items()
        }

    def predict(self, state: train.State, options: Predict, folder: Path) -> dict[str, Any]:
        """What comes after the end: the mean of the seeds, whose square error is at most the mean
        of theirs."""
        series, history = (
            data.read_series(options.csv) if options.csv else self.series,
            self.parts.history,
        )
        if len(series.values) < history:
            raise UserError(
                f"{series.name} has {len(series.values)} values; this run forecasts from {history}"
            )
        known = series.values[None, -history:]
        seeds = [
            self.forecasts(state[f"s{n}/model"].average, known)[0] for n in range(self.config.seeds)
        ]
        each = {"forecast": np.mean(seeds, 0)} | {
            name: found[0] for name, found in self.naive(known).items()
        }
        columns = each | {f"seed {n}": line for n, line in enumerate(seeds)}
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow([f"{self.series.step}s ahead", *columns])
        rows.writerows(
            [n + 1, *(f"{line[n]:.7g}" for line in columns.values())] for n in range(self.horizon)
        )
        written = files.write(folder / "forecast.csv", text.getvalue().encode())
        first = max(0, len(series.values) - max(history, 3 * self.horizon))
        count = len(series.values) - first
        lines = {name: [(count, line)] for name, line in each.items()}
        lines["seeds"] = [(count, line) for line in seeds]
        labels = [series.label(n) for n in range(first, len(series.values))]
        picture = present.draw_forecasts(
            series.values[first:],
            lines,
            folder / "forecast.png",
            labels,
            f"{series.name}, and on",
            self.series.unit,
        )
        ahead = {f"+{n + 1}": float(value) for n, value in enumerate(each["forecast"])}
        after = series.label(len(series.values) - 1)
        return {
            "after": after,
            "unit": self.series.unit,
            "forecast": ahead,
            "csv": str(written),
            "picture": str(picture),
        }


TEST = """From a few origins, whose dots lie on the last value that was known."""


if __name__ == "__main__":
    cli.main(build, PRESETS, Predict)
