"""Pooling with indices and unpooling: identities, ties, odd sizes, both formulations of the
maximum, torch where it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.nn import max_pool, max_pool_with_indices, max_unpool

CASES = [  # size, window, strides, padding, ceil
    ((6, 8), 2, 2, 0, False),
    ((7, 5), 2, 2, 0, True),
    ((7, 5), 2, 2, 0, False),
    ((45, 23), 2, 2, 0, True),
    ((9, 8), 3, 3, 1, False),
    ((9, 8), 3, 2, 1, False),
    ((8, 9), (2, 3), (2, 3), 0, True),
]


# One program for each of the cases.
pool, pool_with_indices = (
    functools.partial(jax.jit, static_argnums=range(1, 5))(f)
    for f in (max_pool, max_pool_with_indices)
)
unpool = jax.jit(max_unpool, static_argnums=range(2, 7))


def image(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_pooling_and_stand_at_their_indices(case):
    size, *geometry = case
    x = image(2, *size, 3)
    y, index = pool_with_indices(x, *geometry)
    np.testing.assert_array_equal(y, pool(x, *geometry))
    flat = x.reshape(2, -1, 3)
    np.testing.assert_array_equal(
        np.take_along_axis(flat, np.asarray(index).reshape(2, -1, 3), 1), np.reshape(y, (2, -1, 3))
    )


@pytest.mark.parametrize("case", CASES)
def test_unpooling_keeps_exactly_the_maxima(case):
    size, *geometry = case
    x = image(2, *size, 3)
    y, index = pool_with_indices(x, *geometry)
    back = np.asarray(unpool(y, index, size, *geometry))
    kept = np.zeros((2, np.prod(size), 3), bool)
    np.put_along_axis(kept, np.asarray(index).reshape(2, -1, 3), True, 1)
    np.testing.assert_array_equal(back, np.where(kept.reshape(x.shape), x, 0))


def test_segnets_sizes_come_back():
    """360 by 480 goes to 12 by 15 over 45 and 23, and back."""

    def there_and_back(x):
        sizes, places = [x.shape[1:3]], []
        for _ in range(5):
            x, index = max_pool_with_indices(x, ceil=True)
            places.append((index, sizes[-1]))
            sizes.append(x.shape[1:3])
        assert sizes == [(360, 480), (180, 240), (90, 120), (45, 60), (23, 30), (12, 15)]
        for index, size in reversed(places):
            x = max_unpool(x, index, size, ceil=True)
            assert x.shape[1:3] == size
        return x

    assert jax.eval_shape(there_and_back, jnp.zeros((1, 360, 480, 1))).shape == (1, 360, 480, 1)


def test_the_first_of_equal_values_is_the_maximum():
    _, index = max_pool_with_indices(jnp.zeros((1, 4, 6, 1)))
    np.testing.assert_array_equal(index[0, ..., 0], [[0, 2, 4], [12, 14, 16]])


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_pooling_and_of_reading_back(case):
    size, *geometry = case
    x = image(2, *size, 3)
    y, index = pool_with_indices(x, *geometry)
    weight = image(*y.shape)
    ahead = image(*x.shape)

    @jax.jit
    def gradients(x, y):
        return (
            jax.grad(lambda x: (max_pool_with_indices(x, *geometry)[0] * weight).sum())(x),
            jax.grad(lambda x: (max_pool(x, *geometry) * weight).sum())(x),
            jax.grad(lambda y: (max_unpool(y, index, size, *geometry) * ahead).sum())(y),
        )

    ours, expected, by_y = gradients(x, y)
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    read = np.take_along_axis(ahead.reshape(2, -1, 3), np.asarray(index).reshape(2, -1, 3), 1)
    np.testing.assert_allclose(by_y, read.reshape(y.shape), rtol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_parity_with_torch(case):
    """Values, indices, unpooling and its gradient; ties included. Whole windows only where torch's
    unpooling asks for it."""
    torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra `parity`")
    size, window, strides, padding, ceil = case
    x = np.round(image(2, *size, 3) * 2)
    y, index = pool_with_indices(x, window, strides, padding, ceil)
    theirs, places = torch.nn.functional.max_pool2d(
        torch.from_numpy(x).permute(0, 3, 1, 2),
        window,
        strides,
        padding,
        ceil_mode=ceil,
        return_indices=True,
    )
    np.testing.assert_array_equal(y, theirs.permute(0, 2, 3, 1))
    np.testing.assert_array_equal(index, places.permute(0, 2, 3, 1))
    back = torch.nn.functional.max_unpool2d(
        theirs, places, window, strides, padding, output_size=size
    )
    np.testing.assert_array_equal(
        unpool(y, index, size, window, strides, padding, ceil), back.permute(0, 2, 3, 1)
    )


def test_a_size_that_does_not_pool_to_the_values_is_refused():
    y, index = max_pool_with_indices(jnp.zeros((1, 6, 6, 1)))
    with pytest.raises(ValueError, match="is pooled to"):
        max_unpool(y, index, (9, 6))
