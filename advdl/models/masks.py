"""What a network whose output is logits of every pixel is used for: probabilities in several ways,
classes, and the pixels that it sees.

Axes: B batch, H height, W width, C channels, K classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.errors import UserError
from advdl.models import segnet, unet
from advdl.models.inference import probabilities


def mask_predictor(
    network: nn.Module,
    samples: int = 0,
    scales: Sequence[float] = (1.0,),
    mirror: bool = False,
    window: int = 0,
) -> Callable[[Any, jax.Array], jax.Array]:
    """`(variables, x (B, H, W, C)) -> probabilities (B, H, W, K)` of a network whose output is
    logits of every pixel.

    samples: over so many draws of dropout, the same ones for every batch (0: without dropout).
    scales, mirror, window: see `probabilities`; of a U-Net of valid convolutions, `window` is the
      side of the tiles of `unet.overlap_tile` instead.

    Raises UserError for samples of a network that has no dropout at test, and for tiles that are
    too small.
    """
    tiled, name = unet.is_tiled(network), type(network).__name__
    if samples and not segnet.is_bayesian(network):
        raise UserError(
            f"--samples {samples} is for SegNets with dropout, and the network is a {name}"
        )
    if tiled and 0 < window < (least := unet.smallest_tile(network.levels)):
        raise UserError(f"--window is {window}; tiles of a {name} need {least} pixels a side")

    def logits(variables, x):
        if not (tiled and window):
            return network.apply(variables, x, train=False)[0]
        valid = network.clone(mirror=False)
        return unet.overlap_tile(
            lambda part: valid.apply(variables, part, train=False)[0], x, window, network.levels
        )

    def predict(variables, x):
        def once(x):
            if samples:
                return segnet.sampled(network, variables, x, jax.random.key(0), samples)[0]
            return jax.nn.softmax(logits(variables, x))

        return probabilities(once, x, scales, mirror, 0 if tiled else window)

    return predict


def predict_classes(
    network: nn.Module, variables: Any, x_BHWC: jax.Array, samples: int = 0
) -> dict[str, jax.Array]:
    """`class` (B, H, W), uint8, of every pixel. samples: of a SegNet with dropout, draws over which
    the class is found and its `uncertainty` (B, H, W), see `segnet.sampled`."""
    if samples and segnet.is_bayesian(network):
        scores, uncertainty = segnet.sampled(network, variables, x_BHWC, jax.random.key(0), samples)
        return {"class": scores.argmax(-1).astype(jnp.uint8), "uncertainty": uncertainty}
    logits = network.apply(variables, x_BHWC, train=False)[0]
    return {"class": logits.argmax(-1).astype(jnp.uint8)}


def mask_functions(network: nn.Module) -> dict[str, Callable[..., Any]]:
    """Functions of a learner whose network gives logits of every pixel: `classes`, with `samples`
    as a setting, and `sees`; see `predict_classes` and `receptive_pixels`."""
    return {
        "classes": lambda variables, batch, samples=0: predict_classes(
            network, variables, batch["image"], samples
        ),
        "sees": lambda variables, batch: receptive_pixels(network, variables, batch["image"]),
    }


def receptive_pixels(network: nn.Module, variables: Any, x_BHWC: jax.Array) -> jax.Array:
    """(B, H, W) bool: the pixels of an image whose change would change the logits of the one in its
    middle, as the gradient has it."""
    row, column = (n // 2 for n in x_BHWC.shape[1:3])

    def scores(x):
        return network.apply(variables, x, train=False)[0][:, row, column].sum(0)

    gradient_KBHWC = jax.jacrev(scores)(x_BHWC)
    return jnp.abs(gradient_KBHWC).sum((0, 4)) > 0
