"""Experiments through every verb, in tiny."""

import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from advdl import cli, data, train
from advdl.cli import bench
from advdl.metrics import Mean

TINY = {
    "gan": [
        "--preset",
        "digits",
        "--width",
        8,
        "--batch",
        16,
        "--ema",
        0.9,
        "--steps",
        6,
        "--evaluate-every",
        3,
        "--log-every",
        2,
    ],
    "classify": [
        "--model",
        "resnet8",
        "--batch",
        16,
        "--ema",
        0.9,
        "--steps",
        6,
        "--evaluate-every",
        3,
        "--log-every",
        2,
    ],
    "autoencode": [
        "--hidden",
        "32",
        "--noise",
        0.25,
        "--batch",
        16,
        "--steps",
        6,
        "--evaluate-every",
        3,
        "--log-every",
        2,
    ],
}


@pytest.fixture(scope="module")
def finished(load, tmp_path_factory):
    """`finished("gan")`: the folder of a tiny finished run."""

    @functools.cache
    def finished(name):
        module, folder = load(name), tmp_path_factory.mktemp(name) / "run"
        cli.main(
            module.load,
            module.build,
            module.PRESETS,
            module.Predict,
            ["train", "--run", str(folder), *map(str, TINY[name])],
        )
        return folder

    return finished


@pytest.fixture(params=sorted(TINY))
def run(request, finished):
    """(experiment, folder) of each."""
    return request.param, finished(request.param)


@pytest.mark.experiments
def test_train_writes_the_run_folder(run):
    name, folder = run
    assert json.loads((folder / "config.json").read_text())["experiment"] == name
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/seconds" in line] == [2, 4, 6]
    assert [line["step"] for line in lines if "train/seconds" not in line] == [3, 6]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 6 and len(summary["digest"]) == 64 and summary["versions"]["jax"]
    assert all(np.isfinite(value) for value in summary["test"].values())
    assert list(folder.glob("events.out.tfevents.*")) and (folder / "checkpoints" / "6").is_dir()
    html = (folder / "report" / "report.html").read_text()
    pictures = [p for p in (folder / "report").rglob("*") if p.suffix in (".png", ".gif")]
    assert pictures
    for picture in pictures:
        with Image.open(picture) as image:
            image.load()
            assert min(image.size) > 16
    assert all(
        f'src="{name}"' not in html or (folder / "report" / name).exists()
        for name in html.split('src="')[1:]
    )


@pytest.mark.experiments
def test_evaluate_agrees_with_the_end_of_training_and_writes_nothing(run, verb):
    name, folder = run
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    status, out, err = verb(name, "evaluate", "--run", folder, "--json")
    assert status == 0, err
    summary = json.loads((folder / "summary.json").read_text())
    figures = {name.removeprefix("test/"): value for name, value in json.loads(out).items()}
    assert {k: figures[k] for k in summary["test"]} == pytest.approx(summary["test"])
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


@pytest.mark.experiments
def test_evaluation_counts_every_example_once_whatever_the_batch(run, verb):
    name, folder = run
    figures = [
        json.loads(verb(name, "evaluate", "--run", folder, "--json", *flags)[1])
        for flags in (
            [],
            ["--batch", 7],
            ["--batch", 24, "--placement", "mesh", "--mesh", "data=4,fsdp=2"],
        )
    ]
    for other in figures[1:]:
        for key, value in figures[0].items():
            np.testing.assert_allclose(other[key], value, rtol=2e-4, err_msg=key)


@pytest.mark.experiments
def test_help_names_every_common_flag(run, verb):
    name, _ = run
    for what in ("train", "evaluate", "bench"):
        status, out, _ = verb(name, what, "--help")
        flags = (
            "--run --data --data-dir --steps --batch --seed --placement --mesh --preset"
            " --learning-rate --precision --json"
        )
        assert status == 0 and all(f"{flag} " in out for flag in flags.split())
    status, out, _ = verb(name)
    assert status == 2 and "train" in out and "bench" in out


@pytest.mark.experiments
def test_gan_predict_draws_what_the_seed_says(finished, verb, tmp_path):
    folder, grids = finished("gan"), []
    for place, seed in (("a", 1), ("b", 1), ("c", 2)):
        status, out, err = verb(
            "gan",
            "predict",
            "--run",
            folder,
            "--out",
            tmp_path / place,
            "--sample-seed",
            seed,
            "--count",
            20,
            "--json",
        )
        assert status == 0, err
        assert json.loads(out)["samples"] == 20
        grids.append((tmp_path / place / "samples.png").read_bytes())
        assert (tmp_path / place / "interpolations.png").exists()
        assert np.load(tmp_path / place / "samples.npy").shape == (20, 8, 8, 1)
    assert grids[0] == grids[1] != grids[2]


@pytest.mark.experiments
def test_classify_predict_names_classes_of_files(finished, verb, tmp_path):
    folder = finished("classify")
    rng = np.random.default_rng(0)
    paths = [tmp_path / "gray.png", tmp_path / "color.jpg"]
    Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(paths[0])
    Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(paths[1])
    status, out, err = verb("classify", "predict", *paths, "--run", folder, "--top", 10, "--json")
    assert status == 0, err
    answer = json.loads(out)
    assert list(answer) == [str(path) for path in paths]
    for classes in answer.values():
        assert sorted(classes) == [str(digit) for digit in range(10)]
        assert sum(classes.values()) == pytest.approx(1, abs=1e-3)
        assert list(classes.values()) == sorted(classes.values(), reverse=True)
    status, _, err = verb("classify", "predict", tmp_path / "absent.png", "--run", folder)
    assert status == 2 and "absent.png" in err


@pytest.mark.experiments
@pytest.mark.parametrize("name", sorted(TINY))
def test_bench_prints_every_figure(name, verb, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setattr(bench, "SECONDS", 0.01)
    status, out, err = verb(name, "bench", "--run", tmp_path / "none", "--json", *TINY[name])
    assert status == 0, err
    figures = json.loads(out)
    for key in (
        "step ms (bare)",
        "step ms (loop)",
        "step ms (XLA's implementation)",
        "examples/s (loop)",
        "compile s",
    ):
        assert figures[key] > 0
    assert figures["GFLOP per step (XLA)"] > 0 and figures["peak memory MiB"] > 0
    assert 0 <= figures["waiting for data %"] <= 100
    assert not (tmp_path / "none").exists()


@pytest.mark.experiments
def test_bfloat16_computes_in_bfloat16_and_keeps_float32(load, opened, verb, tmp_path):
    status, _, err = verb(
        "classify", "train", "--run", tmp_path / "run", *TINY["classify"], "--precision", "bfloat16"
    )
    assert status == 0, err
    preset = load("classify").PRESETS["laptop"]
    splits, experiment = opened(
        "classify", dataclasses.replace(preset, model="resnet8", batch=16, precision="bfloat16")
    )
    placed = train.place("jit")(experiment.learner)
    batch = placed.put(splits.train(0))
    state = placed.abstract(jax.random.key(0), batch)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state)} <= {"float32", "int32"}
    text = jax.jit(experiment.learner.step).lower(state, batch, jax.random.key(0)).as_text()
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert convolutions and all("bf16" in line for line in convolutions)


@pytest.mark.experiments
def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_whole_checkpoints(verb, tmp_path):
    run = tmp_path / "run"
    flags = [
        *TINY["classify"],
        "--schedule",
        "constant",
        "--warmup",
        0,
        "--learning-rate",
        1e19,
        "--save-every",
        1,
    ]
    status, out, err = verb("classify", "train", "--run", run, *flags)
    assert status == 2 and out == "" and len(err.strip().splitlines()) == 1
    assert "at step 2;" in err and "--learning-rate" in err
    assert [p.name for p in (run / "checkpoints").iterdir() if p.is_dir()] == ["1"]
    assert not (run / "summary.json").exists()


@pytest.mark.experiments
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
    finished, verb, unreported, tmp_path, caplog
):
    run = tmp_path / "run"
    shutil.copytree(finished("classify"), run)
    assert verb("classify", "train", "--run", run, "--steps", 8)[0] == 0
    for path in (run / "checkpoints" / "8").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:20])
    before = sorted(run.rglob("*"))
    status, out, _ = verb("classify", "evaluate", "--run", run, "--json")
    assert (
        status == 0
        and str(run / "checkpoints" / "8") in caplog.text
        and sorted(run.rglob("*")) == before
    )
    at_6 = verb("classify", "evaluate", "--run", finished("classify"), "--json")[1]
    assert json.loads(out) == json.loads(at_6)
    status, _, err = verb("classify", "train", "--run", run, "--steps", 9)
    assert status == 0 and "step 6" in err and (run / "damaged" / "8").is_dir()


@pytest.mark.experiments
def test_a_gan_of_a_folder_of_photographs_of_one_class(verb, tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        (tmp_path / split / "photographs").mkdir(parents=True)
        for number in range(5):
            pixels = rng.integers(0, 255, (20 + number, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / "photographs" / f"{number}.jpg")
    flags = ["--data", f"folder:{tmp_path}", "--run", tmp_path / "run", *TINY["gan"]]
    status, _, err = verb("gan", "train", *flags)
    assert status == 2 and "--image-size" in err
    status, _, err = verb("gan", "train", *flags, "--image-size", 18)
    assert status == 2 and "18" in err and "--image-size" in err
    status, _, err = verb("gan", "train", *flags, "--image-size", 16)
    assert status == 0, err
    assert (tmp_path / "run" / "report" / "samples.png").exists()


def test_minibatches_that_cannot_be_dealt_over_replicas(verb, tmp_path):
    status, _, err = verb(
        "gan",
        "train",
        "--run",
        tmp_path / "run",
        *TINY["gan"],
        "--batch",
        4,
        "--discriminator-steps",
        2,
        "--placement",
        "pmap",
    )
    assert status == 2 and "2 equal minibatches" in err


def load(config):
    training, test = (data.open_source("digits", split) for split in ("train", "test"))
    return data.Splits(
        spec=lambda: data.ImageSpec.of(training, low=0.0),
        train=lambda spec: data.TrainBatches(training, config.batch, config.seed),
        evaluations={"test": lambda spec: data.EvalBatches(test, config.batch)},
    )


def build(config, spec):
    """A number that leaves its target at the learning rate: after t updates the error is (t ·
    rate)²."""

    def value(variables, batch):
        return jnp.broadcast_to(variables["params"]["w"], len(batch["label"]))

    player = train.Player(
        init=lambda key, batch: {"params": {"w": jnp.zeros(1)}},
        loss=lambda variables, batch, rng: train.Loss(Mean.of(-value(variables, batch))),
        optimizer=optax.sgd(config.learning_rate),
    )
    return cli.Experiment(
        learner=train.minimize(
            player, lambda v, batch: {"error": Mean.of(value(v, batch) ** 2, batch["mask"])}
        ),
        predict=lambda trained, options, folder: {
            "w": float(trained.variables("model")["params"]["w"][0])
        },
        monitor=("test/error", "min") if config.keep == 1 else None,
    )


EVERY_TWO = ["--evaluate-every", 2, "--save-every", 2, "--log-every", 2]


@pytest.fixture
def leaving(capsys):
    """`leaving("train", "--steps", 6)` -> (exit status, standard output, standard error) of the
    experiment above."""

    def leaving(*arguments):
        capsys.readouterr()
        status = 0
        try:
            presets = {"laptop": cli.Config(learning_rate=0.5, batch=256, keep=1)}
            cli.main(load, build, presets, arguments=list(map(str, arguments)))
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return leaving


@pytest.mark.experiments
def test_evaluate_and_predict_use_the_checkpoint_that_is_asked_for(leaving, tmp_path):
    """Of a run whose figures grow worse the best is the first of three; the step is printed with
    the figures."""
    run = ["--run", tmp_path / "run"]
    assert leaving("train", *run, "--steps", 6, *EVERY_TWO)[0] == 0
    assert "checkpoint" not in json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    for flags, step in (
        ([], 6),
        (["--checkpoint", "latest"], 6),
        (["--checkpoint", "best"], 2),
        (["--checkpoint", "2"], 2),
    ):
        status, out, err = leaving("evaluate", *run, *flags, "--json")
        assert status == 0, err
        assert json.loads(out) == {
            "checkpoint step": step,
            "test/error": pytest.approx((step * 0.5) ** 2),
        }
        status, out, err = leaving("predict", *run, *flags, "--json")
        assert (
            status == 0
            and json.loads(out) == {"w": pytest.approx(step * 0.5)}
            and f"step {step}" in err
        )
    several = {"averaged checkpoints": [2, 6], "test/error": pytest.approx(2.0**2)}
    for placement in ("mesh", "pmap", "jit"):
        flags = ["--checkpoint", "2,6", "--placement", placement]
        status, out, err = leaving("evaluate", *run, *flags, "--json")
        assert status == 0 and json.loads(out) == several, err
    status, out, err = leaving("predict", *run, "--checkpoint", "6,2", "--json")
    assert status == 0 and json.loads(out) == {"w": pytest.approx(2.0)} and "steps 6, 2" in err
    assert (
        leaving("train", *run, "--steps", 8, *EVERY_TWO)[0] == 0
    )  # what was looked at is not what the run is
    status, out, _ = leaving("evaluate", *run, "--json")
    assert json.loads(out)["checkpoint step"] == 8


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_used_is_told_in_one_line(leaving, tmp_path):
    run = ["--run", tmp_path / "run"]
    assert leaving("train", *run, "--steps", 6, *EVERY_TWO)[0] == 0
    unnamed = ["--run", tmp_path / "unnamed"]
    assert leaving("train", *unnamed, "--steps", 2, "--keep", 2, *EVERY_TWO)[0] == 0
    for verb in ("evaluate", "predict"):
        for flags, told in (
            (
                [*run, "--checkpoint", "4"],
                "no checkpoint of step 4; there are checkpoints of the steps 2, 6",
            ),
            (
                [*run, "--checkpoint", "bets"],
                "--checkpoint is 'bets'; expected latest, best or the number of a step",
            ),
            ([*run, "--checkpoint", "-2"], "--checkpoint"),
            ([*run, "--checkpoint", "2,4"], "no checkpoint of step 4"),
            ([*run, "--checkpoint", "2,best"], "expected the numbers of the steps to average"),
            ([*run, "--checkpoint", "2,6,2"], "each once"),
            ([*unnamed, "--checkpoint", "best"], "names no figure"),
        ):
            status, out, err = leaving(verb, *flags)
            assert status == 2 and out == "" and told in err and err.count("\n") == 1, err
    for path in (tmp_path / "run" / "checkpoints" / "2" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:20])
    status, _, err = leaving("evaluate", *run, "--checkpoint", "best")
    assert status == 2 and "/2 is damaged" in err and err.count("\n") == 1, err
    for verb in ("train", "bench", "plan"):
        status, _, err = leaving(verb, *run, "--checkpoint", "best")
        assert (
            status == 2
            and f"and this {verb} reads no checkpoint but the latest" in err
            and err.count("\n") == 1
        ), err
