"""A generator and a discriminator that learn against each other, applied as their losses need them.

Axes: B batch, Z dimensions of the noise.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from advdl.models.generators import Noise
from advdl.nn import differentiable_augment

Variables = dict[str, Any]


class Game(NamedTuple):
    """The two networks of a GAN and what they are given.

    generator: noise (B, Z) -> examples (B, …). discriminator: examples -> (logit (B,), features).
    noise: the prior. example: under which name a batch holds the data. conditional: whether both
      networks are given `label_B`, the class. policies: see `nn.differentiable_augment`; data and
      samples are distorted alike before the discriminator sees them. joint: whether it sees data
      and samples in one batch, with one set of batch statistics, or in two.

    What runs in training mode draws from `rng(use)`, a key for each use, and returns the mutable
    collections of its network afterwards, too.
    """

    generator: nn.Module
    discriminator: nn.Module
    noise: Noise
    example: str = "image"
    conditional: bool = False
    policies: Sequence[str] = ()
    joint: bool = False

    def init_generator(self, key: jax.Array, batch: Variables) -> Variables:
        """The generator's variables before the first update."""
        z = jnp.zeros((len(batch[self.example]), self.noise.dimensions))
        return dict(self.generator.init(key, z, train=False, **self._given(batch)))

    def init_discriminator(self, key: jax.Array, batch: Variables) -> Variables:
        """The discriminator's variables before the first update."""
        x = batch[self.example]
        return dict(self.discriminator.init(key, x, train=False, **self._given(batch)))

    def draw(self, variables: Variables, batch: Variables) -> jax.Array:
        """Examples of the noise `batch["z"]`."""
        x: Any = self.generator.apply(variables, batch["z"], train=False, **self._given(batch))
        return x

    def logits(self, variables: Variables, batch: Variables, x: jax.Array) -> jax.Array:
        """Logits (B,) of examples."""
        seen: Any = self.discriminator.apply(variables, x, train=False, **self._given(batch))
        return seen[0]

    def sample(
        self, variables: Variables, batch: Variables, rng: Callable[[str], jax.Array]
    ) -> tuple[jax.Array, Variables]:
        """As many new samples as the batch has examples, in training mode."""
        z = self.noise.sample(rng("noise"), len(batch[self.example]))
        return _training(self.generator, variables, z, rng("generator"), self._given(batch))

    def judge(
        self, variables: Variables, batch: Variables, x: jax.Array, rng: Callable[[str], jax.Array]
    ) -> tuple[jax.Array, Variables]:
        """Logits (B,) of examples, distorted first, in training mode."""
        return self._judge(variables, x, self._given(batch), rng, "data")

    def judge_both(
        self,
        variables: Variables,
        batch: Variables,
        fake: jax.Array,
        rng: Callable[[str], jax.Array],
    ) -> tuple[jax.Array, jax.Array, Variables]:
        """Logits of the batch's examples and of as many samples, (B,) each, in training mode."""
        real, given = batch[self.example], self._given(batch)
        if self.joint:  # by turns, so that no example moves to another device
            both = jnp.stack([real, fake], 1).reshape(-1, *real.shape[1:])
            twice = {name: jnp.repeat(x, 2, 0) for name, x in given.items()}
            logit, seen = self._judge(variables, both, twice, rng, "both")
            return logit[::2], logit[1::2], seen
        real_logit, seen = self._judge(variables, real, given, rng, "data")
        fake_logit, seen = self._judge({**variables, **seen}, fake, given, rng, "samples")
        return real_logit, fake_logit, seen

    def _judge(self, variables, x, given, rng, use):
        x = differentiable_augment(x, rng(f"distortion of {use}"), tuple(self.policies))
        (logit, _), seen = _training(self.discriminator, variables, x, rng(use), given)
        return logit, seen

    def _given(self, batch):
        return {"label_B": batch["label"]} if self.conditional else {}


def _training(
    module: nn.Module, variables: Variables, x: jax.Array, key: jax.Array, given: Variables
) -> tuple[Any, Variables]:
    mutable, rngs = [name for name in variables if name != "params"], {"dropout": key}
    output: Any = module.apply(variables, x, train=True, rngs=rngs, mutable=mutable, **given)
    return output
