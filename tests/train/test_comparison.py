"""Members of a comparison: what they are called, and that they train as they do alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from advdl import train
from advdl.metrics import Mean

BATCH = {"x": np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)}


def learner(rate):
    def init(key, batch):
        return {"params": {"w": jax.random.normal(key, (3,))}}

    def outputs(variables, batch):
        return batch["x"] @ variables["params"]["w"]

    def loss(variables, batch, rng):
        return train.Loss(Mean.of(jnp.square(outputs(variables, batch) - 1)))

    def evaluate(variables, batch):
        return {"output": Mean.of(outputs(variables, batch))}

    player = train.Player(init, loss, optax.sgd(rate))
    return train.minimize(player, evaluate, functions={"outputs": outputs})


def test_every_seed_of_a_name_is_a_member_with_state_metrics_and_functions_of_its_own():
    comparison = train.Comparison({"slow": learner(0.01), "fast": learner(0.1)}, 2)
    placed = train.place("jit")(comparison.learner)
    state = placed.init(jax.random.key(0), placed.put(BATCH))
    assert set(state.players) == {
        f"{name}-s{seed}/model" for name in ("slow", "fast") for seed in (0, 1)
    }
    state, metrics = placed.step(state, placed.put(BATCH), jax.random.key(1))
    logged = {f"train/{key}": metric.compute() for key, metric in metrics.items()}
    found = comparison.figures(logged, "train/loss")
    assert list(found) == ["slow", "fast"]
    assert len({value for values in found.values() for value in values}) == 4
    assert comparison.keys("test/output")["fast"] == ["test/fast-s0/output", "test/fast-s1/output"]
    assert comparison.members("slow") == ["slow-s0", "slow-s1"]
    outputs = train.apply(placed, state, "fast-s1/outputs", BATCH)
    w = np.asarray(state["fast-s1/model"].params["w"])
    np.testing.assert_allclose(outputs, BATCH["x"] @ w, rtol=1e-5)


def test_a_further_name_or_seed_changes_no_member():
    own = learner(0.1)
    states = [
        train.Comparison(learners, seeds).learner.init(jax.random.key(0), BATCH)
        for learners, seeds in (({"a": own}, 1), ({"b": learner(0.2), "a": own}, 3))
    ]
    first, second = (np.asarray(state["a-s0/model"].params["w"]) for state in states)
    np.testing.assert_array_equal(first, second)
