"""A run of which any one call that writes has failed, in the manner of SQLite's crash tests.

Every call of `advdl.train.files.system` in a run of two steps and two checkpoints fails in turn:
the disk is full from there on, the call alone fails, a write takes only half of its content, or the
process is dead from there on. The same command then ends as the run that nobody disturbed.
"""

import dataclasses
import errno
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advdl import cli, data, train
from advdl.metrics import Mean
from advdl.train import files

KINDS = {
    "full": {"open", "write", "mkdir", "fsync", "replace", "rename"},
    "broken": {"open", "write", "mkdir", "fsync", "replace", "rename", "unlink"},
    "short": {"write"},
    "killed": {"open", "write", "mkdir", "fsync", "replace", "rename", "unlink"},
}

REASONS = "No space left on device", "Input/output error"


@dataclasses.dataclass(frozen=True)
class Config(cli.Config):
    steps: cli.Count = 2
    batch: cli.Count = 8
    log_every: cli.Count = 1
    save_every: cli.Natural = 1
    evaluate_every: cli.Natural = 1


def load(config):
    def batches(kind, split, *arguments):
        source, scale = data.open_source("digits", split), data.to_float(0, 1)
        return kind(data.Subset(source, np.arange(32), split), config.batch, *arguments, scale)

    return data.Splits(
        spec=lambda: data.ImageSpec.of(data.open_source("digits", "train"), low=0.0),
        train=lambda spec: batches(data.TrainBatches, "train", config.seed),
        evaluations={"test": lambda spec: batches(data.EvalBatches, "test")},
    )


def build(config, spec):
    def error(variables, batch):
        return jnp.square(batch["image"].mean((1, 2, 3)) * variables["params"]["w"] - 1)

    player = config.player(
        lambda key, batch: {"params": {"w": jnp.float32(0)}},
        lambda variables, batch, rng: train.Loss(Mean.of(error(variables, batch))),
        optax.adam(config.scheduled()),
    )

    def evaluate(variables, batch):
        return {"error": Mean.of(error(variables, batch), batch["mask"])}

    return cli.Experiment(train.minimize(player, evaluate))


class Killed(BaseException):
    """What a process feels of a SIGKILL: nothing after it."""


class System:
    """The calls of the system, by name. The one of `name` that is number `nth` (how many files
    Orbax makes varies, so a call is not named by how many come before) fails in a way of
    `KINDS`."""

    def __init__(self, kind="", name="", nth=0):
        self.kind, self.point, self.failed, self.names = kind, (name, nth), False, []
        self.calls = dict(vars(files.system))
        self.calls["fsync"] = lambda file: None  # no power is lost here

    def patch(self, patch):
        for name in self.calls:
            patch.setattr(files.system, name, lambda *given, name=name: self.call(name, *given))

    def call(self, name, *given):
        now = self.kind and (name, self.names.count(name)) == self.point
        self.names.append(name)
        if now and self.kind == "short":
            self.failed = True
            file, content = given
            return self.calls[name](file, content[: len(content) // 2])
        lasting = self.failed and self.kind != "broken" and name in KINDS[self.kind]
        self.failed = self.failed or now
        if not now and not lasting:
            return self.calls[name](*given)
        if self.kind == "killed":
            raise Killed
        code = errno.EIO if self.kind == "broken" else errno.ENOSPC
        raise OSError(code, os.strerror(code))


def go(folder, capsys):
    """(exit status, standard error) of the command, None where it was killed."""
    capsys.readouterr()
    status = 0
    try:
        cli.main(load, build, {"laptop": Config()}, arguments=["train", "--run", str(folder)])
    except SystemExit as end:
        status = end.code
    except Killed:
        status = None
    return status, capsys.readouterr().err


def ended(folder):
    """The digest, and the step and names of every line."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    said = [(line["step"], sorted(line)) for line in lines]
    return json.loads((folder / "summary.json").read_text())["digest"], said


@pytest.fixture
def told(monkeypatch):
    """The steps of the checkpoints that a run was told are whole; each save is waited for, so that
    the calls of the system always come in the same order."""
    found, save, init = [], train.Checkpoints.save, train.Checkpoints.__init__

    def waiting(self, *given, **named):
        save(self, *given, **named)
        self._wait()

    def telling(self, folder, keep, best, saved):
        init(self, folder, keep, best, lambda step: (found.append(step), saved(step)))

    monkeypatch.setattr(train.Checkpoints, "save", waiting)
    monkeypatch.setattr(train.Checkpoints, "__init__", telling)
    return found


@pytest.fixture
def compiled_once(monkeypatch):
    """All runs train the same learner, so the programs of the first serve the others."""
    place, placed = train.place, {}

    def placement(*given):
        return lambda learner: placed.setdefault(given, place(*given)(learner))

    monkeypatch.setattr(train, "place", placement)


@pytest.mark.scale
@pytest.mark.parametrize("kind", KINDS)
def test_whichever_write_fails_the_same_command_ends_as_if_none_had(
    tmp_path, capsys, monkeypatch, told, compiled_once, kind
):
    """slow: runs twice for each call that writes."""
    with monkeypatch.context() as patch:
        system = System()
        system.patch(patch)
        assert go(tmp_path / "whole", capsys)[0] == 0
    whole, names = ended(tmp_path / "whole"), system.names
    points = [(name, n) for name in sorted(KINDS[kind]) for n in range(names.count(name))]
    assert told == [1, 2] and len(points) >= 15
    for point in points:
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            run = pathlib.Path(folder) / "run"
            told.clear()
            with monkeypatch.context() as patch:
                System(kind, *point).patch(patch)
                status, said = go(run, capsys)
            where = f"{kind} at {point}: {said}"
            if kind != "killed":
                assert status in (0, 2) and "Traceback" not in said, where
            if status == 2:
                assert any(map(said.splitlines()[-1].count, REASONS)), where
            for path in run.rglob("*.json"):
                json.loads(path.read_text())
            last = max(told, default=0)
            with monkeypatch.context() as patch:
                System().patch(patch)
                status, said = go(run, capsys)
            assert status == 0, f"{where}; then {said}"
            assert not last or f"at step {last}" in said or "at step 2" in said, (where, said)
            assert ended(run) == whole, where
            assert not list(run.glob(files.TEMPORARY)), where
    with capsys.disabled():
        print(f"\n{kind}: {len(points)} of {len(names)} calls")


@pytest.mark.scale
def test_runs_that_are_killed_at_each_stage_end_as_if_they_had_not_been():
    """slow: three learners, killed once at each of five stages."""
    program = pathlib.Path(__file__).with_name("kills.py")
    done = subprocess.run([sys.executable, program, "5"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
