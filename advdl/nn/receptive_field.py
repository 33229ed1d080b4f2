"""What a unit of a network sees: stride, receptive field and offset of any stack of layers, in
pixels of the image.

Coordinates are of pixel centers, the image's first one 0; exact, as fractions. Along one axis.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple


class Layer(NamedTuple):
    """A convolution or pooling, or with `transposed` a transposed convolution."""

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    transposed: bool = False


class Field(NamedTuple):
    """Unit i of a layer is centered on pixel `offset + stride · i` and sees `size` pixels around
    it."""

    stride: Fraction
    size: Fraction
    offset: Fraction


IMAGE = Field(Fraction(1), Fraction(1), Fraction(0))


def receptive_field(layers: Iterable[Layer], start: Field = IMAGE) -> Field:
    """Of the last of these layers, each reading the one before it, the first one reading `start`.

    A transposed convolution's unit sees ceil(kernel / stride) units of its input at most.
    """
    stride, size, offset = start
    for layer in layers:
        reach = layer.dilation * (layer.kernel - 1)
        middle = Fraction(reach, 2) - layer.padding
        if layer.transposed:
            seen = -(-layer.kernel // layer.stride)
            offset -= stride * middle / layer.stride
            size += (seen - 1) * stride
            stride /= layer.stride
        else:
            offset += stride * middle
            size += reach * stride
            stride *= layer.stride
    return Field(stride, size, offset)


def crop_offset(large: Field, small: Field) -> int:
    """Unit of `large` that lies where unit 0 of `small` does: where to start cutting `large` so
    that both lie on each other.

    Raises ValueError where their strides differ, or no unit of `large` lies there.
    """
    units = (small.offset - large.offset) / large.stride
    if large.stride != small.stride or units.denominator != 1 or units < 0:
        raise ValueError(f"units of {large} and {small} do not lie on each other")
    return int(units)
