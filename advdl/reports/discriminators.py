"""Measures by a discriminator that is trained for them, against samples that stand still.

Axes: T updates, N examples, B batch, D dimensions of a point.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from advdl import losses, models, train
from advdl.metrics import Mean
from advdl.models import goodfellow

Draw = Callable[[Any, jax.Array, int], jax.Array]
"""`(given, key, count) -> points (count, D)`: samples of what is given, such as variables."""


def fit_discriminator(
    network: nn.Module,
    real: Callable[[jax.Array, int], jax.Array],
    fake: Draw,
    steps: int = 3000,
    count: int = 512,
) -> Callable[..., Any]:
    """`fit(given, key, real_label=1.0) -> variables` of a discriminator that is trained to its
    optimum on endless data, `real(key, count)`, against samples that stand still,
    `fake(given, key, count)`."""

    def fit(given, key, real_label=1.0):
        def draw(key):
            keys = jax.random.split(key)
            return {"real": real(keys[0], count), "fake": fake(given, keys[1], count)}

        def loss(variables, batch, rng):
            real_logit, _ = network.apply(variables, batch["real"], train=True)
            fake_logit, _ = network.apply(variables, batch["fake"], train=True)
            value = losses.minimax_discriminator(real_logit, fake_logit, real_label)
            return train.Loss(Mean.of(value))

        def init(key, batch):
            return network.init(key, batch["real"], train=False)

        rule = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
        return _fit(train.Player(init, loss, rule), draw, steps)(key)[0]

    return jax.jit(fit)


def _fit(
    player: train.Player, draw: Callable[[jax.Array], Any], steps: int
) -> Callable[[jax.Array], tuple[Any, Mapping[str, Any]]]:
    """`run(key)`: the player's variables after so many updates on what `draw(key)` gives, and the
    metrics of each update."""
    run = train.fit_scan(train.minimize(player, lambda *_: {}), draw, steps)

    def fitted(key):
        state, found = run(key)
        return state["model"].variables, found

    return fitted


@functools.partial(jax.jit, static_argnums=0)
def judge(network: nn.Module, variables: Any, x: ArrayLike) -> jax.Array:
    """Logits of examples by a discriminator, compiled once for each network."""
    logit, _ = network.apply(variables, x, train=False)
    return logit


def jsd_by_discriminator(
    network: nn.Module, variables: Any, real_ND: np.ndarray, fake_ND: np.ndarray
) -> float:
    """The Jensen-Shannon divergence that a discriminator at its optimum stands for,
    (V + log 4)/2 (Goodfellow et al. 2014, equation 6)."""
    logits = (judge(network, variables, x) for x in (real_ND, fake_ND))
    return (float(losses.value(*logits).mean()) + math.log(4)) / 2


def saturation(
    game: models.Game,
    real: Callable[[jax.Array, int], jax.Array],
    seed: int = 0,
    steps: int = 300,
    count: int = 1024,
) -> dict[str, np.ndarray]:
    """A discriminator learns to tell the samples of a new generator, which stands still, from data.

    Before each update, (T,) each: its `accuracy`, the mean of D(G(z)), `d_fake`, the norms of the
    generator's two gradients, `minimax` and `nonsaturating` (Goodfellow et al. 2014, section 3),
    and their `ratio`.
    """
    generator = game.init_generator(jax.random.key(seed), {game.example: jnp.zeros((1, 1))})
    objectives = {
        "minimax": losses.minimax_generator,
        "nonsaturating": losses.nonsaturating_generator,
    }

    def draw(key):
        keys = jax.random.split(key)
        return {game.example: real(keys[0], count), "z": game.noise.sample(keys[1], count)}

    def loss(variables, batch, rng):
        def logits(own):
            return game.logits(variables, batch, game.draw(own, batch))

        def means(own):
            logit = logits(own)
            return {name: objective(logit).mean() for name, objective in objectives.items()}

        real_logit = game.logits(variables, batch, batch[game.example])
        fake_logit = logits(generator)
        gradients = jax.jacrev(means)(generator)
        figures = {name: optax.tree.norm(gradients[name]) for name in objectives}
        right = jnp.stack([real_logit > 0, fake_logit < 0]).astype(jnp.float32)
        figures |= {"accuracy": right.mean(), "d_fake": jax.nn.sigmoid(fake_logit).mean()}
        value = Mean.of(losses.minimax_discriminator(real_logit, fake_logit))
        return train.Loss(value, {name: Mean.of(x[None]) for name, x in figures.items()})

    player = train.Player(game.init_discriminator, loss, optax.adam(1e-3, b1=0.5))
    seen = jax.jit(_fit(player, draw, steps))(jax.random.key(seed))[1]
    names = ("minimax", "nonsaturating", "accuracy", "d_fake")
    found = {name: np.asarray(seen[name].total / seen[name].count) for name in names}
    return found | {"ratio": found["minimax"] / found["nonsaturating"]}


def two_sample_accuracy(
    real: np.ndarray, fake: np.ndarray, steps: int = 200, seed: int = 0
) -> float:
    """How often a new discriminator, trained on half of as many real and generated images, tells
    the other half right: 1/2 where it cannot (Lopez-Paz and Oquab 2017, arXiv:1610.06545).

    real, fake: (N, H, W, C) and (M, H, W, C). Of the larger set the seed draws as many images as
    the smaller one has.
    """
    count = min(len(real), len(fake)) // 2 * 2

    def some(images):
        random = np.random.default_rng(seed)
        return images[np.sort(random.choice(len(images), count, replace=False))]

    images = np.concatenate([x if len(x) == count else some(x) for x in (real, fake)])
    label = np.repeat([1.0, 0.0], count).astype(np.float32)
    order = np.random.default_rng(seed).permutation(2 * count)
    x, y = jnp.asarray(images[order[:count]]), jnp.asarray(label[order[:count]])
    network = goodfellow.Discriminator(hidden=(128, 128), input_dropout=0.0)

    def draw(key):
        rows = jax.random.randint(key, (64,), 0, count)
        return {"image": x[rows], "label": y[rows]}

    def loss(variables, batch, rng):
        logit, _ = network.apply(variables, batch["image"], train=True, rngs={"dropout": rng.key})
        return train.Loss(Mean.of(losses.binary_cross_entropy(logit, batch["label"])))

    def init(key, batch):
        return network.init(key, batch["image"], train=False)

    run = _fit(train.Player(init, loss, optax.adam(1e-3)), draw, steps)
    variables, _ = jax.jit(run)(jax.random.key(seed))
    rest = order[count:]
    right = (np.asarray(judge(network, variables, images[rest])) > 0) == (label[rest] > 0)
    return float(right.mean())
