"""Functions of a learner, frozen variables and the keys of an update, in every placement."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advdl import train
from advdl.metrics import Mean

X = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
BATCH = {"x": X, "mask": np.ones(8, np.float32)}
PLACEMENTS = {"jit": ("jit", ""), "pmap": ("pmap", ""), "mesh": ("mesh", "data=2,fsdp=4")}
TRACED = []


class Plain(nn.Module):
    """A network that is the same in training."""

    network: nn.Module

    def __call__(self, x, train):
        return self.network(x)


def learner():
    """Learns the weights of a frozen network."""

    def init(key, batch):
        return {"params": {"w": jax.random.normal(key, (6,))}}

    def loss(variables, batch, rng):
        wanted = batch["x"] @ variables["frozen"]["teacher"]["w"]
        error = batch["x"] @ variables["params"]["w"] - wanted
        return train.Loss(Mean.of(jnp.square(error)), {"step": Mean.of(rng.step[None])})

    def evaluate(variables, batch):
        return {"out": Mean.of(batch["x"] @ variables["params"]["w"], batch["mask"])}

    def out(variables, batch, times=1):
        TRACED.append(times)
        return {"own": times * batch["x"] @ variables["params"]["w"], "x": batch["x"]}

    def teacher(variables, batch):
        return batch["x"] @ variables["frozen"]["teacher"]["w"]

    frozen = {"teacher": {"w": jax.ShapeDtypeStruct((6,), jnp.float32)}}
    player = train.Player(init, loss, optax.sgd(0.1), ema=0.0, frozen=frozen)
    return train.minimize(player, evaluate, functions={"out": out, "teacher": teacher})


def trained(name, member=None):
    placed = train.place(*PLACEMENTS[name])(member or learner())
    state = placed.init(jax.random.key(0), placed.put(BATCH))
    players = dict(state.players)
    for player, own in players.items():
        values = jax.device_get(own.variables) | {"frozen": {"teacher": {"w": np.ones(6)}}}
        players[player] = own.starting_from(values)
    state = state.replace(players=players)
    for _ in range(150):
        state, metrics = placed.step(state, placed.put(BATCH), jax.random.key(1))
    return placed, state, metrics


@pytest.mark.parametrize("name", PLACEMENTS)
def test_a_function_gives_every_example_its_own_whatever_the_portions(name):
    placed, state, _ = trained(name)
    w = np.asarray(state["model"].average["params"]["w"])
    for count, rows in ((8, 8), (5, 3), (1, 64), (8, 1)):
        found = train.apply(placed, state, "out", {"x": X[:count]}, rows=rows, times=3)
        np.testing.assert_allclose(found["own"], 3 * X[:count] @ w, rtol=1e-5, atol=1e-5)
        assert (found["x"] == X[:count]).all()


@pytest.mark.parametrize("name", PLACEMENTS)
def test_frozen_variables_are_used_and_never_change(name):
    placed, state, metrics = trained(name)
    frozen = state["model"].average["frozen"]["teacher"]["w"]
    assert (np.asarray(frozen) == 1).all()
    assert metrics["loss"].compute() < 1e-3
    assert (np.asarray(state["model"].ema["params"]["w"]) == state["model"].params["w"]).all()
    assert "frozen" not in state["model"].ema
    np.testing.assert_allclose(
        train.apply(placed, state, "teacher", {"x": X}), X.sum(1), rtol=1e-5, atol=1e-5
    )


def test_frozen_variables_have_the_shapes_that_an_init_would_give_them():
    network = Plain(nn.Dense(3))

    def init(key, batch):
        return {"params": {"w": jnp.zeros(2)}}

    frozen = {"teacher": train.initial(network, "x"), "other": jnp.ones(2)}
    player = train.Player(init, lambda *_: None, optax.sgd(0.1), frozen=frozen)
    state = train.minimize(player, lambda *_: {}).init(jax.random.key(0), BATCH)
    own = state["model"].variables["frozen"]
    wanted = jax.eval_shape(lambda: network.init(jax.random.key(0), X, False))
    assert train.layout(own["teacher"]) == train.layout(wanted)
    assert not any(x.any() for x in jax.tree.leaves(own))


def test_a_loss_sees_the_number_of_updates_before_it():
    _, state, metrics = trained("jit")
    assert int(state.step) == 150 and metrics["step"].compute() == 149


def test_a_sharded_state_is_used_where_it_lies():
    """No array of the state that is split over `fsdp` comes together on one device."""
    placed, state, _ = trained("mesh", learner())
    placed = train.place("mesh", "fsdp=2", devices=jax.devices()[:2])(learner())
    state = placed.init(jax.random.key(0), placed.put(BATCH))
    before = jax.tree.map(lambda x: x.sharding, state)
    assert any(not s.is_fully_replicated for s in jax.tree.leaves(before))
    found = placed.functions["out"](state, placed.put({"x": X}))
    assert not found["own"].sharding.is_fully_replicated
    assert jax.tree.map(lambda x: x.sharding, state) == before


def test_a_function_is_compiled_once_for_each_setting():
    placed, state, _ = trained("jit")
    TRACED.clear()
    for times in (1, 2, 1, 2, 2):
        train.apply(placed, state, "out", {"x": X}, rows=8, times=times)
    assert TRACED == [1, 2]


def test_a_function_that_is_not_there_is_refused_beside_those_that_are():
    placed, state, _ = trained("jit")
    with pytest.raises(ValueError, match="no function 'sample'.*: out, teacher"):
        train.apply(placed, state, "sample", {"x": X})


def test_members_of_a_comparison_keep_their_own_functions():
    placed, state, _ = trained("jit", train.train_jointly({"a": learner(), "b": learner()}))
    for name in ("a", "b"):
        w = np.asarray(state[f"{name}/model"].average["params"]["w"])
        found = train.apply(placed, state, f"{name}/out", {"x": X})["own"]
        np.testing.assert_allclose(found, X @ w, rtol=1e-5, atol=1e-5)


def test_the_keys_of_two_uses_differ_and_those_of_one_agree():
    rng = train.Rng(jax.random.key(3), jnp.int32(7))
    data = jax.random.key_data
    assert (data(rng("dropout")) == data(rng("dropout"))).all()
    assert (data(rng("dropout")) != data(rng("noise"))).any()
    assert (data(rng("dropout")) != data(rng.key)).any()
