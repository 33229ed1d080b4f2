"""A few strokes make another natural image: iGAN, Zhu et al. 2016 (arXiv:1609.03552), on a
generator that gan.py has trained.

    python experiments/gan.py train                                 # the generator, if there is none yet
    python experiments/gan_edit.py train                            # an encoder onto its manifold
    python experiments/gan_edit.py predict photo.png --strokes strokes.json        # an edit; see data.read_strokes
    python experiments/gan_edit.py predict photo.png --to other.png                # from one image to another
    python experiments/gan_edit.py predict --serve 8000             # paint in the browser, at http://localhost:8000

An image is projected onto the generator's manifold: the noise z of which G(z) is nearest to it, by
an encoder (equation 4), by optimization (equation 3), or by optimization from where the encoder
points (section 3.1). An edit asks for colors, edges or displacements under a mask; z is sought that
fulfills it and stays near (equation 5); what changes on the way from the old image to the new one
is carried over to the original (section 4.2). Other than there images are compared by their pixels
alone, where the paper adds features of AlexNet.

Recorded with `gan.py train --seed S`, `gan_edit.py train --seed S --gan …`, S = 0, 1, 2, on one
core of an AMD EPYC, JAX 0.10.2 (2 s of training each). Mean square errors, pixels in [-1, 1], of
256 held-out digits and of 64 that the generator drew:

    best of 64 random       .174, .173, .182        .161, .161, .160
    encoder                 .041, .040, .040        .034, .028, .033
    optimization            .0200, .0197, .0221     .0077, .0056, .0058
    hybrid                  .0078, .0070, .0075     .0008, .0008, .0011

And of 24 held-out digits, each with a bright line at a dark place, by the smoothness:

                                        0                   0.03                0.3 (default)       3
    the strokes' error falls by, %      97, 97, 98          96, 97, 98          94, 94, 95          83, 80, 86
    change outside of the mask          .64, .58, .61       .51, .50, .45       .37, .37, .37       .26, .26, .27
    the recognizer's confidence         .86, .90, .87       .88, .79, .84       .90, .87, .87       .82, .87, .76

Where the strokes' pixels are pasted into the projected image instead, the confidence is .72, .69
and .72. The recognizer is a support vector machine for each class (`metrics.class_coverage`); of
real digits it is .98.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
import tyro

from advdl import cli, data, losses, metrics, models, present, train
from advdl.errors import UserError
from advdl.metrics import Mean
from advdl.models import dcgan, igan


@dataclass(frozen=True)
class Config(cli.Config):
    gan: str = "runs/gan"
    """Folder of the run of gan.py whose generator is edited; the data is that of this run."""
    gan_checkpoint: str = "latest"
    """Checkpoint of that run: latest, best (by its figure on test data), or the number of a
    step."""
    width: int = 32
    """Channels of the encoder's layer nearest the image."""
    weight_decay: float = 0.0
    """L2 penalty on the encoder's parameters, added to their gradients."""


PRESETS = {
    "laptop": Config(
        batch=64,
        steps=2000,
        learning_rate=1e-3,
        schedule="cosine",
        evaluate_every=500,
        save_every=500,
        log_every=50,
    ),
    # Section 3.1, as in the released code (github.com/junyanz/iGAN, train_dcgan/train_predict_z.py
    # and shoes_64 of train_dcgan_config.py): an encoder for a DCGAN of 64 by 64 pixels, trained on
    # 50,000 shoes, Adam at 2e-4 (.5, .999), L2 penalty 1e-5, batches of 128. Not run here.
    # Other than there:
    # - images are compared by pixels alone; there also by features of AlexNet (conv4), with the
    #   weight .002;
    # - the rate is constant over the 50 passes (19,500 steps); there it falls linearly to 0 over
    #   the last 25 of them;
    # - kernels are of 4 by 4; there 5 by 5;
    # - the last layer has a bias, Lecun's initial distribution, and what it says is clipped to the
    #   noise's range; there no bias, N(0, .02), and a tanh;
    # - the encoder is used with moving averages of the statistics; there with statistics computed
    #   anew after training.
    "paper": Config(
        preset="paper",
        gan="runs/gan_shoes",
        width=128,
        batch=128,
        steps=19_500,
        learning_rate=2e-4,
        weight_decay=1e-5,
    ),
}
STEPS, RATE = 200, 0.05
"""Of the optimization that projects an image."""
EDIT_STEPS, EDIT_RATE, CANDIDATES, KEPT = 60, 0.1, 64, 16
"""Of an edit; in the released code 40 steps, 64 starts, 16 shown."""
FAR = 0.01
SMOOTHNESS = 0.3
"""Weight of the mean square change of z."""


@dataclass(frozen=True)
class Predict(cli.Predict):
    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Images to project and edit; without any, one that the generator draws."""
    strokes: str = ""
    """JSON file of strokes, in pixels of the generated image."""
    to: str = ""
    """Another image, to which the way from the first one is drawn."""
    smoothness: float = SMOOTHNESS
    """Weight of staying near; 0 asks for the strokes alone."""
    sample_seed: int = 0
    """Seed of the noise, of the image without a file and of the candidates."""
    serve: int | None = None
    """Serve the page for painting on this port of localhost (0: any that is free) until
    interrupted."""


class Manifold:
    """The images that a generator draws, and how to find one. Noise is (B, Z), images (B, H, W, C),
    pixels from `low` to 1."""

    def __init__(self, folder: str, width: int, dtype: jnp.dtype):
        self.settings = settings = train.Run(folder).config("gan")
        if settings is None:
            raise UserError(
                f"{folder} holds no run of gan; first: python experiments/gan.py train --run"
                f" {folder}"
            )
        if settings["conditional"]:
            raise UserError(
                f"{folder} is of a generator that is told the class; train one without"
                " --conditional"
            )

        def opened(split):
            return data.open_source(
                settings["data"],
                split,
                settings["data_dir"],
                image_size=settings["image_size"] or None,
            )

        self.real, self.held_out = opened("train"), opened("test")
        self.shape, self.z = self.real.image_shape, settings["z"]
        self.low = models.generators.LOWEST_PIXEL[settings["network"]]
        self.generator = models.generator(
            settings["network"], self.shape, settings["width"], dtype=dtype
        )
        try:
            dcgan.levels_of(*self.shape[:2])
        except ValueError as error:
            raise UserError(
                f"{error}; the encoder needs such images, so train a generator of them"
            ) from error
        self.encoder = dcgan.Encoder(self.z, width=width, dtype=dtype)
        self.bound = models.generators.NOISE_BOUNDS.get(settings["noise"])
        self.reach = float(np.sqrt(scipy.stats.chi2.isf(FAR, self.z)))
        self.rule, self.edit_rule = optax.adam(RATE), optax.adam(EDIT_RATE)
        self._paint, self._encode = jax.jit(self.paint), jax.jit(self.encode)
        self._nearer, self._edit = (
            jax.jit(self.nearer),
            jax.jit(self.edit_step, static_argnames="cell"),
        )
        self._change = jax.jit(igan.change_between, static_argnames=("grid", "steps"))

    def noise(self, seed: int, count: int) -> np.ndarray:
        """As the generator was trained with."""
        random = np.random.default_rng(seed)
        if self.bound is not None:
            return random.uniform(-self.bound, self.bound, (count, self.z)).astype(np.float32)
        return random.standard_normal((count, self.z)).astype(np.float32)

    def within(self, z: jax.Array) -> jax.Array:
        """The nearest noise that the generator has been trained with: in the cube of uniform noise,
        in the ball in which normal noise lies (but for the FAR farthest)."""
        if self.bound is not None:
            return z.clip(-self.bound, self.bound)
        return z * jnp.minimum(
            1, self.reach / jnp.sqrt(jnp.square(z).sum(-1, keepdims=True) + 1e-12)
        )

    def paint(self, variables: train.Variables, z: jax.Array) -> jax.Array:
        """Images of noise."""
        return self.generator.apply(variables["generator"], z, train=False).astype(jnp.float32)

    def encode(self, variables: train.Variables, x: jax.Array) -> jax.Array:
        """Noise of images, by the encoder."""
        return self.within(
            self.encoder.apply(encoder_of(variables), x, train=False)[0].astype(jnp.float32)
        )

    def apart(self, variables: train.Variables, z: jax.Array, x: jax.Array) -> jax.Array:
        """Mean square error of the pixels, (B,)."""
        return losses.squared_error(self.paint(variables, z), x) / x[0].size

    def nearer(self, variables, z, state, x):
        """One step of the optimization of equation 3."""
        gradient = jax.grad(lambda z: self.apart(variables, z, x).sum())(z)
        updates, state = self.rule.update(gradient, state)
        return self.within(optax.apply_updates(z, updates)), state

    def project(
        self,
        variables: train.Variables,
        x: np.ndarray,
        start: np.ndarray | None = None,
        steps: int = STEPS,
    ):
        """The noise of images, (B, Z), by optimization from `start`, by default from what the
        encoder says: the hybrid."""

        def portion(x, z):
            state = self.rule.init(z)
            for _ in range(steps):
                z, state = self._nearer(variables, z, state, x)
            return z

        start = (
            models.in_portions(lambda x: self._encode(variables, x), x, rows=64)
            if start is None
            else start
        )
        return models.in_portions(portion, x, start, rows=64)

    def edit_step(self, variables, z, state, begun, wanted, smoothness, *, cell):
        """One step of an edit: (z, state, the error of the strokes of each, (B,), before it)."""

        def cost(z):
            error = igan.edit_error(
                (self.paint(variables, z) - self.low) / (1 - self.low), wanted, cell
            )
            return (error + smoothness * jnp.square(z - begun).mean(1)).sum(), error

        gradient, error = jax.grad(cost, has_aux=True)(z)
        updates, state = self.edit_rule.update(gradient, state)
        return self.within(optax.apply_updates(z, updates)), state, error

    def edit(
        self,
        variables: train.Variables,
        begun: np.ndarray,
        edit: data.Edit,
        smoothness: float,
        seed: int = 0,
    ):
        """From z (Z,) and strokes to candidates (n, Z), the best first, and the strokes' errors
        (n,), and the error at the start. Begins at z and at places around it."""
        random = np.random.default_rng(seed)
        starts = begun + 0.5 * random.uniform(-1, 1, (CANDIDATES, self.z)).astype(np.float32)
        starts[0] = begun
        z, wanted, cell = (
            jnp.asarray(starts),
            self.wanted(variables, begun, edit),
            igan.cell_of(self.shape[:2]),
        )
        state, first = self.edit_rule.init(z), None
        for _ in range(EDIT_STEPS + 1):
            last = z
            z, state, error = self._edit(
                variables, z, state, begun[None], wanted, jnp.float32(smoothness), cell=cell
            )
            first = float(error[0]) if first is None else first
        last, error = np.asarray(last), np.asarray(error)
        cost = error + smoothness * np.square(last - begun).mean(1)
        order = np.argsort(cost)
        order = order[cost[order] <= 2 * cost[order[: CANDIDATES // 2]].mean()][:KEPT]
        return last[order], error[order], first

    def wanted(self, variables: train.Variables, begun: np.ndarray, edit: data.Edit) -> igan.Wanted:
        """What strokes ask for; where something is moved, the colors of the image at z, moved."""
        image = (np.asarray(self._paint(variables, begun[None]))[0] - self.low) / (1 - self.low)
        shifted = np.asarray(igan.moved(jnp.asarray(image), jnp.asarray(edit.offset)))
        color = np.where(edit.colored[..., None] > 0, edit.color, shifted)
        return igan.Wanted(color, np.maximum(edit.colored, edit.moved), edit.edges, edit.sketched)

    def way(
        self, variables: train.Variables, first: np.ndarray, last: np.ndarray, frames: int = 16
    ) -> np.ndarray:
        """Images on the line from one noise (Z,) to another, both ends with them."""
        share = np.linspace(0, 1, frames, dtype=np.float32)[:, None]
        z = (1 - share) * first + share * last
        z[-1] = last
        return models.in_portions(lambda z: self._paint(variables, z), z, rows=64)

    def transfer(self, before: np.ndarray, after: np.ndarray, original: np.ndarray) -> np.ndarray:
        """The original (H', W', C), of any size, changed as `before` became `after`."""
        change = self._change(jnp.asarray(before), jnp.asarray(after))
        return np.asarray(change.of(jnp.asarray(original))).clip(self.low, 1)

    def images(self, source: data.Source, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Up to `count` real ones, drawn at random, in the generator's range, and their labels."""
        found = source.read(data.selected(source, count))
        return self.ranged(found["image"]), found["label"]

    def ranged(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 in the generator's range."""
        return data.to_float(self.low, 1.0)({"image": pixels})["image"]


def encoder_of(variables: train.Variables) -> train.Variables:
    """Without those of the frozen generator."""
    return {name: tree for name, tree in variables.items() if name != "generator"}


def build(config: Config) -> cli.Experiment:
    cli.at_least(1, config, "width")
    cli.at_least(0, config, "weight_decay")
    if config.batch < 2:
        raise UserError("--batch 1 leaves batch normalization nothing but zeros; take 2 or more")
    which = cli.parse_checkpoint(config.gan_checkpoint, "--gan-checkpoint")
    manifold = Manifold(config.gan, config.width, config.dtype)
    encoder, generator = manifold.encoder, manifold.generator

    def init(key, batch):
        keys, z = jax.random.split(key), jnp.zeros((len(batch["image"]), manifold.z))
        return {
            **encoder.init(keys[0], batch["image"], train=False),
            "generator": generator.init(keys[1], z, train=False),
        }

    def loss(variables, batch, rng):
        (z, _), seen = encoder.apply(
            encoder_of(variables), batch["image"], train=True, mutable=["batch_stats"]
        )
        return train.Loss(
            Mean.of(manifold.apart(variables, manifold.within(z), batch["image"])), {}, seen
        )

    def evaluate(variables, batch):
        error = manifold.apart(
            variables, manifold.encode(variables, batch["image"]), batch["image"]
        )
        return {ENCODED: Mean.of(error, batch["mask"])}

    def warm_start(variables):
        _, found, step = train.trained_player(config.gan, "gan", "generator", which)
        train.same_layout(train.layout(found), train.layout(variables["generator"]), config.gan)
        cli.say(f"{config.gan}: the generator is that of step {step}")
        return {**variables, "generator": found}

    transform = data.to_float(manifold.low, 1.0)
    rule = train.chain(optax.adam(config.scheduled(), b1=0.5), config.clip, config.weight_decay)
    studio = Studio(manifold)
    return cli.Experiment(
        learner=train.minimize(
            train.Player(init, loss, rule, config.ema or None, config.accumulate, config.remat),
            evaluate,
        ),
        train=data.TrainBatches(manifold.real, config.batch, config.seed, transform),
        test=data.EvalBatches(manifold.held_out, config.batch, transform),
        report=studio.report,
        predict=studio.predict,
        best=(ENCODED, "min"),
        warm_start={"model": warm_start},
    )


OPENED = "the image that was opened"
ENCODED = "reconstruction error of the encoder"


class Studio:
    """What is made with a manifold: projections, edits, ways, their figures and pictures, the
    page."""

    def __init__(self, manifold: Manifold):
        self.manifold, self.low = manifold, manifold.low

    def projections(self, variables: train.Variables, x: np.ndarray) -> dict[str, np.ndarray]:
        """Noise of images by each way to find it."""
        manifold = self.manifold
        random = manifold.noise(1, CANDIDATES)
        drawn = models.in_portions(lambda z: manifold._paint(variables, z), random, rows=64)
        best, _ = metrics.nearest(x, drawn)
        encoded = models.in_portions(lambda x: manifold._encode(variables, x), x, rows=64)
        return {
            f"best of {CANDIDATES} random": random[best],
            "encoder": encoded,
            "optimization": manifold.project(variables, x, np.zeros_like(encoded)),
            "hybrid": manifold.project(variables, x, encoded),
        }

    def paint(self, variables: train.Variables, z: np.ndarray) -> np.ndarray:
        """Images of noise, on the host."""
        return models.in_portions(lambda z: self.manifold._paint(variables, z), z, rows=64)

    def reconstructions(
        self, variables: train.Variables, count: int = 256
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Mean square errors on held-out images and on the generator's own, and the held-out ones
        as each way sees them."""
        held_out = self.manifold.images(self.manifold.held_out, count)[0]
        own = self.paint(variables, self.manifold.noise(2, 64))
        figures, rows = {}, {"held out": held_out}
        for title, x in (("held-out images", held_out), ("the generator's own", own)):
            figures[title] = {}
            for name, z in self.projections(variables, x).items():
                made = self.paint(variables, z)
                figures[title][name] = float(np.square(made - x).mean())
                if x is held_out:
                    rows[name] = made
        return figures, rows

    def strokes(self, shown: np.ndarray, tries: int = 8, seed: int = 0) -> list[data.Edit]:
        """For every image in [0, 1], a bright line a quarter of its side long, at the darkest of
        some random places."""
        height, width, _ = self.manifold.shape
        random, found = np.random.default_rng(seed), []
        for image in shown:
            edits = []
            for _ in range(tries):
                angle, middle = (
                    random.uniform(0, np.pi),
                    random.uniform(0.2, 0.8, 2) * [width, height],
                )
                half = min(height, width) / 8 * np.array([np.cos(angle), np.sin(angle)])
                line = [
                    np.clip(middle + sign * half, 0, [width, height]).tolist() for sign in (-1, 1)
                ]
                stroke = {
                    "kind": "color",
                    "color": [255, 255, 255],
                    "points": line,
                    "radius": max(0.7, height / 40),
                }
                edits.append(
                    data.parse_strokes({"strokes": [stroke]}, "strokes", self.manifold.shape)
                )
            found.append(min(edits, key=lambda edit: image[edit.colored > 0].mean()))
        return found

    def trade_off(
        self, variables: train.Variables, count: int = 24
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Strokes on held-out images at several smoothnesses: how much of the strokes' error is
        left, the change outside of the mask, and how sure the recognizer of real images is of what
        was made and of the strokes pasted in; and pictures."""
        manifold, low = self.manifold, self.low
        x = manifold.images(manifold.held_out, count)[0]
        begun = manifold.project(variables, x)
        before = self.paint(variables, begun)
        edits = self.strokes(self.shown(before))
        pasted, marked = before.copy(), x.copy()
        for n, edit in enumerate(edits):
            pasted[n][edit.colored > 0] = low + (1 - low) * edit.color[edit.colored > 0]
            marked[n][edit.colored > 0] = low + (1 - low) * edit.color[edit.colored > 0]
        made, figures = {}, {}
        for smoothness in (0.0, SMOOTHNESS / 10, SMOOTHNESS, 10 * SMOOTHNESS):
            each, left, at_first = [], [], []
            for z, edit in zip(begun, edits, strict=True):
                found, error, first = manifold.edit(variables, z, edit, smoothness)
                each.append(found[0])
                left.append(error[0])
                at_first.append(first)
            made[smoothness] = after = self.paint(variables, np.stack(each))
            outside = np.stack([1 - edit.mask for edit in edits])[..., None]
            figures[smoothness] = {
                "the strokes' error falls by": 1 - float(np.sum(left) / np.sum(at_first)),
                "change outside of the mask": float(
                    (np.square(after - before) * outside).sum() / (outside.sum() * x.shape[-1])
                ),
            }
        for title, images in ((None, pasted), *made.items()):
            sure = self.confidence(images)
            if sure is not None and title is None:
                figures["pasted"] = {"the recognizer's confidence": sure}
            elif sure is not None:
                figures[title]["the recognizer's confidence"] = sure
        after = made[SMOOTHNESS]
        transferred = np.stack(
            [manifold.transfer(a, b, o) for a, b, o in zip(before, after, x, strict=True)]
        )
        rows = {
            "held out": x,
            "with the stroke": marked,
            "projected": before,
            "stroke pasted": pasted,
            "edited": after,
            "original, edited": transferred,
        }
        return figures, rows

    def confidence(self, images: np.ndarray) -> float | None:
        """How sure support vector machines of the real classes are, in the mean; None where there
        are too few classes."""
        real, held_out = (
            self.manifold.images(self.manifold.real, 4000),
            self.manifold.images(self.manifold.held_out, 500),
        )
        try:
            found = metrics.class_coverage(
                images, *real, *held_out, classes=len(self.manifold.real.label_names)
            )
        except ValueError:
            return None
        return float(found.samples.confidence.mean())

    def shown(self, images: np.ndarray) -> np.ndarray:
        """In [0, 1]."""
        return (np.asarray(images) - self.low) / (1 - self.low)

    def report(
        self, state: train.State, run: train.Run, figures: Mapping[str, Any]
    ) -> list[present.Section]:
        folder, variables = run.report, state["model"].average

        def some(x):
            return self.shown(x[data.selected(len(x), 12)])

        errors, rows = self.reconstructions(variables)
        present.draw_rows(
            {name: some(x) for name, x in rows.items()}, folder / "projections.png", 12
        )
        edits, rows = self.trade_off(variables)
        present.draw_rows({name: some(x) for name, x in rows.items()}, folder / "edits.png", 12)
        left, outside = "the strokes' error falls by", "change outside of the mask"
        traded = {f"{k:g}": (1 - v[left], v[outside]) for k, v in edits.items() if k != "pasted"}
        present.draw_trade(
            traded,
            folder / "trade_off.png",
            "smoothness",
            "share of the strokes' error that is left",
            outside,
        )
        found = self.judge(errors, edits)
        run.write(
            "verdict.json",
            {"reconstruction": errors, "edits": {str(k): v for k, v in edits.items()}, **found},
        )
        cli.say(found["verdict"])
        z = self.manifold.project(variables, self.manifold.images(self.manifold.held_out, 12)[0])
        pairs = zip(*np.array_split(z, 2), strict=False)
        ways = np.concatenate(
            [self.manifold.way(variables, first, last, 10) for first, last in pairs]
        )
        present.draw_grid(ways, folder / "ways.png", low=self.low, high=1.0, columns=10)
        lines = present.read_metrics(run.folder / "metrics.jsonl")
        panel = present.Panel(
            ENCODED, {"training": "train/loss", "held out": f"test/{ENCODED}"}, log=True
        )
        present.draw_curves(lines, folder / "curves.png", [panel])
        page = self.page(variables)
        try:
            seen = present.photograph(
                page, [(0.35, 0.3), (0.65, 0.3), (0.65, 0.6)], folder / "page.png"
            )
        finally:
            page.server_close()
        named = {f"smoothness {k:g}" if isinstance(k, float) else k: v for k, v in edits.items()}
        return [
            present.Section("The verdict", found["verdict"]),
            present.Section("Onto the manifold", PROJECTED, ["projections.png"], errors),
            present.Section("A stroke", EDITED, ["edits.png", "trade_off.png"], named),
            present.Section("From one image to another", WAYS, ["ways.png"]),
            present.Section(
                "In the browser", PAGE if seen else NO_PAGE, ["page.png"] if seen else []
            ),
            present.Section("The encoder", "", ["curves.png"]),
        ]

    def judge(self, errors: Mapping[str, Any], edits: Mapping[Any, Any]) -> dict[str, Any]:
        """Whether the order of the ways is the paper's, strokes are fulfilled and the outcome is
        likelier than pasting."""
        order = list(errors["held-out images"].values())
        found = {
            "the stroke's error falls by": [edits[SMOOTHNESS]["the strokes' error falls by"]],
            "ways in the paper's order": [float(order == sorted(order, reverse=True))],
        }
        if "pasted" in edits:
            sure = "the recognizer's confidence"
            found["confidence above pasting's"] = [edits[SMOOTHNESS][sure] - edits["pasted"][sure]]
        said = metrics.verdict("editing", found, AT_LEAST, {})
        return {"verdict": said, **{name: value for name, (value,) in found.items()}}

    def predict(self, state: train.State, options: Predict, folder: Path) -> dict[str, Any]:
        """Projects, edits, draws the way, or serves the page."""
        if not options.smoothness >= 0:
            raise UserError(f"--smoothness is {options.smoothness}; expected at least 0")
        variables, manifold, answer = state["model"].average, self.manifold, {}
        if options.serve is not None:
            return self.serve(variables, options.serve)
        edit = data.read_strokes(options.strokes, manifold.shape) if options.strokes else None
        target = self.open(variables, options.to)[1] if options.to else None
        for name in options.files or [None]:
            x, z, stem = (
                None,
                manifold.noise(options.sample_seed, 1)[0],
                f"seed_{options.sample_seed}",
            )
            if name is not None:
                (x, z), stem = self.open(variables, name), Path(name).stem
            made = self.paint(variables, z[None])[0]
            sheet = {} if x is None else {"original": x}
            sheet["projected"] = made
            answer[stem] = (
                {} if x is None else {"reconstruction error": float(np.square(made - x).mean())}
            )
            if target is not None:
                way = manifold.way(variables, z, target)
                present.draw_grid(
                    way, folder / f"{stem}_way.png", low=self.low, high=1.0, columns=8
                )
                frames = [
                    present.tile(image[None], low=self.low, high=1.0, scale=8, margin=0)
                    for image in way
                ]
                present.animate(frames, folder / f"{stem}_way.gif", milliseconds=100, hold=1000)
            if edit is not None:
                found, error, first = manifold.edit(
                    variables, z, edit, options.smoothness, options.sample_seed
                )
                images = self.paint(variables, found)
                sheet["edited"] = images[0]
                answer[stem] |= {
                    "strokes' error before": first,
                    "after": float(error[0]),
                    "candidates": len(images),
                }
                present.draw_grid(
                    images, folder / f"{stem}_candidates.png", low=self.low, high=1.0, columns=8
                )
                if x is not None:
                    original = manifold.ranged(
                        data.decode(name, (*data.natural_size(name), manifold.shape[2]))
                    )
                    changed = manifold.transfer(made, images[0], original)
                    present.draw_grid(
                        changed[None],
                        folder / f"{stem}_edited.png",
                        low=self.low,
                        high=1.0,
                        scale=1,
                        margin=0,
                    )
            captions = list(sheet)
            tiles = np.stack(list(sheet.values()))
            scale = max(1, 128 // tiles.shape[1])
            present.draw_grid(
                tiles,
                folder / f"{stem}.png",
                low=self.low,
                high=1.0,
                captions=captions,
                scale=scale,
            )
        return answer | {"folder": str(folder)}

    def open(self, variables: train.Variables, path: str | Path) -> tuple[np.ndarray, np.ndarray]:
        """An image file in the generator's size and range, and its noise."""
        x = self.manifold.ranged(data.decode(path, self.manifold.shape))
        return x, self.manifold.project(variables, x[None])[0]

    def serve(self, variables: train.Variables, port: int) -> dict[str, Any]:
        """The page, until interrupted."""
        server = self.page(variables, port)
        cli.say(f"paint at http://localhost:{server.server_address[1]}, end with Ctrl-C")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            server.server_close()
        return {}

    def page(self, variables: train.Variables, port: int = 0):
        """The server of the page for painting. It keeps nothing: what it needs of before, the page
        sends."""
        manifold = self.manifold

        def picture(image: np.ndarray) -> str:
            return present.data_url(np.rint(255 * self.shown(image).clip(0, 1)).astype(np.uint8))

        def noise(request: Mapping[str, Any], name: str) -> np.ndarray:
            try:
                z = np.asarray(request[name], np.float32)
            except (KeyError, TypeError, ValueError):
                z = np.empty(0)
            if z.shape != (manifold.z,) or not np.isfinite(z).all():
                raise UserError(f"{name} is not a list of {manifold.z} numbers")
            return z

        def start(request: Mapping[str, Any]) -> dict[str, Any]:
            if image := request.get("image"):
                view = data.cover(manifold.shape[:2])
                x = manifold.ranged(
                    data.decode_view(present.from_data_url(image), OPENED, manifold.shape, view)
                )
                z = manifold.project(variables, x[None])[0]
                return {
                    "z": z.tolist(),
                    "image": picture(self.paint(variables, z[None])[0]),
                    "original": image,
                }
            seed = request.get("seed")
            z = manifold.noise(seed if isinstance(seed, int) and seed >= 0 else 0, 1)[0]
            return {
                "z": z.tolist(),
                "image": picture(self.paint(variables, z[None])[0]),
                "original": None,
            }

        def edit(request: Mapping[str, Any]) -> dict[str, Any]:
            z0, shown, smoothness = (
                noise(request, "z0"),
                noise(request, "z"),
                request.get("smoothness", SMOOTHNESS),
            )
            if not isinstance(smoothness, int | float) or not 0 <= smoothness < np.inf:
                raise UserError(f"smoothness is {smoothness!r}; expected at least 0")
            strokes = data.parse_strokes(request, "the page", manifold.shape)
            found, error, first = manifold.edit(variables, z0, strokes, float(smoothness))
            images, way = self.paint(variables, found), manifold.way(variables, shown, found[0], 10)
            transferred = None
            if original := request.get("original"):
                file = present.from_data_url(original)
                shape = (*data.natural_shape(file, OPENED)[:2], manifold.shape[2])
                whole = manifold.ranged(data.decode_view(file, OPENED, shape, None))
                before = self.paint(variables, z0[None])[0]
                transferred = picture(manifold.transfer(before, images[0], whole))
            return {
                "z": found[0].tolist(),
                "image": picture(images[0]),
                "frames": [picture(image) for image in way],
                "candidates": [
                    {"z": z.tolist(), "image": picture(x)}
                    for z, x in zip(found, images, strict=True)
                ],
                "transferred": transferred,
                "figures": {"error of the strokes before": first, "after": float(error[0])},
            }

        height, width, channels = manifold.shape
        return present.serve(
            "Paint on the manifold", (height, width), channels == 1, start, edit, port
        )


# Fixed before the runs that are recorded above.
AT_LEAST = {
    "the stroke's error falls by": 0.75,
    "ways in the paper's order": 1.0,
    "confidence above pasting's": 0.0,
}
PROJECTED = """Held-out images and the nearest ones that the generator draws, by each way to find them. Mean square errors, \
pixels in the generator's range; the paper's order is the one of the rows."""
EDITED = """A bright line at a dark place of held-out images that were projected first. What is asked for outside of the mask \
is only to stay near. Pasting fulfills the stroke, but the recognizer of real images believes it less."""
PAGE = """`predict --serve 8000`, after a stroke that was painted with a mouse in a headless browser. The picture follows the \
stroke; beside it are other images that fulfill it."""
NO_PAGE = """`predict --serve 8000` serves a page to paint on. There is no picture of it here, for want of Playwright or a \
Chromium."""
WAYS = """On the line between the noise of two held-out images; first and last are their projections."""


if __name__ == "__main__":
    cli.main(build, PRESETS, Predict)
