"""Recurrent layers: the basic cell, LSTM, GRU; stacked and in both directions, exact for sequences of unlike lengths.

Axes: B batch, T time, D features of the input, H features of the layer, G gates·H.

The loop's products with the hidden state need h_{t-1}, but the gradient of their weights does not need the loop: it is one
product over all steps, after the loop has gone back (`plain`: one in each step, added up, as JAX derives it).

Where lengths are given, a sequence ends at its length: outputs after it are zero, the carry stays what it was at its last real
step, and what the padding holds (NaN included) has no effect on outputs, losses or gradients. A length may be 0.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.experimental import rnn as cudnn

from advdl.nn import formulation
from advdl.nn.dropout import Dropout
from advdl.nn.normalization import add_bias

Carry = Any
Initializer = Callable[..., jax.Array]


class Recurrent(nn.Module):
    """(B, T, D), lengths (B,) or none -> (outputs (B, T, H), carry after the last step); see `RNN`, `LSTM`, `GRU`.

    features: H. carry: the one to begin with, by default zeros. reverse: from each sequence's last real step to its first; the
    carry is then that after the first. unroll: steps that the loop does at once. chunk: steps that are computed again in the
    backward pass instead of being kept, between carries that are kept (0: all are kept); for long sequences.

    The products with the input are one product over all steps, before the loop (`plain`: one in each). On an NVIDIA GPU an LSTM
    in float32 runs as cuDNN's.
    """

    features: int
    unroll: int = 1
    chunk: int = 0
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    recurrent_init: Initializer = nn.initializers.orthogonal()

    gates: ClassVar[int] = 1
    """Of the product with the input, each H wide."""
    apart: ClassVar[bool] = False
    """Whether a step wants the products with input and hidden state one by one, or their sum."""

    def begin(self, batch: int) -> Carry:
        """Zeros, as every sequence begins with unless told otherwise."""
        return jnp.zeros((batch, self.features), self.dtype or self.param_dtype)

    def extra(self) -> dict[str, jax.Array]:
        """Parameters beside kernel, recurrent kernel and bias."""
        return {}

    def bias_init(self, key, shape, dtype):
        """Of the bias (G,)."""
        return jnp.zeros(shape, dtype)

    def advance(self, extra: dict[str, jax.Array], carry: Carry, *gates_BG: jax.Array) -> Carry:
        """One step, from the sum of the products with its input and with the hidden state and the bias; or, if `apart`, from
        the product with the input and the bias, and the one with the hidden state. extra: the parameters of `extra()`."""
        raise NotImplementedError

    @staticmethod
    def shown(carry: Carry) -> jax.Array:
        """The output (B, H) of a carry."""
        return carry

    def kernel(self, weights, carry, x_BTD, length_B, reverse):
        """What a backend has for the whole layer: (outputs, carry), or None."""
        return None

    @nn.compact
    def __call__(
        self, x_BTD: jax.Array, length_B: jax.Array | None = None, carry: Carry = None, reverse: bool = False
    ) -> tuple[jax.Array, Carry]:
        batch, steps, inputs = x_BTD.shape
        width = self.gates * self.features
        each = lambda init: partial(_by_gate, init, self.gates)  # noqa: E731
        weights = {
            "kernel": self.param("kernel", each(self.kernel_init), (inputs, width), self.param_dtype),
            "recurrent": self.param("recurrent", each(self.recurrent_init), (self.features, width), self.param_dtype),
            "bias": self.param("bias", self.bias_init, (width,), self.param_dtype),
        }
        extra = self.extra()
        dtype = self.dtype or jnp.result_type(x_BTD, self.param_dtype)
        weights, extra = ({name: value.astype(dtype) for name, value in part.items()} for part in (weights, extra))
        x_BTD = x_BTD.astype(dtype)
        carry = self.begin(batch) if carry is None else carry
        carry = jax.tree.map(lambda value: value.astype(dtype), carry)
        mask_BT = None
        if length_B is not None:
            mask_BT = jnp.arange(steps)[None] < length_B[:, None]
            x_BTD = jnp.where(mask_BT[..., None], x_BTD, 0)
        if steps > 1 and (found := self.kernel(weights, carry, x_BTD, length_B, reverse)) is not None:
            y_BTH, carry = found
        else:
            y_BTH, carry = self._scanned(weights, extra, carry, x_BTD, mask_BT, reverse)
        return (y_BTH if mask_BT is None else jnp.where(mask_BT[..., None], y_BTH, 0)), carry

    def _scanned(self, weights, extra, carry, x_BTD, mask_BT, reverse):
        steps, recurrent = x_BTD.shape[1], weights["recurrent"]
        project = lambda x: add_bias(x @ weights["kernel"], weights["bias"])  # noqa: E731
        time_first = lambda x: None if x is None else x.swapaxes(0, 1)  # noqa: E731
        items = time_first(x_BTD), time_first(mask_BT)

        def step(carry, item):
            x, keep = item
            gates = project(x), self.shown(carry) @ recurrent
            new = _kept(self.advance(extra, carry, *(gates if self.apart else (sum(gates),))), carry, keep)
            return new, self.shown(new)

        if steps == 1:
            carry, y = step(carry, jax.tree.map(lambda x: x[0], items))
            return y[:, None], carry
        if not formulation.plain():
            items = project(items[0]), items[1]
            run = partial(_loop(self.advance, self.shown, self.apart, reverse, self.unroll), recurrent, extra)
        else:
            run = partial(jax.lax.scan, step, reverse=reverse, unroll=self.unroll)
        if not self.chunk or self.chunk >= steps:
            carry, y_TBH = run(carry, items)
            return y_TBH.swapaxes(0, 1), carry
        missing = -steps % self.chunk
        batch = x_BTD.shape[0]
        if missing:  # steps that change nothing
            real = jnp.ones((steps, batch), bool) if items[1] is None else items[1]
            items = tuple(jnp.concatenate([x, jnp.zeros((missing, *x.shape[1:]), x.dtype)]) for x in (items[0], real))
        chunks = jax.tree.map(lambda x: x.reshape(-1, self.chunk, *x.shape[1:]), items)
        carry, y = jax.lax.scan(jax.checkpoint(run), carry, chunks, reverse=reverse)
        return y.reshape(-1, *y.shape[2:])[:steps].swapaxes(0, 1), carry


def _kept(new: Carry, old: Carry, keep_B: jax.Array | None) -> Carry:
    """The new carry, or the old one of a sequence that has ended."""
    return new if keep_B is None else jax.tree.map(lambda new, old: jnp.where(keep_B[:, None], new, old), new, old)


def _loop(advance, shown, apart: bool, reverse: bool, unroll: int):
    """`run(recurrent, extra, carry, (given (T, B, G), keep (T, B) or none)) -> (carry, outputs (T, B, H))`, its gradient by the
    recurrent kernel taken of all steps at once."""

    def cell(extra, carry, gates, keep):
        """(carry, output) of the sum, or of both products."""
        new = _kept(advance(extra, carry, *gates), carry, keep)
        return new, shown(new)

    @jax.custom_vjp
    def run(recurrent, extra, carry, items):
        return forward(recurrent, extra, carry, items)[0]

    def forward(recurrent, extra, carry, items):
        def step(carry, item):
            given, keep = item
            product = shown(carry) @ recurrent
            gates = (given, product) if apart else (given + product,)
            new, y = cell(extra, carry, gates, keep)
            return new, (y, carry, gates)

        last, (y_TBH, before, gates) = jax.lax.scan(step, carry, items, reverse=reverse, unroll=unroll)
        return (last, y_TBH), (recurrent, extra, before, gates, items[1])

    def backward(saved, given):
        recurrent, extra, before, gates, keep = saved
        dlast, dy_TBH = given

        def step(state, item):
            dcarry, dextra = state
            dy, carry, gates, keep = item
            _, pull = jax.vjp(lambda *of: cell(*of, keep), extra, carry, gates)
            more, dbefore, dgates = pull((dcarry, dy))
            (dhidden,) = jax.vjp(shown, carry)[1](dgates[-1] @ recurrent.T)
            add = partial(jax.tree.map, jnp.add)
            return (add(dbefore, dhidden), add(dextra, more)), dgates

        begun = dlast, jax.tree.map(jnp.zeros_like, extra)
        items = dy_TBH, before, gates, keep
        (dcarry, dextra), dgates = jax.lax.scan(step, begun, items, reverse=not reverse, unroll=unroll)
        drecurrent = jnp.tensordot(shown(before), dgates[-1], ((0, 1), (0, 1)))
        return drecurrent, dextra, dcarry, (dgates[0], None)

    run.defvjp(forward, backward)
    return run


class RNN(Recurrent):
    """The basic cell: h_t = f(W x_t + U h_{t-1} + b), which is its output (Elman 1990). activation: f. Carry: h (B, H)."""

    activation: Callable[[jax.Array], jax.Array] = jnp.tanh

    def advance(self, extra, carry, gates_BG):
        """h_t."""
        return self.activation(gates_BG)


class LSTM(Recurrent):
    """Long short-term memory: c_t = f ⊙ c_{t-1} + i ⊙ g, h_t = o ⊙ tanh(c_t), of the input gate i, the forget gate f, the
    candidate g and the output gate o, in this order (as in torch and cuDNN). Carry: (c, h), (B, H) each.

    forget: without it the cell is that of Hochreiter & Schmidhuber 1997 (section 4), whose state is only added to; the forget
    gate is of Gers, Schmidhuber & Cummins 2000. forget_bias: at which its bias begins (Jozefowicz et al. 2015, section 2.2).
    Squashing functions are tanh, where those of 1997 span [-2, 2] and [-1, 1].
    """

    forget: bool = True
    forget_bias: float = 1.0

    gates: ClassVar[int] = 4

    def begin(self, batch):
        """Zeros."""
        return (super().begin(batch),) * 2

    def bias_init(self, key, shape, dtype):
        """Zero but for the forget gate's."""
        return jnp.zeros(shape, dtype).at[self.features : 2 * self.features].set(self.forget_bias if self.forget else 0.0)

    def advance(self, extra, carry, gates_BG):
        """(c_t, h_t)."""
        cell, hidden = carry
        i, f, g, o = jnp.split(gates_BG, 4, axis=-1)
        kept = jax.nn.sigmoid(f) * cell if self.forget else cell
        cell = kept + jax.nn.sigmoid(i) * jnp.tanh(g)
        return cell, jax.nn.sigmoid(o) * jnp.tanh(cell)

    @staticmethod
    def shown(carry):
        """h."""
        return carry[1]

    def kernel(self, weights, carry, x_BTD, length_B, reverse):
        """cuDNN's, for float32 with a forget gate."""
        if not (formulation.cudnn() and self.forget and x_BTD.dtype == jnp.float32):
            return None
        return cudnn_lstm(weights, carry, x_BTD, length_B, reverse)


class GRU(Recurrent):
    """The gated recurrent unit: h_t = (1 - z) ⊙ n + z ⊙ h_{t-1}, n = tanh(W x + b + r ⊙ (U h_{t-1} + b')), of reset r, update
    z and candidate n, in this order. Cho et al. 2014 (arXiv:1406.1078), in the form of torch and cuDNN, whose reset gate comes
    after the product. Carry: h (B, H)."""

    gates: ClassVar[int] = 3
    apart: ClassVar[bool] = True

    def extra(self):
        """b'."""
        return {"recurrent_bias": self.param("recurrent_bias", nn.initializers.zeros, (self.features,), self.param_dtype)}

    def advance(self, extra, carry, given_BG, product_BG):
        """h_t."""
        given = jnp.split(given_BG, 3, axis=-1)
        r, z, n = jnp.split(product_BG, 3, axis=-1)
        r, z = jax.nn.sigmoid(given[0] + r), jax.nn.sigmoid(given[1] + z)
        n = jnp.tanh(given[2] + r * (n + extra["recurrent_bias"][None]))
        return (1 - z) * n + z * carry


CELLS: dict[str, type[Recurrent]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


class Stack(nn.Module):
    """(B, T, D), lengths (B,) or none -> (outputs (B, T, H or 2·H), carries of every layer, from the lowest).

    layer: called as `LSTM` is. layers: how many, each reading the outputs of the one below. bidirectional: each has a second
    one that goes from the end to the beginning, and their outputs lie side by side; the carries are then pairs. dropout: the
    rate between layers (Zaremba et al. 2014, arXiv:1409.2329: on no recurrent connection), needs a key called dropout.
    """

    layer: Callable[..., Recurrent]
    layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        x_BTD: jax.Array,
        length_B: jax.Array | None = None,
        carries: Sequence[Carry] | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, tuple[Carry, ...]]:
        found = []
        for number in range(self.layers):
            if number and self.dropout:
                x_BTD = Dropout(self.dropout, name=f"dropout{number}")(x_BTD, train)
            begun = None if carries is None else carries[number]
            if self.bidirectional:
                begun = (None, None) if begun is None else begun
                there, first = self.layer(name=f"forward{number}")(x_BTD, length_B, begun[0])
                back, last = self.layer(name=f"backward{number}")(x_BTD, length_B, begun[1], reverse=True)
                x_BTD, carry = jnp.concatenate([there, back], -1), (first, last)
            else:
                x_BTD, carry = self.layer(name=f"layer{number}")(x_BTD, length_B, begun)
            found.append(carry)
        return x_BTD, tuple(found)


def reversed_in_length(x_BTD: jax.Array, length_B: jax.Array | None) -> jax.Array:
    """Each sequence from its last real step to its first; the padding stays where it is."""
    steps = jnp.arange(x_BTD.shape[1])[None]
    length = jnp.full((1, 1), x_BTD.shape[1]) if length_B is None else length_B[:, None]
    place = jnp.broadcast_to(jnp.where(steps < length, length - 1 - steps, steps), x_BTD.shape[:2])
    return jnp.take_along_axis(x_BTD, place[..., None], axis=1)


def cudnn_lstm(weights, carry, x_BTD, length_B, reverse, lstm=None):
    """A layer by cuDNN, through `jax.experimental.rnn`: the parameters and numbers of `LSTM`, to the precision of its products.

    lstm: called in its place, with the weights in its flat form. cuDNN takes no sequence of length 0, so those are given one
    step, and what comes of it is put aside.
    """
    lstm = cudnn.lstm if lstm is None else lstm
    (batch, steps, inputs), features = x_BTD.shape, weights["recurrent"].shape[0]
    flat = [weights["kernel"].T, weights["recurrent"].T, weights["bias"], jnp.zeros_like(weights["bias"])]
    flat = jnp.concatenate([part.reshape(-1) for part in flat])
    length = jnp.full(batch, steps, jnp.int32) if length_B is None else length_B.astype(jnp.int32)
    x_BTD = reversed_in_length(x_BTD, length) if reverse else x_BTD
    cell, hidden = carry
    y, h, c = lstm(
        x_BTD, hidden[None], cell[None], flat, jnp.maximum(length, 1), input_size=inputs, hidden_size=features, num_layers=1,
        dropout=0.0, bidirectional=False, precision=jax.lax.Precision.HIGHEST,
    )  # fmt: skip
    some = (length > 0)[:, None]
    y = reversed_in_length(y, length) if reverse else y
    return y, (jnp.where(some, c[0], cell), jnp.where(some, h[0], hidden))


def _by_gate(init: Initializer, gates: int, key: jax.Array, shape: tuple[int, int], dtype: Any) -> jax.Array:
    """Each gate's matrix drawn by itself."""
    keys = jax.random.split(key, gates)
    return jnp.concatenate([init(own, (shape[0], shape[1] // gates), dtype) for own in keys], axis=1)
