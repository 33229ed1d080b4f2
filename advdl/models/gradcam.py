"""Grad-CAM: where in an image a network sees a class (Selvaraju et al. 2017, arXiv:1610.02391,
section 3).

Axes: B batch, H height, W width, C channels, K classes; h, w of the layer's maps.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.nn.tap import COLLECTION


def grad_cam(
    network: nn.Module,
    variables: Mapping[str, Any],
    image_BHWC: jax.Array,
    layer: str,
    label_B: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """(heat (B, h, w), logits (B, K)): relu(sum_c a_c A_c), a_c the mean over the map of the
    logit's derivative by A_c (equations 1 and 2); each image's heat is divided by its largest
    value, all zeros stay zeros.

    layer: name of an intermediate (B, h, w, C) that has a tap, as the classifiers' stages have.
    label_B: the class to look for, by default the one that the network says. Raises ValueError for
    a layer that is not there or has no map.
    """
    logits_BK, seen = jax.eval_shape(
        lambda v, x: network.apply(v, x, train=False), variables, image_BHWC
    )
    if layer not in seen or len(seen[layer].shape) != 4:
        raise ValueError(
            f"no layer {layer!r} with maps; there are"
            f" {', '.join(n for n, x in seen.items() if len(x.shape) == 4)}"
        )

    def chosen(zeros):
        # VGG's stages are its trunk's.
        tapped = {**variables, COLLECTION: {layer: zeros, "trunk": {layer: zeros}}}
        logits_BK, seen = network.apply(tapped, image_BHWC, train=False)
        label = logits_BK.argmax(-1) if label_B is None else label_B
        return jnp.take_along_axis(logits_BK, label[:, None], 1).sum(), (logits_BK, seen[layer])

    zeros = jnp.zeros(seen[layer].shape, seen[layer].dtype)
    gradient, (logits_BK, maps_BHWC) = jax.grad(chosen, has_aux=True)(zeros)
    weight_BC = gradient.mean((1, 2), keepdims=True)
    heat_BHW = jnp.maximum((weight_BC * maps_BHWC).sum(-1), 0)
    largest = heat_BHW.max((1, 2), keepdims=True)
    return heat_BHW / jnp.where(largest > 0, largest, 1), logits_BK


def last_maps(
    network: nn.Module, variables: Mapping[str, Any], shape: tuple[int, ...], least: int = 4
) -> str:
    """The last intermediate whose maps have at least `least` pixels a side (else the largest maps
    there are), for images of this shape (H, W, C)."""
    maps: dict[str, int] = {}

    def run(variables):
        # JAX sorts a dict that a traced function returns; in here it has the network's order.
        seen: dict[str, Any] = dict(
            network.apply(variables, jnp.zeros((1, *shape)), train=False)[1]
        )
        maps.update({name: min(x.shape[1:3]) for name, x in seen.items() if len(x.shape) == 4})

    jax.eval_shape(run, variables)
    side = min(least, max(maps.values()))
    return [name for name, pixels in maps.items() if pixels >= side][-1]
