"""Recurrent layers: the numbers of Flax and torch, whatever the implementation; padding that has no
effect at all."""

import functools
from functools import partial

import flax.linen as flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn as cudnn
from jax.lax import Precision

from advdl.nn import GRU, LSTM, RNN, Stack, tracing
from advdl.nn.recurrent import cudnn_lstm, reversed_in_length

KEY = jax.random.key(0)
BATCH, STEPS, INPUTS, FEATURES = 4, 7, 5, 6
LENGTH = np.array([7, 3, 0, 1], np.int32)
CELLS = {"rnn": RNN, "lstm": LSTM, "gru": GRU, "lstm-1997": partial(LSTM, forget=False)}


def given(seed=0, steps=STEPS):
    return np.random.default_rng(seed).standard_normal((BATCH, steps, INPUTS)).astype(np.float32)


def drawn(layer, *inputs, seed=1):
    """Variables as the layer has them, all of them random, so that each is tested."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: (0.4 * rng.standard_normal(x.shape)).astype(x.dtype),
        jax.eval_shape(layer.init, KEY, *inputs),
    )


@functools.cache
def made(name):
    layer = CELLS[name](FEATURES)
    return layer, drawn(layer, given())


@partial(jax.jit, static_argnums=0, static_argnames="reverse")
def run(layer, variables, x, length=None, carry=None, reverse=False):
    return layer.apply(variables, x, length, carry, reverse=reverse)


@functools.cache
def differentiated(layer, reverse, how):
    """Compiled once for each `how`, as which it must be called."""

    def total(variables, x, length):
        y, last = layer.apply(variables, x, length, reverse=reverse)

        def weigh(a, seed):
            return (a * np.random.default_rng(seed).standard_normal(a.shape).astype(a.dtype)).sum()

        return weigh(y.swapaxes(0, 1), 7) + sum(
            weigh(a, n) for n, a in enumerate(jax.tree.leaves(last))
        ), (y, last)

    return jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))


def outcome(layer, variables, x, length=None, reverse=False, how="fast"):
    """(outputs, carry, gradients of a weighted sum of both by parameters and input)."""
    with tracing.use(implementation=how):
        found = differentiated(layer, reverse, how)(variables, x, length)
    (_, (y, last)), gradients = jax.device_get(found)
    return y, last, gradients


def same(a, b, atol=1e-5):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=atol), a, b)


def test_each_cell_is_its_formula():
    """One step, in float64 by hand."""
    x, sigmoid = given()[:, :1].astype(np.float64), lambda a: 1 / (1 + np.exp(-a))
    rng = np.random.default_rng(3)
    h, c = rng.standard_normal((2, BATCH, FEATURES))
    for name in CELLS:
        layer, variables = made(name)
        p = {key: np.asarray(value, np.float64) for key, value in variables["params"].items()}
        a, u = x[:, 0] @ p["kernel"] + p["bias"], h @ p["recurrent"]
        carry = (c, h) if "lstm" in name else h
        carry = jax.tree.map(np.float32, carry)
        y, last = run(layer, variables, x.astype(np.float32), None, carry)
        if name == "rnn":
            wanted = np.tanh(a + u)
        elif name == "gru":
            (ar, az, an), (ur, uz, un) = np.split(a, 3, 1), np.split(u, 3, 1)
            z = sigmoid(az + uz)
            wanted = (1 - z) * np.tanh(an + sigmoid(ar + ur) * (un + p["recurrent_bias"])) + z * h
        else:
            i, f, g, o = np.split(a + u, 4, 1)
            cell = (sigmoid(f) * c if name == "lstm" else c) + sigmoid(i) * np.tanh(g)
            wanted = sigmoid(o) * np.tanh(cell)
            np.testing.assert_allclose(last[0], cell, atol=1e-5)
        np.testing.assert_allclose(y[:, 0], wanted, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("reverse", [False, True])
def test_lstm_is_flaxs(reverse):
    layer, variables = made("lstm")
    p, x = variables["params"], given()

    def split(name):
        return np.split(p[name], 4, axis=-1)

    theirs = {f"i{gate}": {"kernel": k} for gate, k in zip("ifgo", split("kernel"), strict=True)}
    for gate, k, b in zip("ifgo", split("recurrent"), split("bias"), strict=True):
        theirs[f"h{gate}"] = {"kernel": k, "bias": b}
    other = flax.RNN(flax.LSTMCell(FEATURES), return_carry=True, reverse=reverse, keep_order=True)
    carry, y = jax.jit(lambda: other.apply({"params": {"cell": theirs}}, x))()
    same(run(layer, variables, x, reverse=reverse), (y, carry))


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_padding_of_any_length_and_content_changes_nothing(name, reverse):
    layer, variables = made(name)
    x = given()
    alone = outcome(layer, variables, x, LENGTH, reverse)
    padding = np.arange(STEPS)[None, :, None] >= LENGTH[:, None, None]
    for fill in (1e6, np.nan):
        dirty = np.where(padding, np.float32(fill), x)
        longer = np.concatenate([dirty, np.full((BATCH, 5, INPUTS), fill, np.float32)], 1)
        y, last, (parameters, inputs) = outcome(layer, variables, longer, LENGTH, reverse)
        same(
            (y[:, :STEPS], last, parameters, inputs[:, :STEPS]),
            (*alone[:2], alone[2][0], alone[2][1]),
        )
        assert not np.asarray(y[:, STEPS:]).any() and not np.asarray(inputs[:, STEPS:]).any()
    assert not np.asarray(y)[:, :STEPS][np.broadcast_to(padding, y[:, :STEPS].shape)].any()


@pytest.mark.parametrize("name", CELLS)
def test_each_sequence_is_what_it_is_alone_and_length_0_is_no_step(name):
    layer, variables = made(name)
    x = given()
    for reverse in (False, True):
        y, last = jax.device_get(run(layer, variables, x, LENGTH, reverse=reverse))
        for b, length in enumerate(LENGTH):
            if length:
                own, end = jax.device_get(
                    run(layer, variables, x[b : b + 1, :length], reverse=reverse)
                )
                same(y[b, :length], own[0])
                same(jax.tree.map(lambda a, b=b: a[b], last), jax.tree.map(lambda a: a[0], end))
            else:
                assert not any(np.asarray(a[b]).any() for a in jax.tree.leaves(last))


@pytest.mark.parametrize(
    "name",
    ["rnn", "lstm", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gru", "lstm-1997"))],
)
@pytest.mark.parametrize(
    "options", [pytest.param({"unroll": 3}, marks=pytest.mark.slow), {"chunk": 3}], ids=str
)
def test_every_way_to_run_it_gives_the_same_numbers(name, options):
    layer, variables = made(name)
    x = given()
    for length, reverse in ((LENGTH, True), (None, False)):
        plain = outcome(layer, variables, x, length, reverse, how="xla")
        if "unroll" in options:
            same(outcome(layer, variables, x, length, reverse), plain)
        same(outcome(CELLS[name](FEATURES, **options), variables, x, length, reverse), plain)


def test_a_sequence_in_windows_is_the_whole():
    for name in CELLS:
        layer, variables = made(name)
        x = given()
        whole, end = run(layer, variables, x)
        first, carry = run(layer, variables, x[:, :3])
        second, last = run(layer, variables, x[:, 3:], None, carry)
        same((np.concatenate([first, second], 1), last), (whole, end))


def test_cudnns_form_is_the_same_layer():
    """By the reference that JAX keeps of it, whose flat weights are cuDNN's."""

    def reference(
        x,
        h,
        c,
        flat,
        length,
        *,
        input_size,
        hidden_size,
        num_layers,
        dropout,
        bidirectional,
        precision,
    ):
        parts = cudnn.unpack_lstm_weights(flat, input_size, hidden_size, num_layers, bidirectional)
        return cudnn.lstm_ref(
            x, h, c, *parts, length, input_size, hidden_size, num_layers, dropout, bidirectional
        )

    layer, variables = made("lstm")
    rng = np.random.default_rng(5)
    carry = tuple(rng.standard_normal((BATCH, FEATURES)).astype(np.float32) for _ in range(2))
    theirs = jax.jit(partial(cudnn_lstm, lstm=reference), static_argnums=4)
    for reverse in (False, True):
        for length in (LENGTH, None):
            y, last = run(layer, variables, given(), length, carry, reverse=reverse)
            found, end = theirs(variables["params"], carry, given(), length, reverse)
            if length is not None:
                found = np.where(np.arange(STEPS)[:, None] < length[:, None, None], found, 0)
            same((found, end), (y, last))


@pytest.mark.parametrize("asked", [None, "tensorfloat32", "bfloat16", "highest", "float32"])
def test_cudnns_products_are_as_exact_as_all_others(asked):
    """TF32 is a GPU's default for float32, and the least that cuDNN has."""
    _, variables = made("lstm")
    carry = 2 * (np.zeros((BATCH, FEATURES), np.float32),)

    def recorded(x, h, c, *_, precision, **others):
        assert precision == (
            Precision.HIGHEST if asked in ("highest", "float32") else Precision.HIGH
        )
        return x, h, c

    with jax.default_matmul_precision(asked):
        jax.eval_shape(
            lambda: cudnn_lstm(variables["params"], carry, given(), None, False, lstm=recorded)
        )


def test_reversal_keeps_the_padding_behind():
    x = jnp.arange(8.0).reshape(2, 4, 1)
    found = reversed_in_length(x, jnp.array([3, 0]))[..., 0]
    np.testing.assert_array_equal(found, [[2, 1, 0, 3], [4, 5, 6, 7]])
    np.testing.assert_array_equal(reversed_in_length(x, None)[..., 0], [[3, 2, 1, 0], [7, 6, 5, 4]])


def begun(layer):
    return jax.device_get(jax.jit(layer.init)(KEY, np.zeros((1, 1, 2), np.float32)))["params"]


def test_the_forget_gate_begins_open():
    parameters = begun(LSTM(3))
    np.testing.assert_array_equal(parameters["bias"], [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    for gate in np.split(parameters["recurrent"], 4, 1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(3), atol=1e-5)


@pytest.mark.parametrize("cell", [LSTM, GRU])
def test_no_two_gates_start_alike(cell):
    parameters = begun(cell(3))
    for name in ("kernel", "recurrent"):
        gates = np.split(np.asarray(parameters[name]), cell.gates, axis=1)
        assert len({gate.tobytes() for gate in gates}) == cell.gates


def test_a_half_precision_layer_computes_in_it():
    layer = LSTM(FEATURES, dtype=jnp.bfloat16)
    variables = jax.eval_shape(layer.init, KEY, given())
    y, last = jax.eval_shape(layer.apply, variables, given(), LENGTH)
    assert {leaf.dtype for leaf in jax.tree.leaves((y, last))} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@pytest.mark.slow
def test_a_stack_reads_what_lies_below_and_knows_both_directions():
    stack = Stack(partial(LSTM, FEATURES), layers=2, bidirectional=True)
    x = given()
    variables = drawn(stack, x, LENGTH)
    y, carries = stack.apply(variables, x, LENGTH)
    below = x
    for n in range(2):

        def one(name, reverse, n=n, below=below):
            own = {"params": variables["params"][f"{name}{n}"]}
            return run(LSTM(FEATURES), own, below, LENGTH, reverse=reverse)

        (there, first), (back, last) = one("forward", False), one("backward", True)
        below = np.concatenate([there, back], -1)
        same(carries[n], (first, last))
    same(y, below)
    again, _ = stack.apply(variables, x, LENGTH, [None, None])
    same(again, y)


def test_dropout_lies_between_layers_alone():
    stack = Stack(partial(RNN, FEATURES), layers=2, dropout=0.5)
    single = Stack(partial(RNN, FEATURES), dropout=0.5)

    def both(stack):
        """What it makes in training and in evaluation."""
        variables, rngs = jax.jit(stack.init)(KEY, given()), {"dropout": jax.random.key(1)}
        training = jax.jit(partial(stack.apply, train=True, rngs=rngs))
        return training(variables, given()), jax.jit(stack.apply)(variables, given())

    (noisy, first), (clean, second) = both(stack)
    same(first[0], second[0])
    assert np.abs(noisy - np.asarray(clean)).max() > 0.01
    same(*both(single))


TORCH = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_parity_with_torch(name, bidirectional):
    """Two layers, ragged lengths: outputs, last states and gradients."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    length = np.array([7, 3, 5, 1])
    stack = Stack(partial(CELLS[name], FEATURES), layers=2, bidirectional=bidirectional)
    x = given()
    variables = drawn(stack, x)
    theirs = getattr(torch.nn, TORCH[name])(
        INPUTS, FEATURES, 2, batch_first=True, bidirectional=bidirectional
    )
    places = {}
    for n in range(2):
        for own, suffix in (
            ((f"forward{n}", ""), (f"backward{n}", "_reverse"))
            if bidirectional
            else ((f"layer{n}", ""),)
        ):
            places[own] = f"l{n}{suffix}"
    with torch.no_grad():
        for own, place in places.items():
            p = {
                key: torch.from_numpy(np.array(value))
                for key, value in variables["params"][own].items()
            }
            getattr(theirs, f"weight_ih_{place}").copy_(p["kernel"].T)
            getattr(theirs, f"weight_hh_{place}").copy_(p["recurrent"].T)
            getattr(theirs, f"bias_ih_{place}").copy_(p["bias"])
            other = getattr(theirs, f"bias_hh_{place}").zero_()
            if name == "gru":
                other[2 * FEATURES :] = p["recurrent_bias"]
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        given_x := torch.from_numpy(given()).requires_grad_(),
        torch.from_numpy(length),
        batch_first=True,
        enforce_sorted=False,
    )
    y_t, state = theirs(packed)
    y_t = torch.nn.utils.rnn.pad_packed_sequence(y_t, batch_first=True)[0]
    weight = np.random.default_rng(9).standard_normal(y_t.shape).astype(np.float32)
    (y_t * torch.from_numpy(weight)).sum().backward()

    def total(variables, x):
        y, carries = stack.apply(variables, x, length)
        return (y * weight).sum(), (y, carries)

    (_, (y, carries)), (parameters, inputs) = jax.jit(
        jax.value_and_grad(total, (0, 1), has_aux=True)
    )(variables, x)
    same(y, y_t.detach().numpy())
    same(inputs, given_x.grad.numpy())
    hidden = (state[0] if name == "lstm" else state).detach().numpy()
    flat = [c for layer in carries for c in (layer if bidirectional else (layer,))]
    same(np.stack([c[1] if name == "lstm" else c for c in flat]), hidden)
    for own, place in places.items():
        same(
            parameters["params"][own]["kernel"],
            getattr(theirs, f"weight_ih_{place}").grad.numpy().T,
            3e-5,
        )
        same(
            parameters["params"][own]["recurrent"],
            getattr(theirs, f"weight_hh_{place}").grad.numpy().T,
            3e-5,
        )
        same(
            parameters["params"][own]["bias"],
            getattr(theirs, f"bias_ih_{place}").grad.numpy(),
            3e-5,
        )
