"""A person in another pose: what each stage trains, and runs of both that are whole."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from advdl import cli, train
from advdl.data import persons
from advdl.models import dcgan, pg2

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


def run(module, *flags):
    cli.main(module.load, module.build, module.PRESETS, module.Predict, list(map(str, flags)))


@pytest.fixture(scope="module")
def first(load, tmp_path_factory):
    """The folder of a finished run of stage 1."""
    folder = tmp_path_factory.mktemp("pose") / "one"
    run(load("gan_pose"), "train", "--run", folder, *SMALL, *EVERY, "--steps", 4)
    return folder


@pytest.fixture(scope="module")
def second(load, first):
    """That of a run of stage 2 on it."""
    folder = first.parent / "two"
    run(load("gan_pose"), "train", "--coarse", first, "--run", folder, *REFINE)
    return folder


def begun(pose, **changes):
    """(the experiment of stage 2, its first batch, its state before the first update)."""
    config = dataclasses.replace(pose.PRESETS["refine"], **{**TINY, **changes})
    splits = pose.load(config)
    experiment, batch = pose.build(config, splits.spec), splits.train(0)
    batch = {name: jnp.asarray(x) for name, x in batch.items()}
    return experiment, batch, jax.jit(experiment.learner.init)(jax.random.key(0), batch)


@pytest.mark.experiments
def test_a_run_of_stage_1_is_judged_beside_the_condition_and_goes_on(verb, tmp_path, first):
    test = json.loads((first / "summary.json").read_text())["test"]
    assert test["truth/l1"] == 0 and test["truth/ssim"] == pytest.approx(1)
    assert test["condition/l1"] > 0.1 and "stage_1/l1" in test
    judged = json.loads((first / "verdict.json").read_text())
    assert "stage 1 fails" in judged["verdict"] and "missed" in judged["verdict"]  # after 4 steps
    with Image.open(first / "report" / "walk.gif") as moving:
        assert moving.n_frames == 24
    shutil.copytree(first, tmp_path / "longer")
    status, _, err = verb(
        "gan_pose", "train", "--run", tmp_path / "longer", *SMALL, *EVERY, "--steps", 6
    )
    assert status == 0 and "resuming" in err, err


@pytest.mark.experiments
def test_stage_2_begins_with_stage_1_and_leaves_it_as_it_was(pose, first, second):
    _, _, one, _ = train.load_player(first, "gan_pose", "model")
    _, _, two, step = train.load_player(second, "gan_pose", "generator")
    assert step == 4 and train.digest(two["frozen"]["stage_1"]) == train.digest(one)
    experiment, batch, state = begun(pose, coarse=str(first))
    own = jax.device_get(state["generator"].variables)
    start = experiment.warm_start["generator"](own)(own)

    def drawn(variables):
        player = state["generator"].starting_from(variables)
        made = state.replace(players={**state.players, "generator": player})
        return jax.jit(experiment.learner.functions["draw"])(made, batch)

    made = drawn(start)
    np.testing.assert_array_equal(made["stage_1"], made["stage_2"])
    later = drawn(two)
    np.testing.assert_array_equal(later["stage_1"], made["stage_1"])
    assert (np.asarray(later["stage_1"]) != np.asarray(later["stage_2"])).any()
    test = json.loads((second / "summary.json").read_text())["test"]
    assert {"discriminator_prefers/stage_2_to_stage_1", "stage_2/ssim"} <= set(test)


@pytest.mark.experiments
def test_stage_2_begins_with_the_checkpoint_of_stage_1_that_is_asked_for(pose, first):
    lines = [json.loads(line) for line in (first / "metrics.jsonl").read_text().splitlines()]
    name = "val/stage_1/l1"
    figures = {line["step"]: line[name] for line in lines if name in line}
    for which, step in (("best", min(figures, key=figures.get)), ("2", 2), ("latest", 4)):
        experiment, _, state = begun(pose, coarse=str(first), coarse_checkpoint=which)
        own = state["generator"].variables
        start = experiment.warm_start["generator"](own)(own)
        _, stored = train.Checkpoints(first / "checkpoints").player("model", step)
        assert train.digest(start["frozen"]["stage_1"]) == train.digest(stored), which


@pytest.mark.experiments
def test_the_losses_are_the_papers(pose):
    """Of stage 2, from the networks' outputs, written out."""
    experiment, batch, state = begun(pose, coarse="any", reconstruction=7.0)
    made = np.asarray(experiment.learner.functions["draw"](state, batch)["stage_2"])
    new, metrics = jax.jit(experiment.learner.step)(state, batch, jax.random.key(1))
    limbs = persons.LIMBS
    mask = np.asarray(pg2.pose_mask(batch["target_keypoints"], limbs, (24, 16), 4.0))
    apart = (np.abs(made - np.asarray(batch["target"])) * (1 + mask[..., None])).mean()
    assert metrics["absolute_error"].compute() == pytest.approx(apart, rel=1e-5)
    judge = dcgan.Discriminator(width=4, kernel=5)
    pair = jnp.concatenate([batch["image"], jnp.asarray(made)], -1)
    (logit, _), _ = train.training(judge, new["discriminator"].variables, pair)
    adversarial = np.log1p(np.exp(-np.asarray(logit, np.float64))).mean()
    assert metrics["generator_loss"].compute() == pytest.approx(adversarial + 7 * apart, rel=1e-4)


@pytest.mark.experiments
def test_baselines_stand_beside(verb, first):
    status, out, err = verb("gan_pose", "evaluate", "--run", first, "--baselines", "--json")
    assert status == 0, err
    assert 0 < json.loads(out)["mean_target"]["ssim"] < 1


@pytest.mark.experiments
def test_a_person_of_ones_own_in_poses_from_files(verb, tmp_path, second):
    """Without the data, and without the run of stage 1."""
    shutil.copytree(second, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["config"] |= {"coarse": str(tmp_path / "gone"), "data": "folder:gone"}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
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
        tmp_path / "run",
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--image-size", 44, 32], "do not halve 3 times"),
        (["--radius", 0], "--radius is 0.0; expected more than 0"),
        (["--data", "digits"], "no pairs 'digits'"),
        (["--preset", "refine", "--batch", 1], "--batch is 1; expected at least 2"),
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
