"""A few strokes make another natural image: iGAN, Zhu et al. 2016 (arXiv:1609.03552).

An image is projected onto a trained generator's manifold, by an encoder, by optimization, or both;
noise is sought that fulfills the strokes and stays near; the change is carried to the original.

    python experiments/gan.py train --preset digits             # the generator, if there is none
    python experiments/gan_edit.py train                        # an encoder onto its manifold
    python experiments/gan_edit.py predict photo.png --strokes strokes.json      # an edit
    python experiments/gan_edit.py predict photo.png --to other.png     # from one to another
    python experiments/gan_edit.py predict --serve 8000         # paint at http://localhost:8000

Mean square error of projected test digits, pixels in [-1, 1] (seed 0): .174 best of 64 random, .041
encoder, .0200 optimization, .0078 both. All recorded results: README.md.
"""

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import jax.numpy as jnp
import optax
import tyro

from advdl import cli, data, models, reports, train
from advdl.errors import UserError, as_user_error
from advdl.metrics import Mean
from advdl.models import dcgan, igan


@dataclass(frozen=True)
class Config(cli.Config):
    gan: str = "runs/gan"
    """Folder of the run of gan.py whose generator is edited; the data is that of this run."""
    gan_checkpoint: str = "latest"
    """Checkpoint of that run: latest, best (by its own figure), or the number of a step."""
    width: cli.Count = 32
    """Number of channels of the encoder's layer nearest the image."""
    weight_decay: cli.NonNegative = 0.0
    """Weight of an L2 penalty on the encoder's parameters, added to their gradients."""


PRESETS = {
    "laptop": Config(batch=64, steps=2000, learning_rate=1e-3, schedule="cosine"),
    # Section 3.1, as in the released code (github.com/junyanz/iGAN, train_dcgan/train_predict_z.py
    # and shoes_64 of train_dcgan_config.py): an encoder for a DCGAN of 64 by 64 pixels, trained on
    # 50,000 shoes, Adam at 2e-4 (.5, .999), L2 penalty 1e-5, batches of 128. Not run here.
    # Other than there:
    # - images are compared by pixels alone; there also by features of AlexNet (conv4), with the
    #   weight .002;
    # - the rate is constant over the 50 passes (19,500 steps); there it falls linearly to 0 over
    #   the last 25 of them;
    # - kernels are of 4 by 4; there 5 by 5;
    # - the last layer has a bias, Lecun's initial distribution, and its output is clipped to the
    #   noise's range; there no bias, N(0, .02), and a tanh;
    # - the encoder is used with moving averages of the statistics; there with statistics computed
    #   anew after training.
    "paper": Config(preset="paper", gan="runs/gan_shoes", width=128, batch=128, steps=19_500).but(
        learning_rate=2e-4, weight_decay=1e-5
    ),
}


@dataclass(frozen=True)
class Predict(cli.Predict):
    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Images to project and edit; without any, one that the generator draws."""
    strokes: str = ""
    """JSON file of strokes, in pixels of the generated image; see data.read_strokes."""
    to: str = ""
    """Another image, to which the path from the first one is drawn."""
    smoothness: cli.NonNegative = igan.SMOOTHNESS
    """Weight of the distance to the first image; 0 asks for the strokes alone."""
    sample_seed: cli.Natural = 0
    """Seed of the noise of an image without a file, and of the candidates."""
    serve: Annotated[int, cli.Range(0, 65535, "[]")] | None = None
    """Port of localhost on which the page to paint on is served until interrupted (0: any)."""


def load(config: Config) -> data.Splits:
    run = cli.OtherRun("--gan", config.gan, "latest", "gan")
    gan = cache(partial(run.settings, cli.GeneratorRun))

    def opened(split):
        given = gan()["data_dir"], gan()["image_size"] or None
        return data.open_source(gan()["data"], split, *given)

    @cache
    def parts():  # those of the generator's run
        return data.open_parts(opened, gan()["validation"] or 0.1)

    def source(part):
        return parts()[part]()

    def spec():
        if gan()["conditional"]:
            raise UserError(f"{config.gan} is given classes; take gan.py train --preset digits")
        low = models.LOWEST_PIXEL[gan()["network"]]
        names = ("network", "width", "z", "noise", "normalization")
        own = {name: gan()[name] for name in names}
        return data.GeneratorSpec.of(source("train"), low=low, **own)

    sources = {part: partial(source, part) for part in ("train", "val", "test")}
    given = config.batch, config.seed, data.ImageSpec.transform
    return data.Splits.of_sources(spec, sources, *given)


def build(config: Config, spec: data.GeneratorSpec) -> cli.Experiment:
    cli.at_least(2, config, "batch")  # the batch normalization of one example is zero
    with as_user_error("the encoder needs such images; train a generator of them"):
        levels = dcgan.levels_of(*spec.shape[:2])
    encoder = dcgan.Encoder(spec.z, config.width, levels, dtype=config.dtype)
    shown, own = (spec.network, spec.shape, spec.width), spec.normalization
    generator = models.generator(*shown, dtype=config.dtype, normalization=own)
    space = igan.LatentSpace(generator, models.Noise(spec.noise, spec.z), spec.low)

    def encode(variables, batch):
        z, _ = encoder.apply(variables, batch["image"], train=False)
        return space.inside(z.astype(jnp.float32))

    def loss(variables, batch, rng):  # equation 4
        (z, _), seen = train.training(encoder, variables, batch["image"])
        frozen = variables["frozen"]["generator"]
        return train.Loss(Mean.of(space.error(frozen, space.inside(z), batch["image"])), {}, seen)

    def evaluate(variables, batch):
        z, frozen = encode(variables, batch), variables["frozen"]["generator"]
        error = space.error(frozen, z, batch["image"])
        return {"reconstruction_error": Mean.of(error, batch["mask"])}

    def init_generator(key, batch):
        return generator.init(key, jnp.zeros((1, spec.z)), train=False)

    rule = train.chain(optax.adam(config.scheduled(), b1=0.5), config.clip, config.weight_decay)
    frozen, functions = {"generator": init_generator}, space.functions("generator")
    player = config.player(train.initial(encoder, "image"), loss, rule, frozen=frozen)
    report = reports.EditReport()
    gan = cli.OtherRun("--gan", config.gan, config.gan_checkpoint, "gan")
    return cli.Experiment(
        train.minimize(player, evaluate, functions={"encode": encode, **functions}),
        report,
        report.predict,
        monitor=("val/reconstruction_error", "min"),
        warm_start=gan.frozen("model", "generator", "generator"),
    )


if __name__ == "__main__":
    cli.main(load, build, PRESETS, Predict)
