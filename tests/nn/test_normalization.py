"""Batch normalization against its equations, Flax's own, and itself over replicas and on a mesh."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from advdl.nn import BatchNorm, ConditionalBatchNorm, GroupNorm, normalize, replica, tracing
from advdl.nn.normalization import channel_mean

EPSILON = 1e-5


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def variables_of(channels):
    scale, bias = 1 + 0.3 * normal(channels), normal(channels, seed=1)
    stats = {"mean": normal(channels, seed=2), "var": 1 + normal(channels, seed=3) ** 2}
    return {"params": {"scale": scale, "bias": bias}, "batch_stats": stats}


@pytest.mark.parametrize("name", ["fast", "xla"])
@pytest.mark.parametrize("shape", [(6, 3), (4, 5, 3), (4, 3, 2, 5)])
def test_train_and_evaluation_are_the_equations(name, shape):
    x, v = 3 * normal(*shape) + 2, variables_of(shape[-1])
    axes = tuple(range(len(shape) - 1))
    with tracing.use(implementation=name):
        y, new = BatchNorm(momentum=0.8).apply(v, x, train=True, mutable=["batch_stats"])
        evaluated = BatchNorm().apply(v, x, train=False)
    x = x.astype(np.float64)
    scale, bias, mean, var = *v["params"].values(), *v["batch_stats"].values()
    np.testing.assert_allclose(
        y, (x - x.mean(axes)) / np.sqrt(x.var(axes) + EPSILON) * scale + bias, atol=1e-5
    )
    np.testing.assert_allclose(
        new["batch_stats"]["mean"], 0.8 * mean + 0.2 * x.mean(axes), rtol=1e-5
    )
    np.testing.assert_allclose(new["batch_stats"]["var"], 0.8 * var + 0.2 * x.var(axes), rtol=1e-5)
    np.testing.assert_allclose(
        evaluated, (x - mean) / np.sqrt(var + EPSILON) * scale + bias, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("channels", "groups"), [(12, 6), (16, 8), (3, 3)])
def test_group_normalization_is_flaxs_with_the_most_groups_that_divide(channels, groups):
    x = 3 * normal(4, 3, 2, channels) + 2
    v = {"params": variables_of(channels)["params"]}
    found = GroupNorm(groups=8).apply(v, x, train=True)
    expected = nn.GroupNorm(num_groups=groups, epsilon=EPSILON).apply(v, x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["fast", "xla"])
def test_equals_flax_with_gradients(name):
    x, v, probe = normal(4, 3, 3, 5), variables_of(5), normal(4, 3, 3, 5, seed=4)
    layers = (
        lambda v, x: BatchNorm().apply(v, x, train=True, mutable=["batch_stats"]),
        lambda v, x: nn.BatchNorm(momentum=0.9).apply(
            v, x, use_running_average=False, mutable=["batch_stats"]
        ),
    )

    def both(v, x):
        def value(layer, v, x):
            y, new = layer(v, x)
            return jnp.sum(jnp.sin(y) * probe), new

        return [
            jax.value_and_grad(partial(value, layer), (0, 1), has_aux=True)(v, x)
            for layer in layers
        ]

    with tracing.use(implementation=name):
        ours, flax = jax.jit(both)(v, x)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(flax), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def derivatives(x, scale, bias, probe):
    """Outputs, first and second derivatives, of a loss that also reads the statistics."""

    def value(x, scale, bias):
        y, mean, var = normalize(x, scale, bias, EPSILON)
        return jnp.sum(jnp.sin(y) * probe) + jnp.sum(jnp.cos(mean) * var)

    def penalty(*arguments):
        return sum(jnp.sum(jnp.sin(g)) for g in jax.grad(value, (0, 1, 2))(*arguments))

    arguments = (x, scale, bias)
    return (
        normalize(*arguments, EPSILON),
        jax.grad(value, (0, 1, 2))(*arguments),
        jax.grad(penalty, (0, 1, 2))(*arguments),
    )


@pytest.mark.parametrize("shape", [(5, 3), (3, 4, 2, 5)])
def test_fast_and_plain_agree_up_to_second_derivatives(shape):
    x, probe, channels = normal(*shape), normal(*shape, seed=1), shape[-1]
    got = []
    for name in ("fast", "xla"):
        with tracing.use(implementation=name):
            got.append(
                jax.jit(lambda *a: derivatives(*a))(
                    x, 1 + normal(channels), normal(channels, seed=1), probe
                )
            )
    for a, b in zip(*map(jax.tree.leaves, got), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5 * max(1, np.abs(b).max()))


def test_fast_statistics_stand_a_large_mean():
    x = normal(8, 6, 6, 2) + 300
    with tracing.use(implementation="fast"):
        _, mean, var = normalize(x, jnp.ones(2), jnp.zeros(2), EPSILON)
    np.testing.assert_allclose(mean, x.mean((0, 1, 2), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(var, x.var((0, 1, 2), dtype=np.float64), rtol=1e-4)


def whole_step(x, v, probe):
    """Loss summed over the examples seen, its gradients summed over replicas, and the new
    statistics."""

    def value(v, x):
        y, new = BatchNorm().apply(v, x, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(y) * probe), (y, new["batch_stats"])

    def penalty(v, x):
        return jnp.sum(jnp.sin(jax.grad(lambda x: value(v, x)[0])(x)))

    params, stats = {"params": v["params"]}, {"batch_stats": v["batch_stats"]}
    (gp, gx), (y, new) = jax.grad(lambda p, x: value(p | stats, x), (0, 1), has_aux=True)(params, x)
    pp, px = jax.grad(lambda p, x: penalty(p | stats, x), (0, 1))(params, x)
    return {"replicated": (replica.sum((gp, pp)), new), "per example": (y, gx, px)}


@pytest.mark.parametrize("name", ["fast", "xla"])
def test_replicas_and_mesh_give_the_numbers_of_one_device(name):
    x, probe, v = normal(8, 3, 2, 5), normal(8, 3, 2, 5, seed=1), variables_of(5)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    whole, over_batch = (
        NamedSharding(mesh, PartitionSpec()),
        NamedSharding(mesh, PartitionSpec("data")),
    )
    with tracing.use(implementation=name):
        one = jax.jit(lambda *a: whole_step(*a))(x, v, probe)
        shardings = {"replicated": whole, "per example": over_batch}
        program = jax.jit(
            lambda *a: whole_step(*a),
            in_shardings=(over_batch, whole, over_batch),
            out_shardings=shardings,
        )
        sharded = program(x, v, probe)
        assert "all-gather" not in program.lower(x, v, probe).compile().as_text()
        mapped = jax.pmap(
            lambda *a: whole_step(*a),
            axis_name=replica.AXIS,
            in_axes=(0, None, 0),
            out_axes={"replicated": None, "per example": 0},
            devices=jax.devices()[:4],
        )(x.reshape(4, 2, 3, 2, 5), v, probe.reshape(4, 2, 3, 2, 5))
    mapped["per example"] = jax.tree.map(lambda a: a.reshape(x.shape), mapped["per example"])
    for other in (sharded, mapped):
        for a, b in zip(jax.tree.leaves(other), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_statistics_and_parameters_stay_float32_in_bfloat16():
    layer, x = BatchNorm(dtype=jnp.bfloat16), normal(4, 3, 3, 5)
    v = layer.init(jax.random.key(0), x, train=False)
    y, new = layer.apply(v, x, train=True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype.name for leaf in jax.tree.leaves((v, new))} == {"float32"}
    np.testing.assert_allclose(new["batch_stats"]["var"], 0.9 + 0.1 * x.var((0, 1, 2)), rtol=1e-2)
    gradients = jax.grad(
        lambda v, x: jnp.sum(layer.apply(v, x, train=True, mutable=True)[0] ** 2).astype(
            jnp.float32
        ),
        (0, 1),
    )
    gv, gx = gradients(
        {"params": v["params"], "batch_stats": v["batch_stats"]}, x.astype(jnp.bfloat16)
    )
    assert {leaf.dtype.name for leaf in jax.tree.leaves(gv)} == {"float32"}
    assert gx.dtype == jnp.bfloat16


def test_initialization_sees_no_batch():
    v = BatchNorm().init(jax.random.key(0), normal(4, 5) + 7, train=True)
    np.testing.assert_array_equal(v["batch_stats"]["mean"], 0)
    np.testing.assert_array_equal(v["batch_stats"]["var"], 1)


def test_scale_and_bias_can_be_left_out():
    x = normal(6, 3)
    bare, v = BatchNorm(use_scale=False, use_bias=False), variables_of(3)
    assert set(bare.init(jax.random.key(0), x, train=True)) == {"batch_stats"}
    y, _ = bare.apply({"batch_stats": v["batch_stats"]}, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y, (x - x.mean(0)) / np.sqrt(x.var(0) + EPSILON), atol=1e-5)


def test_means_of_many_values_keep_their_digits():
    x = normal(16, 64, 64, 3) + 1
    with tracing.use(implementation="fast"):
        np.testing.assert_allclose(
            jax.jit(channel_mean)(x), x.mean((0, 1, 2), dtype=np.float64), rtol=2e-6
        )


@pytest.mark.parametrize("replicas", [1, 4])
def test_unbiased_averages_torchs_variance_of_the_whole_batch(replicas):
    """n / (n - 1) of the biased one, n over all replicas; the normalization itself keeps the biased
    one."""
    x, v = normal(8, 3, 2, 5), variables_of(5)

    def run(x):
        return BatchNorm(momentum=0.0, unbiased=True).apply(
            v, x, train=True, mutable=["batch_stats"]
        )

    if replicas > 1:
        parts = x.reshape(replicas, -1, *x.shape[1:])
        y, new = jax.pmap(run, axis_name=replica.AXIS, devices=jax.devices()[:replicas])(parts)
        y, new = y.reshape(x.shape), jax.tree.map(lambda leaf: leaf[0], new)
    else:
        y, new = run(x)
    np.testing.assert_allclose(new["batch_stats"]["var"], x.var((0, 1, 2), ddof=1), rtol=1e-5)
    np.testing.assert_allclose(
        y, BatchNorm().apply(v, x, train=True, mutable=["batch_stats"])[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("train", [True, False])
def test_conditional_normalization_is_the_plain_one_with_the_parameters_of_each_examples_class(
    train,
):
    """Statistics are of the whole batch, whatever the classes are."""
    x, label = 3 * normal(6, 4, 3, 5) + 2, np.array([0, 2, 1, 2, 0, 2])
    scale, bias, stats = (
        1 + 0.3 * normal(3, 5),
        normal(3, 5, seed=1),
        variables_of(5)["batch_stats"],
    )
    told = ConditionalBatchNorm(3)
    v = {"params": {"scale": scale, "bias": bias}, "batch_stats": {"statistics": stats}}
    y, seen = jax.jit(lambda v: told.apply(v, x, train, label, mutable=["batch_stats"]))(v)
    run = jax.jit(lambda v: BatchNorm().apply(v, x, train, mutable=["batch_stats"]))
    for k in range(3):
        one, new = run({"params": {"scale": scale[k], "bias": bias[k]}, "batch_stats": stats})
        np.testing.assert_allclose(y[label == k], one[label == k], rtol=1e-5, atol=1e-5)
        jax.tree.map(
            np.testing.assert_array_equal, seen["batch_stats"]["statistics"], new["batch_stats"]
        )


@pytest.mark.slow
def test_a_class_that_is_not_in_the_batch_has_no_gradient():
    x, label, told = normal(4, 3), np.array([0, 2, 2, 0]), ConditionalBatchNorm(4)
    v = told.init(jax.random.key(0), x, True, label)

    def total(params):
        return jnp.square(
            told.apply({**v, "params": params}, x, True, label, mutable=["batch_stats"])[0]
        ).sum()

    slope = jax.jit(jax.grad(total))(v["params"])
    assert (slope["scale"][jnp.array([1, 3])] == 0).all() and (
        slope["scale"][jnp.array([0, 2])] != 0
    ).all()
