"""From the words of a command line to a configuration, by tyro; whatever is wrong in one line."""

import contextlib
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tyro

from advdl.cli.config import NOT_STORED, Config, flag
from advdl.errors import UserError, nearest

Json = Annotated[
    bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="Print the result as JSON.")
]


def parse(default: Any, arguments: Sequence[str], program: str, about: str) -> tuple[Any, bool]:
    """`(settings, as_json)`: `default` with what the arguments change, and whether `--json` was
    among them.

    `--help` prints the flags and ends the process with status 0. Raises UserError for anything else
    tyro refuses.
    """
    kind = type(default)
    flags = dataclasses.make_dataclass(
        kind.__name__, [("json", Json, False)], bases=(kind,), frozen=True
    )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed, unknown = tyro.cli(
                flags,
                prog=program,
                description=about.partition("\n")[0],
                args=list(arguments),
                default=flags(**_fields(default)),
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(_one_line(said.getvalue())) from None
    if unknown:
        known = [flag(field.name) for field in dataclasses.fields(default)] + ["--json", "--help"]
        word = unknown[0].partition("=")[0]
        raise UserError(f"unknown argument {word!r}{nearest(word, known)}; --help lists them all")
    return kind(**{name: getattr(parsed, name) for name in _fields(default)}), parsed.json


def _fields(settings: Any) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


def given(arguments: Sequence[str], name: str) -> str | None:
    """The value of `--name VALUE` or `--name=VALUE` before everything is parsed; None where it is
    not given."""
    value = None
    for word, after in zip(arguments, [*arguments, None][1:], strict=True):
        if word == f"--{name}":
            value = after
        elif word.startswith(f"--{name}="):
            value = word.partition("=")[2]
    return value


def defaults(
    presets: Mapping[str, Config], preset: str | None, stored: Mapping[str, Any] | None
) -> Config:
    """What unnamed flags are: those of the preset that was asked for, else of the run that is
    there, else `laptop`'s.

    The settings of `NOT_STORED` are those of `laptop`: a run made on a mesh is evaluated where its
    command says, not where it was trained.
    """
    if preset is not None and preset not in presets:
        raise UserError(
            f"no preset {preset!r}; there are {', '.join(presets)}{nearest(preset, presets)}"
        )
    if stored is None or preset is not None:
        return presets[preset or "laptop"]
    kind = type(presets["laptop"])
    fields = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(set(stored) - fields):
        raise UserError(
            f"the run's config.json has settings that {kind.__module__} does not know:"
            f" {', '.join(unknown)}"
        )
    return dataclasses.replace(
        kind(**stored), **{name: getattr(presets["laptop"], name) for name in NOT_STORED}
    )


def _one_line(box: str) -> str:
    """tyro's framed message without frame, title and the help text that follows it."""
    lines = [line.strip(" │╭╮╰╯─|+-") for line in box.splitlines()]
    lines = [line for line in lines if line]
    ends = [
        n
        for n, line in enumerate(lines)
        if line.startswith(("Argument helptext", "For full helptext"))
    ]
    return " ".join(lines[1 : ends[0] if ends else None]).replace(" .", ".")
