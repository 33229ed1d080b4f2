"""What the benchmarks share: programs timed in turns, each in a process of its own where needed;
the machine's name."""

import ctypes
import importlib.metadata
import importlib.util
import multiprocessing
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def seconds(f: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """How long a call takes; it must end when its work is done."""
    start = clock()
    f()
    return clock() - start


EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def experiment(name: str) -> Any:
    """The module experiments/NAME.py."""
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# s; a library's threads still spin after their last work, and would take a core from the next run
REST = 0.05


def in_turns(
    runs: Mapping[str, Callable[[], float]], rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds that each run reports, round by round, so that a machine whose speed drifts is the
    same for all."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(-warmup, rounds):
        for name, run in runs.items():
            time.sleep(REST)
            taken = run()
            if number >= 0:
                times[name].append(taken)
    return times


def ratio(numerator: list[float], denominator: list[float]) -> float:
    """Median of the rounds' own ratios."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


class Apart:
    """An object that lives in a process of its own: its methods are called here and run there.

    make: a function of a module, called there with the arguments. Errors there are raised here.
      Closing ends the process.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._answer()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments):
            self._pipe.send((name, arguments))
            return self._answer()

        return call

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join()

    def _answer(self):
        try:
            answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"the process ended with status {self._process.exitcode}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(pipe, make, arguments):
    try:
        served = make(*arguments)
        pipe.send(None)
        while True:
            try:
                name, given = pipe.recv()
            except EOFError:
                return
            pipe.send(getattr(served, name)(*given))
    except Exception as error:
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


def peak(f: Callable[[], Any]) -> float:
    """MiB by which this process grows at most while f runs, from what it holds before; NaN but on
    Linux."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        before = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the highest mark begins anew
    except OSError:
        return float("nan")
    f()
    return _resident("VmHWM") - before


def _resident(what: str) -> float:
    return (
        int(re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024
    )


def machine(*libraries: str) -> str:
    """Processor, cores that this process may use, system and versions of libraries."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries)
    return f"{_processor()}, {cores} cores, Python {platform.python_version()}, {versions}"


def _processor() -> str:
    try:
        return re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text()).group(1)
    except (OSError, AttributeError):
        return platform.processor() or platform.machine()
