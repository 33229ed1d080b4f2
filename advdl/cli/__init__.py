"""The verbs every experiment has: train, evaluate, predict, bench, plan.

An experiment file defines its configuration, opens its data in `load`, puts networks and losses
together in `build`, and ends with `cli.main(load, build, PRESETS, Predict)`. Everything around
that, from flags to the run folder, is here.
"""

from advdl.cli.config import (
    Config,
    Predict,
    TextConfig,
    at_least,
    parse_checkpoint,
    parse_choices,
    parse_factors,
    parse_names,
    parse_size,
    parse_units,
)
from advdl.cli.experiment import Experiment
from advdl.cli.game import GameConfig
from advdl.cli.main import main, run
from advdl.cli.other_run import GeneratorRun, OtherRun
from advdl.cli.progress import log
from advdl.cli.settings import EncoderSettings, OptimizerSettings, SceneSettings
from advdl.ranges import (
    Border,
    Count,
    Few,
    Length,
    Many,
    Natural,
    NonNegative,
    Positive,
    Range,
    Rate,
    Share,
    Side,
)

__all__ = [
    "Border",
    "Config",
    "Count",
    "EncoderSettings",
    "Experiment",
    "Few",
    "GameConfig",
    "Length",
    "Many",
    "Natural",
    "NonNegative",
    "OptimizerSettings",
    "GeneratorRun",
    "OtherRun",
    "Positive",
    "Predict",
    "Range",
    "Rate",
    "SceneSettings",
    "Share",
    "Side",
    "TextConfig",
    "at_least",
    "log",
    "main",
    "parse_checkpoint",
    "parse_choices",
    "parse_factors",
    "parse_names",
    "parse_size",
    "parse_units",
    "run",
]
