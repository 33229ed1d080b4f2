"""Auto-encoders: Hinton & Salakhutdinov 2006, denoising (Vincent et al. 2008), variational (Kingma
& Welling 2013).

    python experiments/autoencode.py train                                    # laptop: real handwritten digits
    python experiments/autoencode.py train --preset denoise                   # noisy digits in, clean ones out
    python experiments/autoencode.py train --preset denoise --noise-kind masking   # the corruption of Vincent et al. 2008
    python experiments/autoencode.py train --preset vae                       # a code that can be sampled
    python experiments/autoencode.py train --preset paper --data-dir TFDS     # MNIST, 784-1000-500-250-30, see PRESETS
    python experiments/autoencode.py evaluate --baselines                     # beside PCA of the same code size
    python experiments/autoencode.py predict photo.png                        # reconstruction and code

Recorded on two cores of an AMD EPYC, JAX 0.10.2: mean squared error of a pixel (black to white is
1) over the 364 test digits, `train --seed S` with these flags, S = 0, 1, 2; PCA of the same code
size fitted on the 1,433 training digits, its images clipped to [0, 1], `evaluate --baselines`. 7 to
10 s of training each (conv 17 s), other work beside it on the same cores.

    (laptop: 8 numbers)    0.0106, 0.0107, 0.0104    PCA 0.0231; the mean image 0.0731
    --tied                 0.0102, 0.0097, 0.0098    PCA 0.0231
    --network conv         0.0120, 0.0122, 0.0120    PCA 0.0231
    --code 2               0.0315, 0.0331, 0.0307    PCA 0.0521
    --code 16              0.0052, 0.0053, 0.0052    PCA 0.0104
    --code 30              0.0027, 0.0030, 0.0030    PCA 0.0027: half as many numbers as pixels, and few images to learn from
    --preset denoise       0.0130, 0.0131, 0.0130    the noise 0.0626, PCA 0.0235, the best linear filter (Wiener's) 0.0177
      --noise-kind masking       0.0147, 0.0146, 0.0145    the noise 0.0591, PCA 0.0478 (JAX 0.10.1, as the next)
      --noise-kind salt_pepper   0.0235, 0.0236, 0.0235    the noise 0.1080, PCA 0.0521
    --preset vae           0.0329, 0.0336, 0.0342    PCA of 2 0.0521; evidence lower bound -24.03, -24.24, -24.25 nats
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from PIL import Image
from scipy.stats import norm

from advdl import cli, data, losses, present, train
from advdl.errors import UserError
from advdl.metrics import Mean, pca, pca_reconstruction, wiener
from advdl.models import autoencoder
from advdl.nn import replica


@dataclass(frozen=True)
class Config(cli.Config):
    network: Literal["dense", "conv", "vae"] = "dense"
    """Perceptron (Hinton & Salakhutdinov 2006), strided and transposed convolutions, or variational
    perceptron."""
    code: int = 8
    """Numbers in a code."""
    hidden: str = "256,128"
    """dense, vae: units of the layers from the image to the code; the decoder's are the same,
    mirrored."""
    activation: Literal["relu", "gelu", "tanh", "sigmoid"] = "gelu"
    """Of hidden units; the papers' are sigmoid (from pretrained weights) and, in vae, tanh."""
    tied: bool = False
    """dense: the decoder's weights are the encoder's, transposed."""
    width: int = 32
    """conv: channels of the layer nearest the image."""
    up: Literal["transpose", "resize"] = "transpose"
    """conv: doubling by a transposed convolution, or by repeated pixels and a convolution."""
    noise: float = 0.0
    """dense, conv: of what is encoded (0: none). Of Gaussian noise the standard deviation, black to
    white being 1; of the other kinds the share of an image's numbers that are replaced."""
    noise_kind: Literal["gaussian", "masking", "salt_pepper"] = "gaussian"
    """masking is that of Vincent et al. 2008, see `corrupt`."""
    loss: Literal["", "squared", "cross-entropy"] = ""
    """dense, conv: of a reconstruction (default: squared); vae descends the negative evidence lower
    bound."""
    weight_decay: float = 0.0
    """Of AdamW."""
    image_size: int = 0
    """Side to which a folder's images are brought (0: the size they have)."""


# "laptop" and "denoise" were chosen on a fifth of the training digits held out for it; test digits
# chose nothing. "denoise" is not the recipe of Vincent et al. 2008, who mask (--noise-kind
# masking), train layers of logistic units one after the other by gradient descent on the
# cross-entropy, and start a classifier with them.
SMALL = dict(
    batch=64,
    learning_rate=1e-3,
    schedule="cosine",
    weight_decay=0.1,
    evaluate_every=500,
    save_every=1000,
    log_every=50,
)
PRESETS = {
    "laptop": Config(steps=4000, **SMALL),
    "denoise": Config(preset="denoise", steps=4000, noise=0.25, hidden="512", code=32, **SMALL),
    "vae": Config(preset="vae", steps=4000, network="vae", code=2, **SMALL),
    # The layers and the loss of Hinton & Salakhutdinov 2006; not run here. Other than there: no
    # pretraining, hence gelu for logistic units, and Adam for conjugate gradients; number of
    # updates, batch and rate are ours.
    "paper": Config(
        preset="paper",
        data="tfds:mnist",
        hidden="1000,500,250",
        code=30,
        loss="cross-entropy",
        steps=60_000,
        batch=200,
        learning_rate=1e-3,
        schedule="cosine",
        evaluate_every=3000,
        save_every=3000,
        log_every=100,
    ),
}


@dataclass(frozen=True)
class Predict(cli.Predict):
    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Images to encode and reconstruct."""


def build_network(config: Config, shape: tuple[int, int, int]) -> nn.Module:
    """The network for images of this shape. Raises UserError for settings that do not go
    together."""
    if config.tied and config.network != "dense":
        raise UserError(f"--tied is for --network dense, and this is {config.network}")
    if config.noise and config.network == "vae":
        raise UserError("--noise is for --network dense and conv; vae draws noise of its own")
    if config.noise_kind != "gaussian" and not 0 < config.noise <= 1:
        raise UserError(
            f"--noise is {config.noise}; with --noise-kind {config.noise_kind} it is a share, above"
            " 0 and at most 1"
        )
    if config.loss and config.network == "vae":
        raise UserError(
            "--loss is for --network dense and conv; vae descends the negative evidence lower bound"
        )
    fields = dict(
        shape=shape,
        code=config.code,
        act=getattr(jnp if config.activation == "tanh" else nn, config.activation),
    )
    if config.network == "conv":
        network = autoencoder.Convolutional(
            width=config.width, up=config.up, dtype=config.dtype, **fields
        )
        try:
            jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *shape)))
        except ValueError as error:
            raise UserError(f"{error}; give --image-size, or --network dense") from error
        return network
    try:
        hidden = tuple(int(units) for units in config.hidden.split(",") if units.strip())
    except ValueError:
        hidden = (0,)
    if min(hidden, default=1) < 1:
        raise UserError(f"--hidden is {config.hidden!r}; expected numbers of units, as in 256,128")
    if config.network == "vae":
        return autoencoder.Variational(hidden=hidden, dtype=config.dtype, **fields)
    return autoencoder.Dense(hidden=hidden, tied=config.tied, dtype=config.dtype, **fields)


def build(config: Config) -> cli.Experiment:
    cli.at_least(1, config, "code", "width")
    cli.at_least(0, config, "noise", "weight_decay", "image_size")
    size = config.image_size or None
    training, held_out = (
        data.open_source(config.data, s, config.data_dir, image_size=size)
        for s in ("train", "test")
    )
    data.same_classes(training, held_out)
    shape, as_float = training.image_shape, data.to_float(0.0, 1.0)
    network, variational = build_network(config, shape), config.network == "vae"

    def error(logits, x):
        if config.loss == "cross-entropy":
            return losses.binary_cross_entropy(logits, x)
        return losses.squared_error(nn.sigmoid(logits), x)

    def judged(logits, seen, x):
        """Loss (B,) and what is told of a reconstruction, (B,) each."""
        figures = {"MSE": losses.squared_error(nn.sigmoid(logits), x) / math.prod(shape)}
        if not variational:
            return error(logits, x), figures
        divergence = losses.gaussian_kl(seen["mean"], seen["log_variance"])
        bound = -losses.binary_cross_entropy(logits, x) - divergence
        return -bound, figures | {"ELBO": bound, "KL": divergence}

    def loss(variables, batch, rng):
        key_in, key_code = jax.random.split(rng.key)
        x = given = batch["image"]
        if config.noise:
            given = jax.vmap(lambda key, x: corrupt(key, x, config))(
                replica.keys(key_in, len(x)), x
            )
        value, figures = judged(
            *network.apply(variables, given, train=True, rngs={"noise": key_code}), x
        )
        return train.Loss(
            Mean.of(value), {name: Mean.of(figure) for name, figure in figures.items()}
        )

    def evaluate(variables, batch):
        """Noise belongs to an image's place in the data, so that every evaluation has the same."""
        x, mask = batch["image"], batch["mask"]
        given = noisy(x, batch["index"], config)
        logits, seen = network.apply(variables, given)
        value, figures = judged(logits, seen, x)
        if variational:  # the bound is of a code drawn, the reconstruction from its mean
            epsilon_BZ = replica.sample_by_index(
                lambda key: jax.random.normal(key, (config.code,)), batch["index"]
            )
            drawn = network.apply(variables, x, epsilon_BZ=epsilon_BZ)
            value, bound = judged(*drawn, x)
            figures = {**bound, "MSE": figures["MSE"]}
        if config.noise:
            figures["noise's MSE"] = losses.squared_error(given, x) / math.prod(shape)
        return {name: Mean.of(figure, mask) for name, figure in {"loss": value, **figures}.items()}

    rule = train.chain(
        optax.adamw(config.scheduled(), weight_decay=config.weight_decay), config.clip
    )

    def init(key, batch):
        return network.init(key, batch["image"])

    player = train.Player(init, loss, rule, config.ema or None, config.accumulate, config.remat)
    coder = Coder(config, network, training, held_out)
    return cli.Experiment(
        learner=train.minimize(player, evaluate),
        train=data.TrainBatches(training, config.batch, config.seed, as_float),
        test=data.EvalBatches(held_out, config.batch, as_float),
        report=coder.report,
        predict=coder.predict,
        best=("ELBO", "max") if variational else ("MSE", "min"),
        baselines=coder.baselines,
    )


def corrupt(key: jax.Array, x: jax.Array, config: Config) -> jax.Array:
    """One image in [0, 1], of any shape, with noise.

    gaussian: x + noise · N(0, 1) in every number (Vincent et al. 2010, JMLR 11). masking: a fixed
    number of the image's d numbers, noise · d to the nearest, are chosen at random and set to 0
    (Vincent et al. 2008, ICML, section 2.3).
    salt_pepper: as many are set to 0 or to 1, by a fair coin each (Vincent et al. 2010).
    """
    if config.noise_kind == "gaussian":
        return x + config.noise * jax.random.normal(key, x.shape)
    key_place, key_coin = jax.random.split(key)
    chosen = jax.random.permutation(
        key_place, jnp.arange(x.size) < round(config.noise * x.size)
    ).reshape(x.shape)
    salt = jax.random.bernoulli(key_coin, shape=x.shape) & (config.noise_kind == "salt_pepper")
    return jnp.where(chosen, salt.astype(x.dtype), x)


def noisy(x: jax.Array, index: jax.Array, config: Config) -> jax.Array:
    """Test images as they are encoded."""
    return (
        replica.sample_by_index(lambda key, x: corrupt(key, x, config), index, x)
        if config.noise
        else x
    )


class Coder:
    """Draws what a network makes of images and codes, beside what linear methods make of the same
    images."""

    def __init__(
        self, config: Config, network: nn.Module, training: data.Source, held_out: data.Source
    ):
        self.config, self.network, self.training, self.held_out = (
            config,
            network,
            training,
            held_out,
        )
        self.encode = _by_64(
            jax.jit(lambda variables, x: network.apply(variables, x, method="encode")[0])
        )
        self.decode = _by_64(
            jax.jit(
                lambda variables, z: nn.sigmoid(network.apply(variables, z, method="decode")[0])
            )
        )

    def images(
        self, source: data.Source, count: int = 10_000
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Up to `count` images drawn at random, in [0, 1], their labels and their rows."""
        rows = data.selected(source, count)
        found = source.read(rows)
        return data.to_float(0.0, 1.0)({"image": found["image"]})["image"], found["label"], rows

    @cached_property
    def linear(self) -> dict[str, np.ndarray]:
        """What linear methods make of test images (`images`), (M, H, W, C) each; nothing where
        there are too many pixels."""
        if len(self.training) * math.prod(self.training.image_shape) > 2**28:
            return {}
        (fit, *_), (clean, _, row) = (
            self.images(self.training, len(self.training)),
            self.images(self.held_out),
        )
        given = np.asarray(noisy(clean, row, self.config))
        flat, rows = fit.reshape(len(fit), -1), given.reshape(len(given), -1)
        found = {"mean image": np.broadcast_to(fit.mean(0), clean.shape)}
        found[f"PCA of {self.config.code}"] = pca_reconstruction(
            flat, rows, self.config.code
        ).reshape(clean.shape)
        if self.config.noise and self.config.noise_kind == "gaussian":
            found["Wiener filter"] = wiener(flat, rows, self.config.noise).reshape(clean.shape)
        return found

    def baselines(self) -> Mapping[str, Any]:
        """MSE of linear methods on the same test images, as noisy as the network's; of more than
        10,000, on so many drawn at random."""
        if not self.linear:
            raise UserError(
                "the baselines fit PCA to all pixels in memory; give a smaller --image-size, or"
                " fewer images"
            )
        clean, *_ = self.images(self.held_out)
        return {
            f"{name}'s MSE": float(np.square(made - clean).mean())
            for name, made in self.linear.items()
        }

    def report(
        self, state: train.State, run: train.Run, figures: Mapping[str, Any]
    ) -> list[present.Section]:
        folder, variables, noise = run.report, state["model"].average, self.config.noise
        clean, label, row = self.images(self.held_out)
        given = np.asarray(noisy(clean, row, self.config))
        codes, shown = self.encode(variables, given), data.selected(len(clean), 32)
        made = self.decode(variables, codes[shown])

        baselines = self.baselines() if self.linear else {}
        text, errors = "", {"training": "train/MSE", "test": "test/MSE"}
        lines = {
            name.removesuffix("'s MSE"): value
            for name, value in baselines.items()
            if not name.startswith("mean")
        }
        panels = [present.Panel("mean squared error a pixel", errors, references=lines, log=True)]
        if self.config.network == "vae":
            text = "The squared error is of codes drawn in training and of their means in the test."
            panels.append(
                present.Panel(
                    "evidence lower bound, nats", {"training": "train/ELBO", "test": "test/ELBO"}
                )
            )
        present.draw_curves(
            present.read_metrics(run.folder / "metrics.jsonl"), folder / "curves.png", panels
        )

        own = {"MSE": figures["MSE"]} | {
            name: figures[name] for name in ("noise's MSE", "ELBO", "KL") if name in figures
        }
        best = {name: images[shown] for name, images in self.linear.items() if name != "mean image"}
        rows = {
            "original": clean[shown],
            **({"noisy": given[shown]} if noise else {}),
            "the network": made,
            **best,
        }
        present.draw_rows(rows, folder / "reconstructions.png")
        title = "Clean, noisy, restored" if noise else "Originals and reconstructions"
        about = (
            f"{len(made)} test images, drawn at random. MSE is that of a pixel, black to white"
            " being 1; linear methods are fitted on the training images and judged on the same"
            " test images."
        )
        sections = [
            present.Section("Learning", text, ["curves.png"]),
            present.Section(title, about, ["reconstructions.png"], own | baselines),
        ]
        if self.config.code > 1:
            sections.append(self.map(codes, label, folder))
        sections.append(self.line(variables, codes[data.selected(len(codes), 16)], folder))
        if self.config.network == "vae":
            sections.append(self.samples(variables, folder))
        return sections

    def map(self, codes: np.ndarray, label: np.ndarray, folder: Path) -> present.Section:
        """Where the test images lie, in the plane of the code's first principal components unless
        it is a plane."""
        points, text, axes = codes, "The codes of test images.", ("code 1", "code 2")
        if codes.shape[1] > 2:
            found = pca(codes, 2)
            points, share = found.transform(codes), found.explained_variance_ratio_
            text = (
                f"The codes of test images, {codes.shape[1]} numbers each, on their first two"
                f" principal components, which have {share.sum():.0%} of the variance. What is"
                " apart there is apart; what overlaps need not."
            )
            axes = tuple(
                f"component {n}, {part:.0%} of the variance" for n, part in enumerate(share, 1)
            )
        present.draw_map(points, label, self.held_out.label_names, folder / "map.png", axes=axes)
        return present.Section("Where the classes lie", text, ["map.png"])

    def line(
        self, variables: train.Variables, codes: np.ndarray, folder: Path, columns: int = 12
    ) -> present.Section:
        """Pictures on a line from each code of the first half to one of the second."""
        ends = codes[: len(codes) // 2 * 2].reshape(2, -1, 1, codes.shape[1]).swapaxes(0, 1)
        share = np.linspace(0, 1, columns, dtype=np.float32)[:, None]
        between = ((1 - share) * ends[:, 0] + share * ends[:, 1]).reshape(-1, codes.shape[1])
        images = self.decode(variables, between)
        present.draw_grid(images, folder / "line.png", low=0.0, high=1.0, columns=columns)
        text = (
            "In each row the codes lie evenly on the straight line between those of two test"
            " images."
        )
        return present.Section("On a line between two codes", text, ["line.png"])

    def samples(self, variables: train.Variables, folder: Path) -> present.Section:
        """Codes from the prior; of two numbers, also a grid of its quantiles (Kingma & Welling
        2013, figure 4)."""

        def draw(key):
            return jax.random.normal(key, (self.config.code,))

        z = np.asarray(replica.sample(draw, jax.random.key(self.config.seed + 1), 64))
        present.draw_grid(
            self.decode(variables, z), folder / "samples.png", low=0.0, high=1.0, columns=8, scale=6
        )
        pictures = [
            present.Picture(
                "samples.png", "Codes from N(0, I), not picked; pixels are the decoder's means."
            )
        ]
        if self.config.code == 2:
            at = norm.ppf((np.arange(20) + 0.5) / 20).astype(np.float32)
            plane = self.decode(variables, np.stack(np.meshgrid(at, at[::-1]), -1).reshape(-1, 2))
            present.draw_grid(plane, folder / "plane.png", low=0.0, high=1.0, columns=20, margin=2)
            about = (
                "The plane of codes at the quantiles of the prior, code 1 to the right and code"
                " 2 up."
            )
            pictures.append(present.Picture("plane.png", about))
        return present.Section("Samples", "", pictures)

    def predict(self, state: train.State, options: Predict, folder: Path) -> dict[str, Any]:
        """Writes each file's reconstruction and all codes; gives the mean squared error of each."""
        if not options.files:
            raise UserError(
                "predict needs image files: python experiments/autoencode.py predict photo.png"
            )
        names = [path.stem for path in options.files]
        if twice := [path for path in options.files if names.count(path.stem) > 1]:
            raise UserError(
                f"{twice[0]} and {twice[1]} would be written to the same file; give each its own"
                " --out"
            )
        shape = self.training.image_shape
        x = np.stack([data.decode(path, shape) for path in options.files])
        x = data.to_float(0.0, 1.0)({"image": x})["image"]
        codes = self.encode(state["model"].average, x)
        made = self.decode(state["model"].average, codes)
        with train.told(f"folder {folder}"):
            for name, image in zip(names, made, strict=True):
                pixels = np.rint(255 * image).astype(np.uint8)
                Image.fromarray(pixels[..., 0] if shape[2] == 1 else pixels).save(
                    folder / f"{name}_reconstruction.png"
                )
            np.savez(
                folder / "codes.npz",
                **{str(path): code for path, code in zip(options.files, codes, strict=True)},
            )
        cli.say(f"{folder}: {len(made)} reconstructions, codes.npz")
        error = np.square(made - x).mean((1, 2, 3))
        return {str(path): {"MSE": float(e)} for path, e in zip(options.files, error, strict=True)}


def _by_64(run):
    """`run(variables, x)` over any number of rows, 64 at a time so that one program serves all
    counts."""

    def whole(variables: train.Variables, x: np.ndarray) -> np.ndarray:
        parts = [x[n : n + 64] for n in range(0, len(x), 64)]
        full = [np.resize(part, (64, *x.shape[1:])) for part in parts]
        return np.concatenate(
            [np.asarray(run(variables, f))[: len(p)] for p, f in zip(parts, full, strict=True)]
        )

    return whole


if __name__ == "__main__":
    cli.main(build, PRESETS, Predict)
