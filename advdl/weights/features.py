"""A space of features to measure images in: a network with its weights, read from a file."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advdl import models
from advdl.errors import UserError
from advdl.models import inception_v3
from advdl.weights.load import load


class Features(NamedTuple):
    """name: what the Fréchet distance of them is called, with the first eight hexadecimal digits of
    the weights' hash, such as "FD (resnet20 1a2b3c4d)". of: images (N, H, W, C) uint8 -> features
    (N, D) and class probabilities (N, K), float32.
    sha256: of the file of weights."""

    name: str
    of: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    sha256: str


def open_features(spec: str, shape: tuple[int, ...], classes: int) -> Features:
    """`MODEL:FILE`: the last pooled features of a classifier of these images (`classify.py predict
    --export FILE` writes the file), fed its own pixels; or `inception:FILE`: those that FID is
    defined by (converted weights of the 2015-12-05 release, fed as `inception_v3.preprocess` says).
    Inception's probabilities are those of the Inception score: without the bias of the logits, as
    the code released with Salimans et al. 2016 has them.

    Images are bytes since the published measures are of images as files hold them: generated ones
    are rounded like real ones (`advdl.data.to_uint8`). Raises UserError where the file does not
    fit, or the network pools no features.
    """
    name, _, path = spec.partition(":")
    if not path:
        raise UserError(f"--features is {spec!r}; expected MODEL:FILE or inception:FILE")
    if fid := name == "inception":
        network, size = inception_v3.InceptionV3(), (inception_v3.SIZE, inception_v3.SIZE, 3)
    else:
        network, size = models.classifier(name).build(num_classes=classes), shape
    empty = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), models.abstract(network, size))
    variables, _ = load(path, network, empty)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    seen = jax.eval_shape(lambda x: network.apply(empty, x, train=False)[1], jnp.zeros((1, *size)))
    if "pooled" not in seen:
        raise UserError(f"{name} pools no features; take a ResNet, GoogLeNet or inception")

    @jax.jit
    def apply(variables, image):
        x = (
            inception_v3.preprocess(image)
            if fid
            else network.pixels.from_unit(image.astype(jnp.float32) / 127.5 - 1)
        )
        logits, seen = network.apply(variables, x, train=False)
        return seen["pooled"], jax.nn.softmax(
            logits - variables["params"]["fc"]["bias"][None] if fid else logits
        )

    def of(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if images.dtype != np.uint8:
            raise ValueError(f"images of {images.dtype}; expected uint8, see advdl.data.to_uint8")
        return models.in_portions(lambda x: apply(variables, x), images)

    return Features(f"{'FID' if fid else 'FD'} ({name} {digest[:8]})", of, digest)
