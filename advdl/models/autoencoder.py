"""Auto-encoders: images to a code of a few numbers, and back.

Axes: B batch, H height, W width, C channels, Z code, D units. Pixels lie in [0, 1]; a decoder gives
  their logits.

Every network is called with images (B, H, W, C) and gives (logits of the reconstruction (B, H, W,
C), intermediates with "code" (B, Z)); its methods `encode` and `decode` are the halves. `shape` is
that of one image, and another raises ValueError. `Dense` is Hinton & Salakhutdinov 2006 (Science
313, pages 504-507), `Variational` Kingma & Welling 2013 (arXiv:1312.6114), `Convolutional` the same
idea in the layers of DCGAN (Radford et al. 2015, arXiv:1511.06434).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from advdl.errors import UserError
from advdl.models import dcgan
from advdl.models.variant import Variant
from advdl.nn import Conv, ConvTranspose, replica

Seen = dict[str, jax.Array]


class Transposed(nn.Module):
    """A dense layer of another one's kernel (features, D), transposed: (B, D) -> (B, features). Its
    bias is its own."""

    features: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BD: jax.Array, kernel: jax.Array) -> jax.Array:
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        x_BD, kernel, bias = promote_dtype(x_BD, kernel, bias, dtype=self.dtype)
        return x_BD @ kernel.T + bias.reshape(1, -1)


class Dense(nn.Module):
    """The deep auto-encoder of figure 1: H·W·C-1000-500-250-30 and mirrored, the code linear, the
    other units logistic.

    Of 28×28 pixels it has 2,837,314 parameters, tied 1,420,814. The paper starts from restricted
    Boltzmann machines trained layer by layer, their weights unrolled; from random weights,
    rectifiers as `act` learn where logistic units hardly do.

    hidden: units from the image to the code. code: Z. tied: layer n from the last has the
      transposed kernel of layer n, and a bias of its own, as the unrolled machines do before they
      are fine-tuned.
    Intermediates: "encoded1" …, "code", "decoded1" … as `decode` runs. `train` changes nothing.
    """

    shape: tuple[int, int, int]
    hidden: Sequence[int] = (1000, 500, 250)
    code: int = 30
    tied: bool = False
    act: Callable[[jax.Array], jax.Array] = nn.sigmoid
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self):
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        self.encoder = [nn.Dense(units, **dtypes) for units in (*self.hidden, self.code)]
        layer = Transposed if self.tied else nn.Dense
        self.decoder = [
            layer(units, **dtypes) for units in (*reversed(self.hidden), math.prod(self.shape))
        ]

    def __call__(self, x_BHWC: jax.Array, train: bool = False) -> tuple[jax.Array, Seen]:
        code_BZ, encoded = self.encode(x_BHWC, train)
        logits_BHWC, decoded = self.decode(code_BZ, train)
        return logits_BHWC, {**encoded, **decoded}

    def encode(self, x_BHWC: jax.Array, train: bool = False) -> tuple[jax.Array, Seen]:
        """Images -> (code (B, Z), intermediates)."""
        h, seen = _flat(x_BHWC, self.shape), {}
        for number, layer in enumerate(self.encoder[:-1], 1):
            h = seen[f"encoded{number}"] = self.act(layer(h))
        seen["code"] = self.encoder[-1](h)
        return seen["code"], seen

    def decode(self, code_BZ: jax.Array, train: bool = False) -> tuple[jax.Array, Seen]:
        """Code (B, Z) -> (logits (B, H, W, C), intermediates)."""
        h, seen = code_BZ, {}
        for number, (layer, mirrored) in enumerate(
            zip(self.decoder, reversed(self.encoder), strict=True), 1
        ):
            kernel = (mirrored.get_variable("params", "kernel"),) if self.tied else ()
            h = layer(h, *kernel)
            if number < len(self.decoder):
                h = seen[f"decoded{number}"] = self.act(h)
        return h.reshape(-1, *self.shape), seen


class Convolutional(nn.Module):
    """Strided convolutions to a dense code, transposed ones back: `width` channels next to the
    image, twice as many a level.

    Kernels of 4 divide by the stride of 2, so every pixel of a transposed convolution gets as many
    products as its neighbor and none paints a checkerboard (Odena et al. 2016, *Deconvolution and
    Checkerboard Artifacts*).

    levels: halvings (default: `dcgan.levels_of`). code: Z. up: "transpose", or "resize": each pixel
      repeated 2×2, then a 3×3 convolution, that article's remedy for other kernels.
    Intermediates: "encoded1" (B, H / 2, W / 2, width) …, "code", "decoded1" … as `decode` runs.
    `train` changes nothing. Raises ValueError for a shape that does not halve `levels` times.
    """

    shape: tuple[int, int, int]
    width: int = 32
    code: int = 30
    levels: int | None = None
    up: Literal["transpose", "resize"] = "transpose"
    act: Callable[[jax.Array], jax.Array] = nn.relu
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self):
        height, width, channels = self.shape
        levels = self.levels or dcgan.levels_of(height, width)
        dcgan.check_halves(height, width, levels)
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        channels = (channels, *(self.width << level for level in range(levels)))
        self.base = (height >> levels, width >> levels, channels[-1])
        up = (
            dict(kernel_size=4, strides=2, padding=1)
            if self.up == "transpose"
            else dict(kernel_size=3, padding=1)
        )
        layer = ConvTranspose if self.up == "transpose" else Conv
        self.encoder = [Conv(c, 4, strides=2, padding=1, **dtypes) for c in channels[1:]]
        self.to_code = nn.Dense(self.code, **dtypes)
        self.from_code = nn.Dense(math.prod(self.base), **dtypes)
        self.decoder = [layer(c, **up, **dtypes) for c in channels[-2::-1]]

    def __call__(self, x_BHWC: jax.Array, train: bool = False) -> tuple[jax.Array, Seen]:
        code_BZ, encoded = self.encode(x_BHWC, train)
        logits_BHWC, decoded = self.decode(code_BZ, train)
        return logits_BHWC, {**encoded, **decoded}

    def encode(self, x_BHWC: jax.Array, train: bool = False) -> tuple[jax.Array, Seen]:
        """Images -> (code (B, Z), intermediates)."""
        h, seen = _checked(x_BHWC, self.shape), {}
        for number, layer in enumerate(self.encoder, 1):
            h = seen[f"encoded{number}"] = self.act(layer(h))
        seen["code"] = self.to_code(h.reshape(len(h), -1))
        return seen["code"], seen

    def decode(self, code_BZ: jax.Array, train: bool = False) -> tuple[jax.Array, Seen]:
        """Code (B, Z) -> (logits (B, H, W, C), intermediates)."""
        h, seen = self.act(self.from_code(code_BZ)).reshape(-1, *self.base), {}
        for number, layer in enumerate(self.decoder, 1):
            h = layer(h if self.up == "transpose" else h.repeat(2, 1).repeat(2, 2))
            if number < len(self.decoder):
                h = seen[f"decoded{number}"] = self.act(h)
        return h, seen


class Variational(nn.Module):
    """q(z|x) = N(mean, exp(log_variance)) and p(x|z) Bernoulli, each a perceptron (appendix C), the
    prior N(0, I).

    A code is z = mean + exp(log_variance / 2) · ε, ε ~ N(0, I) (section 2.4). ε is `epsilon_BZ`
    where it is given; else in training mode each example draws its own from the stream "noise", and
    otherwise it is 0: the code is the mean.

    hidden: units from the image to the code, mirrored in the decoder; the paper's are 500 tanh
      units. code: Z.
    Intermediates: "mean", "log_variance" and "code" (B, Z). The evidence lower bound of an image is
    -`losses.binary_cross_entropy(logits, x)` - `losses.gaussian_kl(mean, log_variance)` (equation
    10 with one sample).
    """

    shape: tuple[int, int, int]
    hidden: Sequence[int] = (500,)
    code: int = 20
    act: Callable[[jax.Array], jax.Array] = nn.tanh
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self):
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        self.encoder = [nn.Dense(units, **dtypes) for units in self.hidden]
        self.mean, self.log_variance = nn.Dense(self.code, **dtypes), nn.Dense(self.code, **dtypes)
        self.decoder = [nn.Dense(units, **dtypes) for units in reversed(self.hidden)]
        self.pixels = nn.Dense(math.prod(self.shape), **dtypes)

    def __call__(
        self, x_BHWC: jax.Array, train: bool = False, epsilon_BZ: jax.Array | None = None
    ) -> tuple[jax.Array, Seen]:
        code_BZ, encoded = self.encode(x_BHWC, train, epsilon_BZ)
        logits_BHWC, decoded = self.decode(code_BZ, train)
        return logits_BHWC, {**encoded, **decoded}

    def encode(
        self, x_BHWC: jax.Array, train: bool = False, epsilon_BZ: jax.Array | None = None
    ) -> tuple[jax.Array, Seen]:
        """Images -> (code (B, Z), intermediates)."""
        h = _flat(x_BHWC, self.shape)
        for layer in self.encoder:
            h = self.act(layer(h))
        mean, log_variance = self.mean(h), self.log_variance(h)
        if epsilon_BZ is None and train:

            def draw(key):
                return jax.random.normal(key, (self.code,), mean.dtype)

            epsilon_BZ = replica.sample(draw, self.make_rng("noise"), len(mean))
        code = mean if epsilon_BZ is None else mean + jnp.exp(log_variance / 2) * epsilon_BZ
        return code, {"mean": mean, "log_variance": log_variance, "code": code}

    def decode(self, code_BZ: jax.Array, train: bool = False) -> tuple[jax.Array, Seen]:
        """Code (B, Z) -> (logits (B, H, W, C), {})."""
        h = code_BZ
        for layer in self.decoder:
            h = self.act(layer(h))
        return self.pixels(h).reshape(-1, *self.shape), {}


def _checked(x_BHWC: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    if x_BHWC.shape[1:] != tuple(shape):
        raise ValueError(f"images {x_BHWC.shape[1:]} for an auto-encoder of {tuple(shape)}")
    return x_BHWC


def _flat(x_BHWC: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    return _checked(x_BHWC, shape).reshape(len(x_BHWC), -1)


def network(
    name: Literal["dense", "conv", "vae"],
    shape: tuple[int, int, int],
    code: int,
    hidden: Sequence[int] = (),
    activation: str = "gelu",
    tied: bool = False,
    width: int = 32,
    up: Literal["transpose", "resize"] = "transpose",
    dtype: Any = None,
) -> nn.Module:
    """The auto-encoder of this name, see the classes.

    activation: a function of `flax.linen`, by name. hidden is not used by conv, tied by dense
    alone, width and up by conv alone. Raises UserError for tied weights of another network, and for
    a shape that does not halve often enough for conv.
    """
    act: Callable[[jax.Array], jax.Array] = getattr(nn, activation)
    if tied and name != "dense":
        raise UserError(f"--tied is for --network dense, and this is {name}")
    if name == "dense":
        return Dense(shape, hidden, code, tied, act, dtype)
    if name == "vae":
        return Variational(shape, hidden, code, act, dtype)
    try:
        dcgan.levels_of(*shape[:2])
    except ValueError as error:
        raise UserError(f"{error}; give --image-size, or --network dense") from error
    return Convolutional(shape, width, code, None, up, act, dtype)


VARIANTS: Mapping[str, Variant] = {
    "autoencoder": Variant(
        partial(Dense, (28, 28, 1)), "Hinton 2006", (28, 28, 1), 2_837_314, 2_833_000
    ),
    "autoencoder_tied": Variant(
        partial(Dense, (28, 28, 1), tied=True), "Hinton 2006", (28, 28, 1), 1_420_814, 2_833_000
    ),
    "autoencoder_convolutional": Variant(
        partial(Convolutional, (28, 28, 1)),
        "Hinton 2006, Radford 2015",
        (28, 28, 1),
        258_015,
        3_600_128,
    ),
    "autoencoder_variational": Variant(
        partial(Variational, (28, 28, 1)), "Kingma 2013", (28, 28, 1), 815_824, 814_000
    ),
}
