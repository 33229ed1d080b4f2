"""Every network with published weights against torchvision's and timm's, with random weights and
statistics.

Outputs in evaluation, and outputs, gradients and updated running statistics in training, through a
file, so that importing is tested with it. In float32; but gradients of the deep networks with batch
normalization in float64, because there float32 means little: torch's own float32 gradients of
ResNet-50 are off from its float64 ones by up to 0.2 of the largest value (ours by as much), since
rounding carries values over the rectifiers' edges. Residual networks are compared as a whole in
evaluation, and in training with the first blocks of each stage alone.
"""

import functools
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl import weights
from advdl.models import CLASSIFIERS, fcn
from advdl.nn import BatchNorm

torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra `parity`")

TOLERANCE = 1e-5  # of the largest value
SHALLOW = {"blocks": (2, 1, 1, 1)}  # every kind of block
AUXILIARY = {"auxiliary": True, "dropout": 0.0}
ROWS = {  # ours, theirs, side of the image, fields that switch dropout off or follow torch
    "alexnet": ("alexnet_torchvision", "torchvision alexnet", 80, {"dropout": 0.0}),
    "googlenet": (
        "googlenet_torchvision",
        "torchvision googlenet",
        96,
        {"dropout": 0.0, "auxiliary_dropout": 0.0},
    ),
    "vgg16": ("vgg16", "torchvision vgg16", 32, {"dropout": 0.0, "width": 1 / 8}),
    "vgg16_bn": ("vgg16_bn", "torchvision vgg16_bn", 64, {"dropout": 0.0, "width": 1 / 8}),
    "vgg16 of timm": ("vgg16", "timm vgg16", 224, {"dropout": 0.0, "width": 1 / 8}),
    "resnet18": ("resnet18", "torchvision resnet18", 96, {}),
    "resnet18, shallow": ("resnet18", "torchvision resnet18", 96, SHALLOW),
    "resnet50": ("resnet50_v1_5", "torchvision resnet50", 64, {}),
    "resnet50 of timm": ("resnet50_v1_5", "timm resnet50", 64, {}),
    "resnet50, shallow": ("resnet50_v1_5", "torchvision resnet50", 64, SHALLOW),
    "fcn_resnet50": ("fcn_resnet50", "torchvision fcn_resnet50", 33, AUXILIARY),
    "fcn_resnet50, shallow": (
        "fcn_resnet50",
        "torchvision fcn_resnet50",
        25,
        SHALLOW | AUXILIARY,
    ),
    "resnetv2_50 of timm": ("resnet50_preact", "timm resnetv2_50", 64, {}),
    "resnetv2_50 of timm, shallow": ("resnet50_preact", "timm resnetv2_50", 64, SHALLOW),
}
DEEP = {
    "googlenet",
    "vgg16_bn",
    "fcn_resnet50, shallow",
    "resnet50, shallow",
    "resnetv2_50 of timm, shallow",
}  # training in float64, which takes long: with two images
FORWARD_ONLY = {
    "vgg16 of timm",
    "resnet18",
    "resnet50",
    "resnet50 of timm",
    "fcn_resnet50",
    "resnetv2_50 of timm",
}  # the others hold the same layers in training


def their_network(name):
    library, _, network = name.partition(" ")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip(
            library, reason=f"parity with {library} needs the extra `parity`"
        )
        torch.manual_seed(0)
        if network == "vgg16" and library == "timm":
            return narrow_vgg16_of_timm(module.models.vgg)
        if library == "timm":
            return module.create_model(network, pretrained=False)
        if network == "fcn_resnet50":
            return module.models.segmentation.fcn_resnet50(
                weights=None, weights_backbone=None, aux_loss=True
            )
        if network.startswith("vgg16"):
            return narrow_vgg16(module.models.vgg, network.endswith("bn"))
        options = {"init_weights": False} if network == "googlenet" else {}
        return getattr(module.models, network)(weights=None, **options)


def an_eighth(widths):
    return [width if width == "M" else width // 8 for width in widths]


def narrow_vgg16_of_timm(vgg):
    """As below, of timm, where fc6 and fc7 are convolutions."""
    network = vgg.VGG(an_eighth(vgg.cfgs["vgg16"]), mlp_ratio=1 / 8)
    network.pre_logits.fc2 = torch.nn.Conv2d(512, 512, 1)
    network.head.fc = torch.nn.Linear(512, 1000)
    return network


def narrow_vgg16(vgg, norm):
    """torchvision's VGG-16 with an eighth of the channels: the whole one takes gigabytes and shows
    nothing more."""
    network = vgg.VGG(vgg.make_layers(an_eighth(vgg.cfgs["D"]), batch_norm=norm))
    for layer, shape in ((0, (64 * 7 * 7, 512)), (3, (512, 512)), (6, (512, 1000))):
        network.classifier[layer] = torch.nn.Linear(*shape)
    return network


def shorten(network, blocks):
    """Leaves this many blocks of each stage of a residual network."""
    network = getattr(network, "backbone", network)
    children = dict(network.named_children())
    for stage, count in enumerate(blocks):
        if "stages" in children:
            del children["stages"][stage].blocks[count:]
        else:
            del children[f"layer{stage + 1}"][count:]


def randomize(model):
    """Statistics as of a trained network, gains and biases off their starting values, no
    dropout."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                module.bias.data.normal_(0, 0.1, generator=generator)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.data.uniform_(0.3, 0.9, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)


def largest(x):
    """Its largest absolute value, without another array of its size."""
    return max(x.max(), -x.min())


def close(ours, theirs, what, least=0.0):
    """least: a largest value below which there is only rounding (the gradient of a bias before a
    normalization is 0)."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, what
    error, scale = largest(ours - theirs), max(largest(theirs), least)
    assert error <= TOLERANCE * scale, f"{what}: {error / scale:.2g} of the largest value"


@pytest.fixture(params=sorted(ROWS))
def pair(request, tmp_path, torchvision_operators):
    if request.param != "googlenet":  # whose many small layers compile longer than they run
        request.getfixturevalue("optimized")
    ours, theirs, side, fields = ROWS[request.param]
    reference = their_network(theirs)
    blocks = fields.get("blocks")
    if blocks:
        shorten(reference, blocks)
    randomize(reference)
    build = fcn.fcn_resnet50 if ours == "fcn_resnet50" else CLASSIFIERS[ours].build
    if "resnet" in ours or "norm" in getattr(build, "keywords", {}):
        fields = {
            **fields,
            "norm": partial(
                BatchNorm, unbiased=True, epsilon=1e-3 if "googlenet" in ours else 1e-5
            ),
        }
    model = build(**{name: value for name, value in fields.items() if name != "blocks"})
    if blocks:
        model = model.clone(blocks=blocks)
    images = 2 if request.param in DEEP | FORWARD_ONLY else 4
    x = torch.randn(images, 3, side, side, generator=torch.Generator().manual_seed(2))
    image = x.permute(0, 2, 3, 1).numpy()
    empty = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), jnp.asarray(image)),
    )
    torch.save(reference.state_dict(), tmp_path / "net.pth")
    variables, report = weights.load(tmp_path / "net.pth", model, empty)
    assert report.fits and not report.new
    variables = jax.device_put(variables)
    yield request.param, model, variables, image, reference, x
    jax.clear_caches()  # programs of whole networks


@pytest.mark.scale  # compiles whole networks of full width
def test_parity(pair):
    name, model, variables, image, reference, x = pair
    reference.eval()
    with torch.no_grad():
        expected = heads_of(reference(x))[0]
    logits = jax.jit(lambda v, x: model.apply(v, x, train=False)[0])(variables, image)
    close(nchw(logits), expected, "evaluation")
    if name in FORWARD_ONLY:
        return

    with jax.enable_x64(name in DEEP):
        if name in DEEP:
            reference, x = reference.double(), x.double()
            variables, image = jax.tree.map(
                lambda leaf: jax.device_put(np.float64(leaf)), (variables, image)
            )
        train_parity(model, variables, image, reference.train(), x)


def heads_of(answer):
    """The logits, and those of auxiliary heads, in our order."""
    if isinstance(answer, dict):
        return answer["out"], answer["aux"]
    return (
        (answer.logits, answer.aux_logits1, answer.aux_logits2)
        if hasattr(answer, "aux_logits1")
        else (answer,)
    )


def nchw(x):
    return jnp.moveaxis(x, -1, 1) if x.ndim == 4 else x


def train_parity(model, variables, image, reference, x):
    heads = heads_of(reference(x))
    weight = [
        torch.randn(head.shape, generator=torch.Generator().manual_seed(i), dtype=x.dtype)
        for i, head in enumerate(heads)
    ]
    sum((head * w).sum() for head, w in zip(heads, weight, strict=True)).backward()

    def total(params):
        (logits, seen), new = model.apply(
            {**variables, "params": params}, image, train=True, mutable=["batch_stats"]
        )
        ours = tuple(
            nchw(x)
            for x in (logits, *(seen[name] for name in ("aux1", "aux2", "aux") if name in seen))
        )
        return sum((head * w.numpy()).sum() for head, w in zip(ours, weight, strict=True)), (
            ours,
            new,
        )

    gradient, (ours, new) = jax.jit(jax.grad(total, has_aux=True))(variables["params"])
    for head, theirs in zip(ours, heads, strict=True):
        close(head, theirs.detach(), "training")
    parameters, buffers = dict(reference.named_parameters()), dict(reference.named_buffers())
    tree = jax.device_get({"params": gradient, **new})
    scale = max(map(largest, jax.tree.leaves(tree["params"])))
    for entry in weights.entries(model, tree, weights.styles(model)[0]):
        leaf = functools.reduce(lambda branch, part: branch[part], entry.path, tree)
        theirs = parameters[entry.name].grad if entry.path[0] == "params" else buffers[entry.name]
        close(
            entry.to_torch(leaf),
            theirs.reshape(entry.torch_shape),
            entry.name,
            least=1e-6 * scale,
        )
