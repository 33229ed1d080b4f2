"""What is computed again for the gradient: the same parameters, numbers and updates, for more work
and less memory."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.models import abstract, resnet, segnet, unet, vgg
from advdl.nn import max_pool, remat, tracing
from advdl.nn.convolution import conv
from advdl.nn.elementwise import relu
from advdl.scale import hlo

NETWORKS = {
    "resnet": functools.partial(resnet.ResNet, (2, 1), width=4, stem="cifar", num_classes=3),
    "resnet, looped": functools.partial(
        resnet.ResNet, (3,), width=4, stem="cifar", num_classes=3, scan=True
    ),
    "segnet": functools.partial(segnet.SegNet, 3, features=((4,), (4, 8)), dropout=0.5),
    "unet": functools.partial(unet.unet_same, 3, features=4, levels=2),
    "vgg": functools.partial(vgg.Trunk, width=1 / 16),
}


@functools.cache
def run(name, way):
    """(structure of the variables, the gradient and the new statistics, FLOPs)."""
    network, x = NETWORKS[name](), jax.random.normal(jax.random.key(1), (4, 32, 32, 3))
    rng = np.random.default_rng(0)
    shapes = abstract(network, (32, 32, 3))
    variables = jax.tree.map(
        lambda s: np.abs(rng.normal(0, 0.1, s.shape)).astype(s.dtype) + 0.01, shapes
    )

    def loss(params):
        given = {**variables, "params": params}
        out, new = network.apply(
            given, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(2)}
        )
        return sum(jnp.square(each).mean() for each in jax.tree.leaves(out)), new

    lowered = jax.jit(jax.grad(remat.WAYS[way](loss), has_aux=True)).lower(variables["params"])
    found = lowered.compile()(variables["params"])
    return (
        jax.tree.structure(variables),
        found,
        hlo.costs(lowered.as_text(dialect="hlo"), {"device": 1}).flops,
    )


@pytest.mark.parametrize(
    "name",
    ["vgg", *(pytest.param(each, marks=pytest.mark.slow) for each in NETWORKS if each != "vgg")],
)
@pytest.mark.parametrize(
    ("way", "least", "most"), [("dots", 1.0, 1.05), ("block_inputs", 1.15, 1.45)]
)
def test_the_gradient_is_the_same_for_as_many_products_as_promised(name, way, least, most):
    """Of `dots` no convolution again (statistics are products on CPU); of `block_inputs` a forward
    pass of what lies in them, as dear as the gradient by kernels, or by activations."""
    plain, again = run(name, "none"), run(name, way)
    assert again[0] == plain[0]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6), plain[1], again[1]
    )
    assert least <= again[2] / plain[2] <= most


def test_blocks_are_remembered_by_what_they_are_given():
    """Values made within a block are not there when the gradient begins; those between blocks
    are."""

    def inner(module, x):
        return jnp.sin(jnp.cos(x))

    class Chain(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(3):
                x = remat.block(inner)(self, x)
            return x

    def kept(way):
        f = remat.WAYS[way](lambda x: Chain().apply({}, x).sum())
        return sum(leaf.shape == (64,) for leaf in jax.tree.leaves(jax.vjp(f, jnp.ones(64))[1]))

    assert kept("block_inputs") <= 3 < kept("none")


def test_where_there_are_no_blocks_is_told():
    with pytest.raises(remat.NoBlocksError, match="no part"):
        remat.block_inputs(lambda x: x * 2)(1.0)


@pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="XLA drops the barrier before it looks")
@pytest.mark.parametrize(("part", "kept"), [("convolution", 1), ("pooling", 2)])
def test_a_layer_keeps_its_images_and_nothing_made_of_them(part, kept):
    """Of a convolution by tiles what it is given; of pooling that, and the maxima of its rows."""

    def temporaries(layers):
        def loss(kernels, x):
            for kernel in kernels:
                x = (
                    relu(conv(x, kernel, padding=1))
                    if part == "convolution"
                    else max_pool(x, 3, 1, padding=1)
                )
            return jnp.square(x).sum()

        x = jax.ShapeDtypeStruct((2, 32, 32, 128), jnp.float32)
        kernels = [jax.ShapeDtypeStruct((3, 3, 128, 128), jnp.float32)] * layers
        with tracing.use(platform="cpu"):
            step = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(kernels, x).compile()
        return step.memory_analysis().temp_size_in_bytes / (4 * x.size)

    assert (temporaries(5) - temporaries(2)) / 3 < kept + 0.5
