"""Kills runs of small learners at random moments of each stage, and lets the same command end them.

    python kills.py KILLS [SEED]

For every learner so many SIGKILLs, over the stages in turn. The processes are forked from this one,
which has imported everything and asked for no device. A run that was killed has to end with the
digest and the lines of one that nobody disturbed; the exit status is 1 where one has not.
"""

import collections
import dataclasses
import json
import os
import pathlib
import random
import signal
import sys
import tempfile
import time

os.environ |= {"JAX_PLATFORMS": "cpu"}

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import tensorboardX.record_writer

from advdl import cli, data, present, train
from advdl.cli.experiment import Session
from advdl.metrics import Mean
from advdl.train import placement

STAGES = {
    "start": (Session, "check_same_data"),
    "compile": (placement.CompiledFunction, "compile"),
    "save": (train.Checkpoints, "save"),
    "evaluate": (Session, "evaluate"),
    "report": (present, "write_report"),
}


@dataclasses.dataclass(frozen=True)
class Config(cli.Config):
    steps: cli.Count = 12
    batch: cli.Count = 8
    log_every: cli.Count = 1
    save_every: cli.Natural = 3
    evaluate_every: cli.Natural = 4


def load(config):
    def batches(kind, split, *arguments):
        source, scale = data.open_source("digits", split), data.to_float(0, 1)
        return kind(data.Subset(source, np.arange(64), split), config.batch, *arguments, scale)

    return data.Splits(
        spec=lambda: data.ImageSpec.of(data.open_source("digits", "train"), low=0.0),
        train=lambda spec: batches(data.TrainBatches, "train", config.seed),
        evaluations={"test": lambda spec: batches(data.EvalBatches, "test")},
    )


def pixels(batch):
    return batch["image"].reshape(len(batch["image"]), -1)


def init(key, batch):
    return {"params": {"w": jnp.zeros(64)}}


def evaluate(variables, batch):
    return {"error": Mean.of(jnp.square(pixels(batch) @ variables["params"]["w"]), batch["mask"])}


def descending(config):
    def loss(variables, batch, rng):
        noise = jax.random.normal(rng("noise"))
        error = pixels(batch) @ variables["params"]["w"] - batch["label"] + noise
        return train.Loss(Mean.of(jnp.square(error)))

    return train.minimize(config.player(init, loss, optax.adam(0.01), ema=0.9), evaluate)


def playing(config):
    def against(sign):
        def loss(variables, opponent, batch, rng):
            own, other = (v["params"]["w"] for v in (variables, opponent))
            values = sign * pixels(batch) @ (own * other + own) + jnp.square(own).sum()
            return train.Loss(Mean.of(values))

        return config.player(init, loss, optax.adam(0.01))

    def measure(both, batch):
        return evaluate(both["generator"], batch)

    return train.alternate(against(1), against(-1), measure, discriminator_steps=2)


def build_minimize(config, spec):
    return cli.Experiment(descending(config), monitor=("test/error", "min"))


def build_alternate(config, spec):
    return cli.Experiment(playing(config))


def build_jointly(config, spec):
    return cli.Experiment(train.train_jointly({"a": descending(config), "b": playing(config)}))


LEARNERS = {
    "minimize": build_minimize,
    "alternate": build_alternate,
    "train_jointly": build_jointly,
}


def begin(build, folder):
    """A process that trains: (its id, where it says which stage it has come to)."""
    read, write = os.pipe()
    if process := os.fork():
        os.close(write)
        return process, read
    status = 1
    try:
        for stage, (owner, name) in STAGES.items():
            setattr(owner, name, telling(getattr(owner, name), stage, write))
        with (folder.parent / "log").open("a", buffering=1) as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
        cli.main(load, build, {"laptop": Config()}, arguments=["train", "--run", str(folder)])
        status = 0
    except SystemExit as end:
        status = end.code
    finally:
        os._exit(status)


def telling(call, stage, pipe):
    def told(*given, **named):
        os.write(pipe, f"{stage}\n".encode())
        return call(*given, **named)

    return told


def finish(build, folder):
    """Lets a run end undisturbed; returns its stages in turn, each with the seconds it took."""
    process, pipe = begin(build, folder)
    times = [("", time.monotonic())]
    with os.fdopen(pipe) as lines:
        times += [(line.strip(), time.monotonic()) for line in lines]
    _, status = os.waitpid(process, 0)
    times.append(("", time.monotonic()))
    if status:
        raise AssertionError((folder.parent / "log").read_text())
    return [(stage, after - at) for (stage, at), (_, after) in zip(times, times[1:], strict=False)][
        1:
    ]


def ended(folder):
    """The digest, and the step and names of every line."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    said = [(line["step"], sorted(line)) for line in lines]
    return json.loads((folder / "summary.json").read_text())["digest"], said


def kill(build, folder, stage, number, seconds):
    """Kills a run so many seconds after it has come to a stage for this many times."""
    process, pipe = begin(build, folder)
    with os.fdopen(pipe) as lines:
        for line in lines:
            number -= line.strip() == stage
            if number < 0:
                break
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def main(kills, seed=0):
    assert orbax.checkpoint and tensorboardX.record_writer  # imported before the fork
    draw, failed = random.Random(int(seed)), []
    for name, build in LEARNERS.items():
        with tempfile.TemporaryDirectory() as scratch:
            whole = pathlib.Path(scratch) / "whole"
            stages, expected, counts = finish(build, whole), ended(whole), collections.Counter()
            for number in range(int(kills)):
                stage = list(STAGES)[number % len(STAGES)]
                took = [seconds for other, seconds in stages if other == stage]
                place = draw.randrange(len(took))
                folder = pathlib.Path(scratch) / str(number) / "run"
                folder.parent.mkdir()
                kill(build, folder, stage, place, seconds := draw.uniform(0, took[place]))
                counts[stage] += not (folder / "summary.json").exists()
                try:
                    finish(build, folder)
                    if ended(folder) != expected:
                        raise AssertionError(f"{ended(folder)} instead of {expected}")
                except AssertionError as error:
                    failed.append(f"{name}: {stage} {place} after {seconds:.3f} s: {error}")
                    print(failed[-1], flush=True)
            before = ", ".join(f"{stage} {count}" for stage, count in counts.items())
            print(f"{name}: {kills} kills, before the end: {before}", flush=True)
    print(f"{len(failed)} of {int(kills) * len(LEARNERS)} failed")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main(*sys.argv[1:])
