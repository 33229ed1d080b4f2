"""Sentences that say what an image shows: a convolutional network that sees, an LSTM that tells.

Axes: B batch, H height, W width, C channels, S places of a map, D its features, T tokens, V
  vocabulary.

Without attention the image is what the LSTM reads before the first word, and nothing else is known
of it: Vinyals et al. 2014 (*Show and Tell*, arXiv:1411.4555), section 3.1, equations 10 to 12. It
departs from the paper in these points: the cell's output is o_t ⊙ tanh(c_t), where equation 8 has
o_t ⊙ c_t; the gates, the layer that reads the image and the logits have biases, which the paper
does not print; the encoder is any network of this package, where theirs is a GoogLeNet with batch
normalization; one network writes, where theirs is an ensemble.

With attention, every word has weights of its own over the places of the map: Xu et al. 2015 (*Show,
Attend and Tell*, arXiv:1502.03044), the soft form of section 4.2. A step draws ẑ_t by h_{t-1} (the
score is vᵀ tanh(W h_{t-1} + U a_i), as their release has it), times the scalar β_t =
σ(f_β(h_{t-1})) of section 4.2.1; reads [E y_{t-1}; ẑ_t] (equations 1 to 3); and the logits are L_o
(E y_{t-1} + L_h h_t + L_z ẑ_t) (equation 7; their release takes the tanh of that sum first). The
first state is made of the mean of the map by two layers with a tanh, as in their release. It
departs from the paper in these points: all layers but the keys, L_h and v have biases; the encoder
is any network of this package, where theirs is a VGG that is not trained further, by a map of 14 ×
14 × 512 before its last pooling; the word before the first is a token with an embedding of its own,
where their release has zeros; hard attention (section 4.1) is not there. The doubly stochastic
penalty (equation 14) is the experiment's.

Both draw the parameters in ways of their own; here they are drawn as Flax and `nn.LSTM` draw them,
with a forget gate's bias of 1. Dropout is on words, on h_t before its layer and on what the logits
are made of, without attention on the image too.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.errors import UserError, nearest
from advdl.models import googlenet, vgg
from advdl.models.backbone import Backbone
from advdl.models.feeding import feed, forced
from advdl.models.gradcam import last_maps
from advdl.models.seq2seq import Memory
from advdl.models.variant import Variant, abstract, check_shape, tokens
from advdl.nn import LSTM, Additive, Dense, Dropout
from advdl.nn.pixels import Pixels

Carry = tuple[Memory, Any]


class Captioner(nn.Module):
    """Images (B, H, W, C), tokens (B, T) as they are fed, the beginning first -> (logits (B, T, V)
    of the tokens after them, weights (B, T, S) of places; S is 0 without attention).

    encoder: a network from images to (whatever, intermediates by name), called with `train`. layer:
    the intermediate that is looked at, maps (B, h, w, D) or features (B, D). pooled: without
    attention, the mean of the maps is read (as GoogLeNet and ResNet end in), or else all of their
    places side by side (as in front of VGG's and AlexNet's fc6). size: V. frozen: the encoder stays
    as it is: no gradient reaches it, and it sees as in evaluation. embedding, features: of words
    and of the states. dropout: the rate on what the LSTM reads and on what the answer is made of,
    needs a key called dropout. sampling: see `feeding.feed`.
    """

    encoder: nn.Module
    layer: str
    size: int
    embedding: int = 512
    features: int = 512
    attention: bool = False
    pooled: bool = True
    frozen: bool = False
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self):
        """The layers."""
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        dense = partial(Dense, **dtypes)
        self.words = nn.Embed(self.size, self.embedding, **dtypes)
        self.decoder = LSTM(self.features, **dtypes)
        self.answer = dense(self.size)
        self.drop = Dropout(self.dropout)
        if self.attention:
            self.begin_cell, self.begin_hidden = dense(self.features), dense(self.features)
            self.keys = dense(self.features, use_bias=False)
            self.attend = Additive(**dtypes)
            self.gate = dense(1)
            self.of_hidden = dense(self.embedding, use_bias=False)
            self.of_context = dense(self.embedding)
        else:
            self.picture = dense(self.embedding)

    @property
    def pixels(self) -> Pixels:
        """The numbers that images have for the encoder."""
        return self.encoder.pixels

    @property
    def published_backbone(self) -> Backbone:
        """The whole classifier that the encoder is the beginning of."""

        def place(own, learned):
            return {**own, "encoder": {name: learned[name] for name in own["encoder"]}}

        network = self.encoder.clone(num_classes=1000)
        return Backbone(network, place, lambda path: path[0] == "encoder", network)

    def __call__(
        self,
        image_BHWC: jax.Array,
        token_BT: jax.Array,
        train: bool = False,
        sampling: jax.Array | float = 0.0,
    ) -> tuple[jax.Array, jax.Array]:
        return self.tell(self.encode(image_BHWC, train), token_BT, train, sampling)

    def see(self, image_BHWC: jax.Array, train: bool = False) -> jax.Array:
        """The places (B, S, D) of the encoder's layer; S is 1 for one of features."""
        _, seen = self.encoder(image_BHWC, train and not self.frozen)
        values = seen[self.layer]
        values = values.reshape(len(values), -1, values.shape[-1])
        return jax.lax.stop_gradient(values) if self.frozen else values

    def features_of(self, image_BHWC: jax.Array) -> jax.Array:
        """The mean (B, D) of what is seen."""
        return self.see(image_BHWC).mean(1)

    def encode(self, image_BHWC: jax.Array, train: bool = False) -> Carry:
        """What the decoder starts from."""
        values = self.see(image_BHWC, train)
        if self.attention:
            mean = values.mean(1)
            cell = jnp.tanh(self.begin_cell(mean)), jnp.tanh(self.begin_hidden(mean))
            return Memory(values, self.keys(values), jnp.full(len(values), values.shape[1])), cell
        read = values.mean(1) if self.pooled else values.reshape(len(values), -1)
        _, cell = self.decoder(self.drop(self.picture(read), train)[:, None])
        nothing = values[:, :0]
        return Memory(nothing, nothing, jnp.zeros(len(values), int)), cell

    def tell(
        self,
        carry: Carry,
        token_BT: jax.Array,
        train: bool = False,
        sampling: jax.Array | float = 0.0,
    ) -> tuple[jax.Array, jax.Array]:
        """(logits (B, T, V), weights (B, T, S)), from what `encode` gave."""
        memory, cell = carry
        if not self.attention and forced(self, sampling):
            hidden, _ = self.decoder(self.read(token_BT, train), None, cell)
            return self.answer(self.drop(hidden, train)), jnp.zeros((*token_BT.shape, 0))

        def read(module, token):
            return module.read(token, train)

        def step(module, cell, word):
            return module.advance(memory, cell, word, train)

        _, (said, weights) = feed(
            self, read, step, lambda module, said: module.answer(said), cell, token_BT, sampling
        )
        return self.answer(said), weights

    def tell_each(self, carry: Carry, token_BRT: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`tell` of R captions of each image: (logits (B, R, T, V), weights (B, R, T, S))."""
        several = token_BRT.shape[1]
        each = jax.tree.map(lambda x: jnp.repeat(x, several, 0), carry)
        logits, weights = self.tell(each, token_BRT.reshape(-1, token_BRT.shape[-1]))
        shape = token_BRT.shape
        return logits.reshape(*shape, -1), weights.reshape(*shape, weights.shape[-1])

    def read(self, token: jax.Array, train: bool = False) -> jax.Array:
        """Tokens (…) as words (…, embedding)."""
        return self.drop(self.words(token), train)

    def advance(
        self, memory: Memory, cell: Any, word: jax.Array, train: bool = False
    ) -> tuple[jax.Array, Any, jax.Array]:
        """A word (B, embedding) more: (what the answer is made of (B, H), the LSTM's carry, weights
        (B, S))."""
        if not self.attention:
            hidden, cell = self.decoder(word[:, None], None, cell)
            return self.drop(hidden[:, 0], train), cell, jnp.zeros((len(word), 0))
        context, weight = self.attend(cell[1], memory.keys, memory.values, memory.length)
        context = jax.nn.sigmoid(self.gate(cell[1])) * context
        hidden, cell = self.decoder(jnp.concatenate([word, context], -1)[:, None], None, cell)
        said = word + self.of_hidden(self.drop(hidden[:, 0], train)) + self.of_context(context)
        return self.drop(said, train), cell, weight

    def next(self, carry: Carry, token_B: jax.Array) -> tuple[jax.Array, Carry]:
        """As `models.decoding` has a step: (logits, carry)."""
        memory, cell = carry
        said, cell, _ = self.advance(memory, cell, self.read(token_B))
        return self.answer(said), (memory, cell)


def looked_at(
    name: str, encoder: nn.Module, shape: tuple[int, ...], layer: str, attention: bool
) -> tuple[str, tuple[int, ...]]:
    """(the intermediate of an encoder that a captioner looks at, the shape (h, w) of its maps).

    name: what the encoder is called. shape: (H, W, C) of the images. layer: the intermediate's
    name; "" for the last maps, and for attention the last of at least 4 by 4. Raises UserError for
    images that the encoder does not take, and for a layer that is not there, or has no maps for
    attention.
    """
    check_shape(name, encoder, shape)
    seen = jax.eval_shape(
        lambda: encoder.init_with_output(jax.random.key(0), jnp.zeros((1, *shape)), False)[0][1]
    )
    least = 4 if attention else 1
    layer = layer or last_maps(encoder, abstract(encoder, shape), shape, least)
    known = [name for name, x in seen.items() if len(x.shape) == 4 or not attention]
    if layer not in known:
        raise UserError(
            f"{name} has no layer {layer!r} to look at; there are"
            f" {', '.join(known)}{nearest(layer, known)}"
        )
    return layer, seen[layer].shape[1:3]


VARIANTS: Mapping[str, Variant] = {
    "show_and_tell": Variant(
        partial(Captioner, googlenet.GoogLeNet(num_classes=None), "5b", 9000),
        "Vinyals 2014",
        (224, 224, 3),
        17_822_552,
        1_785_423_872,
        "27.7 BLEU-4 on COCO (abstract)",
        others=(tokens(30),),
    ),
    "show_attend_and_tell": Variant(
        partial(Captioner, vgg.VGG(num_classes=None), "pool5", 9000, attention=True),
        "Xu 2015",
        (224, 224, 3),
        28_663_401,
        15_617_725_440,
        others=(tokens(30),),
    ),
}
