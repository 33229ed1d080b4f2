"""The lock of a run: one process at a time trains it."""

import errno
import fcntl
import json
import os
import pathlib
import socket
import time

from advdl.errors import UserError
from advdl.train import files, hosts

NAME = "run.lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


class Lock:
    """An exclusive lock on the file `run.lock` of a folder. The system lets go of it when its
    process ends, however it does, so that a dead one leaves none; host, process and start time are
    in it for whoever comes second."""

    def __init__(self, folder: pathlib.Path):
        self._path = folder / NAME
        self._file: int | None = None

    def acquire(self) -> bool:
        """Takes it; returns whether it was not taken before. Raises UserError where another process
        has it, and OSError where the file cannot be made."""
        if self._file is not None:
            return False
        file = files.system.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held = os.pread(file, 1000, 0)
            if error.errno not in NO_LOCKS:
                os.close(file)
                raise UserError(
                    f"{self._path.parent} is trained by {_owner(held)}; wait for it, stop it, or"
                    " give another --run"
                ) from error
            hosts.log(
                f"warning: the file system of {self._path.parent} has no locks; two trainings in"
                " this folder at once would destroy each other's files"
            )
        self._file = file
        return True

    def sign(self) -> None:
        """Writes down who has it."""
        if self._file is not None:
            owner = {"host": socket.gethostname(), "process": os.getpid(), "since": time.ctime()}
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            files.write_all(self._file, files.to_json(owner).encode())

    def release(self) -> None:
        """Lets go of it; the file stays, since another process may be about to take it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _owner(held: bytes) -> str:
    try:
        owner = json.loads(held)
        return f"process {owner['process']} on {owner['host']} since {owner['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
