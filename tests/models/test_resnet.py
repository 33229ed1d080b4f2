"""Residual networks against the paper's definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.models import resnet
from advdl.nn import max_pool, tracing


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def shapes(model, shape=(2, 32, 32, 3)):
    return jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), jnp.zeros(shape)
    )


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("depth", [20, 32, 44, 56, pytest.param(110, marks=pytest.mark.slow)])
def test_cifar_heads_and_projections_add_what_they_must(depth):
    papers = resnet.VARIANTS[f"resnet{depth}"].parameters
    assert count(shapes(resnet.cifar(depth, shortcut="B"))["params"]) == papers + 2752
    assert count(shapes(resnet.cifar(depth, num_classes=100))["params"]) == papers + 5850


def test_plain_net_has_the_parameters_of_option_a():
    """So that a difference between them is the shortcuts' alone."""
    assert shapes(resnet.cifar(20)) == shapes(resnet.cifar(20, shortcut=None))


def test_any_size_channels_and_classes():
    model = resnet.cifar(8, num_classes=7)
    v = shapes(model, (2, 8, 12, 1))
    logits, seen = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=False), v, jnp.zeros((2, 8, 12, 1))
    )
    assert logits.shape == (2, 7)
    assert {name: leaf.shape for name, leaf in seen.items()} == {
        "stem": (2, 8, 12, 16),
        "stage1": (2, 8, 12, 16),
        "stage2": (2, 4, 6, 32),
        "stage3": (2, 2, 3, 64),
        "pooled": (2, 64),
    }


@pytest.mark.parametrize("depth", [0, 2, 18, 21])
def test_depth_is_6n_plus_2(depth):
    with pytest.raises(ValueError, match="6n"):
        shapes(resnet.cifar(depth))


def initialized(model, x):
    return jax.jit(lambda key: model.init(key, x, train=False))(jax.random.key(0))


@pytest.mark.parametrize(
    ("zeros", "place"), [("appended", slice(0, 4)), ("symmetric", slice(2, 6))]
)
def test_option_a_passes_every_second_pixel_with_zeros_for_new_channels(zeros, place):
    """With the residual branch silenced (gain of its last normalization 0), a block is its
    shortcut."""
    x = np.abs(normal(2, 6, 6, 4))
    block = resnet.Block(8, strides=2, zeros=zeros)
    v = initialized(block, x)
    v["params"]["norm2"]["scale"] *= 0
    expected = np.zeros((2, 3, 3, 8), np.float32)
    expected[..., place] = x[:, ::2, ::2]
    np.testing.assert_allclose(block.apply(v, x, train=False), expected, atol=1e-6)


def test_identity_shortcut_is_the_identity_and_a_plain_block_has_none():
    x = np.abs(normal(2, 6, 6, 4))
    for shortcut, expected in (("A", x), ("B", x), (None, 0 * x)):
        block = resnet.Block(4, shortcut=shortcut)
        v = initialized(block, x)
        v["params"]["norm2"]["scale"] *= 0
        np.testing.assert_allclose(block.apply(v, x, train=False), expected, atol=1e-6)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_a_preactivation_net_activates_before_its_first_unit_splits(stem):
    """He et al. 2016, appendix. With the residual branches silenced (kernel of the last convolution
    0) a unit is its shortcut: in the first it carries the activated maps of the stem, in the others
    what comes in."""
    x = normal(2, 16, 16, 3)
    model = resnet.ResNet(
        (2,), resnet.PreactBlock, num_classes=None, width=4, stem=stem, shortcut="A"
    )
    v = jax.tree.map(lambda a: normal(*a.shape, seed=1), shapes(model, x.shape))
    v["batch_stats"] = jax.tree.map(np.abs, v["batch_stats"])
    for number in (1, 2):
        v["params"][f"stage1_block{number}"]["conv2"]["kernel"] *= 0
    _, seen = jax.jit(lambda v: model.apply(v, x, train=False))(v)
    y = np.asarray(seen["stem"] if stem == "cifar" else max_pool(seen["stem"], 3, 2, padding=1))
    norm, stats = v["params"]["stage1_block1"]["norm1"], v["batch_stats"]["stage1_block1"]["norm1"]
    normalized = (y - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * norm["scale"] + norm["bias"]
    np.testing.assert_allclose(seen["stage1"], np.maximum(normalized, 0), atol=1e-4)


def test_weights_start_as_he_et_al():
    """Standard deviation sqrt(2 / fan in) of a normal distribution that is not truncated."""
    kernel = np.asarray(resnet.HE(jax.random.key(0), (3, 3, 64, 64)))
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (9 * 64)), rtol=0.02)
    assert np.abs(kernel).max() > 3.5 * kernel.std()


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(resnet.cifar(8, num_classes=4), marks=pytest.mark.slow),
        pytest.param(
            resnet.ResNet((1, 1), resnet.Bottleneck, 4, width=4, shortcut="C"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            resnet.ResNet((1, 1), resnet.PreactBottleneck, 4, width=4), marks=pytest.mark.slow
        ),
        resnet.Block(12, 2, shortcut="B"),
        resnet.Block(9, 2, shortcut=None),
    ],
    ids=["network A", "bottlenecks C", "pre-activation", "block B", "plain block"],
)
def test_fast_and_plain_are_one_network(model):
    """Outputs, statistics and gradients, in float64, where rounding cannot push a value over a
    rectifier's edge."""
    x = normal(4, 8, 8, 9).astype(np.float64)
    with jax.enable_x64(True):
        v = jax.tree.map(
            lambda a: jnp.asarray(normal(*a.shape, seed=1) / 4, jnp.float64), shapes(model, x.shape)
        )

        def loss(params, x):
            y, new = model.apply({**v, "params": params}, x, train=True, mutable=["batch_stats"])
            y = y[0] if isinstance(y, tuple) else y
            return jnp.sum(jax.nn.log_softmax(y)[..., 0]), (y, new)

        got = []
        for name in ("fast", "xla"):
            with tracing.use(implementation=name):
                got.append(
                    jax.jit(lambda *a: jax.value_and_grad(loss, (0, 1), has_aux=True)(*a))(
                        v["params"], x
                    )
                )
    for a, b in zip(*map(jax.tree.leaves, got), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_bfloat16_is_a_setting():
    model = resnet.cifar(8, dtype=jnp.bfloat16)
    x = jnp.zeros((2, 8, 8, 3))
    v = shapes(model, x.shape)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(v)} == {"float32"}
    (logits, seen), new = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]), v, x
    )
    assert logits.dtype == jnp.bfloat16
    assert {leaf.dtype.name for leaf in seen.values()} == {"bfloat16"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(new)} == {"float32"}


@pytest.mark.slow
@pytest.mark.parametrize("block", [resnet.Block, resnet.PreactBottleneck])
def test_a_scanned_network_is_the_same_network(block):
    """Outputs, statistics and gradients; and its parameters convert both ways."""
    fields = dict(blocks=(3, 1), block=block, num_classes=4, width=4, shortcut="B", stem="cifar")
    plain, scanned = resnet.ResNet(**fields), resnet.ResNet(**fields, scan=True)
    x = normal(4, 8, 8, 3).astype(np.float64)
    with jax.enable_x64(True):
        v = jax.tree.map(
            lambda a: jnp.asarray(normal(*a.shape, seed=1) / 4, jnp.float64), shapes(plain, x.shape)
        )
        stacked = resnet.stack(v)
        assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(jnp.shape, shapes(scanned, x.shape))
        assert jax.tree.all(jax.tree.map(jnp.array_equal, resnet.unstack(stacked), v))

        def loss(params, model, v):
            (y, _), new = model.apply(
                {**v, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return jnp.sum(jax.nn.log_softmax(y)[..., 0]), (y, new["batch_stats"])

        gradients = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
        (_, (y, new)), gradient = gradients(v["params"], plain, v)
        (_, (z, new_scanned)), gradient_scanned = gradients(stacked["params"], scanned, stacked)
    back = resnet.unstack({"params": gradient_scanned, "batch_stats": new_scanned})
    for a, b in zip(
        jax.tree.leaves((y, gradient, new)),
        jax.tree.leaves((z, back["params"], back["batch_stats"])),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_the_program_of_a_scanned_network_does_not_grow_with_depth():
    """So that ResNet-152 compiles about as fast as ResNet-50."""

    def program(depth, scan):
        model = resnet.ResNet(resnet.DEEP[depth], resnet.Bottleneck, scan=scan)
        x = jnp.ones((2, 64, 64, 3))

        def total(params, rest):
            return model.apply({"params": params, **rest}, x, train=True, mutable=["batch_stats"])[
                0
            ][0].sum()

        rest = shapes(model, x.shape)
        lowered = jax.jit(jax.grad(total)).lower(rest.pop("params"), rest)
        return lowered.as_text().count("stablehlo.")

    assert program(152, True) < 1.1 * program(50, True)
