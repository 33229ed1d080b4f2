"""The loop: save if due · batch(t) · step · log the metrics of the steps before · evaluate if due.
In this order, no other.

It is the only impure part of training, and it holds no state that a checkpoint would have to know.
"""

import contextlib
import functools
import math
import pathlib
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from advdl.errors import UserError
from advdl.metrics import compute, merge
from advdl.train import hosts, stop
from advdl.train.learner import Batch, Key, State
from advdl.train.placement import CompiledLearner
from advdl.train.trace import Trace
from advdl.train.watchdog import Watchdog


class Outcome(NamedTuple):
    """The final state; updates done in this call; seconds spent on them and, of these, waiting for
    data (compilation, evaluation and saving are in neither); and whether a request to stop ended
    the run, or came while it ended."""

    state: State
    steps: int
    seconds: float
    waited: float
    stopped: bool


def fit(
    placed: CompiledLearner,
    state: State,
    stream: Callable[[int, int], Generator[Batch, None, None]],
    key: Key,
    steps: int,
    examples: int,
    *,
    log: Callable[[int, Mapping[str, float]], None] = lambda step, figures: None,
    save: Callable[[int, State], None] = lambda step, state: None,
    evaluate: Callable[[int, State], None] = lambda step, state: None,
    log_every: int = 50,
    evaluate_every: int = 0,
    save_every: int = 0,
    steps_per_call: int = 1,
    watchdog: Watchdog | None = None,
    trace: Trace | None = None,
) -> Outcome:
    """Trains from `state.step` to `steps` updates.

    stream: `(start, stop)` -> the batches of these steps in turn, put in place. examples: examples
    a step uses, for the rate. log, save, evaluate: callbacks, each called after every so many steps
    (0: not) and at the end. steps_per_call: steps that `placed.step` does (`multi_step`), each
    batch then being that of as many. A request to stop (`stop`) ends it after the current call,
    with a save; sent to one of several processes, it ends all of them after the same call.
    watchdog: hears of every step. trace: profiles some steps. Raises UserError where `state.step`,
    `steps` or one of the intervals are no multiples of `steps_per_call`.

    Metrics are fetched in windows of `log_every` steps, after a later step is dispatched, so the
    device never waits for the host, but before the state is saved; each step's loss and gradient
    norm is looked at, and the state itself before it is saved and at the end. Raises UserError
    where one is not finite, naming the step; what is not finite is never saved.
    """
    start = int(state.step)
    if any(
        number % steps_per_call for number in (start, steps, log_every, evaluate_every, save_every)
    ):
        raise UserError(
            f"{steps_per_call} steps a call do not come out even with a start at step {start},"
            f" {steps} steps in all and {log_every}, {evaluate_every}, {save_every} between lines,"
            " evaluations, checkpoints; make them multiples, or give --steps-per-call 1"
        )
    clock, window, logged = Clock(), Window(steps_per_call), start
    watchdog, trace = watchdog or Watchdog(0, pathlib.Path()), trace or Trace(pathlib.Path())

    @contextlib.contextmanager
    def apart(what: str):
        """What happens inside is no training, neither for the rate nor for the watchdog."""
        with clock.paused(), watchdog.apart(what):
            yield

    def flush(last: int) -> None:
        nonlocal logged
        window.fetch()
        if figures := window.close():
            seconds = max(clock.lap(), 1e-9)
            rate, logged = (last - logged) / seconds, last
            figures |= {
                "seconds": seconds,
                "steps_per_second": rate,
                "examples_per_second": rate * examples,
            }
            log(last, {f"train/{name}": value for name, value in figures.items()})

    with (
        stop.deferred() as requested,
        watchdog,
        contextlib.closing(stream(start, steps)) as batches,
    ):
        t = start
        while t < steps and not _stopped(requested, (t - start) // steps_per_call):
            if t > start and _due(t, save_every):
                # What a resumed run does not log again comes first.
                flush(t) if _due(t, log_every) else window.fetch()
                with apart("saving"):
                    check_finite(t, state)
                    save(t, state)
            with clock.waiting():
                batch = next(batches)
            with apart("compiling"):  # of the first batch, and of the first of another shape
                placed.step.compile(state, batch, key)
                if trace.begins(t):
                    jax.block_until_ready(state)
                    trace.start()
            state, metrics = placed.step(state, batch, key)
            watchdog.begun(t + steps_per_call, metrics)
            if _due(t, log_every) and t > start:
                flush(t)
            window.add(t, metrics)
            t += steps_per_call
            if trace.ends(t):
                jax.block_until_ready(state)
                with apart("writing the trace"):
                    trace.stop()
            if _due(t, evaluate_every) and t < steps:
                jax.block_until_ready(state)
                with apart("evaluating"):
                    evaluate(t, state)
        jax.block_until_ready(state)
        flush(t)
        early = t < steps
        with apart("evaluating and saving"):
            trace.stop()
            if t > start:
                check_finite(t, state)
                if not early:
                    evaluate(t, state)
                save(t, state)
        ended = early or not hosts.several() and requested()
        return Outcome(state, t - start, clock.total, clock.waited, ended)


def check_finite(step: int, state: State) -> None:
    """Raises UserError, on every process, where a number of the state of this step is not finite:
    an update can be made of a loss and a gradient that are."""
    own = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree.leaves_with_path(state)
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.inexact)
        if not all(np.isfinite(np.asarray(part.data)).all() for part in leaf.addressable_shards)
    ]
    if hosts.all_processes(not own) if hosts.several() else not own:
        return
    raise UserError(
        f"{own[0] if own else 'a part of the state'} is not finite after step {step}; the run"
        " stopped and its last checkpoint is from before; lower --learning-rate, or clip gradients"
        " with --clip"
    )


def evaluate(placed: CompiledLearner, state: State, batches: Any) -> dict[str, Any]:
    """Every batch of a finite sequence, merged: figures by name. Each example counts once (masks
    and sums)."""

    def measured(number):
        return _on_host(placed.evaluate(state, placed.put(batches[number])))

    return compute(functools.reduce(merge, map(measured, range(len(batches)))))


def apply(
    placed: CompiledLearner,
    state: State,
    name: str,
    inputs: Mapping[str, np.ndarray],
    rows: int = 64,
    **settings: Any,
) -> Any:
    """The learner's function of this name, of all examples: a tree of host arrays (N, …).

    inputs: arrays (N, …) by name, N at least 1, the same on every process. They are taken `rows` at
    a time, or the next multiple of the parts that the placement splits a batch into; the last
    portion is filled up with its last example, so that one program serves all counts. Every process
    calls this and gets everything. Nobody gathers the state. Raises ValueError for another name.
    """
    if name not in placed.functions:
        known = ", ".join(placed.functions) or "none"
        raise ValueError(f"no function {name!r}; the learner was given: {known}")
    count = len(next(iter(inputs.values())))
    size = -(-rows // placed.ways) * placed.ways
    number, parts = placed.part()
    found = []
    for first in range(0, count, size):
        places = np.minimum(np.arange(first, first + size), count - 1)
        own = places.reshape(parts, -1)[number]
        batch = placed.put({key: np.asarray(value)[own] for key, value in inputs.items()})
        found.append(_on_host(hosts.allgather(placed.functions[name](state, batch, **settings))))
    return jax.tree.map(lambda *part: np.concatenate(part)[:count], *found)


class Window:
    """Metrics of consecutive steps: kept on the device, fetched together, looked at one by one,
    merged."""

    def __init__(self, steps_per_call: int = 1):
        self._steps_per_call, self._pending = steps_per_call, []
        self._merged: Any = None

    def add(self, step: int, metrics: Any) -> None:
        """Keeps the metrics of the call whose first update is number `step` (from 0) where they
        are."""
        self._pending.append((step, metrics))

    def fetch(self) -> None:
        """Brings what is pending to the host. Raises UserError at the first loss or gradient that
        is not finite."""
        pending, self._pending = self._pending, []
        for step, metrics in _on_host(pending):
            for name in sorted(metrics, key=lambda name: not name.endswith("loss")):
                total = metrics[name].total if name.endswith(("loss", "gradient_norm")) else 0.0
                if not math.isfinite(total):
                    at = (
                        f"step {step + 1}"
                        if self._steps_per_call == 1
                        else f"one of steps {step + 1} to {step + self._steps_per_call}"
                    )
                    raise UserError(
                        f"{name} is {float(total)} at {at}; the run stopped and its last checkpoint"
                        " is from before; lower --learning-rate, or clip gradients with --clip"
                    )
            self._merged = metrics if self._merged is None else merge(self._merged, metrics)

    def close(self) -> dict[str, float]:
        """The figures of what was fetched since the last time."""
        merged, self._merged = self._merged, None
        return (
            {}
            if merged is None
            else {name: float(value) for name, value in compute(merged).items()}
        )


class Clock:
    """Seconds of training, without what is paused; and of these, those spent waiting for data."""

    def __init__(self):
        self._start, self._pause, self._lap, self.waited = time.perf_counter(), 0.0, 0.0, 0.0

    @property
    def total(self) -> float:
        """Seconds so far, pauses left out."""
        return time.perf_counter() - self._start - self._pause

    def lap(self) -> float:
        """Seconds since the last lap, pauses left out."""
        before, self._lap = self._lap, self.total
        return self._lap - before

    @contextlib.contextmanager
    def paused(self):
        """What happens inside is not training."""
        before = time.perf_counter()
        yield
        self._pause += time.perf_counter() - before

    @contextlib.contextmanager
    def waiting(self):
        """What happens inside is waiting for data."""
        before = time.perf_counter()
        yield
        self.waited += time.perf_counter() - before


def _on_host(tree: Any) -> Any:
    """`jax.device_get`, which takes ten times as long for arrays of a CPU, though they are on the
    host already."""
    return (
        jax.tree.map(np.asarray, tree) if jax.default_backend() == "cpu" else jax.device_get(tree)
    )


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _stopped(requested: Callable[[], bool], call: int) -> bool:
    """Whether to end before this call of the step. Of several processes, all do before the same
    one, whichever was asked to stop: JAX takes SIGTERM (and passes on a notice of the cloud that it
    knows), and has them agree."""
    if hosts.several():
        return multihost_utils.reached_preemption_sync_point(call)
    return requested()
