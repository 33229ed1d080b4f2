"""What words on a command line become."""

import dataclasses

import pytest

from advdl.cli.config import Config
from advdl.cli.parse import defaults, given, parse
from advdl.errors import UserError
from advdl.ranges import Count

PRESETS = {"laptop": Config(), "paper": Config(preset="paper", steps=9, batch=7)}


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ([], None),
        (["--runs", "a"], None),
        (["--run", "a"], "a"),
        (["--run=a=b"], "a=b"),
        (["--run"], None),
        (["--run", "a", "--run", "b"], "b"),
        (["x", "--steps", "3", "--run", "a"], "a"),
    ],
)
def test_a_flag_is_found_before_everything_is_parsed(words, value):
    assert given(words, "run") == value


def test_flags_win_over_the_preset_and_the_preset_over_the_run_that_is_there():
    stored = dataclasses.asdict(Config(steps=5, batch=3))
    assert defaults(PRESETS, None, None).steps == 1000
    assert defaults(PRESETS, None, stored).steps == 5
    assert defaults(PRESETS, "paper", stored).steps == 9
    elsewhere = dataclasses.asdict(Config(placement="pmap", mesh="data=8"))
    assert (
        defaults(PRESETS, None, elsewhere).placement,
        defaults(PRESETS, None, elsewhere).mesh,
    ) == ("mesh", "")
    config, as_json = parse(
        defaults(PRESETS, "paper", None), ["--steps", "4", "--json"], "x", "about"
    )
    assert (config.steps, config.batch, as_json) == (4, 7, True) and type(config) is Config


def test_settings_that_this_version_does_not_know_are_named():
    with pytest.raises(UserError, match="colour"):
        defaults(PRESETS, None, dataclasses.asdict(Config()) | {"colour": "red"})


@dataclasses.dataclass(frozen=True)
class Own(Config):
    width: Count = 3
    """Number of channels
    of a layer."""
    places: str = ""
    """Places (default: all)."""


def test_help_begins_with_the_settings_of_the_experiment_and_says_each_default_once(
    capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stop:
        parse(Own(), ["--help"], "x", "about", ["laptop", "paper"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    shown = [text.index(f"--{name} ") for name in ("width", "places", "run", "steps", "json")]
    assert shown == sorted(shown)
    assert "Number of channels of a layer. (default: 3)" in text
    assert text.count("Places (default: all).") == 1 and "(default: )" not in text
    assert "Presets: laptop, paper. (default: laptop)" in text


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"steps": "3"}, "config.steps is '3'; expected a whole number"),
        ({"steps": [3]}, "config.steps is a list"),
        ({"steps": 2**60}, "config.steps is 1152921504606846976"),
        ({"learning_rate": None}, "config.learning_rate is None; expected a finite number"),
        ({"learning_rate": 10**400}, "config.learning_rate is 1000"),
        ({"baselines": 1}, "config.baselines is 1; expected true or false"),
        ({"remat": "all"}, "config.remat is 'all'; expected one of none, dots"),
        ({"processes": "2"}, "config.processes is '2'; expected a whole number or null"),
        ({"stepz": 3}, "config.stepz is unknown .nearest: steps"),
        ({"run": "\ud800"}, "config.run is .*; expected a text"),
    ],
)
def test_a_stored_configuration_of_other_types_is_told_with_its_place(change, line):
    stored = dataclasses.asdict(Config())
    assert defaults(PRESETS, None, stored) == Config()
    with pytest.raises(UserError, match=line):
        defaults(PRESETS, None, stored | change)
