"""The report on classes, on arrays: what it draws and says of outputs that are known."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from advdl import data, models, present
from advdl.errors import UserError
from advdl.reports import classes
from advdl.reports.trained import course, learning_section

NAMES = ("zero", "one", "two")
PIXELS = models.classifier("resnet20").build().pixels
LOOK = data.Preprocessing(pixels=PIXELS)


def trained(tmp_path, label, logits):
    """A trained classifier whose logits are given, of 8 by 8 gray images whose level is the row."""
    images = (
        np.zeros((len(label), 8, 8, 1), np.uint8)
        + np.arange(len(label), dtype=np.uint8)[:, None, None, None]
    )
    source = data.ArraySource("known", "test", {"image": images, "label": np.array(label)}, NAMES)
    batches = data.EvalBatches(source, 4, LOOK.normalize())

    def apply(name, inputs, rows=64, **settings):
        level = PIXELS.to_bytes(inputs["image"])[:, 0, 0, 0]
        return {
            "logits": logits[level],
            "features": inputs["image"].mean((1, 2, 3)),
            "heat": {"heat": np.ones((len(level), 4, 4)), "label": logits[level].argmax(1)},
        }[name]

    folder = tmp_path / "report"
    folder.mkdir()
    counts = np.zeros((3, 3))
    np.add.at(counts, (np.array(label), logits.argmax(1)), 1)
    right = float((logits.argmax(1) == label).mean())
    return SimpleNamespace(
        folder=folder,
        spec=data.ImageSpec((8, 8, 1), NAMES),
        splits=SimpleNamespace(evaluations={"test": batches}),
        figures={
            "test/accuracy": right, "test/top_5_accuracy": 1.0, "test/loss": 0.5,
            "test/confusion": counts,
        },
        apply=apply,
        lines=lambda: lines("test"),
    )  # fmt: skip


def given(tmp_path):
    label = [0, 0, 0, 0, 1, 2, 0]
    logits = np.eye(3)[[0, 0, 1, 0, 1, 0, 0]] * 5
    return trained(tmp_path, label, logits)


def test_mistakes_are_all_that_was_taken_for_another_class(tmp_path):
    own = given(tmp_path)
    images, label, p_NK = classes.ClassesReport(None, LOOK).mistakes(own, "test")
    assert images[:, 0, 0, 0].tolist() == [2, 5] and label.tolist() == [0, 2]
    np.testing.assert_allclose(p_NK.sum(1), 1, rtol=1e-6)
    assert p_NK.argmax(1).tolist() == [1, 0]


def test_no_mistake_is_no_picture(tmp_path):
    own = trained(tmp_path, [0, 1, 2], np.eye(3) * 4)
    assert classes.ClassesReport(None, LOOK).mistakes(own, "test") == []


def test_the_page_opens_with_predictions_and_the_baseline(tmp_path, monkeypatch):
    own = given(tmp_path)
    network = models.resnet.cifar(8, num_classes=3)
    shapes = models.abstract(network, (8, 8, 1))
    import jax

    variables = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
    own.variables = lambda player="model": variables
    page = classes.ClassesReport(network, LOOK, published="9 of 10 (paper)").report(own)
    accuracy = page.figures[0]
    assert accuracy.value == "71.43%" and accuracy.baseline == "always zero: 71.4%"
    assert accuracy.paper == "9 of 10 (paper)" and "not far from" in page.sentence
    titles = [section.title for section in page.sections]
    assert titles == ["Learning", "Confusion", "Taken for something else", "Where it looks",
                      "First layer"]  # fmt: skip
    assert (own.folder / page.picture.path).stat().st_size > 500


def options(**changes):
    return SimpleNamespace(**({"files": (), "export": "", "features": "", "top": 2} | changes))


def test_a_prediction_needs_files(tmp_path):
    with pytest.raises(UserError, match="image files"):
        classes.ClassesReport(None, LOOK).predict(given(tmp_path), options(), tmp_path)


def test_a_prediction_names_the_likeliest_classes(tmp_path):
    from PIL import Image

    own, files = given(tmp_path), []
    for level in (4, 2):
        files.append(tmp_path / f"{level}.png")
        Image.fromarray(np.full((8, 8), level, np.uint8)).save(files[-1])
    answer = classes.ClassesReport(None, LOOK).predict(own, options(files=tuple(files)), tmp_path)
    assert [list(answer[str(f)])[0] for f in files] == ["one", "one"]
    assert all(len(named) == 2 for named in answer.values())
    assert answer[str(files[0])]["one"] == pytest.approx(np.exp(5) / (np.exp(5) + 2), rel=1e-6)


@pytest.mark.parametrize("crop", [0, 6])
def test_predictions_and_heat_are_of_the_size_that_is_evaluated(tmp_path, crop):
    """Not of the one that is trained on; of images for ten crops, of the one in the middle."""
    from PIL import Image

    path, asked = tmp_path / "photo.png", {}
    Image.fromarray(np.full((20, 30), 3, np.uint8)).save(path)
    look = data.Preprocessing(4, 6, 8, "inception", PIXELS)
    network = models.resnet.cifar(8, num_classes=3)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (5, 8 if crop else 6, 8 if crop else 6, 1), np.uint8)
    source = data.ArraySource("known", "test", {"image": images, "label": np.zeros(5)}, NAMES)

    def apply(name, inputs, rows=64, **settings):
        asked[name] = inputs["image"].shape
        count = len(inputs["image"])
        return {
            "logits": np.zeros((count, 3)),
            "features": np.zeros((count, 2)),
            "heat": {"heat": np.ones((count, 2, 2)), "label": np.zeros(count, int)},
        }[name]

    own = SimpleNamespace(
        folder=tmp_path,
        spec=data.ImageSpec((4, 4, 1), NAMES),
        splits=SimpleNamespace(evaluations={"test": data.EvalBatches(source, 4)}),
        apply=apply,
        variables=lambda: models.abstract(network, (4, 4, 1)),
    )
    report = classes.ClassesReport(network, look, crop)
    report.predict(own, options(files=(path,), features="stage1"), tmp_path)
    report.looks(own, "test")
    seen = (8, 8, 1) if crop else (6, 6, 1)
    assert asked == {"logits": (1, *seen), "features": (1, 6, 6, 1), "heat": (5, 6, 6, 1)}


def test_logits_of_ten_crops_take_images_that_are_larger_than_the_network_sees():
    network = models.alexnet.AlexNet(num_classes=2)
    logits = classes.functions(network, 112)["logits"]
    images = {"image": jax.ShapeDtypeStruct((3, 128, 128, 3), np.float32)}
    found = jax.eval_shape(logits, models.abstract(network, (112, 112, 3)), images)
    assert found.shape == (3, 2)


def lines(*splits):
    """Two lines of metrics.jsonl."""
    names = [f"{part}/{name}" for part in ("train", *splits) for name in ("loss", "accuracy")]
    return [{"step": n} | {name: 1 / n for name in names} for n in (1, 2)]


def test_learning_draws_each_evaluation(tmp_path):
    evaluations = dict.fromkeys(("val", "test"))
    own = SimpleNamespace(
        folder=tmp_path,
        splits=SimpleNamespace(evaluations=evaluations),
        lines=lambda: lines(*evaluations),
    )
    series = course(own, "loss")
    assert series == {"training batches": "train/loss", "val": "val/loss", "test": "test/loss"}
    section = learning_section(own, present.Panel("cross-entropy", series))
    assert (tmp_path / "curves.png").exists() and section.pictures == ["curves.png"]
