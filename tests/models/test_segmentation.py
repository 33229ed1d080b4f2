"""Networks for dense prediction against the counts and shapes of their papers, and by their
identities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.models import (
    abstract,
    count_parameters,
    dilation,
    fcn,
    segnet,
    unet,
    vgg,
)
from advdl.nn import receptive_field, resize_bilinear
from advdl.nn.pixels import UNIT

COUNTS = [
    (fcn.fcn32s(learned="all"), (500, 500, 3), 136_152_917),
    (fcn.fcn16s(learned="all"), (500, 500, 3), 134_815_994),
    (fcn.fcn8s(learned="all"), (500, 500, 3), 134_489_759),
    (fcn.fcn32s(learned="inner"), (500, 500, 3), 134_346_581),
    (fcn.fcn16s(learned="inner"), (500, 500, 3), 134_357_354 + 4 * 4 * 21 * 21),
    (fcn.fcn8s(learned="inner"), (500, 500, 3), 134_362_751 + 2 * 4 * 4 * 21 * 21),
    (fcn.fcn_resnet50(), (65, 65, 3), 32_957_013),
    (fcn.fcn_resnet101(), (65, 65, 3), 51_949_141),
    (segnet.segnet(num_classes=21), (360, 480, 3), 29_455_125),
    (unet.unet(), (572, 572, 1), 31_030_658),
    (unet.unet(), (572, 572, 3), 31_031_810),
    (unet.unet(num_classes=21), (572, 572, 3), 31_033_045),
    (dilation.Context(), (66, 66, 21), 28_392),
    (dilation.Context("large"), (66, 66, 21), 6_803_139),
    (dilation.Context(), (66, 66, 11), 7_832),
    (dilation.Context("large"), (66, 66, 11), 1_867_129),
    (dilation.Context(dilations=(1, 1, 2, 4, 8, 16, 32, 64, 1)), (66, 66, 19), 29_792),
    (dilation.Dilation(11), (360, 480, 3), 134_313_443),
]


@pytest.mark.parametrize(("model", "shape", "parameters"), COUNTS)
def test_counts_of_forms_without_a_row_are_those_of_the_releases(model, shape, parameters):
    assert count_parameters(abstract(model, shape)) == parameters


def outputs(model, shape, v=None):
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    run = functools.partial(model.apply, train=False)
    return jax.eval_shape(run, abstract(model, shape) if v is None else v, x)


def test_crops_of_fcn_follow_from_receptive_fields():
    """The numbers in the authors' prototxt files."""
    assert fcn.offsets("32s") == (19,)
    assert fcn.offsets("16s") == (5, 27)
    assert fcn.offsets("8s") == (5, 9, 31)


def test_shapes_of_fcn_at_500():
    logits, seen = outputs(fcn.fcn32s(), (500, 500, 3))
    assert [seen[f"pool{n}"].shape[1] for n in range(1, 6)] == [349, 175, 88, 44, 22]
    assert seen["fc6"].shape[1:3] == (16, 16) and logits.shape == (1, 500, 500, 21)


@pytest.mark.parametrize(
    "model",
    [
        fcn.fcn32s(),
        fcn.fcn16s(),
        fcn.fcn8s(learned="inner"),
        pytest.param(fcn.fcn_resnet50(), marks=pytest.mark.slow),
        pytest.param(segnet.segnet(), marks=pytest.mark.slow),
        segnet.segnet_basic(),
        pytest.param(unet.unet_same(), marks=pytest.mark.slow),
        pytest.param(unet.unet_valid(), marks=pytest.mark.slow),
        pytest.param(dilation.Dilation(), marks=pytest.mark.slow),
    ],
    ids=["32s", "16s", "8s", "resnet", "segnet", "basic", "unet", "valid", "dilation"],
)
def test_any_size_gives_a_score_for_every_pixel(model):
    """With the same variables."""
    v = abstract(model, (64, 64, 3))
    for size in ((500, 500), (64, 64), (37, 51)):
        assert outputs(model, (*size, 3), v)[0].shape[:3] == (1, *size)


def test_shapes_of_u_net_are_the_papers():
    logits, seen = outputs(unet.unet(), (572, 572, 1))
    assert logits.shape == (1, 388, 388, 2)
    assert [seen[f"down{n}"].shape[1] for n in range(1, 5)] == [568, 280, 136, 64] and seen[
        "bottom"
    ].shape[1] == 28
    with pytest.raises(ValueError, match="must be even"):
        outputs(unet.unet(), (570, 572, 1))


def test_sides_of_u_net_follow_its_layers():
    assert unet.result_side(572) == 388 and unet.result_side(570) is None
    assert unet.covering_side(388) == 572 and unet.covering_side(389) == 588
    assert unet.margin() == 92 and unet.smallest_tile() == 204


@pytest.mark.slow
def test_u_net_by_tiles_is_u_net_of_the_mirrored_image():
    """And in the middle, where nothing is mirrored, the valid one of the image itself."""
    mirrored = unet.UNet(features=2, levels=2, num_classes=3, mirror=True)
    valid = mirrored.clone(mirror=False)
    x = np.random.default_rng(0).standard_normal((2, 53, 76, 1)).astype(np.float32)
    random = np.random.default_rng(1)
    v = jax.tree.map(
        lambda x: random.standard_normal(x.shape).astype(np.float32),
        abstract(mirrored, x.shape[1:]),
    )
    whole = jax.jit(lambda x: mirrored.apply(v, x, train=False)[0])(x)
    assert whole.shape == (2, 53, 76, 3)
    run = jax.jit(lambda x: valid.apply(v, x, train=False)[0])
    scale = float(np.abs(whole).max())
    for side in (unet.smallest_tile(2), 61):
        np.testing.assert_allclose(
            unet.overlap_tile(run, x, side, levels=2), whole, atol=1e-5 * scale
        )
    margin = unet.margin(2)
    n = next(n for n in range(53, 0, -1) if unet.result_side(n, 2))
    inside = run(x[:, :n, :n])
    np.testing.assert_allclose(
        inside, whole[:, margin : n - margin, margin : n - margin], atol=1e-5 * scale
    )
    with pytest.raises(ValueError, match="they need 44"):
        unet.overlap_tile(run, x, 43, levels=2)


def test_padded_u_net_has_the_parameters_of_the_valid_one():
    shapes = [abstract(build(), (32, 32, 1)) for build in (unet.unet_padded, unet.unet_valid)]
    assert shapes[0] == shapes[1]


def test_tiles_stand_where_pooling_falls_on_the_same_pixels():
    """With three levels a tile of 100 pixels has a result of 12, of which 8 are taken: pooling
    meets the same pairs of pixels in the next one. (With two, every result is a multiple of 4.)"""
    valid = unet.UNet(features=1, levels=3, num_classes=2)
    x = np.random.default_rng(0).standard_normal((1, 20, 12, 1)).astype(np.float32)
    random = np.random.default_rng(1)
    v = abstract(valid, (100, 100, 1))
    v = jax.tree.map(lambda x: random.standard_normal(x.shape).astype(np.float32), v)
    run = jax.jit(lambda x: valid.apply(v, x, train=False)[0])
    before, side = unet.margin(3), unet.covering_side(20, 3)
    rows, columns = ((before, side - before - n) for n in x.shape[1:3])
    whole = run(np.pad(x, ((0, 0), rows, columns, (0, 0)), mode="reflect"))[:, :20, :12]
    tiles = unet.overlap_tile(run, x, unet.smallest_tile(3), levels=3)
    np.testing.assert_allclose(tiles, whole, atol=1e-5 * float(np.abs(whole).max()))


def test_shapes_of_the_dilated_front_end_and_its_margin():
    scores = outputs(dilation.FrontEnd(), (900, 900, 3))[0]
    assert scores.shape == (1, 66, 66, 21)
    reflected = jax.eval_shape(dilation.reflect, jnp.zeros((1, 528, 528, 3)))
    assert reflected.shape[1:3] == (900, 900)  # 186 on each side
    assert receptive_field(dilation.front_layers()).offset == 186 + 3.5


def test_the_image_lies_186_pixels_inside_of_the_reflected_one():
    """There score (i, j) of the front end is amid the 8×8 pixels from (8 i, 8 j) on."""
    x = np.random.default_rng(0).standard_normal((1, 203, 195, 1)).astype(np.float32)
    found = np.asarray(dilation.reflect(x))
    rows, columns = (n - m - 186 for n, m in zip(found.shape[1:3], x.shape[1:3], strict=True))
    edges = ((0, 0), (186, rows), (186, columns), (0, 0))
    np.testing.assert_array_equal(found, np.pad(x, edges, mode="reflect"))


@pytest.mark.parametrize("padding", ["input", "layers"])
@pytest.mark.parametrize("form", ["basic", "large"])
def test_the_context_module_starts_as_the_rectifier_of_its_input(form, padding):
    """Which it is exactly for scores above zero, and zero below: a rectifier stands after every
    layer but the last."""
    model = dilation.Context(form, padding=padding, noise=0.0)
    x = np.random.default_rng(0).standard_normal((1, 4, 5, 2)).astype(np.float32)
    v = jax.jit(model.init)(jax.random.key(0), x)
    np.testing.assert_allclose(jax.jit(model.apply)(v, x), np.maximum(x, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "outputs"), [(4, 4), (4, 8), (8, 8), (8, 16), (12, 8), (128, 4)]
)
def test_a_context_layer_starts_as_equation_5_says(inputs, outputs, classes=4):
    """C / c_(i+1) at the middle tap where floor(a C / c_i) = floor(b C / c_(i+1)), counted out
    entry by entry; elsewhere noise, of which none is zero and all is small."""
    kernel = np.asarray(
        dilation.identity_init(classes, 1e-3)(jax.random.key(0), (3, 3, inputs, outputs))
    )
    for a in range(inputs):
        for b in range(outputs):
            same = (a * classes) // inputs == (b * classes) // outputs
            noise = np.delete(kernel[:, :, a, b].ravel(), 4 if same else [])
            assert np.abs(noise).min() > 0 and np.abs(noise).max() < 0.01
            if same:
                assert kernel[1, 1, a, b] == np.float32(classes / outputs)


def test_a_context_layer_of_features_that_are_no_multiple_of_the_classes_is_refused():
    with pytest.raises(ValueError, match="6 to 8 features do not divide into 4 classes"):
        dilation.identity_init(4)(jax.random.key(0), (3, 3, 6, 8))


def test_padding_the_context_modules_input_is_valid_convolution_of_33_zeros_around_it():
    """And padding its layers is another module, though only near the border."""
    x = np.random.default_rng(0).standard_normal((1, 70, 68, 2)).astype(np.float32)
    wide = np.pad(x, ((0, 0), (33, 33), (33, 33), (0, 0)))
    v = jax.jit(dilation.Context(noise=0.3).init)(jax.random.key(0), x)
    v = jax.tree.map(
        lambda leaf: leaf + 0.1 if leaf.ndim == 1 else leaf, v
    )  # biases, which zeros outside do not pass
    run = jax.jit(
        lambda padding, x: dilation.Context(padding=padding).apply(v, x), static_argnums=0
    )
    at_input, in_layers, nowhere = run("input", x), run("layers", x), run("none", wide)
    scale = float(np.abs(at_input).max())
    np.testing.assert_allclose(at_input, nowhere, atol=1e-5 * scale)
    np.testing.assert_allclose(
        at_input[:, 33:37, 33:35], in_layers[:, 33:37, 33:35], atol=1e-5 * scale
    )
    assert float(np.abs(at_input - in_layers)[:, 0].max()) > 0.01 * scale


@pytest.mark.slow
def test_fully_connected_layers_keep_their_scale_in_narrow_networks():
    """Sums over fc6's features have the same variance at every width, and 0.01 is of the full."""

    def deviation(width):
        features = round(4096 * width)
        kernel = vgg.fully_init(width)(jax.random.key(0), (features, 64))
        return float(jnp.std(jax.random.normal(jax.random.key(1), (64, features)) @ kernel))

    assert deviation(1.0) == pytest.approx(0.01 * 64, rel=0.05)
    assert deviation(1 / 8) == pytest.approx(deviation(1.0), rel=0.05)
    for network, path in (
        (fcn.FCN(4, width=1 / 64), ()),
        (dilation.Dilation(4, width=1 / 64), ("front",)),
    ):
        variables = jax.jit(functools.partial(network.init, train=False))(
            jax.random.key(0), np.zeros((1, 8, 8, 1))
        )
        modules = functools.reduce(lambda tree, name: tree[name], path, variables["params"])
        assert float(modules["fc6"]["kernel"].std()) == pytest.approx(0.08, rel=0.1)


@pytest.mark.slow
def test_a_context_module_learns_from_a_front_end_that_is_left_as_it_is():
    """No gradient passes its scores, and they have no dropout, even in training."""
    network = dilation.Dilation(4, width=1 / 64, frozen=True)
    x = jax.random.normal(jax.random.key(0), (1, 16, 16, 1))
    variables = jax.jit(functools.partial(network.init, train=False))(jax.random.key(1), x)

    def loss(params, key):
        logits, seen = network.apply({"params": params}, x, True, rngs={"dropout": key})
        return jnp.square(logits).sum(), seen["front"]

    step = jax.jit(jax.grad(loss, has_aux=True))
    (gradient, once), (_, again) = (step(variables["params"], jax.random.key(n)) for n in (2, 3))
    largest = {
        name: max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(part))
        for name, part in gradient.items()
    }
    assert largest["front"] == 0 and largest["context"] > 0
    np.testing.assert_array_equal(once, again)
    thawed = network.clone(frozen=False).apply(
        variables, x, True, rngs={"dropout": jax.random.key(2)}
    )[1]["front"]
    assert np.abs(thawed - once).max() > 0
    holds = network.published_backbone.holds
    assert holds(("front", "fc6", "kernel")) and not holds(("context", "layer1", "kernel"))


@pytest.mark.slow
def test_segnet_without_indices_grows_its_maps_by_interpolation():
    """With them, as many values are put back as there were maxima."""
    x = jax.random.normal(jax.random.key(0), (1, 18, 16, 1))
    for indices in (True, False):
        network = segnet.SegNetBasic(features=2, levels=2, indices=indices)
        variables = network.init(jax.random.key(1), x, train=False)
        seen = network.apply(variables, x, train=False)[1]
        if indices:
            assert np.count_nonzero(seen["unpool2"]) == np.count_nonzero(seen["pool2"])
        else:
            expected = resize_bilinear(seen["pool2"], (9, 8))
            np.testing.assert_array_equal(seen["unpool2"], expected)


def test_fcn_starts_without_an_opinion():
    """Scores start at zero: every class has the same probability, and the loss is ln K."""
    model = fcn.fcn8s(num_classes=5, width=1 / 64)
    x = np.random.default_rng(0).standard_normal((1, 20, 24, 3)).astype(np.float32)
    v = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(x)
    assert float(jnp.abs(jax.jit(lambda v, x: model.apply(v, x, train=False)[0])(v, x)).max()) == 0


@pytest.mark.slow
def test_skips_of_fcn_at_once_are_the_same_of_pixels_of_another_scale():
    """The release's factors are for pixels of 0 to 255. At first, where biases are zero,
    activations are proportional to the pixels."""

    class OfBytes(fcn.FCN):
        pixels = UNIT._replace(std=(1.0,))

    given = dict(num_classes=2, at_once=True, width=1 / 32)
    x = jax.random.uniform(jax.random.key(0), (1, 32, 32, 3), minval=-127.5, maxval=127.5)
    variables = fcn.FCN(**given).init(jax.random.key(1), x, train=False)
    for stage in (3, 4):
        layer = variables["params"][f"score_pool{stage}"]
        layer["kernel"] = jax.random.normal(jax.random.key(stage), layer["kernel"].shape)
    expected, seen = OfBytes(**given).apply(variables, x, train=False)
    found, _ = fcn.FCN(**given).apply(variables, x / 127.5, train=False)
    assert np.abs(expected).max() > 1e-3 * np.abs(seen["pool4"]).max()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_fcn_that_learns_to_interpolate_starts_as_the_one_that_does_not():
    """And the paper's form has kernels for all but the last of the ways up."""
    fixed, inner, every = (
        fcn.fcn8s(num_classes=3, width=1 / 64, learned=which) for which in ("none", "inner", "all")
    )
    x = np.random.default_rng(0).standard_normal((1, 20, 24, 3)).astype(np.float32)
    params = dict(jax.jit(lambda x: every.init(jax.random.key(0), x, train=False))(x)["params"])
    random = np.random.default_rng(1)
    params |= {
        name: {
            part: random.standard_normal(x.shape).astype(np.float32) for part, x in value.items()
        }
        for name, value in params.items()
        if name.startswith("score")  # which start at zero
    }

    def scores(model):
        own = {name: params[name] for name in abstract(model, x.shape[1:])["params"]}
        return own.keys(), jax.jit(lambda p: model.apply({"params": p}, x, train=False)[0])(own)

    names, expected = scores(fixed)
    assert float(expected.std()) > 0
    for model, ups in (
        (inner, {"upscore3", "upscore4"}),
        (every, {"upscore3", "upscore4", "upscore"}),
    ):
        learning, found = scores(model)
        assert learning - names == ups
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("form", ["32s", "16s", pytest.param("8s", marks=pytest.mark.slow)])
def test_a_score_lies_over_what_it_has_seen(form):
    """Of a mirrored image, mirror-symmetric kernels make mirrored scores only if every map is cut
    in its middle. 122 + 198 pixels halve five times, so that pooling is symmetric too."""
    model = fcn.FCN(num_classes=3, form=form, width=1 / 32)
    random = np.random.default_rng(0)

    def symmetric(leaf):
        value = random.standard_normal(leaf.shape).astype(np.float32) / 8
        return value + value[::-1, ::-1] if leaf.ndim == 4 else value

    v = jax.tree.map(symmetric, abstract(model, (122, 122, 1)))
    x = random.standard_normal((1, 122, 122, 1)).astype(np.float32)
    run = jax.jit(lambda v, x: model.apply(v, x, train=False)[0])
    scores, mirrored = run(v, x), run(v, x[:, ::-1, ::-1])
    assert float(scores.std()) > 0
    np.testing.assert_allclose(mirrored[:, ::-1, ::-1], scores, atol=1e-4 * np.abs(scores).max())


@pytest.mark.slow
def test_sampling_dropout_gives_probabilities_and_an_uncertainty():
    model = segnet.SegNet(num_classes=3, features=((4,), (4,), (4,)), dropout=0.5)
    x = np.random.default_rng(0).standard_normal((2, 9, 10, 1)).astype(np.float32)
    v = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(x)
    sampled = jax.jit(lambda v, x: segnet.sampled(model, v, x, jax.random.key(1), samples=20))
    p, uncertainty = sampled(v, x)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
    assert (
        uncertainty.shape == (2, 9, 10)
        and float(uncertainty.min()) >= 0
        and float(uncertainty.max()) > 0
    )
    still = jax.jit(
        lambda v, x: segnet.sampled(model.clone(dropout=0.0), v, x, jax.random.key(1), samples=2)
    )(v, x)[1]
    assert float(still.max()) < 1e-12


@pytest.mark.slow
def test_the_uncertainty_is_the_variance_over_draws_averaged_over_classes():
    """Against each draw by itself, with the key that it has."""
    model = segnet.SegNetBasic(num_classes=3, features=2, levels=1, dropout=0.5)
    random = np.random.default_rng(0)
    x = random.standard_normal((2, 5, 6, 1)).astype(np.float32)
    v = jax.tree.map(lambda leaf: np.float32(random.random(leaf.shape)), abstract(model, (5, 6, 1)))

    def draw(key):
        return model.apply(v, x, train=False, sample=True, rngs={"dropout": key})[0]

    logits = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(1), 4)), np.float64)
    share = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found = jax.jit(lambda: segnet.sampled(model, v, x, jax.random.key(1), samples=4))()
    np.testing.assert_allclose(found[0], share.mean(0), atol=1e-5)
    np.testing.assert_allclose(found[1], share.var(0).mean(-1), rtol=1e-3, atol=1e-7)


@pytest.mark.slow
def test_parity_of_u_net_with_torch():
    """An independent one, of torch's own layers, narrow: logits and the gradient by the image."""
    torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra `parity`")
    model = unet.UNet(features=4, levels=2, num_classes=3)
    x = np.random.default_rng(0).standard_normal((2, 44, 52, 2)).astype(np.float32)
    random = np.random.default_rng(1)
    v = jax.tree.map(
        lambda x: random.standard_normal(x.shape).astype(np.float32) / 4,
        abstract(model, x.shape[1:]),
    )
    p = v["params"]

    def conv(x, name, transposed=False, **options):
        kernel = torch.from_numpy(p[name]["kernel"])
        bias = torch.from_numpy(p[name]["bias"])
        if transposed:
            return torch.nn.functional.conv_transpose2d(
                x, kernel.permute(2, 3, 0, 1), bias, stride=2
            )
        return torch.nn.functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias)

    def twice(x, name):
        return conv(conv(x, f"{name}_conv1").relu(), f"{name}_conv2").relu()

    image = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
    down1 = twice(image, "down1")
    down2 = twice(torch.nn.functional.max_pool2d(down1, 2), "down2")
    y = twice(torch.nn.functional.max_pool2d(down2, 2), "bottom")
    for level, skip in ((2, down2), (1, down1)):
        y = conv(y, f"up{level}", transposed=True)
        rows, columns = ((n - m) // 2 for n, m in zip(skip.shape[2:], y.shape[2:], strict=True))
        y = twice(
            torch.cat([skip[:, :, rows : rows + y.shape[2], columns : columns + y.shape[3]], y], 1),
            f"up{level}",
        )
    logits = conv(y, "score").permute(0, 2, 3, 1)
    weight = np.random.default_rng(2).standard_normal(logits.shape).astype(np.float32)
    (logits * torch.from_numpy(weight)).sum().backward()
    gradient = jax.jit(jax.grad(lambda x: (model.apply(v, x, train=False)[0] * weight).sum()))(x)
    ours = jax.jit(lambda x: model.apply(v, x, train=False)[0])(x)
    theirs = logits.detach().numpy()
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()
    expected = image.grad.permute(0, 2, 3, 1).numpy()
    assert np.abs(gradient - expected).max() <= 1e-5 * np.abs(expected).max()
