"""From one set of images to another: losses, what is trained by what, and a run that is whole."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from advdl import data, train

SMALL = [
    "--width",
    8,
    "--batch",
    8,
    "--steps",
    4,
    "--evaluate-every",
    2,
    "--log-every",
    2,
    "--save-every",
    2,
]


@pytest.fixture(scope="module")
def translate(load):
    return load("gan_translate")


def trained(translate, variant, steps=2, **changes):
    config = dataclasses.replace(
        translate.PRESETS["modes"], hidden="4", batch=4, seeds=1, variants=variant, **changes
    )
    experiment = translate.build(config)
    placed = train.place("jit")(experiment.learner)
    before = placed.init(jax.random.key(0), placed.put(experiment.train(0)))
    start = jax.device_get(before)
    state, metrics = before, None
    for t in range(steps):
        state, metrics = placed.step(state, placed.put(experiment.train(t)), jax.random.key(1))
    return start, jax.device_get(state), metrics


def moved(a, b):
    return any((x != y).any() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.experiments
def test_each_variant_trains_what_it_has(translate):
    for variant, sides in translate.VARIANTS.items():
        start, state, _ = trained(translate, variant)
        player = f"{variant}-s0/generator"
        assert set(state[f"{variant}-s0/discriminator"].params) == set(sides)
        assert all(
            moved(start[player].params[side], state[player].params[side]) for side in "ab"
        ), variant


@pytest.mark.experiments
def test_the_loss_is_the_papers(translate):
    """One generator update against equations 3 to 6, written out."""
    config = dataclasses.replace(
        translate.PRESETS["modes"],
        hidden="4",
        batch=4,
        seeds=1,
        variants="discogan",
        reconstruction=3.0,
        discriminator_learning_rate=1e-12,
    )
    experiment = translate.build(config)
    batch = {name: jnp.asarray(x) for name, x in experiment.train(0).items()}
    state = experiment.learner.init(jax.random.key(0), batch)
    _, metrics = jax.jit(experiment.learner.step)(state, batch, jax.random.key(1))
    team = translate.Translator(config, "discogan", data.open_domains("modes", "train"))
    own, judges = (
        state["discogan-s0/generator"].variables,
        state["discogan-s0/discriminator"].variables,
    )
    total = 0.0
    for side, other in translate.OTHER.items():
        fake = team.generators.apply(own, other, batch[side])
        back = team.generators.apply(own, side, fake)
        logit = np.asarray(team.discriminators.apply(judges, other, fake)[0], np.float64)
        total += (
            np.log1p(np.exp(-logit)).mean() + 3.0 * np.square(np.asarray(back - batch[side])).mean()
        )
    assert metrics["discogan-s0/generator_loss"].compute() == pytest.approx(total, rel=1e-4)


@pytest.fixture
def many(translate):
    """Who judges 4,500 sorted images of either side, whose single factor is their color."""
    factor = np.linspace(0, 1, 4500)[:, None]
    pixels = np.rint(255 * factor).astype(np.uint8).reshape(-1, 1, 1, 1)
    pixels = np.broadcast_to(pixels, (4500, 2, 2, 1)) + np.zeros((4500, 2, 2, 1), np.uint8)
    pixels[-1] = [[[7], [200]], [[90], [31]]]  # of no other image
    source = data.ArraySource("sorted", "test", pixels, np.zeros(4500), ("all",))
    domains = data.Domains(source, source, "test", ("a", "b"), {"a": factor, "b": factor}, ("hue",))
    return translate.Images({}, 1, domains, domains)


def test_what_is_judged_is_from_all_images_and_has_its_own_factors(many):
    x, factors = many.real(many.held_out.a), many.factors()
    assert len(x) == len(factors) == 4000
    assert factors.max() > 0.99  # the first 4,000 end at .89
    inside = factors[:, 0] < 1
    np.testing.assert_allclose(
        (x[inside].mean((1, 2, 3)) + 1) / 2, factors[inside, 0], atol=1 / 255
    )


def test_the_nearest_is_sought_among_all_training_images(many):
    last = many.ranged(many.training.b.read(np.array([4499]))["image"])
    index, distance = many.near(last)
    assert index.tolist() == [4499] and distance == 0


POINTS = ["--data", "modes", "--hidden", "8", "--seeds", 2]
IMAGES = ["--norm", "group", "--r1", 0.1, "--variants", "discogan,one_sided"]


@pytest.mark.experiments
@pytest.mark.parametrize("flags", [POINTS, IMAGES])
def test_a_run_is_trained_judged_drawn_and_goes_on(verb, tmp_path, flags):
    folder = tmp_path / "run"
    status, _, err = verb("gan_translate", "train", "--run", folder, *SMALL, *flags)
    assert status == 0, err
    judged = json.loads((folder / "verdict.json").read_text())
    assert "fails" in judged["verdict"] and "missed" in judged["verdict"]  # after four steps
    assert {"discogan", "one_sided", "of real ones"} <= set(judged)
    report = folder / "report"
    assert (report / "training.gif").exists() and len(list((report / "frames").glob("*.png"))) == 3
    status, _, err = verb(
        "gan_translate",
        "train",
        "--run",
        folder,
        *[6 if flag == 4 else flag for flag in SMALL],
        *flags,
    )
    assert status == 0 and "resuming" in err, err
    status, out, err = verb(
        "gan_translate", "predict", "--run", folder, "--out", tmp_path / "out", "--json"
    )
    assert status == 0 and json.loads(out)["discogan"]["round trip error"], err


@pytest.mark.experiments
def test_a_picture_of_ones_own_goes_there_and_back(verb, tmp_path):
    status, _, err = verb(
        "gan_translate", "train", "--run", tmp_path / "run", *SMALL, "--variants", "discogan"
    )
    assert status == 0, err
    Image.new("RGB", (50, 40), (200, 30, 30)).save(tmp_path / "bag.png")
    for flags, name in (([], "bag_shoes.png"), (["--back"], "bag_bags.png")):
        out = tmp_path / name.partition(".")[0]
        status, said, err = verb(
            "gan_translate",
            "predict",
            tmp_path / "bag.png",
            "--run",
            tmp_path / "run",
            "--out",
            out,
            *flags,
        )
        assert status == 0, err
        with Image.open(out / name) as image, Image.open(out / "bag_back.png") as back:
            assert image.size == back.size


def test_what_is_kept_is_found(translate):
    factors = np.random.default_rng(0).random((500, 3))
    turned = np.stack([(0.3 - factors[:, 0]) % 1, 1 - factors[:, 2], factors[:, 1]], 1)
    found = translate.kept(factors, turned, data.domains.FACTORS)
    assert found["hue, turned or mirrored"] == pytest.approx(1)
    assert abs(found["hue kept"]) < 0.15
    assert found["size with height"] == pytest.approx(1) and found[
        "height with size"
    ] == pytest.approx(-1)
    assert abs(found["size with size"]) < 0.15


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--variants", "discogan,disco"], "no variant 'disco'"),
        (["--variants", "gan,gan"], "each once"),
        (["--data", "digits"], "name those of both sides"),
        (["--data", "modes", "--hidden", "x"], "expected numbers of units"),
        (["--r1", 0.1], "add --norm group"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(verb, tmp_path, flags, line):
    status, _, err = verb("gan_translate", "train", "--run", tmp_path / "run", *flags)
    assert status == 2 and line in err and err.count("\n") == 1
