"""Writes to the folder of a run: a file is there whole or not at all, after a loss of power too.

Every call that changes something on disk is one of `system`, so that a test can make each of them
fail in turn. What Orbax writes by itself is brought to disk here before it counts.
"""

import contextlib
import errno
import json
import math
import os
import pathlib
import secrets
import types
from collections.abc import Iterator, Mapping
from typing import Any

from advdl.errors import UserError

TEMPORARY = ".advdl-*.tmp"
"""What files are called while they are being written."""

Path = str | os.PathLike[str]
system = types.SimpleNamespace(
    open=os.open,
    write=os.write,
    fsync=os.fsync,
    mkdir=os.mkdir,
    replace=os.replace,
    rename=os.rename,
    unlink=os.unlink,
)


def write(path: Path, content: bytes) -> None:
    """Writes a file under a name that nobody can foresee, then moves it to `path` from there.

    Raises OSError; then what was at `path` is still there, or already all of the new.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(TEMPORARY.replace("*", secrets.token_hex(8)))
    try:
        with opened(temporary, os.O_EXCL) as file:
            write_all(file, content)
            system.fsync(file)
        system.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):  # the first refusal is the one to tell
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """A file to write to, made if need be; a link is not followed."""
    file = system.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | flags, 0o666)
    try:
        yield file
    finally:
        os.close(file)


def write_all(file: int, content: bytes) -> None:
    """Writes all of it, where the system takes only a part at a time too."""
    left = memoryview(content)
    while left:
        left = left[system.write(file, left) :]


def make_folder(path: Path) -> None:
    """Makes a folder, and those above it, where they are not there yet."""
    path = pathlib.Path(path)
    if path.is_dir():
        return
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError) if path.is_dir() else contextlib.nullcontext():
        system.mkdir(path)
    sync_folder(path.parent)


def move(old: Path, new: Path) -> None:
    """Renames a file or a folder."""
    system.rename(old, new)
    sync_folder(pathlib.Path(new).parent)


def sync_folder(path: Path) -> None:
    """Brings to disk which files a folder has; some file systems cannot be asked to."""
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        system.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(file)


def sync_files(path: Path) -> None:
    """Brings to disk the files of a folder, which others wrote, and which ones they are."""
    with os.scandir(path) as entries:
        names = [entry.path for entry in entries if entry.is_file(follow_symlinks=False)]
    for name in sorted(names):
        file = os.open(name, os.O_RDONLY)
        try:
            system.fsync(file)
        finally:
            os.close(file)
    sync_folder(path)


def remove_temporaries(path: Path) -> None:
    """Removes what a process left that was killed while it wrote into this folder."""
    for temporary in pathlib.Path(path).glob(TEMPORARY):
        system.unlink(temporary)


class Appended:
    """A file that grows by whole records, each written by one call; a record that a kill or a full
    disk cut off is the last one."""

    def __init__(self, path: Path, flags: int = 0):
        self._file = system.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | flags, 0o666
        )

    def __call__(self, record: bytes) -> None:
        """Appends a record."""
        write_all(self._file, record)

    def sync(self) -> None:
        """Brings to disk what was appended."""
        system.fsync(self._file)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def to_json(content: Any, **options: Any) -> str:
    """JSON, which has no number that is not finite: such a one is written as a string, `"nan"`."""
    return json.dumps(finite(content), allow_nan=False, ensure_ascii=False, **options)


def finite(content: Any) -> Any:
    """The same tree of dicts and lists with numbers that are not finite as strings."""
    if isinstance(content, Mapping):
        return {name: finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return str(content) if isinstance(content, float) and not math.isfinite(content) else content


@contextlib.contextmanager
def os_errors_as_user_errors(what: str, flag: str = "--run") -> Iterator[None]:
    """Turns what the file system refuses (permission, full disk, a file in the way) into a
    UserError naming `what`, and the flag that gives another place."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {what}: {error.strerror or error}; make it writable or give another"
            f" {flag}"
        ) from error
