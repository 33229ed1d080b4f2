"""CTC: its loss by adding up all paths, what a path says, and beams that find the likeliest string."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl import losses
from advdl.models import ctc
from advdl.models.listener import Listener

FRAMES, LABELS = 4, 3
RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.normal(0, 1.5, (2, FRAMES, LABELS)), jnp.float32)


def said(path):
    """What a path of labels says."""
    return tuple(label for label, _ in itertools.groupby(path) if label)


def every_string(logits):
    """Probability of every string, by all paths."""
    chance, found = np.asarray(jax.nn.softmax(logits), np.float64), {}
    for path in itertools.product(range(LABELS), repeat=len(chance)):
        found[said(path)] = found.get(said(path), 0.0) + np.prod([frame[k] for frame, k in zip(chance, path, strict=True)])
    return found


def test_the_loss_adds_up_all_paths():
    for n in range(2):
        for string, chance in every_string(LOGITS[n]).items():
            label = np.zeros((1, FRAMES), np.int32)
            label[0, : len(string)] = string
            loss = losses.ctc(LOGITS[n][None], jnp.array([FRAMES]), jnp.asarray(label), jnp.array([len(string)]))
            assert float(loss[0]) == pytest.approx(-np.log(chance), abs=1e-4), string


def test_frames_behind_the_end_have_no_effect():
    label, length = jnp.array([[1, 2], [2, 0]]), jnp.array([2, 1])
    frames = jnp.array([4, 2])
    total = lambda logits: losses.ctc(logits, frames, label, length).sum()  # noqa: E731
    run = jax.jit(jax.value_and_grad(total))
    loss, gradient = run(LOGITS)
    dirty = jnp.where(jnp.arange(FRAMES)[None, :, None] < frames[:, None, None], LOGITS, jnp.nan)
    again, other = run(dirty)
    np.testing.assert_allclose(again, loss, rtol=1e-6)
    np.testing.assert_allclose(other[1, :2], gradient[1, :2], rtol=1e-5)
    assert not np.asarray(other[1, 2:]).any()


def test_a_path_says_what_is_left_of_it():
    paths = np.array(list(itertools.product(range(LABELS), repeat=FRAMES)), np.int32)
    found, count = jax.jit(ctc.collapse)(jnp.asarray(paths), jnp.full(len(paths), FRAMES))
    for path, own, n in zip(paths, np.asarray(found), np.asarray(count), strict=True):
        assert tuple(own[:n]) == said(path) and not own[n:].any()
    short, count = ctc.collapse(jnp.array([[1, 1, 2, 2]]), jnp.array([2]))
    assert int(count[0]) == 1 and short[0].tolist() == [1, 0, 0, 0]


def test_a_wide_beam_gives_every_string_its_probability():
    for n in range(2):
        exact = every_string(LOGITS[n])
        found = ctc.prefix_beam(np.asarray(jax.nn.log_softmax(LOGITS[n])), 1000)
        assert [string for string, _ in found][:5] == sorted(exact, key=exact.get, reverse=True)[:5]
        for string, log_probability in found:
            if string in exact:
                assert log_probability == pytest.approx(np.log(exact[string]), abs=1e-6)


def test_the_likeliest_word_is_that_of_the_single_strings(load):
    found = load("speech").likeliest_word(LOGITS, jnp.full(2, FRAMES), range(1, LABELS))
    for n in range(2):
        exact = every_string(LOGITS[n])
        assert int(found[n]) == max(range(1, LABELS), key=lambda word: exact[(word,)])


def test_a_listener_hears_nothing_behind_the_end():
    network, length = Listener(4, 5, layers=2), jnp.array([3, 6, 0])
    x = jnp.asarray(RNG.standard_normal((3, 6, 2)), jnp.float32)
    variables = network.init(jax.random.key(0), x, length)
    real = jnp.arange(6)[None, :, None] < length[:, None, None]
    before = network.apply(variables, x, length)
    after = network.apply(variables, jnp.pad(jnp.where(real, x, 1e5), ((0, 0), (0, 3), (0, 0))), length)
    np.testing.assert_allclose(jnp.where(real, before, 0), jnp.where(real, after[:, :6], 0), atol=1e-5)
