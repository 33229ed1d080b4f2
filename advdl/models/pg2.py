"""Pose guided person generation: Ma et al. 2017 (arXiv:1705.09368), PG².

Axes: B batch, H height, W width, C channels, K keypoints, D features. Pixels lie in [-1, 1].

Stage 1, `Coarse`, draws the person of one image in the pose of keypoints; stage 2, `Fine`, adds
a difference map that an adversarial loss makes sharp (section 3). As in the released code: no
normalization, 3×3 convolutions, rectifiers.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.models import dcgan
from advdl.models.variant import Variant, struct
from advdl.nn import Conv


def _pixels(size: Sequence[int]) -> tuple[jax.Array, jax.Array]:
    y, x = jnp.meshgrid(jnp.arange(size[0]) + 0.5, jnp.arange(size[1]) + 0.5, indexing="ij")
    return x[None, :, :, None], y[None, :, :, None]


def heat_maps(keypoints_BK3: jax.Array, size: Sequence[int], radius: float = 4.0) -> jax.Array:
    """(B, H, W, K): 1 within `radius` pixels of a keypoint that is seen, -1 elsewhere (section 3.1;
    4 pixels at 128×64 and 256×256). keypoints: (x, y, seen), pixels from the upper left corner."""
    x, y = _pixels(size)
    at_x, at_y, seen = (keypoints_BK3[:, None, None, :, n] for n in range(3))
    inside = ((x - at_x) ** 2 + (y - at_y) ** 2 <= radius**2) & (seen > 0)
    return jnp.where(inside, 1.0, -1.0)


def pose_mask(
    keypoints_BK3: jax.Array,
    limbs: Sequence[tuple[int, int]],
    size: tuple[int, int],
    radius: float = 8.0,
) -> jax.Array:
    """(B, H, W) of 0 and 1: the lines between joined keypoints, both seen, dilated by a disk of
    `radius` pixels: about the person (section 3.1, "pose mask")."""
    x, y = _pixels(size)
    first, last = (
        keypoints_BK3[:, jnp.asarray(ends)][:, None, None] for ends in zip(*limbs, strict=True)
    )
    along = last[..., :2] - first[..., :2]
    offset_x, offset_y = x - first[..., 0], y - first[..., 1]
    share = (offset_x * along[..., 0] + offset_y * along[..., 1]) / jnp.maximum(
        (along**2).sum(-1), 1e-6
    )
    share = jnp.clip(share, 0, 1)
    distance = (offset_x - share * along[..., 0]) ** 2 + (offset_y - share * along[..., 1]) ** 2
    covered = (distance <= radius**2) & (first[..., 2] > 0) & (last[..., 2] > 0)
    return covered.any(-1).astype(jnp.float32)


def _residual(module: nn.Module, x: jax.Array, name: str) -> jax.Array:
    """Two convolutions that keep the features, and what came in."""
    y, dtypes = x, dict(dtype=module.dtype, param_dtype=module.param_dtype)
    for number in (1, 2):
        conv = Conv(x.shape[-1], 3, padding=1, name=f"{name}_conv{number}", **dtypes)
        y = nn.relu(conv(y))
    return x + y


def _double(x_BHWC: jax.Array) -> jax.Array:
    return x_BHWC.repeat(2, axis=1).repeat(2, axis=2)


class Coarse(nn.Module):
    """Image (B, H, W, C) and keypoints (B, K, 3) -> (image (B, H, W, C), {"code": (B, D),
    "down1": …}).

    The pose is seen as heat maps, disks of `radius`. An encoder of `levels` residual blocks of
    width, 2·width, … features with convolutions of stride 2 between them; a fully connected code,
    so that a part may move anywhere; a decoder that has the encoder's maps beside its own. The
    output is not squashed. levels: 5 for 128×64 and 6 for 256×256, with width 128. code: D.
    Raises ValueError for a size that does not halve levels - 1 times.
    """

    width: int = 128
    levels: int = 5
    code: int = 64
    radius: float = 4.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x_BHWC: jax.Array, keypoints_BK3: jax.Array, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        pose_BHWK = heat_maps(keypoints_BK3, x_BHWC.shape[1:3], self.radius)
        channels, seen = x_BHWC.shape[-1], {}
        x = jnp.concatenate([x_BHWC, pose_BHWK.astype(x_BHWC.dtype)], -1)
        x, skips = _encode(self, x, seen)
        shape = x.shape
        code = seen["code"] = nn.Dense(self.code, name="code", **dtypes)(x.reshape(len(x), -1))
        x = nn.Dense(shape[1] * shape[2] * self.width, name="decode", **dtypes)(code).reshape(
            *shape[:3], self.width
        )
        return _decode(self, x, skips, channels, nn.initializers.lecun_normal()), seen


class Fine(nn.Module):
    """Image (B, H, W, C) of the person and stage 1's (B, H, W, C) -> (difference map (B, H, W, C),
    {"down1": …}).

    Fully convolutional, with two blocks less than stage 1: everything stays where it is. The last
    convolution starts at zero, so that stage 2 begins with what stage 1 made. Arguments as
    `Coarse`'s.
    """

    width: int = 128
    levels: int = 3
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x_BHWC: jax.Array, made_BHWC: jax.Array, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        seen = {}
        x, skips = _encode(
            self, jnp.concatenate([x_BHWC, made_BHWC.astype(x_BHWC.dtype)], -1), seen
        )
        return _decode(self, x, skips, x_BHWC.shape[-1], nn.initializers.zeros), seen


class Discriminator(dcgan.Discriminator):
    """Condition (B, H, W, C) and image (B, H, W, C) -> what DCGAN's gives of the pair (section
    3.2). Arguments as there; the paper's kernel is 5."""

    kernel: int = 5

    def __call__(
        self, condition_BHWC: jax.Array, x_BHWC: jax.Array, train: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        pair = jnp.concatenate([condition_BHWC, x_BHWC.astype(condition_BHWC.dtype)], -1)
        return super().__call__(pair, train)


def _encode(
    module: nn.Module, x: jax.Array, seen: dict[str, jax.Array]
) -> tuple[jax.Array, list[jax.Array]]:
    height, width = x.shape[1:3]
    if height % 2 ** (module.levels - 1) or width % 2 ** (module.levels - 1):
        raise ValueError(f"images of {height}×{width} do not halve {module.levels - 1} times")
    conv = partial(
        Conv, kernel_size=3, padding=1, dtype=module.dtype, param_dtype=module.param_dtype
    )
    x = nn.relu(conv(module.width, name="first")(x))
    skips = []
    for level in range(1, module.levels + 1):
        x = seen[f"down{level}"] = _residual(module, x, f"down{level}")
        skips.append(x)
        if level < module.levels:
            x = nn.relu(conv(module.width * (level + 1), strides=2, name=f"halve{level}")(x))
    return x, skips


def _decode(
    module: nn.Module, x: jax.Array, skips: list[jax.Array], channels: int, last_init
) -> jax.Array:
    dtypes = dict(dtype=module.dtype, param_dtype=module.param_dtype)
    for level in range(module.levels, 0, -1):
        x = _residual(module, jnp.concatenate([x, skips[level - 1]], -1), f"up{level}")
        if level > 1:
            x = nn.relu(
                Conv(module.width * (level - 1), 1, name=f"double{level}", **dtypes)(_double(x))
            )
    return Conv(channels, 3, padding=1, kernel_init=last_init, name="image", **dtypes)(x)


VARIANTS: Mapping[str, Variant] = {
    "pg2_coarse": Variant(
        partial(Coarse, levels=6),
        "Ma 2017",
        (256, 256, 3),
        122_103_235,
        306_124_947_456,
        others=(struct((18, 3)),),
    ),
    "pg2_fine": Variant(
        partial(Fine, levels=4),
        "Ma 2017",
        (256, 256, 3),
        47_864_835,
        292_091_330_560,
        "14.9 % of DeepFashion images taken for real (user study)",
        others=(struct((256, 256, 3)),),
    ),
    "pg2_coarse_market": Variant(
        Coarse, "Ma 2017", (128, 64, 3), 70_795_075, 37_374_918_656, others=(struct((18, 3)),)
    ),
    "pg2_fine_market": Variant(
        Fine,
        "Ma 2017",
        (128, 64, 3),
        22_105_219,
        33_063_698_432,
        "11.2 % of Market images taken for real (user study)",
        others=(struct((128, 64, 3)),),
    ),
    "pg2_discriminator_market": Variant(
        Discriminator,
        "Ma 2017",
        (128, 64, 3),
        4_328_576,
        334_249_984,
        others=(struct((128, 64, 3)),),
    ),
}
