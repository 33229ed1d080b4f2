"""Requests to stop: SIGTERM (a cluster), SIGINT (the keyboard) and SIGHUP (a closed terminal).

A request ends the process at once where nothing has to be saved; where something has to, it is
noted, and whoever trains saves and ends.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import jax

from advdl.train import hosts

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(BaseException):
    """A request to stop; `number` is that of the signal."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class _Requests:
    """Those that came since the handlers were installed, and how many `deferred` blocks are
    open."""

    def __init__(self):
        self.came: list[int] = []
        self.deferred = 0

    def __call__(self, number, frame):
        again, self.came = bool(self.came), [*self.came, number]
        if number == signal.SIGINT and again:
            raise KeyboardInterrupt
        if _joined():
            os.kill(os.getpid(), signal.SIGTERM)
        elif not self.deferred:
            raise Stopped(number)


_requests: _Requests | None = None


@contextlib.contextmanager
def requests() -> Iterator[None]:
    """Raises `Stopped` where a request comes inside, unless it is in a `deferred` block; a second
    SIGINT raises KeyboardInterrupt everywhere.

    What ignores SIGHUP (`nohup`) goes on ignoring it. Of several processes none stops by itself:
    JAX takes SIGTERM, and the loop has all of them stop after the same step. In a thread that is
    not the main one, and inside of another such block, it does nothing.
    """
    global _requests
    if _requests is not None:
        yield
        return
    handler, previous = _Requests(), {}
    try:
        for number in SIGNALS:
            taken = number == signal.SIGTERM and _joined()
            ignored = number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN
            if not taken and not ignored:
                previous[number] = signal.signal(number, handler)
        _requests = handler
    except ValueError:  # not the main thread: whoever runs us there handles signals
        pass
    try:
        yield
    finally:
        _requests = None
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Inside, a request is only noted; yields `requested()`, whether one has come."""
    with requests():
        found = _requests or _Requests()
        found.deferred += 1
        try:
            yield lambda: bool(found.came)
        finally:
            found.deferred -= 1


def _joined() -> bool:
    """Whether this process is one of several; asked before it may have devices."""
    return jax.distributed.is_initialized() and hosts.several()
