"""What a network computes with, and what of it each device keeps, where a placement spreads the
state over devices.

A step is written once. Where its placement splits parameters over an axis that examples are split
over too (`fsdp`), a network computes with whole ones, brought together once a step, and each device
keeps its part of the mean gradient. Elsewhere both are the identity.
"""

from typing import Any

import jax

from advdl.nn import tracing


def whole(variables: Any) -> Any:
    """The variables that a network computes with. So are their gradients, if they are taken through
    this."""
    return _constrained(variables, 0)


def own(variables: Any) -> Any:
    """The variables, or their gradients, as the state keeps them."""
    return _constrained(variables, 1)


def _constrained(variables, which):
    layout = tracing.current().layout
    if layout is None:
        return variables

    def constrain(path, leaf):
        shardings = layout(path, leaf)
        return (
            leaf
            if shardings[0] == shardings[1]
            else jax.lax.with_sharding_constraint(leaf, shardings[which])
        )

    return jax.tree.map_with_path(constrain, variables)
