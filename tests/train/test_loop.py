"""The loop: its order, what it notices, and what it never saves."""

import math
import os
import signal
import struct
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


def test_the_line_of_a_step_is_written_before_its_checkpoint():
    """A resumed run does not write it again."""
    record, go = run(10, log_every=2, save_every=2)
    go()
    events = [event[:2] for event in record.events if event[0] != "evaluate"]
    assert events == [(kind, step) for step in range(2, 11, 2) for kind in ("log", "save")]


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


@pytest.mark.parametrize("steps", [1, 10])
def test_parameters_that_are_not_finite_are_not_evaluated_at_the_end_nor_saved(steps):
    """The loss and the gradient of every step are finite, and so is the parameter before the
    last."""
    start = 0.0 if steps == 1 else -1.0

    def loss(variables, batch, rng):
        return Loss(Mean.of(jnp.clip(variables["params"]["w"], -1, 1) * batch["x"]))

    def rate(count):
        return jnp.where(count == steps - 1, 1e38, 0.0)

    def rule(updates, params):
        return jax.tree.map(lambda update: update * 1e38, updates)

    player = Player(
        lambda k, b: {"params": {"w": jnp.float32(start)}},
        loss,
        optax.chain(optax.scale_by_schedule(rate), optax.stateless(rule)),
    )
    placed, record = place("jit")(minimize(player, lambda v, b: {})), Record()
    state = placed.init(KEY, placed.put(batch(0)))

    def stream(first, last):
        return (placed.put(batch(t)) for t in range(first, last))

    with pytest.raises(UserError, match=f"players/model/params/w is not finite after step {steps}"):
        fit(placed, state, stream, KEY, steps, 4, save_every=2, **record.callbacks())
    assert not record.of("evaluate") and all(np.isfinite(w) for _, w in record.of("save"))
    assert [step for step, _ in record.of("save")] == list(range(2, steps, 2))


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


@pytest.mark.usefixtures("without_nohup")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_request_to_stop_ends_after_the_step_with_a_save(number):
    def batches(t):
        if t == 5:
            os.kill(os.getpid(), number)
        return batch(t)

    before = signal.getsignal(number)
    record, go = run(100, log_every=50, batches=batches)
    outcome = go()
    assert outcome.stopped and outcome.steps == 6
    assert record.of("save") == [(6, 6.0)] and record.of("evaluate") == []
    assert signal.getsignal(number) is before


def test_a_second_interrupt_ends_at_once_and_nohup_is_respected():
    def batches(t):
        if t in (3, 5):
            os.kill(os.getpid(), signal.SIGHUP if ignored else signal.SIGINT)
        return batch(t)

    ignored = False
    with pytest.raises(KeyboardInterrupt):
        run(100, batches=lambda t: [batches(3), batches(5)] if t == 3 else batch(t))[1]()
    before, ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN), True
    try:
        assert not run(10, batches=batches)[1]().stopped
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_log_that_goes_on_drops_what_will_be_written_again(tmp_path):
    run = Run(tmp_path)
    with Log(run, 0) as first:
        for step in (2, 4, 6):
            first(step, {"train/loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "trai')  # cut off by a kill
    with Log(run, 4) as again:
        again(4, {"train/loss": 4.0})  # is there
        again(4, {"test/accuracy": 0.5})
        again(6, {"train/loss": math.nan})
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == [
        '{"step": 2, "train/loss": 2.0}',
        '{"step": 4, "train/loss": 4.0}',
        '{"step": 4, "test/accuracy": 0.5}',
        '{"step": 6, "train/loss": "nan"}',
    ]


def test_tensorboard_reads_the_figures_of_every_start(tmp_path):
    loader = pytest.importorskip("tensorboardX.proto.event_pb2")
    record_writer = pytest.importorskip("tensorboardX.record_writer")
    for start in (0, 4):
        with Log(Run(tmp_path), start) as log:
            log(start + 2, {"train/loss": 0.5 + start, "train/rate": math.inf})
    found = []
    for path in sorted(tmp_path.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:
            size, crc = struct.unpack("<QI", content[:12])
            assert crc == record_writer.masked_crc32c(content[:8])
            data, (crc,) = content[12 : 12 + size], struct.unpack_from("<I", content, 12 + size)
            assert crc == record_writer.masked_crc32c(data)
            event = loader.Event.FromString(data)
            values = [(value.tag, value.simple_value) for value in event.summary.value]
            found.append((event.file_version or event.step, event.session_log.status, values))
            content = content[16 + size :]
    start = loader.SessionLog.START
    assert found == [
        ("brain.Event:2", 0, []),
        (1, start, []),
        (2, 0, [("train/loss", 0.5), ("train/rate", math.inf)]),
        ("brain.Event:2", 0, []),
        (5, start, []),
        (6, 0, [("train/loss", 4.5), ("train/rate", math.inf)]),
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
