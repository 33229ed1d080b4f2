"""The thousand classes of ILSVRC 2012 in the order of published weights: WordNet identifier and
name."""

import functools
from importlib import resources


@functools.cache
def imagenet_names() -> tuple[str, ...]:
    """Names of classes 0..999, that is of the WordNet identifiers in their order."""
    lines = resources.files("advdl.data").joinpath("imagenet.txt").read_text("utf-8").splitlines()
    return tuple(line.partition(" ")[2] for line in lines)
