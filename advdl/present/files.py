"""Files that are written whole or not at all."""

import contextlib
import os
import pathlib

from advdl.errors import UserError


def write(path: str | os.PathLike, content: bytes) -> pathlib.Path:
    """Writes `content` beside `path`, then moves it there; makes the folder if need be. Returns the
    path.

    Raises UserError where the file system refuses; then what was at `path` is still there.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the first refusal is the one to tell
            temporary.unlink(missing_ok=True)
        why = error.strerror or error
        raise UserError(
            f"cannot write {path}: {why}; make it writable, make room or give another place"
        ) from error
    return path
