"""Settings of images that a configuration inherits: which part of an image is seen, at which size,
and how training images are augmented."""

import dataclasses
from typing import Literal

from advdl.data.augment import (
    pca_color,
    principal_colors,
    rand_augment,
    random_erasing,
    trivial_augment,
)
from advdl.data.preprocessing import Preprocessing
from advdl.data.source import Source
from advdl.data.transforms import Transform, compose, random_crop, random_flip
from advdl.nn.pixels import Pixels
from advdl.ranges import Border, NonNegative, Share, Side


@dataclasses.dataclass(frozen=True)
class ViewSettings:
    """Which part of an image is seen, and at which size."""

    image_size: Side = 0
    """Side of the images (0: 224 for the networks of ImageNet, else the size they have)."""
    test_size: Side = 0
    """Side of the images in evaluation (0: that of training)."""
    test_resize: Side = 0
    """Shorter side before the middle is cut out in evaluation (0: 256 / 224 of the test size)."""
    view: Literal["", "whole", "inception", "crop", "scale"] = ""
    """Part of an image seen in training: all, a random area, a random crop at one or any scale."""

    def preprocessing(self, photographs: bool, pixels: Pixels) -> Preprocessing:
        """What a network is shown of an image. photographs: whether it is one of ImageNet's."""
        size = self.image_size or 224 * photographs
        test = self.test_size or size
        resize = self.test_resize or round(test * 256 / 224)
        view = self.view or ("inception" if photographs else "whole")
        return Preprocessing(size, test, resize, view, pixels)


@dataclasses.dataclass(frozen=True)
class AugmentationSettings:
    """How training images are changed at random."""

    crop: Border = 1
    """Width of the black border from which a random crop of the image's size is taken."""
    flip: bool = False
    """Mirror half of the training images."""
    policy: Literal["none", "trivial", "rand"] = "none"
    """Policy of random augmentation: TrivialAugment or RandAugment."""
    color: NonNegative = 0.0
    """Standard deviation of the augmentation by principal colors, 0.1 in AlexNet's paper."""
    colors: Literal["imagenet", "data"] = "imagenet"
    """Principal colors of ImageNet, as published, or of the training images."""
    erasing: Share = 0.0
    """Probability of erasing a random rectangle."""

    def augmentation(self, look: Preprocessing, training: Source) -> Transform:
        """A training batch from uint8 to what the network sees. The border is for images that are
        seen whole."""
        steps = [random_crop(self.crop)] * (look.kind == "whole" and self.crop > 0)
        steps += [random_flip()] * self.flip
        policies = {"none": [], "trivial": [trivial_augment()], "rand": [rand_augment()]}
        steps += policies[self.policy]
        if self.color:
            own = principal_colors(training) if self.colors == "data" else ()
            steps.append(pca_color(self.color, *own))
        steps.append(look.normalize())
        return compose(*steps, *[random_erasing(self.erasing)] * (self.erasing > 0))
