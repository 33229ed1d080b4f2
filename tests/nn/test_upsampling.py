"""Bilinear transposed convolution, receptive fields and dilation, by their identities."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.nn import (
    Field,
    Layer,
    bilinear_init,
    bilinear_upsample,
    bilinear_weights,
    conv,
    conv_transpose,
    crop_offset,
    receptive_field,
    resize_bilinear,
)


def image(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("stride", [1, 2, 3, 8, 16, 32])
def test_the_kernel_sums_to_the_stride_squared_and_a_constant_stays_constant_inside(stride):
    size = 2 * stride - stride % 2
    weights = bilinear_weights(size)
    assert np.outer(weights, weights).sum() == pytest.approx(stride**2)
    y = bilinear_upsample(jnp.ones((1, 4, 5, 2)), stride, size)
    inside = y[:, stride:-stride, stride:-stride]
    np.testing.assert_allclose(inside, 1, rtol=1e-6)


@pytest.mark.parametrize(("stride", "size"), [(2, 4), (3, 5), (8, 16), (32, 64)])
def test_fixed_interpolation_is_the_transposed_convolution_by_that_kernel(stride, size):
    x = image(2, 3, 4, 2)
    kernel = bilinear_init(jax.random.key(0), (size, size, 2, 2))
    np.testing.assert_allclose(
        bilinear_upsample(x, stride, size), conv_transpose(x, kernel, stride), atol=1e-5
    )


@pytest.mark.parametrize("stride", [2, 8])
def test_inside_it_is_bilinear_resizing(stride):
    x = image(1, 6, 7, 2)
    cut = stride // 2
    up = bilinear_upsample(x, stride)[:, cut : cut + 6 * stride, cut : cut + 7 * stride]
    resized = resize_bilinear(x, (6 * stride, 7 * stride))
    inside = slice(stride, -stride)
    np.testing.assert_allclose(up[:, inside, inside], resized[:, inside, inside], atol=1e-5)


def test_bilinear_kernels_keep_channels():
    with pytest.raises(ValueError, match="keeps channels"):
        bilinear_init(jax.random.key(0), (4, 4, 2, 3))


@pytest.mark.parametrize("dilation", [2, 3])
def test_a_dilated_convolution_is_a_plain_one_on_each_interleaved_grid(dilation):
    x, kernel = image(2, 12, 18, 3), image(3, 3, 3, 4)
    y = conv(x, kernel, padding=dilation, dilation=dilation)
    for i in range(dilation):
        for j in range(dilation):
            grid = conv(x[:, i::dilation, j::dilation], kernel, padding=1)
            np.testing.assert_allclose(y[:, i::dilation, j::dilation], grid, atol=1e-4)


STACKS = [
    [Layer(3, 2, 1), Layer(3), Layer(2, 2)],
    [Layer(7, 2, 3), Layer(3, 1, 2, 2), Layer(3, 2, 1)],
    [Layer(5, 1, 0, 3), Layer(1), Layer(3, 3)],
]


@pytest.mark.parametrize("stack", STACKS)
def test_a_unit_sees_its_receptive_field_and_nothing_else(stack):
    """By the gradient of one unit in the middle, all weights positive."""

    def run(x):
        for layer in stack:
            kernel = jnp.ones((layer.kernel, 1, 1, 1))
            x = conv(
                x, kernel, (layer.stride, 1), ((layer.padding,) * 2, (0, 0)), (layer.dilation, 1)
            )
        return x[0, :, 0, 0]

    field = receptive_field(stack)
    unit = len(run(jnp.ones((1, 101, 1, 1)))) // 2
    seen = np.flatnonzero(jax.grad(lambda x: run(x)[unit])(jnp.ones((1, 101, 1, 1)))[0, :, 0, 0])
    center = field.offset + field.stride * unit
    assert (seen[0], seen[-1]) == (center - (field.size - 1) / 2, center + (field.size - 1) / 2)


def test_a_transposed_convolution_takes_the_stride_back():
    field = receptive_field([Layer(4, 2, 1), Layer(4, 2, 1, transposed=True)])
    assert field.stride == 1 and field.offset == 0


def test_maps_that_do_not_lie_on_each_other_are_refused():
    with pytest.raises(ValueError, match="do not lie"):
        crop_offset(
            Field(Fraction(2), Fraction(1), Fraction(0)),
            Field(Fraction(2), Fraction(1), Fraction(1)),
        )
