"""gan.py: what its flags mean, and what cannot be."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from advdl import data, losses, nn, present


@pytest.fixture(scope="module")
def gan(load):
    return load("gan")


def stepped(gan, **changes):
    """State and metrics after the first step."""
    experiment = gan.build(dataclasses.replace(gan.PRESETS["laptop"], **changes))
    batch = {name: jnp.asarray(x) for name, x in experiment.train(0).items()}
    state = experiment.learner.init(jax.random.key(0), batch)
    return jax.jit(experiment.learner.step)(state, batch, jax.random.key(1))


def losses_of(gan, joint, **changes):
    """The first step's losses."""
    _, metrics = stepped(gan, batch=16, joint=joint, **changes)
    return [metrics[f"{player}_loss"].compute() for player in ("discriminator", "generator")]


@pytest.mark.experiments
def test_data_and_samples_in_one_batch_or_in_two_differ_by_batch_normalization_alone(
    gan, monkeypatch
):
    with_norm = [losses_of(gan, joint, width=8) for joint in (False, True)]
    assert abs(with_norm[0][0] - with_norm[1][0]) > 1e-3
    pair = gan.networks

    def without_norm(*arguments):
        generator, discriminator, low = pair(*arguments)
        return generator, discriminator.clone(norm=nn.Bias), low

    monkeypatch.setattr(gan, "networks", without_norm)
    without = [losses_of(gan, joint, width=8) for joint in (False, True)]
    np.testing.assert_allclose(*without, rtol=1e-5)


@pytest.mark.parametrize("penalty", ["gradient_penalty", "r1"])
def test_the_penalty_of_an_example_does_not_depend_on_the_others(gan, penalty):
    """Gulrajani et al. 2017, section 4: no batch normalization in the critic."""
    _, critic, _ = gan.networks(
        dataclasses.replace(gan.PRESETS["laptop"], width=8, **{penalty: 10.0}), (8, 8, 1)
    )
    x, fake, other = jax.random.normal(jax.random.key(0), (3, 4, 8, 8, 1))
    variables = jax.jit(lambda: critic.init(jax.random.key(1), x, train=False))()

    @jax.jit
    def penalties(x, fake):
        def score(x):
            return critic.apply(variables, x, train=True, mutable=["batch_stats"])[0][0]

        return (
            losses.r1(score, x)
            if penalty == "r1"
            else losses.gradient_penalty(score, x, fake, jax.random.key(2))
        )

    found = np.asarray(penalties(x, fake))
    beside_others = np.asarray(penalties(x.at[1:].set(other[1:]), fake.at[1:].set(3 * other[1:])))
    np.testing.assert_allclose(found[0], beside_others[0], rtol=1e-5)
    assert not np.isclose(found[1:], beside_others[1:], rtol=1e-4).any()


def test_layer_normalization_stands_in_for_batch_normalization_where_gradients_are_penalized_alone(
    gan,
):
    norms = {
        flags: (
            gan.networks(dataclasses.replace(gan.PRESETS["laptop"], **dict(flags)), (8, 8, 1))[
                1
            ].norm
        )
        for flags in (
            (),
            (("gradient_penalty", 10.0),),
            (("gradient_penalty", 10.0), ("spectral", True)),
        )
    }
    plain, penalized, normalized = norms.values()
    assert plain is nn.BatchNorm and normalized is nn.Bias
    x = 3 * jax.random.normal(jax.random.key(0), (2, 4, 4, 6)) + 5
    y = penalized().init_with_output(jax.random.key(1), x, True)[0]
    np.testing.assert_allclose(y.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var((1, 2, 3)), 1, atol=1e-4)


@pytest.mark.experiments
def test_clipping_bounds_the_critics_parameters_and_no_others(gan):
    state, _ = stepped(gan, network="mlp", width=8, batch=8, loss="wasserstein", critic_clip=1e-3)
    largest = {
        name: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(own.params))
        for name, own in state.players.items()
    }
    assert largest["discriminator"] == pytest.approx(1e-3, rel=1e-5) and largest["generator"] > 1e-2


@pytest.mark.experiments
def test_the_generators_minibatch_can_be_a_multiple_of_the_discriminators(gan):
    """By a loss that pairs each sample with an example."""
    changes = dict(discriminator_steps=3, generator_batches=2, loss="relativistic")
    _, metrics = stepped(gan, network="mlp", width=8, batch=8, **changes)
    assert metrics["discriminator_loss"].count == 3 * 8 and metrics["generator_loss"].count == 2 * 8


def test_a_rate_that_falls_to_0_by_the_last_step_is_not_0_before_for_a_discriminator_updated_more_often(
    gan,
):
    """Two steps of three updates of D: in the second one the rate is half of the peak, not that of
    the fourth update."""
    small = dict(network="mlp", width=8, batch=8, discriminator_steps=3)
    config = dataclasses.replace(
        gan.PRESETS["laptop"], schedule="poly", steps=2, betas=(0.0, 0.0), **small
    )
    experiment = gan.build(config)
    batch = {name: jnp.asarray(x) for name, x in experiment.train(0).items()}
    step, states = (
        jax.jit(experiment.learner.step),
        [experiment.learner.init(jax.random.key(0), batch)],
    )
    for _ in range(2):
        states.append(step(states[-1], batch, jax.random.key(1))[0])
    for player in ("discriminator", "generator"):
        before, after = (jax.tree.leaves(state[player].params) for state in states[1:])
        assert any((a != b).any() for a, b in zip(before, after, strict=True)), player


@pytest.mark.parametrize(("noise", "bound"), [("uniform", 3**0.5), ("unit-uniform", 1.0)])
def test_uniform_noise_has_the_bound_that_its_name_says(gan, noise, bound):
    artist = gan.build(
        dataclasses.replace(gan.PRESETS["laptop"], noise=noise, z=100)
    ).report.__self__
    z = artist.noise(0, 200)
    assert (
        z.shape == (200, 100)
        and 0.999 * bound < z.max() <= bound
        and -bound <= z.min() < -0.999 * bound
    )
    assert z.std() == pytest.approx(bound / 3**0.5, rel=0.02)


@pytest.mark.experiments
def test_two_samples_of_one_distribution_cannot_be_told_apart_and_two_others_can(gan):
    random = np.random.default_rng(0)
    real, same = random.normal(size=(2, 400, 4, 4, 1)).astype(np.float32)
    assert gan.two_sample_accuracy(real, same) == pytest.approx(0.5, abs=0.1)
    assert gan.two_sample_accuracy(real, same + 1) > 0.95


def test_the_guessing_sheet_has_as_many_of_both_and_the_answer_shows_which(tmp_path):
    real, made = np.full((30, 8, 8, 1), -0.5, np.float32), np.full((30, 8, 8, 1), 0.5, np.float32)
    section = present.guess_section(made, real, 0.75, tmp_path)
    assert section.figures["a fresh network is right, in shares"] == 0.75
    with Image.open(tmp_path / "guess.png") as guess, Image.open(tmp_path / "answer.png") as answer:
        shades = [np.asarray(picture.convert("L")) for picture in (guess, answer)]
    level = round(0.75 * 255)  # of those generated
    assert (shades[0] == level).sum() == (shades[1] == level).sum() > 0
    assert (shades[0] == round(0.25 * 255)).sum() == (shades[0] == level).sum()


def drawn(count, seed):
    """As many images of either of two classes that lie apart: uint8 (2·count, 4, 4, 1), sorted by
    class, and labels."""
    random = np.random.default_rng(seed)
    pixels = np.concatenate([random.normal(level, 25, (count, 4, 4, 1)) for level in (70, 185)])
    return np.rint(pixels).clip(0, 255).astype(np.uint8), np.repeat([0, 1], count)


def source_of(pixels, labels, split="train"):
    return data.ArraySource("two classes", split, pixels, labels, ("dark", "bright"))


@pytest.fixture
def by_pixels(gan, monkeypatch):
    """Features are the pixels, probabilities those of being dark and bright."""

    def of(images):
        flat = np.asarray(images, np.float32).reshape(len(images), -1) / 127.5 - 1
        bright = (flat.mean(1) > 0).astype(np.float32)
        return flat, np.stack([1 - bright, bright], 1)

    monkeypatch.setattr(
        gan.weights, "open_features", lambda *_: gan.weights.Features("FD (pixels)", of, "0" * 64)
    )


@pytest.fixture
def artist(gan):
    """`artist(pixels, labels)`: who measures against training images of these rows."""
    held_out = source_of(*drawn(250, 1), "test")
    return lambda *real, **options: gan.Artist(
        None, None, -1.0, source_of(*real), held_out, 0, **options
    )


def in_range(pixels):
    return data.to_float(-1.0, 1.0)({"image": pixels})["image"]


@pytest.mark.experiments
def test_a_perfect_generator_measures_as_held_out_images_do_where_training_images_are_sorted_by_class(
    artist, by_pixels
):
    """More than 10,000 of them, so that the first 10,000 are of other classes than all."""
    samples = in_range(drawn(250, 2)[0])
    figures = artist(*drawn(6000, 0)).measure(samples, "")["figures"]
    made, floor = figures["generated"], figures["real, held out"]
    assert (made["images"], made["real images"], floor["images"]) == (500, 12_000, 500)
    assert made["FD (pixels)"] < 2 * floor["FD (pixels)"]
    for name in ("precision", "recall", "density", "coverage"):
        assert made[name] == pytest.approx(floor[name], abs=0.15)
    assert made["density"] == pytest.approx(
        1, abs=0.15
    )  # what is expected of two draws of one distribution


def test_measures_do_not_depend_on_the_order_of_real_images(artist, by_pixels):
    samples, (pixels, labels) = in_range(drawn(50, 2)[0]), drawn(700, 0)
    order = np.random.default_rng(3).permutation(len(pixels))
    found = [
        artist(pixels[rows], labels[rows], selected=300).measure(samples, "")
        for rows in (np.arange(1400), order)
    ]
    assert (
        found[0]["least distance to a training image"]
        == found[1]["least distance to a training image"]
    )
    made = [each["figures"]["generated"] for each in found]
    assert made[0]["FD (pixels)"] == pytest.approx(made[1]["FD (pixels)"], rel=1e-9)
    for name, margin in (
        ("precision", 0.1),
        ("density", 0.2),
        ("kernel distance", 0.02),
        ("Parzen log_likelihood", 1.0),
    ):
        assert made[0][name] == pytest.approx(made[1][name], abs=margin), name


def test_a_copy_of_the_last_of_many_training_images_is_found(artist, by_pixels):
    pixels, labels = drawn(6000, 0)
    samples = in_range(np.concatenate([drawn(50, 2)[0], pixels[-1:]]))
    who = artist(pixels, labels)
    assert who.measure(samples, "")["least distance to a training image"]["samples"] == 0
    twins, distance = who.nearest(samples)
    np.testing.assert_array_equal(twins[-1], samples[-1])
    assert distance[-1] == 0 < distance[:-1].min()


def test_samples_are_measured_as_the_bytes_that_a_file_would_hold(artist, by_pixels):
    pixels = drawn(60, 2)[0]
    between = (
        in_range(pixels)
        + np.random.default_rng(0).uniform(-0.4, 0.4, pixels.shape).astype(np.float32) / 127.5
    )
    own = artist(*drawn(100, 0))
    exact, rounded = (
        own.measure(x, "")["figures"]["generated"]["FD (pixels)"]
        for x in (in_range(pixels), between)
    )
    assert exact == rounded


def test_the_recognizer_sees_every_class_of_training_images_sorted_by_class(artist):
    found = artist(*drawn(700, 0), selected=300).coverage(in_range(drawn(50, 2)[0]))
    assert found.accuracy > 0.95 and found.samples.share.min() > 0.4 and found.trained_on == 300


@pytest.mark.experiments
def test_as_many_real_images_as_samples_are_told_apart_from_them_without_regard_to_their_order(gan):
    real, fake = in_range(drawn(1500, 0)[0]), in_range(drawn(200, 2)[0])
    assert gan.two_sample_accuracy(real, fake) == pytest.approx(0.5, abs=0.1)


def test_too_few_images_for_neighborhoods_are_told_in_one_line(gan, artist):
    with pytest.raises(
        gan.UserError, match="5 neighbors of each image; 4 generated images are too few"
    ):
        artist(*drawn(20, 0)).measure(in_range(drawn(2, 2)[0]), "")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--batch", 1], "--batch 1 leaves batch normalization nothing"),
        (["--real-label", 0.4], "more than 0.5"),
        (["--real-label", 0.9, "--loss", "hinge"], "--loss hinge has none"),
        (["--augment", "colour"], "--augment knows no 'colour'"),
        (["--network", "mlp", "--spectral"], "knows no --spectral"),
        (["--network", "mlp", "--conditional"], "knows no --conditional"),
        (["--r1", -1], "--r1 is -1"),
        (["--betas", 0, 1], "--betas are 0.0 1.0"),
        (
            ["--loss", "wasserstein"],
            "--loss wasserstein needs a Lipschitz critic; add --gradient-penalty 10",
        ),
        (["--loss", "wasserstein", "--r1", 1], "needs a Lipschitz critic"),
        (["--critic-clip", -1], "--critic-clip is -1"),
        (["--generator-batches", 0], "--generator-batches is 0"),
        (["--rate-divisor", 0.5], "--rate-divisor is 0.5"),
        (["--momentum", 0.5, 1], "--momentum is 0.5 1.0"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(verb, tmp_path, flags, line):
    status, _, err = verb("gan", "train", "--run", tmp_path / "run", *flags)
    assert status == 2 and line in err and err.count("\n") == 1
