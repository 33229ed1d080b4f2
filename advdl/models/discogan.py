"""DiscoGAN's generator: Kim et al. 2017 (arXiv:1703.05192), section 3.4, from image to image. Its
discriminator is DCGAN's.

Axes: B batch, H height, W width, C channels. Pixels lie in [-1, 1]; those of the released code lie
in [0, 1], its sigmoid is this tanh, (1 + tanh(x))/2 = σ(2x).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.errors import as_user_error
from advdl.models import mlp
from advdl.models.dcgan import NORMAL, Discriminator, check_halves, gain, leaky_relu, levels_of
from advdl.models.variant import Variant
from advdl.nn import BatchNorm, Conv, ConvTranspose, GroupNorm


class Generator(nn.Module):
    """Images (B, H, W, C') -> images (B, H, W, C) in (-1, 1).

    `levels` convolutions of 4×4 and stride 2, `width` channels and twice as many each time, batch
    normalization on all but the first and leaky rectifiers; as many transposed ones back, with
    rectifiers. No shortcuts: everything passes the smallest map. The paper's has width 64 and 4
    levels on images of 64×64 (from where `levels_of` has 4).

    channels: C. Raises ValueError for a size that does not halve `levels` times.
    """

    channels: int = 3
    width: int = 64
    levels: int | None = None
    norm: Callable[..., nn.Module] = BatchNorm
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> jax.Array:
        height, width = x_BHWC.shape[1:3]
        levels = self.levels or levels_of(height, width)
        check_halves(height, width, levels)
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        norm = partial(self.norm, scale_init=gain, **dtypes)
        geometry: dict[str, Any] = dict(
            kernel_size=4, strides=2, padding=1, use_bias=False, kernel_init=NORMAL, **dtypes
        )
        x = x_BHWC
        for level in range(1, levels + 1):
            x = Conv(self.width << (level - 1), name=f"halve{level}", **geometry)(x)
            if level > 1:
                x = norm(name=f"down{level}")(x, train)
            x = leaky_relu(x)
        for level in range(levels - 1, 0, -1):
            x = ConvTranspose(self.width << (level - 1), name=f"double{level}", **geometry)(x)
            x = nn.relu(norm(name=f"up{level}")(x, train))
        return jnp.tanh(ConvTranspose(self.channels, name="double0", **geometry)(x))


def networks(
    domain: Any,
    width: int = 64,
    norm: str = "batch",
    hidden: Sequence[int] = (128, 128, 128),
    dtype: Any = jnp.float32,
) -> tuple[nn.Module, nn.Module]:
    """The generator that draws a domain, and the discriminator that judges what it draws.

    domain: its `shape` is (H, W, C) of images, for which the networks are the paper's, with `width`
    and normalization over the batch or, with "group", over groups of an example's own channels; or
    (D,) of points, with their `mean` and `std`, for which they are perceptrons with `hidden` units.
    Raises UserError for images that do not halve often enough.
    """
    if len(domain.shape) == 1:
        draw = mlp.Generator(domain.shape[0], hidden, nn.relu, dtype)
        return draw, mlp.Discriminator(domain.mean, domain.std, hidden, dtype)
    with as_user_error("give --image-size"):
        levels = levels_of(*domain.shape[:2])
    normalization = {"batch": BatchNorm, "group": GroupNorm}[norm]
    draw = Generator(domain.shape[2], width, levels, normalization, dtype)
    return draw, Discriminator(width, levels, norm=normalization, dtype=dtype)


VARIANTS: Mapping[str, Variant] = {
    "discogan_generator": Variant(Generator, "Kim 2017", (64, 64, 3), 5_513_856, 207_618_048),
}
