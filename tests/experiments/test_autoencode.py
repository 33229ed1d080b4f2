"""autoencode.py: every network through every verb, its pictures, what PCA makes of the same images,
and what can go wrong."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from advdl import cli, data, train
from advdl.cli.experiment import Session
from advdl.models import autoencoder

SPLITS = (("train", 1433), ("test", 364))
TINY = ["--hidden", "24", "--width", 4, "--batch", 16, "--evaluate-every", 2, "--log-every", 1]
KINDS = {
    "dense": ["--tied", "--code", 3],
    "denoise": ["--noise", 0.25, "--loss", "cross-entropy", "--validation", 0],
    "conv": ["--network", "conv", "--up", "resize", "--code", 1],
    "vae": ["--network", "vae", "--code", 2],
}


@pytest.fixture(scope="module")
def finished(load, tmp_path_factory):
    module, folders = load("autoencode"), {}

    def finished(kind):
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp(kind) / "run"
            flags = [
                "--run",
                folders[kind],
                "--steps",
                4,
                *TINY,
                *KINDS[kind],
                "--schedule",
                "constant",
            ]
            arguments = ["train", *map(str, flags)]
            cli.main(module.load, module.build, module.PRESETS, module.Predict, arguments)
        return folders[kind]

    return finished


@pytest.fixture(params=sorted(KINDS))
def run(request, finished):
    return request.param, finished(request.param)


@pytest.mark.experiments
def test_a_run_draws_what_its_network_has(run):
    kind, folder = run
    pictures = {p.stem for p in (folder / "report").glob("*.png")}
    assert {"curves", "reconstructions", "line"} <= pictures
    assert ("map" in pictures) == (kind != "conv")  # a single number has no map
    assert ("samples" in pictures) == ("plane" in pictures) == (kind == "vae")
    figures = json.loads((folder / "summary.json").read_text())["test"]
    assert ("noisy_mse" in figures) == (kind == "denoise") and ("elbo" in figures) == (
        kind == "vae"
    )
    html = (folder / "report" / "report.html").read_text()
    assert "PCA of" in html and ("Wiener filter" in html) == (kind == "denoise")


@pytest.mark.experiments
def test_it_goes_on_where_it_was_and_ends_as_one_never_stopped(run, verb, tmp_path):
    kind, folder = run
    flags = ["--run", tmp_path / "run", *TINY, *KINDS[kind], "--schedule", "constant", "--json"]
    assert verb("autoencode", "train", "--steps", 2, *flags)[0] == 0
    status, out, err = verb("autoencode", "train", "--steps", 4, *flags)
    assert status == 0 and "resuming" in err
    assert json.loads(out)["digest"] == json.loads((folder / "summary.json").read_text())["digest"]


@pytest.mark.experiments
@pytest.mark.usefixtures("all_examples")
def test_evaluation_gives_what_the_network_makes_of_every_test_image(finished, verb, load):
    """By a plain forward pass over all of them, the noise included; and PCA by its own least
    squares."""
    flags = ["--run", finished("denoise"), "--baselines", "--batch", 23, "--json"]
    status, out, err = verb("autoencode", "evaluate", *flags)
    assert status == 0, err
    figures, module = json.loads(out), load("autoencode")
    records = train.Run(finished("denoise"))
    config = module.Config(**records.config("autoencode"))
    session = Session("autoencode", config, records, module.load, module.build)
    network = autoencoder.network("dense", (8, 8, 1), config.code, (24,))
    fit, clean = (
        data.digits(split).read(np.arange(n))["image"] / np.float32(255) for split, n in SPLITS
    )
    noise = [
        jax.random.normal(jax.random.fold_in(jax.random.key(0), n), (8, 8, 1))
        for n in range(len(clean))
    ]
    given = clean + 0.25 * np.stack(noise)
    logits, _ = network.apply(session.restored()[1]["model"].average, given)

    def mse(made):
        return np.square(np.asarray(made, np.float64) - clean).mean()

    assert figures["test/mse"] == pytest.approx(mse(jax.nn.sigmoid(logits)), rel=1e-4)
    assert figures["test/noisy_mse"] == pytest.approx(mse(given), rel=1e-4)
    assert figures["test/noisy_mse"] == pytest.approx(0.25**2, rel=0.05)

    rows, mean = fit.reshape(len(fit), -1).astype(np.float64), fit.reshape(len(fit), -1).mean(0)
    basis = np.linalg.svd(rows - mean, full_matrices=False)[2][: config.code]
    projected = mean + (given.reshape(len(clean), -1) - mean) @ basis.T @ basis
    pca, black = figures["pca"]["mse"], figures["mean_image"]["mse"]
    assert pca == pytest.approx(mse(projected.clip(0, 1).reshape(clean.shape)), rel=1e-3)
    assert black == pytest.approx(mse(mean.reshape(8, 8, 1)), rel=1e-4)
    assert figures["wiener"]["mse"] < pca < black


@pytest.mark.parametrize("kind", ["masking", "salt_pepper"])
def test_training_corrupts_what_is_encoded_and_not_what_is_to_be_made(load, opened, kind):
    module = load("autoencode")
    config = dataclasses.replace(
        module.PRESETS["denoise"], noise_kind=kind, noise=1.0, hidden="4", code=2, batch=8
    )
    splits, experiment = opened("autoencode", config)
    batch = splits.train(0)
    other = {**batch, "image": batch["image"] / 2}
    state = jax.jit(experiment.learner.init)(jax.random.key(0), batch)
    step = jax.jit(experiment.learner.step)

    def loss(batch):
        return float(step(state, batch, jax.random.key(1))[1]["loss"].total)

    if kind == "masking":  # all that is encoded is black, and the loss is by the clean images
        network = autoencoder.network("dense", (8, 8, 1), 2, (4,))
        logits, _ = network.apply(
            state["model"].variables, jnp.zeros_like(batch["image"]), train=True
        )
        for given in (batch, other):
            assert loss(given) == pytest.approx(
                np.square(jax.nn.sigmoid(logits) - given["image"]).sum(), rel=1e-5
            )
    assert loss(batch) != pytest.approx(loss(other), rel=1e-3)


@pytest.mark.experiments
def test_predict_needs_no_data_and_writes_reconstructions_and_codes(
    run, verb, tmp_path, monkeypatch
):
    kind, folder = run
    monkeypatch.setattr(data, "open_source", lambda *_, **__: pytest.fail("data was opened"))
    rng = np.random.default_rng(0)
    files = [tmp_path / "gray.png", tmp_path / "color.jpg"]
    Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(files[0])
    Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(files[1])
    status, out, err = verb(
        "autoencode", "predict", *files, "--run", folder, "--out", tmp_path / "out", "--json"
    )
    assert status == 0, err
    answer = json.loads(out)
    assert list(answer) == [str(path) for path in files]
    with np.load(tmp_path / "out" / "codes.npz") as codes:
        assert {codes[str(path)].shape for path in files} == {
            (dict(dense=3, denoise=8, conv=1, vae=2)[kind],)
        }
    with (
        Image.open(tmp_path / "out" / "gray_reconstruction.png") as made,
        Image.open(files[0]) as given,
    ):
        error = np.square((np.asarray(made, np.float64) - np.asarray(given)) / 255).mean()
    assert error == pytest.approx(answer[str(files[0])]["mse"], rel=0.02)
    assert (tmp_path / "out" / "color_reconstruction.png").exists()


@pytest.mark.parametrize("preset", ["laptop", "denoise", "vae", "paper"])
def test_the_step_of_every_preset_can_be_traced(load, opened, preset):
    module = load("autoencode")
    config = dataclasses.replace(module.PRESETS[preset], data="digits", batch=4)
    splits, experiment = opened("autoencode", config)
    batch = splits.train(0)
    state = jax.eval_shape(experiment.learner.init, jax.random.key(0), batch)
    _, metrics = jax.eval_shape(experiment.learner.step, state, batch, jax.random.key(0))
    assert {"loss", "mse", "gradient_norm"} <= set(metrics)
    assert module.PRESETS[preset].preset == preset


@pytest.mark.experiments
@pytest.mark.parametrize("preset", ["laptop", "denoise"])
@pytest.mark.usefixtures("all_examples")
def test_it_beats_pca_and_halves_the_noise(load, opened, preset):
    """The claims of the docstring after a fourth of the steps, on the test digits."""
    config = dataclasses.replace(load("autoencode").PRESETS[preset], steps=1000)
    splits, experiment = opened("autoencode", config)
    placed = train.place("jit")(experiment.learner)
    state = placed.init(jax.random.key(0), placed.put(splits.train(0)))
    for t in range(config.steps):
        state, _ = placed.step(state, placed.put(splits.train(t)), jax.random.key(1))
    figures = train.evaluate(placed, state, splits.evaluations["test"])
    linear = {name: own["mse"] for name, own in experiment.baselines(splits).items()}
    assert figures["mse"] < linear["pca"]
    if config.noise:
        assert figures["mse"] < figures["noisy_mse"] / 2
        assert figures["mse"] < linear["wiener"]


def photographs(folder, width, height):
    for split in ("train", "test"):
        (folder / split / "any").mkdir(parents=True)
        for number in range(5):
            pixels = np.random.default_rng(number).integers(
                0, 255, (height, width, 3), dtype=np.uint8
            )
            Image.fromarray(pixels).save(folder / split / "any" / f"{number}.png")
    return f"folder:{folder}"


@pytest.mark.experiments
def test_color_images_of_a_folder(verb, tmp_path):
    flags = [
        "--data",
        photographs(tmp_path / "data", 12, 10),
        "--run",
        tmp_path / "run",
        "--steps",
        2,
        *TINY,
    ]
    status, _, err = verb("autoencode", "train", *flags, "--network", "conv")
    assert status == 2 and "halve" in err and "--image-size" in err
    status, _, err = verb("autoencode", "train", *flags, "--network", "conv", "--image-size", 16)
    assert status == 0, err
    status, _, err = verb(
        "autoencode", "train", *flags[:2], "--run", tmp_path / "dense", "--steps", 2, *TINY
    )
    assert status == 0, err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--network", "conv", "--tied"], "--tied"),
        (["--network", "vae", "--noise", "0.1"], "--noise"),
        (["--noise", "-1"], "--noise"),
        (["--noise", "1.5", "--noise-kind", "masking"], "--noise is 1.5"),
        (["--noise-kind", "salt_pepper"], "--noise is 0.0"),
        (["--code", "0"], "--code"),
        (["--hidden", "12,x"], "--hidden"),
        (["--hidden", "12,-3"], "--hidden"),
        (["--network", "vae", "--loss", "cross-entropy"], "--loss"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(verb, tmp_path, flags, told):
    status, _, err = verb("autoencode", "train", "--run", tmp_path / "run", "--steps", 1, *flags)
    assert status == 2 and told in err and len(err.strip().splitlines()) == 1


@pytest.mark.experiments
def test_predict_needs_files_that_do_not_overwrite_each_other(finished, verb, tmp_path):
    status, _, err = verb("autoencode", "predict", "--run", finished("dense"))
    assert status == 2 and "predict needs images" in err
    status, _, err = verb("autoencode", "predict", "--run", finished("dense"), "a/x.png", "b/x.png")
    assert status == 2 and "the same name" in err
