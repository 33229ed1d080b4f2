"""A run that hangs ends and says where; one that is only slow does not. And a trace of some
steps."""

import gzip
import json
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import optax
import pytest

from advdl.cli.config import parse_steps
from advdl.errors import UserError
from advdl.metrics import Mean
from advdl.train import STATUS, Loss, Player, Trace, Watchdog, fit, minimize, place

HANG = """
import pathlib, sys, time
import jax.numpy as jnp
from advdl.train import Watchdog

def stuck_here():
    time.sleep(60)

with Watchdog(1.0, pathlib.Path(sys.argv[1])) as watchdog:
    with watchdog.apart("saving"):
        time.sleep(2)
    for step in range(8):
        time.sleep(0.25)  # two seconds, each step in time
        watchdog.begun(step + 1, {"loss": jnp.float32(step)})
    stuck_here()
"""


@pytest.mark.slow
def test_a_run_that_hangs_ends_with_every_stack_and_a_slow_one_does_not(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", HANG, str(tmp_path / "stacks.txt")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == STATUS
    assert "no step has finished for 1 s, the last step was 8" in done.stderr.splitlines()[-1]
    for text in (done.stderr, (tmp_path / "stacks.txt").read_text()):
        assert "stuck_here" in text and "_watch" in text  # of the main thread, and of another


@pytest.mark.slow
def test_what_hangs_beside_the_steps_ends_too_later(tmp_path):
    program = HANG.partition("with watchdog")[0].replace("    with watchdog", "")
    program = (
        program.replace("1.0", "0.3")
        + """
    with watchdog.apart("saving"):
        stuck_here()
"""
    )
    before = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "stacks.txt")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == STATUS and time.monotonic() - before > 3
    assert "saving has taken 3 s, the last step was 0" in done.stderr.splitlines()[-1]
    assert "stuck_here" in (tmp_path / "stacks.txt").read_text()


def test_a_step_counts_when_it_is_done_and_not_when_it_is_dispatched():
    class Result:
        ready = False

        def is_ready(self):
            return self.ready

    watchdog, results = Watchdog(1000.0, None), [Result(), Result()]
    for number, result in enumerate(results):
        watchdog._begun.append((number + 1, result))
    assert not watchdog._finished()
    results[1].ready = True  # steps finish in turn
    assert not watchdog._finished()
    results[0].ready = True
    assert watchdog._finished() and watchdog._step == 2
    assert not watchdog._finished()


def test_a_trace_of_some_steps_is_one_that_perfetto_opens(tmp_path):
    def loss(variables, batch, rng):
        return Loss(Mean.of((variables["params"]["w"] - batch["x"]) ** 2))

    placed = place("jit")(
        minimize(
            Player(lambda k, b: {"params": {"w": jnp.float32(0)}}, loss, optax.sgd(0.1)),
            lambda v, b: {},
        )
    )
    seen = []

    def stream(first, last):
        for _ in range(first, last):
            seen.append(trace._on)
            yield placed.put({"x": jnp.ones(4)})

    trace = Trace(tmp_path / "profile", 2, 3)
    state = placed.init(jax.random.key(0), placed.put({"x": jnp.ones(4)}))
    fit(
        placed,
        state,
        stream,
        jax.random.key(0),
        8,
        4,
        log_every=1,
        trace=trace,
    )
    assert (
        seen == [False] * 3 + [True] * 2 + [False] * 3
    )  # a batch is read before its step is traced
    (file,) = (tmp_path / "profile").rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    runs = [event for event in events if event.get("ph") == "X" and "step" in event.get("name", "")]
    assert runs and all(event["dur"] >= 0 for event in runs)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_which_steps_are_traced():
    assert [parse_steps(text) for text in ("", "20", "100:5")] == [(None, 0), (None, 20), (100, 5)]
    for text in ("0", "5:", ":5", "a", "1:2:3", "-1"):
        with pytest.raises(UserError, match="START:COUNT"):
            parse_steps(text)
