"""A watchdog for the loop: a run that hangs ends, and says where every thread of it was."""

import collections
import contextlib
import faulthandler
import os
import pathlib
import sys
import threading
import time
from typing import Any

import jax

from advdl.train import files

STATUS = 3
"""Exit status of a process that ended because it, or another, could not go on; the same command
resumes."""


SECONDS_TO_WRITE = 5.0
PATIENCE = 10
"""How many times longer than a step compiling, saving or an evaluation may take."""


class Watchdog:
    """Ends the process where no step has finished for `seconds` (0: never), within `with
    watchdog:`, or what happens within `apart` has not ended after `PATIENCE` times as long.

    Every thread's stack then goes to standard error and to the file `stacks`, and the exit status
    is 3. The time does not count in which the process was stopped.
    """

    def __init__(self, seconds: float, stacks: pathlib.Path):
        self._seconds, self._stacks = seconds, stacks
        # Arrays with `is_ready`, which `jax.Array` does not declare.
        self._begun: collections.deque[tuple[int, Any]] = collections.deque()
        self._step = 0
        self._apart: tuple[str, float] | None = None  # what happens apart, and since when
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def begun(self, step: int, result: Any) -> None:
        """Step number `step` has begun; it has finished when `result`, a tree of arrays, is
        there."""
        if self._seconds:
            self._begun.append((step, jax.tree.leaves(result)[0]))

    @contextlib.contextmanager
    def apart(self, what: str):
        """What happens inside, such as "saving", is no step, and may take longer."""
        self._apart = what, time.monotonic()
        try:
            yield
        finally:
            self._apart = None

    def __enter__(self) -> "Watchdog":
        if self._seconds:
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        if self._seconds:
            self._thread.join()

    def _watch(self) -> None:
        look = min(1.0, self._seconds / 10)
        silent, before, apart = 0.0, time.monotonic(), None
        while not self._ended.wait(look):
            now, changed, apart = time.monotonic(), self._apart != apart, self._apart
            silent = 0.0 if self._finished() or changed else silent + min(now - before, 2 * look)
            before = now
            if silent >= self._seconds * (PATIENCE if apart else 1):
                self._end(apart[0] if apart else "")

    def _finished(self) -> bool:
        """Whether a step has, since the last time."""
        before = self._step
        while self._begun and self._begun[0][1].is_ready():
            self._step = self._begun.popleft()[0]
        return self._step != before

    def _end(self, apart: str) -> None:
        faulthandler.dump_traceback(sys.stderr)
        said = f"no step has finished for {self._seconds:g} s"
        if apart:
            said = f"{apart} has taken {PATIENCE * self._seconds:g} s"
        print(
            f"{said}, the last step was {self._step}; where every thread was is above and in"
            f" {self._stacks}; the same command goes on from the last checkpoint",
            file=sys.stderr,
            flush=True,
        )
        # In a thread of its own, since it may be the file system that hangs.
        writing = threading.Thread(target=self._write_stacks, daemon=True)
        writing.start()
        writing.join(SECONDS_TO_WRITE)
        os._exit(STATUS)

    def _write_stacks(self) -> None:
        with contextlib.suppress(OSError):
            self._stacks.unlink(missing_ok=True)
            with files.opened(self._stacks, os.O_EXCL) as file:
                faulthandler.dump_traceback(file)
