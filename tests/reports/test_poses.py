"""What is shown of persons in other poses: whose, and beside what."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from advdl import data, reports
from advdl.data import persons
from advdl.errors import UserError
from advdl.reports.poses import AT_LEAST, AT_MOST, judged

SIZE = (24, 16)
LABELS = ("ssim", "l1", "detail", "sharpness")


@pytest.fixture
def report():
    return reports.PoseReport("stage_1", lambda keypoints: None)


@pytest.fixture
def trained():
    """Drawn persons, and a network that gives back the condition."""
    source = persons.figures("test", SIZE)
    transform = data.to_float(-1.0, 1.0, "image", "target")
    return SimpleNamespace(
        spec=data.ImageSpec((*SIZE, 3)),
        splits=SimpleNamespace(evaluations={"test": data.EvalBatches(source, 8, transform)}),
        apply=lambda name, inputs, rows: {"stage_1": inputs["image"]},
    )


@pytest.mark.slow
def test_pairs_that_are_shown_are_from_all_of_the_test_split(report, trained, monkeypatch):
    test, asked = trained.splits.evaluations["test"], []
    examples = test.examples
    monkeypatch.setattr(test, "examples", lambda rows: asked.append(rows) or examples(rows))
    rows = report.rows(trained, 30)
    assert list(rows) == ["condition", "pose", "stage 1", "truth"]
    assert {len(images) for images in rows.values()} == {30}
    quarters = np.histogram(asked[0], 4, (0, len(test.source)))[0]
    assert quarters.min() > 2  # the first sixty rows would be of the first quarter


def test_the_truth_of_a_walk_is_of_the_persons_shown(report, trained, monkeypatch, tmp_path):
    walked = []
    monkeypatch.setattr(report, "walk", lambda *given: walked.append(given))
    report.walkers(trained, tmp_path / "walk.gif", 5)
    ((_, images, poses, _, truth),) = walked
    assert truth.shape == (24, *images.shape) and poses.shape == (24, 18, 3)
    background = np.broadcast_to(images[:, 0, 0], truth[:, :, 0, 0].shape)
    np.testing.assert_array_equal(truth[:, :, 0, 0], background)


def test_the_difference_of_stage_2_is_what_it_adds(trained):
    report = reports.PoseReport("stage_2", lambda keypoints: None)
    trained.apply = lambda name, inputs, rows: {
        "stage_1": inputs["image"],
        "stage_2": inputs["image"] + 0.5,
    }
    rows = report.rows(trained, 4)
    np.testing.assert_allclose(rows["difference"], 0.75)  # 0.5 in [-1, 1], shown in [0, 1]


def test_the_mean_of_the_training_targets_is_measured_on_every_test_example():
    targets = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    keypoints, transform = np.zeros((6, 18, 3)), data.to_float(-1.0, 1.0, "target")
    source = data.ArraySource("some", "train", {"target": targets, "target_keypoints": keypoints})
    splits = SimpleNamespace(
        train=SimpleNamespace(source=source),
        evaluations={"test": data.EvalBatches(source, 4, transform)},
    )

    def person(keypoints):
        return jnp.ones((len(keypoints), 4, 4))

    found = reports.PoseReport("stage_1", person).baselines(splits)["mean_target"]["l1"]
    x = targets / 127.5 - 1
    assert found == pytest.approx(np.abs(x - x.mean(0)).mean(), rel=1e-5)


def test_without_files_nothing_is_predicted(report, trained, tmp_path):
    options = SimpleNamespace(files=(), poses=(), pose_size=None)
    with pytest.raises(UserError, match="give their files"):
        report.predict(trained, options, tmp_path)


def test_stage_2_is_judged_beside_stage_1_by_how_far_its_detail_is_from_the_truths():
    """Too smooth and too noisy alike."""
    figures = {"test/condition/ssim": 0.4, "test/condition/l1": 0.2}
    figures |= {"test/truth/detail": 0.07, "test/truth/sharpness": 0.04}
    for stage, *measured in (
        ("stage_1", 0.8, 0.1, 0.08, 0.03),
        ("stage_2", 0.795, 0.11, 0.065, 0.036),
    ):
        figures |= {f"test/{stage}/{k}": v for k, v in zip(LABELS, measured, strict=True)}
    found = judged("stage_2", figures)
    assert found == pytest.approx(
        {
            "SSIM above the condition's": 0.395,
            "L1 of the person, times the condition's": 0.55,
            "SSIM above stage 1's": -0.005,
            "detail nearer to the truth's than stage 1's by": 0.005,
            "sharpness nearer to the truth's than stage 1's by": 0.006,
        }
    )
    noisy = judged("stage_2", figures | {"test/stage_2/detail": 0.095})
    assert noisy["detail nearer to the truth's than stage 1's by"] == pytest.approx(-0.015)
    assert set(AT_LEAST) | set(AT_MOST) == set(found) > set(judged("stage_1", figures))
