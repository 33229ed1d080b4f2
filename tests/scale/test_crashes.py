"""A run of which any one call that writes has failed, in the manner of SQLite's crash tests.

Every call of `advdl.train.files.system` in a run of four steps and two checkpoints fails in turn:
the disk is full from there on, the call alone fails, a write takes only half of its content, or the
process is dead from there on. The same command then ends as the run that nobody disturbed.
"""

import dataclasses
import errno
import json
import os
import pathlib
import tempfile

import jax.numpy as jnp
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


@dataclasses.dataclass(frozen=True)
class Config(cli.Config):
    steps: cli.Count = 4
    batch: cli.Count = 8
    log_every: cli.Count = 1
    save_every: cli.Natural = 2
    evaluate_every: cli.Natural = 2


def load(config):
    numbers = data.ArraySource(x=jnp.arange(32.0) / 32)
    return data.Splits(
        spec=lambda: data.Spec(),
        train=lambda spec: data.TrainBatches(numbers, config.batch, config.seed),
        evaluations={"test": lambda spec: data.EvalBatches(numbers, config.batch)},
    )


def build(config, spec):
    def error(variables, batch):
        return jnp.square(variables["params"]["w"] * batch["x"] - 1)

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
    """The calls of the system in turn, by name; that of number `nth` fails in a way of `KINDS`."""

    def __init__(self, nth=None, kind=None):
        self.nth, self.kind, self.names = nth, kind, []
        self.calls = dict(vars(files.system))
        self.calls["fsync"] = lambda file: None  # no power is lost here

    def patch(self, patch):
        for name in self.calls:
            patch.setattr(files.system, name, lambda *given, name=name: self.call(name, *given))

    def call(self, name, *given):
        self.names.append(name)
        number = len(self.names) - 1
        if self.nth is None or number < self.nth:
            return self.calls[name](*given)
        if self.kind == "killed":
            raise Killed
        if self.kind == "short" and number == self.nth:
            file, content = given
            return self.calls[name](file, content[: len(content) // 2])
        if self.kind == "broken" and number > self.nth:
            return self.calls[name](*given)
        if name == "unlink" and self.kind == "full":
            return self.calls[name](*given)
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


@pytest.mark.scale
@pytest.mark.parametrize("kind", KINDS)
def test_whichever_write_fails_the_same_command_ends_as_if_none_had(
    tmp_path, capsys, monkeypatch, told, kind
):
    """slow: runs twice for each call that writes."""
    with monkeypatch.context() as patch:
        system = System()
        system.patch(patch)
        assert go(tmp_path / "whole", capsys)[0] == 0
    whole, names = ended(tmp_path / "whole"), system.names
    points = [n for n, name in enumerate(names) if name in KINDS[kind]]
    assert told == [2, 4] and len(points) >= 15
    for point in points:
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            run = pathlib.Path(folder) / "run"
            told.clear()
            with monkeypatch.context() as patch:
                System(point, kind).patch(patch)
                status, said = go(run, capsys)
            where = f"{kind} at call {point}, {names[point]}: {said}"
            if kind != "killed":
                assert status in (0, 2) and "Traceback" not in said, where
            if status == 2:
                assert any(code in said.splitlines()[-1] for code in ("No space", "I/O")), where
            for path in run.rglob("*.json"):
                json.loads(path.read_text())
            last = max(told, default=0)
            with monkeypatch.context() as patch:
                System().patch(patch)
                status, said = go(run, capsys)
            assert status == 0, f"{where}; then {said}"
            assert not last or f"at step {last}" in said or "at step 4" in said, (where, said)
            assert ended(run) == whole, where
            assert not list(run.glob(files.TEMPORARY)), where
    with capsys.disabled():
        print(f"\n{kind}: {len(points)} of {len(names)} calls")
