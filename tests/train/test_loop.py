"""The loop: its order, what it notices, and what it never saves."""

import math
import os
import signal
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advdl import data
from advdl.errors import UserError
from advdl.metrics import Mean
from advdl.train import Log, Loss, Player, Run, fit, loop, minimize, multi_step, place

KEY = jax.random.key(0)


def learner(poison_at):
    """Counts its steps in `w`; its loss turns nan at one of them."""

    def loss(variables, batch, rng):
        w = variables["params"]["w"]
        return Loss(Mean.of(w * jnp.where(batch["t"] == poison_at, jnp.nan, -batch["x"])))

    return minimize(
        Player(lambda k, b: {"params": {"w": jnp.float32(0)}}, loss, optax.sgd(1.0)),
        lambda v, b: {},
    )


def batch(t):
    return {"x": np.ones(4, np.float32), "t": np.full(4, t, np.float32)}


class Record:
    def __init__(self):
        self.events = []

    def callbacks(self):
        def note(kind):
            return lambda step, state: self.events.append(
                (kind, step, float(state["model"].params["w"]))
            )

        return {
            "log": lambda step, figures: self.events.append(("log", step, figures["train/loss"])),
            "save": note("save"),
            "evaluate": note("evaluate"),
        }

    def of(self, kind):
        return [(step, value) for name, step, value in self.events if name == kind]


def run(steps, poison_at=-1, start=0, batches=batch, **every):
    placed, record = place("jit")(learner(poison_at)), Record()
    state = placed.init(KEY, placed.put(batch(0)))
    state = jax.tree.map(lambda x: x + start if x.dtype == jnp.int32 else x, state)

    def stream(first, last):
        return (placed.put(batches(t)) for t in range(first, last))

    return record, lambda: fit(placed, state, stream, KEY, steps, 4, **every, **record.callbacks())


def test_every_step_is_logged_once_in_windows_and_the_end_is_evaluated_then_saved():
    record, go = run(10, log_every=4, evaluate_every=5, save_every=3)
    outcome = go()
    assert (outcome.steps, outcome.stopped, int(outcome.state.step)) == (10, False, 10)
    # the loss of step t is -(t - 1): windows 1-4, 5-8 and the rest, 9-10
    assert record.of("log") == [
        (4, pytest.approx(-1.5)),
        (8, pytest.approx(-5.5)),
        (10, pytest.approx(-8.5)),
    ]
    assert record.of("save") == [(3, 3.0), (6, 6.0), (9, 9.0), (10, 10.0)]
    assert record.of("evaluate") == [(5, 5.0), (10, 10.0)]
    assert [event[0] for event in record.events[-3:]] == ["log", "evaluate", "save"]


def test_the_batches_of_a_resumed_run_are_those_of_its_steps():
    asked = []
    _, go = run(7, log_every=2, start=3, batches=lambda t: asked.append(t) or batch(t))
    assert go().steps == 4 and asked == [3, 4, 5, 6]


def test_a_gradient_that_is_not_finite_is_noticed_before_what_it_made_is_saved():
    """sqrt at zero: the loss of step 3 is finite and its gradient is not."""

    def loss(variables, batch, rng):
        w = variables["params"]["w"]
        return Loss(Mean.of(-w * batch["x"] + jnp.where(w == 2, jnp.sqrt(jnp.abs(w - 2)), 0.0)))

    spiked = minimize(
        Player(lambda k, b: {"params": {"w": jnp.float32(0)}}, loss, optax.sgd(1.0)),
        lambda v, b: {},
    )
    placed, record = place("jit")(spiked), Record()
    state = placed.init(KEY, placed.put(batch(0)))

    def stream(first, last):
        return (placed.put(batch(t)) for t in range(first, last))

    with pytest.raises(UserError, match="gradient_norm is (inf|nan) at step 3"):
        fit(placed, state, stream, KEY, 10, 4, log_every=100, save_every=1, **record.callbacks())
    assert record.of("save") == [(1, 1.0), (2, 2.0)]


@pytest.mark.parametrize("log", [1, 4, 100])
def test_a_loss_that_is_not_finite_stops_the_run_names_the_step_and_is_not_saved(log):
    record, go = run(20, log_every=log, save_every=2, poison_at=6)
    with pytest.raises(UserError, match="loss is nan at step 7"):
        go()
    assert record.of("save") and all(
        step <= 6 and math.isfinite(w) for step, w in record.of("save")
    )


def test_the_clock_leaves_out_every_pause(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(loop, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    clock = loop.Clock()
    for trained, paused, waited in ((3.0, 10.0, 1.0), (4.0, 20.0, 0.5)):
        now[0] += trained
        with clock.paused():
            now[0] += paused
        with clock.waiting():
            now[0] += waited
        assert clock.lap() == trained + waited
    assert clock.total == 8.5 and clock.waited == 1.5


def test_sigterm_ends_after_the_step_with_a_save():
    def batches(t):
        if t == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(t)

    before = signal.getsignal(signal.SIGTERM)
    record, go = run(100, log_every=50, batches=batches)
    outcome = go()
    assert outcome.stopped and outcome.steps == 6
    assert record.of("save") == [(6, 6.0)] and record.of("evaluate") == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_log_that_goes_on_drops_what_will_be_written_again(tmp_path):
    run = Run(tmp_path)
    with Log(run, 0) as first:
        for step in (2, 4, 6):
            first(step, {"train/loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "trai')  # cut off by a kill
    with Log(run, 4) as again:
        again(6, {"train/loss": math.nan})
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == [
        '{"step": 2, "train/loss": 2.0}',
        '{"step": 4, "train/loss": 4.0}',
        '{"step": 6, "train/loss": "nan"}',
    ]


def test_several_steps_a_call_log_evaluate_and_save_at_the_same_steps():
    every = {"log_every": 4, "evaluate_every": 6, "save_every": 6}
    once, record = run(12, **every), Record()
    once[1]()
    placed = place("jit")(multi_step(learner(-1), 2))
    several = data.StackedBatches(batch, 2)
    state = placed.init(KEY, placed.put(several(0)))

    def stream(first, last):
        return (placed.put(several(t)) for t in range(first // 2, last // 2))

    outcome = fit(
        placed, state, stream, KEY, 12, 4, **every, **record.callbacks(), steps_per_call=2
    )
    assert outcome.steps == 12
    for kind in ("log", "save", "evaluate"):
        np.testing.assert_allclose(record.of(kind), once[0].of(kind))


def test_steps_that_do_not_come_out_even_are_refused():
    placed = place("jit")(multi_step(learner(-1), 2))
    state = placed.init(KEY, placed.put(data.StackedBatches(batch, 2)(0)))
    with pytest.raises(UserError, match="2 steps a call do not come out even"):
        fit(
            placed,
            state,
            lambda *_: iter(()),
            KEY,
            12,
            4,
            log_every=3,
            steps_per_call=2,
        )
