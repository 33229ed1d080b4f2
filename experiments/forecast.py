"""How does a series go on? An LSTM, one step ahead and many, beside methods without parameters.

A network that repeats the last value looks right in every picture of a series. So its errors stand
beside those of the last value (persistence), of the value one season ago (seasonal-naive), and of
that plus the change over the last season (with drift). Skill is 1 - MSE / MSE of the best of them.

    pip install -e '.[series]'                                          # the measured series
    python experiments/forecast.py train                                # CO2 in the air, by week
    python experiments/forecast.py train --data csv:FILE --season 12    # a series of your own
    python experiments/forecast.py predict [--csv FILE]                 # what comes after the end

Skill on co2, three seeds: 0.44 a week ahead, 0.51 over 1 to 52. All recorded results: README.md.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Literal

import jax.numpy as jnp
import optax

from advdl import cli, data, models, reports, train
from advdl.metrics import ByStep, Mean, RootByStep, RootMean

Part = Annotated[float, cli.Range(0, 0.4, "(]")]


@dataclass(frozen=True)
class Config(cli.Config):
    data: str = "co2"
    """Series: co2, elnino, sunspots (measured), waves (synthetic), or csv:PATH[:COLUMN], one value
    a row, the oldest first."""
    season: cli.Natural = 0
    """Number of values of a season (0: the series' own; 1: there is none)."""
    history: cli.Natural = 0
    """Number of values that a forecast is made from (0: two seasons, and 24 at least)."""
    horizon: cli.Natural = 0
    """Number of values that are forecast (0: a season, or 12 where there is none)."""
    decoder: Literal["direct", "autoregressive"] = "direct"
    """Forecast all steps at once, or one after another, each from the forecast before it."""
    features: cli.Count = 32
    """Number of units of each LSTM."""
    layers: cli.Few = 1
    """Number of LSTM layers."""
    weight_decay: cli.NonNegative = 0.0
    """Weight decay of AdamW."""
    seeds: cli.Few = 3
    """Number of initializations of the network."""
    validation: Part = 0.15
    """Share of the series that settings are chosen on."""
    test: Part = 0.2
    """Share of the series, its end, that is reported."""


@dataclass(frozen=True)
class Predict(cli.Predict):
    csv: str = ""
    """PATH[:COLUMN] of the series to go on with, in the unit of the run's own (default: the end of
    the run's own)."""


LAPTOP = Config(batch=64, steps=2000, learning_rate=2e-3, schedule="cosine", clip=1.0)
LAPTOP = replace(LAPTOP, evaluate_every=200, save_every=1000)
# Short series are soon overfitted.
SHORT = replace(LAPTOP, steps=500, evaluate_every=50, save_every=500, log_every=10)
PRESETS = {
    "laptop": LAPTOP,
    "elnino": replace(SHORT, preset="elnino", data="elnino"),
    "sunspots": replace(SHORT, preset="sunspots", data="sunspots"),
    "waves": replace(LAPTOP, preset="waves", data="waves"),
}


def load(config: Config) -> data.Splits:
    @cache
    def parts():
        series = data.open_series(config.data, config.season)
        shares = config.validation, config.test
        return data.SeriesSplits(series, config.history, config.horizon, *shares)

    sources = {part: lambda part=part: parts().source(part) for part in ("train", "val", "test")}
    return data.Splits.of_sources(lambda: parts().spec, sources, config.batch, config.seed)


def build(config: Config, spec: data.SeriesSpec) -> cli.Experiment:
    size = config.features, config.layers
    network = models.Forecaster(spec.horizon, config.decoder, "lstm", *size, dtype=config.dtype)

    def init(key, batch):
        return network.init(key, batch["history"], batch["future"])

    def forecast(variables, batch):
        return network.apply(variables, batch["history"])

    def loss(variables, batch, rng):
        """The autoregressive decoder learns from the values that came (teacher forcing)."""
        forecast_BH = network.apply(variables, batch["history"], batch["future"])
        error_BH = forecast_BH - batch["future"]
        mae = Mean.of(spec.scale * jnp.abs(error_BH))
        return train.Loss(Mean.of(jnp.square(error_BH)), {"mae": mae})

    def evaluate(variables, batch):
        error_BH = spec.scale * (forecast(variables, batch) - batch["future"])
        square_BH, mask = jnp.square(error_BH), batch["mask"]
        return {
            "rmse_first_step": RootMean.of(square_BH[:, 0], mask),
            "rmse_all_steps": RootMean.of(square_BH, mask),
            "rmse_by_step": RootByStep.of(square_BH, mask),
            "mae_by_step": ByStep.of(jnp.abs(error_BH), mask),
        }

    rule = optax.adamw(config.scheduled(), weight_decay=config.weight_decay)
    player = config.player(init, loss, train.chain(rule, config.clip))
    learner = train.minimize(player, evaluate, functions={"forecast": forecast})
    compared = train.Comparison({"lstm": learner}, config.seeds)
    report = reports.ForecastReport(compared, spec)
    return cli.Experiment(
        compared.learner,
        report,
        report.predict,
        baselines=report.baselines,
        units=lambda batch: {"values": batch["history"].size + batch["future"].size},
    )


if __name__ == "__main__":
    cli.main(load, build, PRESETS, Predict)
