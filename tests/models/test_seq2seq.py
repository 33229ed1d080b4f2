"""Sequence to sequence: the papers' formulas in plain NumPy, padding without effect, the way back
through it, what it is fed, and the step that decoding takes."""

import functools

import flax.linen as flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.models import decoding, seq2seq
from advdl.models.feeding import feed
from advdl.nn import Dropout, attention, remat

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
SOURCE, LENGTH = RNG.integers(4, 9, (3, 5), np.int32), np.array([5, 2, 1], np.int32)
TARGET = RNG.integers(4, 8, (3, 4), np.int32)
TARGET[:, 0] = 2


@functools.cache
def made(attention="additive", **options):
    network = seq2seq.Translator(9, 8, embedding=6, features=5, attention=attention, **options)
    return network, jax.jit(network.init)(KEY, SOURCE, LENGTH, TARGET)


@functools.cache
def answer(attention="additive"):
    """The network's `(logits, weights)` for `(variables, source, length, target)`, compiled."""
    return jax.jit(made(attention)[0].apply)


def abstract(attention, features=5):
    """The network and the shapes of its variables."""
    network = seq2seq.Translator(9, 8, embedding=6, features=features, attention=attention)
    return network, jax.eval_shape(network.init, KEY, SOURCE, LENGTH, TARGET)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(p, x, c, h):
    """One step: (c, h); gates in the order i, f, g, o."""
    i, f, g, o = np.split(x @ p["kernel"] + h @ p["recurrent"] + p["bias"], 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(c)


def gru(p, x, h):
    """One step: h; gates in the order r, z, n."""
    given, own = x @ p["kernel"] + p["bias"], h @ p["recurrent"]
    (r, z, n), (own_r, own_z, own_n) = np.split(given, 3), np.split(own, 3)
    r, z = sigmoid(r + own_r), sigmoid(z + own_z)
    n = np.tanh(n + r * (own_n + p["recurrent_bias"]))
    return (1 - z) * n + z * h


def affine(p, x):
    return x @ p["kernel"] + p.get("bias", 0)


def plainly(p, attention, source, target, input_feeding=True):
    """One sentence (S,), without padding, and its target (T,) through the equations: (logits (T,
    V), weights (T, S))."""
    words = p["source_words"]["embedding"][source]
    read, last = [], []
    for name, order in (("forward0", 1), ("backward0", -1)):
        c = h = np.zeros(len(p["encoder"][name]["recurrent"]))
        states = []
        for x in words[::order]:
            c, h = lstm(p["encoder"][name], x, c, h)
            states.append(h)
        read.append(states[::order])
        last.append((c, h))
    memory = [
        a + b if attention == "dot" else np.concatenate([a, b]) for a, b in zip(*read, strict=True)
    ]
    (c1, h1), (c2, h2) = last
    c = np.tanh(affine(p["bridge_cell"], np.concatenate([c1, c2])))
    h = np.tanh(affine(p["bridge_hidden"], np.concatenate([h1, h2])))
    scores = {
        "additive": lambda s, m: (
            np.tanh(affine(p["attend"]["query"], s) + affine(p["keys"], m))
            @ p["attend"]["score"]["kernel"]
        ),
        "dot": lambda s, m: s @ m,
        "general": lambda s, m: s @ (p["keys"]["kernel"].T @ m),
    }

    def look(s):
        score = np.array([scores[attention](s, m) for m in memory]).reshape(-1)
        weight = np.exp(score) / np.exp(score).sum()
        return sum(a * m for a, m in zip(weight, memory, strict=True)), weight

    logits, weights, attentional = [], [], np.zeros_like(h)
    for token in target:
        word, weight = p["target_words"]["embedding"][token], np.zeros(len(source))
        if attention == "additive":  # Bahdanau et al. 2014, appendix A.2.2
            context, weight = look(h)
            each = affine(p["joined"], np.concatenate([h, word, context]))
            said = np.array([max(each[n], each[n + 1]) for n in range(0, len(each), 2)])
            c, h = lstm(p["decoder"], np.concatenate([word, context]), c, h)
        elif attention == "none":
            c, h = lstm(p["decoder"], word, c, h)
            said = h
        else:  # Luong et al. 2015, equations 5 and 6 and section 3.3
            c, h = lstm(p["decoder"], np.concatenate([word, attentional * input_feeding]), c, h)
            context, weight = look(h)
            said = attentional = np.tanh(p["joined"]["kernel"].T @ np.concatenate([context, h]))
        logits.append(affine(p["answer"], said))
        weights.append(weight)
    return np.array(logits), np.array(weights)


@pytest.mark.parametrize("attention", seq2seq.ATTENTION)
def test_the_network_is_the_equations_in_plain_numpy(attention):
    network, shapes = abstract(attention, features=6)
    rng = np.random.default_rng(3)
    variables = jax.tree.map(lambda x: rng.normal(0, 0.7, x.shape).astype(np.float32), shapes)
    logits, weights = jax.jit(network.apply)(variables, SOURCE, LENGTH, TARGET)
    exact = jax.tree.map(np.float64, variables["params"])
    for b, length in enumerate(LENGTH):
        given = exact, attention, np.asarray(SOURCE[b, :length]), np.asarray(TARGET[b])
        wanted, looks = plainly(*given)
        np.testing.assert_allclose(logits[b], wanted, atol=1e-5)
        np.testing.assert_allclose(weights[b, :, :length], looks, atol=1e-5)
        assert not np.asarray(weights[b, :, length:]).any()
        if attention in ("dot", "general"):  # what is fed matters from the second step on
            unfed, _ = plainly(*given, input_feeding=False)
            assert (
                np.abs(unfed - wanted)[0].max() == 0
                and np.abs(unfed - wanted)[1:].max(1).min() > 0.01
            )


def read_plainly(p, cell, layers, reading, x):
    """Words (S, E) through the encoder: (the memory (S, M), the last carries of each layer, those
    of the directions side by side)."""
    carries = []
    for layer in range(layers):
        outputs, last = [], []
        names = {"both": ("forward", "backward")}.get(reading, ("layer",))
        for name in names:
            order = -1 if name == "backward" or reading == "backward" else 1
            own = p[f"{name}{layer}"]
            h = c = np.zeros(len(own["recurrent"]))
            states = []
            for word in x[::order]:
                c, h = lstm(own, word, c, h) if cell == "lstm" else (c, gru(own, word, h))
                states.append(h)
            outputs.append(states[::order])
            last.append((c, h) if cell == "lstm" else (h,))
        x = np.concatenate(outputs, -1)
        carries.append([np.concatenate(part) for part in zip(*last, strict=True)])
    return x, carries


@pytest.mark.parametrize("reading", seq2seq.READING)
@pytest.mark.parametrize("cell", ["lstm", pytest.param("gru", marks=pytest.mark.slow)])
def test_layers_cells_and_directions_are_the_equations_in_plain_numpy(cell, reading):
    """Three layers with attention `dot`: each layer of the decoder starts from the encoder's of its
    height and reads the one below, and the highest looks."""
    options = dict(attention="dot", layers=3, cell=cell, reading=reading)
    network = seq2seq.Translator(9, 8, embedding=6, features=5, **options)
    shapes = jax.eval_shape(network.init, KEY, SOURCE, LENGTH, TARGET)
    rng = np.random.default_rng(3)
    variables = jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape).astype(np.float32), shapes)
    logits, weights = jax.jit(network.apply)(variables, SOURCE, LENGTH, TARGET)
    p = jax.tree.map(np.float64, variables["params"])
    for b, length in enumerate(LENGTH):
        words = p["source_words"]["embedding"][SOURCE[b, :length]]
        memory, last = read_plainly(p["encoder"], cell, 3, reading, words)
        memory = memory[:, :5] + memory[:, 5:] if reading == "both" else memory
        names = ("cell", "hidden") if cell == "lstm" else ("hidden",)
        carries = [
            [
                np.tanh(affine(p[f"bridge_{name}{layer or ''}"], part))
                for name, part in zip(names, parts, strict=True)
            ]
            for layer, parts in enumerate(last)
        ]
        attentional = np.zeros(5)
        for t, token in enumerate(TARGET[b]):
            x = np.concatenate([p["target_words"]["embedding"][token], attentional])
            for layer, carry in enumerate(carries):
                own = p["above"][f"layer{layer - 1}"] if layer else p["decoder"]
                new = lstm(own, x, *carry) if cell == "lstm" else (gru(own, x, *carry),)
                carries[layer] = list(new)
                x = carries[layer][-1]
            weight = np.exp(memory @ x) / np.exp(memory @ x).sum()
            np.testing.assert_allclose(weights[b, t, :length], weight, atol=1e-5)
            joined = np.concatenate([weight @ memory, x])
            attentional = np.tanh(joined @ p["joined"]["kernel"])
            np.testing.assert_allclose(logits[b, t], affine(p["answer"], attentional), atol=1e-5)


@pytest.mark.slow
def test_steps_of_several_layers_one_by_one_are_the_whole():
    network, variables = made("additive", layers=2, cell="gru")
    logits, _ = jax.jit(network.apply)(variables, SOURCE, LENGTH, TARGET)
    carry = network.apply(variables, SOURCE, LENGTH, method="encode")
    step = jax.jit(functools.partial(network.apply, method="next"))
    for t in range(TARGET.shape[1]):
        own, carry = step(variables, carry, TARGET[:, t])
        np.testing.assert_allclose(own, logits[:, t], atol=1e-5)


def test_of_each_paper_the_layers_are_there_and_no_others():
    layers = {attention: set(abstract(attention)[1]["params"]) for attention in seq2seq.ATTENTION}
    both = {
        "source_words",
        "target_words",
        "encoder",
        "bridge_cell",
        "bridge_hidden",
        "decoder",
        "answer",
    }
    assert (
        layers["none"] == both
        and layers["dot"] == both | {"joined"}
        and layers["general"] == both | {"joined", "keys"}
    )
    assert layers["additive"] == both | {"joined", "keys", "attend"}


@pytest.mark.parametrize(
    "attention",
    [
        "dot",
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in seq2seq.ATTENTION
            if each != "dot"
        ),
    ],
)
def test_padding_of_the_source_changes_nothing(attention):
    network, variables = made(attention)

    def total(variables, source):
        logits, weights = network.apply(variables, source, LENGTH, TARGET)
        return jnp.square(logits).sum(), (logits, weights)

    run = jax.jit(jax.value_and_grad(total, has_aux=True))
    dirty = np.where(np.arange(7) < LENGTH[:, None], np.pad(SOURCE, ((0, 0), (0, 2))), 8)
    (_, (logits, weights)), gradient = run(variables, SOURCE)
    (_, (other, longer)), again = run(variables, dirty)
    np.testing.assert_allclose(other, logits, atol=1e-5)
    np.testing.assert_allclose(longer[..., :5], weights, atol=1e-6)
    assert not np.asarray(longer[..., 5:]).any()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), gradient, again)


@pytest.mark.parametrize(
    "attention",
    [
        each if each in ("additive", "dot") else pytest.param(each, marks=pytest.mark.slow)
        for each in seq2seq.ATTENTION
    ],
)
def test_an_answer_depends_on_nothing_later_and_on_the_source(attention):
    _, variables = made(attention)
    later = TARGET.copy()
    later[:, 2:] = 3
    before, after, other = (
        np.asarray(answer(attention)(variables, source, LENGTH, target)[0])
        for source, target in ((SOURCE, TARGET), (SOURCE, later), ((SOURCE + 1) % 9, TARGET))
    )
    np.testing.assert_allclose(before[:, :2], after[:, :2], atol=1e-6)
    assert np.abs(before[:, 2:] - after[:, 2:]).max() > 1e-4
    assert np.abs(other - before).max() > 1e-4


@pytest.mark.parametrize(
    "attention",
    [
        each if each in ("additive", "dot") else pytest.param(each, marks=pytest.mark.slow)
        for each in seq2seq.ATTENTION
    ],
)
def test_steps_one_by_one_are_the_whole(attention):
    network, variables = made(attention)
    logits, _ = answer(attention)(variables, SOURCE, LENGTH, TARGET)
    carry = jax.jit(functools.partial(network.apply, method="encode"))(variables, SOURCE, LENGTH)
    step = jax.jit(functools.partial(network.apply, method="next"))
    for t in range(TARGET.shape[1]):
        own, carry = step(variables, carry, TARGET[:, t])
        np.testing.assert_allclose(own, logits[:, t], atol=1e-5)


@pytest.mark.slow
def test_a_step_that_keeps_its_products_alone_takes_less_memory_for_the_same_gradient(
    monkeypatch,
):
    """Additive attention makes a value for each pair of a target's and a source's token: those are
    not all there at once."""
    network = seq2seq.Translator(9, 8, embedding=6, features=32)
    source, length, target = jnp.full((4, 256), 5), jnp.full(4, 250), jnp.full((4, 32), 3)
    rng, shapes = (
        np.random.default_rng(0),
        jax.eval_shape(network.init, KEY, source, length, target),
    )
    variables = jax.tree.map(lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32), shapes)

    def compiled(way):
        def total(variables):
            return jnp.square(network.apply(variables, source, length, target)[0]).sum()

        return jax.jit(jax.grad(remat.WAYS[way](total))).lower(variables).compile()

    whole, less = compiled("none"), compiled("dots")
    monkeypatch.setattr(attention, "tanh", jnp.tanh)  # whose derivative keeps two values of a pair
    both = compiled("none")
    assert "f32[32,4,256,32]" in whole.as_text() and "f32[32,4,256,32]" not in less.as_text()
    pairs = 4 * 32 * 256 * 32 * 4  # bytes of one value for each
    most, one, none = (x.memory_analysis().temp_size_in_bytes for x in (both, whole, less))
    assert most - none > pairs
    assert one - none > pairs / 2 and most - one > pairs / 2
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        whole(variables),
        less(variables),
    )


def test_what_is_fed_is_what_the_probability_says():
    """0 is teacher forcing, 1 free running, in between each token has a coin of its own."""
    network, variables = made()
    apply = jax.jit(
        lambda share, key: network.apply(
            variables, SOURCE, LENGTH, TARGET, sampling=share, rngs={"sampling": key}
        )[0]
    )
    forced = np.asarray(answer()(variables, SOURCE, LENGTH, TARGET)[0])
    np.testing.assert_allclose(apply(np.float32(0), KEY), forced, atol=1e-6)

    @jax.jit
    def decoded():
        return decoding.greedy(
            lambda carry, token: network.apply(variables, carry, token, method="next"),
            network.apply(variables, SOURCE, LENGTH, method="encode"),
            TARGET[:, 0],
            4,
            end=-1,
        )

    np.testing.assert_array_equal(np.asarray(apply(np.float32(1), KEY)).argmax(-1), decoded().token)
    some = np.stack([apply(np.float32(0.5), jax.random.key(n)) for n in range(8)])
    np.testing.assert_allclose(
        some[:, :, 0], np.broadcast_to(forced[:, 0], some[:, :, 0].shape), atol=1e-6
    )
    assert len(np.unique(some[:, 0, 3, 0].round(5))) > 2  # not one coin for the whole sequence


def test_dropout_in_the_loop_is_drawn_anew_at_every_step():
    class Dropping(flax.Module):
        def setup(self):
            self.drop = Dropout(0.5)

        def __call__(self, token_BT):
            def read(module, token):
                return jnp.ones((*token.shape, 64))

            def step(module, carry, word):
                return (module.drop(word, True), carry)

            return feed(self, read, step, lambda module, said: said, (), token_BT)[1][0]

    said = jax.jit(Dropping().apply)({}, TARGET, rngs={"dropout": KEY})
    masks = {np.asarray(said[b, t]).tobytes() for b in range(3) for t in range(4)}
    assert said.shape == (3, 4, 64) and len(masks) == 12


@pytest.mark.slow
def test_dropout_is_for_training():
    network, variables = made(dropout=0.5)

    @functools.partial(jax.jit, static_argnums=0)
    def run(train, key):
        given = variables, SOURCE, LENGTH, TARGET
        return network.apply(*given, train=train, rngs={"dropout": key})[0]

    clean = [np.asarray(run(False, jax.random.key(n))) for n in range(2)]
    np.testing.assert_array_equal(*clean)
    assert np.abs(run(True, KEY) - clean[0]).max() > 1e-3
