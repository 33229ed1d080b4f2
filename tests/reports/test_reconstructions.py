"""Reports on auto-encoders, of a code that is half of an image's pixels and a decoder that knows
the rest."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from advdl import data, present, train
from advdl.errors import UserError
from advdl.nn import Corruption
from advdl.reports import ReconstructionsReport, reconstructions

RNG = np.random.default_rng(0)
NAMES = ("a", "b", "c")


def images(split, count):
    """Of two columns, the second one half of the first; their brightness is their class."""
    label = np.repeat(np.arange(3), count // 3)
    left = RNG.integers(0, 60, (len(label), 2, 1, 1)) + 60 * label[:, None, None, None]
    pixels = np.concatenate([left, left // 2], 2).astype(np.uint8)
    return data.ArraySource("made", split, {"image": pixels, "label": label}, NAMES)


@pytest.fixture
def trained(tmp_path):
    transform = data.to_float(0.0, 1.0)
    splits = SimpleNamespace(
        train=data.TrainBatches(images("train", 90), 8, 0, transform),
        evaluations={"test": data.EvalBatches(images("test", 60), 8, transform)},
    )

    def apply(name, inputs, rows=64):
        if name == "encode":
            return inputs["image"][:, :, 0, 0]
        left = inputs["code"][:, :, None, None]
        return np.concatenate([left, left / 2], 2)

    run = train.Run(tmp_path / "run")
    run.report.mkdir(parents=True)
    line = {"step": 2, "train/mse": 0.2, "test/mse": 0.1, "train/elbo": -2.0, "test/elbo": -1.0}
    return SimpleNamespace(
        spec=data.ImageSpec((2, 2, 1), NAMES, low=0.0),
        splits=splits,
        apply=apply,
        run=run,
        folder=run.report,
        lines=lambda: [line],
        figures={"test/mse": 0.1, "test/elbo": -1.0, "test/kl": 0.5},
    )


@pytest.mark.slow
@pytest.mark.parametrize("variational", [False, True])
def test_a_report_draws_what_the_network_has(trained, variational):
    page = ReconstructionsReport(2, variational)(trained)
    pictures = {path.stem for path in trained.folder.glob("*.png")}
    assert {"curves", "reconstructions", "line", "map"} <= pictures
    assert ("samples" in pictures) == ("plane" in pictures) == variational
    found = json.loads((trained.run.folder / "verdict.json").read_text())
    assert found["mse"] == 0.1 and set(found["linear"]) == {"mean_image", "pca"}
    assert found["linear"]["pca"] < 1e-3 < found["linear"]["mean_image"]  # two numbers are enough
    assert "the best linear method, PCA of 2" in page.sentence == found["verdict"]
    assert page.figures[0] == present.Figure(
        "mean squared error of a pixel", 0.1, f"{found['linear']['pca']:.3g}, PCA of 2"
    )
    present.write_report(trained.folder, "a run", page)


def test_noise_is_drawn_and_measured_beside_what_the_wiener_filter_makes_of_it(trained):
    trained.figures["test/noisy_mse"] = 0.04
    report = ReconstructionsReport(1, noise=Corruption("gaussian", 0.2))
    page = report(trained)
    found = json.loads((trained.run.folder / "verdict.json").read_text())
    assert set(found["linear"]) == {"mean_image", "pca", "wiener"} and found["noisy_mse"] == 0.04
    assert report.baselines(trained.splits) == {
        name: {"mse": error} for name, error in found["linear"].items()
    }
    assert not (trained.folder / "map.png").exists()  # a single number has no map
    assert page.sections[0].figures["the noise"] == 0.04
    test = report.examples(trained.splits)
    error = np.square(test["given"] - test["image"]).mean()
    assert error == pytest.approx(0.2**2, rel=0.15)
    noise = np.asarray(Corruption("gaussian", 0.2)(fold_in(7), test["image"][0])) - test["image"][0]
    np.testing.assert_allclose(test["given"][7] - test["image"][7], noise, atol=1e-6)


def fold_in(index):
    import jax

    return jax.random.fold_in(jax.random.key(0), index)


def test_examples_are_of_every_class_where_they_are_sorted_by_class_and_keep_their_rows():
    pixels = RNG.integers(0, 256, (600, 2, 2, 1), dtype=np.uint8)
    source = data.ArraySource(
        "sorted", "test", {"image": pixels, "label": np.repeat([0, 1, 2], 200)}, NAMES
    )
    test = data.EvalBatches(source, 8, data.to_float(0.0, 1.0))
    found = ReconstructionsReport(2).examples(SimpleNamespace(evaluations={"test": test}), 60)
    assert np.bincount(found["label"], minlength=3).min() > 8
    np.testing.assert_allclose(
        found["image"], pixels[found["index"]] / 255, atol=1e-6
    )  # so that each gets the noise of its own row


def test_a_line_leads_to_another_half_of_the_codes(trained, monkeypatch):
    """Codes of images sorted by class: neighbors would be of one class."""
    drawn = []
    monkeypatch.setattr(present, "draw_grid", lambda images, *_, **__: drawn.append(images))
    trained.apply = lambda name, inputs: inputs["code"]
    ReconstructionsReport(1).line(trained, np.arange(8.0)[:, None], columns=3)
    np.testing.assert_allclose(drawn[0].reshape(4, 3), [[n, n + 2, n + 4] for n in range(4)])


def test_more_pixels_than_fit_leave_the_linear_methods_out(trained, monkeypatch):
    monkeypatch.setattr(reconstructions, "LARGEST", 100)
    page = ReconstructionsReport(2)(trained)
    assert page.figures[0].baseline == "" and "linear" not in page.sentence
    with pytest.raises(UserError, match="--image-size"):
        ReconstructionsReport(2).baselines(trained.splits)


def test_predictions_are_images_and_codes(trained, tmp_path):
    report, files = ReconstructionsReport(2), [tmp_path / "one.png", tmp_path / "two.png"]
    for path, right in zip(files, (50, 80), strict=True):
        Image.fromarray(np.array([[100, right]] * 2, np.uint8)).save(path)
    found = report.predict(trained, SimpleNamespace(files=files), tmp_path)
    assert found[str(files[0])]["mse"] == pytest.approx(0, abs=1e-9)
    assert found[str(files[1])]["mse"] == pytest.approx((30 / 255) ** 2 / 2)
    with Image.open(tmp_path / "two_reconstruction.png") as made:
        assert np.asarray(made).tolist() == [[100, 50]] * 2
    with np.load(tmp_path / "codes.npz") as codes:
        np.testing.assert_allclose(codes[str(files[0])], 100 / 255)
    for given, line in (
        ([], "needs images"),
        ([tmp_path / "x" / "one.png", files[0]], "the same name"),
    ):
        with pytest.raises(UserError, match=line):
            report.predict(trained, SimpleNamespace(files=given), tmp_path)
