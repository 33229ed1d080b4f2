"""The classes of published weights in their order: the thousand of ILSVRC 2012, by WordNet
identifier and name, and the ten of CIFAR-10."""

import functools
from importlib import resources


@functools.cache
def imagenet_names() -> tuple[str, ...]:
    """Names of classes 0..999, that is of the WordNet identifiers in their order."""
    lines = resources.files("advdl.data").joinpath("imagenet.txt").read_text("utf-8").splitlines()
    return tuple(line.partition(" ")[2] for line in lines)


def cifar10_names() -> tuple[str, ...]:
    """Names of the classes of CIFAR-10 in their order."""
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    return tuple(names.split())
