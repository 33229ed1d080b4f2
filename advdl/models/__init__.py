"""Whole networks, one family a file, each true to its paper.

`CLASSIFIERS` are all networks from images to logits, by name; `python -m advdl.models` prints them with their counts.
"""

from collections.abc import Mapping

from advdl.models import alexnet, dcgan, goodfellow, googlenet, resnet, vgg
from advdl.models.variant import Variant, abstract, count_multiply_adds, count_parameters

CLASSIFIERS: Mapping[str, Variant] = {
    **alexnet.VARIANTS,
    **googlenet.VARIANTS,
    **vgg.VARIANTS,
    **resnet.VARIANTS,
}

__all__ = [
    "CLASSIFIERS",
    "Variant",
    "abstract",
    "alexnet",
    "count_multiply_adds",
    "count_parameters",
    "dcgan",
    "goodfellow",
    "googlenet",
    "resnet",
    "vgg",
]
