"""What a network declares that can begin with a classifier's weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn

Modules = Mapping[str, Any]
"""One collection of variables, by the names of the modules."""


class Backbone(NamedTuple):
    """The classifier that a network begins with, and where the network has its variables. A network
    declares it as its property `published_backbone`; one without the property starts from scratch.

    classifier: the published network. Images for it have its `pixels`.
    place: `(own, learned) -> own` of one collection, with the classifier's modules in their place.
      What the classifier lacks, its last layers for example, stays as it is.
    holds: whether the parameter at a path (names from the top) is of the convolutions that `place`
      puts in place.
    normalized: the classifier to read a file into that has normalizations; None where the network
      cannot use them.
    """

    classifier: nn.Module
    place: Callable[[Modules, Modules], dict[str, Any]]
    holds: Callable[[Sequence[str]], bool]
    normalized: nn.Module | None = None
