"""Pooling and response normalization against plain loops, and the two implementations against each
other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.nn import (
    adaptive_avg_pool,
    avg_pool,
    global_average_pool,
    local_response_norm,
    max_pool,
    tracing,
)

CASES = [  # size, window, stride, padding, ceil
    ((7, 7), 3, 2, 0, False),
    ((8, 9), 3, 2, 0, False),
    ((8, 9), 3, 2, 0, True),
    ((8, 9), 3, 2, 1, True),
    ((6, 5), 2, 2, 0, True),
    ((2, 4), 3, 2, 0, True),
    ((6, 5), 2, 2, 0, False),
    ((5, 5), 3, 1, 1, False),
    ((9, 8), (3, 2), (2, 3), (1, 0), False),
]


@pytest.fixture(params=["fast", "xla"])
def form(request):
    with tracing.use(implementation=request.param):
        yield request.param


def windows(size, window, stride, padding, ceil):
    """Rows, or columns, of each window: torch's rule, where a window must start inside the image or
    its left padding."""
    count, step = size + 2 * padding - window, stride
    outputs = (-(-count // step) if ceil else count // step) + 1
    if ceil and (outputs - 1) * step >= size + padding:
        outputs -= 1
    return [range(i * step - padding, i * step - padding + window) for i in range(outputs)]


def pooled(x, window, stride, padding, ceil, reduce):
    k, s, p = ((v, v) if isinstance(v, int) else v for v in (window, stride, padding))
    rows, columns = (
        windows(n, *args, ceil)
        for n, args in zip(x.shape[1:3], zip(k, s, p, strict=True), strict=True)
    )
    out = np.empty((len(x), len(rows), len(columns), x.shape[3]))
    for i, r in enumerate(rows):
        for j, c in enumerate(columns):
            inside = x[:, max(r.start, 0) : r.stop, max(c.start, 0) : c.stop]
            out[:, i, j] = reduce(inside, r, c)
    return out


def image(*shape, dtype=np.float32):
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("case", CASES)
def test_max_pool_is_the_maximum_of_each_window(form, case):
    size, *geometry = case
    x = image(2, *size, 3)
    expected = pooled(x, *geometry, lambda inside, r, c: inside.max((1, 2)))
    np.testing.assert_array_equal(max_pool(x, *geometry), expected.astype(np.float32))


def test_each_side_is_padded_by_its_own_number(form):
    """Which is pooling of the image that was padded before: for means by zeros, which count or
    do not, for maxima by what is less than all."""
    x, edges = image(2, 5, 6, 3), ((1, 0), (0, 2))
    wide = ((0, 0), *edges, (0, 0))
    whole = avg_pool(np.pad(x, wide), 3, 2)
    share = avg_pool(np.pad(np.ones_like(x), wide), 3, 2)  # of each window that is in the image
    np.testing.assert_allclose(avg_pool(x, 3, 2, edges), whole, 1e-5, 1e-6)
    np.testing.assert_allclose(avg_pool(x, 3, 2, edges, False, False), whole / share, 1e-5, 1e-6)
    highest = max_pool(np.pad(x, wide, constant_values=-np.inf), 3, 2)
    np.testing.assert_array_equal(max_pool(x, 3, 2, edges), highest)


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_avg_pool_is_the_mean_of_each_window(form, case, counted):
    size, *geometry = case
    x = image(2, *size, 3)
    padding = geometry[2] if isinstance(geometry[2], tuple) else (geometry[2],) * 2

    def mean(inside, r, c):
        if not counted:
            return inside.mean((1, 2))
        rows, columns = (
            min(a.stop, n + p) - a.start for a, n, p in zip((r, c), size, padding, strict=True)
        )
        return inside.sum((1, 2)) / (rows * columns)

    expected = pooled(x, *geometry, mean)
    np.testing.assert_allclose(avg_pool(x, *geometry, counted), expected, rtol=1e-5, atol=1e-6)


def test_adaptive_pool_of_a_multiple_is_plain_pooling_and_of_one_cell_the_global_mean(form):
    x = image(2, 6, 9, 3)
    np.testing.assert_allclose(
        adaptive_avg_pool(x, (2, 3)), avg_pool(x, 3, 3), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        adaptive_avg_pool(x, 1)[:, 0, 0], global_average_pool(x), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(adaptive_avg_pool(x, (6, 9)), x, rtol=1e-6)


def test_adaptive_windows_overlap_where_the_cells_do_not_divide_the_pixels(form):
    """Torch's windows, written out: of 7 pixels for 3 cells and of 5 for 4."""
    x = image(2, 7, 5, 3)
    rows, columns = ((0, 3), (2, 5), (4, 7)), ((0, 2), (1, 3), (2, 4), (3, 5))
    means = [
        [x[:, top:bottom, left:right].mean((1, 2)) for left, right in columns]
        for top, bottom in rows
    ]
    expected = np.moveaxis(np.asarray(means), 2, 0)  # (B, 3, 4, C)
    np.testing.assert_allclose(adaptive_avg_pool(x, (3, 4)), expected, rtol=1e-5, atol=1e-6)


def test_the_first_of_equal_values_gets_the_gradient(form):
    """In row-major order, as in torch."""
    x = jnp.zeros((1, 4, 4, 1))
    gradient = jax.grad(lambda x: max_pool(x, 2, 2).sum())(x)[0, ..., 0]
    np.testing.assert_array_equal(gradient, np.kron(np.ones((2, 2)), [[1, 0], [0, 0]]))


@pytest.mark.parametrize("case", CASES)
def test_implementations_have_one_gradient(case):
    size, *geometry = case
    x = np.round(image(2, *size, 3) * 2)  # many ties
    weights = image(*max_pool(x, *geometry).shape)
    gradients = []
    for name in ("fast", "xla"):
        with tracing.use(implementation=name):
            gradients.append(jax.grad(lambda x: (max_pool(x, *geometry) * weights).sum())(x))
    np.testing.assert_allclose(*gradients, atol=1e-6)


def test_a_window_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        max_pool(jnp.zeros((1, 2, 2, 1)), 3, 2)


@pytest.mark.parametrize(("size", "channels"), [(5, 7), (5, 3), (4, 6), (1, 4)])
def test_response_normalization_is_the_papers_formula(form, size, channels):
    x = 10 * image(2, 3, 3, channels)
    expected = np.empty_like(x)
    for i in range(channels):
        near = x[..., max(0, i - size // 2) : min(channels, i + (size - 1) // 2 + 1)]
        expected[..., i] = x[..., i] / (2 + 1e-2 * np.square(near).sum(-1)) ** 0.75
    np.testing.assert_allclose(local_response_norm(x, size, 1e-2), expected, rtol=1e-5)
    mean = local_response_norm(x, size, 1e-2 * size, convention="mean")
    np.testing.assert_allclose(mean, expected, rtol=1e-5)
