"""From the words of a command line to a configuration, by tyro; whatever is wrong in one line."""

import ast
import contextlib
import dataclasses
import inspect
import io
import itertools
import os
import shutil
import textwrap
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import tyro

from advdl.cli.config import NOT_STORED, Config, flag
from advdl.errors import UserError, as_user_error, nearest
from advdl.reading import convert

NARROWEST = 40  # columns: with fewer the help text never comes to an end
Json = Annotated[bool, tyro.conf.FlagCreatePairsOff]


def parse(
    default: Any, arguments: Sequence[str], program: str, about: str, presets: Iterable[str] = ()
) -> tuple[Any, bool]:
    """`(settings, as_json)`: `default` with what the arguments change, and whether `--json` was
    among them.

    `--help` prints the flags, those of the most specific class first, and ends the process with
    status 0. presets: their names, for that text. Raises UserError for anything else tyro refuses.
    """
    kind = type(default)
    helped = not {"-h", "--help"}.isdisjoint(arguments)
    if shutil.get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)
    flags = _flags(default, _help_texts(kind, presets) if helped else {})
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed, unknown = tyro.cli(
                flags,
                prog=program,
                description=about.partition("\n")[0],
                args=list(arguments),
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


def _flags(default: Any, texts: Mapping[str, str]) -> type:
    """A dataclass of the settings and `json`, which is what tyro makes flags of."""
    hints = typing.get_type_hints(type(default), include_extras=True)
    values, fields = _fields(default), []
    for name in sorted(values, key=[*texts, *values].index):
        text, value = texts.get(name, ""), values[name]
        unsaid = value in ("", None, ()) or "(default:" in text
        shown = tyro.conf.arg(help=text, help_behavior_hint="" if unsaid else f"(default: {value})")
        fields.append((name, Annotated[hints[name], shown], dataclasses.field(default=value)))
    as_json = tyro.conf.arg(help="Print the result as JSON.", help_behavior_hint="")
    fields.append(("json", Annotated[Json, as_json], dataclasses.field(default=False)))
    return dataclasses.make_dataclass(type(default).__name__, fields, frozen=True)


def _help_texts(kind: type, presets: Iterable[str]) -> dict[str, str]:
    """The docstrings of a dataclass's fields, each on one line; those of the class itself come
    first, then those of the classes that it inherits."""
    texts = {}
    for base in kind.__mro__[:-1]:
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except (OSError, TypeError):  # a class that no file defines
            continue
        body = getattr(ast.parse(source).body[0], "body", [])
        for field, text in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                name, written = ast.unparse(field.target), ast.literal_eval(text.value)
                texts.setdefault(name, " ".join(written.split()))
    if "preset" in texts and presets:
        texts["preset"] += f" Presets: {', '.join(presets)}."
    return texts


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
    with as_user_error("restore the run's config.json or give another --run"):
        found = convert(type(presets["laptop"]), stored, "config")
    return found.but(**{name: getattr(presets["laptop"], name) for name in NOT_STORED})


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
