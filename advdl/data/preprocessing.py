"""How a network wants its images: which part of them in training and at test, at which size, and
the scale of pixels."""

from typing import Literal, NamedTuple

import numpy as np

from advdl.data.transforms import Batch, Transform, standardize, to_float
from advdl.data.views import View, center_crop, cover, random_resized_crop, random_scale_crop
from advdl.nn.pixels import UNIT, Pixels


class Preprocessing(NamedTuple):
    """Sides of square images, the kind of view, and the scale of pixels.

    size, test_size: sides in training and at test, 0 for images as they are (kind "whole" only).
    resize: shorter side to which a test image is brought before its middle is cut out.
    kind: "whole", all of an image; "inception", a random area and aspect (Szegedy et al. 2014);
      "crop", a random crop of the image whose shorter side is 256 for crops of 224 (Krizhevsky et
      al. 2012); "scale", of 256 to 480 (Simonyan & Zisserman 2014).
    pixels: the network's own scale, `network.pixels`.
    """

    size: int = 0
    test_size: int = 0
    resize: int = 0
    kind: Literal["whole", "inception", "crop", "scale"] = "whole"
    pixels: Pixels = UNIT

    def train(self) -> View | None:
        """The view of training images; None shows them as they are."""
        match self.kind:
            case "inception":
                return random_resized_crop(self.size)
            case "crop" | "scale":
                sides = (256, 256 if self.kind == "crop" else 480)
                return random_scale_crop(
                    self.size, tuple(round(self.size * side / 224) for side in sides)
                )
        return cover(self.size) if self.size else None

    def test(self, whole: bool = False) -> View | None:
        """The view of test images: the middle, 224 of 256 by default; `whole` gives the 256, for
        ten crops."""
        if self.kind == "whole":
            return cover(self.test_size) if self.test_size else None
        return center_crop(self.resize if whole else self.test_size, self.resize)

    def normalize(self) -> Transform:
        """uint8 images to what the network gets, float32."""
        return scaled(self.pixels)


def scaled(pixels: Pixels) -> Transform:
    """The batch with its `image` (B, H, W, C), uint8, on the scale and in the channel order of
    `pixels`, float32."""

    def apply(batch: Batch, u: np.ndarray) -> Batch:
        mean, std, order = own = pixels.of_channels(batch["image"].shape[-1])
        change = to_float(-1.0, 1.0) if own == UNIT else standardize(mean, std)
        batch = change(batch)
        return (
            {**batch, "image": np.ascontiguousarray(batch["image"][..., ::-1])}
            if order == "bgr"
            else batch
        )

    return Transform(0, apply)
