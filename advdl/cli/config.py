"""The settings of every experiment, and which of it a resumed run may change."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal, Self

import jax
import jax.numpy as jnp
import optax

from advdl import train
from advdl.errors import UserError, nearest
from advdl.ranges import (
    COUNTS,
    Count,
    Few,
    Natural,
    NonNegative,
    Positive,
    Range,
    Rate,
    Share,
    check_ranges,
    whole_number,
)

Seconds = Annotated[float, Range(1, 1e7, "[]")]
SIDES = Range(1, 8192, "[]")
"""Heights and widths of images that may be asked for, in pixels."""
Placement = Literal["mesh", "pmap", "jit"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of a run; an experiment adds its own by inheriting. Fields become flags, docstrings
    their help."""

    run: str = ""
    """Folder of the run; the same command again resumes it (default: runs/EXPERIMENT)."""
    preset: str = "laptop"
    """Named row of defaults; flags given beside it win."""
    data: str = "digits"
    """Built-in name, tfds:NAME or folder:PATH (with PATH/train/CLASS/*.png and
    PATH/test/CLASS/*.png); blank:HxWxC:CLASSES stands in for what is not there."""
    data_dir: str | None = None
    """Folder of prepared data of tensorflow-datasets (default: its own)."""
    steps: Count = 1000
    """Number of updates in all; raise it to continue a finished run."""
    batch: Count = 128
    """Number of examples in a minibatch, over all devices."""
    seed: Natural = 0
    """Seed of the parameters, the order of the data, augmentation and noise."""
    learning_rate: Positive = 1e-3
    """Step size of the optimizer, at its peak."""
    schedule: Literal["constant", "cosine", "step", "thirds", "quarters", "poly"] = "constant"
    """Course of the learning rate after its peak: step divides it by 10 at 1/2 and 3/4 of the
    updates, thirds at 1/3 and 2/3, quarters at 1/4, 1/2 and 3/4."""
    power: NonNegative = 1.0
    """Exponent of the schedule poly, (1 - update / steps)^power."""
    warmup: Natural = 0
    """Number of updates over which the learning rate rises to its peak."""
    clip: NonNegative = 0.0
    """Clip the gradient's global norm to this (0: do not clip)."""
    ema: Rate = 0.0
    """Decay of the moving average that is evaluated and sampled (0: the trained network itself)."""
    accumulate: Count = 1
    """Number of micro-batches that make an update, for batches that do not fit in memory."""
    remat: Literal["none", "dots", "block_inputs"] = "none"
    """What to compute again for the gradient instead of storing it: all but results of products and
    convolutions, or all but what blocks are given (residual and inception blocks, stages of VGG,
    SegNet and U-Net, steps of a recurrent decoder)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the computation; parameters, statistics and optimizer stay in float32."""
    placement: Placement = "mesh"
    """Devices of the run: a mesh of them, one replica on each of them, or the first one alone."""
    mesh: str = ""
    """Axes of the mesh, as data=2,fsdp=2 (axes: data, fsdp, model; default: all devices on
    data)."""
    log_every: Count = 50
    """Number of steps between lines of metrics.jsonl."""
    evaluate_every: Natural = 500
    """Number of steps between evaluations (0: only at the end)."""
    save_every: Natural = 500
    """Number of steps between checkpoints (0: only at the end)."""
    keep: Count = 3
    """Number of latest checkpoints to keep, beside the best."""
    steps_per_call: Count = 1
    """Steps that one call of the compiled program does; more where a step takes less than a
    call."""
    baselines: bool = False
    """Let evaluate measure trivial and classic methods on the same data too."""
    threads: Few = 1
    """Number of threads that read and transform data."""
    checkpoint: str = "latest"
    """Checkpoint that evaluate uses: latest, best (by the figure that the experiment names, of
    those that were written at an evaluation), or the number of a step; or several steps, as
    400,500,600, whose parameters are averaged."""
    checkpoints: str = ""
    """Folder of the checkpoints, also gs://BUCKET/PATH (default: RUN/checkpoints)."""
    profile: str = ""
    """Number of steps to trace into RUN/profile, from the second one on, or START:COUNT."""
    watchdog: Annotated[float, Range(0, 1e7, "[]")] = 1800.0
    """Seconds without a finished step after which the run writes the stack of every thread and ends
    (0: never)."""
    distributed: bool = False
    """Train in one of several processes that share RUN, the same command for each."""
    coordinator: str | None = None
    """HOST:PORT of process 0, for --distributed where no cluster manager gives it."""
    processes: Count | None = None
    """Number of processes, for --distributed where no cluster manager gives it."""
    process: Natural | None = None
    """Index of this process, from 0, for --distributed where no cluster manager gives it."""
    start_timeout: Seconds = 300.0
    """Seconds within which all processes must have started."""
    peer_timeout: Seconds = 60.0
    """Seconds without a heartbeat after which a process counts as lost and the others end."""

    @property
    def dtype(self) -> jnp.dtype:
        """Dtype of the computation."""
        return jnp.dtype(self.precision)

    def but(self, **changes: Any) -> Self:
        """These settings with some changed, by name."""
        return dataclasses.replace(self, **changes)

    def scheduled(self, peak: float = 0.0) -> optax.Schedule:
        """The learning rate by update. peak: another one than `--learning-rate` (0: that)."""
        return train.schedule(
            self.schedule, peak or self.learning_rate, self.steps, self.warmup, self.power
        )

    def player(
        self,
        init: Callable[..., Mapping[str, Any]],
        loss: Callable[..., train.Loss],
        optimizer: optax.GradientTransformation,
        ema: float | None = None,
        frozen: Mapping[str, Any] | None = None,
    ) -> train.Player:
        """A player with these settings' micro-batches, rematerialization and moving average.

        ema: another decay than `--ema`, 0 for none. init, loss, optimizer, frozen: see
        `train.Player`.
        """
        decay = self.ema if ema is None else ema
        return train.Player(
            init, loss, optimizer, decay or None, self.accumulate, self.remat, frozen
        )


@dataclasses.dataclass(frozen=True)
class TextConfig(Config):
    """Settings of a run whose network writes texts."""

    embedding: Count = 64
    """Number of features of a token."""
    features: Count = 128
    """Number of features of the recurrent states."""
    dropout: Rate = 0.0
    """Rate of dropout on what recurrent layers read and on what the logits are made of."""
    sampling: Share = 0.0
    """Probability of feeding the network its own token in place of the true one in training."""
    least: Count = 1
    """Number of times that a word must occur in the training part to be known."""
    optimizer: train.Optimizer = "adam"
    """The update rule."""

    def rule(self, rate: optax.Schedule | None = None) -> optax.GradientTransformation:
        """The optimizer of these settings. rate: another learning rate than `scheduled()`."""
        return train.optimizer(self.optimizer, rate or self.scheduled(), clip=self.clip)

    def growing_sampling(self, step: jax.Array) -> jax.Array | float:
        """Scheduled sampling (Bengio et al. 2015, arXiv:1506.03099): the probability of feeding the
        network its own token, from 0 before the first update to `--sampling` at the last."""
        return self.sampling and self.sampling * jnp.minimum(1.0, step / self.steps)


NOT_STORED = (
    "placement",
    "mesh",
    "profile",
    "checkpoint",
    "distributed",
    "coordinator",
    "processes",
    "process",
)
"""Settings that a run does not store: where to run, and what of a run to look at."""

MAY_CHANGE = frozenset(
    [
        "run",
        "preset",
        "data_dir",
        "steps",
        "log_every",
        "evaluate_every",
        "save_every",
        "keep",
        "threads",
        "steps_per_call",
        "baselines",
        "watchdog",
        "start_timeout",
        "peer_timeout",
    ]
).union(NOT_STORED)
"""Fields a resumed run may change: they do not alter the numbers or, as `steps`, are meant to be
raised."""


@dataclasses.dataclass(frozen=True)
class Predict:
    """Settings of every `predict`; an experiment adds its own by inheriting."""

    run: str = ""
    """Folder of the trained run (default: runs/EXPERIMENT)."""
    checkpoint: str = "latest"
    """Checkpoint to use: latest, best (by the figure that the experiment names), or the number of a
    step; or several steps, as 400,500,600, whose parameters are averaged."""
    out: str = ""
    """Folder to write to (default: RUN/predict)."""
    placement: Placement = "mesh"
    """Devices of the network, whatever it was trained on: a mesh of them, one replica on each of
    them, or the first one alone."""
    mesh: str = ""
    """Axes of the mesh, as data=1,fsdp=4, where each of four devices holds a quarter of the network
    (axes: data, fsdp, model; default: all devices on data)."""

    def without_run(self) -> Config | None:
        """The settings of an experiment that needs no run, as where published weights are used;
        None where a run is needed."""
        return None


def at_least(minimum: float, config: Config, *names: str) -> None:
    """Raises UserError where one of these settings is less than `minimum` (or not a number)."""
    for name in names:
        if not getattr(config, name) >= minimum:
            raise UserError(f"{flag(name)} is {getattr(config, name)}; expected at least {minimum}")


def parse_names(text: str) -> tuple[str, ...]:
    """`"Bag, Ankle boot"` -> ("Bag", "Ankle boot"), `""` -> ()."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def parse_choices(text: str, name: str, known: Collection[str], least: int = 1) -> tuple[str, ...]:
    """Names of `known`, `least` or more, each once. Raises UserError, with the flag's name, for
    others."""
    names, what = parse_names(text), name.removeprefix("--").removesuffix("s")
    for one in names:
        if one not in known:
            raise UserError(f"no {what} {one!r}; there are {', '.join(known)}{nearest(one, known)}")
    if len(names) < least or len(set(names)) < len(names):
        raise UserError(f"{name} is {text!r}; expected some of {', '.join(known)}, each once")
    return names


def parse_units(
    text: str, name: str, allowed: Range = COUNTS, example: str = "32,32"
) -> tuple[int, ...]:
    """`"32,32"` -> (32, 32). Raises UserError, with the flag's name and the example, for what are
    not whole numbers in this range."""
    units = [whole_number(word, allowed) for word in text.split(",")]
    if None in units:
        raise UserError(f"{name} is {text!r}; expected numbers of {allowed}, as in {example}")
    return tuple(unit for unit in units if unit is not None)


def parse_size(text: str, name: str = "--size") -> tuple[int, int] | None:
    """`"180x240"` -> (180, 240), `""` -> None. Raises UserError, with the flag's name, for anything
    else."""
    if not text:
        return None
    sides = [whole_number(word, SIDES) for word in text.split("x")]
    match sides:
        case [int(height), int(width)]:
            return height, width
    raise UserError(
        f"{name} is {text!r}; expected HEIGHTxWIDTH in pixels, each {SIDES}, as 180x240"
    )


def parse_factors(text: str, name: str) -> tuple[float, ...]:
    """`"0.75,1"` -> (0.75, 1.0). Raises UserError, with the flag's name, for what are not numbers
    from 0.1 to 10."""
    try:
        factors = tuple(map(float, text.split(",")))
    except ValueError:
        factors = ()
    if not factors or not all(0.1 <= factor <= 10 for factor in factors):
        raise UserError(f"{name} is {text!r}; expected factors from 0.1 to 10, as 0.75,1,1.25")
    return factors


def parse_checkpoint(text: str, name: str = "--checkpoint") -> train.Which:
    """`"latest"` and `"best"` as they are, `"200"` -> 200. Raises UserError, with the flag's name,
    for anything else."""
    if text in ("latest", "best"):
        return text
    if (step := whole_number(text)) is None:
        raise UserError(f"{name} is {text!r}; expected latest, best or the number of a step")
    return step


def parse_checkpoints(text: str) -> tuple[train.Which, ...]:
    """`"latest"` -> ("latest",), `"200,300"` -> (200, 300), the checkpoints to average. Raises
    UserError for anything else."""
    steps = [whole_number(word.strip()) for word in text.split(",")]
    if len(steps) == 1:
        return (parse_checkpoint(text),)
    if None in steps or len(set(steps)) < len(steps):
        raise UserError(
            f"--checkpoint is {text!r}; expected the numbers of the steps to average, each once,"
            " as 400,500,600"
        )
    return tuple(step for step in steps if step is not None)


def parse_steps(text: str) -> tuple[int | None, int]:
    """`"100:20"` -> (100, 20), `"20"` -> (None, 20), `""` -> (None, 0). Raises UserError for
    anything else."""
    first, colon, count = text.rpartition(":")
    if not text:
        return None, 0
    start, steps = whole_number(first), whole_number(count)
    if not steps or colon and start is None:
        raise UserError(
            f"--profile is {text!r}; expected a number of steps, as in 20, or START:COUNT, as in"
            " 100:20"
        )
    return start, steps


def check(config: Config) -> None:
    """Raises UserError for a number that cannot be, and for flags that do not go together."""
    check_ranges(config)
    counted = ("steps", "log_every", "evaluate_every", "save_every")
    uneven = [name for name in counted if getattr(config, name) % config.steps_per_call]
    if uneven:
        raise UserError(
            f"{flag(uneven[0])} {getattr(config, uneven[0])} is no multiple of --steps-per-call"
            f" {config.steps_per_call}; make it one, or give --steps-per-call 1"
        )
    parse_steps(config.profile)
    alone = [
        name
        for name in ("coordinator", "processes", "process")
        if getattr(config, name) is not None
    ]
    if alone and not config.distributed:
        raise UserError(f"{flag(alone[0])} is for several processes; give --distributed too")
    if config.distributed and config.placement == "jit":
        raise UserError(
            "--placement jit is one device of one process; with --distributed give --placement"
            " mesh, or pmap"
        )
    if "://" in config.run:
        raise UserError(
            f"--run {config.run} is no folder; give one, and --checkpoints {config.run} for what is"
            " large"
        )
    if config.batch % config.accumulate:
        raise UserError(
            f"--batch {config.batch} does not divide into --accumulate {config.accumulate}"
            " micro-batches"
        )


def check_same(config: Config, stored: Mapping[str, Any], folder: Any) -> None:
    """Raises UserError where a run would go on with other numbers than it was started with."""
    given = dataclasses.asdict(config)
    changed = [k for k in given if k not in MAY_CHANGE and given[k] != stored.get(k, given[k])]
    if changed:
        was = ", ".join(f"{flag(k)} {stored[k]}" for k in changed)
        now = ", ".join(f"{flag(k)} {given[k]}" for k in changed)
        raise UserError(
            f"{folder} was started with {was}, and now {now} is asked for; resume it as it was or"
            " give another --run"
        )


def flag(name: str) -> str:
    """A field's name as it is typed."""
    return "--" + name.replace("_", "-")
