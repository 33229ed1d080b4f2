"""How a network wants its images: which part of them in training and at test, at which size, and the scale of pixels."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from advdl.data.transforms import Transform, standardize, to_float
from advdl.data.views import View, center_crop, cover, random_resized_crop, random_scale_crop


class Look(NamedTuple):
    """Sides of square images, the kind of view, and the scale of pixels.

    size, test_size: sides in training and at test, 0 for images as they are (kind "whole" only). resize: shorter side to which
    a test image is brought before its middle is cut out.
    kind: "whole", all of an image; "inception", a random area and aspect (Szegedy et al. 2014); "scale", a random crop at a
      random scale, 256 to 480 for 224 (Simonyan & Zisserman 2014).
    mean, std: pixels of [0, 1] are brought to (pixel - mean) / std, by channel or for all; 1/2 and 1/2 make [-1, 1].
    """

    size: int
    test_size: int
    resize: int
    kind: Literal["whole", "inception", "scale"] = "whole"
    mean: Sequence[float] = (0.5,)
    std: Sequence[float] = (0.5,)

    def train(self) -> View | None:
        """Of training images; None shows them as they are."""
        match self.kind:
            case "inception":
                return random_resized_crop(self.size)
            case "scale":
                return random_scale_crop(self.size, (round(self.size * 256 / 224), round(self.size * 480 / 224)))
        return cover(self.size) if self.size else None

    def test(self, whole: bool = False) -> View | None:
        """Of test images: the middle, 224 of 256 by default; `whole` gives the 256, for ten crops."""
        if self.kind == "whole":
            return cover(self.test_size) if self.test_size else None
        return center_crop(self.resize if whole else self.test_size, self.resize)

    def normalize(self) -> Transform:
        """uint8 to what the network sees, float32."""
        if (*self.mean, *self.std) == (0.5, 0.5):
            return to_float(-1.0, 1.0)
        return standardize(*(255 * np.asarray(value) for value in (self.mean, self.std)))

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """What `normalize` was given: uint8."""
        return np.rint((np.asarray(image) * np.array(self.std) + np.array(self.mean)) * 255).clip(0, 255).astype(np.uint8)
