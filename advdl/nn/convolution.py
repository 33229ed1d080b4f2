"""Convolution and transposed convolution with the papers' explicit geometry.

Axes: B batch, H height, W width, I channels in, O channels out; a kernel is (kernel height, kernel
  width, I, O).

Three functions are one trilinear form, `<y, conv(x, w)>`, differentiated by y, x and w: the
convolution, its adjoint in x (the transposed convolution) and its adjoint in w (the kernel
gradient). Each one's derivatives are the other two, so the fast implementation below serves
derivatives of any order by reverse mode.

Fast implementation (CPU): XLA takes a transposed convolution, and the input gradient of a strided
one, as a convolution of an input dilated by s with zeros, s² times the products needed. Here it is
s² convolutions of the undilated input, each with the kernel's taps that reach one of the s² phases
of the output (Shi et al. 2016, arXiv:1609.07009). Convolutions of 3×3 with stride 1 and many
channels go by tiles, as in `advdl.nn.winograd`, and the gradient of a 1×1 kernel is a matrix
product. All are written with batch and channels where XLA wants them: in the body of a loop it does
not bring them there, and takes some fifty times as long for the kernel gradient (jax#12868).
Dilated and grouped convolutions are XLA's own. What is quickest depends on whose convolutions XLA
calls, its own (Eigen's) or oneDNN's; `tests/benchmarks/kernel_gradients.py` times each form.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

from advdl.nn import remat, tracing, winograd
from advdl.nn.normalization import add_bias

Pair = int | Sequence[int]
Padding = int | Sequence[int | Sequence[int]]
LAYOUT = ("NHWC", "HWIO", "NHWC")
# With this many channels out or fewer, XLA's own way takes less time than a convolution for each
# phase.
FEW = 8
# With fewer examples, the kernel gradient is taken of strips of them.
EXAMPLES = 16
# oneDNN takes up to twice as long as Eigen for kernel gradients of so few channels, or, with stride
# 1, of more than so many taps and at least so many pairs of channels.
SLOW_CHANNELS, SLOW_TAPS, SLOW_PAIRS = 8, 9, 64 * 128


class Geometry(NamedTuple):
    """Of a convolution: strides, ((top, bottom), (left, right)) padding, dilation of the kernel,
    groups of channels."""

    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


def conv(
    x_BHWI: jax.Array,
    kernel: jax.Array,
    strides: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> jax.Array:
    """Convolution (cross-correlation, as in all of deep learning), (B, H', W', O).

    H' = floor((H + top + bottom - dilation·(kernel height - 1) - 1) / stride) + 1, and so W'. With
    groups the kernel's I is the number of channels in each group. x and kernel have one dtype,
    which is the result's.
    """
    geometry = Geometry(pair(strides), pads(padding), pair(dilation), groups)
    if _reformulated(geometry):
        return remat.product(_fast_conv(x_BHWI, kernel, geometry))
    return _conv(x_BHWI, kernel, geometry)


def conv_transpose(
    x_BHWI: jax.Array,
    kernel: jax.Array,
    strides: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
) -> jax.Array:
    """Transposed convolution, y[s·i + a - p] += x[i] kernel[a]: (B, H', W', O).

    H' = (H - 1)·stride - top - bottom + kernel height + output padding (rows at the bottom), and so
    W'; with equal paddings this is torch.nn.ConvTranspose2d. It is the adjoint of `conv` of these
    strides and paddings (the output padding apart) with the kernel's I and O exchanged. Raises
    ValueError for an output that would be empty.
    """
    strides, padding = pair(strides), pads(padding)
    size = tuple(
        (n - 1) * s - sum(p) + k + extra
        for n, s, p, k, extra in zip(
            x_BHWI.shape[1:3], strides, padding, kernel.shape, pair(output_padding), strict=False
        )
    )
    if min(size) < 1:
        raise ValueError(
            f"conv_transpose of {x_BHWI.shape} by {kernel.shape}, padding {padding}: output of size"
            f" {size}"
        )
    geometry = Geometry(strides, padding)
    if _reformulated(geometry):
        return remat.product(_fast_adjoint(x_BHWI, kernel.swapaxes(2, 3), geometry, size))
    return _adjoint(x_BHWI, kernel.swapaxes(2, 3), geometry, size)


def pair(value: Pair) -> tuple[int, int]:
    """3 -> (3, 3); (3, 5) -> (3, 5)."""
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


def pads(value: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """1 -> ((1, 1), (1, 1)); (1, 2) -> ((1, 1), (2, 2)); ((1, 2), (3, 4)) as it is."""
    rows, columns = (value, value) if isinstance(value, int) else value
    return pair(rows), pair(columns)


def _reformulated(geometry: Geometry) -> bool:
    return tracing.fast() and geometry.groups == 1 and geometry.dilation == (1, 1)


# The three functions as XLA has them. A kernel is always that of the convolution, (kh, kw, I, O),
# and y its output.


def _conv(x_BHWI, kernel, geometry):
    return lax.conv_general_dilated(
        x_BHWI,
        kernel,
        geometry.strides,
        geometry.padding,
        rhs_dilation=geometry.dilation,
        feature_group_count=geometry.groups,
        dimension_numbers=LAYOUT,
    )


def _adjoint(y_BHWO, kernel, geometry, size):
    """x of (H, W) = size; rows beyond those that the convolution reads are zeros, or its padding
    cut off."""
    axes = zip(kernel.shape, *geometry[:2], size, y_BHWO.shape[1:3], strict=False)
    return lax.conv_general_dilated(
        y_BHWO,
        kernel[::-1, ::-1].swapaxes(2, 3),
        (1, 1),
        [(k - 1 - before, n + before - 1 - (m - 1) * s) for k, s, (before, _), n, m in axes],
        lhs_dilation=geometry.strides,
        dimension_numbers=LAYOUT,
    )


def _kernel_gradient(x_BHWI, y_BHWO, geometry, taps, upside_down=False):
    """The kernel's gradient, (*taps, I, O): a convolution of x with y, whose batch is I and whose
    channels in are B; of both upside down, and then turned back, if so wished."""
    axes = zip(taps, *geometry[:2], x_BHWI.shape[1:3], y_BHWO.shape[1:3], strict=True)
    rows, columns = ((before, k + s * (m - 1) - n - before) for k, s, (before, _), n, m in axes)
    x_IHWB, y_HWBO = x_BHWI.transpose(3, 1, 2, 0), y_BHWO.transpose(1, 2, 0, 3)
    if upside_down:
        x_IHWB, y_HWBO, rows = lax.rev(x_IHWB, (1,)), lax.rev(y_HWBO, (0,)), rows[::-1]
    gradient = lax.conv_general_dilated(
        x_IHWB,
        y_HWBO,
        (1, 1),
        (rows, columns),
        rhs_dilation=geometry.strides,
        dimension_numbers=LAYOUT,
    )
    gradient = lax.rev(gradient, (1,)) if upside_down else gradient
    return gradient.transpose(1, 2, 0, 3)


# The same, fast.


def _by_tiles(x, taps, geometry, channels_out, pairs=0):
    outputs = tuple(
        n + sum(p) - k + 1 for n, p, k in zip(x.shape[1:3], geometry.padding, taps, strict=True)
    )
    return geometry.strides == (1, 1) and winograd.suits(x, outputs, channels_out, taps, pairs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _fast_conv(x_BHWI, kernel, geometry):
    if _by_tiles(x_BHWI, kernel.shape[:2], geometry, kernel.shape[3]):
        return winograd.conv(x_BHWI, kernel, geometry.padding)
    return _conv(x_BHWI, kernel, geometry)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _fast_adjoint(y_BHWO, kernel, geometry, size):
    if geometry.strides == (1, 1):
        axes = zip(kernel.shape, geometry.padding, size, y_BHWO.shape[1:3], strict=False)
        rows, columns = ((k - 1 - before, n + before - m) for k, (before, _), n, m in axes)
        padding = rows, columns
        if _by_tiles(y_BHWO, kernel.shape[:2], geometry._replace(padding=padding), kernel.shape[2]):
            return winograd.turned(y_BHWO, kernel, padding)
        return _conv(y_BHWO, kernel[::-1, ::-1].swapaxes(2, 3), geometry._replace(padding=padding))
    if kernel.shape[2] <= FEW:
        return _adjoint(y_BHWO, kernel, geometry, size)
    return _sub_pixel(y_BHWO, kernel, geometry, size)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _fast_kernel_gradient(x_BHWI, y_BHWO, geometry, taps):
    channels, channels_out = x_BHWI.shape[-1], y_BHWO.shape[-1]
    if _by_tiles(x_BHWI, taps, geometry, channels_out, winograd.least_pairs()):
        return winograd.kernel_gradient(x_BHWI, y_BHWO, geometry.padding)
    if taps == (1, 1) and max(map(max, geometry.padding)) <= 0:
        return _product(x_BHWI, y_BHWO, geometry)
    # What is reversed oneDNN leaves to Eigen.
    upside_down = tracing.current().onednn and _slow(channels, channels_out, geometry, taps)
    return _kernel_gradient(*_in_strips(x_BHWI, y_BHWO, geometry, taps[0]), taps, upside_down)


def _product(x, y, geometry):
    """The gradient of a 1×1 kernel without padding, as one matrix product."""
    (s, t), (rows, columns) = geometry.strides, y.shape[1:3]
    x = x[:, : s * rows : s, : t * columns : t]
    return (y.reshape(-1, y.shape[-1]).T @ x.reshape(-1, x.shape[-1])).T[None, None]


def _slow(channels, channels_out, geometry, taps):
    """Whether oneDNN takes longer than Eigen for the kernel gradient."""
    many = math.prod(taps) > SLOW_TAPS and channels * channels_out >= SLOW_PAIRS
    return channels <= SLOW_CHANNELS or (geometry.strides == (1, 1) and many)


def _in_strips(x, y, geometry, taps):
    """x, y and geometry of the same kernel gradient, where strips of rows stand for each image if
    there are few: XLA's loops run along the examples."""
    rows, enough = y.shape[1], EXAMPLES / len(x)
    count = next((n for n in range(1, rows + 1) if rows % n == 0 and n >= enough), 1)
    if count == 1:
        return x, y, geometry
    (before, after), rows = geometry.padding[0], rows // count
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (before, after, 0), (0, 0, 0), (0, 0, 0)))
    stride = geometry.strides[0]
    starts = [strip * rows * stride for strip in range(count)]
    x = jnp.stack([x[:, start : start + (rows - 1) * stride + taps] for start in starts], 1)
    geometry = geometry._replace(padding=((0, 0), geometry.padding[1]))
    return x.reshape(-1, *x.shape[2:]), y.reshape(-1, rows, *y.shape[2:]), geometry


def _fit(geometry: Geometry, size, taps, out) -> Geometry:
    """The geometry whose convolution of an x of this size gives exactly `out`: paddings after are
    what is left."""
    axes = zip(taps, *geometry[:2], size, out, strict=True)
    padding = tuple((before, (m - 1) * s + k - n - before) for k, s, (before, _), n, m in axes)
    return geometry._replace(padding=padding)


def _conv_forward(x, kernel, geometry):
    return _fast_conv(x, kernel, geometry), (x, kernel)


def _conv_backward(geometry, saved, dy):
    x, kernel, dy = remat.prevent_cse(*saved, dy)
    return (
        _fast_adjoint(dy, kernel, geometry, x.shape[1:3]),
        _fast_kernel_gradient(
            x, dy, _fit(geometry, x.shape[1:3], kernel.shape[:2], dy.shape[1:3]), kernel.shape[:2]
        ),
    )


def _adjoint_forward(y, kernel, geometry, size):
    return _fast_adjoint(y, kernel, geometry, size), (y, kernel)


def _adjoint_backward(geometry, size, saved, dx):
    y, kernel, dx = remat.prevent_cse(*saved, dx)
    geometry = _fit(geometry, size, kernel.shape[:2], y.shape[1:3])
    return _fast_conv(dx, kernel, geometry), _fast_kernel_gradient(
        dx, y, geometry, kernel.shape[:2]
    )


def _kernel_gradient_forward(x, y, geometry, taps):
    return _fast_kernel_gradient(x, y, geometry, taps), (x, y)


def _kernel_gradient_backward(geometry, taps, saved, dkernel):
    x, y = saved
    return _fast_adjoint(y, dkernel, geometry, x.shape[1:3]), _fast_conv(x, dkernel, geometry)


_fast_conv.defvjp(_conv_forward, _conv_backward)
_fast_adjoint.defvjp(_adjoint_forward, _adjoint_backward)
_fast_kernel_gradient.defvjp(_kernel_gradient_forward, _kernel_gradient_backward)


class _Phase(NamedTuple):
    """Of one axis: outputs j, j + s, j + 2s, … are a convolution by taps first, first + s, …,
    flipped."""

    first: int
    padding: tuple[int, int]


def _phases(k: int, s: int, before: int, inputs: int, outputs: int) -> list[_Phase | None]:
    """One for each of the s phases of an axis; None where no tap reaches it."""
    phases = []
    count = -(-outputs // s)
    for j in range(s):
        ahead, first = divmod(j + before, s)
        taps = len(range(first, k, s))
        left = taps - 1 - ahead
        phases.append(_Phase(first, (left, count - inputs - left + taps - 1)) if taps else None)
    return phases


def _sub_pixel(y_BHWO, kernel, geometry, size):
    """`_adjoint` without products with zeros.

    x[s·m + j] is the sum over b of y[m + (j + p) // s - b] kernel[(j + p) % s + s·b], on each axis.
    """
    s, t = geometry.strides
    axes = zip(
        kernel.shape, geometry.strides, geometry.padding, y_BHWO.shape[1:3], size, strict=False
    )
    rows, columns = (_phases(k, stride, before, n, m) for k, stride, (before, _), n, m in axes)
    x = jnp.zeros(
        (len(y_BHWO), -(-size[0] // s) * s, -(-size[1] // t) * t, kernel.shape[2]), y_BHWO.dtype
    )
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            if row is None or column is None:
                continue
            taps = kernel[row.first :: s, column.first :: t][::-1, ::-1].swapaxes(2, 3)
            part = _conv(y_BHWO, taps, Geometry((1, 1), (row.padding, column.padding)))
            x = x + lax.pad(
                part,
                jnp.zeros((), x.dtype),
                ((0, 0, 0), (i, s - 1 - i, s - 1), (j, t - 1 - j, t - 1), (0, 0, 0)),
            )
    return x[:, : size[0], : size[1]]


class Conv(nn.Module):
    """Convolution of (B, H, W, C) with bias.

    padding: counts of zeros, one int, (rows, columns) or ((top, bottom), (left, right)).
    Parameters: kernel (kh, kw, C / groups, features) and bias (features,), in `param_dtype`.
    Computes in `dtype` (default: what input and parameters promote to).
    """

    features: int
    kernel_size: Pair
    strides: Pair = 1
    padding: Padding = 0
    dilation: Pair = 1
    groups: int = 1
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        channels = x_BHWC.shape[-1]
        if channels % self.groups or self.features % self.groups:
            raise ValueError(
                f"{channels} channels in and {self.features} out do not divide into {self.groups}"
                " groups"
            )
        shape = (*pair(self.kernel_size), channels // self.groups, self.features)
        x, kernel, bias = _operands(self, x_BHWC, shape)
        y = conv(x, kernel, self.strides, self.padding, self.dilation, self.groups)
        return y if bias is None else add_bias(y, bias)


class ConvTranspose(nn.Module):
    """Transposed convolution of (B, H, W, C) with bias, geometry of `conv_transpose`.

    Parameters: kernel (kh, kw, C, features) and bias (features,), in `param_dtype`. Computes in
      `dtype`.
    """

    features: int
    kernel_size: Pair
    strides: Pair = 1
    padding: Padding = 0
    output_padding: Pair = 0
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        shape = (*pair(self.kernel_size), x_BHWC.shape[-1], self.features)
        x, kernel, bias = _operands(self, x_BHWC, shape)
        y = conv_transpose(x, kernel, self.strides, self.padding, self.output_padding)
        return y if bias is None else add_bias(y, bias)


def _operands(module, x, shape):
    """Input, kernel and bias (or None) in the compute dtype."""
    kernel = module.param("kernel", module.kernel_init, shape, module.param_dtype)
    bias = (
        module.param("bias", module.bias_init, (module.features,), module.param_dtype)
        if module.use_bias
        else None
    )
    return promote_dtype(x, kernel, bias, dtype=module.dtype)
