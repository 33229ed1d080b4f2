"""The folder of a run: what was asked, what happened, how it ended. Of several processes, which
share it, process 0 writes.

config.json      the experiment's name and its configuration
spec.json        what the networks know of the data, and the shapes of a batch
metrics.jsonl    one object a line: {"step": 100, "train/loss": 0.31, …}
                 or {"step": 100, "test/accuracy": 0.97}
events.out.*     the same for TensorBoard
checkpoints/     see `advdl.train.checkpoint`; damaged ones are set aside in damaged/
profile/         a trace, where one was asked for
stacks.txt       where every thread was, if the run hung; of process I, stacks.I.txt
run.lock         which process trains the run, see `advdl.train.lock`
saved.json       the folder and the step of the latest checkpoint that was written whole
report/          pictures, and report.html that shows them
summary.json     final metrics, steps, seconds, throughput, versions, digest of the final state
"""

import contextlib
import importlib
import math
import os
import pathlib
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, TypedDict

import jax

from advdl import reading
from advdl.errors import UserError
from advdl.train import files, hosts, lock
from advdl.train.checkpoint import Checkpoints, Which
from advdl.train.files import os_errors_as_user_errors

RENAMED = {"per_call": "steps_per_call"}
"""Settings by the names that they had in runs of earlier versions, which are read by them."""
RENAMED_VALUES = {"remat": {"products": "dots", "blocks": "block_inputs"}}
"""Choices of a setting, likewise."""


class Run:
    """One run's folder; reading it changes nothing."""

    def __init__(self, folder: str | pathlib.Path):
        self.folder = reading.expand(folder)
        self.lock = lock.Lock(self.folder)

    @property
    def begun(self) -> bool:
        """Whether the run was begun, by another process at this moment perhaps."""
        return any((self.folder / name).exists() for name in ("config.json", lock.NAME))

    def claim(self) -> None:
        """Locks a run that was begun, unless its folder can only be read. Raises UserError where
        another process trains it, or where something else lies there."""
        if self.begun:
            with contextlib.suppress(OSError):
                self.lock.acquire()
        self.check_free()

    def check_free(self) -> None:
        """Raises UserError where something else lies where the run is to be."""
        found = self.folder.exists() and not self.begun
        if found and not (reading.is_folder(self.folder) and not any(self.folder.iterdir())):
            raise UserError(
                f"{self.folder} is not empty and holds no run; give --run a new or empty folder"
            )

    @property
    def checkpoints(self) -> pathlib.Path:
        """The folder of its checkpoints."""
        return self.folder / "checkpoints"

    @property
    def report(self) -> pathlib.Path:
        """The folder of its pictures."""
        return self.folder / "report"

    @property
    def stacks(self) -> pathlib.Path:
        """Where it is written where every thread was, if the run hung: for each process another
        file."""
        return self.folder / (
            "stacks.txt" if hosts.is_main_process() else f"stacks.{jax.process_index()}.txt"
        )

    def config(self, experiment: str) -> dict[str, Any] | None:
        """The configuration that the run was started with; None where the folder holds no run.

        Raises UserError where it is another experiment's, or cannot be read.
        """
        stored = self.read("config.json", _Stored)
        if stored is None:
            return None
        if stored["experiment"] != experiment:
            raise UserError(
                f"{self.folder} is a run of {stored['experiment']!r}, not of {experiment!r};"
                " give another --run"
            )
        found: dict[str, Any] = stored["config"]
        renamed = {RENAMED.get(name, name): value for name, value in found.items()}
        for name, values in RENAMED_VALUES.items():
            if isinstance(old := renamed.get(name), str):
                renamed[name] = values.get(old, old)
        return {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in renamed.items()
        }

    def summary(self) -> dict[str, Any] | None:
        """How the run ended; None while it has not."""
        return self.read("summary.json")

    def start(self, experiment: str, config: Mapping[str, Any]) -> None:
        """Makes the folder, locks it and writes config.json. Raises UserError where that cannot be
        done, or where another process trains the run."""
        self.check_free()
        with os_errors_as_user_errors(f"run folder {self.folder}"):
            files.make_folder(self.folder)
            if self.lock.acquire() and (self.folder / "config.json").exists():
                raise UserError(
                    f"{self.folder} was begun by another process just now; the same command goes on"
                    " from there"
                )
            self.lock.sign()
            files.remove_temporaries(self.folder)
            files.make_folder(self.report)
            self.write("config.json", {"experiment": experiment, "config": dict(config)})

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a JSON file whole or not at all."""
        with os_errors_as_user_errors(str(self.folder / name)):
            files.write(self.folder / name, f"{files.to_json(content, indent=2)}\n".encode())

    def read(self, name: str, kind: Any = dict[str, Any]) -> dict[str, Any] | None:
        """A JSON file of the folder, of a kind that `reading.convert` knows; None where it is not
        there. Raises UserError where it cannot be read."""
        path = self.folder / name
        advice = "restore it or give another --run"
        return reading.read_json(path, kind, advice) if reading.exists(path) else None


class _Stored(TypedDict):
    """config.json."""

    experiment: str
    config: dict[str, Any]


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, in order; figures written as "nan" or "inf" are numbers again.

    A last line that a kill cut off is left out. Raises UserError where there is no such file, or
    where another line is damaged.
    """
    return [line for _, line in _lines(path)]


def _lines(path: str | os.PathLike[str]) -> list[tuple[bytes, dict[str, Any]]]:
    """The lines as they are written, and what they say."""
    rows, lines = reading.read_bytes(path).splitlines(keepends=True), []
    for number, row in enumerate(rows, 1):
        name, advice = f"{path}, line {number}", "mend or remove that line"
        try:
            line = reading.parse_json(row, name, dict[str, int | float | str], advice)
        except UserError:
            if number == len(rows) and not row.endswith(b"\n"):
                break
            raise
        if not isinstance(line.get("step"), int):
            raise UserError(f"{name} has no step; {advice}")
        lines.append((row, {k: _NUMBERS.get(v, v) for k, v in line.items()}))
    return lines


_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def load_player(
    folder: str | pathlib.Path, experiment: str, player: str, which: Which = "latest"
) -> tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any], int]:
    """What a player of another run has learned, to build on: (the run's configuration, its spec as
    JSON, the variables that the player is evaluated with, the step of the checkpoint).

    The spec is None in a run that has none. Raises UserError where the folder holds no such run, or
    no such checkpoint that is whole.
    """
    run = Run(folder)
    config = stored_config(folder, experiment)
    found = Checkpoints(config.get("checkpoints") or run.checkpoints).player(player, which)
    if found is None:
        raise UserError(_absent(folder, experiment, "checkpoint yet"))
    step, variables = found
    return config, (run.read("spec.json") or {}).get("spec"), variables, step


def stored_config(folder: str | pathlib.Path, experiment: str) -> dict[str, Any]:
    """The configuration of another run. Raises UserError where the folder holds no such run."""
    config = Run(folder).config(experiment)
    if config is None:
        missing = _absent(folder, experiment, f"run of {experiment}")
        raise UserError(f"{missing}, with the --preset that it is to have")
    return config


def _absent(folder: str | pathlib.Path, experiment: str, what: str) -> str:
    first = f"python experiments/{experiment}.py train --run {folder}"
    return f"{folder} holds no {what}; first: {first}"


class Log:
    """Writes metrics.jsonl and TensorBoard events of a run that goes on from `step`.

    Lines of later steps, left by a run that was killed after its last checkpoint, make way for the
    same lines written again, and those of `step` itself, which are there, are not repeated. Of
    several processes only the first writes.
    """

    def __init__(self, run: Run, step: int):
        self._path, self._writes = run.folder / "metrics.jsonl", hosts.is_main_process()
        self._there: set[frozenset[str]] = set()
        self._step = step
        if not self._writes:
            return
        with os_errors_as_user_errors(str(self._path)):
            if reading.exists(self._path):
                kept = [(row, line) for row, line in _lines(self._path) if line["step"] <= step]
                files.write(self._path, b"".join(row.strip() + b"\n" for row, _ in kept))
                self._there = {frozenset(line) for _, line in kept if line["step"] == step}
            self._append = files.Appended(self._path)
            self._events = Events(run.folder, step)

    def __call__(self, step: int, figures: Mapping[str, float]) -> None:
        """Appends one line; a figure that is not finite is written as a string, since JSON has no
        such number."""
        line = {"step": step} | dict(figures)
        if not self._writes or step == self._step and frozenset(line) in self._there:
            return
        with os_errors_as_user_errors(str(self._path)):
            self._append(f"{files.to_json(line)}\n".encode())
            self._events(step, figures)

    def sync(self) -> None:
        """Brings to disk what was written; called before a checkpoint that goes with it."""
        if self._writes:
            with os_errors_as_user_errors(str(self._path)):
                self._append.sync()

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_) -> None:
        """Closes both files."""
        if self._writes:
            self._append.close()
            self._events.close()


class Events:
    """A file of TensorBoard's events, after those of earlier starts; what these had after `step`
    does not count any more."""

    def __init__(self, folder: pathlib.Path, step: int):
        # Here, since it imports PyTorch where that is installed, for seconds. Its own writer is a
        # thread, which answers a full disk with a traceback.
        from tensorboardX.record_writer import masked_crc32c

        self._crc = masked_crc32c
        self._proto: Any = importlib.import_module("tensorboardX.proto.event_pb2")
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        self._append = files.Appended(folder / name)
        self._write(self._proto.Event(file_version="brain.Event:2"))
        start = self._proto.SessionLog(status=self._proto.SessionLog.START)
        self._write(self._proto.Event(step=step + 1, session_log=start))

    def __call__(self, step: int, figures: Mapping[str, float]) -> None:
        """Appends an event that has these figures."""
        event = self._proto.Event(step=step)
        for name, value in figures.items():
            event.summary.value.add(tag=name, simple_value=value)
        self._write(event)

    def close(self) -> None:
        """Closes the file."""
        self._append.close()

    def _write(self, event: Any) -> None:
        """A record as TensorFlow writes it: length, its checksum, content, its checksum."""
        event.wall_time = time.time()
        content = event.SerializeToString()
        length = struct.pack("<Q", len(content))
        parts = [(part, struct.pack("<I", self._crc(part))) for part in (length, content)]
        self._append(b"".join(part + checksum for part, checksum in parts))
