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

STATUS = 3
"""Exit status of a process that ended because it, or another, could not go on; the same command
resumes."""


class Watchdog:
    """Ends the process where no step has finished for `seconds` (0: never), within `with
    watchdog:`.

    Every thread's stack then goes to standard error and to the file `stacks`, and the exit status
    is 3. What happens within `paused()` is no step; nor does the time count in which the process
    was stopped.
    """

    def __init__(self, seconds: float, stacks: pathlib.Path):
        self._seconds, self._stacks = seconds, stacks
        # Arrays with `is_ready`, which `jax.Array` does not declare.
        self._begun: collections.deque[tuple[int, Any]] = collections.deque()
        self._step, self._pauses = 0, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def begun(self, step: int, result: Any) -> None:
        """Step number `step` has begun; it has finished when `result`, a tree of arrays, is
        there."""
        if self._seconds:
            self._begun.append((step, jax.tree.leaves(result)[0]))

    @contextlib.contextmanager
    def paused(self):
        """What happens inside may take as long as it does."""
        self._pauses += 1
        yield
        self._pauses -= 1

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
        silent, before = 0.0, time.monotonic()
        while not self._ended.wait(look):
            now = time.monotonic()
            silent = (
                0.0 if self._finished() or self._pauses else silent + min(now - before, 2 * look)
            )
            before = now
            if silent >= self._seconds:
                self._end()

    def _finished(self) -> bool:
        """Whether a step has, since the last time."""
        before = self._step
        while self._begun and self._begun[0][1].is_ready():
            self._step = self._begun.popleft()[0]
        return self._step != before

    def _end(self) -> None:
        with contextlib.suppress(OSError), self._stacks.open("w") as file:
            faulthandler.dump_traceback(file)
        faulthandler.dump_traceback(sys.stderr)
        print(
            f"no step has finished for {self._seconds:g} s, the last was {self._step}; where every"
            f" thread was is above and in {self._stacks}; the same command goes on from the last"
            " checkpoint",
            file=sys.stderr,
            flush=True,
        )
        os._exit(STATUS)
