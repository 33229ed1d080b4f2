"""What classify.py does beyond the verbs that all experiments share."""

import dataclasses
import importlib.util
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from advdl import data, models, present, train, weights
from advdl.cli.experiment import Session
from advdl.reports import classes
from advdl.train import placement

RECIPE = [
    "--policy",
    "trivial",
    "--erasing",
    0.5,
    "--mixup",
    0.2,
    "--cutmix",
    1.0,
    "--label-smoothing",
    0.1,
    "--color",
    0.1,
    "--colors",
    "data",
    "--decay",
    "kernels",
    "--ema",
    0.9,
    "--flip",
    "--optimizer",
    "nesterov",
]
ROOT = pathlib.Path(__file__).resolve().parents[1]
SHORT = ["--batch", 4, "--steps", 1, "--evaluate-every", 0, "--log-every", 1]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Photographs of many sizes and modes, two classes, in both splits."""
    root, random = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    modes = ["RGB", "L", "CMYK", "RGBA", "P", "I;16", "rotated", "LA"]
    for number, mode in enumerate(modes * 2):
        folder = root / ("train" if number < len(modes) else "test") / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (40 + 7 * number, 90 - 3 * number, 3), np.uint8)
        image, ending, options = Image.fromarray(pixels), "png", {}
        if mode == "I;16":
            image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        elif mode == "rotated":
            options = {"exif": _rotated()}
            ending = "jpg"
        else:
            image, ending = image.convert(mode), "jpg" if mode == "CMYK" else "png"
        image.save(folder / f"{number}.{ending}", **options)
    return root


def _rotated():
    exif = Image.Exif()
    exif[274] = 6
    return exif


@pytest.fixture(scope="module")
def trained(photographs, tmp_path_factory, load):
    return tmp_path_factory.mktemp("run") / "photographs"


@pytest.mark.experiments
def test_photographs_of_every_kind_train_with_the_whole_recipe(photographs, trained, verb):
    flags = [
        "--model",
        "resnet18",
        "--image-size",
        32,
        "--data",
        f"folder:{photographs}",
        "--run",
        trained,
        *SHORT,
        *RECIPE,
    ]
    status, out, err = verb("classify", "train", *flags)
    assert status == 0, err
    for picture in ("predictions", "curves", "confusion", "heat", "filters"):
        assert (trained / "report" / f"{picture}.png").stat().st_size > 500
    status, out, err = verb("classify", "evaluate", "--run", trained, "--ten-crop", "--json")
    assert status == 0 and 0 <= json.loads(out)["test/accuracy"] <= 1, err


@pytest.mark.experiments
def test_a_broken_file_is_named_or_counted_and_left_out(photographs, tmp_path, verb):
    broken = photographs / "test" / "cat" / "zz.jpg"
    broken.write_bytes(b"\xff\xd8 no image")
    flags = [
        "--model",
        "resnet8",
        "--image-size",
        8,
        "--data",
        f"folder:{photographs}",
        "--run",
        tmp_path / "run",
        *SHORT,
    ]
    try:
        status, _, err = verb("classify", "train", *flags)
        assert status == 2 and "zz.jpg" in err and len(err.strip().splitlines()) <= 2
        status, _, err = verb(
            "classify", "train", *flags, "--skip-broken", "--run", tmp_path / "other"
        )
        assert status == 0 and "1 files left out" in err and "zz.jpg" in err
    finally:
        broken.unlink()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(file, network, variables) of a ResNet-18 with 1000 classes and random weights."""
    network = models.classifier("resnet18").build()
    random = np.random.default_rng(0)
    shapes = models.abstract(network, (224, 224, 3))
    v = jax.tree.map(lambda x: np.abs(random.standard_normal(x.shape, np.float32)) * 0.02, shapes)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    weights.export(path, network, v)
    return path, network, v


@pytest.mark.experiments
def test_published_weights_classify_photographs_without_a_run(
    published, photographs, tmp_path, verb
):
    path, network, v = published
    files = sorted((photographs / "test" / "cat").iterdir())[:2]
    flags = [
        "--model",
        "resnet18",
        "--weights",
        path,
        "--features",
        "stage4",
        "--out",
        tmp_path,
        "--top",
        5,
        *files,
    ]
    status, out, err = verb("classify", "predict", *flags, "--json")
    assert status == 0 and "102 tensors" not in out, err
    answer = json.loads(out)
    assert set(answer) == set(map(str, files))
    assert all(name in data.imagenet_names() for classes in answer.values() for name in classes)
    image = data.decode(files[0], (224, 224, 3), view=data.center_crop(224, 256))
    pixels = (image / 255 - np.array(data.IMAGENET_MEAN)) / np.array(data.IMAGENET_STD)
    logits, seen = jax.jit(lambda v, x: network.apply(v, x, train=False))(
        v, jnp.asarray(pixels[None], jnp.float32)
    )
    best = data.imagenet_names()[int(logits[0].argmax())]
    assert answer[str(files[0])][best] == pytest.approx(
        float(jax.nn.softmax(logits[0]).max()), rel=1e-3
    )
    features = np.load(tmp_path / "features.npz")[str(files[0])]
    np.testing.assert_allclose(
        features, seen["stage4"][0], rtol=1e-3, atol=1e-3 * np.abs(features).max()
    )


@pytest.mark.experiments
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--model", "resnet34"], "does not fit"),
        (["--model", "resnet81"], "no network 'resnet81'"),
        (["--features", "stage9", "--model", "resnet18"], "no layer 'stage9'"),
    ],
)
def test_wrong_weights_networks_and_layers_end_in_one_line(
    published, photographs, verb, flags, told
):
    photo = next((photographs / "test" / "cat").iterdir())
    status, out, err = verb("classify", "predict", "--weights", published[0], *flags, photo)
    assert status == 2 and told in err.strip().splitlines()[-1] and not out


@pytest.mark.slow
def test_training_starts_from_a_file_with_a_new_head_for_other_classes(load, tmp_path):
    network = models.resnet.cifar(8, num_classes=7)
    shapes = models.abstract(network, (8, 8, 1))
    random = np.random.default_rng(0)
    v = jax.tree.map(lambda x: random.standard_normal(x.shape, np.float32), shapes)
    weights.export(tmp_path / "net.safetensors", network, v)
    module = load("classify")
    config = dataclasses.replace(
        module.PRESETS["laptop"],
        model="resnet8",
        batch=8,
        ema=0.5,
        init=str(tmp_path / "net.safetensors"),
    )
    state = Session(
        "classify", config, train.Run(pathlib.Path(tmp_path / "run")), module.load, module.build
    ).new()
    for started in (state["model"].variables, state["model"].average):
        head = started["params"]["classify"]["kernel"]
        assert head.shape == (64, 10) and float(jnp.abs(head).max()) > 0
        rest = {**started["params"], "classify": None}, started["batch_stats"]
        assert jax.tree.all(
            jax.tree.map(
                np.array_equal, rest, ({**v["params"], "classify": None}, v["batch_stats"])
            )
        )


@pytest.mark.experiments
def test_a_trained_network_is_exported_and_starts_another_run(verb, load, tmp_path):
    run, file = tmp_path / "run", tmp_path / "net.safetensors"
    assert verb("classify", "train", "--model", "resnet8", "--run", run, *SHORT)[0] == 0
    status, out, err = verb("classify", "predict", "--run", run, "--export", file)
    assert status == 0 and "net.safetensors" in out
    tensors = weights.read(file)
    assert tensors["linear.weight"].shape == (10, 64) and tensors[
        "layer2.0.conv1.weight"
    ].shape == (32, 16, 3, 3)
    module = load("classify")
    config = dataclasses.replace(module.PRESETS["laptop"], model="resnet8", batch=4, init=str(file))
    started = Session(
        "classify", config, train.Run(tmp_path / "other"), module.load, module.build
    ).new()
    np.testing.assert_array_equal(
        started["model"].params["classify"]["kernel"].T, tensors["linear.weight"]
    )
    status, _, err = verb("classify", "predict", "--run", run, "--export", tmp_path / "net.pth")
    assert status == 2 and ".safetensors" in err


def test_a_file_to_start_from_is_refused_before_anything_is_compiled(verb, tmp_path, monkeypatch):
    def compiled(*_):
        raise AssertionError("a program was compiled")

    monkeypatch.setattr(placement.CompiledFunction, "compile", compiled)
    file = tmp_path / "net.safetensors"
    weights.write(file, {"conv1.weight": np.zeros((16, 1, 3, 3), np.float32)})
    flags = ["--model", "resnet8", "--init", file, "--run", tmp_path / "run"]
    status, _, err = verb("classify", "train", *flags)
    assert status == 2 and "does not fit ResNet" in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_parts_of_a_folder_are_its_own(load, photographs, tmp_path):
    """`val` serves for both where there is no `test`; with both each is itself; else `val` is drawn
    from the training images, which are then not trained on."""
    module = load("classify")

    def parts(*names, **settings):
        root = tmp_path / "-".join(names)
        for name in names:
            shutil.copytree(photographs / ("train" if name == "train" else "test"), root / name)
        config = module.Config(data=f"folder:{root}", model="resnet8", image_size=8, **settings)
        return module.load(config)

    own = parts("train", "val")
    assert list(own.evaluations) == ["val"] and own.evaluations["val"].source.split == "val"
    own = parts("train", "val", "test")
    assert [e.source.split for e in own.evaluations.values()] == ["val", "test"]
    assert len(own.train.source) == len(data.open_source(f"folder:{photographs}", "train", None))
    drawn = parts("train", "test", validation=0.25)
    whole = parts("train", "test", "x", validation=0.0)
    assert list(drawn.evaluations) == ["val", "test"] and list(whole.evaluations) == ["test"]
    sizes = len(drawn.train.source), len(drawn.evaluations["val"].source)
    assert sum(sizes) == len(whole.train.source) and sizes[1] == round(sum(sizes) / 4)


@pytest.mark.usefixtures("all_examples")
def test_what_is_held_out_is_not_trained_on(load):
    module = load("classify")
    splits = module.load(module.PRESETS["laptop"])
    images = [
        {row.tobytes() for row in source.read(np.arange(len(source)))["image"]}
        for source in (splits.train.source, splits.evaluations["val"].source)
    ]
    assert len(images[1]) > 100 and not images[0] & images[1]
    again = module.load(module.PRESETS["laptop"]).evaluations["val"].source
    assert (
        again.read(np.arange(9))["label"]
        == splits.evaluations["val"].source.read(np.arange(9))["label"]
    ).all()


@pytest.mark.experiments
def test_ten_crops_of_the_image_itself_are_the_image_and_its_mirror():
    network = models.resnet.cifar(8, num_classes=4)
    x = np.random.default_rng(0).standard_normal((3, 8, 8, 1), np.float32)
    v = jax.jit(lambda x: network.init(jax.random.key(0), x, train=False))(x)
    p, mirrored = (
        jax.nn.softmax(classes.crop_logits(network, v, image, 0)) for image in (x, x[:, :, ::-1])
    )
    crops = jnp.exp(classes.crop_logits(network, v, x, 8))
    np.testing.assert_allclose(crops, (p + mirrored) / 2, rtol=1e-5)


@pytest.mark.experiments
@pytest.mark.usefixtures("all_examples")
def test_classic_methods_stand_beside_the_network(verb, tmp_path):
    run = tmp_path / "run"
    assert verb("classify", "train", "--model", "resnet8", "--run", run, *SHORT)[0] == 0
    status, out, err = verb("classify", "evaluate", "--run", run, "--baselines", "--json")
    assert status == 0, err
    figures = json.loads(out)
    assert figures["most frequent class"]["accuracy"] == pytest.approx(37 / 364)
    assert (
        figures["SVM, radial kernel"]["accuracy"] > 0.95
        and figures["random forest, 100 trees"]["accuracy"] > 0.95
    )
    assert all(
        figures[name]["fit seconds"] > 0
        for name in ("SVM, radial kernel", "random forest, 100 trees")
    )


@pytest.mark.experiments
@pytest.mark.parametrize(
    "preset", ["alexnet-2012", "googlenet-2014", "resnet-2015", "resnet-modern"]
)
def test_every_imagenet_preset_builds_and_its_step_can_be_traced(load, photographs, preset):
    """On a folder in place of ImageNet, a small batch, nothing compiled."""
    module = load("classify")
    config = dataclasses.replace(module.PRESETS[preset], data=f"folder:{photographs}", batch=4)
    splits = module.load(config)
    experiment = module.build(config, splits.spec)
    batch = splits.train(0)
    side = config.image_size or 224
    assert batch["image"].shape == (4, side, side, 3) and batch["image"].dtype == np.float32
    state = jax.eval_shape(experiment.learner.init, jax.random.key(0), batch)
    _, metrics = jax.eval_shape(experiment.learner.step, state, batch, jax.random.key(0))
    assert {"loss", "accuracy", "gradient_norm"} <= set(metrics)
    jax.eval_shape(experiment.learner.evaluate, state, splits.evaluations["test"][0])


def test_ten_crops_need_more_than_the_network_sees(verb, tmp_path):
    status, _, err = verb(
        "classify", "train", "--model", "resnet8", "--ten-crop", "--run", tmp_path / "run"
    )
    assert status == 2 and "--ten-crop" in err


def test_photographs_are_needed_where_they_are(verb, tmp_path):
    status, _, err = verb("classify", "train", "--model", "alexnet", "--run", tmp_path / "run")
    assert status == 2 and "alexnet takes photographs" in err


@pytest.mark.experiments
def test_the_heat_maps_are_of_a_selection_of_a_sorted_test_set(tmp_path, verb, monkeypatch):
    """Of two classes, one black and one white: the first rows are all black."""
    for split in ("train", "test"):
        for name, level in (("black", 0), ("white", 255)):
            (tmp_path / split / name).mkdir(parents=True)
            for n in range(24):
                Image.fromarray(np.full((8, 8), level, np.uint8)).save(
                    tmp_path / split / name / f"{n:02}.png"
                )
    shown = []
    section = present.heat_section
    monkeypatch.setattr(
        present,
        "heat_section",
        lambda images, *rest: shown.append(images) or section(images, *rest),
    )
    flags = ["--model", "resnet8", "--data", f"folder:{tmp_path}", "--run", tmp_path / "run"]
    status, _, err = verb("classify", "train", *flags, *SHORT)
    assert status == 0, err
    assert len(shown[0]) == 16 and 3 <= (shown[0].reshape(16, -1).max(1) == 255).sum() <= 13


@pytest.mark.experiments
@pytest.mark.parametrize("depth", [20])
@pytest.mark.usefixtures("all_examples")
def test_published_cifar_weights_are_evaluated_without_a_run_as_pytorch_does_it(
    depth, tmp_path, verb
):
    """A file in the form of pytorch_resnet_cifar10, of a network that was trained a little: every
    image is called the same."""
    torch = pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location(
        "cifar_reference", ROOT / "weights" / "cifar_reference.py"
    )
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    torch.manual_seed(0)
    network = reference.ResNet(depth)
    images = (
        np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    )
    x, label, rule = (
        reference.normalized(images),
        torch.arange(60) % 10,
        torch.optim.Adam(network.parameters(), 1e-2),
    )
    for _ in range(20):
        rule.zero_grad()
        torch.nn.functional.cross_entropy(network.train()(x), label).backward()
        rule.step()
    called = network.eval()(x).argmax(1).numpy()
    assert len(set(called)) > 3
    reference.save(network, tmp_path / "resnet.th")
    for n, image in enumerate(images):
        folder = tmp_path / "images" / "test" / f"class{n % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{n:02}.png")
    flags = [
        "--weights",
        tmp_path / "resnet.th",
        "--model",
        f"resnet{depth}",
        "--data",
        f"folder:{tmp_path / 'images'}",
    ]
    status, out, err = verb("classify", "evaluate", *flags, "--batch", 32, "--json")
    assert status == 0, err
    right = int((called == np.arange(60) % 10).sum())
    assert json.loads(out)["test/accuracy"] == pytest.approx(right / 60, abs=1e-6)
    confusion = np.array(json.loads(out)["test/confusion"])
    np.testing.assert_array_equal(confusion.sum(0), np.bincount(called, minlength=10))


@pytest.mark.experiments
def test_weights_of_other_classes_than_the_folders_are_refused(published, photographs, verb):
    flags = ["--weights", published[0], "--model", "resnet18", "--data", f"folder:{photographs}"]
    status, out, err = verb("classify", "evaluate", *flags)
    assert status == 2 and "does not fit" in err.strip().splitlines()[-1] and not out
