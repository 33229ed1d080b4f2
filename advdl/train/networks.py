"""Several networks that one player owns."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from advdl.train.learner import Key, Variables, training


class Networks:
    """Networks by name, whose variables are one tree, `{collection: {name: …}}`."""

    def __init__(self, modules: Mapping[str, nn.Module]):
        self.modules = modules

    def init(self, key: Key, x: jax.Array) -> Variables:
        """The variables of all, each of which takes inputs like x."""
        keys, found = jax.random.split(key, len(self.modules)), {}
        for own, (name, module) in zip(keys, self.modules.items(), strict=True):
            for collection, tree in module.init(own, x, train=False).items():
                found.setdefault(collection, {})[name] = tree
        return found

    def apply(self, variables: Variables, name: str, x: jax.Array) -> Any:
        """The output of one in evaluation mode."""
        return self.modules[name].apply(_own(variables, name), x, train=False)

    def training(self, variables: Variables, name: str, x: jax.Array) -> tuple[Any, Variables]:
        """The output of one in training mode, and all variables with its collections afterwards."""
        output, seen = training(self.modules[name], _own(variables, name), x)
        changed = {part: {**variables[part], name: tree} for part, tree in seen.items()}
        return output, {**variables, **changed}


def collections(variables: Variables) -> Variables:
    """The mutable collections among variables, for `Loss.collections`."""
    return {name: tree for name, tree in variables.items() if name not in ("params", "frozen")}


def _own(variables: Variables, name: str) -> Variables:
    return {part: trees[name] for part, trees in variables.items() if name in trees}
