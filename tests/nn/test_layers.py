"""Pooling, dense layers, dropout, maxout, materialization, and who chooses the implementation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from advdl.nn import Dense, Dropout, Maxout, global_average_pool, materialize, replica, tracing
from advdl.nn.elementwise import add_relu, relu, tanh


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def test_the_backend_chooses_unless_told():
    assert tracing.fast() == (jax.default_backend() == "cpu")
    with tracing.use(implementation="xla"):
        assert not tracing.fast()
        with tracing.use(implementation="fast"):
            assert tracing.fast()
        assert not tracing.fast()
    with pytest.raises(ValueError, match="'quick'"), tracing.use(implementation="quick"):
        pass


@pytest.mark.parametrize("name", ["fast", "xla"])
def test_global_average_pool_is_the_mean_over_space(name):
    x = normal(3, 4, 5, 6)
    with tracing.use(implementation=name):
        y, vjp = jax.vjp(global_average_pool, x)
        half = global_average_pool(x.astype(jnp.bfloat16))
    np.testing.assert_allclose(y, x.mean((1, 2)), atol=1e-6)
    g = normal(3, 6, seed=1)
    np.testing.assert_allclose(
        vjp(g)[0], np.broadcast_to(g[:, None, None] / 20, x.shape), atol=1e-7
    )
    assert half.dtype == jnp.bfloat16


def test_dropout_keeps_the_expected_value_and_scales():
    x = np.abs(normal(64, 500)) + 1
    y = np.asarray(Dropout(0.3).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)}))
    kept = y != 0
    np.testing.assert_allclose(kept.mean(), 0.7, atol=4 * np.sqrt(0.21 / x.size))
    np.testing.assert_allclose(y[kept], x[kept] / 0.7, rtol=1e-6)
    assert len({row.tobytes() for row in kept}) == len(x)


def test_dropout_is_the_identity_in_evaluation_and_at_rate_0_and_zero_at_rate_1():
    x = normal(4, 5)
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x, train=False), x)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, x, train=True), x)
    assert not np.any(Dropout(1.0).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)}))


def test_dropout_draws_the_same_mask_under_every_placement():
    x = normal(8, 6) + 3

    def dropped(x, key):
        return Dropout(0.5).apply({}, x, train=True, rngs={"dropout": key})

    key = jax.random.key(5)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    one = jax.jit(dropped)(x, key)
    sharded = jax.jit(
        dropped,
        in_shardings=(
            NamedSharding(mesh, PartitionSpec("data")),
            NamedSharding(mesh, PartitionSpec()),
        ),
    )(x, key)
    mapped = jax.pmap(
        dropped, axis_name=replica.AXIS, in_axes=(0, None), devices=jax.devices()[:4]
    )(x.reshape(4, 2, 6), key)
    np.testing.assert_array_equal(sharded, one)
    np.testing.assert_array_equal(mapped.reshape(8, 6), one)


def test_maxout_is_the_largest_of_its_pieces():
    x = normal(4, 3)
    layer = Maxout(5, 2, bias_init=jax.nn.initializers.normal(1.0))
    v = layer.init(jax.random.key(0), x)
    kernel, bias = v["params"]["kernel"], v["params"]["bias"]
    assert kernel.shape == (3, 2, 5) and bias.shape == (2, 5)
    pieces = np.stack([x @ kernel[:, i] + bias[i][None] for i in range(2)])
    np.testing.assert_allclose(layer.apply(v, x), pieces.max(0), atol=1e-6)
    assert Maxout(5, 2, dtype=jnp.bfloat16).apply(v, x).dtype == jnp.bfloat16


@pytest.mark.parametrize("name", ["fast", "xla"])
def test_materialized_functions_are_the_functions(name):
    x, y, g = normal(3, 4), normal(3, 4, seed=1), normal(3, 4, seed=2)
    x[0] = 0.0
    with tracing.use(implementation=name):
        np.testing.assert_array_equal(relu(x), np.maximum(x, 0))
        np.testing.assert_array_equal(jax.vjp(relu, x)[1](g)[0], np.where(x > 0, g, 0))
        np.testing.assert_array_equal(add_relu(x, y), np.maximum(x + y, 0))
        for gradient in jax.vjp(add_relu, x, y)[1](g):
            np.testing.assert_array_equal(gradient, np.where(x + y > 0, g, 0))
        cubed = materialize(lambda x: x**3)
        np.testing.assert_allclose(
            jax.grad(lambda x: jax.grad(lambda x: cubed(x).sum())(x).sum())(x), 6 * x, rtol=1e-5
        )


def test_tanh_is_tanh_and_keeps_its_output_alone_for_its_derivative():
    x, g = 3 * normal(3, 4), normal(3, 4, seed=1)
    y, back = jax.vjp(tanh, x)
    np.testing.assert_allclose(y, np.tanh(x), rtol=1e-6)
    np.testing.assert_allclose(back(g)[0], g / np.cosh(x) ** 2, rtol=1e-5, atol=1e-6)
    (kept,) = jax.tree.leaves(back)
    np.testing.assert_array_equal(kept, y)
    second = jax.grad(lambda x: jax.vjp(tanh, x)[1](g)[0].sum())(x)
    np.testing.assert_allclose(second, -2 * g * np.tanh(x) / np.cosh(x) ** 2, rtol=1e-4, atol=1e-5)


def test_materialized_results_are_computed_once():
    """Each reader of an elementwise chain repeats it; a materialized link is left in the program as
    a call."""

    def chain(link, x):
        for _ in range(3):
            x = link(x)
        return x

    def calls(name):
        with tracing.use(implementation=name):
            link = materialize(lambda x: jnp.tanh(x) * 2)
            return (
                jax.jit(lambda x: chain(link, x))
                .lower(normal(4, 4))
                .compile()
                .as_text()
                .count(" call(")
            )

    assert calls("fast") == 3
    assert calls("xla") == 0


def test_materialized_functions_stay_where_the_batch_is():
    """On a mesh each device computes its own rows: no gathering."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    over_batch = NamedSharding(mesh, PartitionSpec("data"))
    x = normal(8, 3)
    with tracing.use(implementation="fast"):
        f = jax.jit(lambda x: relu(relu(x) - 1), in_shardings=over_batch, out_shardings=over_batch)
        text = f.lower(x).compile().as_text()
    assert "all-gather" not in text and "all-reduce" not in text
    np.testing.assert_array_equal(f(x), np.maximum(np.maximum(x, 0) - 1, 0))


@pytest.mark.parametrize("dtype", [None, pytest.param(jnp.bfloat16, marks=pytest.mark.slow)])
def test_a_dense_layer_is_flaxs_with_its_parameters_and_gradients(dtype):
    x, found = normal(2, 3, 5, 4), []
    for layer in (Dense, nn.Dense):
        module = layer(7, dtype=dtype, bias_init=nn.initializers.normal())
        variables = module.init(jax.random.key(0), x)

        def f(variables, x, module=module):
            return jnp.square(module.apply(variables, x).astype(jnp.float32)).sum()

        found.append((variables, jax.value_and_grad(f, (0, 1))(variables, x)))
    tolerance = 1e-5 if dtype is None else 2e-2
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), *found
    )
