"""Statistics of normalizations that are measured for a state, and what is evaluated with them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advdl import train
from advdl.errors import UserError
from advdl.metrics import Mean
from advdl.nn import BatchNorm


class Net(nn.Module):
    """Normalization with a constant in front."""

    norm: type = BatchNorm

    @nn.compact
    def __call__(self, x, train):
        return self.norm(name="norm")(x, train)


def batches(number):
    return {"image": np.random.default_rng(number).normal(number, 2, (8, 3)).astype(np.float32)}


def learner(ema):
    def init(key, batch):
        return Net().init(key, batch["image"], train=False)

    def loss(variables, batch, rng):
        out, new = train.training(Net(), variables, batch["image"])
        return train.Loss(Mean.of(jnp.square(out).sum(-1)), {}, new)

    def evaluate(variables, batch):
        return {"out": Mean.of(Net().apply(variables, batch["image"], train=False))}

    return train.minimize(train.Player(init, loss, optax.sgd(0.1), ema=ema), evaluate)


@pytest.mark.parametrize("ema", [None, 0.5])
@pytest.mark.parametrize("placement", ["jit", "pmap", "mesh"])
def test_measured_statistics_are_the_mean_of_those_of_each_batch(placement, ema):
    own = learner(ema)
    place = train.place(placement)
    placed, measuring = place(own), place(train.measuring(own, train.batch_statistics(Net())))
    state = placed.init(jax.random.key(0), placed.put(batches(0)))
    state, _ = placed.step(state, placed.put(batches(0)), jax.random.key(1))
    before = jax.device_get(state)
    found = train.measure_statistics(measuring, state, batches, 3)
    parts = [batches(n)["image"] for n in range(3)]
    norm = found["batch_stats"]["norm"]
    np.testing.assert_allclose(norm["mean"], np.mean([x.mean(0) for x in parts], 0), rtol=1e-5)
    np.testing.assert_allclose(norm["var"], np.mean([x.var(0) for x in parts], 0), rtol=1e-4)
    evaluated = train.with_statistics(state, found)
    average = evaluated["model"].average
    np.testing.assert_array_equal(average["batch_stats"]["norm"]["mean"], norm["mean"])
    expected = before["model"].average["params"]
    jax.tree.map(np.testing.assert_array_equal, average["params"], expected)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), before)


def test_a_network_without_normalization_has_no_statistics():
    with pytest.raises(UserError, match="--recompute-statistics.*Dense has none"):
        train.batch_statistics(nn.Dense(3))
