"""DCGAN: Radford, Metz and Chintala 2015 (arXiv:1511.06434), for images of any size that halves
often enough.

Axes: B batch, Z noise, H height, W width, C channels. Pixels lie in [-1, 1].

Strided convolutions instead of pooling and no hidden dense layers; batch normalization everywhere
but on the generator's output and the discriminator's input layer, and no other biases; rectifiers
and tanh in the generator, leaky rectifiers of slope 0.2 in the discriminator. Weights start from
N(0, 0.02), gains of the normalization from N(1, 0.02).

The paper's networks (figure 1) are 64×64 with width 128, hence 1024, 512, 256 and 128 channels from
4×4 to 32×32, and kernel 5. The default kernel of 4 divides by the stride, so that every output
pixel gets as many products as its neighbor.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.models.variant import Variant
from advdl.nn import BatchNorm, Conv, ConvTranspose

NORMAL = nn.initializers.normal(0.02)


def gain(key: jax.Array, shape, dtype=jnp.float32) -> jax.Array:
    """Initializer N(1, 0.02)."""
    return 1 + 0.02 * jax.random.normal(key, shape, dtype)


def leaky_relu(x: jax.Array) -> jax.Array:
    """max(x, 0.2 x)."""
    return nn.leaky_relu(x, 0.2)


def levels_of(height: int, width: int) -> int:
    """How often to halve: until the shorter side is below 8, and at least twice. 8 -> 2, 28 -> 2,
    32 -> 3, 64 -> 4.

    Raises ValueError for a size that does not halve that often.
    """
    levels = 2
    while min(height, width) >> levels >= 8:
        levels += 1
    check_halves(height, width, levels)
    return levels


def check_halves(height: int, width: int, levels: int) -> None:
    """Raises ValueError for a size that does not halve `levels` times."""
    if height % 2**levels or width % 2**levels:
        raise ValueError(
            f"images of {height}×{width} do not halve {levels} times; take multiples of {2**levels}"
        )


def _geometry(kernel: int) -> dict[str, Any]:
    """Of the convolution that halves, and whose transpose (with `kernel % 2` output padding)
    doubles."""
    return dict(kernel_size=kernel, strides=2, padding=(kernel - 1) // 2)


class Generator(nn.Module):
    """Noise (B, Z), and with `classes` labels (B,) -> images (B, H, W, C) in (-1, 1).

    A dense layer to the smallest map, `width`·2^(levels - 1) channels, and a transposed convolution
    for each level: channels halve down to `width`, the last makes the image.

    shape: (H, W, C). levels: doublings (default: `levels_of`). kernel: 4, or the paper's 5, or any
      other from 2.
    conv, norm: called as `ConvTranspose` and `BatchNorm` are, with their initializers and this
      network's dtypes. kernel_init: initializer of all kernels.
    classes: K of a conditional generator: the label joins the noise, one of K (Mirza and Osindero
    2014, arXiv:1411.1784). Raises ValueError for a shape that does not halve `levels` times.
    """

    shape: tuple[int, int, int]
    width: int = 64
    levels: int | None = None
    kernel: int = 4
    dtype: Any = None
    param_dtype: Any = jnp.float32
    conv: Callable[..., nn.Module] = ConvTranspose
    norm: Callable[..., nn.Module] = BatchNorm
    classes: int = 0
    kernel_init: Callable[..., jax.Array] = NORMAL

    @nn.compact
    def __call__(self, z_BZ: jax.Array, train: bool, label_B: jax.Array | None = None) -> jax.Array:
        height, width, channels = self.shape
        if self.classes:
            z_BZ = jnp.concatenate(
                [z_BZ, jax.nn.one_hot(label_B, self.classes, dtype=z_BZ.dtype)], axis=-1
            )
        levels = self.levels or levels_of(height, width)
        check_halves(height, width, levels)
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        norm = partial(self.norm, scale_init=gain, **dtypes)
        given: dict[str, Any] = dict(use_bias=False, kernel_init=self.kernel_init, **dtypes)
        double = partial(
            self.conv, output_padding=self.kernel % 2, **_geometry(self.kernel), **given
        )
        base = (height >> levels, width >> levels, self.width << (levels - 1))
        size = base[0] * base[1] * base[2]
        x = nn.Dense(size, name="project", **given)(z_BZ).reshape(-1, *base)
        x = nn.relu(norm(name="norm0")(x, train))
        for level in range(1, levels):
            x = double(base[2] >> level, name=f"double{level}")(x)
            x = nn.relu(norm(name=f"norm{level}")(x, train))
        return jnp.tanh(double(channels, name=f"double{levels}")(x))


class Discriminator(nn.Module):
    """Images (B, H, W, C), and with `classes` labels (B,) -> (logit of "real" (B,), {"level1": (B,
    H / 2, W / 2, width), …}).

    A strided convolution for each level, `width` channels and twice as many each time, then a dense
    layer. Arguments as the generator's; dense: called as `nn.Dense` is.
    classes: K of a conditional discriminator: to the logit comes the product of the label's
      embedding with the last features, added up over places (the projection of Miyato and Koyama
      2018, arXiv:1802.05637, equation 3).
    """

    width: int = 64
    levels: int | None = None
    kernel: int = 4
    dtype: Any = None
    param_dtype: Any = jnp.float32
    conv: Callable[..., nn.Module] = Conv
    norm: Callable[..., nn.Module] = BatchNorm
    dense: Callable[..., nn.Module] = nn.Dense
    classes: int = 0
    kernel_init: Callable[..., jax.Array] = NORMAL

    @nn.compact
    def __call__(
        self, x_BHWC: jax.Array, train: bool, label_B: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        x, seen = _halved(self, x_BHWC, train)
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        dense = partial(self.dense, use_bias=False, kernel_init=self.kernel_init, **dtypes)
        logit = dense(1, name="logit")(x.reshape(len(x), -1))[:, 0]
        if self.classes:
            one_BK = jax.nn.one_hot(label_B, self.classes, dtype=x.dtype)
            embedded = dense(x.shape[-1], name="embedding")(one_BK)
            logit = logit + (embedded * x.sum((1, 2))).sum(-1)
        return logit, seen


class Encoder(nn.Module):
    """Images (B, H, W, C) -> (noise (B, Z), {"level1": …}): the discriminator with `z` outputs in
    place of one, which finds the noise that an image could have come from (Zhu et al. 2016,
    arXiv:1609.03552, section 3.1). Arguments as there."""

    z: int
    width: int = 64
    levels: int | None = None
    kernel: int = 4
    dtype: Any = None
    param_dtype: Any = jnp.float32
    conv: Callable[..., nn.Module] = Conv
    norm: Callable[..., nn.Module] = BatchNorm
    kernel_init: Callable[..., jax.Array] = NORMAL

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        x, seen = _halved(self, x_BHWC, train)
        code = nn.Dense(self.z, dtype=self.dtype, param_dtype=self.param_dtype, name="code")
        return code(x.reshape(len(x), -1)), seen


def _halved(module: nn.Module, x: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The strided convolutions of a discriminator: the last features, and those of every level."""
    height, width = x.shape[1:3]
    levels = module.levels or levels_of(height, width)
    check_halves(height, width, levels)
    dtypes, seen = dict(dtype=module.dtype, param_dtype=module.param_dtype), {}
    given: dict[str, Any] = dict(use_bias=False, kernel_init=module.kernel_init, **dtypes)
    conv = partial(module.conv, **_geometry(module.kernel), **given)
    norm = partial(module.norm, scale_init=gain, **dtypes)
    for level in range(1, levels + 1):
        x = conv(module.width << (level - 1), name=f"halve{level}")(x)
        if level > 1:
            x = norm(name=f"norm{level}")(x, train)
        x = seen[f"level{level}"] = leaky_relu(x)
    return x, seen


VARIANTS: Mapping[str, Variant] = {
    "dcgan_generator": Variant(
        partial(Generator, (64, 64, 3), width=128, kernel=5),
        "Radford 2015",
        (100,),
        18_855_040,
        640_614_400,
    ),
    "dcgan_discriminator": Variant(
        partial(Discriminator, width=128, kernel=5),
        "Radford 2015",
        (64, 64, 3),
        17_232_768,
        638_992_384,
    ),
    "igan_encoder": Variant(
        partial(Encoder, 100, width=128, kernel=5), "Zhu 2016", (64, 64, 3), 18_854_884, 640_614_400
    ),
}
