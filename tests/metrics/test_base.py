"""Merging any split of a batch gives the metric of the whole."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.metrics import Mean, compute, merge

KEY = jax.random.key(3)
VALUES_BTD = jax.random.normal(KEY, (6, 4, 3))


def test_mean_without_mask_is_the_mean_of_all_entries():
    mean = jax.jit(Mean.of)(VALUES_BTD)
    assert mean.compute() == pytest.approx(np.mean(np.asarray(VALUES_BTD, np.float64)), rel=1e-5)
    assert float(mean.count) == 72


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("dtype", [bool, np.int32, np.float32])
def test_mask_over_leading_axes_keeps_what_indexing_keeps(axes, dtype):
    mask = np.array(jax.random.bernoulli(KEY, 0.6, VALUES_BTD.shape[:axes]))
    assert mask.any() and not mask.all()
    mean = jax.jit(Mean.of)(VALUES_BTD, mask.astype(dtype))
    kept = np.asarray(VALUES_BTD, np.float64)[mask]
    assert mean.compute() == pytest.approx(kept.mean(), rel=1e-5)
    assert float(mean.count) == kept.size


def test_weights_make_a_weighted_mean():
    weights_B = jax.random.uniform(KEY, (6,))
    expected = np.average(np.asarray(VALUES_BTD).mean((1, 2)), weights=weights_B)
    assert Mean.of(VALUES_BTD, weights_B).compute() == pytest.approx(expected, rel=1e-5)


def test_masked_values_count_nothing_even_where_they_are_not_numbers():
    values = jnp.array([1.0, jnp.nan, 3.0, jnp.inf])
    assert Mean.of(values, jnp.array([1.0, 0.0, 1.0, 0.0])).compute() == 2.0
    assert math.isnan(Mean.of(values).compute())


def test_nothing_counted_is_nan():
    assert math.isnan(Mean.of(jnp.ones(3), jnp.zeros(3)).compute())


def test_mask_that_is_not_over_leading_axes_is_refused():
    with pytest.raises(ValueError, match="leading axes"):
        Mean.of(VALUES_BTD, jnp.ones(4))
    with pytest.raises(ValueError, match="leading axes"):
        Mean.of(jnp.ones(4), jnp.ones((4, 1)))


def test_low_precision_values_are_added_in_float32():
    mean = Mean.of(jnp.ones(1000, jnp.bfloat16))  # in bfloat16 the sum would stop at 256
    assert mean.total.dtype == jnp.float32 and float(mean.total) == 1000


def test_gradient_of_the_total_is_the_mask():
    mask_B = jnp.array([1.0, 0.0, 1.0])
    gradient = jax.grad(lambda x: Mean.of(x, mask_B).total)(jnp.array([0.3, 0.5, 0.7]))
    np.testing.assert_array_equal(gradient, mask_B)


@pytest.mark.parametrize("host", [False, True])
def test_merging_unequal_padded_parts_equals_the_whole(host):
    x_B = jax.random.normal(KEY, (7,))
    padded = jnp.concatenate([x_B, jnp.full((1,), 99.0)]).reshape(2, 4)
    mask = jnp.ones(8).at[7].set(0).reshape(2, 4)
    a, b = (
        {"x": Mean.of(padded[i], mask[i]), "squares": {"x": Mean.of(padded[i] ** 2, mask[i])}}
        for i in (0, 1)
    )
    if host:
        a, b = jax.device_get((a, b))
    total = compute(merge(a, b))
    assert total["x"] == pytest.approx(float(x_B.mean()), rel=1e-6)
    assert total["squares/x"] == pytest.approx(float((x_B**2).mean()), rel=1e-6)
    assert all(type(value) is float for value in total.values())


def test_merging_on_the_host_is_exact_where_float32_would_stop():
    many = jax.device_get(Mean(jnp.float32(2**24), jnp.float32(2**24)))
    one = jax.device_get(Mean.of(jnp.ones(1)))
    assert merge(merge(many, one), one).count == 2**24 + 2


def test_what_is_no_metric_is_refused_by_name():
    with pytest.raises(TypeError, match=r"psnr is a ndarray and no metric; give Mean\.of"):
        compute({"psnr": np.ones(3)})


def test_merging_other_metrics_than_these_is_refused():
    with pytest.raises(ValueError):
        merge({"a": Mean.of(jnp.ones(1))}, {"b": Mean.of(jnp.ones(1))})


def test_replicas_add_up_to_the_whole_batch():
    x_RB = jax.random.normal(KEY, (4, 2))
    mask_RB = jnp.ones((4, 2)).at[3, 1].set(0)
    summed = jax.pmap(
        lambda x, mask: jax.lax.psum(Mean.of(x, mask), "replica"), axis_name="replica"
    )(x_RB, mask_RB)
    first = jax.tree.map(lambda leaf: leaf[0], jax.device_get(summed))
    assert first.compute() == pytest.approx(
        Mean.of(x_RB.ravel(), mask_RB.ravel()).compute(), rel=1e-6
    )
