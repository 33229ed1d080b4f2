"""Reading and writing weights: nothing lost, nothing guessed, nothing executed."""

import json
import math
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from advdl import weights
from advdl.errors import UserError
from advdl.models import abstract, alexnet, dilation, fcn, googlenet, resnet, segnet, unet, vgg
from advdl.nn import BatchNorm

SMALL = {
    "cifar": (resnet.cifar(8, num_classes=4), (16, 16, 3)),
    "cifar B": (resnet.cifar(8, num_classes=4, shortcut="B"), (16, 16, 3)),
    "scanned": (resnet.ResNet((3, 2), num_classes=4, width=4, scan=True), (32, 32, 3)),
    "bottlenecks": (resnet.ResNet((2, 1), resnet.Bottleneck, num_classes=4, width=4), (32, 32, 3)),
    "pre-activation": (
        resnet.ResNet((2, 1), resnet.PreactBottleneck, num_classes=4, width=4),
        (32, 32, 3),
    ),
}


def variables(model, shape, seed=0):
    """Random everywhere, so that two leaves that are exchanged show."""
    found = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), jnp.zeros((1, *shape))
    )
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: random.standard_normal(leaf.shape, np.float32), found)


@pytest.fixture(params=sorted(SMALL))
def network(request):
    model, shape = SMALL[request.param]
    return model, variables(model, shape)


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def test_what_is_written_is_read_back(network, tmp_path):
    model, v = network
    weights.export(tmp_path / "net.safetensors", model, v)
    empty = jax.tree.map(np.zeros_like, v)
    got, report = weights.load(tmp_path / "net.safetensors", model, empty)
    assert same(got, v) and report.fits and not report.new


def test_names_are_those_of_pytorch(tmp_path):
    model, shape = SMALL["bottlenecks"]
    weights.export(tmp_path / "net.safetensors", model, variables(model, shape))
    tensors = weights.read(tmp_path / "net.safetensors")
    assert {
        "conv1.weight",
        "bn1.running_var",
        "layer1.0.conv1.weight",
        "layer1.1.bn3.bias",
        "layer2.0.downsample.0.weight",
        "layer2.0.downsample.1.running_mean",
        "fc.weight",
        "fc.bias",
    } <= set(tensors)
    assert tensors["conv1.weight"].shape == (4, 3, 7, 7) and tensors["fc.weight"].shape == (4, 32)


def test_cifar_names_with_and_without_a_prefix(tmp_path):
    model, shape = SMALL["cifar B"]
    v = variables(model, shape)
    weights.export(tmp_path / "net.safetensors", model, v)
    tensors = weights.read(tmp_path / "net.safetensors")
    assert {"layer1.0.conv1.weight", "layer2.0.shortcut.0.weight", "linear.weight"} <= set(tensors)
    weights.write(
        tmp_path / "parallel.safetensors",
        {f"module.{name}": tensor for name, tensor in tensors.items()},
    )
    got, _ = weights.load(tmp_path / "parallel.safetensors", model, jax.tree.map(np.zeros_like, v))
    assert same(got, v)


def test_alexnets_towers_are_groups_in_pytorchs_layout():
    """conv2 and fc6 by their definition: output o of group g reads input channel i of its own
    group."""
    model = alexnet.AlexNet(num_classes=3)
    shapes = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), jnp.zeros((1, 99, 99, 3))
    )
    entries = {entry.path[1:]: entry for entry in weights.entries(model, shapes, "caffe")}
    conv2, fc6 = entries["conv2", "kernel"], entries["fc6", "kernel"]
    assert conv2.torch_shape == (256, 48, 5, 5)
    kernel = np.random.default_rng(0).standard_normal(conv2.shape, np.float32)  # (T, kh, kw, I, O)
    assert conv2.to_torch(kernel)[128 + 7, 5, 1, 2] == kernel[1, 1, 2, 5, 7]
    towers, rows, units = fc6.shape
    side = round((rows / 256) ** 0.5)
    weight = np.random.default_rng(1).standard_normal(
        fc6.torch_shape, np.float32
    )  # (O, C H W), C over both towers
    image = weight.reshape(4096, 2, 128, side, side)
    ours = fc6.from_torch(weight).reshape(2, 2, side, side, 128, 2048)
    assert ours[1, 0, 1, 0, 5, 9] == image[2048 + 9, 0, 5, 1, 0]
    assert np.array_equal(fc6.to_torch(fc6.from_torch(weight)), weight)


@pytest.fixture
def file(tmp_path):
    """`file(change)` -> a file whose tensors `change` has altered."""
    model, shape = SMALL["bottlenecks"]
    v = variables(model, shape)

    def make(change):
        weights.export(tmp_path / "net.safetensors", model, v)
        tensors = weights.read(tmp_path / "net.safetensors")
        change(tensors)
        weights.write(tmp_path / "net.safetensors", tensors)
        return tmp_path / "net.safetensors", model, v

    return make


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.pop("layer1.0.conv1.weight"), r"1 missing: layer1\.0\.conv1\.weight"),
        (lambda t: t.update(extra=np.zeros(3)), "1 unused: extra"),
        (
            lambda t: t.update({"fc.weight": np.zeros((5, 32))}),
            r"1 misshapen: fc\.weight \(5, 32\), expected \(4, 32\)",
        ),
        (lambda t: [t.pop(name) for name in list(t) if "bn" in name], r"missing: .* and \d+ more"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_says_where(file, change, told):
    with pytest.raises(UserError, match=told):
        weights.load(*file(change))


def test_counts_of_batches_are_passed_over(file):
    got, _ = weights.load(*file(lambda t: t.update({"bn1.num_batches_tracked": np.array(3)})))
    expected, _ = weights.load(*file(lambda t: None))
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_another_number_of_classes_leaves_the_head_as_it_is(file):
    def other_head(tensors):
        tensors["fc.weight"], tensors["fc.bias"] = (
            np.zeros((9, 32), np.float32),
            np.zeros(9, np.float32),
        )

    path, model, v = file(other_head)
    got, report = weights.load(path, model, v, new_head=True)
    assert set(report.new) == {"fc.weight", "fc.bias"} and same(got, v)
    path, model, v = file(
        lambda t: t.update(
            {"fc.weight": np.zeros((9, 16), np.float32), "fc.bias": np.zeros(9, np.float32)}
        )
    )
    with pytest.raises(UserError, match="misshapen"):  # not the same features
        weights.load(path, model, v, new_head=True)


def test_weights_of_another_network_are_refused(tmp_path):
    model, shape = SMALL["cifar"]
    weights.export(tmp_path / "net.safetensors", model, variables(model, shape))
    other, shape = SMALL["bottlenecks"]
    with pytest.raises(UserError, match=r"does not fit ResNet: \d+ tensors read"):
        weights.load(tmp_path / "net.safetensors", other, variables(other, shape))


def test_damaged_missing_and_unknown_files_are_named(tmp_path):
    model, shape = SMALL["cifar"]
    path = tmp_path / "net.safetensors"
    weights.export(path, model, variables(model, shape))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"net\.safetensors is damaged"):
        weights.read(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        weights.read(path)
    with pytest.raises(UserError, match="cannot read .*other.safetensors: No such file"):
        weights.read(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"expected \.safetensors, \.pth, \.pt, \.th"):
        weights.read(tmp_path / "net.npy")


def written(path, dtype, shape, content):
    """A .safetensors file of one tensor, by its bytes."""
    one = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(content)]}
    header = json.dumps({"a": one}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + content)
    return path


@pytest.mark.parametrize(
    ("dtype", "shape", "content"),
    [
        ("F8_E4M3", [2], b"00"),
        ("F8_E5M2", [2], b"00"),
        ("F8_E8M0", [2], b"00"),
        ("F6_E2M3", [4], b"000"),
        ("F4", [2], b"0"),
        ("C64", [1], bytes(8)),
        ("F32", [1], struct.pack("<f", math.nan)),
        ("F64", [1], struct.pack("<d", -math.inf)),
        ("F16", [1], b"\x00\x7c"),
        ("BF16", [1], b"\xc0\x7f"),
        ("U8", [1] * 65, b"0"),
    ],
)
def test_what_is_no_finite_number_or_of_no_known_type_is_told(tmp_path, dtype, shape, content):
    with pytest.raises(UserError, match="net.safetensors.*(damaged|no finite numbers)"):
        weights.read(written(tmp_path / "net.safetensors", dtype, shape, content))


def test_an_export_that_cannot_be_written_is_told_and_makes_its_folder(tmp_path):
    (tmp_path / "folder.safetensors").mkdir()
    for name, line in (("folder.safetensors", "directory"), ("net.pth", "written as")):
        with pytest.raises(UserError, match=line):
            weights.files.write(tmp_path / name, {"a": np.ones(2)})
    weights.files.write(tmp_path / "new" / "net.safetensors", {"a": np.ones(2)})
    assert weights.read(tmp_path / "new" / "net.safetensors")["a"].tolist() == [1, 1]


def test_numbers_beyond_a_networks_are_told(tmp_path):
    model, shape = SMALL["cifar"]
    own = variables(model, shape)
    path = tmp_path / "net.safetensors"
    weights.export(path, model, own)
    tensors = {name: np.float64(one) for name, one in weights.read(path).items()}
    tensors["conv1.weight"] *= 1e300
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(UserError, match="conv1.weight has numbers too large for float32"):
        weights.load(path, model, own)


def test_auxiliary_classifiers_may_be_left_out():
    model = googlenet.VARIANTS["googlenet_torchvision"].build()
    assert weights.styles(model) == ("torchvision",)
    with pytest.raises(ValueError, match="no published names"):
        weights.styles(resnet.Block(3))


@pytest.mark.scale
@pytest.mark.parametrize("form", ["fcn", "dilation", "segnet", "resnet"])
def test_a_classifier_is_the_beginning_of_a_dense_network(form, tmp_path):
    """Features of the dense network are the classifier's; fc6 as a convolution is fc6 where it sees
    the whole image."""
    model, published = {
        "fcn": (fcn.FCN(num_classes=3), vgg.VGG()),
        "dilation": (dilation.Dilation(num_classes=3), vgg.VGG()),
        "segnet": (segnet.SegNet(num_classes=3), vgg.VGG(norm=BatchNorm)),
        "resnet": (fcn.fcn_resnet50(num_classes=3), resnet.VARIANTS["resnet50_v1_5"].build()),
    }[form]
    shapes = abstract(published, (224, 224, 3))
    v = jax.tree.map(lambda x: np.broadcast_to(np.float16(x.size % 97), x.shape), shapes)
    weights.export(tmp_path / "net.safetensors", published, v)
    before = jax.tree.map(
        lambda x: np.broadcast_to(np.float32(-1), x.shape), abstract(model, (64, 64, 3))
    )
    after, report = weights.load_backbone(tmp_path / "net.safetensors", model, before)
    assert report.fits
    changed = {
        "/".join(part.key for part in path)
        for path, leaf in jax.tree.leaves_with_path(after)
        if leaf.reshape(-1)[0] != -1
    }
    head = {"fcn": "score", "dilation": "context", "segnet": "_up", "resnet": "classifier"}[form]
    paths = {"/".join(part.key for part in path) for path, _ in jax.tree.leaves_with_path(before)}
    assert {path for path in paths if head not in path and "score" not in path} == changed
    with pytest.raises(UserError, match="full width"):
        weights.load_backbone(tmp_path / "net.safetensors", model.clone(width=0.5), before)
    with pytest.raises(UserError, match="no published backbone"):
        weights.load_backbone(tmp_path / "net.safetensors", unet.unet(), before)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["segnet", "dilation"])
def test_an_encoder_sees_in_a_dense_network_what_it_saw_alone(form):
    """SegNet's pooled stages are those of the trunk; the front end's first one is pool1 of the
    reflected image."""
    norm = BatchNorm if form == "segnet" else None
    model = {"segnet": segnet.SegNet, "dilation": dilation.Dilation}[form](
        num_classes=3, width=1 / 16
    )
    alone = vgg.Probed(4, norm, width=1 / 16)
    x = jax.random.normal(jax.random.key(0), (1, 32, 32, 3))
    rng = np.random.default_rng(0)

    def filled(network):
        return jax.tree.map(
            lambda s: jnp.asarray(rng.uniform(0, 0.1, s.shape), s.dtype),
            abstract(network, (32, 32, 3)),
        )

    learned, fresh = filled(alone), filled(model)
    placed = weights.place_backbone(model, fresh, learned)
    for (path, old), new in zip(
        jax.tree.leaves_with_path(fresh["params"]), jax.tree.leaves(placed["params"]), strict=True
    ):
        assert weights.in_encoder(model, [part.key for part in path]) == (old is not new), path
    seen = jax.jit(lambda v: model.apply(v, x, train=False)[1])(placed)
    trunk = vgg.Trunk(norm, ceil=True, width=1 / 16)
    wide = x if form == "segnet" else dilation.reflect(x)
    own = jax.jit(lambda v: trunk.apply(v, wide, False))(
        {name: modules["trunk"] for name, modules in learned.items()}
    )
    if form == "segnet":
        for stage in range(1, 6):
            np.testing.assert_allclose(seen[f"pool{stage}"], own[f"pool{stage}"], atol=1e-5)
    else:  # its convolutions are valid, so that the first stage begins a unit further in
        np.testing.assert_allclose(seen["stage1"], own["pool1"][:, 1:-1, 1:-1], atol=1e-5)
    with pytest.raises(ValueError, match="no place"):
        weights.place_backbone(unet.unet(), {"params": {}}, learned)
    with pytest.raises(ValueError, match="no place"):
        weights.in_encoder(unet.unet(), ["score"])
