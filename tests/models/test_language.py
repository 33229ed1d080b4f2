"""A language model: the carry goes on, its own words where it is told to, and padding behind
changes nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.models import LanguageModel, decoding, language

KEY = jax.random.key(5)
TOKENS = np.random.default_rng(0).integers(0, 11, (3, 12)).astype(np.int32)


@functools.cache
def network(**fields):
    module = LanguageModel(11, 6, 6, 2, **fields)
    return module, jax.jit(module.init)(KEY, TOKENS)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_windows_in_turn_are_one_reading(cell):
    module, variables = network(cell=cell)
    apply, carry, parts = jax.jit(module.apply), module.begin(3), []
    whole, found = apply(variables, TOKENS)
    for part in np.split(TOKENS, 4, 1):
        logits, after = apply(variables, part, carry)
        carry = after["carry"]
        parts.append(logits)
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), carry, found["carry"])


def test_a_token_changes_no_answer_before_it():
    module, variables = network()
    other = TOKENS.copy()
    other[:, 7:] = (other[:, 7:] + 1) % 11
    np.testing.assert_array_equal(
        module.apply(variables, TOKENS)[0][:, :7], module.apply(variables, other)[0][:, :7]
    )


@pytest.mark.slow
def test_sampling_with_probability_0_is_teacher_forcing_and_1_is_writing_alone():
    module, variables = network()

    def apply(share):
        return module.apply(variables, TOKENS, sampling=share, rngs={"sampling": KEY})

    forced, traced = module.apply(variables, TOKENS), apply(jnp.float32(0))
    np.testing.assert_allclose(traced[0], forced[0], atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), traced[1], forced[1])

    def step(carry, token):
        return module.apply(variables, carry, token, method="next")

    written = decoding.sample(step, module.begin(3), TOKENS[:, 0], 12, -1).token
    np.testing.assert_array_equal(apply(1.0)[0].argmax(-1), written)


def test_half_of_the_tokens_are_its_own_each_by_itself():
    module, variables = network()
    forced = jax.jit(lambda tokens: module.apply(variables, tokens)[0])
    logits, _ = module.apply(variables, TOKENS, sampling=0.5, rngs={"sampling": KEY})
    given = (
        TOKENS.copy()
    )  # what it was fed, found step by step: its own word where the answer after it says so
    for t in range(1, 12):
        own = np.asarray(forced(given).argmax(-1))[:, t - 1]
        fed = given.copy()
        fed[:, t] = own
        as_fed, as_given = (np.asarray(forced(x))[:, t] for x in (fed, given))
        mine = np.abs(as_fed - logits[:, t]).max(-1) < np.abs(as_given - logits[:, t]).max(-1)
        given[mine, t] = own[mine]
    np.testing.assert_allclose(forced(given), logits, atol=1e-6)
    changed = (given != TOKENS)[:, 1:]
    assert 0.2 < changed.mean() < 0.8 and len({tuple(row) for row in changed.tolist()}) == 3


def test_the_medium_network_has_the_parameters_that_its_layers_have():
    """Embedding, two layers of four gates with input, state and bias, and the softmax, at 10,000
    words."""
    module = LanguageModel(10_000, 650, 650, 2, dropout=0.5, uniform=0.05)

    def count(module):
        return sum(x.size for x in jax.tree.leaves(jax.eval_shape(module.init, KEY, TOKENS)))

    assert count(module) == 10_000 * 650 + 2 * 4 * 650 * (650 + 650 + 1) + 10_000 * 651
    tied = LanguageModel(10_000, 650, 650, 2, tied=True)
    assert count(tied) == 10_000 * 650 + 2 * 4 * 650 * 1301


def test_born_uniform_with_no_gate_open():
    _, variables = network(uniform=0.05)
    values = np.concatenate([np.ravel(x) for x in jax.tree.leaves(variables)])
    assert np.abs(values).max() <= 0.05 and np.abs(values).max() > 0.049
    assert not variables["params"]["stack"]["layer0"]["bias"].any()


def test_reading_in_windows_is_one_reading_of_every_row():
    module, variables = network()
    batch = {"inputs": TOKENS, "targets": np.roll(TOKENS, -1, 1)}
    found = jax.jit(language.functions(module, 4)["read"])(variables, batch)
    logits, whole = module.apply(variables, TOKENS)
    nats, right = language.compare(logits, batch["targets"])
    np.testing.assert_allclose(found["nats"], nats, atol=1e-5)
    np.testing.assert_array_equal(found["right"], right)
    np.testing.assert_allclose(found["states"], whole["states"], atol=1e-6)
    p = jax.nn.softmax(logits)[1, 5, batch["targets"][1, 5]]
    assert nats[1, 5] == pytest.approx(-np.log(p), rel=1e-5)


@pytest.mark.slow
def test_a_network_that_learns_as_it_reads_foresees_a_window_before_it_learns_it():
    """Three windows by hand: the numbers of a window are those of the parameters that the windows
    before have moved, and the state goes on."""
    module, variables = network(cell="gru")
    batch = {"inputs": TOKENS, "targets": np.roll(TOKENS, -1, 1)}
    functions = language.functions(module, 4)
    still = jax.jit(functions["adapt"])(variables, batch, 0.0)
    read = jax.jit(functions["read"])(variables, batch)
    np.testing.assert_allclose(still["nats"], read["nats"], atol=1e-6)
    np.testing.assert_array_equal(still["right"], read["right"])
    found = jax.jit(functions["adapt"])(variables, batch, 2.0)
    params, carry = variables["params"], module.begin(3)
    for first in (0, 4, 8):
        window = slice(first, first + 4)

        def forward(params, window=window, carry=carry):
            logits, seen = module.apply({"params": params}, TOKENS[:, window], carry)
            log_p = jax.nn.log_softmax(logits)
            own = jnp.take_along_axis(log_p, batch["targets"][:, window, None], 2)[..., 0]
            return -own.mean(), (-own, seen["carry"])

        (_, (nats, carry)), slope = jax.value_and_grad(forward, has_aux=True)(params)
        np.testing.assert_allclose(found["nats"][:, window], nats, atol=2e-5)
        params = jax.tree.map(lambda x, d: x - 2.0 * d, params, slope)
    assert np.abs(found["nats"] - read["nats"])[:, 4:].min() > 0


@pytest.mark.slow
def test_going_on_is_judged_from_the_token_after_the_context():
    module, variables = network()
    go_on = language.functions(module, 4)["go_on"]
    truth = go_on(variables, {"tokens": TOKENS}, context=5, sampling=0.0)
    logits, _ = module.apply(variables, TOKENS[:, :-1])
    nats, right = language.compare(logits, TOKENS[:, 1:])
    np.testing.assert_allclose(truth["nats"], nats[:, 5:], atol=1e-5)
    own = go_on(variables, {"tokens": TOKENS}, context=5, sampling=1.0)
    np.testing.assert_allclose(own["nats"][:, 0], truth["nats"][:, 0], atol=1e-5)
    assert np.abs(own["nats"][:, 1:] - truth["nats"][:, 1:]).max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 5])
def test_what_is_written_follows_its_beginning_and_its_key(length):
    module, variables = network()
    write = language.functions(module, 4)["write"]
    beginning = TOKENS[:, :length]

    def written(seed, **drawing):
        key = np.broadcast_to(jax.random.key_data(jax.random.key(seed)), (3, 2))
        return write(variables, {"beginning": beginning, "key": key}, steps=6, **drawing)

    likeliest, text = written(0), beginning
    for _ in range(6):
        text = np.c_[text, module.apply(variables, text)[0][:, -1].argmax(-1)]
    np.testing.assert_array_equal(likeliest, text[:, length:])
    drawn = written(1, temperature=2.0)
    np.testing.assert_array_equal(drawn, written(1, temperature=2.0))
    assert (drawn != written(2, temperature=2.0)).any()
