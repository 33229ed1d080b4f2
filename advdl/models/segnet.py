"""SegNet: Badrinarayanan, Kendall and Cipolla 2015 (arXiv:1511.00561), SegNet-Basic, and Bayesian
SegNet (arXiv:1511.02680).

Axes: B batch, H height, W width, C channels, K classes, S samples.

The encoder remembers where each maximum was, and the decoder puts values back there (section 3).
Pooling rounds up, and each unpooling gives exactly the size that was pooled, so that any size
works.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.models import vgg
from advdl.models.backbone import Backbone
from advdl.models.variant import Variant
from advdl.nn import (
    BatchNorm,
    Conv,
    Dropout,
    local_response_norm,
    max_pool_with_indices,
    max_unpool,
    remat,
    resize_bilinear,
    tap,
)
from advdl.nn.elementwise import relu
from advdl.nn.pixels import BYTES, UNIT, Pixels

HE = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class SegNet(nn.Module):
    """(B, H, W, C) of any size -> logits (B, H, W, K) and the intermediates by name, in `dtype`.

    VGG-16's thirteen convolutions, each with bias, normalization and rectifier, and their mirror
    image; the last convolution alone gives the logits. `features`: of each stage's convolutions;
    `width`: factor on them.
    dropout: after pool3 to pool5 and after decoder stages 5 to 3, Bayesian SegNet's six
      (arXiv:1511.02680, section 3); on in training, and in `sampled` at test.
    Intermediates: pool1 to pool5, unpool5 to unpool1.
    """

    pixels: ClassVar[Pixels] = UNIT
    num_classes: int = 11
    features: Sequence[Sequence[int]] = vgg.D
    width: float = 1.0
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32
    norm: Callable[..., nn.Module] = BatchNorm

    @nn.compact
    def __call__(
        self, x_BHWC: jax.Array, train: bool, sample: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)

        def unit(x, count, name):
            x = Conv(count, 3, padding=1, kernel_init=HE, name=f"conv{name}", **dtypes)(x)
            return relu(self.norm(name=f"norm{name}", **dtypes)(x, train))

        def down(module, x, stage):
            for number, count in enumerate(features[stage - 1], 1):
                x = unit(x, count, f"{stage}_{number}")
            return max_pool_with_indices(x, ceil=True)

        def up(module, x, index, stage, size):
            x = unpooled = max_unpool(x, index, size, ceil=True)
            for number in range(len(features[stage - 1]), 1, -1):
                x = unit(x, features[stage - 1][number - 1], f"{stage}_{number}_up")
            return unpooled, x if stage == 1 else unit(x, features[stage - 2][-1], f"{stage}_1_up")

        drop = Dropout(self.dropout)
        features = [[round(self.width * n) for n in widths] for widths in self.features]
        seen, x, places, stages = {}, x_BHWC, [], len(features)
        for stage in range(1, stages + 1):
            size = x.shape[1:3]
            x, index = remat.block(partial(down, stage=stage))(self, x)
            places.append((index, size))
            x = seen[f"pool{stage}"] = tap(
                self, f"pool{stage}", drop(x, train or sample) if stage > stages - 3 else x
            )
        for stage in range(stages, 0, -1):
            index, size = places.pop()
            seen[f"unpool{stage}"], x = remat.block(partial(up, stage=stage, size=size))(
                self, x, index
            )
            x = drop(x, train or sample) if stage > max(1, stages - 3) else x
        return Conv(self.num_classes, 3, padding=1, kernel_init=HE, name="score", **dtypes)(x), seen

    @property
    def published_backbone(self) -> Backbone:
        """VGG-16's convolutions, with its normalizations where a file has them."""

        def place(own, learned):
            return {**own, **learned["trunk"]}

        def holds(path):
            return path[0] != "score" and not path[0].endswith("_up")

        return Backbone(vgg.VGG(), place, holds, vgg.VGG(norm=BatchNorm))


class SegNetBasic(nn.Module):
    """The small SegNet of the paper's comparisons (section 3.2): four 7×7 convolutions of 64
    features down, four up.

    Local response normalization of the image, rectifiers in the encoder only. Arguments and results
    as `SegNet`'s; the image's normalization is Caffe's (alpha over the mean, k = 1).
    indices: whether values go back to where the maxima were. Without, the decoder's maps grow by
      bilinear interpolation, the comparison of the paper's table 1.
    """

    pixels: ClassVar[Pixels] = BYTES
    num_classes: int = 11
    features: int = 64
    width: float = 1.0
    levels: int = 4
    indices: bool = True
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32
    norm: Callable[..., nn.Module] = BatchNorm

    @nn.compact
    def __call__(
        self, x_BHWC: jax.Array, train: bool, sample: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        count = round(self.width * self.features)
        conv = partial(Conv, count, 7, padding=3, kernel_init=HE, **dtypes)

        def unit(x, name):
            x = conv(name=f"conv{name}")(x)
            return self.norm(name=f"norm{name}", **dtypes)(x, train)

        drop = Dropout(self.dropout)
        x = local_response_norm(x_BHWC, alpha=1e-4, k=1.0, convention="mean")
        seen, places = {}, []
        for level in range(1, self.levels + 1):
            x = relu(unit(x, f"{level}"))
            size = x.shape[1:3]
            x, index = max_pool_with_indices(x, ceil=True)
            places.append((index, size))
            x = seen[f"pool{level}"] = tap(
                self, f"pool{level}", drop(x, train or sample) if level > self.levels - 2 else x
            )
        for level in range(self.levels, 0, -1):
            index, size = places.pop()
            x = max_unpool(x, index, size, ceil=True) if self.indices else resize_bilinear(x, size)
            seen[f"unpool{level}"] = x
            x = unit(x, f"{level}_up")
            x = drop(x, train or sample) if level > self.levels - 2 else x
        return Conv(self.num_classes, 1, kernel_init=HE, name="score", **dtypes)(x), seen


def is_bayesian(network: nn.Module) -> bool:
    """Whether `sampled` is for this network: a SegNet with dropout."""
    return isinstance(network, SegNet | SegNetBasic) and network.dropout > 0


def sampled(
    network: nn.Module, variables: Any, x_BHWC: jax.Array, key: jax.Array, samples: int = 50
) -> tuple[jax.Array, jax.Array]:
    """(mean probability (B, H, W, K), uncertainty (B, H, W)) over draws of dropout: Bayesian
    SegNet, section 3.

    Uncertainty is the variance of each class's probability over the draws, averaged over classes.
    The paper draws 50 times and finds this better than the network without dropout ("weight
    averaging") from about 6 draws on.
    """

    def draw(_, key):
        logits, _ = network.apply(
            variables, x_BHWC, train=False, sample=True, rngs={"dropout": key}
        )
        return None, jax.nn.softmax(logits)

    _, p_SBHWK = jax.lax.scan(draw, None, jax.random.split(key, samples))
    return p_SBHWK.mean(0), p_SBHWK.var(0).mean(-1)


segnet, segnet_basic = SegNet, SegNetBasic
bayesian_segnet = partial(SegNet, dropout=0.5)


VARIANTS: Mapping[str, Variant] = {
    "segnet": Variant(
        segnet,
        "Badrinarayanan 2015",
        (360, 480, 3),
        29_449_355,
        106_712_432_640,
        "50.2 % mean IoU on CamVid (authors' tutorial)",
    ),
    "segnet_basic": Variant(
        segnet_basic,
        "Badrinarayanan 2015",
        (360, 480, 3),
        1_416_587,
        59_188_838_400,
        "46.3 % mean IoU on CamVid (authors' tutorial)",
    ),
    "segnet_basic_bilinear": Variant(
        partial(SegNetBasic, indices=False),
        "Badrinarayanan 2015",
        (360, 480, 3),
        1_416_587,
        62_979_782_400,
    ),
    "bayesian_segnet": Variant(
        bayesian_segnet, "Kendall 2015", (360, 480, 3), 29_449_355, 106_712_432_640
    ),
}
