"""A captioner: the papers' formulas in plain NumPy, padding without effect, what it is fed, where
it looks, and an encoder that stays as it is."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl import losses, models, weights
from advdl.metrics import Mean
from advdl.models import decoding
from advdl.nn import BatchNorm

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
IMAGE = RNG.normal(0, 1, (3, 8, 8, 1)).astype(np.float32)
CAPTION = RNG.integers(4, 9, (3, 6)).astype(np.int32)
CAPTION[:, 0] = 2
LENGTH = np.array([5, 2, 0], np.int32)
BOTH = pytest.mark.parametrize("attention", [False, True])


class Eye(nn.Module):
    """A small encoder with batch statistics."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(5, (3, 3), strides=2, name="conv")(x)
        x = jnp.tanh(nn.BatchNorm(not train, name="norm")(x))
        return x, {"maps": x, "pooled": x.mean((1, 2))}


@functools.cache
def made(attention=False, **options):
    network = models.Captioner(Eye(), options.pop("layer", "maps"), 9, 6, 7, attention, **options)
    return network, jax.jit(network.init)(KEY, IMAGE, CAPTION[:, :-1])


def but(caption, place, word):
    """With another word there."""
    changed = caption.copy()
    changed[place] = word
    return changed


@pytest.mark.slow
@BOTH
def test_padding_of_captions_changes_nothing(attention):
    network, variables = made(attention)

    def total(params, caption):
        logits, looks = network.apply({**variables, "params": params}, IMAGE, caption[:, :-1])
        mean = Mean.of(*losses.token_cross_entropy(logits, caption[:, 1:], LENGTH))
        return mean.total / mean.count, (mean.count, logits, looks)

    run = jax.jit(jax.value_and_grad(total, has_aux=True))
    (loss, (count, logits, looks)), gradient = run(variables["params"], CAPTION)
    places = np.arange(9)[None]
    for content in (0, 8):
        dirty = np.where(places <= LENGTH[:, None], np.pad(CAPTION, ((0, 0), (0, 3))), content)
        (other, (still, *longer)), again = run(variables["params"], dirty)
        assert still == count == 7
        np.testing.assert_allclose(other, loss, rtol=1e-6)
        real = (places < LENGTH[:, None])[:, :5]
        for new, old in zip(longer, (logits, looks), strict=True):
            new, old = np.asarray(new), np.asarray(old)
            np.testing.assert_allclose(new[:, :5][real], old[real], atol=1e-6)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), again, gradient)
    assert (
        np.abs(run(variables["params"], but(CAPTION, (0, 5), 4))[0][0] - loss) > 1e-4
    )  # a word that counts, counts


@BOTH
def test_an_answer_depends_on_the_image_and_on_nothing_later(attention):
    network, variables = made(attention)
    answer = jax.jit(lambda image, caption: network.apply(variables, image, caption)[0])
    later = but(CAPTION, (slice(None), slice(3, None)), 3)
    given = (IMAGE, CAPTION), (IMAGE, later), (IMAGE[::-1], CAPTION)
    before, after, other = (np.asarray(answer(*each)) for each in given)
    np.testing.assert_allclose(before[:, :3], after[:, :3], atol=1e-6)
    assert np.abs(before[:, 3:] - after[:, 3:]).max() > 1e-4
    assert np.abs(other - before)[:2].max() > 1e-4


@BOTH
def test_steps_one_by_one_are_the_whole_and_a_beam_of_one_is_greedy(attention):
    network, variables = made(attention)
    logits, _ = jax.jit(network.apply)(variables, IMAGE, CAPTION)
    carry = begun = jax.jit(lambda: network.apply(variables, IMAGE, method="encode"))()
    step = jax.jit(lambda carry, token: network.apply(variables, carry, token, method="next"))
    for t in range(CAPTION.shape[1]):
        own, carry = step(carry, CAPTION[:, t])
        np.testing.assert_allclose(own, logits[:, t], atol=1e-5)
    greedy = jax.jit(lambda: decoding.greedy(step, begun, CAPTION[:, 0], 5, end=3))()
    beam = jax.jit(
        lambda: decoding.beam_search(step, begun, CAPTION[:, 0], 1, 5, end=3, alpha=1.0)
    )()
    np.testing.assert_array_equal(beam.token[:, 0], greedy.token)
    np.testing.assert_allclose(beam.log_probability[:, 0], greedy.log_probability, rtol=1e-5)


@BOTH
def test_sampling_with_probability_0_is_teacher_forcing_and_1_is_writing_alone(attention):
    network, variables = made(attention)
    apply = jax.jit(
        lambda share: network.apply(
            variables, IMAGE, CAPTION, sampling=share, rngs={"sampling": KEY}
        )
    )
    forced = jax.jit(network.apply)(variables, IMAGE, CAPTION)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), apply(jnp.float32(0)), forced
    )

    def step(carry, token):
        return network.apply(variables, carry, token, method="next")

    def start():
        return network.apply(variables, IMAGE, method="encode")

    free = jax.jit(lambda: decoding.greedy(step, start(), CAPTION[:, 0], 6, end=-1))()
    np.testing.assert_array_equal(apply(jnp.float32(1))[0].argmax(-1), free.token)


def plainly(p, attention, maps, caption, gated=True):
    """One map (S, D) and one caption (T,) through the equations: (logits (T, V), weights (T,
    S))."""

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def affine(name, x):
        return x @ p[name]["kernel"] + p[name].get("bias", 0)

    def lstm(x, c, h):
        i, f, g, o = np.split(
            x @ p["decoder"]["kernel"] + h @ p["decoder"]["recurrent"] + p["decoder"]["bias"], 4
        )
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return c, sigmoid(o) * np.tanh(c)

    mean, words = maps.mean(0), p["words"]["embedding"]
    if not attention:  # Vinyals et al. 2014, equations 10 to 12
        c, h = lstm(affine("picture", mean), *np.zeros((2, len(p["decoder"]["recurrent"]))))
        states = []
        for token in caption:
            c, h = lstm(words[token], c, h)
            states.append(h)
        return affine("answer", np.array(states)), np.zeros((len(caption), 0))
    c, h = np.tanh(affine("begin_cell", mean)), np.tanh(affine("begin_hidden", mean))
    attend, logits, weights = p["attend"], [], []
    for token in caption:  # Xu et al. 2015
        query = h @ attend["query"]["kernel"] + attend["query"]["bias"]
        score = np.array(
            [np.tanh(query + affine("keys", place)) @ attend["score"]["kernel"] for place in maps]
        )[:, 0]
        weight = np.exp(score) / np.exp(score).sum()  # equations 4 to 6
        context = sum(
            share * place for share, place in zip(weight, maps, strict=True)
        )  # equation 13
        context = context * (sigmoid(affine("gate", h)) if gated else 1)  # section 4.2.1
        c, h = lstm(np.concatenate([words[token], context]), c, h)  # equations 1 to 3
        said = words[token] + affine("of_hidden", h) + affine("of_context", context)
        logits.append(affine("answer", said))  # equation 7
        weights.append(weight)
    return np.array(logits), np.array(weights)


@BOTH
def test_the_decoder_is_the_equations_in_plain_numpy(attention):
    network, shapes = made(attention)
    rng = np.random.default_rng(3)
    variables = {
        **shapes,
        "params": jax.tree.map(
            lambda x: rng.normal(0, 0.7, x.shape).astype(np.float32), shapes["params"]
        ),
    }
    logits, looks = jax.jit(network.apply)(variables, IMAGE, CAPTION)
    maps = np.float64(jax.jit(lambda: network.apply(variables, IMAGE, method="see"))())
    exact = jax.tree.map(np.float64, variables["params"])
    for b in range(len(IMAGE)):
        wanted, weights = plainly(exact, attention, maps[b], CAPTION[b])
        np.testing.assert_allclose(logits[b], wanted, atol=1e-5)
        np.testing.assert_allclose(looks[b], weights, atol=1e-5)
        if attention:
            ungated, _ = plainly(exact, attention, maps[b], CAPTION[b], gated=False)
            assert np.abs(ungated - wanted).max(1).min() > 0.01


def test_looks_are_shares_of_the_places():
    network, variables = made(True)
    _, looks = jax.jit(network.apply)(variables, IMAGE, CAPTION)
    assert looks.shape == (3, 6, 16) and (np.asarray(looks) > 0).all()
    np.testing.assert_allclose(looks.sum(-1), 1, rtol=1e-5)
    assert np.abs(looks[:, 1:] - looks[:, :-1]).max() > 1e-6  # another look for another word
    assert jax.eval_shape(made(False)[0].apply, made(False)[1], IMAGE, CAPTION)[1].shape == (
        3,
        6,
        0,
    )


@pytest.mark.slow
def test_without_attention_the_mean_of_the_maps_is_read_or_all_of_them():
    network, variables = made()

    def read(network, variables, image):
        return jax.jit(network.apply)(variables, image, CAPTION)[0]

    by_maps = read(network, variables, IMAGE)
    np.testing.assert_allclose(read(made(layer="pooled")[0], variables, IMAGE), by_maps, atol=1e-6)
    shapes = jax.eval_shape(made()[0].clone(pooled=False).init, KEY, IMAGE, CAPTION)["params"][
        "picture"
    ]["kernel"].shape
    assert shapes == (16 * 5, 6) and variables["params"]["picture"]["kernel"].shape == (5, 6)


@pytest.mark.slow
def test_a_frozen_encoder_gets_no_gradient_and_keeps_its_statistics():
    moved = {}
    for frozen in (True, False):
        network, variables = made(frozen=frozen)

        def total(params, network=network, variables=variables):
            (logits, _), new = network.apply(
                {**variables, "params": params}, IMAGE, CAPTION, train=True, mutable=["batch_stats"]
            )
            return jnp.square(logits).sum(), new.get("batch_stats", variables["batch_stats"])

        gradient, statistics = jax.jit(jax.grad(total, has_aux=True))(variables["params"])

        def largest(tree):
            return max(float(np.abs(x).max()) for x in jax.tree.leaves(tree))

        changed = jax.tree.map(lambda a, b: a - b, statistics, variables["batch_stats"])
        moved[frozen] = largest(gradient.pop("encoder")), largest(changed)
        assert largest(gradient) > 0
    assert moved[True] == (0, 0) and min(moved[False]) > 0


def test_dropout_is_for_training():
    network, variables = made(False, dropout=0.5)
    apply = jax.jit(
        lambda train, key: network.apply(
            variables, IMAGE, CAPTION, train, rngs={"dropout": key}, mutable=["batch_stats"]
        )[0][0],
        static_argnums=0,
    )  # fmt: skip
    keys = KEY, jax.random.key(1)
    np.testing.assert_array_equal(*(apply(False, key) for key in keys))
    assert np.abs(np.subtract(*(apply(True, key) for key in keys))).max() > 1e-3


@pytest.mark.slow
def test_show_and_tell_has_the_parameters_that_its_layers_have():
    """Image and words to 512, one LSTM of 512, the softmax, at 9,000 words, and GoogLeNet without
    its classifiers."""
    encoder = models.classifier("googlenet").build(num_classes=None)
    network = models.Captioner(encoder, "5b", 9000)
    shapes = jax.eval_shape(network.init, KEY, jnp.zeros((1, 224, 224, 3)), CAPTION[:1])["params"]
    whole = models.classifier("googlenet_without_aux")
    seen = sum(x.size for x in jax.tree.leaves(shapes.pop("encoder")))
    assert seen == whole.parameters - 1025 * 1000
    assert (
        sum(x.size for x in jax.tree.leaves(shapes))
        == 1025 * 512 + 9000 * 512 + 4 * 512 * 1025 + 513 * 9000
    )


@pytest.mark.parametrize(
    "name", ["alexnet", "alexnet_torchvision", "googlenet", "vgg16", "resnet18"]
)
def test_a_network_without_its_classifier_is_the_same_up_to_there(name):
    whole, without = (models.classifier(name).build(num_classes=count) for count in (7, None))
    size = 96

    def run(network):
        return jax.eval_shape(
            lambda: network.init_with_output(KEY, jnp.zeros((1, size, size, 3)), train=False)
        )

    (_, seen), variables = run(whole)
    (maps, own), kept = run(without)
    last = [x for x in seen.values() if len(x.shape) == 4]
    assert {n: x.shape for n, x in own.items()}.items() <= {
        n: x.shape for n, x in seen.items()
    }.items()
    assert maps.shape in {x.shape for x in last}
    assert all(
        variables[part][module].keys() == inner.keys()
        for part, of in kept.items()
        for module, inner in of.items()
    )
    assert not {"classify", "fc6", "fc7", "fc8", "aux1", "aux2"} & kept["params"].keys()


def test_the_encoder_starts_from_a_file_and_nothing_else_does(tmp_path):
    def drawn(shapes):
        return jax.tree.map(lambda x: RNG.normal(size=x.shape).astype(x.dtype), shapes)

    whole = models.classifier("resnet8").build(num_classes=5)
    learned = drawn(models.abstract(whole, (16, 16, 1)))
    weights.export(tmp_path / "eye.safetensors", whole, learned)
    encoder = models.classifier("resnet8").build(num_classes=None)
    network = models.Captioner(encoder, "stage3", 9, 6, 7)
    variables = drawn(jax.eval_shape(network.init, KEY, jnp.zeros((1, 16, 16, 1)), CAPTION[:1]))
    new, report = weights.load_backbone(
        tmp_path / "eye.safetensors", network, variables, (16, 16, 1)
    )
    assert sorted(report.new) == ["linear.bias", "linear.weight"]
    for part in ("params", "batch_stats"):
        jax.tree.map(
            np.testing.assert_array_equal,
            new[part]["encoder"],
            {n: learned[part][n] for n in new[part]["encoder"]},
        )

    def rest(tree):
        return {name: inner for name, inner in tree["params"].items() if name != "encoder"}

    jax.tree.map(np.testing.assert_array_equal, rest(new), rest(variables))
    assert weights.in_encoder(network, ("encoder", "conv", "kernel")) and not weights.in_encoder(
        network, ("words",)
    )


def test_an_encoder_with_normalizations_starts_from_a_file_with_them(tmp_path):
    whole = models.vgg.VGG(norm=BatchNorm, width=1 / 32)
    shapes = models.abstract(whole, (32, 32, 3))
    learned = jax.tree.map(lambda x: RNG.normal(size=x.shape).astype(x.dtype), shapes)
    weights.export(tmp_path / "eye.safetensors", whole, learned)
    network = models.Captioner(whole.clone(num_classes=None), "pool5", 9, 6, 7)
    began = jax.eval_shape(network.init, KEY, jnp.zeros((1, 32, 32, 3)), CAPTION[:1])
    began = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), began)
    new, _ = weights.load_backbone(tmp_path / "eye.safetensors", network, began, (32, 32, 3))
    for part in ("params", "batch_stats"):
        found, wanted = (tree[part] for tree in (new, learned))
        jax.tree.map(np.testing.assert_array_equal, found["encoder"]["trunk"], wanted["trunk"])
