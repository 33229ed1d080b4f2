"""An encoder for scenes of digits that has learned single digits, where published networks had
learned ImageNet.

Axes: S classifiers of one network, B batch, K classes.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from advdl import data, losses, train
from advdl.errors import UserError
from advdl.metrics import Mean
from advdl.models import abstract, check_shape, vgg
from advdl.weights.backbone import place_backbone

Singles = Callable[[str], data.ArraySource]
"""From a split to images of one digit each, `image` and `label`."""

BATCH = 64
"""Digits in a batch."""


def digits_start(
    network: nn.Module,
    updates: int,
    singles: Singles | None,
    seed: int = 0,
) -> dict[str, train.WarmStart]:
    """What gives the player `model`, before the first update, an encoder that has learned single
    digits in so many updates, as `cli.Experiment` takes it; nothing for none.

    singles: what the encoder learns from, by split; None for data that have none. Raises UserError
    for such data, and for a network that does not begin as a classifier.
    """
    if not updates:
        return {}
    if singles is None or not hasattr(network, "published_backbone"):
        raise UserError(
            "--pretrain is for scenes of digits, and networks that begin as a classifier does"
        )

    def start(variables):
        learned, accuracy = learn_digits(network, updates, singles, seed)
        train.log(
            f"pretrained on {updates} batches of single digits: {accuracy:.1%} of held-out ones"
            " right"
        )
        return place_backbone(network, variables, learned)

    return {"model": lambda shapes: start}


def learn_digits(
    network: nn.Module, updates: int, singles: Singles, seed: int = 0
) -> tuple[train.Variables, float]:
    """(variables of the classifier that a network begins as, after so many updates on the single
    digits `singles("train")`; accuracy on `singles("test")`). Of VGG-16 every stage has a
    classifier of its own."""
    training, held_out = map(singles, ("train", "test"))
    encoder = _classifier(network, len(training.label_names))
    check_shape(type(encoder).__name__, encoder, training.image_shape)
    normalized = "batch_stats" in abstract(encoder, training.image_shape)
    own: Any = network
    as_float = data.scaled(own.pixels)

    def loss(variables, batch, rng):
        rngs = {"dropout": rng("dropout")}
        found, new = train.training(encoder, variables, batch["image"], rngs=rngs)
        error_B = losses.cross_entropy(_logits(found), batch["label"][None]).sum(0)
        return train.Loss(Mean.of(error_B), {}, new)

    def evaluate(variables, batch):
        logits_BK = _logits(encoder.apply(variables, batch["image"], train=False))[-1]
        right_B = (logits_BK.argmax(-1) == batch["label"]).astype(jnp.float32)
        return {"accuracy": Mean.of(right_B, batch["mask"])}

    def init(key, batch):
        return encoder.init(key, batch["image"], train=False)

    rate = train.schedule("cosine", 3e-3 if normalized else 1e-3, updates, 20)
    learner = train.minimize(train.Player(init, loss, optax.adam(rate)), evaluate)
    batches, key = data.TrainBatches(training, BATCH, seed, as_float), jax.random.key(seed)
    placed = train.place("jit", "")(learner)
    state = placed.init(key, batches(0))
    for t in range(updates):
        state, _ = placed.step(state, placed.put(batches(t)), key)
    figures = train.evaluate(placed, state, data.EvalBatches(held_out, BATCH, as_float))
    return jax.device_get(state["model"].variables), float(figures["accuracy"])


def _classifier(network: Any, classes: int) -> nn.Module:
    """A classifier of small images with the convolutions that a network begins with."""
    declared = network.published_backbone.classifier
    if isinstance(declared, vgg.VGG):
        own = network if hasattr(network, "width") else declared
        return vgg.Probed(classes, getattr(own, "norm", None), own.width, network.dtype)
    return declared.clone(num_classes=classes, dtype=network.dtype)


def _logits(found: Any) -> jax.Array:
    """(S, B, K), of `vgg.Probed` or of a classifier, which also gives its intermediates."""
    return found[0][None] if isinstance(found, tuple) else found
