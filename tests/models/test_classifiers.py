"""Every classifier against the counts of its paper, and what all of them promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.models import (
    abstract,
    alexnet,
    count_parameters,
    googlenet,
    resnet,
)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (googlenet.VARIANTS["googlenet_bn"].build(auxiliary=False), 7_005_832),
        (googlenet.VARIANTS["googlenet_torchvision"].build(auxiliary=False), 6_624_904),
        (resnet.ResNet(resnet.DEEP[18], shortcut="A"), 11_515_688),
    ],
)
def test_counts_of_forms_without_a_row(model, parameters):
    assert count_parameters(abstract(model, (224, 224, 3))) == parameters


def test_each_inception_block_has_its_parameters():
    """Of Caffe's network, biases included."""
    params = abstract(googlenet.GoogLeNet(), (224, 224, 3))["params"]
    counts = [
        sum(leaf.size for leaf in jax.tree.leaves(params[f"inception{block}"]))
        for block in googlenet.BLOCKS
    ]
    assert counts == [
        163_696,
        388_736,
        376_176,
        449_160,
        510_104,
        605_376,
        868_352,
        1_043_456,
        1_444_080,
    ]


def intermediates(model, shape, train=False):
    v, rngs = abstract(model, shape), {"dropout": jax.random.key(0)}
    x = jnp.zeros((1, *shape))

    def apply(v):
        return model.apply(v, x, train=train, rngs=rngs, mutable=["batch_stats"])[0]

    logits, seen = jax.eval_shape(apply, v)
    return {name: leaf.shape[1:] for name, leaf in seen.items()} | {"logits": logits.shape[1:]}


def test_alexnet_has_659272_neurons():
    """The abstract says 650,000; the sum over the layers as drawn, each before its pooling."""
    shapes = intermediates(alexnet.AlexNet(), (224, 224, 3))
    assert shapes["conv1"] == (55, 55, 96)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 659_272
    assert intermediates(alexnet.AlexNet(padding=0), (227, 227, 3)) == shapes


@pytest.mark.slow
def test_googlenet_has_the_maps_of_table_1_and_its_auxiliary_classifiers_only_in_training():
    shapes = intermediates(googlenet.GoogLeNet(), (224, 224, 3))
    assert shapes["stem"] == (56, 56, 192)
    assert [shapes[name] for name in ("3a", "3b", "4a", "4e", "5a", "5b")] == [
        (28, 28, 256), (28, 28, 480), (14, 14, 512), (14, 14, 832), (7, 7, 832), (7, 7, 1024),
    ]  # fmt: skip
    training = intermediates(googlenet.GoogLeNet(), (224, 224, 3), train=True)
    assert {name: training[name] for name in set(training) - set(shapes)} == {
        "aux1": (1000,),
        "aux2": (1000,),
    }


def test_towers_see_only_their_own_maps_except_where_the_papers_gpus_talk():
    """Figure 2: a change of the second tower's kernels of conv1 reaches the first tower's conv2
    not, its conv3 does."""
    model = alexnet.AlexNet(num_classes=None)
    random = np.random.default_rng(0)
    x = random.standard_normal((1, 67, 67, 3), np.float32)
    v = jax.tree.map(
        lambda leaf: random.standard_normal(leaf.shape, np.float32) / 16,
        abstract(model, x.shape[1:]),
    )
    apply = jax.jit(lambda v: model.apply(v, x, train=False)[1])
    before = jax.device_get(apply(v))
    v["params"]["conv1"]["kernel"][1] *= 3
    after = jax.device_get(apply(v))

    def same(name, half):
        return np.array_equal(before[name][..., half], after[name][..., half])

    first, second = slice(0, 48), slice(48, None)
    assert same("conv1", first) and not same("conv1", second)
    assert same("conv2", slice(0, 128)) and not same("conv2", slice(128, None))
    assert not same("conv3", slice(0, 192))
