"""The page of generated images, by images that stand for a generator's."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from advdl import data, models, present, reports, train
from advdl.reports import discriminators, generated

NOISE = models.Noise("normal", 3)
LINE = {"train/value": -1.2, "train/d_accuracy": 0.6, "train/d_real": 0.6, "train/d_fake": 0.4}
LINE |= {f"train/{player}_loss": 1.0 for player in ("discriminator", "generator")}
LINE |= {f"train/{player}_gradient_norm": 1.0 for player in ("discriminator", "generator")}
LINE |= {"train/variety_data": 1.0, "train/variety_samples": 0.9}
TESTED = {"test/value": -1.3, "test/d_real": 0.5, "test/d_fake": 0.5, "val/fd_pixels": 2.0}


@pytest.fixture
def digits():
    return {split: data.open_source("digits", split) for split in ("train", "test")}


@pytest.fixture
def trained(digits, tmp_path):
    """`trained(sample, lines)`: a generator that is this function of `{"z", "label"}`."""

    def trained(sample, lines=({"step": 400} | LINE, {"step": 400} | TESTED)):
        run = train.Run(tmp_path)
        run.report.mkdir(exist_ok=True)
        splits = SimpleNamespace(
            train=data.TrainBatches(digits["train"], 8, 0),
            evaluations={"test": data.EvalBatches(digits["test"], 8)},
        )
        stub = SimpleNamespace(
            run=run,
            folder=run.report,
            spec=data.PixelMeansSpec.of(digits["train"]),
            splits=splits,
            step=400,
            lines=lambda: list(lines),
            apply=lambda name, inputs, rows: sample(inputs),
            frame=lambda folder: run.report / folder / "0000400.png",
            animation=lambda folder, milliseconds: "samples.png",
        )
        return stub

    return trained


@pytest.fixture
def report(monkeypatch):
    """Without the training of a network that tells samples from data."""
    monkeypatch.setattr(discriminators, "two_sample_accuracy", lambda real, fake: 0.75)
    return reports.GeneratedReport(NOISE, 0, ("val/fd_pixels", "min"))


def real_digits(digits):
    """A generator that draws test digits of the class that is asked for."""
    found = digits["test"].read(np.arange(len(digits["test"])))
    images = data.to_float(-1.0, 1.0)({"image": found["image"]})["image"]
    rows = [np.flatnonzero(found["label"] == k) for k in range(10)]

    def sample(inputs):
        pairs = zip(inputs["z"], inputs["label"], strict=True)
        return images[[rows[k][int(1000 * abs(z[0])) % len(rows[k])] for z, k in pairs]]

    return sample


def test_a_run_that_chooses_no_checkpoint_says_of_none():
    assert reports.GeneratedReport(NOISE, 0).kept([{"step": 400} | TESTED]) == {}


def test_noise_of_a_seed_is_drawn_of_the_classes_in_turn(report, trained):
    asked = {}
    report.draw(trained(lambda inputs: asked.update(inputs)), NOISE.of_seed(3, 25))
    np.testing.assert_array_equal(asked["label"], np.arange(25) % 10)
    np.testing.assert_array_equal(asked["z"], NOISE.of_seed(3, 25))


@pytest.mark.experiments
def test_a_generator_of_real_digits_has_worked(report, trained, digits, tmp_path):
    page = report.report(trained(real_digits(digits)))
    assert page.sentence == generated.WORKED and len(page.figures) == 3
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["holds"] and verdict["two_sample_accuracy"] == 0.75
    assert (verdict["best_step"], verdict["val/fd_pixels"]) == (400, 2.0)
    titles = [section.title for section in page.sections]
    assert {"Samples", "Classes", "The game", "Alarms"} <= set(titles)
    present.write_report(tmp_path / "report", "gan", page)  # every picture is there


@pytest.mark.experiments
def test_a_generator_of_one_image_has_not_worked(report, trained, digits, tmp_path):
    one = data.to_float(-1.0, 1.0)({"image": digits["train"].read(np.arange(1))["image"]})["image"]
    fallen = [{"step": t} | LINE | {"train/variety_samples": 0.01} for t in (200, 400)]
    stub = trained(
        lambda inputs: np.repeat(one, len(inputs["z"]), 0), [*fallen, {"step": 400} | TESTED]
    )
    page = report.report(stub)
    assert "samples have collapsed" in page.sentence
    assert "fewer than 3.3% of the samples are of each of" in page.sentence
    assert json.loads((tmp_path / "verdict.json").read_text())["holds"] is False


def test_a_prediction_opens_no_data_unless_it_is_to_be_compared(report, trained, tmp_path):
    stub = trained(lambda inputs: np.zeros((len(inputs["z"]), 8, 8, 1), np.float32))
    stub.splits = None
    options = SimpleNamespace(count=5, sample_seed=1, interpolations=2, compare=False, features="")
    found = report.predict(stub, options, tmp_path)
    assert found == {"samples": 5, "in the picture": 5, "folder": str(tmp_path)}
    assert np.load(tmp_path / "samples.npy").shape == (5, 8, 8, 1)
    assert (tmp_path / "samples.png").exists() and (tmp_path / "interpolations.png").exists()


def test_a_picture_of_many_samples_shows_some_that_the_seed_draws(
    report, trained, tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr(present, "draw_grid", lambda images, *_, **__: asked.append(images))
    stub = trained(lambda inputs: np.tile(inputs["z"][:, :1, None, None], (1, 8, 8, 1)))
    options = SimpleNamespace(count=1000, sample_seed=1, interpolations=2, compare=False)
    options.features = ""
    found = report.predict(stub, options, tmp_path)
    assert (found["samples"], found["in the picture"]) == (1000, 400)
    shown, all_of_them = asked[0][:, 0, 0, 0], np.load(tmp_path / "samples.npy")[:, 0, 0, 0]
    places = np.flatnonzero(np.isin(all_of_them, shown))
    assert len(shown) == len(places) == 400 and places[-1] > 900  # not the first of them


def test_rows_of_interpolations_lead_from_one_noise_to_another(report, trained, tmp_path):
    asked = []

    def sample(inputs):
        asked.append(inputs["z"])
        return np.zeros((len(inputs["z"]), 8, 8, 1), np.float32)

    report.interpolate(trained(sample), 5, 2, tmp_path, columns=4)
    rows, ends = asked[0].reshape(2, 4, 3), NOISE.of_seed(5, 4)
    np.testing.assert_allclose(rows[:, [0, -1]].reshape(4, 3), ends, rtol=1e-6)
    np.testing.assert_allclose(np.diff(rows, axis=1)[:, 0], np.diff(rows, axis=1)[:, 2], rtol=1e-4)


def test_the_guessing_sheet_has_as_many_of_both_and_the_answer_shows_which(tmp_path):
    real, made = np.full((30, 8, 8, 1), -0.5, np.float32), np.full((30, 8, 8, 1), 0.5, np.float32)
    section = present.guess_section(made, real, 0.75, tmp_path)
    assert section.figures["a fresh network is right, in shares"] == 0.75
    with Image.open(tmp_path / "guess.png") as guess, Image.open(tmp_path / "answer.png") as answer:
        shades = [np.asarray(picture.convert("L")) for picture in (guess, answer)]
    level = round(0.75 * 255)  # of those generated
    assert (shades[0] == level).sum() == (shades[1] == level).sum() > 0
    assert (shades[0] == round(0.25 * 255)).sum() == (shades[0] == level).sum()


@pytest.mark.parametrize(
    "change, said",
    [
        ({}, []),
        ({"train/value": -0.05, "train/d_accuracy": 1.0}, ["the discriminator has won"]),
        ({"train/value": -0.05}, []),
        ({"train/variety_samples": 0.05}, ["the samples have collapsed"]),
    ],
)
def test_alarms_are_of_200_steps_without_a_break(change, said):
    lines = [{"step": t} | LINE | change for t in (100, 200, 300)]
    told = train.Watch(reports.GAME_ALARMS).over(lines)
    assert [line.partition(" since")[0] for line in told] == said
    assert all("above -0.1" in line or "differ by 5.0%" in line for line in told)
    assert not train.Watch(reports.GAME_ALARMS).over([*lines[:1], {"step": 200} | LINE, lines[2]])
