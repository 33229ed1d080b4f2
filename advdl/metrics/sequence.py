"""Figures of sequences, step by step. Axes: B batch, T time."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np


@flax.struct.dataclass
class ByStep:
    """A mean for every step: `total` (T,) of values and `count` (T,) of those counted, float32."""

    total: jax.Array
    count: jax.Array

    @classmethod
    def of(cls, value_BT: jax.Array, mask: jax.Array | None = None) -> "ByStep":
        """mask: (B,) or (B, T), 0 leaves out. Raises ValueError where it does not fit."""
        value = value_BT.astype(jnp.float32)
        keep = jnp.ones_like(value) if mask is None else mask
        if keep.shape != value.shape[: keep.ndim]:
            raise ValueError(f"mask {keep.shape} for values {value.shape}")
        keep = jnp.broadcast_to(keep.reshape(keep.shape + (1,) * (2 - keep.ndim)) != 0, value.shape)
        return cls(jnp.where(keep, value, 0).sum(0), keep.sum(0).astype(jnp.float32))

    def compute(self) -> np.ndarray:
        """(T,) float64 on the host; NaN where nothing was counted."""
        total, count = np.asarray(self.total, np.float64), np.asarray(self.count, np.float64)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)
