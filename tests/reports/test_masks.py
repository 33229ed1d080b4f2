"""The report of networks that give each pixel a class, and predictions, on arrays."""

import json
import types

import numpy as np
import pytest
from PIL import Image

from advdl import data, metrics, reports, train
from advdl.errors import UserError

NAMES = ("one", "two", "three")
SPEC = data.SceneSpec((12, 10, 3), NAMES, palette=((1, 2, 3), (200, 0, 0), (0, 0, 250)))
RNG = np.random.default_rng(0)
MASKS = RNG.integers(0, 2, (6, 12, 10)).astype(np.uint8)
IMAGES = RNG.integers(0, 256, (6, 12, 10, 3)).astype(np.uint8)
LINES = [
    {"step": 1, "train/loss": 1.0, "train/pixel_accuracy": 0.3},
    {"step": 2, "test/loss": 0.9, "test/pixel_accuracy": 0.4, "test/mean_iou": 0.2},
]
AS_FLOAT = data.to_float(-1.0, 1.0)


class Trained(types.SimpleNamespace):
    """What a report asks of a `reports.Trained`; a test says what its functions give."""

    def __init__(self, folder, functions, masks=MASKS, images=IMAGES, counts=None, spec=SPEC):
        (folder / "report").mkdir()
        run = train.Run(folder)
        source = data.array_scenes("made", "test", images, masks, NAMES)
        test = data.EvalBatches(source, 4, AS_FLOAT)
        counts = np.eye(3, dtype=int) * 40 if counts is None else counts
        super().__init__(
            run=run,
            folder=run.report,
            spec=spec,
            splits=types.SimpleNamespace(evaluations={"test": test}),
            figures={"test/confusion": counts},
            asked=[],
        )
        self.functions = functions

    def apply(self, name, inputs, rows=64, **settings):
        self.asked.append((name, inputs["image"], settings))
        return self.functions[name](inputs["image"], **settings)

    def lines(self):
        return LINES


def box(x):
    """Sees 5 by 9 pixels."""
    sees = np.zeros(x.shape[:3], bool)
    sees[:, 3:8, 1:10] = True
    return sees


FUNCTIONS = {"classes": lambda x, samples: {"class": np.zeros(x.shape[:3], np.uint8)}, "sees": box}


def test_the_page_has_its_pictures_its_figures_and_a_verdict(tmp_path):
    counts = np.array([[30, 10, 0], [5, 15, 0], [0, 2, 8]])
    trained = Trained(tmp_path, FUNCTIONS, counts=counts)
    page = reports.MasksReport(paper={"mean_iou": 0.5})(trained)
    for picture in ("curves", "overlays", "confusion", "receptive_field"):
        with Image.open(trained.folder / f"{picture}.png") as image:
            assert min(image.size) > 64
    figure = page.figures[0]
    assert figure.label.startswith("mean IoU") and figure.paper == "50.0%"
    assert figure.value == f"{metrics.mean_iou(counts):.1%}"
    assert figure.baseline.startswith(f"{4 / 7 / 3:.1%}")  # 40 of 70 pixels are of the first class
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["holds"] and verdict["network"]["mean_iou"] == metrics.mean_iou(counts)
    assert verdict["most_frequent_class"]["pixel_accuracy"] == pytest.approx(4 / 7)
    sections = {section.title: section for section in page.sections}
    classes = sections["Classes"].figures
    assert list(classes) == list(NAMES) and classes["three"]["IoU"] == pytest.approx(0.8)
    assert classes["one"]["share that is found"] == pytest.approx(0.75)
    assert "9 pixels wide" in sections["What a pixel's score sees"].text


@pytest.mark.parametrize(
    "counts", [[[40, 0, 0], [20, 0, 0], [10, 0, 0]], [[10, 30, 0], [0, 20, 0], [0, 0, 8]]]
)
def test_a_network_that_is_no_better_than_the_most_frequent_class_has_learned_nothing(
    tmp_path, counts
):
    """In the mean IoU or in the pixels that are right."""
    page = reports.MasksReport()(Trained(tmp_path, FUNCTIONS, counts=np.array(counts)))
    assert "not learned" in page.sentence
    assert json.loads((tmp_path / "verdict.json").read_text())["holds"] is False


def test_worst_and_best_are_of_all_test_images(tmp_path, monkeypatch):
    """Of more than are looked at, from all of them and not from the first."""
    pixels = np.arange(900)[:, None, None, None] // 4 + np.zeros((1, 4, 4, 1), int)
    masks = np.zeros((900, 4, 4), np.uint8)
    trained = Trained(tmp_path, FUNCTIONS, masks, pixels.astype(np.uint8))
    shown = {}
    monkeypatch.setattr(
        reports.masks.present, "draw_overlays", lambda *given, **_: shown.update(images=given[0])
    )
    monkeypatch.setattr(
        reports.masks.present,
        "draw_receptive_field",
        lambda image, *_, **__: shown.update(seen=image),
    )
    page = reports.MasksReport()(trained)
    assert any("of 256 test images, drawn at random." in one.text for one in page.sections)
    assert (
        len(shown["images"]) == 256
        and np.histogram(shown["images"][:, 0, 0, 0], 5, (0, 225))[0].min() > 20
    )
    asked = np.concatenate([x for name, x, _ in trained.asked if name == "classes"])
    np.testing.assert_array_equal(asked, AS_FLOAT({"image": shown["images"]})["image"])
    (seen,) = [x for name, x, _ in trained.asked if name == "sees"]
    np.testing.assert_array_equal(seen[0], AS_FLOAT({"image": shown["seen"]})["image"])


def test_a_bayesian_network_is_shown_as_it_is_evaluated_and_where_it_is_uncertain(tmp_path):
    def classes(x, samples):
        uncertainty = np.zeros(x.shape[:3], np.float32)
        uncertainty[:, :6] = 1e-3
        return {"class": np.zeros(x.shape[:3], np.uint8), "uncertainty": uncertainty}

    trained = Trained(tmp_path, FUNCTIONS | {"classes": classes})
    page = reports.MasksReport(samples=7)(trained)
    asked = [settings for name, _, settings in trained.asked if name == "classes"]
    assert asked == [{"samples": 7}] * 2
    section = next(one for one in page.sections if one.title == "Uncertainty")
    assert "7 draws" in section.text and (trained.folder / section.pictures[0]).exists()


def predicted(folder, functions, **options):
    image = RNG.integers(0, 256, (7, 9, 3), np.uint8)
    Image.fromarray(image).save(folder / "photo.png")
    trained = Trained(folder, functions)
    trained.splits = None  # a prediction has no data
    files = [folder / "photo.png"]
    return trained, reports.predict_masks(trained, files, folder, AS_FLOAT, **options)


def test_a_prediction_is_a_mask_an_overlay_and_the_share_of_each_class(tmp_path):
    mask = np.full((1, 7, 9), 2, np.uint8)
    mask[0, 0, :5] = 0
    trained, answer = predicted(tmp_path, {"classes": lambda x, samples: {"class": mask}})
    shares = answer[str(tmp_path / "photo.png")]
    assert list(shares.items()) == [("three", 58 / 63), ("one", 5 / 63)]
    with Image.open(tmp_path / "photo_mask.png") as found:
        np.testing.assert_array_equal(np.asarray(found), mask[0])
    with Image.open(tmp_path / "photo_overlay.png") as found:
        assert found.size == (9, 7) and found.mode == "RGB"
    assert not (tmp_path / "photo_uncertainty.png").exists()
    name, x, settings = trained.asked[0]
    assert x.shape == (1, 7, 9, 3) and settings == {"samples": 0}


def test_a_prediction_by_sampling_shows_where_it_is_uncertain(tmp_path):
    uncertainty = np.zeros((1, 7, 9), np.float32)
    uncertainty[0, 3, 4] = 1e-3
    found = {"class": np.zeros((1, 7, 9), np.uint8), "uncertainty": uncertainty}
    trained, _ = predicted(tmp_path, {"classes": lambda x, samples: found}, samples=5)
    assert trained.asked[0][2] == {"samples": 5}
    with Image.open(tmp_path / "photo_uncertainty.png") as picture:
        pixels = np.asarray(picture, int)
    assert pixels[3, 4].sum() > pixels[3, 5].sum()


def test_a_prediction_without_files_says_what_it_needs(tmp_path):
    with pytest.raises(UserError, match="predict needs images"):
        reports.predict_masks(Trained(tmp_path, {}), [], tmp_path, AS_FLOAT)
