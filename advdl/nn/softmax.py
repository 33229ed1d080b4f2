"""Cross-entropy of a softmax. Axes: any, then K classes.

Fast implementation (CPU): XLA turns a reduction over many classes into nested windows, and the
derivative of picking the label's logit into zeros and a scatter. Here maxima and sums are taken
over parts of the classes, one part beside the other, as long as there are many; and the derivative
is softmax minus label, said in one piece.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from advdl.nn import tracing

PARTS = 16


def softmax_cross_entropy(logits: jax.Array, label: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """-Σ_k q_k log softmax(logits)_k (…,) for q = (1 - smoothing) onehot(label) + smoothing / K;
    logits (…, K) of any float type, computed in it. A label outside 0..K-1 gives NaN."""
    # A negative index would count from the end.
    label = jnp.where(label < 0, logits.shape[-1], label)
    if tracing.fast():
        return _fast(logits, label, smoothing)
    log_p = jax.nn.log_softmax(logits)
    loss = -_at(log_p, label)
    return (1 - smoothing) * loss - smoothing * log_p.mean(-1) if smoothing else loss


def _at(values, label):
    return jnp.take_along_axis(values, label[..., None], axis=-1, mode="fill", fill_value=jnp.nan)[
        ..., 0
    ]


def _reduced(reduce: Callable[..., jax.Array], x: jax.Array) -> jax.Array:
    """`reduce(x, -1)`, of `jnp.max` or `jnp.sum`."""
    while (count := x.shape[-1]) > 2 * PARTS:
        width = count // PARTS
        parts = reduce(x[..., : width * PARTS].reshape(*x.shape[:-1], PARTS, width), -2)
        rest = x[..., width * PARTS :]
        x = jnp.concatenate([parts, rest], -1) if rest.shape[-1] else parts
    return reduce(x, -1)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _fast(logits, label, smoothing):
    return _forward(logits, label, smoothing)[0]


def _forward(logits, label, smoothing):
    highest = lax.stop_gradient(_reduced(jnp.max, logits))
    total = highest + jnp.log(_reduced(jnp.sum, jnp.exp(logits - highest[..., None])))
    picked = _at(logits, label)
    if smoothing:
        picked = (1 - smoothing) * picked + smoothing / logits.shape[-1] * _reduced(jnp.sum, logits)
    return total - picked, (logits, label, total)


def _backward(smoothing, saved, g):
    logits, label, total = saved
    here = lax.broadcasted_iota(label.dtype, logits.shape, logits.ndim - 1) == label[..., None]
    p = jnp.exp(logits - total[..., None])
    target = here * jnp.asarray(1 - smoothing, p.dtype) + smoothing / logits.shape[-1]
    return g[..., None] * (p - target), None


_fast.defvjp(_forward, _backward)
