"""A space of features to measure images in: a network with its weights, read from a file."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advdl import models
from advdl.errors import UserError
from advdl.models import inception_v3
from advdl.nn import resize_bilinear
from advdl.weights.load import load


class Features(NamedTuple):
    """name: what figures made of them are called by, such as "FD (resnet20)". of: images (N, H, W, C) in [-1, 1] -> features
    (N, D) and class probabilities (N, K), float32."""

    name: str
    of: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def open_features(spec: str, shape: tuple[int, int, int], classes: int) -> Features:
    """`MODEL:FILE`: the last pooled features of a classifier of these images (`classify.py predict --export FILE` writes the
    file), or `inception:FILE`: those that FID is defined by (converted weights of the 2015-12-05 release; gray images are
    repeated to three channels, all are brought to 299×299).

    Raises UserError where the file does not fit, or the network pools no features.
    """
    name, _, path = spec.partition(":")
    if not path:
        raise UserError(f"--features is {spec!r}; expected MODEL:FILE or inception:FILE")
    if name == "inception":
        network, side = inception_v3.InceptionV3(), inception_v3.SIZE
        size, title = (side, side, 3), "FID"
    else:
        network, size = models.classifier(name).build(num_classes=classes), shape
        title = f"FD ({name})"
    empty = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), models.abstract(network, size))
    variables, _ = load(path, network, empty)
    seen = jax.eval_shape(lambda x: network.apply(empty, x, train=False)[1], jnp.zeros((1, *size)))
    if "pooled" not in seen:
        raise UserError(f"{name} pools no features; take a ResNet, GoogLeNet or inception")

    @jax.jit
    def apply(variables, x):
        x = jnp.broadcast_to(x, (*x.shape[:3], size[2])) if x.shape[3] == 1 else x
        x = x if x.shape[1:3] == size[:2] else resize_bilinear(x, size[:2])
        logits, seen = network.apply(variables, x, train=False)
        return seen["pooled"], jax.nn.softmax(logits)

    return Features(title, lambda images: models.in_portions(lambda x: apply(variables, x), images))
