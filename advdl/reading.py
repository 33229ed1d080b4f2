"""Files, folders and JSON that others wrote, read and checked in one place.

Nothing that is read is executed, nothing waits (as a named pipe would have it), and whatever is
wrong is a `UserError` that names the place.
"""

import contextlib
import contextvars
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import stat
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Literal

from advdl.errors import UserError, nearest

MOST_BYTES = 2**31
"""Files beyond this size are not read whole."""
LARGEST = 2**53
"""Numbers of JSON are smaller than this: whole ones are exact as floats."""

Path = str | os.PathLike[str]


def expand(path: Path) -> pathlib.Path:
    """The path, with `~` as a person's home. Raises UserError for a name that no file can have."""
    name = os.fspath(path)
    if "\0" in name or not is_unicode(name):
        raise UserError(f"{name!r} can be no file's name; rename it")
    if (expanded := os.path.expanduser(name)).startswith("~"):
        raise UserError(f"{name} is in the home of nobody known here; give the whole path")
    return pathlib.Path(expanded)


def exists(path: Path) -> bool:
    """Whether anything is there. Raises UserError where that cannot be known."""
    return _mode(expand(path)) != 0


def is_folder(path: Path) -> bool:
    """Whether a folder is there. Raises UserError where that cannot be known."""
    return stat.S_ISDIR(_mode(expand(path)))


def is_file(path: Path) -> bool:
    """Whether a file of bytes is there, no device or pipe. Raises UserError as `is_folder` does."""
    return stat.S_ISREG(_mode(expand(path)))


def open_file(path: Path, size: int = MOST_BYTES) -> BinaryIO:
    """A file of at most `size` bytes, open for reading. Raises UserError for anything else."""
    path = expand(path)
    with _unreadable_as_user_error(path):
        # A pipe or a device would otherwise wait for whoever writes.
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(opened)
        if stat.S_ISREG(status.st_mode) and status.st_size <= size:
            return os.fdopen(opened, "rb")
        os.close(opened)
    kind = next((name for name, holds in _KINDS if holds(status.st_mode)), None)
    what = f"is a {kind}" if kind else f"has {status.st_size:,} bytes, over {size:,}"
    raise UserError(f"cannot read {path}: it {what}; give a file")


def read_bytes(path: Path, size: int = MOST_BYTES) -> bytes:
    """What a file holds. Raises UserError as `open_file` does."""
    path = expand(path)
    with open_file(path, size) as file, _unreadable_as_user_error(path):
        content = file.read()
    if (seen := _seen.get()) is not None:
        seen[str(path)] = hashlib.sha256(content).hexdigest()
    return content


def read_text(path: Path) -> str:
    """What a file of UTF-8 holds, without a byte order mark. Raises UserError with the place of
    what is none."""
    return decode(read_bytes(path), str(path))


def standard_input() -> list[str]:
    """The lines of standard input, of UTF-8 whatever its encoding is said to be. Raises UserError
    with the place of what is none."""
    stream = sys.stdin
    binary = isinstance(stream, io.TextIOWrapper)
    text = decode(stream.buffer.read(), "standard input") if binary else stream.read()
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def decode(content: bytes, name: str) -> str:
    """Bytes of UTF-8 as text. Raises UserError, about `name`, with the place of what is none."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} (0x{error.object[error.start]:02x})"
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{name} is not UTF-8: {byte}, line {line}, begins no character; convert it to UTF-8"
        ) from error


def folders(place: Path) -> list[pathlib.Path]:
    """The folders in a folder in the order of their names, without hidden ones. Raises UserError
    for a place that cannot be listed."""
    with _unreadable_as_user_error(place):
        return [pathlib.Path(entry.path) for entry in _entries(place) if entry.is_dir()]


def files(place: Path, endings: Sequence[str], root: Path | None = None) -> list[str]:
    """The files in a folder with one of these endings (in lower case) in the order of their names,
    without hidden ones and those that a link leads to outside of `root`. Raises UserError for a
    place that cannot be listed."""

    def allowed(path):
        return root is None or _inside(path, root)

    if not allowed(place := expand(place)):
        return []
    found, seen = [], _seen.get()
    for entry in _entries(place):
        with _unreadable_as_user_error(entry.path):
            if not entry.name.lower().endswith(tuple(endings)) or entry.is_dir():
                continue
            if not entry.is_symlink() or allowed(entry.path):
                found.append(entry.path)
                if seen is not None:
                    seen[entry.path] = entry.stat().st_size
    return found


@contextlib.contextmanager
def recorded(seen: dict[str, Any]) -> Iterator[None]:
    """Notes in `seen` which files this thread lists inside, with their sizes, and which it reads,
    with their contents' hashes."""
    token = _seen.set(seen)
    try:
        yield
    finally:
        _seen.reset(token)


def fingerprint(seen: Mapping[str, Any]) -> str:
    """How many files were noted by `recorded`, and a hash of what was."""
    noted = json.dumps(sorted(seen.items())).encode()
    return f"{len(seen)} files, {hashlib.sha256(noted).hexdigest()[:16]}"


def parse_json(content: bytes, name: str, kind: Any = Any, advice: str = "mend it") -> Any:
    """What JSON says, as `convert` makes it of this kind. Raises UserError, about `name`, for what
    is no JSON, and for what is of another kind, with its place."""
    try:
        value = json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        why = "it nests too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"{name} is not JSON: {why}; {advice}") from error
    try:
        return convert(kind, value)
    except ValueError as error:
        raise UserError(f"{name}: {error}; {advice}") from error


def read_json(path: Path, kind: Any = Any, advice: str = "mend it") -> Any:
    """What a JSON file says, as `parse_json` does. Raises UserError where it cannot be read."""
    return parse_json(read_bytes(path), str(path), kind, advice)


def convert(kind: Any, value: Any, place: str = "") -> Any:
    """A JSON value as a type: of numbers, strings, literals, their unions, lists, tuples, mappings,
    typed dictionaries and dataclasses. What a typed dictionary does not name is passed over; what a
    dataclass does not know is refused. Raises ValueError with the place of what does not fit."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    items = isinstance(value, list | tuple)
    if kind is Any:
        return value
    if origin is typing.Annotated or origin in (typing.Required, typing.NotRequired):
        return convert(inner[0], value, place)
    if origin in (typing.Union, types.UnionType):
        for one in inner:
            with contextlib.suppress(ValueError):
                return convert(one, value, place)
    elif origin is list and items:
        return [convert(inner[0], one, f"{place}[{n}]") for n, one in enumerate(value)]
    elif origin is tuple and items and (inner[1:] == (...,) or len(inner) == len(value)):
        kinds = inner[:1] * len(value) if inner[1:] == (...,) else inner
        pairs = enumerate(zip(kinds, value, strict=True))
        return tuple(convert(one, part, f"{place}[{n}]") for n, (one, part) in pairs)
    elif isinstance(value, Mapping) and (fields := _fields(kind)) is not None:
        return _object(kind, fields, value, place)
    elif isinstance(value, Mapping) and origin is dict:
        return {name: convert(inner[1], one, _join(place, name)) for name, one in value.items()}
    elif _fits(kind, value):
        return float(typing.cast(float, value)) if kind is float else value
    shown = "a list" if items else "an object" if isinstance(value, Mapping) else repr(value)[:60]
    raise ValueError(f"{place or 'it'} is {shown}; expected {_spell(kind)}")


def _fits(kind: Any, value: Any) -> bool:
    if typing.get_origin(kind) is Literal:
        return any(type(value) is type(one) and value == one for one in typing.get_args(kind))
    if isinstance(value, bool) or value is None:
        return type(value) is kind or (value is None and kind is None)
    if kind is float:
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max
    if kind is int:
        return isinstance(value, int) and abs(value) < LARGEST
    return kind is str and isinstance(value, str) and is_unicode(value)


def _fields(kind: Any) -> Mapping[str, bool] | None:
    """The names of an object's fields, and whether they have to be there."""
    if typing.is_typeddict(kind):
        return {name: name in kind.__required_keys__ for name in kind.__annotations__}
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return None
    nothing = dataclasses.MISSING
    return {
        field.name: field.default is nothing and field.default_factory is nothing
        for field in dataclasses.fields(kind)
    }


def _object(kind: Any, fields: Mapping[str, bool], value: Mapping[str, Any], place: str) -> Any:
    known, hints = not typing.is_typeddict(kind), typing.get_type_hints(kind)
    if missing := [name for name, needed in fields.items() if needed and name not in value]:
        raise ValueError(f"{_join(place, missing[0])} is missing")
    if known and (unknown := [name for name in value if name not in fields]):
        raise ValueError(f"{_join(place, unknown[0])} is unknown{nearest(unknown[0], fields)}")
    found = {
        name: convert(hints[name], value[name], _join(place, name))
        for name in fields
        if name in value
    }
    return kind(**found) if known else found


def _spell(kind: Any) -> str:
    """A kind in words."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_spell, inner))
    if origin is typing.Annotated:
        return _spell(inner[0])
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is tuple and inner[1:] != (...,):
        return f"a list of {len(inner)}"
    names = {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false"}
    names |= {type(None): "null", list: "a list", tuple: "a list"}
    return names.get(origin or kind, "an object")


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not a number")


def is_unicode(text: str) -> bool:
    """Whether a text can be written: it has no halves of characters, as names of files in another
    encoding have."""
    return text.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in text)


def _mode(path: pathlib.Path) -> int:
    """What is at a path; 0 where nothing is."""
    with _unreadable_as_user_error(path):
        try:
            return os.stat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return 0


def _entries(place: Path) -> list[os.DirEntry[str]]:
    """What a folder has in the order of names, without hidden ones; one look, since there may be a
    million files."""
    place = expand(place)
    with _unreadable_as_user_error(place), os.scandir(place) as entries:
        found = sorted(
            (entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name
        )
    if wrong := next((entry.name for entry in found if not is_unicode(entry.name)), None):
        raise UserError(f"{place} has the name {wrong!r}, which is not UTF-8; rename it")
    return found


def _inside(path: Path, root: Path) -> bool:
    """Whether a path is in `root` once links are followed."""
    real = pathlib.Path(os.path.realpath(path))
    return real.is_relative_to(os.path.realpath(expand(root)))


@contextlib.contextmanager
def _unreadable_as_user_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


_seen: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("seen", default=None)
_KINDS = (
    ("folder", stat.S_ISDIR),
    ("named pipe", stat.S_ISFIFO),
    ("socket", stat.S_ISSOCK),
    ("device", lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode)),
)
