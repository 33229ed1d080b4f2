"""Metrics of classifiers. Axes: B batch (or any leading axes), K classes."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from advdl.metrics.base import Mean


def top_k(
    logits_BK: jax.Array, label_B: jax.Array, k: int = 1, mask: jax.Array | None = None
) -> Mean:
    """Share of examples whose label is among the `k` largest logits; `top_k(…, k=1)` is accuracy.

    Of equal logits the one of lower index comes first, as in `argmax` and `lax.top_k`, so a network
    that says the same of every class is right once in K. A row with a NaN, or a label outside
    0..K-1, is wrong. `mask` as in `Mean.of`. Raises ValueError where k is not in 1..K.
    """
    classes = logits_BK.shape[-1]
    if not 1 <= k <= classes:
        raise ValueError(f"k is {k}; {classes} classes allow 1 to {classes}")
    label_B1 = label_B[..., None]
    label_logit_B1 = jnp.take_along_axis(logits_BK, label_B1.clip(0, classes - 1), axis=-1)
    class_BK = jax.lax.broadcasted_iota(label_B.dtype, logits_BK.shape, logits_BK.ndim - 1)
    tie_BK = (logits_BK == label_logit_B1) & (class_BK < label_B1)
    rank_B = ((logits_BK > label_logit_B1) | tie_BK).sum(-1)
    sound_B = (label_B >= 0) & (label_B < classes) & ~jnp.isnan(logits_BK).any(-1)
    return Mean.of((rank_B < k) & sound_B, mask)


@flax.struct.dataclass
class Confusion:
    """How often label i was called j: `matrix` (K, K), rows labels, columns predictions, int32
    counts (exact)."""

    matrix: jax.Array | np.ndarray

    @classmethod
    def of(
        cls, outputs: jax.Array, label_B: jax.Array, classes: int, mask: jax.Array | None = None
    ) -> "Confusion":
        """Counts a batch.

        outputs: logits (B, K), floating, of which the largest is the prediction, or predictions
        (B,), integers. An example is left out where its mask (B,) is 0, and where its label or
        prediction is not in 0..K-1 (the void label of segmentation). Any leading axes in place of
        B. Raises ValueError where the shapes do not fit.
        """
        logits = jnp.issubdtype(outputs.dtype, jnp.floating)
        if outputs.shape != label_B.shape + (classes,) * logits:
            raise ValueError(
                f"outputs {outputs.shape} do not fit labels {label_B.shape} and {classes} classes"
            )
        prediction_B = (outputs.argmax(-1) if logits else outputs).astype(jnp.int32)
        label_B = label_B.astype(jnp.int32)
        keep_B = (
            (label_B >= 0) & (label_B < classes) & (prediction_B >= 0) & (prediction_B < classes)
        )
        if mask is not None:
            keep_B &= mask != 0
        cell_B = jnp.where(keep_B, label_B * classes + prediction_B, classes * classes)
        counts = jnp.zeros(classes * classes, jnp.int32).at[cell_B.ravel()].add(1, mode="drop")
        return cls(counts.reshape(classes, classes))

    def compute(self) -> np.ndarray:
        """The counts on the host, (K, K) int64."""
        return np.asarray(self.matrix, np.int64)

    def accuracy(self) -> float:
        """Share of all counted examples on the diagonal; NaN where there are none."""
        matrix = self.compute()
        return float(_ratio(np.trace(matrix), matrix.sum()))

    def recall(self) -> np.ndarray:
        """(K,) share of the examples of each class that were called so (accuracy per class); NaN
        for an absent one."""
        matrix = self.compute()
        return _ratio(np.diag(matrix), matrix.sum(1))

    def precision(self) -> np.ndarray:
        """(K,) share of what was called each class that is of it; NaN for a class that was never
        called."""
        matrix = self.compute()
        return _ratio(np.diag(matrix), matrix.sum(0))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0)
