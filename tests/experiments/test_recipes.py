"""Presets that stand on a paper or on published code have its values, each pinned beside its
source.

What is ours in them is said in the comment of the preset, and pinned here too, so that no value
changes unseen.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advdl import train

RECIPES = {
    # He et al. 2015 (arXiv:1512.03385), section 4.2: "weight decay of 0.0001 and momentum of 0.9",
    # "mini-batch size of 128", "a learning rate of 0.1, divide it by 10 at 32k and 48k iterations,
    # and terminate training at 64k iterations"; "4 pixels are padded on each side, and a 32×32 crop
    # is randomly sampled from the padded image or its horizontal flip".
    ("depth", "paper"): dict(
        data="tfds:cifar10",
        depths="20,32,44,56",
        seeds=1,
        batch=128,
        steps=64_000,
        learning_rate=0.1,
        schedule="step",
        weight_decay=1e-4,
        momentum=0.9,
        crop=4,
        flip=True,
        warmup=0,
        clip=0.0,
    ),
    # Hinton & Salakhutdinov 2006 (Science 313): 784-1000-500-250-30, linear code, cross-entropy.
    # The rest is ours.
    ("autoencode", "paper"): dict(
        data="tfds:mnist",
        network="dense",
        hidden="1000,500,250",
        code=30,
        loss="cross-entropy",
        activation="gelu",
        tied=False,
        noise=0.0,
        validation=0.0,
        weight_decay=0.0,
        steps=60_000,
        batch=200,
        learning_rate=1e-3,
        schedule="cosine",
        clip=0.0,
    ),
    # Vinyals et al. 2014 (arXiv:1411.4555), section 4.3.1: "stochastic gradient descent with fixed
    # learning rate and no momentum", 512 dimensions, words that occur five times; and im2txt's
    # configuration.py and train.py: 2.0, by 0.5 every 8 epochs, batches of 32, clip 5.0, keep 0.7,
    # 1,000,000 steps.
    ("caption", "paper"): dict(
        data="folder:coco",
        image_size=224,
        encoder="googlenet_torchvision",
        encoder_rate=0.0,
        attention=False,
        pooled=True,
        embedding=512,
        features=512,
        dropout=0.3,
        optimizer="sgd",
        learning_rate=2.0,
        schedule="constant",
        halve_every=146_590,
        clip=5.0,
        least=5,
        longest=30,
        batch=32,
        steps=1_000_000,
        sampling=0.0,
        warmup=0,
    ),
    # bentrevett/pytorch-seq2seq, chapter 3: embedding 256, hidden 512, dropout 0.5, min_freq 2,
    # batch 128, Adam, clip 1.0, 10 epochs, teacher_forcing_ratio 0.5.
    ("translate", "multi30k"): dict(
        data="folder:multi30k",
        source="de",
        target="en",
        attention="additive",
        embedding=256,
        features=512,
        dropout=0.5,
        least=2,
        longest=40,
        buckets=1,
        batch=128,
        steps=2270,
        learning_rate=1e-3,
        schedule="constant",
        clip=1.0,
        sampling=0.5,
        warmup=0,
    ),
    # Zaremba et al. 2014 (arXiv:1409.2329), section 4.1, and for the small one TensorFlow's
    # ptb_word_lm.py (SmallConfig). Rate 1 and clips 5, 5, 10 are of a loss that is summed over the
    # window, see `language.zaremba`.
    ("language", "zaremba_small"): dict(
        data="folder:ptb",
        tokens="spaces",
        least=1,
        cell="lstm",
        layers=2,
        features=200,
        embedding=200,
        tied=False,
        window=20,
        batch=20,
        uniform=0.1,
        dropout=0.0,
        optimizer="sgd",
        schedule="constant",
        learning_rate=20.0,
        clip=5 / 20,
        decay=0.5,
        decay_after=4,
        steps=30_199,
        sampling=0.0,
        warmup=0,
    ),
    ("language", "zaremba_medium"): dict(
        data="folder:ptb",
        tokens="spaces",
        least=1,
        cell="lstm",
        layers=2,
        features=650,
        embedding=650,
        tied=False,
        window=35,
        batch=20,
        uniform=0.05,
        dropout=0.5,
        optimizer="sgd",
        schedule="constant",
        learning_rate=35.0,
        clip=5 / 35,
        decay=1 / 1.2,
        decay_after=6,
        steps=51_753,
        sampling=0.0,
        warmup=0,
    ),
    ("language", "zaremba_large"): dict(
        data="folder:ptb",
        tokens="spaces",
        least=1,
        cell="lstm",
        layers=2,
        features=1500,
        embedding=1500,
        tied=False,
        window=35,
        batch=20,
        uniform=0.04,
        dropout=0.65,
        optimizer="sgd",
        schedule="constant",
        learning_rate=35.0,
        clip=10 / 35,
        decay=1 / 1.15,
        decay_after=14,
        steps=72_985,
        sampling=0.0,
        warmup=0,
    ),
    # bentrevett/pytorch-sentiment-analysis, chapter 2: max_length 256, min_freq 5, embedding and
    # hidden 300, 2 layers, dropout 0.5, Adam at 5e-4, batch 512, 10 epochs.
    ("sentiment", "imdb"): dict(
        data="tfds:imdb_reviews",
        longest=256,
        buckets=4,
        least=5,
        embedding=300,
        features=300,
        layers=2,
        pool="last",
        word_dropout=0.0,
        dropout=0.5,
        weight_decay=0.0,
        steps=440,
        batch=512,
        learning_rate=5e-4,
        schedule="constant",
        clip=0.0,
        warmup=0,
    ),
    # Delétang et al. 2022 (arXiv:2207.02098) and their repository: training/example.py (batch 128,
    # lengths 1 to 40, 256 units, 1e-3) and training/training.py (max_grad_norm 1, then Adam).
    ("parity", "paper"): dict(
        networks="rnn,lstm",
        seeds=3,
        features=256,
        longest=40,
        scored=500,
        batch=128,
        steps=1_000_000,
        learning_rate=1e-3,
        schedule="constant",
        clip=1.0,
        warmup=0,
    ),
}
OURS = {
    "depth": {"laptop"},
    "autoencode": {"laptop", "denoise", "vae"},
    "caption": {"laptop", "show_and_tell", "coco_overfit"},
    "translate": {"laptop", "multi30k_laptop"},
    "language": {"laptop", "subwords"},
    "sentiment": {"laptop", "reviews"},
    "speech": {"laptop", "digits"},
    "forecast": {"laptop", "elnino", "sunspots", "waves"},
    "parity": {"laptop"},
    "long_memory": {"laptop", "order"},
}
"""Presets whose settings were chosen here and claim nothing of a paper's."""
NO_NUMBERS = {"preset", "evaluate_every", "save_every", "log_every", "threads", "steps_per_call"}
"""Fields that do not alter what is learned."""


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_preset_is_pinned_or_claims_nothing(load, name):
    assert set(load(name).PRESETS) == OURS[name] | {
        preset for own, preset in RECIPES if own == name
    }


@pytest.mark.parametrize(("name", "preset"), sorted(RECIPES))
def test_a_preset_has_the_values_of_its_source_and_no_others(load, name, preset):
    config, default = load(name).PRESETS[preset], load(name).Config()
    assert config.preset == preset
    assert {field: getattr(config, field) for field in RECIPES[name, preset]} == RECIPES[
        name, preset
    ]
    fields = [field.name for field in dataclasses.fields(config)]
    changed = {field for field in fields if getattr(config, field) != getattr(default, field)}
    assert changed <= set(RECIPES[name, preset]) | NO_NUMBERS


def test_rates_fall_and_runs_end_where_the_sources_say(load):
    step = train.schedule("step", 0.1, 64_000)
    rates = [float(step(n)) for n in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    presets = {(name, preset): load(name).PRESETS[preset] for name, preset in RECIPES}
    assert presets["caption", "paper"].halve_every == int(
        586_363 / 32 * 8
    )  # im2txt's captions, batch and epochs
    assert presets["translate", "multi30k"].steps == 10 * math.ceil(29_000 / 128)
    assert presets["sentiment", "imdb"].steps == 10 * math.ceil(0.9 * 25_000 / 512)
    for size, epochs in (("small", 13), ("medium", 39), ("large", 55)):
        config = presets["language", f"zaremba_{size}"]
        assert config.steps == epochs * ((929_589 // config.batch - 1) // config.window)


@pytest.mark.parametrize("length", [0.1, 100.0])
def test_zarembas_update_of_a_mean_is_that_of_a_sum(load, length):
    """Rate 1 and clip 5 on the gradient of a loss summed over the window, below the clip and above
    it."""
    config = load("language").PRESETS["zaremba_medium"]
    gradient = np.random.default_rng(0).standard_normal(30).astype(np.float32)
    gradient *= length / np.linalg.norm(gradient)
    ours = train.chain(optax.sgd(config.learning_rate), config.clip)
    update, _ = ours.update(
        jnp.asarray(gradient / config.window), ours.init(jnp.zeros(30)), jnp.zeros(30)
    )
    np.testing.assert_allclose(update, -gradient * min(1, 5 / length), rtol=1e-5)


class Linear(nn.Module):
    """A network as `depth.learner` knows them, without much to compile."""

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(3)(x.reshape(len(x), -1)), {}


@pytest.mark.slow
def test_descent_by_momentum_adds_the_decay_of_all_parameters(load):
    """He et al. 2015: v ← 0.9 v + g + 1e-4 w, w ← w - 0.1 v, by hand, biases included. Decay is
    made large enough to see."""
    module = load("depth")
    config = dataclasses.replace(module.PRESETS["paper"], weight_decay=0.1)
    learner = module.learner(Linear(), config)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.standard_normal((4, 2, 2, 1)).astype(np.float32),
        "label": np.array([0, 1, 2, 0]),
    }
    state = learner.init(jax.random.key(0), batch)
    params = state["model"].params

    def loss(params):
        logits, _ = Linear().apply({"params": params}, batch["image"], train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    velocity, step = jax.tree.map(jnp.zeros_like, params), jax.jit(learner.step)
    for _ in range(3):
        velocity = jax.tree.map(
            lambda v, g, w: 0.9 * v + g + 0.1 * w, velocity, jax.grad(loss)(params), params
        )
        params = jax.tree.map(lambda w, v: w - 0.1 * v, params, velocity)
        state, _ = step(state, batch, jax.random.key(1))
    for ours, theirs in zip(
        jax.tree.leaves(state["model"].params), jax.tree.leaves(params), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
