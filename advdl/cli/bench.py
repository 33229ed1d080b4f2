"""bench: what a step costs, and what is added around it.

The compiled step alone, the whole loop, and the step with XLA's own implementation of its
layers, as Flax writes them, are timed in turns within one process, and medians reported, since a
machine's speed drifts.
"""

import resource
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax

from advdl import train
from advdl.cli.experiment import Session, devices_of
from advdl.nn import tracing

ROUNDS = 7
SECONDS = 2.0
COUNTED = 16
"""Batches."""


def run_bench(session: Session, plain: Session) -> Mapping[str, Any]:
    """Milliseconds per step (bare, in the loop, plain), examples/s and what else is counted,
    compile seconds, share of the loop spent waiting for data, memory in MiB and FLOPs of one step
    (XLA's cost analysis)."""
    with tracing.use(implementation="xla"):
        state_plain = _Bare(plain)
    bare = _Bare(session)
    steps_per_call = session.config.steps_per_call
    once = bare.seconds(3 * steps_per_call)
    steps = train.broadcast_from_main(
        lambda: steps_per_call * max(10, min(2000, round(SECONDS / (steps_per_call * once))))
    )
    loop = _Loop(session)
    timed: dict[str, list[float]] = {"bare": [], "loop": [], "plain": []}
    loop.seconds(steps)
    for _ in range(ROUNDS):
        for name, run in (("bare", bare), ("loop", loop), ("plain", state_plain)):
            timed[name].append(run.seconds(steps))
    step = {name: statistics.median(values) for name, values in timed.items()}
    overhead = statistics.median(
        b / a - 1 for a, b in zip(timed["bare"], timed["loop"], strict=True)
    )
    executable = session.placed.step.executable
    memory = executable.memory_analysis()
    return {
        "device": devices_of(bare.state),
        "step ms (bare)": step["bare"] * 1e3,
        "step ms (loop)": step["loop"] * 1e3,
        "loop overhead %": overhead * 100,
        "step ms (XLA's implementation)": step["plain"] * 1e3,
        "plain / fast": step["plain"] / step["bare"],
        "examples/s (loop)": session.examples / step["loop"],
        **{f"{name}/s (loop)": count / step["loop"] for name, count in _counted(session).items()},
        "waiting for data %": 100 * loop.waited / loop.total,
        "compile s": session.placed.step.seconds,
        "compiled memory MiB": (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 2**20
        if memory
        else None,
        "peak memory MiB": _peak() / 2**20,
        "GFLOP per step (XLA)": _flops(executable) / 1e9,
        "rounds × steps": f"{ROUNDS} × {steps}",
        **(session.experiment.bench(session.splits) if session.experiment.bench else {}),
    }


class _Bare:
    """The compiled step on one batch that is already in place."""

    def __init__(self, session: Session):
        self._session, self.state, self._steps_per_call = (
            session,
            session.new(),
            session.config.steps_per_call,
        )
        session.placed.step.compile(self.state, session.batch, session.key)

    def seconds(self, steps: int) -> float:
        """Seconds per step over this many, a multiple of those of a call."""
        placed, batch, key = self._session.placed, self._session.batch, self._session.key
        state = jax.block_until_ready(self.state)
        start = time.perf_counter()
        for _ in range(steps // self._steps_per_call):
            state, _ = placed.step(state, batch, key)
        self.state = jax.block_until_ready(state)
        return (time.perf_counter() - start) / steps


class _Loop:
    """The loop as `train` runs it, data and metrics included, without evaluation and saving."""

    def __init__(self, session: Session):
        self._session, self.state, self.waited, self.total = session, session.new(), 0.0, 0.0

    def seconds(self, steps: int) -> float:
        """Seconds per step over this many, a multiple of those of a call."""
        session, first = self._session, int(self.state.step)
        outcome = train.fit(
            session.placed,
            self.state,
            session.stream,
            session.key,
            first + steps,
            session.examples,
            log_every=session.config.log_every,
            steps_per_call=session.config.steps_per_call,
        )
        self.state = outcome.state
        self.waited += outcome.waited
        self.total += outcome.seconds
        return outcome.seconds / steps


def _counted(session: Session) -> dict[str, float]:
    """What a step uses beside examples, in the mean of the first few batches."""
    found = [session.experiment.units(session.splits.train(t)) for t in range(COUNTED)]
    return {name: statistics.mean(float(one[name]) for one in found) for name in found[0]}


def _flops(executable: Any) -> float:
    """Of one device's program."""
    cost = executable.cost_analysis()
    return float((cost[0] if isinstance(cost, list) else cost).get("flops", float("nan")))


def _peak() -> float:
    """Bytes: the device's own count, else this process's peak resident memory."""
    stats = jax.devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return stats.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
