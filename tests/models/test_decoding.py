"""Decoding: greedy, sampled, by beam; against exhaustive search, forced decoding and a beam search
in plain Python."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advdl import train
from advdl.metrics import Mean
from advdl.models import decoding, seq2seq

VOCABULARY, END, STEPS, BATCH = 4, 3, 4, 3
RNG = np.random.default_rng(0)
TABLE = jnp.asarray(RNG.normal(0, 1.5, (BATCH, STEPS, VOCABULARY, VOCABULARY)), jnp.float32)


def step(carry, token):
    """A decoder whose logits depend on the example, the step and the last two tokens."""
    table, t, before = carry
    rows = jnp.arange(len(token))
    logits = table[rows, t, token] + 0.5 * table[rows, t, before][:, ::-1]
    return logits, (table, t + 1, token)


CARRY = TABLE, jnp.zeros(BATCH, jnp.int32), jnp.zeros(BATCH, jnp.int32)
BEGIN = jnp.zeros(BATCH, jnp.int32)


def forced(step, carry, begin_B, token_BT, length_B):
    """Log-probability (B,) of given sequences, of which `length` tokens count, token by token: what
    scores of a search are compared with."""

    def body(state, item):
        carry, token, total = state
        t, wanted = item
        logits, carry = step(carry, token)
        own = jnp.take_along_axis(
            jax.nn.log_softmax(logits.astype(jnp.float32)), wanted[:, None], axis=1
        )[:, 0]
        return (carry, wanted, total + jnp.where(t < length_B, own, 0)), None

    items = jnp.arange(token_BT.shape[1]), token_BT.T
    (_, _, total), _ = jax.lax.scan(
        body, (carry, begin_B.astype(token_BT.dtype), jnp.zeros(len(begin_B))), items
    )
    return total


def every_sequence():
    """All closed ones of at most STEPS tokens and all of STEPS that are not closed."""
    for length in range(1, STEPS + 1):
        for tokens in itertools.product(range(VOCABULARY), repeat=length):
            if END not in tokens[:-1] and (tokens[-1] == END or length == STEPS):
                yield tokens


@functools.cache
def scored():
    """(tokens, lengths, log-probability (B, N)) of all, by forced decoding."""
    sequences = list(every_sequence())
    tokens = jnp.asarray([[*s, *[0] * (STEPS - len(s))] for s in sequences], jnp.int32)
    lengths = jnp.asarray([len(s) for s in sequences])
    force = jax.jit(
        lambda token, length: forced(
            step,
            CARRY,
            BEGIN,
            jnp.broadcast_to(token, (BATCH, STEPS)),
            jnp.broadcast_to(length, (BATCH,)),
        )
    )
    return (
        sequences,
        lengths,
        jnp.stack([force(t, n) for t, n in zip(tokens, lengths, strict=True)], 1),
    )


def test_all_sequences_share_one_probability():
    np.testing.assert_allclose(jnp.exp(scored()[2]).sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
def test_a_wide_beam_is_exhaustive_search(alpha):
    sequences, lengths, total = scored()
    found = jax.jit(lambda: decoding.beam_search(step, CARRY, BEGIN, 200, STEPS, END, alpha))()
    wanted = np.asarray(total / decoding.length_penalty(lengths, alpha)[None])
    for b in range(BATCH):
        order = np.argsort(-wanted[b], kind="stable")
        best = [
            tuple(np.asarray(found.token[b, n])[: int(found.length[b, n])])
            for n in range(len(sequences))
        ]
        assert best[:20] == [sequences[n] for n in order[:20]]
        np.testing.assert_allclose(found.score[b, : len(sequences)], wanted[b][order], atol=1e-4)


MANY, LONG, WORDS, LAST = 300, 6, 5, 4
LOGITS = jnp.asarray(
    np.random.default_rng(1).normal(0, 2, (MANY, LONG, WORDS, WORDS, WORDS)), jnp.float32
)
MANY_CARRY, MANY_BEGIN = (LOGITS, *jnp.zeros((2, MANY), jnp.int32)), jnp.zeros(MANY, jnp.int32)


def many_step(carry, token):
    """As many decoders as examples, each with logits that depend on the step and on the last two
    tokens."""
    table, t, before = carry
    return table[jnp.arange(len(token)), t, before, token], (table, t + 1, token)


@functools.cache
def searched(width, alpha):
    """`beam_search` of all decoders at once."""
    run = jax.jit(
        lambda: decoding.beam_search(many_step, MANY_CARRY, MANY_BEGIN, width, LONG, LAST, alpha)
    )
    return jax.tree.map(np.asarray, run())


def plainly_searched(logits, width, alpha):
    """All that a beam of one decoder completes in LONG steps, never stopping early, and what it
    holds then: {tokens: score}."""
    own = np.asarray(logits, np.float64)
    own = own - np.log(np.exp(own).sum(-1, keepdims=True))

    def penalty(tokens):
        return ((5 + len(tokens)) / 6) ** alpha

    beam, complete = [((), 0.0)], {}
    for t in range(LONG):
        longer = []
        for tokens, total in beam:
            before, last = (0, 0, *tokens)[-2:]
            longer += [((*tokens, n), total + own[t, before, last, n]) for n in range(WORDS)]
        longer.sort(key=lambda item: -item[1])
        complete |= {
            tokens: total / penalty(tokens)
            for tokens, total in longer[:width]
            if tokens[-1] == LAST
        }
        beam = [item for item in longer if item[0][-1] != LAST][:width]
    return complete, {tokens: total / penalty(tokens) for tokens, total in beam}


SEARCHES = pytest.mark.parametrize(("width", "alpha"), [(1, 0.0), (2, 0.0), (2, 1.0), (4, 0.6)])


@SEARCHES
def test_nothing_that_a_beam_completed_is_better_than_its_result(width, alpha):
    """The beams of 300 decoders, and all of their results are those of a search that keeps
    everything and never stops early."""
    found = searched(width, alpha)
    for n in range(MANY):
        complete, unfinished = plainly_searched(LOGITS[n], width, alpha)
        assert found.score[n, 0] >= max(complete.values(), default=-np.inf) - 1e-5
        wanted = sorted({**complete, **unfinished}.items(), key=lambda item: -item[1])[:width]
        assert [
            tuple(own[:length]) for own, length in zip(found.token[n], found.length[n], strict=True)
        ] == [tokens for tokens, _ in wanted]
        np.testing.assert_allclose(found.score[n], [score for _, score in wanted], rtol=1e-5)
    behind = np.arange(LONG) >= found.length[..., None]
    assert behind.any() and not found.token[behind].any()  # nothing but padding behind the end


def test_a_complete_sequence_is_kept_though_the_beam_goes_on_with_likelier_ones():
    """One of probability 0.3 is complete after the first step; two of 0.35 replace it in the beam,
    and then fall apart."""
    end, size = 3, 40
    first = jnp.log(jnp.full(size, 1e-6).at[jnp.array([1, end])].set(jnp.array([0.7, 0.3])))
    second = jnp.log(jnp.full(size, 1e-6).at[jnp.array([1, 2])].set(0.5))
    table = jnp.stack([first, second, jnp.zeros(size), jnp.zeros(size)])

    def step(t, token):
        return (table[t], t + 1)

    found = jax.jit(
        lambda: decoding.beam_search(
            step, jnp.zeros(1, jnp.int32), jnp.zeros(1, jnp.int32), 2, 4, end
        )
    )()
    assert found.token[0, 0, 0] == end and found.length[0, 0] == 1
    np.testing.assert_allclose(found.log_probability[0, 0], np.log(0.3), rtol=1e-4)


def test_a_beam_of_one_is_greedy_without_a_length_penalty_and_never_worse_with_one():
    greedy = jax.jit(lambda: decoding.greedy(many_step, MANY_CARRY, MANY_BEGIN, LONG, LAST))()
    assert 50 < (np.asarray(greedy.length) < LONG).sum() < 250  # some end early, some do not
    one = searched(1, 0.0)
    np.testing.assert_array_equal(one.token[:, 0], greedy.token)
    np.testing.assert_array_equal(one.length[:, 0], greedy.length)
    np.testing.assert_allclose(one.log_probability[:, 0], greedy.log_probability, rtol=1e-5)
    score = greedy.log_probability / decoding.length_penalty(greedy.length, 1.0)
    assert (searched(1, 1.0).score[:, 0] >= score - 1e-5).all()


def test_a_beam_of_two_may_be_worse_than_greedy():
    """Why a wider beam is not always at least as good. Greedy takes 1 (0.4), 3 (0.3), 2 (1): 0.12.
    A beam of two holds 0 (0.35) too, whose two children (0.175 each) push out the greedy beginning
    (0.12), and then have 20 equal ones each: 0.00875."""
    size, end = 24, 23
    table = np.full((size, size), 1e-9)
    table[22, [1, 0, 2, 3]] = 0.4, 0.35, 0.125, 0.125
    table[1, [3, 4, 5, 6]] = 0.3, 0.25, 0.25, 0.2
    table[0, [7, 8]] = 0.5
    table[3, 2], table[[7, 8], :20] = 1, 1 / 20

    def step(carry, token):
        return (jnp.log(jnp.asarray(table, jnp.float32))[token], carry)

    begin = jnp.full(1, 22)
    greedy = jax.jit(lambda: decoding.greedy(step, (), begin, 3, end))()
    beam = jax.jit(lambda: decoding.beam_search(step, (), begin, 2, 3, end))()
    np.testing.assert_allclose(np.exp(greedy.log_probability), 0.12, rtol=1e-3)
    np.testing.assert_allclose(np.exp(beam.log_probability[0, 0]), 0.00875, rtol=1e-3)


def test_a_step_of_the_beam_does_not_sort_the_vocabulary():
    """A full sort of 64 times 40,000 candidates took ten times as long as the rest of a
    translator's step."""
    run = jax.jit(lambda: decoding.beam_search(many_step, MANY_CARRY, MANY_BEGIN, 2, LONG, LAST))
    sorts = [line for line in run.lower().compile().as_text().splitlines() if " sort(" in line]
    assert not [line for line in sorts if f"{MANY},{2 * WORDS}]" in line]


def test_what_does_not_exist_has_no_score():
    """Of two tokens, one of which ends, there are three sequences of at most two."""

    def step(carry, token):
        return (jnp.log(jnp.asarray([[0.6, 0.4]])).repeat(len(token), 0), carry)

    found = jax.jit(lambda: decoding.beam_search(step, (), jnp.zeros(1, jnp.int32), 5, 2, end=1))()
    np.testing.assert_allclose(np.exp(found.log_probability[0]), [0.4, 0.36, 0.24, 0, 0], rtol=1e-5)
    assert np.isneginf(found.score[0, 3:]).all()
    with pytest.raises(ValueError, match="alpha is -1"):
        decoding.beam_search(step, (), jnp.zeros(1, jnp.int32), 5, 2, end=1, alpha=-1)


@functools.cache
def many_forced():
    """`forced` of all decoders, compiled once."""
    return jax.jit(functools.partial(forced, many_step, MANY_CARRY, MANY_BEGIN))


@SEARCHES
def test_a_score_is_that_of_forced_decoding(width, alpha):
    found = searched(width, alpha)
    for n in range(width):
        again = many_forced()(found.token[:, n], found.length[:, n])
        np.testing.assert_allclose(found.log_probability[:, n], again, rtol=1e-5)
        np.testing.assert_allclose(
            found.score[:, n], again / decoding.length_penalty(found.length[:, n], alpha), rtol=1e-5
        )
    assert (np.diff(found.score, axis=1) <= 0).all()


def test_a_search_that_stops_early_finds_what_all_steps_find():
    """Alone, a decoder's search ends where its own beam can no longer improve; among many it
    goes on until that holds for the last of them."""

    def search(table):
        begin, zeros = jnp.zeros(1, jnp.int32), jnp.zeros((2, 1), jnp.int32)
        return decoding.beam_search(many_step, (table[None], *zeros), begin, 2, LONG, LAST, 1.0)

    alone, together = jax.jit(jax.vmap(search))(LOGITS), searched(2, 1.0)
    np.testing.assert_array_equal(alone.token[:, 0], together.token)
    np.testing.assert_allclose(alone.score[:, 0], together.score, rtol=1e-5)


def test_greedy_takes_the_likeliest_and_stops_at_the_end():
    found = decoding.greedy(step, CARRY, BEGIN, STEPS, END)
    carry, token, ended = CARRY, BEGIN, np.zeros(BATCH, bool)
    for t in range(STEPS):
        logits, carry = step(carry, token)
        token = jnp.where(ended, 0, logits.argmax(-1))
        np.testing.assert_array_equal(found.token[:, t], token)
        ended |= np.asarray(token) == END
    assert (np.asarray(found.length) <= STEPS).all()


@pytest.mark.slow
def test_samples_follow_the_probabilities_at_their_temperature():
    logits = jnp.asarray([[0.5, 1.5, -1.0, 0.0]])

    def alike(carry, token):
        return (jnp.broadcast_to(logits, (len(token), 4)), carry)

    for temperature, top_k, top_p in ((1.0, 0, 1.0), (0.5, 0, 1.0), (1.0, 2, 1.0), (1.0, 0, 0.6)):

        def draw(key, options=(temperature, top_k, top_p)):
            return decoding.sample(alike, (), jnp.zeros(20_000, jnp.int32), 1, END, key, *options)

        token = np.asarray(jax.jit(draw)(jax.random.key(0)).token[:, 0])
        wanted = jax.nn.softmax(decoding.restrict(logits / temperature, top_k, top_p))[0]
        np.testing.assert_allclose(np.bincount(token, minlength=4) / len(token), wanted, atol=0.012)
    with pytest.raises(ValueError, match="needs a key"):
        decoding.sample(alike, (), jnp.zeros(1, jnp.int32), 1, END, temperature=1.0)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5, "top_k": 3}], ids=["greedy", "drawn"])
def test_a_samples_log_probability_is_that_of_forced_decoding(options):
    """Of the tokens up to its end, by the network's own softmax, whatever temperature and
    restriction they were drawn by."""
    given = many_step, MANY_CARRY, MANY_BEGIN, LONG, LAST, jax.random.key(1)
    found = jax.jit(lambda: decoding.sample(*given, **options))()
    closed = np.asarray(found.token) == LAST
    np.testing.assert_array_equal(found.length, np.where(closed.any(1), closed.argmax(1) + 1, LONG))
    assert set(np.asarray(found.length).tolist()) == set(range(1, LONG + 1))
    again = many_forced()(found.token, found.length)
    np.testing.assert_allclose(found.log_probability, again, rtol=1e-5)
    np.testing.assert_array_equal(found.score, found.log_probability)


def test_the_nucleus_is_the_smallest_set_that_suffices():
    logits = jnp.log(jnp.asarray([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4]]))

    def kept(p, k=0):
        return np.isfinite(np.asarray(decoding.restrict(logits, k, p))).tolist()

    assert kept(0.75) == [[True, True, False, False], [False, True, True, True]]
    assert kept(0.45) == [[True, False, False, False], [False, False, True, True]]
    assert kept(1.0, 1) == [[True, False, False, False], [False, False, False, True]]
    assert kept(1e-9) == [[True, False, False, False], [False, False, False, True]]  # never nothing


@pytest.fixture(scope="module")
def written():
    """A learner whose functions are those of a search, what they are given, and what they answer
    by definition: (learner, inputs, tokens by width, weights of the last)."""
    network = seq2seq.Translator(9, 8, 8, 16)
    search = decoding.Search(network, begin=2, end=3, steps=5, alpha=0.5)
    rng = np.random.default_rng(0)
    inputs = {"source": rng.integers(4, 9, (11, 6)), "length": rng.integers(1, 7, 11)}
    inputs = {key: value.astype(np.int32) for key, value in inputs.items()}
    init = train.initial(network, "source", "length", "source")
    player = train.Player(init, lambda *_: train.Loss(Mean.of(jnp.zeros(1))), optax.sgd(1.0))
    functions = search.functions("source", "length")
    learner = train.minimize(player, lambda *_: {}, functions=functions)
    variables = jax.jit(init)(jax.random.key(0), inputs)
    carry = network.apply(variables, inputs["source"], inputs["length"], method="encode")
    tokens = {width: search(variables, carry, width) for width in (1, 3)}
    fed = np.concatenate([np.full((11, 1), 2, np.int32), tokens[3][:, :-1]], 1)
    _, weights = network.apply(variables, inputs["source"], inputs["length"], fed)
    return learner, inputs, tokens, weights


@pytest.mark.slow
@pytest.mark.parametrize("name, mesh", [("jit", ""), ("pmap", ""), ("mesh", "data=2,fsdp=4")])
def test_functions_of_a_search_write_in_every_placement(written, name, mesh):
    """Also where the state is split, which stays where it is; each example has its own tokens."""
    learner, inputs, tokens, wanted = written
    placed = train.place(name, mesh)(learner)
    batch = placed.put({key: value[:8] for key, value in inputs.items()})
    state = placed.init(jax.random.key(0), batch)
    before = jax.tree.map(lambda x: x.sharding, state)
    assert all(x.is_fully_replicated for x in jax.tree.leaves(before)) == (name != "mesh")
    for width in (1, 3):
        token = train.apply(placed, state, "write", inputs, rows=4, width=width)
        np.testing.assert_array_equal(token, tokens[width])
    weights = train.apply(placed, state, "attend", {**inputs, "token": token}, rows=4)
    np.testing.assert_allclose(weights, wanted, atol=1e-6)
    assert jax.tree.map(lambda x: x.sharding, state) == before
