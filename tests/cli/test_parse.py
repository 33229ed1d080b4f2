"""What words on a command line become."""

import dataclasses

import pytest

from advdl.cli.config import Config
from advdl.cli.parse import defaults, given, parse
from advdl.errors import UserError

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
