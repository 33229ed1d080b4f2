"""Grad-CAM against the case in which it is known in closed form, and its taps in every family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.models import abstract, alexnet, googlenet, grad_cam, last_maps, resnet, vgg


def random_variables(model, shape):
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: np.abs(random.standard_normal(x.shape, np.float32)) * 0.1, abstract(model, shape)
    )


def test_before_average_pooling_and_a_linear_layer_it_is_the_class_activation_map():
    """Selvaraju et al. 2017, section 3.1: the weights of the linear layer, over the map's size, are
    Grad-CAM's."""
    model = resnet.cifar(8, num_classes=4, width=4)
    v = random_variables(model, (16, 16, 3))
    x = np.random.default_rng(1).standard_normal((3, 16, 16, 3), np.float32)
    label = jnp.array([2, 0, 3])
    heat, logits = jax.jit(lambda v, x: grad_cam(model, v, x, "stage3", label))(v, x)
    expected, seen = jax.jit(lambda v, x: model.apply(v, x, train=False))(v, x)
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
    kernel = v["params"]["classify"]["kernel"][:, label].T
    cam = np.maximum(np.einsum("bhwc,bc->bhw", seen["stage3"], kernel), 0)
    np.testing.assert_allclose(heat, cam / cam.max((1, 2), keepdims=True), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "shape", "layer"),
    [
        (alexnet.AlexNet(num_classes=3), (67, 67, 3), "conv4"),
        (alexnet.AlexNetTorchvision(num_classes=3), (67, 67, 3), "conv5"),
        pytest.param(
            googlenet.GoogLeNet(num_classes=3, auxiliary=False),
            (40, 40, 3),
            "5a",
            marks=pytest.mark.slow,
        ),
        (vgg.VGG(num_classes=3), (32, 32, 3), "pool4"),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "apply") else "",
)
def test_every_family_has_taps(model, shape, layer):
    """A tap that nothing reads would have no gradient; shapes only, and the traced gradient depends
    on the network."""
    v = abstract(model, shape)
    heat, logits = jax.eval_shape(
        lambda v, x: grad_cam(model, v, x, layer), v, jnp.zeros((2, *shape))
    )
    assert logits.shape == (2, 3) and heat.shape[0] == 2
    zeros = jnp.zeros(
        jax.eval_shape(lambda v, x: model.apply(v, x, train=False), v, jnp.zeros((2, *shape)))[1][
            layer
        ].shape
    )

    def logit(v, tap):
        return model.apply(
            {**v, "taps": {layer: tap, "trunk": {layer: tap}}}, jnp.zeros((2, *shape)), train=False
        )[0]

    used = jax.make_jaxpr(logit)(v, zeros).jaxpr
    assert any(used.invars[-1] in equation.invars for equation in used.eqns)


def test_a_layer_without_maps_is_refused_by_name():
    model = resnet.cifar(8)
    v = abstract(model, (8, 8, 1))
    with pytest.raises(ValueError, match="there are stage1, stage2, stage3, stem"):
        jax.eval_shape(lambda v: grad_cam(model, v, jnp.zeros((1, 8, 8, 1)), "pooled"), v)


def test_the_layer_drawn_is_the_last_with_maps_to_see():
    assert last_maps(resnet.cifar(8), abstract(resnet.cifar(8), (8, 8, 1)), (8, 8, 1)) == "stage2"
    assert (
        last_maps(resnet.cifar(8), abstract(resnet.cifar(8), (32, 32, 3)), (32, 32, 3)) == "stage3"
    )
