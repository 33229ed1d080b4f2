"""Scale and channel order of the pixels that a network was published with.

A network declares them as `network.pixels`; whoever reads images for it asks there. They belong to
the weights, and to layers whose constants are no pure numbers: local response normalization
(`response.py`) adds squares of activations to a constant, so that it does nothing to pixels of [-1,
1]. Axes: any, then C channels (last).
"""

from typing import Literal, NamedTuple

import numpy as np


class Pixels(NamedTuple):
    """(value - mean) / std of values 0 to 255.

    mean, std: one number, or one for each of red, green and blue. order: the order of the channels
    that the network gets; images are red, green, blue before. Three numbers, and an order, are for
    color alone: images of another number of channels are brought to [-1, 1] in their place, since
    nothing is published for them.
    """

    mean: tuple[float, ...] = (127.5,)
    std: tuple[float, ...] = (127.5,)
    order: Literal["rgb", "bgr"] = "rgb"

    def of_channels(self, channels: int) -> "Pixels":
        """The scale for images of so many channels."""
        if channels == 3:
            return self
        return self._replace(order="rgb") if len(self.mean) == len(self.std) == 1 else UNIT

    def from_unit(self, x):
        """What the network gets for images (…, C) of values in [-1, 1], of NumPy or of JAX, in
        their own dtype."""
        mean, std, order = self.of_channels(x.shape[-1])
        lift = (*[1] * (x.ndim - 1), -1)
        mean, std = (np.reshape(np.asarray(value, np.float32), lift) for value in (mean, std))
        x = (x - (mean / 127.5 - 1).astype(x.dtype)) * (127.5 / std).astype(x.dtype)
        return x[..., ::-1] if order == "bgr" else x

    def to_bytes(self, x: np.ndarray) -> np.ndarray:
        """The images, uint8, whose pixels the network got as x (…, C)."""
        mean, std, order = self.of_channels(np.shape(x)[-1])
        x = np.asarray(x)[..., ::-1] if order == "bgr" else np.asarray(x)
        return np.rint(x * np.asarray(std) + np.asarray(mean)).clip(0, 255).astype(np.uint8)


UNIT = Pixels()
"""[-1, 1]."""
IMAGENET = Pixels((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Mean 0.485, 0.456, 0.406 and deviation 0.229, 0.224, 0.225 of [0, 1]: the weights of torchvision,
of timm's networks here and of pytorch_resnet_cifar10."""
CENTERED = Pixels((123.0, 117.0, 104.0), (1.0,), "bgr")
"""0 to 255 less the mean of ImageNet's training images, blue first: BVLC/caffe's `bvlc_alexnet`
(which subtracts the mean of each pixel) and `bvlc_googlenet`. Krizhevsky et al. 2012, section 2,
train on centered raw values too."""
BYTES = Pixels((0.0,), (1.0,), "bgr")
"""0 to 255 as they are, blue first: what the SegNet tutorial's data layer hands to its networks."""
