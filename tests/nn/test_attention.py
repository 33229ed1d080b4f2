"""Attention: its formulas, and nothing from behind a sequence's end."""

import jax
import jax.numpy as jnp
import numpy as np

from advdl.nn import Additive, Dot, attend

RNG = np.random.default_rng(0)
QUERY, KEYS, VALUES = (
    jnp.asarray(RNG.standard_normal(shape), jnp.float32) for shape in ((3, 4), (3, 6, 4), (3, 6, 5))
)
LENGTH = jnp.array([6, 2, 0])


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def test_scores_are_the_papers():
    layer = Additive()
    variables = layer.init(jax.random.key(0), QUERY, KEYS, VALUES)
    p = jax.tree.map(np.asarray, variables["params"])
    _, weights = layer.apply(variables, QUERY, KEYS, VALUES)
    for b in range(3):
        query = np.asarray(QUERY[b]) @ p["query"]["kernel"] + p["query"]["bias"]
        np.testing.assert_allclose(
            weights[b],
            softmax((np.tanh(query + np.asarray(KEYS[b])) @ p["score"]["kernel"])[:, 0]),
            rtol=1e-5,
        )
    _, weights = Dot().apply({}, QUERY, KEYS, VALUES)
    np.testing.assert_allclose(weights[1], softmax(np.asarray(KEYS[1] @ QUERY[1])), rtol=1e-5)


def test_what_lies_behind_the_end_has_no_weight_whatever_it_is():
    for layer in (Additive(), Dot()):
        variables = layer.init(jax.random.key(0), QUERY, KEYS, VALUES)
        behind = jnp.arange(6)[None, :, None] >= LENGTH[:, None, None]

        def total(variables, query, keys, values, layer=layer):
            context, weights = layer.apply(variables, query, keys, values, LENGTH)
            return jnp.square(context).sum() + (weights[:, 0] ** 3).sum(), (context, weights)

        run = jax.jit(jax.value_and_grad(total, (0, 1, 2, 3), has_aux=True))
        clean = run(variables, QUERY, KEYS, VALUES)
        dirty = run(variables, QUERY, *(jnp.where(behind, 1e4, x) for x in (KEYS, VALUES)))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), clean, dirty
        )
        (_, (context, weights)), gradients = clean
        assert (
            not np.asarray(weights)[np.asarray(behind[..., 0])].any()
            and not np.asarray(context[2]).any()
        )
        np.testing.assert_allclose(weights[:2].sum(1), 1, rtol=1e-6)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
        assert not np.asarray(gradients[3])[np.broadcast_to(behind, VALUES.shape)].any()


def test_nan_behind_the_end_does_not_reach_the_context():
    values = jnp.where(jnp.arange(6)[None, :, None] >= LENGTH[:, None, None], jnp.nan, VALUES)
    context, _ = attend(jnp.zeros((3, 6)), values, LENGTH)
    np.testing.assert_allclose(context[1], VALUES[1, :2].mean(0), rtol=1e-5)
    assert np.isfinite(context).all()
