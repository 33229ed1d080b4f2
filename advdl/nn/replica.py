"""What replicas must agree on, and what they must not share.

A step is written once. Under `pmap` it runs once per replica on a slice of the batch, with JAX's
axis `"replica"` bound; under `jit` and `mesh` it sees the whole batch and the axis is not bound.
The functions here do the right thing in both.

Axes: B the examples that this replica sees.
"""

import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

AXIS = "replica"
SPLIT = ("data", "fsdp")
"""Axes of a mesh over which examples are split."""


def bound() -> bool:
    """True while tracing under a `pmap` over `"replica"`."""
    try:
        jax.lax.axis_index(AXIS)
    except NameError:
        return False
    return True


def count() -> int:
    """Number of replicas; 1 where there is only one view of the batch."""
    return jax.lax.axis_size(AXIS) if bound() else 1


def mean(tree):
    """Average of every leaf over the replicas; the identity where there is only one view of the
    batch."""
    return jax.lax.pmean(tree, AXIS) if bound() else tree


def sum(tree):
    """Sum of every leaf over the replicas; the identity where there is only one view of the
    batch."""
    return jax.lax.psum(tree, AXIS) if bound() else tree


def keys(key: jax.Array, count: int) -> jax.Array:
    """One key per example, (B,): a function of `key` and of the example's place in the global
    batch.

    Noise and dropout drawn from these are the same numbers whether the batch lies on one device, is
    sharded over a mesh or is split over replicas.
    """
    first = jax.lax.axis_index(AXIS) * count if bound() else 0
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(spread(first + jnp.arange(count)))


def spread(x_B: jax.Array) -> jax.Array:
    """x (B, …) split over the mesh that is compiled for, as a batch is; the identity elsewhere.
    What is made of noise alone has nothing else that tells the compiler so, nor has what a loop
    computes again for its gradient, and every device would make all of it."""
    mesh = dict(jax.sharding.get_abstract_mesh().shape)
    over = tuple(axis for axis in SPLIT if mesh.get(axis, 1) > 1)
    if not over or len(x_B) % math.prod(mesh[axis] for axis in over):
        return x_B
    return jax.lax.with_sharding_constraint(x_B, PartitionSpec(over))


def sample(draw, key: jax.Array, count: int) -> jax.Array:
    """`draw(key)` once for each of `count` examples with the example's own key; (B, …)."""
    return jax.vmap(draw)(keys(key, count))


def sample_by_index(draw, index_B: jax.Array, *arguments: jax.Array) -> jax.Array:
    """`draw(key, *own)` once for each example of an evaluation; (B, …).

    The key is a function of the example's row in its data set, `batch["index"]`, alone. So every
    evaluation draws the same, whatever its batches. arguments: (B, …) each, of which an example
    gets its own.
    """
    root = jax.random.key(0)
    return jax.vmap(lambda index, *own: draw(jax.random.fold_in(root, index), *own))(
        index_B, *arguments
    )
