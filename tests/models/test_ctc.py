"""CTC: its loss by adding up all paths, what a path says, and beams that find the likeliest
string."""

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
LOGITS = RNG.normal(0, 1.5, (2, FRAMES, LABELS)).astype(np.float32)


def said(path):
    """What a path of labels says."""
    return tuple(label for label, _ in itertools.groupby(path) if label)


def every_string(logits):
    """Probability of every string, by all paths."""
    chance, found = np.asarray(jax.nn.softmax(logits), np.float64), {}
    for path in itertools.product(range(LABELS), repeat=len(chance)):
        found[said(path)] = found.get(said(path), 0.0) + np.prod(
            [frame[k] for frame, k in zip(chance, path, strict=True)]
        )
    return found


def test_the_loss_adds_up_all_paths():
    for logits in LOGITS:
        strings = every_string(logits)
        label = np.zeros((len(strings), FRAMES), np.int32)
        for row, string in zip(label, strings, strict=True):
            row[: len(string)] = string
        loss = jax.jit(losses.ctc)(
            np.stack([logits] * len(strings)),
            np.full(len(strings), FRAMES),
            label,
            np.array([*map(len, strings)]),
        )
        np.testing.assert_allclose(loss, -np.log([*strings.values()]), atol=1e-4)


def test_the_fewest_frames_are_those_of_the_shortest_path_that_says_the_labels():
    shortest = {}
    for frames in range(FRAMES + 1):
        for path in itertools.product(range(LABELS), repeat=frames):
            shortest.setdefault(said(path), frames)
    strings = list(shortest)
    label = np.zeros((len(strings), FRAMES), np.int32)
    for row, string in zip(label, strings, strict=True):
        row[: len(string)] = string
    found = losses.ctc_frames(jnp.asarray(label), jnp.array([len(string) for string in strings]))
    assert found.tolist() == list(shortest.values()) and (1, 1, 2) in shortest


# Of four frames and labels 1 1 2, one path says each: 1 _ 1 2. Of three frames none does.
REPEATED = jnp.array([[1, 1, 2]] * 2), jnp.array([3, 3]), jnp.array([4, 3])


@pytest.mark.parametrize("zero_infinity", [False, True])
def test_a_string_with_too_few_frames_has_no_loss_and_no_gradient_if_so_asked(zero_infinity):
    label, length, frames = REPEATED

    def each(logits):
        return losses.ctc(logits, frames, label, length, zero_infinity)

    loss, gradient = jax.jit(lambda x: (each(x), jax.grad(lambda x: each(x).sum())(x)))(LOGITS)
    chance = LOGITS[0] - np.log(np.exp(LOGITS[0]).sum(-1, keepdims=True))
    assert float(loss[0]) == pytest.approx(
        -float(chance[0, 1] + chance[1, 0] + chance[2, 1] + chance[3, 2]), rel=1e-5
    )
    assert gradient[0].any()
    assert (
        (float(loss[1]) == 0 and not gradient[1].any()) if zero_infinity else float(loss[1]) > 1e4
    )


def test_losses_and_gradients_are_those_of_pytorch_with_zero_infinity():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    batch, time, classes, size = 12, 7, 3, 5
    logits = rng.normal(0, 1.5, (batch, time, classes)).astype(np.float32)
    label = rng.integers(1, classes, (batch, size))
    length, frames = rng.integers(0, size + 1, batch), rng.integers(1, time + 1, batch)
    given = jnp.asarray(frames), jnp.asarray(label), jnp.asarray(length)

    def each(x):
        return losses.ctc(x, *given, zero_infinity=True)

    loss, gradient = jax.jit(lambda x: (each(x), jax.grad(lambda x: each(x).sum())(x)))(logits)
    x = torch.tensor(logits, requires_grad=True)
    theirs = torch.nn.functional.ctc_loss(
        x.log_softmax(-1).transpose(0, 1),
        torch.tensor(label),
        torch.tensor(frames),
        torch.tensor(length),
        reduction="none",
        zero_infinity=True,
    )
    theirs.sum().backward()
    infeasible = np.asarray(losses.ctc_frames(label, length)) > frames
    assert 0 < infeasible.sum() < batch and (theirs.detach().numpy()[infeasible] == 0).all()
    np.testing.assert_allclose(loss, theirs.detach().numpy(), atol=1e-4)
    np.testing.assert_allclose(gradient, x.grad.numpy(), atol=1e-4)


def test_frames_behind_the_end_have_no_effect():
    label, length = jnp.array([[1, 2], [2, 0]]), jnp.array([2, 1])
    frames = jnp.array([4, 2])

    def total(logits):
        return losses.ctc(logits, frames, label, length).sum()

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


def test_the_likeliest_label_is_that_of_the_single_strings():
    found = ctc.likeliest_label(LOGITS, jnp.full(2, FRAMES), range(1, LABELS))
    for n in range(2):
        exact = every_string(LOGITS[n])
        assert int(found[n]) == max(range(1, LABELS), key=lambda word: exact[(word,)])


def test_a_match_is_of_all_labels_and_no_more():
    path = jnp.array([[1, 1, 0, 1, 2]] * 4 + [[0, 0, 0, 1, 2]])
    logits, frames = jax.nn.one_hot(path, LABELS), jnp.array([5, 5, 5, 4, 3])
    label = jnp.array([[1, 1, 2], [1, 1, 0], [1, 2, 0], [1, 1, 0], [0, 0, 0]])
    length = jnp.array([3, 2, 2, 2, 0])
    right = [True, False, False, True, True]
    assert jax.jit(ctc.matches)(logits, frames, label, length).tolist() == right
    wide = jnp.pad(label, ((0, 0), (0, 4)))  # labels than there are frames for
    assert ctc.matches(logits, frames, wide, length).tolist() == right


def test_transcripts_are_those_of_the_path_or_of_the_beam():
    frames = np.array([FRAMES, FRAMES - 1])
    greedy = ctc.transcribe(LOGITS, frames)
    path = np.asarray(LOGITS).argmax(-1)
    assert greedy == [said(row[:count].tolist()) for row, count in zip(path, frames, strict=True)]
    exact = [every_string(LOGITS[n][:count]) for n, count in enumerate(frames)]
    beam = ctc.transcribe(np.asarray(LOGITS), frames, 1000)
    assert beam == [max(own, key=own.get) for own in exact]


@pytest.mark.slow
def test_a_listener_hears_nothing_behind_the_end():
    network, length = Listener(4, 5, layers=2), np.array([3, 6, 0])
    x = RNG.standard_normal((3, 6, 2)).astype(np.float32)
    variables, apply = jax.jit(network.init)(jax.random.key(0), x, length), jax.jit(network.apply)
    real = np.arange(6)[:, None] < length[:, None, None]
    dirty = np.pad(np.where(real, x, np.float32(1e5)), ((0, 0), (0, 3), (0, 0)))
    before, after = apply(variables, x, length), apply(variables, dirty, length)
    np.testing.assert_allclose(
        np.where(real, before, 0), np.where(real, after[:, :6], 0), atol=1e-5
    )
