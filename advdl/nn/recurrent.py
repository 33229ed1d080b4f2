"""Recurrent layers: the basic cell, LSTM, GRU; stacked and in both directions, exact for sequences
of unlike lengths.

Axes: B batch, T time, D features of the input, H features of the layer, G gates·H.

The loop keeps only what needs h_{t-1}. Going back, the squashing functions and their slopes are
taken of all steps at once, before the loop, and the gradients of the parameters as one product over
all steps, after it (`plain`: each in its step, as JAX derives it).

Where lengths are given, a sequence ends at its length: outputs after it are zero, the carry stays
what it was at its last real step, and what the padding holds (NaN included) has no effect on
outputs, losses or gradients. A length may be 0.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.experimental import rnn as cudnn

from advdl.nn import tracing
from advdl.nn.dropout import Dropout
from advdl.nn.normalization import add_bias, channel_sum

Carry = Any
Initializer = Callable[..., jax.Array]


class Recurrent(nn.Module):
    """(B, T, D), lengths (B,) or none -> (outputs (B, T, H), carry after the last step); see `RNN`,
    `LSTM`, `GRU`.

    features: H. carry: the one to begin with, by default zeros. reverse: from each sequence's last
    real step to its first; the carry is then that after the first. unroll: steps that the loop does
    at once. chunk: steps that are computed again in the backward pass instead of being kept,
    between carries that are kept (0: all are kept); for long sequences.

    The products with the input are one product over all steps, before the loop (`plain`: one in
    each). On an NVIDIA GPU an LSTM in float32 runs as cuDNN's.
    """

    features: int
    unroll: int = 1
    chunk: int = 0
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    recurrent_init: Initializer = nn.initializers.orthogonal()

    gates: ClassVar[int] = 1
    """In the product with the input, and in that with the hidden state; each is H wide."""

    def begin(self, batch: int) -> Carry:
        """Zeros, as every sequence begins with unless told otherwise."""
        return jnp.zeros((batch, self.features), self.dtype or self.param_dtype)

    def extra(self) -> dict[str, jax.Array]:
        """Parameters beside kernel, recurrent kernel and bias."""
        return {}

    def bias_init(self, key, shape, dtype):
        """Of the bias (G,)."""
        return jnp.zeros(shape, dtype)

    def joined(
        self, extra: dict[str, jax.Array], given: jax.Array, product: jax.Array
    ) -> jax.Array:
        """What is squashed: of the product with the input and the bias, and the one with the hidden
        state, each (…, G); linear in them and in the parameters of `extra()`. Their sum (…, G),
        unless a cell wants them in another way."""
        return given + product

    def squashed(self, gates: jax.Array) -> jax.Array:
        """Squashing functions, elementwise, of what `joined` gave, in its shape."""
        raise NotImplementedError

    def advance(self, carry: Carry, gates: jax.Array) -> Carry:
        """The carry (B, H) after a step, from the squashed gates."""
        raise NotImplementedError

    @staticmethod
    def shown(carry: Carry) -> jax.Array:
        """The output (B, H) of a carry."""
        return carry

    def kernel(self, weights, carry, x_BTD, length_B, reverse) -> tuple[jax.Array, Carry] | None:
        """What a backend has for the whole layer: (outputs, carry), or None."""
        return None

    @nn.compact
    def __call__(
        self,
        x_BTD: jax.Array,
        length_B: jax.Array | None = None,
        carry: Carry = None,
        reverse: bool = False,
    ) -> tuple[jax.Array, Carry]:
        batch, steps, inputs = x_BTD.shape
        width = self.gates * self.features

        def each(init):
            return partial(_by_gate, init, self.gates)

        weights = {
            "kernel": self.param(
                "kernel", each(self.kernel_init), (inputs, width), self.param_dtype
            ),
            "recurrent": self.param(
                "recurrent", each(self.recurrent_init), (self.features, width), self.param_dtype
            ),
            "bias": self.param("bias", self.bias_init, (width,), self.param_dtype),
        }
        extra = self.extra()
        dtype = self.dtype or jnp.result_type(x_BTD, self.param_dtype)
        weights, extra = (
            {name: value.astype(dtype) for name, value in part.items()} for part in (weights, extra)
        )
        x_BTD = x_BTD.astype(dtype)
        carry = self.begin(batch) if carry is None else carry
        carry = jax.tree.map(lambda value: value.astype(dtype), carry)
        mask_BT = None
        if length_B is not None:
            mask_BT = jnp.arange(steps)[None] < length_B[:, None]
            x_BTD = jnp.where(mask_BT[..., None], x_BTD, 0)
        if (
            steps > 1
            and (found := self.kernel(weights, carry, x_BTD, length_B, reverse)) is not None
        ):
            y_BTH, carry = found
        else:
            y_BTH, carry = self._scanned(weights, extra, carry, x_BTD, mask_BT, reverse)
        return (y_BTH if mask_BT is None else jnp.where(mask_BT[..., None], y_BTH, 0)), carry

    def _scanned(self, weights, extra, carry, x_BTD, mask_BT, reverse):
        steps, recurrent = x_BTD.shape[1], weights["recurrent"]

        def project(x):
            return add_bias(x @ weights["kernel"], weights["bias"])

        def time_first(x):
            return None if x is None else x.swapaxes(0, 1)

        items = time_first(x_BTD), time_first(mask_BT)

        def step(carry, item):
            x, keep = item
            gates = self.squashed(self.joined(extra, project(x), self.shown(carry) @ recurrent))
            new = _kept(self.advance(carry, gates), carry, keep)
            return new, self.shown(new)

        if steps == 1:
            carry, y = step(carry, jax.tree.map(lambda x: x[0], items))
            return y[:, None], carry
        if tracing.current().implementation != "xla":
            items = items[0] @ weights["kernel"], items[1]
            run = partial(_loop(self, reverse), recurrent, weights["bias"], extra)
        else:
            run = partial(jax.lax.scan, step, reverse=reverse, unroll=self.unroll)
        if not self.chunk or self.chunk >= steps:
            carry, y_TBH = run(carry, items)
            return y_TBH.swapaxes(0, 1), carry
        missing = -steps % self.chunk
        batch = x_BTD.shape[0]
        if missing:  # steps that change nothing
            given, real = items
            real = jnp.ones((steps, batch), bool) if real is None else real

            def filled(x):
                return jnp.concatenate([x, jnp.zeros((missing, *x.shape[1:]), x.dtype)])

            items = filled(given), filled(real)
        chunks = jax.tree.map(lambda x: x.reshape(-1, self.chunk, *x.shape[1:]), items)
        carry, y = jax.lax.scan(jax.checkpoint(run), carry, chunks, reverse=reverse)
        return y.reshape(-1, *y.shape[2:])[:steps].swapaxes(0, 1), carry


def _kept(new: Carry, old: Carry, keep_B: jax.Array | None) -> Carry:
    """The new carry, or the old one of a sequence that has ended."""
    return (
        new
        if keep_B is None
        else jax.tree.map(lambda new, old: jnp.where(keep_B[:, None], new, old), new, old)
    )


@jax.custom_jvp
def _squash(x: jax.Array, half: jax.Array) -> jax.Array:
    """σ(x) = tanh(x / 2) / 2 + 1 / 2 where half is 1/2, tanh(x) where it is 1: one function for all
    gates, in one pass. Its derivative keeps one array, the slope."""
    return half * jnp.tanh(half * x) + (1 - half)


@_squash.defjvp
def _squash_jvp(primals, tangents):
    x, half = primals
    t = jnp.tanh(half * x)
    return half * t + (1 - half), half * half * (1 - t * t) * tangents[0]


def _loop(layer: Recurrent, reverse: bool):
    """`run(recurrent, bias, extra, carry, (given (T, B, G), keep (T, B) or none)) -> (carry,
    outputs (T, B, H))`, with its own gradient, in which the backward loop has products with the
    recurrent kernel and arithmetic alone."""
    shown, scan = layer.shown, partial(jax.lax.scan, unroll=layer.unroll)

    def cell(carry, gates, keep):
        return _kept(layer.advance(carry, layer.squashed(gates)), carry, keep)

    @jax.custom_vjp
    def run(recurrent, bias, extra, carry, items):
        return forward(recurrent, bias, extra, carry, items)[0]

    def forward(recurrent, bias, extra, carry, items):
        bias_BG = jnp.broadcast_to(bias, items[0].shape[1:])

        def step(carry, item):
            given, keep = item
            gates = layer.joined(extra, given + bias_BG, shown(carry) @ recurrent)
            new = cell(carry, gates, keep)
            return new, (new, gates)

        last, (carries, gates) = scan(step, carry, items, reverse=reverse)
        return (last, shown(carries)), (recurrent, extra, carry, carries, gates, items[1])

    def backward(saved, given):
        recurrent, extra, carry, carries, gates, keep = saved
        dlast, dy_TBH = given
        turned = recurrent.T  # once, not in each step's product

        def hide(hidden):
            return jax.vjp(shown, carry)[1](hidden)[0]

        def delayed(first, rest):
            first = first[None]
            return jnp.concatenate([rest[1:], first] if reverse else [first, rest[:-1]])

        before = jax.tree.map(delayed, carry, carries)
        pulls = jax.vmap(
            lambda carry, gates, keep: jax.vjp(lambda c, g: cell(c, g, keep), carry, gates)[1]
        )(before, gates, keep)

        def parts(dgates):
            """Of the extra parameters, the given part and the product."""
            zeros = jnp.zeros((*dgates.shape[:-1], recurrent.shape[1]), dgates.dtype)
            return jax.vjp(layer.joined, extra, zeros, zeros)[1](dgates)

        def step(dcarry, item):
            dy, pull = item
            dbefore, dgates = pull(jax.tree.map(jnp.add, dcarry, hide(dy)))
            return jax.tree.map(jnp.add, dbefore, hide(parts(dgates)[2] @ turned)), dgates

        dcarry, dgates = scan(step, dlast, (dy_TBH, pulls), reverse=not reverse)
        dextra, dgiven, dproduct = parts(dgates)
        drecurrent = jnp.tensordot(shown(before), dproduct, ((0, 1), (0, 1)))
        return drecurrent, channel_sum(dgiven).astype(dgiven.dtype), dextra, dcarry, (dgiven, None)

    run.defvjp(forward, backward)
    return run


class RNN(Recurrent):
    """The basic cell: h_t = f(W x_t + U h_{t-1} + b), which is its output (Elman 1990). activation:
    f. Carry: h (B, H)."""

    activation: Callable[[jax.Array], jax.Array] = jnp.tanh

    def squashed(self, gates):
        """f of all."""
        return self.activation(gates)

    def advance(self, carry, gates):
        """h_t, which is the squashed sum."""
        return gates


class LSTM(Recurrent):
    """Long short-term memory: c_t = f ⊙ c_{t-1} + i ⊙ g, h_t = o ⊙ tanh(c_t), of the input gate i,
    the forget gate f, the candidate g and the output gate o, in this order (as in torch and cuDNN).
    Carry: (c, h), (B, H) each.

    forget: without it the cell is that of Hochreiter & Schmidhuber 1997 (section 4), whose state is
    only added to; the forget gate is of Gers, Schmidhuber & Cummins 2000. forget_bias: at which its
    bias begins (Jozefowicz et al. 2015, section 2.2). Squashing functions are tanh, where those of
    1997 span [-2, 2] and [-1, 1].
    """

    forget: bool = True
    forget_bias: float = 1.0

    gates: ClassVar[int] = 4

    def begin(self, batch):
        """Zeros."""
        return (super().begin(batch),) * 2

    def bias_init(self, key, shape, dtype):
        """Zero but for the forget gate's."""
        return (
            jnp.zeros(shape, dtype)
            .at[self.features : 2 * self.features]
            .set(self.forget_bias if self.forget else 0.0)
        )

    def squashed(self, gates):
        """σ of i, f and o, tanh of g."""
        if not tracing.fast():
            i, f, g, o = jnp.split(gates, 4, axis=-1)
            return jnp.concatenate(
                [jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)], axis=-1
            )
        number = jax.lax.broadcasted_iota(jnp.int32, gates.shape, gates.ndim - 1) // self.features
        return _squash(gates, jnp.where(number == 2, 1, 0.5).astype(gates.dtype))

    def advance(self, carry, gates):
        """(c_t, h_t)."""
        cell, hidden = carry
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        cell = (f * cell if self.forget else cell) + i * g
        return cell, o * jnp.tanh(cell)

    @staticmethod
    def shown(carry):
        """h."""
        return carry[1]

    def kernel(self, weights, carry, x_BTD, length_B, reverse) -> tuple[jax.Array, Carry] | None:
        """cuDNN's, for float32 with a forget gate."""
        if not (tracing.cudnn() and self.forget and x_BTD.dtype == jnp.float32):
            return None
        return cudnn_lstm(weights, carry, x_BTD, length_B, reverse)


class GRU(Recurrent):
    """The gated recurrent unit: h_t = (1 - z) ⊙ n + z ⊙ h_{t-1}, n = tanh(W x + b + r ⊙ (U h_{t-1}
    + b')), of reset r, update z and candidate n, in this order. Cho et al. 2014 (arXiv:1406.1078),
    in the form of torch and cuDNN, whose reset gate comes after the product. Carry: h (B, H)."""

    gates: ClassVar[int] = 3

    def extra(self):
        """b'."""
        return {
            "recurrent_bias": self.param(
                "recurrent_bias", nn.initializers.zeros, (self.features,), self.param_dtype
            )
        }

    def joined(self, extra, given, product):
        """The sums of r and z, and both parts of n."""
        both = 2 * self.features
        candidate = add_bias(product[..., both:], extra["recurrent_bias"])
        return jnp.concatenate(
            [given[..., :both] + product[..., :both], given[..., both:], candidate], axis=-1
        )

    def squashed(self, gates):
        """σ of r and z; the parts of n are as they are."""
        both, candidate = jnp.split(gates, 2, axis=-1)
        both = _squash(both, jnp.full_like(both, 0.5)) if tracing.fast() else jax.nn.sigmoid(both)
        return jnp.concatenate([both, candidate], axis=-1)

    def advance(self, carry, gates):
        """h_t."""
        r, z, given, product = jnp.split(gates, 4, axis=-1)
        n = jnp.tanh(given + r * product)
        return (1 - z) * n + z * carry


CELLS: dict[str, Callable[..., Recurrent]] = {
    "rnn": RNN,
    "lstm": LSTM,
    "lstm1997": partial(LSTM, forget=False),
    "gru": GRU,
}


class Stack(nn.Module):
    """(B, T, D), lengths (B,) or none -> (outputs (B, T, H or 2·H), carries of every layer, from
    the lowest).

    layer: called as `LSTM` is. layers: how many, each reading the outputs of the one below.
    bidirectional: each has a second one that goes from the end to the beginning, and their outputs
    lie side by side; the carries are then pairs. dropout: the rate between layers (Zaremba et al.
    2014, arXiv:1409.2329: on no recurrent connection), needs a key called dropout.
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
                back, last = self.layer(name=f"backward{number}")(
                    x_BTD, length_B, begun[1], reverse=True
                )
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


def cudnn_lstm(weights, carry, x_BTD, length_B, reverse, lstm: Callable[..., Any] = cudnn.lstm):
    """A layer by cuDNN, through `jax.experimental.rnn`: the parameters and numbers of `LSTM`, to
    the precision of its products.

    lstm: called in its place, with the weights in its flat form. Products have the precision of all
    others: TF32, unless `jax_default_matmul_precision` asks for float32. cuDNN takes no sequence of
    length 0, so those are given one step, and what comes of it is put aside.
    """
    (batch, steps, inputs), features = x_BTD.shape, weights["recurrent"].shape[0]
    flat = [
        weights["kernel"].T,
        weights["recurrent"].T,
        weights["bias"],
        jnp.zeros_like(weights["bias"]),
    ]
    flat = jnp.concatenate([part.reshape(-1) for part in flat])
    length = jnp.full(batch, steps, jnp.int32) if length_B is None else length_B.astype(jnp.int32)
    x_BTD = reversed_in_length(x_BTD, length) if reverse else x_BTD
    cell, hidden = carry
    config: Any = jax.config  # whose fields type checkers do not know
    whole = config.jax_default_matmul_precision in ("highest", "float32")
    y, h, c = lstm(
        x_BTD,
        hidden[None],
        cell[None],
        flat,
        jnp.maximum(length, 1),
        input_size=inputs,
        hidden_size=features,
        num_layers=1,
        dropout=0.0,
        bidirectional=False,
        precision=jax.lax.Precision.HIGHEST if whole else jax.lax.Precision.HIGH,
    )
    some = (length > 0)[:, None]
    y = reversed_in_length(y, length) if reverse else y
    return y, (jnp.where(some, c[0], cell), jnp.where(some, h[0], hidden))


def _by_gate(
    init: Initializer, gates: int, key: jax.Array, shape: tuple[int, int], dtype: Any
) -> jax.Array:
    """Each gate's matrix drawn by itself."""
    keys = jax.random.split(key, gates)
    return jnp.concatenate(
        [init(own, (shape[0], shape[1] // gates), dtype) for own in keys], axis=1
    )
