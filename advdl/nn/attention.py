"""Attention of a decoder to what an encoder has read. Axes: B batch, S places of the memory, E its
features, F features of the comparison, D features of the query.

Places behind a sequence's length get no weight; of a memory of length 0 the context is zero.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.nn.elementwise import tanh


class Additive(nn.Module):
    """Query (B, D), keys (B, S, F), values (B, S, E), lengths (B,) or none -> (context (B, E),
    weights (B, S)): the score of a place is vᵀ tanh(W query + key) (Bahdanau, Cho & Bengio 2014,
    arXiv:1409.0473, appendix A.1.2); the keys are U times what lies there, made once for all
    queries by who calls."""

    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        query_BD: jax.Array,
        keys_BSF: jax.Array,
        values_BSE: jax.Array,
        length_B: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        query = nn.Dense(keys_BSF.shape[-1], name="query", **dtypes)(query_BD)
        score = nn.Dense(1, use_bias=False, name="score", **dtypes)(
            tanh(query[:, None] + keys_BSF)
        )[..., 0]
        return attend(score, values_BSE, length_B)


class Dot(nn.Module):
    """As `Additive`, with the score query · key: Luong, Pham & Manning 2015 (arXiv:1508.04025,
    section 3.1), "dot" where the keys are the memory and "general" where they are W times it. D
    must be F."""

    @nn.compact
    def __call__(
        self,
        query_BD: jax.Array,
        keys_BSF: jax.Array,
        values_BSE: jax.Array,
        length_B: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        return attend(jnp.einsum("bf,bsf->bs", query_BD, keys_BSF), values_BSE, length_B)


def attend(
    score_BS: jax.Array, values_BSE: jax.Array, length_B: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """(context (B, E), weights (B, S)): the mean of the values by the softmax of the scores,
    computed in float32."""
    score = score_BS.astype(jnp.float32)
    if length_B is None:
        weight = jax.nn.softmax(score)
    else:
        real = jnp.arange(score.shape[1])[None] < length_B[:, None]
        score = jnp.where(real, score, -jnp.inf)
        highest = jnp.where(length_B[:, None] > 0, score.max(1, keepdims=True), 0)
        share = jnp.where(real, jnp.exp(score - jax.lax.stop_gradient(highest)), 0)
        weight = share / jnp.maximum(share.sum(1, keepdims=True), 1e-30)
        values_BSE = jnp.where(real[..., None], values_BSE, 0)
    return jnp.einsum("bs,bse->be", weight.astype(values_BSE.dtype), values_BSE), weight
