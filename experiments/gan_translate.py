"""From one set of images to another that nobody has paired: DiscoGAN, Kim et al. 2017
(arXiv:1703.05192).

    python experiments/gan_translate.py train                       # laptop: drawn handbags <-> shoes whose truth is known
    python experiments/gan_translate.py train --preset modes        # the paper's toy domain, five seeds
    python experiments/gan_translate.py train --preset fashion --data-dir TFDS                # Fashion-MNIST's
    python experiments/gan_translate.py train --data folder:PATH --image-size 64              # PATH/A and PATH/B
    python experiments/gan_translate.py predict bag.png             # your own; --back for the other way

Two generators, A to B and B to A, and two discriminators. Each generator is judged by a
discriminator of the set it draws, and what has gone to the other set and back must be what it was:
L_const = |G_BA(G_AB(a)) - a|² and the same of b (section 3.3). A run trains the paper's controls
beside it, on the same batches: `gan`, the adversarial losses alone, and `one_sided`, which must
find back from B to A only (figures 2a and 2b of the paper).

Recorded on one core of an AMD EPYC, JAX 0.10.2, all variants in one run beside other work:

    train --seeds 3, 383 s (one seed 118 s)    discogan              one_sided             gan
    round trip error, [-1, 1]                  .055, .057, .063      .064, .063, .053      .471, .301, .468
    hue, turned or mirrored                    .995, .996, .994      .433, .513, .541      .437, .476, .433
    |size with size|                           .992, .993, .992      .103, .105, .034      .140, .056, .178
    height with height                         .990, .993, .992      .990, .969, .989      .980, .986, .976
    deviation of what is drawn (real: .254)    .255, .251, .257      .248, .241, .259      .258, .245, .237

So the whole correspondence is found, up to what no loss can tell: the circle of hues comes turned
or mirrored, and in two of three runs a large bag is a small shoe. Color itself is not kept: the
correlation of hues as they are is -.51, .05 and .48. The plain GAN keeps the height alone; that it
gives one shoe for every bag, as the paper describes, does not happen with these networks, with
`--norm group` either (.135 to DiscoGAN's .245, seed 0; .208 to .249 after `--steps 6000
--learning-rate 1e-3`).

    train --preset modes, 657 s, five seeds    discogan              one_sided             gan
    targets, of 10                             10, 10, 9, 10, 8      10, 10, 9, 10, 10     10, 9, 10, 10, 10
    round trip error, worst                    .111                  .064                  1.860

The paper's order of modes is not found: a plain GAN covers as many. What it cannot do is come back.

    train --preset fashion --steps 1500, 258 s: round trip error .358, one_sided .270, gan .611; of 2 at most. One seed.
    … --steps 6000 --learning-rate 1e-3 --schedule cosine, 1,194 s beside other work: .387, .262, .593. More does not help.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from advdl import cli, data, losses, metrics, models, present, train
from advdl.errors import UserError
from advdl.metrics import Mean
from advdl.models import dcgan, discogan, mlp
from advdl.nn import BatchNorm, GroupNorm


@dataclass(frozen=True)
class Config(cli.Config):
    data: str = "bags_shoes"
    """bags_shoes[:SIDE]; modes; tfds:NAME or folder:PATH with --a and --b; folder:PATH with PATH/A
    and PATH/B."""
    a: str = ""
    """Classes of the data on the one side, as in Bag (default: the first of two)."""
    b: str = ""
    """Classes on the other, as in "Ankle boot,Sneaker" (default: the second of two)."""
    image_size: int = 0
    """Side to which images are brought (0: the size they have)."""
    variants: str = "discogan,one_sided,gan"
    """What is trained, the first being what `predict` uses."""
    seeds: int = 1
    """Initializations of every variant."""
    width: int = 64
    """Channels of the layers nearest the image."""
    norm: Literal["batch", "group"] = "batch"
    """Normalization: the paper's over the batch, or over groups of each example's own channels."""
    hidden: str = "128,128,128"
    """Of points: units of the layers of all networks."""
    reconstruction: float = 1.0
    """Weight of the mean square error of what has gone there and back."""
    discriminator_learning_rate: float = 0.0
    """Step size of the discriminators (0: the same as the generators')."""
    r1: float = 0.0
    """Weight γ of the penalty γ/2·|∇D(x)|² at the data (Mescheder et al. 2018); for images with
    --norm group alone."""
    weight_decay: float = 0.0
    """L2 penalty on the parameters of generators and discriminators, added to their gradients."""


VARIANTS = {"discogan": ("a", "b"), "one_sided": ("b",), "gan": ("a", "b")}
"""Which sides have a discriminator and a generator that it judges. `one_sided` has its other
generator for the way back alone; `gan` goes both ways too, but nothing asks that it comes back."""
CONSTANT = {"discogan": ("a", "b"), "one_sided": ("a",), "gan": ()}
"""From which sides one must come back."""
IMAGES = dict(
    width=32,
    batch=64,
    steps=2000,
    learning_rate=5e-4,
    reconstruction=10.0,
    evaluate_every=250,
    log_every=25,
)
PRESETS = {
    "laptop": Config(**IMAGES),
    "fashion": Config(
        preset="fashion", **IMAGES | dict(data="tfds:fashion_mnist", a="Bag", b="Ankle boot")
    ),
    "modes": Config(
        preset="modes",
        data="modes",
        seeds=5,
        batch=200,
        steps=12_000,
        learning_rate=2e-4,
        reconstruction=1.0,
        per_call=50,
        evaluate_every=1000,
        save_every=4000,
        log_every=250,
    ),
    # Section 3.4: networks, images of 64 by 64 pixels, and the objective, the plain sum of
    # equations 3 to 6. From the released code (github.com/SKTBrain/DiscoGAN, image_translation.py):
    # Adam at 2e-4 (.5, .999) with an L2 penalty of 1e-5 on both sides, and batches of 500, those of
    # script.sh (64 where a command does not say). Pixels are in [-1, 1] here and in [0, 1] there,
    # where a square error is a quarter: hence the weight of .25. The paper prints no figure for
    # handbags and shoes, only pictures. Not run here.
    # Other than in the released code:
    # - its generators descend (.1 of the adversarial loss + .9 of a feature matching that the paper
    #   does not have)·(1 - r) + r of the reconstruction, r = .01 for 10,000 iterations and .5 after
    #   (for these data .5 always, by its README);
    # - its discriminators descend the mean of the two cross-entropies, here the sum, beside which
    #   the L2 penalty is half as strong;
    # - each third of its iterations updates the discriminators and the others the generators; here
    #   every step updates both, the generators after the discriminators;
    # - it computes 5,000 passes unless stopped; here 50,000 steps;
    # - its parameters start as PyTorch's do; here kernels from N(0, .02) and gains from N(1, .02).
    "paper": Config(
        preset="paper",
        data="folder:edges2handbags2shoes",
        image_size=64,
        batch=500,
        steps=50_000,
        learning_rate=2e-4,
        reconstruction=0.25,
        weight_decay=1e-5,
        variants="discogan",
        evaluate_every=1000,
        save_every=1000,
    ),
}
# Fixed before the runs that are recorded above.
AT_LEAST = {"deviation, times that of gan": 5.0}
AT_MOST = {"round trip error": 0.2}


@dataclass(frozen=True)
class Predict(cli.Predict):
    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Images to translate."""
    back: bool = False
    """They are of B, to be translated to A."""


class Team:
    """Networks that one player owns, by name: their variables are one tree, `{collection: {name:
    …}}`."""

    def __init__(self, **modules: nn.Module):
        self.modules = modules

    def init(self, key: jax.Array, x: jax.Array) -> train.Variables:
        """Variables of all, each of which takes inputs like x."""
        keys, found = jax.random.split(key, len(self.modules)), {}
        for own, (name, module) in zip(keys, self.modules.items(), strict=True):
            for collection, tree in module.init(own, x, train=False).items():
                found.setdefault(collection, {})[name] = tree
        return found

    def apply(self, variables: train.Variables, name: str, x: jax.Array) -> jax.Array:
        """In evaluation mode."""
        return self.modules[name].apply(self._of(variables, name), x, train=False)

    def train(
        self, variables: train.Variables, name: str, x: jax.Array
    ) -> tuple[jax.Array, train.Variables]:
        """In training mode: the output, and the variables with the collections after it."""
        y, seen = self.modules[name].apply(
            self._of(variables, name), x, train=True, mutable=["batch_stats"]
        )
        return y, {
            **variables,
            **{
                collection: {**variables[collection], name: tree}
                for collection, tree in seen.items()
            },
        }

    def _of(self, variables, name):
        return {collection: trees[name] for collection, trees in variables.items() if name in trees}


def collections(variables: train.Variables) -> train.Variables:
    """Without the parameters."""
    return {name: tree for name, tree in variables.items() if name != "params"}


OTHER = {"a": "b", "b": "a"}


class Translator:
    """The networks of one variant and how they learn. A generator is called by the side that it
    draws."""

    def __init__(self, config: Config, variant: str, domains: data.Domains):
        self.config, self.variant = config, variant
        shapes = {side: getattr(domains, side).image_shape for side in OTHER}
        if isinstance(domains.a, data.Points):
            hidden = cli.parse_units(config.hidden, "--hidden")
            mixtures = {side: getattr(domains, side).mixture for side in OTHER}

            def draw(side):
                return mlp.Generator(len(mixtures[side].mean), hidden, nn.relu, config.dtype)

            def judge(side):
                return mlp.Discriminator(
                    tuple(mixtures[side].mean), tuple(mixtures[side].std), hidden, config.dtype
                )

        else:
            try:
                dcgan.levels_of(*shapes["a"][:2])
            except ValueError as error:
                raise UserError(f"{error}; give --image-size") from error
            width = dict(
                width=config.width,
                dtype=config.dtype,
                norm={"batch": BatchNorm, "group": GroupNorm}[config.norm],
            )

            def draw(side):
                return discogan.Generator(channels=shapes[side][2], **width)

            def judge(side):
                return dcgan.Discriminator(**width)

        self.generators = Team(**{side: draw(side) for side in OTHER})
        self.discriminators = Team(**{side: judge(side) for side in VARIANTS[variant]})

    def learner(self) -> train.Learner:
        """Algorithm 1 with two of each."""
        config, judged, constant = self.config, VARIANTS[self.variant], CONSTANT[self.variant]
        draw, judge = self.generators, self.discriminators

        def discriminator_loss(own, opponent, batch, rng):
            total, figures = 0.0, {}
            for side in judged:
                fake, _ = draw.train(opponent, side, batch[OTHER[side]])
                (real_logit, _), own = judge.train(own, side, batch[side])
                (fake_logit, _), own = judge.train(own, side, fake)
                total += losses.minimax_discriminator(real_logit, fake_logit)
                if config.r1:

                    def score(x, side=side, own=own):
                        return judge.train(own, side, x)[0][0]

                    total += config.r1 / 2 * losses.r1(score, batch[side])
                figures[f"V of {side}"] = Mean.of(losses.value(real_logit, fake_logit))
            return train.Loss(Mean.of(total), figures, collections(own))

        def generator_loss(own, opponent, batch, rng):
            total, figures, fakes = 0.0, {}, {}
            for side in judged:
                fakes[side], own = draw.train(own, side, batch[OTHER[side]])
                (logit, _), _ = judge.train(opponent, side, fakes[side])
                total += losses.nonsaturating_generator(logit)
            for side in constant:
                back, own = draw.train(own, side, fakes[OTHER[side]])
                error = mean_square(back, batch[side])
                total += config.reconstruction * error
                figures[f"round trip from {side}"] = Mean.of(error)
            return train.Loss(Mean.of(total), figures, collections(own))

        def evaluate(variables, batch):
            own, mask, figures = variables["generator"], batch["mask"], {}
            for side in OTHER:
                fake = draw.apply(own, OTHER[side], batch[side])
                back = draw.apply(own, side, fake)
                figures[f"round trip from {side}"] = Mean.of(mean_square(back, batch[side]), mask)
            for side in judged:
                fake = draw.apply(own, side, batch[OTHER[side]])
                logits = (
                    judge.apply(variables["discriminator"], side, x)[0] for x in (batch[side], fake)
                )
                figures[f"V of {side}"] = Mean.of(losses.value(*logits), mask)
            return figures

        def player(team, loss, learning_rate, ema=None):
            rate = train.schedule(
                config.schedule, learning_rate, config.steps, config.warmup, config.power
            )
            rule = train.chain(optax.adam(rate, b1=0.5), config.clip, config.weight_decay)
            return train.Player(
                lambda key, batch: team.init(key, batch["a"]),
                loss,
                rule,
                ema,
                config.accumulate,
                config.remat,
            )

        return train.alternate(
            player(
                judge,
                discriminator_loss,
                config.discriminator_learning_rate or config.learning_rate,
            ),
            player(draw, generator_loss, config.learning_rate, config.ema or None),
            evaluate,
        )


def mean_square(back: jax.Array, x: jax.Array) -> jax.Array:
    """Of their differences, (B, …) -> (B,)."""
    return losses.squared_error(back, x) / x[0].size


def build(config: Config) -> cli.Experiment:
    cli.at_least(1, config, "seeds", "width")
    cli.at_least(
        0,
        config,
        "image_size",
        "reconstruction",
        "discriminator_learning_rate",
        "r1",
        "weight_decay",
    )
    variants = cli.parse_choices(config.variants, "--variants", VARIANTS)
    sides = cli.parse_names(config.a), cli.parse_names(config.b)
    training, held_out = (
        data.open_domains(config.data, split, config.data_dir, config.image_size or None, *sides)
        for split in ("train", "test")
    )
    translators = {variant: Translator(config, variant, training) for variant in variants}
    learners = {variant: translator.learner() for variant, translator in translators.items()}
    points = isinstance(training.a, data.Points)
    if config.r1 and config.norm == "batch" and not points:
        raise UserError(
            "--r1 is of each example by itself, and batch normalization mixes them; add --norm"
            " group"
        )
    transform = None if points else data.to_float(-1.0, 1.0, "a", "b")
    table = (Modes if points else Images)(translators, config.seeds, training, held_out)
    return cli.Experiment(
        learner=train.together(
            {f"{name}-s{n}": learners[name] for name in variants for n in range(config.seeds)}
        ),
        train=data.TrainBatches(training, config.batch, config.seed, transform),
        test=data.EvalBatches(held_out, config.batch, transform),
        report=table.report,
        predict=table.predict,
        snapshot=table.snapshot,
    )


JUDGED = 4000
"""Number of held-out examples, at most, that the figures are of."""


class Table:
    """What the variants of a run came to, judged and drawn."""

    def __init__(
        self,
        translators: Mapping[str, Translator],
        seeds: int,
        training: data.Domains,
        held_out: data.Domains,
    ):
        self.translators, self.seeds, self.training, self.held_out = (
            translators,
            seeds,
            training,
            held_out,
        )
        self.names = dict(zip(OTHER, held_out.names, strict=True))
        self._drawn = {
            name: jax.jit(translator.generators.apply, static_argnums=1)
            for name, translator in translators.items()
        }

    def draw(
        self, state: train.State, variant: str, seed: int, side: str, x: np.ndarray
    ) -> np.ndarray:
        """Of x, on the one side, images of `side`, on the other."""
        variables = state[f"{variant}-s{seed}/generator"].average
        return models.in_portions(lambda x: self._drawn[variant](variables, side, x), x)

    def real(self, source: data.Source, count: int = JUDGED) -> np.ndarray:
        """Up to `count` of a source's examples, drawn at random (`data.selected`), as networks see
        them."""
        raise NotImplementedError

    def figures(self, x: np.ndarray, drawn: np.ndarray, back: np.ndarray) -> dict[str, float]:
        """Of one initialization: held-out x of A, what was drawn of it, and what came back."""
        raise NotImplementedError

    def judge(self, state: train.State) -> dict[str, dict[str, Any]]:
        """Every variant's figures, seed by seed, and a verdict on the first."""
        x, found = self.real(self.held_out.a), {}
        for variant in self.translators:
            each = []
            for seed in range(self.seeds):
                drawn = self.draw(state, variant, seed, "b", x)
                back = self.draw(state, variant, seed, "a", drawn)
                common = {
                    "deviation": float(np.sqrt(drawn.astype(np.float64).var(0).mean())),
                    "round trip error": float(np.sqrt(np.square(back - x).mean())),
                }
                each.append(common | self.figures(x, drawn, back))
            found[variant] = {name: [one[name] for one in each] for name in each[0]}
        if "gan" in found:
            lone = max(found["gan"]["deviation"])
            for variant in found:
                found[variant]["deviation, times that of gan"] = [
                    own / lone for own in found[variant]["deviation"]
                ]
        return found

    def verdict(self, found: Mapping[str, Mapping[str, Any]]) -> str:
        """On the first variant."""
        first = next(iter(self.translators))
        return metrics.verdict(first, found[first], AT_LEAST, AT_MOST)

    def report(
        self, state: train.State, run: train.Run, figures: Mapping[str, Any]
    ) -> list[present.Section]:
        folder, found = run.report, self.judge(state)
        frames = sorted((folder / "frames").glob("*.png"))
        present.animate(frames, folder / "training.gif", milliseconds=300)

        def each(variant, what):
            return [f"test/{variant}-s{n}/{what}" for n in range(self.seeds)]

        panels = [
            present.Panel(
                f"error of the round trip from {self.names[side]}",
                {variant: each(variant, f"round trip from {side}") for variant in self.translators},
                log=True,
            )
            for side in OTHER
        ]
        panels.append(
            present.Panel(
                "V against B", {variant: each(variant, "V of b") for variant in self.translators}
            )
        )
        present.draw_curves(
            present.read_metrics(run.folder / "metrics.jsonl"), folder / "curves.png", panels
        )
        said, judged = self.verdict(found), {}
        for variant, values in found.items():
            judged[variant] = {
                name: {f"seed {n}": x for n, x in enumerate(own)} for name, own in values.items()
            }
        floor = self.floor()
        run.write("verdict.json", {"verdict": said, **found, "of real ones": floor})
        cli.say(said)
        sections = [
            present.Section(
                "The verdict", f"{said}\n\n{VERDICT}", [], judged | {"of real ones": floor}
            ),
            present.Section(
                "Over training", "First seed, the same held-out examples.", ["training.gif"]
            ),
            present.Section(
                "Curves",
                "Thin every seed, bold their mean; the error is the mean square.",
                ["curves.png"],
            ),
        ]
        return self.pictures(state, folder) + sections

    def predict(self, state: train.State, options: Predict, folder: Path) -> dict[str, Any]:
        """Translates files; without any, draws the held-out examples and gives the verdict."""
        if not options.files:
            self.pictures(state, folder)
            found = self.judge(state)
            return {"verdict": self.verdict(found), **found}
        return self.translate(state, options, folder)

    def translate(self, state: train.State, options: Predict, folder: Path) -> dict[str, Any]:
        """Files, by the first variant's first seed."""
        raise UserError(
            f"{self.held_out.name} are points; predict takes files of networks trained on images"
        )

    def pictures(self, state: train.State, folder: Path) -> list[present.Section]:
        """Of the end."""
        raise NotImplementedError

    def floor(self) -> dict[str, float]:
        """Of real examples of B in place of drawn ones."""
        raise NotImplementedError


class Images(Table):
    """Of images; pixels in [-1, 1]."""

    def real(self, source, count=JUDGED):
        return self.ranged(source.read(data.selected(source, count))["image"])

    def ranged(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 in [-1, 1]."""
        return data.to_float(-1.0, 1.0)({"image": pixels})["image"]

    def figures(self, x, drawn, back):
        shades, (index, distance) = [images.mean((1, 2)) for images in (x, drawn)], self.near(drawn)
        found = {
            "distance to the nearest real one": distance,
            "correlation of mean colors": float(
                np.nanmean([correlation(*pair) for pair in zip(*(s.T for s in shades))])
            ),
        }
        if self.held_out.factors is None:
            return found
        own, seen = self.factors(), self.training.factors["b"][index]
        pairs = self.real(self.held_out.b)
        found["distance to the true counterpart"] = float(np.sqrt(np.square(drawn - pairs).mean()))
        return found | kept(own, seen, self.held_out.factor_names)

    def factors(self) -> np.ndarray:
        """What the held-out images of A that `real` gives were drawn from, (N, F)."""
        return self.held_out.factors["a"][data.selected(self.held_out.a, JUDGED)]

    def near(self, drawn) -> tuple[np.ndarray, float]:
        """Of all training images of B the one nearest to each, and their root mean square
        distance."""
        parts = (self.ranged(part["image"]) for part in data.read_blocks(self.training.b))
        index, distance = metrics.nearest_streamed(drawn, parts)
        return index, float(np.sqrt(np.square(distance).mean() / drawn[0].size))

    def floor(self):
        b = self.real(self.held_out.b)
        index, distance = self.near(b)
        found = {
            "deviation": float(np.sqrt(b.astype(np.float64).var(0).mean())),
            "distance to the nearest": distance,
        }
        if self.held_out.factors is not None:
            found["distance to another's counterpart"] = float(
                np.sqrt(np.square(b - np.roll(b, 1, 0)).mean())
            )
            own, seen = self.factors(), self.training.factors["b"][index]
            found |= {
                f"{name}, of true counterparts": value
                for name, value in kept(own, seen, self.held_out.factor_names).items()
            }
        return found

    def rows(self, state, side: str, count: int = 12) -> dict[str, np.ndarray]:
        """Held-out examples of one side and what becomes of them, in [0, 1]."""
        other, x = OTHER[side], self.real(getattr(self.held_out, side), count)
        found = {self.names[side]: x}
        for variant in self.translators:
            drawn = self.draw(state, variant, 0, other, x)
            found[variant] = drawn
            if CONSTANT[variant]:
                found[f"{variant}, back"] = self.draw(state, variant, 0, side, drawn)
        if self.held_out.factors is not None:
            found["true counterpart"] = self.real(getattr(self.held_out, other), count)
        channels = max(images.shape[-1] for images in found.values())

        def wide(images):
            return np.broadcast_to(images, (*images.shape[:3], channels))

        side = max(1, 64 // x.shape[1])
        return {
            label: np.repeat(np.repeat((wide(images) + 1) / 2, side, 1), side, 2)
            for label, images in found.items()
        }

    def snapshot(self, state, step, folder):
        present.draw_rows(self.rows(state, "a"), folder / "frames" / f"{step:07}.png", 12)

    def pictures(self, state, folder):
        sections = []
        for side in OTHER:
            title = f"{self.names[side]} → {self.names[OTHER[side]]}"
            present.draw_rows(self.rows(state, side), folder / f"from_{side}.png", 12)
            sections.append(present.Section(title, TRANSLATED, [f"from_{side}.png"]))
        return sections

    def translate(self, state, options, folder):
        side = "b" if options.back else "a"
        shape, variant, answer = (
            getattr(self.held_out, side).image_shape,
            next(iter(self.translators)),
            {},
        )
        for path in options.files:
            x = data.to_float(-1.0, 1.0)({"image": data.decode(path, shape)[None]})["image"]
            drawn = self.draw(state, variant, 0, OTHER[side], x)
            back = self.draw(state, variant, 0, side, drawn)
            with train.told(f"folder {folder}"):
                for name, image in ((self.names[OTHER[side]], drawn), ("back", back)):
                    present.draw_grid(
                        image,
                        folder / f"{path.stem}_{name.replace(' ', '_')}.png",
                        low=-1.0,
                        margin=0,
                    )
            answer[str(path)] = {"round trip error": float(np.sqrt(np.square(back - x).mean()))}
        return answer


def correlation(a_N: np.ndarray, b_N: np.ndarray) -> float:
    """Pearson's; 0 where one does not vary."""
    return float(np.corrcoef(a_N, b_N)[0, 1]) if a_N.std() > 1e-6 and b_N.std() > 1e-6 else 0.0


def kept(own_NF: np.ndarray, seen_NF: np.ndarray, factors: tuple[str, ...]) -> dict[str, float]:
    """How the factors of what was drawn go with those of what it was drawn of. Of the hue, a
    circle, the correlation of the angles as they are, and the best of any turning or mirroring of
    the circle; of the others, of each with each."""
    angle = [np.exp(2j * np.pi * factor[:, 0]) for factor in (own_NF, seen_NF)]
    straight, turned = (np.mean(angle[1] * other) for other in (angle[0].conj(), angle[0]))
    found = {
        "hue kept": float(straight.real),
        "hue, turned or mirrored": float(max(abs(straight), abs(turned))),
    }
    for i, name in enumerate(factors[1:], 1):
        for j, other in enumerate(factors[1:], 1):
            found[f"{name} with {other}"] = correlation(own_NF[:, i], seen_NF[:, j])
    return found


class Modes(Table):
    """Of points."""

    def real(self, source, count=JUDGED):
        return source.read(data.selected(source, count))["point"]

    def figures(self, x, drawn, back):
        mixture_a, mixture_b = self.held_out.a.mixture, self.held_out.b.mixture

        def place(points, mixture):
            return np.square(points[:, None] - mixture.centers_KD).sum(-1).argmin(1)

        own, target = place(x, mixture_a), place(drawn, mixture_b)
        goal = {
            int(np.bincount(target[own == k]).argmax()) for k in range(len(mixture_a.centers_KD))
        }
        return metrics.compute(
            metrics.mode_metrics(jnp.asarray(drawn), mixture_b.centers_KD, mixture_b.deviation)
        ) | {"targets": float(len(goal))}

    def floor(self):
        b = self.real(self.held_out.b)
        mixture = self.held_out.b.mixture
        return metrics.compute(
            metrics.mode_metrics(jnp.asarray(b), mixture.centers_KD, mixture.deviation)
        )

    def clouds(self, state, path, title):
        """What each variant's first seed makes of A, in colors of its modes."""
        x, centers, panels = (
            self.real(self.held_out.a, 1000),
            self.held_out.b.mixture.centers_KD,
            [],
        )
        mode = np.square(x[:, None] - self.held_out.a.mixture.centers_KD).sum(-1).argmin(1)
        for variant in self.translators:
            drawn = self.draw(state, variant, 0, "b", x)
            targets = self.figures(x, drawn, drawn)["targets"]
            panels.append(
                present.Cloud(f"{variant}\n{targets:.0f} of {len(centers)} targets", drawn, mode)
            )
        return present.draw_clouds(centers, panels, path, title)

    def snapshot(self, state, step, folder):
        self.clouds(state, folder / "frames" / f"{step:07}.png", f"step {step:,}")

    def pictures(self, state, folder):
        self.clouds(state, folder / "clouds.png", "")
        return [present.Section("Modes of A drawn to modes of B", CLOUDS, ["clouds.png"])]


VERDICT = """On held-out examples of A. Deviation: of what is drawn, over inputs, which is near 0 where every input gives \
the same. Round trip error: the root mean square of G_BA(G_AB(a)) − a, pixels in [−1, 1]. What no loss asks for, such as the \
color, may or may not be kept; the correlations say. Where factors are known, those of a drawn image are those of the nearest \
training image."""
TRANSLATED = """First seed, held-out examples drawn at random. `back` has gone to the other side and back. The adversarial \
losses alone ask only that what is drawn looks like some of the other side."""
CLOUDS = """Each color is a mode of A, the rings are modes of B. Targets: how many modes of B are the main one of some mode \
of A."""


if __name__ == "__main__":
    cli.main(build, PRESETS, Predict)
