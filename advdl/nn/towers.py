"""Layers whose parts do not talk: the leading axis T of every array counts parts that could live on
devices of their own."""

from collections.abc import Callable

import jax
from jax.sharding import PartitionSpec

AXIS = "model"


def each(f: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`f` applied to every part: arrays (T, …) -> (T, …).

    Where the mesh that a step is compiled for has an axis "model" that divides T, each of its
    devices computes its own parts, forward and backward, and sends nothing; left to itself the
    compiler gathers grouped convolutions.
    """
    mapped = jax.vmap(f)

    def apart(*arrays):
        mesh = jax.sharding.get_abstract_mesh()
        ways = dict(mesh.shape).get(AXIS, 1)
        if ways == 1 or len(arrays[0]) % ways:
            return mapped(*arrays)
        spec = PartitionSpec(AXIS)
        return jax.shard_map(
            mapped, in_specs=spec, out_specs=spec, axis_names={AXIS}, check_vma=False
        )(*arrays)

    return apart
