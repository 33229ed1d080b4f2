"""Files that are written whole or not at all."""

import os
import pathlib

from advdl.errors import UserError
from advdl.train import files


def write(path: str | os.PathLike, content: bytes) -> pathlib.Path:
    """Writes `content` whole or not at all; makes the folder if need be. Returns the path.

    Raises UserError where the file system refuses; then what was at `path` is still there.
    """
    path = pathlib.Path(path)
    try:
        files.make_folder(path.parent)
        files.write(path, content)
    except OSError as error:
        why = error.strerror or error
        raise UserError(
            f"cannot write {path}: {why}; make it writable, make room or give another place"
        ) from error
    return path
