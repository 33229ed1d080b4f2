"""`speedrun.py`: what its parts promise, its updates against PyTorch's, and a small run."""

import importlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advdl.models.airbench import Airbench, identity_first, whitening


@pytest.fixture
def speedrun(monkeypatch):
    """The module, which finds its neighbors as a script does."""
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parent)
    return importlib.import_module("speedrun")


def images(count, side, channels=3):
    """Noise whose neighbors are alike, as in photographs."""
    noise = np.random.default_rng(0).standard_normal((count, side + 2, side + 2, channels))
    return (noise[:, 2:, 2:] + noise[:, 1:-1, 1:-1] + noise[:, 2:, 1:-1]).astype(np.float32)


def test_responses_of_the_first_layer_are_uncorrelated_and_of_mean_square_1():
    x, kernel = images(50, 12), whitening(images(50, 12), epsilon=0.0)
    assert kernel.shape == (2, 2, 3, 24)
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    rows = np.asarray(y).reshape(-1, 24)
    np.testing.assert_allclose(rows[:, :12].T @ rows[:, :12] / len(rows), np.eye(12), atol=1e-3)
    np.testing.assert_array_equal(rows[:, 12:], -rows[:, :12])


@pytest.mark.parametrize("channels", [(5, 8), (8, 5), (6, 6)])
def test_a_convolution_begins_by_handing_on_its_channels(channels):
    kernel = identity_first(jax.random.key(0), (3, 3, *channels))
    x, same = images(2, 6, channels[0]), min(channels)
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_array_equal(y[..., :same], x[..., :same])
    assert np.abs(kernel).max(where=np.arange(channels[1]) >= same, initial=0) < (
        1 / np.sqrt(9 * channels[0])
    )


def test_a_view_is_one_of_the_crops_of_the_image_with_a_mirrored_border_and_each_occurs(speedrun):
    one = images(1, 6)
    padded = np.pad(one[0], ((2, 2), (2, 2), (0, 0)), "reflect")
    found = np.asarray(speedrun.views(np.repeat(one, 400, 0), 2, jax.random.key(0)))
    crops = {
        padded[top : top + 6, left : left + 6].tobytes() for top in range(5) for left in range(5)
    }
    assert {view.tobytes() for view in found} == crops


def test_logits_of_views_are_weighted_by_how_often_they_are_meant_to_occur(speedrun):
    """Half of the weight is on the image as it is, a quarter on each end of the diagonal."""
    x = images(1, 7, 1)
    seen = []

    def first_pixel(image):
        seen.append(np.asarray(image))
        return image[:, 3, 3]

    plain, mean = speedrun.mean_of_views(first_pixel, jnp.asarray(x))
    np.testing.assert_array_equal(plain, x[:, 3, 3])
    np.testing.assert_allclose(mean, x[:, 3, 3] / 2 + (x[:, 2, 2] + x[:, 4, 4]) / 4, rtol=1e-5)
    assert len(seen) == 6


def test_updates_are_pytorchs_by_groups_of_parameters(speedrun):
    torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra `parity`")
    recipe, steps, per_epoch = speedrun.Recipe(batch=8, bias_epochs=1), 12, 5
    rng = np.random.default_rng(0)
    shapes = {
        "whiten": {"kernel": (3,), "bias": (2,)},
        "norm": {"bias": (4,)},
        "conv": {"kernel": 5},
    }
    params = jax.tree.map(
        lambda shape: rng.standard_normal(shape), shapes, is_leaf=lambda x: not isinstance(x, dict)
    )
    theirs = jax.tree.map(lambda x: torch.tensor(x, requires_grad=True), params)
    scale = 1024 * (1 + 1 / (1 - 0.85))
    rate, decay = 11.5 / scale, 0.0153 * 8 / scale
    groups = [
        dict(params=[theirs["norm"]["bias"]], lr=64 * rate, weight_decay=decay / (64 * rate)),
        dict(params=[theirs["whiten"]["bias"], theirs["conv"]["kernel"]], lr=rate),
    ]
    sgd = torch.optim.SGD(groups, lr=rate, weight_decay=decay / rate, momentum=0.85, nesterov=True)
    rising = int(0.23 * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        sgd,
        lambda step: (
            0.2 + 0.8 * step / rising
            if step < rising
            else 1 - 0.93 * (step - rising) / (steps - rising)
        ),
    )
    first = params["whiten"]["kernel"]
    with jax.enable_x64():
        ours = jax.tree.map(jnp.asarray, params)
        rule = speedrun.optimizer(recipe, steps, per_epoch)
        state = rule.init(ours)
        for step in range(steps):
            slope = jax.tree.map(lambda x: rng.standard_normal(x.shape), params)
            for leaf, value in zip(jax.tree.leaves(theirs), jax.tree.leaves(slope), strict=True):
                leaf.grad = torch.tensor(value)
            theirs["whiten"]["kernel"].grad = None
            if step >= per_epoch:
                theirs["whiten"]["bias"].grad = None
            sgd.step()
            schedule.step()
            change, state = rule.update(slope, state, ours)
            ours = optax.apply_updates(ours, change)
    np.testing.assert_array_equal(ours["whiten"]["kernel"], first)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-6)


def test_the_network_is_the_released_one():
    """Its maps are 31, 15, 7 and 3 pixels wide for images of 32, and what is learned are kernels
    and the biases of normalizations."""
    shapes = jax.eval_shape(
        lambda: Airbench().init_with_output(jax.random.key(0), jnp.zeros((2, 32, 32, 3)), False)
    )
    (logits, seen), variables = shapes
    assert logits.shape == (2, 10)
    assert [x.shape for x in seen.values()] == [
        (2, 15, 15, 64), (2, 7, 7, 256), (2, 3, 3, 256)
    ]  # fmt: skip
    names = {
        "/".join(key.key for key in path): leaf.shape
        for path, leaf in jax.tree.leaves_with_path(variables["params"])
    }
    assert names["whiten/kernel"] == (2, 2, 3, 24) and names["classifier/kernel"] == (256, 10)
    assert not any(name.endswith("scale") for name in names) and "classifier/bias" not in names


@pytest.mark.experiments
def test_a_small_run_in_one_program_learns(speedrun):
    from sklearn.datasets import load_digits

    digits = load_digits()
    image = np.pad(digits.images.repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2)))
    image = (image[..., None].astype(np.float32) - image.mean()) / image.std()
    label = digits.target.astype(np.int32)
    data = {"image": image[:1024], "label": label[:1024]}
    data |= {"test_image": image[1024:], "test_label": label[1024:]}
    run = jax.jit(speedrun.program(speedrun.RECIPES["tiny"], 1024, 10))
    found = run(jax.random.key(0), data)
    assert found["loss"].shape == (96,)
    assert found["six views"] > 0.4 and found["loss"][-9:].mean() < found["loss"][:9].mean()
