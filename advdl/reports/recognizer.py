"""A classifier of images that is trained for a measure.

Axes: N examples, H height, W width, C channels, K classes.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from advdl import losses, models, nn, train
from advdl.metrics import Mean
from advdl.models import dcgan


def recognizer(
    images_NHWC: np.ndarray, label_N: np.ndarray, classes: int, steps: int = 600, seed: int = 0
) -> Callable[[np.ndarray], np.ndarray]:
    """`classify(images (M, H, W, C)) -> (M,)` int64: the likeliest class by a network of strided
    convolutions (`dcgan.Encoder` with K outputs), trained on these images, shifted by up to an
    eighth of their sides, with Adam and batches of 64."""
    network = dcgan.Encoder(classes, width=32)
    x, y = jnp.asarray(images_NHWC), jnp.asarray(label_N)

    def draw(key):
        rows = jax.random.randint(key, (64,), 0, len(x))
        return {"image": x[rows], "label": y[rows]}

    def loss(variables, batch, rng):
        shifted = nn.differentiable_augment(batch["image"], rng("shift"), ("translation",))
        (logits, _), seen = train.training(network, variables, shifted)
        return train.Loss(Mean.of(losses.cross_entropy(logits, batch["label"])), {}, seen)

    rule = optax.adam(optax.cosine_decay_schedule(2e-3, steps))
    player = train.Player(train.initial(network, "image"), loss, rule)
    learner = train.minimize(player, lambda *_: {})
    state, _ = jax.jit(train.fit_scan(learner, draw, steps))(jax.random.key(seed))
    variables = state["model"].variables

    @jax.jit
    def likeliest(variables, images):
        return network.apply(variables, images, train=False)[0].argmax(-1)

    return lambda images: models.in_portions(partial(likeliest, variables), images, rows=400)
