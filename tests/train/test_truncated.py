"""Truncated back-propagation through time: what is carried from window to window. Axes: B batch, T
steps of a window."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advdl import train
from advdl.metrics import Mean
from advdl.train import Loss, Player, minimize, multi_step, place, train_jointly

KEY = jax.random.key(4)
BATCH, STEPS = 8, 12


def unrolled(params, h, x_BT):
    """h_t = tanh(a h + b x) of every example, and the last."""
    found = []
    for t in range(x_BT.shape[1]):
        h = jnp.tanh(params["a"] * h + params["b"] * x_BT[:, t])
        found.append(h)
    return jnp.stack(found, 1), h


def learner(rate=0.1, stateful=True, **options):
    def loss(variables, batch, rng):
        h = batch["carried"] * (1 - batch["fresh"]) if stateful else jnp.zeros(len(batch["x"]))
        said, last = unrolled(variables["params"], h, batch["x"])
        return Loss(Mean.of((said - batch["y"]) ** 2), carried=last if stateful else None)

    def init(key, batch):
        return {"params": {"a": jnp.float32(0.9), "b": jnp.float32(0.7)}}

    begin = (lambda batch: jnp.full(len(batch["x"]), 0.25)) if stateful else None
    return minimize(
        Player(init, loss, optax.sgd(rate), **options), lambda variables, batch: {}, begin
    )


def window(t, length):
    x = np.random.default_rng(3).normal(size=(BATCH, STEPS)).astype(np.float32)
    part = x[:, t * length : (t + 1) * length]
    return {"x": part, "y": np.roll(part, 1, 1), "fresh": np.full(BATCH, t == 0, np.float32)}


def run(learner, length, steps):
    state = learner.init(KEY, window(0, length))
    step = jax.jit(learner.step)
    for t in range(steps):
        state, metrics = step(state, window(t, length), KEY)
    return state, metrics


def test_a_window_as_long_as_the_sequence_is_full_back_propagation():
    cut, whole = (
        run(learner(stateful=stateful), STEPS, 1)[0]["model"].params for stateful in (True, False)
    )
    np.testing.assert_array_equal(cut["a"], whole["a"])
    np.testing.assert_array_equal(cut["b"], whole["b"])


@pytest.mark.slow
def test_windows_carry_the_state_and_cut_the_gradient():
    """The parameters stand still, so windows in turn must be one pass over the sequence; the
    gradient of a window is that of its own steps from a state that is given."""
    state, _ = run(learner(rate=0.0), 3, 3)
    params = state["model"].params
    whole = np.concatenate([window(t, 3)["x"] for t in range(4)], 1)
    every, _ = unrolled(params, jnp.zeros(BATCH), whole)
    np.testing.assert_allclose(state.carried["model"], every[:, 8], rtol=1e-6)

    def of_last(params, h):
        said, _ = unrolled(params, h, whole[:, 9:])
        return ((said - np.roll(whole[:, 9:], 1, 1)) ** 2).mean()

    def through_all(params):
        said, _ = unrolled(params, jnp.zeros(BATCH), whole)
        return ((said[:, 9:] - np.roll(whole[:, 9:], 1, 1)) ** 2).mean()

    _, metrics = learner().step(state, window(3, 3), KEY)
    norm = float(metrics["gradient_norm"].compute())
    assert norm == pytest.approx(
        float(optax.tree.norm(jax.grad(of_last)(params, every[:, 8]))), rel=1e-5
    )
    assert norm != pytest.approx(float(optax.tree.norm(jax.grad(through_all)(params))), rel=1e-2)


def test_a_fresh_sequence_starts_from_nothing():
    state, _ = run(learner(rate=0.0), 4, 1)
    said, last = unrolled(state["model"].params, jnp.zeros(BATCH), window(0, 4)["x"])
    np.testing.assert_allclose(state.carried["model"], last, rtol=1e-6)
    assert np.abs(learner().init(KEY, window(0, 4)).carried["model"] - 0.25).max() == 0


def test_accumulation_gives_every_example_its_own_state_back():
    one, several = (run(learner(accumulate=parts), 3, 4)[0] for parts in (1, 4))
    np.testing.assert_allclose(several.carried["model"], one.carried["model"], rtol=1e-5)
    np.testing.assert_allclose(several["model"].params["a"], one["model"].params["a"], rtol=1e-5)


def test_beside_others_and_several_in_a_call_it_is_what_it_is_alone():
    alone, _ = run(learner(), 3, 4)
    both = train_jointly({"cut": learner(), "plain": learner(stateful=False)})
    state, _ = run(both, 3, 4)
    assert list(state.carried) == ["cut/model"]
    np.testing.assert_allclose(state.carried["cut/model"], alone.carried["model"], rtol=1e-6)

    calls = multi_step(learner(), 2)

    def dealt(n):
        return {
            k: (
                np.stack([window(2 * n, 3)[k], window(2 * n + 1, 3)[k]], 1).reshape(
                    2 * BATCH, *v.shape[1:]
                )
            )
            for k, v in window(0, 3).items()
        }

    state = calls.init(KEY, dealt(0))
    for n in range(2):
        state, _ = calls.step(state, dealt(n), KEY)
    np.testing.assert_allclose(state.carried["model"], alone.carried["model"], rtol=1e-6)


@pytest.mark.slow
def test_every_placement_carries_the_same_and_resumes_from_the_checkpoint_of_another(tmp_path):
    found = {}
    for name, mesh in [
        ("jit", ""),
        ("pmap", ""),
        ("mesh", "data=8"),
        ("mesh", "data=2,fsdp=2,model=2"),
    ]:
        placed = place(name, mesh)(learner())
        data = placed.put(window(0, 3))
        abstract, state = placed.abstract(KEY, data), placed.init(KEY, data)
        folder = tmp_path / f"{name}{mesh}"
        for t in range(4):
            assert state.carried["model"].sharding.is_equivalent_to(
                abstract.carried["model"].sharding, 1
            )
            assert state.carried["model"].shape == abstract.carried["model"].shape == (BATCH,)
            if t == 2:
                with train.Checkpoints(folder) as checkpoints:
                    checkpoints.save(2, state)
            state, _ = placed.step(state, placed.put(window(t, 3)), KEY)
        if name != "jit":
            assert len(state.carried["model"].addressable_shards[0].data) < BATCH
            _, state = train.Checkpoints(tmp_path / "jit").restore(abstract)
            for t in (2, 3):
                state, _ = placed.step(state, placed.put(window(t, 3)), KEY)
        found[name + mesh] = jax.device_get((state.carried, state["model"].params))
    for other in found.values():
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), other, found["jit"])


def test_a_program_is_compiled_for_every_shape_and_only_once_for_each():
    placed = place("jit")(learner(stateful=False))
    state = placed.init(KEY, placed.put(window(0, 3)))
    first, seconds = None, []
    for length in (3, 4, 3, 4, 6):
        state, _ = placed.step(state, placed.put(window(0, length)), KEY)
        first = first or placed.step.executable
        seconds.append(placed.step.seconds)
    assert placed.step.executable is first
    assert seconds[1] == seconds[2] == seconds[3] and seconds[0] < seconds[1] < seconds[4]
