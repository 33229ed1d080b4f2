"""A person in another pose: what each stage trains, and runs of both that are whole."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from advdl import train
from advdl.data import persons

TINY = dict(width=4, levels=2, batch=8, image_size=(24, 16), discriminator_width=4)
SMALL = [
    "--width",
    4,
    "--levels",
    2,
    "--batch",
    8,
    "--image-size",
    24,
    16,
    "--discriminator-width",
    4,
]
EVERY = ["--evaluate-every", 2, "--log-every", 2, "--save-every", 2]
REFINE = ["--preset", "refine", *SMALL, *EVERY, "--steps", 4]


@pytest.fixture(scope="module")
def pose(load):
    return load("gan_pose")


@pytest.fixture(scope="module")
def first(load, tmp_path_factory):
    """The folder of a finished run of stage 1."""
    from advdl import cli

    module, folder = load("gan_pose"), tmp_path_factory.mktemp("pose") / "one"
    cli.main(
        module.build,
        module.PRESETS,
        module.Predict,
        ["train", "--run", str(folder), *map(str, [*SMALL, *EVERY, "--steps", 4])],
    )
    return folder


@pytest.fixture(scope="module")
def second(load, first):
    """That of a run of stage 2 on it."""
    from advdl import cli

    module, folder = load("gan_pose"), first.parent / "two"
    flags = ["train", "--coarse", first, "--run", folder, *REFINE]
    cli.main(module.build, module.PRESETS, module.Predict, list(map(str, flags)))
    return folder


@pytest.mark.experiments
def test_a_run_of_stage_1_is_judged_beside_the_condition_and_goes_on(verb, tmp_path, first):
    test = json.loads((first / "summary.json").read_text())["test"]
    assert test["truth/L1 of the person"] == 0 and test[
        "truth/SSIM around the person"
    ] == pytest.approx(1)
    assert test["condition/L1 of the person"] > 0.1 and "stage 1/L1 of the person" in test
    judged = json.loads((first / "verdict.json").read_text())
    assert (
        "stage 1 fails" in judged["verdict"] and "missed" in judged["verdict"]
    )  # after four steps
    with Image.open(first / "report" / "walk.gif") as moving:
        assert moving.n_frames == 24
    shutil.copytree(first, tmp_path / "longer")
    status, _, err = verb(
        "gan_pose", "train", "--run", tmp_path / "longer", *SMALL, *EVERY, "--steps", 6
    )
    assert status == 0 and "resuming" in err, err


@pytest.mark.experiments
def test_stage_2_begins_with_stage_1_and_leaves_it_as_it_was(pose, first, second):
    _, one, _ = train.trained_player(first, "gan_pose", "model")
    step, two = train.Checkpoints(second / "checkpoints").player("generator")
    assert step == 4
    config = dataclasses.replace(pose.PRESETS["refine"], coarse=str(first), **TINY)
    painter, experiment = pose.Painter(config), pose.build(config)
    batch = experiment.train(0)
    begun = experiment.warm_start["generator"](painter.init_fine(jax.random.key(0), batch))
    made = jax.jit(painter.draw)(begun, batch["image"], batch["target_keypoints"])
    np.testing.assert_array_equal(made["stage 1"], made["stage 2"])
    later = jax.jit(painter.draw)(two, batch["image"], batch["target_keypoints"])
    assert (np.asarray(later["stage 1"]) != np.asarray(later["stage 2"])).any()
    test = json.loads((second / "summary.json").read_text())["test"]
    assert {"D prefers/stage 2 to stage 1", "stage 2/SSIM around the person"} <= set(test)
    stored = train.Checkpoints(second / "checkpoints")
    assert train.digest(two["coarse"]) == train.digest(one["params"]) and stored.steps()[0] == 4


@pytest.mark.experiments
def test_stage_2_begins_with_the_checkpoint_of_stage_1_that_is_asked_for(pose, first):
    lines = [json.loads(line) for line in (first / "metrics.jsonl").read_text().splitlines()]
    figures = {
        line["step"]: line[f"test/stage 1/{pose.APART}"]
        for line in lines
        if f"test/stage 1/{pose.APART}" in line
    }
    for which, step in (("best", min(figures, key=figures.get)), ("2", 2), ("latest", 4)):
        config = dataclasses.replace(
            pose.PRESETS["refine"], coarse=str(first), coarse_checkpoint=which, **TINY
        )
        experiment, painter = pose.build(config), pose.Painter(config)
        begun = experiment.warm_start["generator"](
            painter.init_fine(jax.random.key(0), experiment.train(0))
        )
        _, stored = train.Checkpoints(first / "checkpoints").player("model", step)
        assert train.digest(begun["coarse"]) == train.digest(stored["params"]), which


@pytest.mark.experiments
def test_the_losses_are_the_papers(pose):
    """Of stage 2, from the networks' outputs, written out."""
    config = dataclasses.replace(pose.PRESETS["refine"], coarse="any", reconstruction=7.0, **TINY)
    painter, experiment = pose.Painter(config), pose.build(config)
    batch = {name: jnp.asarray(x) for name, x in experiment.train(0).items()}
    learner = experiment.learner
    state = jax.jit(learner.init)(jax.random.key(0), batch)
    new, metrics = jax.jit(learner.step)(state, batch, jax.random.key(1))
    made = np.asarray(
        painter.draw(state["generator"].variables, batch["image"], batch["target_keypoints"])[
            "stage 2"
        ]
    )
    mask = np.asarray(painter.mask(batch["target_keypoints"]))
    apart = (np.abs(made - np.asarray(batch["target"])) * (1 + mask[..., None])).mean()
    assert metrics["absolute error"].compute() == pytest.approx(apart, rel=1e-5)
    judge = pose.dcgan.Discriminator(width=4, kernel=5)
    pair = jnp.concatenate([batch["image"], jnp.asarray(made)], -1)
    (logit, _), _ = judge.apply(
        new["discriminator"].variables, pair, train=True, mutable=["batch_stats"]
    )
    adversarial = np.log1p(np.exp(-np.asarray(logit, np.float64))).mean()
    assert metrics["generator_loss"].compute() == pytest.approx(adversarial + 7 * apart, rel=1e-4)


@pytest.fixture
def album(pose, monkeypatch):
    """Of held-out drawn persons, with nobody who paints."""
    painter = pose.Painter(dataclasses.replace(pose.PRESETS["laptop"], **TINY))
    monkeypatch.setattr(pose.Album, "draw", lambda self, state, image, keypoints: {})
    return pose.Album(painter, persons.figures("test", (24, 16)))


def test_pairs_that_are_shown_are_from_all_held_out_ones(album, monkeypatch):
    asked, read = [], album.held_out.read
    monkeypatch.setattr(album.held_out, "read", lambda rows: asked.append(rows) or read(rows))
    rows = album.rows(None, 30)
    assert {len(images) for images in rows.values()} == {30}
    quarters = np.histogram(asked[0], 4, (0, len(album.held_out)))[0]
    assert quarters.min() > 2  # the first sixty rows would be of the first quarter


def test_the_truth_of_a_walk_is_of_the_persons_shown(album, monkeypatch, tmp_path):
    walked = []
    monkeypatch.setattr(
        album, "walk", lambda state, images, poses, path, truth: walked.append((images, truth))
    )
    album.walkers(None, tmp_path / "walk.gif", 5)
    ((images, truth),) = walked
    assert truth.shape == (24, *images.shape)
    np.testing.assert_array_equal(
        truth[:, :, 0, 0], np.broadcast_to(images[:, 0, 0], truth[:, :, 0, 0].shape)
    )  # background


@pytest.mark.experiments
def test_baselines_stand_beside(verb, first):
    status, out, err = verb("gan_pose", "evaluate", "--run", first, "--baselines", "--json")
    assert status == 0, err
    found = json.loads(out)["mean of the training targets"]
    assert 0 < found["SSIM around the person"] < 1


@pytest.mark.experiments
def test_a_person_of_ones_own_in_poses_from_files(verb, tmp_path, second):
    Image.new("RGB", (60, 90), (90, 120, 200)).save(tmp_path / "me.png")
    points = persons.scaled(persons.skeleton(persons.walk(2)), 90)
    for n, pose in enumerate(points):
        people = [{"pose_keypoints_2d": pose.reshape(-1).tolist()}]
        (tmp_path / f"{n}.json").write_text(json.dumps({"people": people}))
    common = [
        "gan_pose",
        "predict",
        tmp_path / "me.png",
        "--run",
        second,
        "--out",
        tmp_path / "out",
    ]
    status, _, err = verb(*common, "--poses", tmp_path / "0.json", tmp_path / "1.json")
    assert status == 0, err
    with Image.open(tmp_path / "out" / "me_poses.gif") as moving:
        assert moving.n_frames == 2
    status, _, err = verb(*common)
    assert status == 0 and (tmp_path / "out" / "me_poses.png").exists(), err
    (tmp_path / "hand.json").write_text(json.dumps({"people": [{"pose_keypoints_2d": [1.0] * 63}]}))
    status, _, err = verb(*common, "--poses", tmp_path / "hand.json")
    assert status == 2 and "21 keypoints" in err and err.count("\n") == 1


@pytest.mark.experiments
def test_photographs_of_ones_own_with_their_keypoints_are_trained_on(verb, tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for person in ("0001", "0002"):
            (tmp_path / split / person).mkdir(parents=True)
            for n, pose in enumerate(
                persons.scaled(persons.skeleton(rng.random((3, persons.ANGLES))), 60)
            ):
                file = tmp_path / split / person / f"{n}.png"
                Image.fromarray(rng.integers(0, 255, (60, 40, 3), dtype=np.uint8)).save(file)
                people = [{"pose_keypoints_2d": pose.reshape(-1).tolist()}]
                file.with_name(f"{n}_keypoints.json").write_text(json.dumps({"people": people}))
    status, _, err = verb(
        "gan_pose",
        "train",
        "--data",
        f"folder:{tmp_path}",
        "--run",
        tmp_path / "run",
        *SMALL,
        *EVERY,
        "--steps",
        2,
    )
    assert status == 0, err
    with Image.open(tmp_path / "run" / "report" / "walk.gif") as moving:
        assert moving.n_frames == 24


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--image-size", 44, 32], "does not halve 3 times"),
        (["--radius", 0], "--radius is 0"),
        (["--data", "digits"], "no pairs 'digits'"),
        (["--preset", "refine", "--batch", 1], "--batch 1"),
        (["--coarse-checkpoint", "best"], "give that run as --coarse"),
        (
            [*REFINE, "--coarse-checkpoint", "first"],
            "--coarse-checkpoint is 'first'; expected latest, best or",
        ),
        (
            [*REFINE, "--coarse", "nowhere"],
            "first: python experiments/gan_pose.py train --run nowhere",
        ),
    ],
)
def test_what_cannot_be_is_told_in_one_line(verb, tmp_path, flags, line):
    status, _, err = verb("gan_pose", "train", "--run", tmp_path / "run", *flags)
    assert status == 2 and line in err and err.count("\n") == 1, err


@pytest.mark.experiments
def test_a_stage_1_of_another_width_is_refused(verb, tmp_path, first):
    flags = ["--preset", "refine", "--coarse", first, "--width", 8, *SMALL[2:]]
    status, _, err = verb("gan_pose", "train", "--run", tmp_path / "run", *flags)
    assert (
        status == 2
        and "is of another network" in err
        and not (tmp_path / "run" / "checkpoints").exists()
    )
