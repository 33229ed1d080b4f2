"""Several networks of one player are what each is alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl import train
from advdl.nn import BatchNorm

X = np.random.default_rng(0).normal(2, 3, (16, 4)).astype(np.float32)


class Normalized(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, train):
        return BatchNorm()(nn.Dense(self.features)(x), train)


@pytest.mark.slow
def test_each_has_its_own_variables_and_changes_no_others():
    networks = train.Networks({"a": Normalized(3), "b": Normalized(5)})
    variables = networks.init(jax.random.key(0), X)
    assert set(variables) == {"params", "batch_stats"}
    output, changed = networks.training(variables, "b", X)
    assert output.shape == (16, 5) and set(train.collections(changed)) == {"batch_stats"}
    assert train.digest(changed["params"]) == train.digest(variables["params"])
    own, old = changed["batch_stats"], variables["batch_stats"]
    assert train.digest(own["a"]) == train.digest(old["a"])
    alone = {name: tree["b"] for name, tree in variables.items()}
    wanted, seen = train.training(networks.modules["b"], alone, X)
    np.testing.assert_array_equal(output, wanted)
    assert train.digest(own["b"]) == train.digest(seen["batch_stats"])
    np.testing.assert_array_equal(
        networks.apply(changed, "b", jnp.asarray(X)),
        networks.modules["b"].apply({**alone, **seen}, X, train=False),
    )
