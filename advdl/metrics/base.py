"""Mergeable statistics: a metric is a tree of sums, so two of them merge by addition.

Hence replicas `psum` them, micro-batches and batches add them, and an evaluation over padded,
sharded batches counts every example exactly once; there is never a mean of means. Axes: B batch.
"""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np


@flax.struct.dataclass
class Mean:
    """A mean kept as two sums, float32 scalars on the device: `total` of weighted values, `count`
    of weights."""

    total: jax.Array
    count: jax.Array

    @classmethod
    def of(cls, values: jax.Array, mask: jax.Array | None = None) -> "Mean":
        """The mean over all entries of `values` (B, …), or over those that `mask` keeps.

        mask: bool or weights, whose shape is that of the leading axes of `values`: (B,) for
        padding, (B, T) for tokens. It holds for all trailing axes. A value whose weight is 0 does
        not count, not even where it is NaN. Values of less than float32 are added in float32.
        Raises ValueError where the shapes do not fit.
        """
        values = jnp.asarray(values)
        values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
        if mask is None:
            return cls(values.sum(), jnp.asarray(values.size, values.dtype))
        mask = jnp.asarray(mask)
        if mask.shape != values.shape[: mask.ndim]:
            raise ValueError(
                f"mask of shape {mask.shape} is not over the leading axes of values {values.shape}"
            )
        weight = mask.astype(values.dtype).reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
        weight = jnp.broadcast_to(weight, values.shape)
        return cls(jnp.where(weight == 0, 0, values * weight).sum(), weight.sum())

    def compute(self) -> float:
        """total / count, on the host; NaN where nothing was counted."""
        total, count = float(self.total), float(self.count)
        return total / count if count else float("nan")


def merge(a: Any, b: Any) -> Any:
    """The sums of two trees of metrics of the same structure, leaf by leaf.

    Leaves on the host are added in float64 or int64, so that a long evaluation rounds nothing;
    leaves on a device (or traced) keep their dtype. Raises ValueError where the structures differ.
    """
    return jax.tree.map(_add, a, b)


def compute(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Figures by name: `.compute()` of every metric in a dict; the names of nested dicts are joined
    by "/". Raises TypeError for what is no metric."""
    figures = {}
    for name, metric in tree.items():
        if isinstance(metric, Mapping):
            figures |= {f"{name}/{inner}": value for inner, value in compute(metric).items()}
        elif hasattr(metric, "compute"):
            figures[name] = metric.compute()
        else:
            kind = type(metric).__name__
            raise TypeError(f"{name} is a {kind} and no metric; give Mean.of(values, mask)")
    return figures


def _add(a, b):
    if isinstance(a, jax.Array) or isinstance(b, jax.Array):
        return a + b
    return np.add(a, b, dtype=np.float64 if np.result_type(a, b).kind == "f" else np.int64)
