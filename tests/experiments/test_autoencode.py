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

SPLITS = (("train", 1433), ("test", 364))
TINY = ["--hidden", "24", "--width", 4, "--batch", 16, "--evaluate-every", 2, "--log-every", 1]
KINDS = {
    "dense": ["--tied", "--code", 3],
    "denoise": ["--noise", 0.25, "--loss", "cross-entropy"],
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
            cli.main(module.build, module.PRESETS, module.Predict, ["train", *map(str, flags)])
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
    assert ("noise's MSE" in figures) == (kind == "denoise") and ("ELBO" in figures) == (
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
def test_evaluation_gives_what_the_network_makes_of_every_test_image(finished, verb, load):
    """By a plain forward pass over all of them, the noise included; and PCA by its own least
    squares."""
    status, out, err = verb(
        "autoencode",
        "evaluate",
        "--run",
        finished("denoise"),
        "--baselines",
        "--batch",
        23,
        "--json",
    )
    assert status == 0, err
    figures, module = json.loads(out), load("autoencode")
    records = train.Run(finished("denoise"))
    config = module.Config(**records.config("autoencode"))
    session = Session.open("autoencode", config, records, module.build)
    network = module.build_network(config, (8, 8, 1))
    fit, clean = (
        data.digits(split).read(np.arange(n))["image"] / np.float32(255) for split, n in SPLITS
    )
    noise = [
        jax.random.normal(jax.random.fold_in(jax.random.key(0), n), (8, 8, 1))
        for n in range(len(clean))
    ]
    given = clean + 0.25 * np.stack(noise)
    logits, _ = network.apply(session.trained()[1]["model"].average, given)

    def mse(made):
        return np.square(np.asarray(made, np.float64) - clean).mean()

    assert figures["MSE"] == pytest.approx(mse(jax.nn.sigmoid(logits)), rel=1e-4)
    assert figures["noise's MSE"] == pytest.approx(mse(given), rel=1e-4)
    assert figures["noise's MSE"] == pytest.approx(0.25**2, rel=0.05)

    rows, mean = fit.reshape(len(fit), -1).astype(np.float64), fit.reshape(len(fit), -1).mean(0)
    basis = np.linalg.svd(rows - mean, full_matrices=False)[2][: config.code]
    projected = mean + (given.reshape(len(clean), -1) - mean) @ basis.T @ basis
    assert figures[f"PCA of {config.code}'s MSE"] == pytest.approx(
        mse(projected.clip(0, 1).reshape(clean.shape)), rel=1e-3
    )
    assert figures["mean image's MSE"] == pytest.approx(mse(mean.reshape(8, 8, 1)), rel=1e-4)
    assert (
        figures["Wiener filter's MSE"]
        < figures[f"PCA of {config.code}'s MSE"]
        < figures["mean image's MSE"]
    )


@pytest.mark.parametrize("kind", ["gaussian", "masking", "salt_pepper"])
def test_noise_is_of_the_kind_and_share_that_is_asked_for(load, kind):
    """Vincent et al. 2008 replace a fixed number of values, νd, and leave the others untouched."""
    module, shape, noise = load("autoencode"), (9, 7, 3), 0.3
    config = dataclasses.replace(module.PRESETS["denoise"], noise_kind=kind, noise=noise)
    x = np.random.default_rng(0).uniform(0.1, 0.9, (200, *shape)).astype(np.float32)
    made = np.asarray(jax.jit(lambda x: module.noisy(x, jnp.arange(len(x)), config))(x))
    again = module.noisy(x[50:], jnp.arange(50, len(x)), config)
    np.testing.assert_allclose(again, made[50:], atol=1e-6)  # a function of the image's place
    changed = made != x
    if kind == "gaussian":
        assert (made - x).std() == pytest.approx(noise, rel=0.02) and (
            made - x
        ).mean() == pytest.approx(0, abs=0.01)
        return
    assert (changed.sum((1, 2, 3)) == round(noise * 9 * 7 * 3)).all()
    np.testing.assert_allclose(
        changed.mean(0), noise, atol=5 * np.sqrt(noise * (1 - noise) / len(x))
    )  # every place alike
    assert not np.array_equal(changed[0], changed[1])
    values = made[changed]
    assert set(values) == ({0.0} if kind == "masking" else {0.0, 1.0})
    assert kind == "masking" or values.mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("kind", ["masking", "salt_pepper"])
def test_training_corrupts_what_is_encoded_and_not_what_is_to_be_made(load, kind):
    module = load("autoencode")
    config = dataclasses.replace(
        module.PRESETS["denoise"], noise_kind=kind, noise=1.0, hidden="4", code=2, batch=8
    )
    experiment = module.build(config)
    batch = experiment.train(0)
    other = {**batch, "image": batch["image"] / 2}
    state = jax.jit(experiment.learner.init)(jax.random.key(0), batch)
    step = jax.jit(experiment.learner.step)

    def loss(batch):
        return float(step(state, batch, jax.random.key(1))[1]["loss"].total)

    if kind == "masking":  # all that is encoded is black, and the loss is by the clean images
        network = module.build_network(config, (8, 8, 1))
        logits, _ = network.apply(
            state["model"].variables, jnp.zeros_like(batch["image"]), train=True
        )
        for given in (batch, other):
            assert loss(given) == pytest.approx(
                np.square(jax.nn.sigmoid(logits) - given["image"]).sum(), rel=1e-5
            )
    assert loss(batch) != pytest.approx(loss(other), rel=1e-3)


@pytest.mark.experiments
def test_predict_writes_reconstructions_and_codes(run, verb, tmp_path):
    kind, folder = run
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
    assert error == pytest.approx(answer[str(files[0])]["MSE"], rel=0.02)
    assert (tmp_path / "out" / "color_reconstruction.png").exists()


@pytest.mark.parametrize("preset", ["laptop", "denoise", "vae", "paper"])
def test_the_step_of_every_preset_can_be_traced(load, preset):
    module = load("autoencode")
    experiment = module.build(dataclasses.replace(module.PRESETS[preset], data="digits", batch=4))
    batch = experiment.train(0)
    state = jax.eval_shape(experiment.learner.init, jax.random.key(0), batch)
    _, metrics = jax.eval_shape(experiment.learner.step, state, batch, jax.random.key(0))
    assert {"loss", "MSE", "gradient_norm"} <= set(metrics)
    assert module.PRESETS[preset].preset == preset


@pytest.mark.experiments
@pytest.mark.parametrize("preset", ["laptop", "denoise"])
def test_it_beats_pca_and_halves_the_noise(load, preset):
    """The claims of the docstring after a fourth of the steps, on the test digits."""
    module = load("autoencode")
    config = dataclasses.replace(module.PRESETS[preset], steps=1000)
    experiment = module.build(config)
    placed = train.place("jit")(experiment.learner)
    state = placed.init(jax.random.key(0), placed.put(experiment.train(0)))
    for t in range(config.steps):
        state, _ = placed.step(state, placed.put(experiment.train(t)), jax.random.key(1))
    figures, linear = train.evaluate(placed, state, experiment.test), experiment.baselines()
    assert figures["MSE"] < linear[f"PCA of {config.code}'s MSE"]
    if config.noise:
        assert figures["MSE"] < figures["noise's MSE"] / 2
        assert figures["MSE"] < linear["Wiener filter's MSE"]


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
    assert status == 2 and "image files" in err
    status, _, err = verb("autoencode", "predict", "--run", finished("dense"), "a/x.png", "b/x.png")
    assert status == 2 and "same file" in err


def test_examples_are_of_every_class_where_they_are_sorted_by_class_and_keep_their_rows(load):
    pixels = np.random.default_rng(0).integers(0, 256, (600, 2, 2, 1), dtype=np.uint8)
    source = data.ArraySource("sorted", "test", pixels, np.repeat([0, 1, 2], 200), ("a", "b", "c"))
    images, label, row = load("autoencode").Coder(None, None, source, source).images(source, 60)
    assert np.bincount(label, minlength=3).min() > 8
    np.testing.assert_allclose(
        images, pixels[row] / 255, atol=1e-6
    )  # so that each gets the noise of its own row


def test_a_line_leads_to_another_half_of_the_codes(load, monkeypatch, tmp_path):
    """Codes of images sorted by class: neighbors would be of one class."""
    module = load("autoencode")
    coder, drawn = module.Coder(None, None, None, None), []
    coder.decode = lambda variables, z: z
    monkeypatch.setattr(module.present, "draw_grid", lambda images, *_, **__: drawn.append(images))
    codes = np.arange(8.0)[:, None]
    coder.line(None, codes, tmp_path, columns=3)
    np.testing.assert_allclose(drawn[0].reshape(4, 3), [[n, n + 2, n + 4] for n in range(4)])
