"""A trace of some steps, in the form that TensorBoard and Perfetto open."""

import pathlib

import jax

from advdl.errors import UserError


class Trace:
    """Writes what happens from step `first` on, for `count` steps (or to the end of the run), to
    `folder`; count 0 is none."""

    def __init__(self, folder: pathlib.Path, first: int = 0, count: int = 0):
        self._folder, self._first, self._stop = folder, first, first + count
        self._on = False

    def begins(self, step: int) -> bool:
        """Whether it is to start before this step (updates done so far)."""
        return not self._on and self._first <= step < self._stop

    def ends(self, step: int) -> bool:
        """Whether it is to stop before this step."""
        return self._on and step >= self._stop

    def start(self) -> None:
        """Raises UserError where the folder cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write {self._folder}: {error.strerror}; make it writable or drop --profile"
            ) from error
        jax.profiler.start_trace(self._folder)
        self._on = True

    def stop(self) -> None:
        """Writes it, where one is on; what is to be in it has to be waited for before."""
        if self._on:
            self._on, self._stop = False, 0
            jax.profiler.stop_trace()
