"""How long layers and training steps take, forward and backward: ours (fast, plain) and Flax's.

    python tests/benchmarks/layers.py [--runs 20] [--only TEXT]

`library` is plain with XLA's default choice of libraries, the others keep the compiler option that
`advdl.train.placement` sets on CPU. Times are the least of several runs taken in turns; nothing is
asserted.
"""

import argparse
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from timing import in_turns, seconds

from advdl.models import dcgan, resnet
from advdl.nn import (
    BatchNorm,
    Conv,
    ConvTranspose,
    adaptive_avg_pool,
    global_average_pool,
    local_response_norm,
    max_pool,
    tracing,
)
from advdl.nn.dense import Dense
from advdl.nn.softmax import softmax_cross_entropy
from advdl.train import placement

OPTIONS = dict([placement.EIGEN])


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def flax_conv(features, kernel_size, strides=1, padding=0, **arguments):
    """Flax's convolution, called as ours."""
    return nn.Conv(
        features, (kernel_size,) * 2, (strides,) * 2, ((padding, padding),) * 2, **arguments
    )


def flax_conv_transpose(features, kernel_size, strides=1, padding=0, output_padding=0, **arguments):
    """Flax's transposed convolution, called as ours: its padding is that of the dilated input."""
    before = kernel_size - 1 - padding
    return nn.ConvTranspose(
        features,
        (kernel_size,) * 2,
        (strides,) * 2,
        ((before, before + output_padding),) * 2,
        **arguments,
    )


class FlaxNorm(nn.Module):
    """Flax's batch normalization, called as ours."""

    scale_init: object = nn.initializers.ones
    dtype: object = None
    param_dtype: object = jnp.float32

    @nn.compact
    def __call__(self, x, train):
        arguments = dict(scale_init=self.scale_init, dtype=self.dtype, param_dtype=self.param_dtype)
        return nn.BatchNorm(use_running_average=not train, momentum=0.9, **arguments)(x)


class FlaxPool(nn.Module):
    """Average over space as Flax's examples write it."""

    def __call__(self, x):
        return x.mean((1, 2))


class Function(nn.Module):
    """A function as a layer."""

    f: Callable[[jax.Array], jax.Array]

    def __call__(self, x):
        return self.f(x)


def layer(module, x, **call):
    """(function, arguments): gradients of a layer by parameters and input, given the output's."""
    variables = module.init(jax.random.key(0), x, **call)
    params = variables.pop("params", {})

    def f(params, x):
        return module.apply({"params": params, **variables}, x, mutable=["batch_stats"], **call)[0]

    y = jax.eval_shape(f, params, x)
    g = normal(*y.shape, seed=1).astype(y.dtype)
    return lambda params, x, g: (lambda y, vjp: (y, vjp(g)))(*jax.vjp(f, params, x)), (params, x, g)


def classifier(**layers):
    """A step of ResNet-20, batch 128, SGD with momentum."""
    model, x, labels = resnet.cifar(20, **layers), normal(128, 32, 32, 3), jnp.arange(128) % 10
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), x)
    rule = optax.sgd(0.1, 0.9)

    def step(variables, moments, x, labels):
        def loss(params):
            (logits, _), new = model.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), new

        gradient, new = jax.grad(loss, has_aux=True)(variables["params"])
        updates, moments = rule.update(gradient, moments)
        return {"params": optax.apply_updates(variables["params"], updates), **new}, moments

    return step, (variables, rule.init(variables["params"]), x, labels)


def gan(size, channels, width, batch, generator_layers=None, discriminator_layers=None):
    """A step of DCGAN: the discriminator's update, then the generator's, Adam."""
    generator = dcgan.Generator((size, size, channels), width=width, **(generator_layers or {}))
    discriminator = dcgan.Discriminator(width=width, **(discriminator_layers or {}))
    x, z = jnp.tanh(normal(batch, size, size, channels)), normal(batch, 100, seed=1)
    g = jax.jit(partial(generator.init, train=False))(jax.random.key(0), z)
    d = jax.jit(partial(discriminator.init, train=False))(jax.random.key(1), x)
    rule = optax.adam(2e-4, b1=0.5)

    def forward(module, variables, params, x):
        return module.apply(
            {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
        )[0]

    def updated(loss, variables, moments):
        updates, moments = rule.update(jax.grad(loss)(variables["params"]), moments)
        return {**variables, "params": optax.apply_updates(variables["params"], updates)}, moments

    def step(g, d, g_moments, d_moments, x, z):
        def d_loss(params):
            fake = jax.lax.stop_gradient(forward(generator, g, g["params"], z))
            real_logit, fake_logit = (
                forward(discriminator, d, params, images)[0] for images in (x, fake)
            )
            return (nn.softplus(-real_logit) + nn.softplus(fake_logit)).mean()

        d, d_moments = updated(d_loss, d, d_moments)

        def g_loss(params):
            return nn.softplus(
                -forward(discriminator, d, d["params"], forward(generator, g, params, z))[0]
            ).mean()

        g, g_moments = updated(g_loss, g, g_moments)
        return g, d, g_moments, d_moments

    return step, (g, d, rule.init(g["params"]), rule.init(d["params"]), x, z)


def convolution(shape, *arguments, **keywords):
    return lambda ours: layer((Conv if ours else flax_conv)(*arguments, **keywords), normal(*shape))


def transposed(shape, *arguments, **keywords):
    return lambda ours: layer(
        (ConvTranspose if ours else flax_conv_transpose)(*arguments, **keywords), normal(*shape)
    )


def normalization(*shape):
    return lambda ours: layer((BatchNorm if ours else FlaxNorm)(), normal(*shape), train=True)


def gan_of(*arguments):
    flax = {"conv": flax_conv_transpose, "norm": FlaxNorm}, {"conv": flax_conv, "norm": FlaxNorm}
    return lambda ours: gan(*arguments) if ours else gan(*arguments, *flax)


CASES = {
    "conv 3×3, 128×32×32×16": convolution((128, 32, 32, 16), 16, 3, padding=1, use_bias=False),
    "conv 3×3 stride 2, 128×32×32×16 → 32": convolution(
        (128, 32, 32, 16), 32, 3, strides=2, padding=1, use_bias=False
    ),
    "conv 1×1, 16×28×28×128 → 256": convolution((16, 28, 28, 128), 256, 1, use_bias=False),
    "conv 4×4 stride 2, 64×16×16×64 → 128": convolution(
        (64, 16, 16, 64), 128, 4, strides=2, padding=1, use_bias=False
    ),
    "conv 4×4 stride 2, 64×32×32×3 → 64": convolution(
        (64, 32, 32, 3), 64, 4, strides=2, padding=1, use_bias=False
    ),
    "transposed 4×4 stride 2, 64×8×8×256 → 128": transposed(
        (64, 8, 8, 256), 128, 4, strides=2, padding=1, use_bias=False
    ),
    "transposed 4×4 stride 2, 64×16×16×64 → 3": transposed(
        (64, 16, 16, 64), 3, 4, strides=2, padding=1, use_bias=False
    ),
    "batch norm, 128×32×32×16": normalization(128, 32, 32, 16),
    "batch norm, 64×16×16×64": normalization(64, 16, 16, 64),
    "average pool, 128×8×8×64": lambda ours: layer(
        Function(global_average_pool) if ours else FlaxPool(), normal(128, 8, 8, 64)
    ),
    "step: ResNet-20, batch 128, 32×32": lambda ours: classifier(
        **({} if ours else {"conv": flax_conv, "norm": FlaxNorm})
    ),
    "step: DCGAN 32×32, width 64, batch 64": gan_of(32, 3, 64, 64),
    "step: DCGAN 8×8, width 32, batch 64": gan_of(8, 1, 32, 64),
}


def at_card_size(module, *shape, **call):
    """A case of `CARD`: `(dtype, batch, 0 for its own) -> (function, arguments)`."""

    def case(dtype, batch=0):
        x = normal(batch or shape[0], *shape[1:]).astype(dtype)
        own = {} if isinstance(module, Function) else {"dtype": dtype}
        return layer(module.clone(**own), x, **call)

    return case


# Each of the formulations that are chosen by backend, at a size that fills a GPU.
CARD = {
    "3×3 convolution": at_card_size(Conv(256, 3, padding=1, use_bias=False), 256, 28, 28, 256),
    "strided convolution": at_card_size(
        Conv(256, 3, strides=2, padding=1, use_bias=False), 256, 56, 56, 128
    ),
    "transposed convolution": at_card_size(
        ConvTranspose(128, 4, strides=2, padding=1, use_bias=False), 512, 16, 16, 256
    ),
    "batch norm": at_card_size(BatchNorm(), 256, 56, 56, 64, train=True),
    "max pooling": at_card_size(
        Function(partial(max_pool, window=3, strides=2, padding=1)), 256, 112, 112, 64
    ),
    "average pooling": at_card_size(Function(global_average_pool), 512, 7, 7, 2048),
    "adaptive pooling": at_card_size(
        Function(partial(adaptive_avg_pool, size=6)), 256, 13, 13, 256
    ),
    "response norm": at_card_size(Function(local_response_norm), 256, 27, 27, 96),
    "cross-entropy": at_card_size(
        Function(lambda x: softmax_cross_entropy(x, jnp.arange(len(x)))), 4096, 10_000
    ),
    "dense": at_card_size(Dense(10_000), 64, 35, 512),
}
WAYS = {
    "fast": (True, "fast", OPTIONS),
    "xla": (True, "xla", OPTIONS),
    "flax": (False, "xla", OPTIONS),
    "library": (True, "xla", {}),
}


def compiled(case, ours, name, options):
    """(executable, arguments)."""
    with tracing.use(implementation=name, onednn=placement.ONEDNN[0] in options):
        f, arguments = case(ours)
        return jax.jit(f).lower(*arguments).compile(compiler_options=options), arguments


def least(programs, runs):
    """Least seconds of each program, run in turns."""

    def once(f, arguments):
        return seconds(lambda: jax.block_until_ready(f(*arguments)))

    times = in_turns(
        {name: partial(once, *program) for name, program in programs.items()}, runs, warmup=0
    )
    return {name: min(taken) for name, taken in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--only", default="", help="part of the cases' names")
    options = parser.parse_args()
    print(
        f"{'ms, forward and backward':45}"
        + "".join(f"{way:>10}" for way in WAYS)
        + f"{'flax/fast':>10}"
    )
    for title, case in CASES.items():
        if options.only in title:
            times = least({way: compiled(case, *how) for way, how in WAYS.items()}, options.runs)
            figures = "".join(f"{seconds * 1e3:10.2f}" for seconds in times.values())
            print(f"{title:45}{figures}{times['flax'] / times['fast']:10.2f}", flush=True)


if __name__ == "__main__":
    main()
