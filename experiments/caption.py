"""A sentence that says what an image shows: a convolutional network sees, an LSTM tells; single to
multiple.

    python experiments/caption.py train                          # laptop: scenes of digits, "a three left of a seven"
    python experiments/caption.py train --no-attention           # one look before the first word (Vinyals et al. 2014)
    python experiments/caption.py train --preset coco_overfit --data folder:PATH    # PATH/captions_train.json, PATH/train, val
    python experiments/caption.py predict photo.jpg              # its caption and, with attention, where it looked

Vinyals et al. 2014 (*Show and Tell*, arXiv:1411.4555) and, with `--attention`, Xu et al. 2015
(*Show, Attend and Tell*, arXiv:1502.03044). The part `val` is looked at in training, `test`, where
there is one, at the end alone.

Recorded with `train --seed S`, of 1,000 test scenes, whose digits are none of the training part, by
a beam of 3; on one core of an AMD EPYC beside much other work, JAX 0.10.2:

    seed                                                      0        1        2
    captions right as a whole                                 0.955    0.938    0.965
    BLEU-4                                                    0.979    0.972    0.985
    CIDEr-D                                                   8.800    8.718    8.868
    right: that of the nearest training image, by features    0.863    0.784    0.837
    right: that of the nearest training image, by pixels      0.048
    right: the commonest caption                              0.023
    seconds of training                                       219      698      673

With `train --no-attention` it did not learn in as many updates which digits there are (seed 0:
0.028 right), and had not after half of them from all places side by side (`--no-pooled --layer
stage3`: 0.014 of val). A word's look is on the digit that it names, or on a place of the map beside
that has seen it.

All figures by a beam were recorded when it could still lose a caption that it had completed; the
networks are the same.

80 photographs of COCO learned by heart, `train --preset coco_overfit --data folder:coco_mini`, seed
0, 1,020 s on the same core: each of the 80 gets one of its five captions word for word. Of 79
others, val, by a beam of 3 (a person against the other four in parentheses): BLEU-4 0.045 (0.204),
ROUGE-L 0.308 (0.480), CIDEr-D 0.059 (1.020), none right; the caption of the nearest training image
by pixels has ROUGE-L 0.258 and CIDEr-D 0.060. So many images are enough to write English, not to
see.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from advdl import cli, data, losses, metrics, models, present, train, weights
from advdl.errors import UserError, nearest
from advdl.metrics import Mean
from advdl.models import decoding


@dataclass(frozen=True)
class Config(cli.Config):
    data: str = "digit_scenes"
    """digit_scenes; or folder:PATH with PATH/captions_train.json as COCO has it and images in
    PATH/train, the same of val."""
    image_size: int = 0
    """Side of the images, of photographs the middle square (0: 64)."""
    encoder: str = "resnet18"
    """Network that sees, by the names of `python -m advdl.models`, without its classifier."""
    width: int = 0
    """Channels of a ResNet's first stage (0: its own)."""
    layer: str = ""
    """Intermediate that is looked at (default: the last maps; with --attention the last of at least
    4 by 4)."""
    init: str = ""
    """File of the encoder's weights to start from, .safetensors or .pth."""
    encoder_rate: float = 1.0
    """Factor on the learning rate of the encoder; 0 leaves it as --init gives it, its statistics
    too."""
    attention: bool = False
    """A look at the image for every word, in place of one before the first."""
    pooled: bool = True
    """Without attention: the mean of the maps is read, or (--no-pooled) all of their places side by
    side."""
    stochastic: float = 0.0
    """Weight of the penalty on places that get more or less than 1 over all words (Xu et al. 2015,
    equation 14)."""
    embedding: int = 64
    """Features of a word."""
    features: int = 128
    """Of the states."""
    dropout: float = 0.0
    """Rate on what the LSTM reads and on what an answer is made of."""
    sampling: float = 0.0
    """Scheduled sampling: the probability of feeding the decoder its own word, at the end of
    training."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """The update rule."""
    halve_every: int = 0
    """Updates after which the learning rate is halved, again and again (0: never)."""
    least: int = 1
    """How often a word must occur in the training captions to be known."""
    longest: int = 20
    """Words of a caption; of longer ones so many are read, and no more are written."""


PRESETS = {
    "laptop": Config(
        attention=True,
        width=16,
        batch=32,
        steps=2000,
        learning_rate=2e-3,
        schedule="cosine",
        warmup=100,
        clip=1.0,
        longest=8,
        evaluate_every=250,
        save_every=1000,
        log_every=50,
    ),
    # Photographs through the whole of it: 80 are learned by heart, and of others nothing, see
    # above.
    "coco_overfit": Config(
        preset="coco_overfit",
        data="folder:coco_mini",
        image_size=64,
        attention=True,
        width=16,
        embedding=128,
        features=256,
        batch=40,
        steps=1000,
        learning_rate=2e-3,
        schedule="cosine",
        warmup=50,
        clip=1.0,
        evaluate_every=250,
        save_every=500,
        log_every=25,
    ),
    # Show and Tell on MS COCO: 27.7 BLEU-4. SGD without momentum, 512 features, words that occur
    # five times; what the paper leaves open is as the authors' im2txt has it: rate 2, halved every
    # eight epochs, batches of 32 captions, clip 5, dropout 0.3, a million updates with the encoder
    # frozen. That took one to two weeks on a K20m, with Inception v3; two million more fine-tune it
    # at rate 0.0005, here --encoder-rate. Give --init GoogLeNet's published weights. Other than
    # im2txt: GoogLeNet at 224 pixels, images are not mirrored and keep their colors, parameters are
    # not born uniform in ± 0.08. Not run here.
    "paper": Config(
        preset="paper",
        data="folder:coco",
        image_size=224,
        encoder="googlenet_torchvision",
        encoder_rate=0.0,
        embedding=512,
        features=512,
        dropout=0.3,
        optimizer="sgd",
        learning_rate=2.0,
        halve_every=146_590,
        clip=5.0,
        least=5,
        longest=30,
        batch=32,
        steps=1_000_000,
        threads=16,
        evaluate_every=18_324,
        save_every=18_324,
        log_every=100,
    ),
}
SAVED = "vocabulary.json"
WIDTH, ALPHA = 3, 0.0
"""Of the beam and of its length penalty."""
EXACT, NATS = "captions right as a whole", "nats a word"
KEPT = 2**27
"""Bytes of training images among which the nearest is looked for."""


@dataclass(frozen=True)
class Predict(cli.Predict):
    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Images to tell of."""
    width: int = WIDTH
    """Of the beam; 1 takes the likeliest word at every step."""

    def alone(self) -> Mapping[str, Any]:
        """A trained run is all that is needed, its data is not."""
        cli.at_least(1, self, "width")
        run, config, variables, out = self.trained("caption", Config)
        return predict(Narrator(config, *read_vocabulary(run)), variables, self, out)


class Narrator:
    """The network with its vocabulary: how it sees, learns and tells."""

    def __init__(self, config: Config, vocabulary: data.Vocabulary, shape: Sequence[int]):
        self.config, self.vocabulary, self.shape = config, vocabulary, tuple(shape)
        encoder = build_encoder(config, self.shape)
        seen = jax.eval_shape(
            lambda: encoder.init_with_output(jax.random.key(0), jnp.zeros((1, *self.shape)), False)[
                0
            ][1]
        )
        layer = config.layer or models.last_maps(
            encoder, models.abstract(encoder, self.shape), self.shape, 4 if config.attention else 1
        )
        if layer not in seen or (config.attention and len(seen[layer].shape) != 4):
            known = [name for name, x in seen.items() if len(x.shape) == 4 or not config.attention]
            raise UserError(
                f"{config.encoder} has no layer {layer!r} to look at; there are"
                f" {', '.join(known)}{nearest(layer, known)}"
            )
        self.map_shape = seen[layer].shape[1:3]
        self.network = models.Captioner(
            encoder,
            layer,
            len(vocabulary),
            config.embedding,
            config.features,
            config.attention,
            config.pooled,
            config.encoder_rate == 0,
            config.dropout,
            config.dtype,
        )
        self.normalize = data.scaled(encoder.pixels)
        self._write = jax.jit(self._decode, static_argnames="width")
        self._weights = jax.jit(
            lambda variables, *given: self.network.apply(_own(variables), *given)[1]
        )
        self._see = jax.jit(
            lambda variables, image: self.network.apply(_own(variables), image, method="see").mean(
                1
            )
        )

    def learner(self) -> train.Learner:
        """Cross-entropy of every word."""
        config, network = self.config, self.network

        def loss(variables, batch, rng):
            keys = dict(zip(("dropout", "sampling"), jax.random.split(rng.key), strict=True))
            done, share = variables["progress"]["updates"], 0.0
            if config.sampling:
                share = config.sampling * jnp.minimum(1.0, done / config.steps)
            caption = batch["caption"]
            (logits, looks), new = network.apply(
                _own(variables),
                batch["image"],
                caption[:, :-1],
                train=True,
                sampling=share,
                rngs=keys,
                mutable=["batch_stats"],
            )
            error, counted = losses.token_cross_entropy(
                logits, caption[:, 1:], batch["caption_length"] - 1
            )
            objective = Mean.of(error, counted)
            if config.stochastic:
                missed = jnp.square(1 - (looks * counted[..., None]).sum(1)).sum()
                objective = Mean(objective.total + config.stochastic * missed, objective.count)
            progress = {"progress": {"updates": done + 1.0 / config.accumulate}}
            return train.Loss(objective, {NATS: Mean.of(error, counted)}, {**new, **progress})

        def evaluate(variables, batch):
            variables, caption, length = _own(variables), batch["caption"], batch["caption_length"]
            several = caption.shape[1]
            carry = network.apply(variables, batch["image"], method="encode")
            each = jax.tree.map(lambda x: jnp.repeat(x, several, 0), carry)
            flat = caption.reshape(-1, caption.shape[-1])
            logits, _ = network.apply(variables, each, flat[:, :-1], method="tell")
            error, counted = losses.token_cross_entropy(logits, flat[:, 1:], length.reshape(-1) - 1)
            written = self._search(variables, carry, 1)
            known = (length > 0) & (caption != data.UNKNOWN).all(-1)
            right = ((written[:, None] == caption[:, :, 1:]).all(-1) & known).any(1)
            return {
                NATS: Mean.of(error, counted * jnp.repeat(batch["mask"], several)[:, None]),
                EXACT: Mean.of(right, batch["mask"]),
            }

        def init(key, batch):
            return {
                **network.init(key, batch["image"], batch["caption"][:, :-1]),
                "progress": {"updates": jnp.float32(0)},
            }

        player = train.Player(
            init, loss, self._rule(), config.ema or None, config.accumulate, config.remat
        )
        return train.minimize(player, evaluate)

    def _rule(self) -> optax.GradientTransformation:
        config = self.config
        rate = config.scheduled()
        if config.halve_every:
            whole = rate

            def rate(n):
                return whole(n) * 0.5 ** (n // config.halve_every)

        rule = train.chain(
            {"adam": optax.adam, "sgd": optax.sgd}[config.optimizer](rate), config.clip
        )

        def encoder(params):
            return jax.tree.map_with_path(
                lambda path, _: weights.in_encoder(self.network, [part.key for part in path]),
                params,
            )

        if config.encoder_rate == 0:

            def others(params):
                return jax.tree.map(lambda inside: not inside, encoder(params))

            return optax.chain(
                optax.masked(rule, others), optax.masked(optax.set_to_zero(), encoder)
            )
        return optax.chain(rule, optax.masked(optax.scale(config.encoder_rate), encoder))

    def _search(self, variables, carry, width: int) -> jax.Array:
        """Ids (B, T), greedily or by a beam."""

        def step(carry, token):
            return self.network.apply(variables, carry, token, method="next")

        given = step, carry, jnp.full(len(carry[1][0]), data.BEGIN, jnp.int32)
        steps = self.config.longest + 1
        if width == 1:
            return decoding.greedy(*given, steps, data.END).token
        return decoding.beam_search(*given, width, steps, data.END, ALPHA).token[:, 0]

    def _decode(self, variables, image, *, width: int):
        variables = _own(variables)
        return self._search(variables, self.network.apply(variables, image, method="encode"), width)

    def write(self, variables: train.Variables, images: np.ndarray, width: int) -> np.ndarray:
        """Ids (N, T) of the caption of each image (uint8)."""

        def apply(image):
            return self._write(variables, self.normalize({"image": image})["image"], width=width)

        return models.in_portions(apply, images, rows=min(50, len(images)))

    def text(self, ids: np.ndarray) -> str:
        """A caption of its ids, to the end."""
        return " ".join(self.vocabulary.decode(ids))

    def see(self, variables: train.Variables, images: np.ndarray) -> np.ndarray:
        """(N, D): the mean of the encoder's maps."""

        def apply(image):
            return self._see(variables, self.normalize({"image": image})["image"])

        return models.in_portions(apply, images, rows=min(50, len(images)))

    def draw_looks(
        self, variables: train.Variables, images: np.ndarray, ids: np.ndarray, path: Path
    ) -> None:
        """Where it looked for each word."""
        fed = np.concatenate([np.full((len(ids), 1), data.BEGIN, np.int32), ids[:, :-1]], 1)
        looks = np.asarray(
            self._weights(variables, self.normalize({"image": images})["image"], fed)
        )
        sentences = [self.vocabulary.decode(row) for row in ids]
        maps = [
            own[: len(words)].reshape(-1, *self.map_shape)
            for own, words in zip(looks, sentences, strict=True)
        ]
        present.draw_looks(images, sentences, maps, path)


def _own(variables: train.Variables) -> train.Variables:
    """Of the network alone."""
    return {name: value for name, value in variables.items() if name != "progress"}


def build_encoder(config: Config, shape: tuple[int, ...]) -> nn.Module:
    """The encoder without its classifier. Raises UserError for one that is not there, or does not
    take such images."""
    network = models.classifier(config.encoder).build(num_classes=None, dtype=config.dtype)
    if config.width:
        if not isinstance(network, models.resnet.ResNet):
            raise UserError(f"--width is for residual networks, and {config.encoder} is none")
        network = network.clone(width=config.width)
    try:
        models.abstract(network, shape)
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"{config.encoder} does not take images of {shape[0]} by {shape[1]}: {error}"
        ) from error
    return network


def read_vocabulary(run: train.Run) -> tuple[data.Vocabulary, tuple[int, ...]]:
    """(vocabulary, shape of an image) of a run. Raises UserError where they cannot be read or are
    none."""
    path, content = run.folder / SAVED, run.read(SAVED)
    if content is None:
        raise UserError(f"{path} is not there; train the run anew")
    shape = content.get("image_shape")
    if (
        not isinstance(shape, list)
        or len(shape) != 3
        or not all(isinstance(side, int) and side > 0 for side in shape)
    ):
        raise UserError(f"{path} names no image_shape of three numbers; train the run anew")
    return data.Vocabulary.from_json(json.dumps(content), str(path)), tuple(shape)


def build(config: Config) -> cli.Experiment:
    cli.at_least(1, config, "embedding", "features", "least", "longest")
    cli.at_least(0, config, "image_size", "width", "encoder_rate", "stochastic", "halve_every")
    for name in ("dropout", "sampling"):
        if not 0 <= getattr(config, name) <= (1 if name == "sampling" else 0.99):
            raise UserError(
                f"--{name} is {getattr(config, name)}; expected at least 0 and at most 1"
            )
    if config.stochastic and not config.attention:
        raise UserError("--stochastic is a penalty on looks; give --attention too")
    if config.encoder_rate == 0 and not config.init:
        raise UserError(
            "--encoder-rate 0 keeps an encoder that has learned nothing; give --init FILE, or"
            " another rate"
        )
    models.classifier(config.encoder)  # told before data is read
    if config.init:
        weights.check(config.init)
    albums = data.open_captions(config.data, config.image_size)
    said = [metrics.tokenize(caption) for own in albums["train"].captions for caption in own]
    vocabulary = data.Vocabulary.of_words(said, config.least)
    shape = albums["train"].images.image_shape
    narrator = Narrator(config, vocabulary, shape)
    told = {
        part: data.Captioned(
            album, vocabulary, metrics.tokenize, config.longest, drawn=part == "train"
        )
        for part, album in albums.items()
    }
    desk = Desk(narrator, albums, told["train"].cut)

    def warm_start(variables):
        new, report = weights.load_backbone(config.init, narrator.network, variables, shape)
        cli.say(f"{config.init}: {report}")
        return new

    return cli.Experiment(
        learner=narrator.learner(),
        train=data.TrainBatches(told["train"], config.batch, config.seed, narrator.normalize),
        test=data.EvalBatches(told["val"], config.batch, narrator.normalize),
        report=desk.report,
        snapshot=desk.snapshot,
        best=(NATS, "min"),
        warm_start={"model": warm_start} if config.init else {},
        baselines=lambda: desk.baselines("val"),
        kept={SAVED: json.loads(vocabulary.to_json()) | {"image_shape": list(shape)}},
        counts=lambda batch: {"tokens": (batch["caption_length"] - 1).sum()},
    )


def scored(written: Sequence[str], captions: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU-1 to BLEU-4, ROUGE-L, CIDEr-D as coco-caption has them, and captions equal to one of the
    image's. Without CIDEr-D where there is one image, of which it would be 0 whatever is said."""
    figures = metrics.caption_figures(written, captions)
    if len(written) == 1:
        del figures["CIDEr-D"]
    return figures | {
        EXACT: float(np.mean([among(*pair) for pair in zip(written, captions, strict=True)]))
    }


def among(written: str, captions: Sequence[str]) -> bool:
    """Whether it is one of them, word for word."""
    return metrics.tokenize(written) in map(metrics.tokenize, captions)


class Desk:
    """What a run says of its captions."""

    def __init__(self, narrator: Narrator, albums: Mapping[str, data.Album], cut: int):
        self.narrator, self.albums, self.config, self.cut = narrator, albums, narrator.config, cut
        self.held_out = "test" if "test" in albums else "val"

    def snapshot(self, state: train.State, step: int, folder: Path) -> None:
        """At the start: what is worth telling of the data."""
        if step:
            return
        counts = {
            part: [len(album.captions), sum(map(len, album.captions))]
            for part, album in self.albums.items()
        }
        parts = ", ".join(
            f"{part} {images} with {captions} captions"
            for part, (images, captions) in counts.items()
        )
        cli.say(
            f"images: {parts}; {len(self.narrator.vocabulary) - len(data.SPECIALS)} words are"
            f" known; {self.cut} training captions have more than {self.config.longest} words, of"
            " which so many are read"
        )

    def read(self, part: str, rows: np.ndarray | None = None) -> np.ndarray:
        """These images of a part (all: None), uint8."""
        images = self.albums[part].images
        return images.read(np.arange(len(images)) if rows is None else rows)["image"]

    def neighbors(self) -> np.ndarray:
        """Rows of training images among which neighbors are sought; where there are many, some
        drawn at random."""
        return data.selected(self.albums["train"].images, KEPT // int(np.prod(self.narrator.shape)))

    def baselines(self, part: str) -> dict[str, dict[str, float]]:
        """Of a part: what needs no network."""
        captions, known = self.albums[part].captions, self.albums["train"].captions
        often = Counter(caption for own in known for caption in own).most_common(1)[0][0]
        rows = self.neighbors()
        near = rows[metrics.nearest(self.read(part), self.read("train", rows))[0]]
        found = {
            "the commonest caption": scored([often] * len(captions), captions),
            "the caption of the nearest training image, by pixels": scored(
                [known[row][0] for row in near], captions
            ),
        }
        if (people := min(map(len, captions))) > 1:  # each in turn is held against the others
            each = [
                scored(
                    [own[n] for own in captions], [[*own[:n], *own[n + 1 :]] for own in captions]
                )
                for n in range(people)
            ]
            found["a person against the others"] = {
                name: float(np.mean([one[name] for one in each])) for name in each[0]
            }
        return found

    def report(
        self, state: train.State, run: train.Run, figures: Mapping[str, Any]
    ) -> list[present.Section]:
        folder, narrator, variables, part = (
            run.report,
            self.narrator,
            state["model"].average,
            self.held_out,
        )
        images, captions = self.read(part), self.albums[part].captions
        found = {}
        for title, width in (("greedy", 1), (f"beam of {WIDTH}", WIDTH)):
            ids = narrator.write(variables, images, width)
            written = [narrator.text(row) for row in ids]
            found[title] = scored(written, captions)
        found |= self.baselines(part)
        rows = self.neighbors()
        seen = narrator.see(variables, self.read("train", rows)), narrator.see(variables, images)
        near = rows[metrics.nearest(seen[1], seen[0])[0]]
        known = self.albums["train"].captions
        found["the caption of the nearest training image, by features"] = scored(
            [known[row][0] for row in near], captions
        )
        some = data.selected(known, 200)
        learned_images = self.read("train", some)
        learned = [narrator.text(row) for row in narrator.write(variables, learned_images, WIDTH)]
        found[f"{len(learned)} training images, beam of {WIDTH}"] = scored(
            learned, [known[row] for row in some]
        )
        best = found[f"beam of {WIDTH}"]
        said = f"{part}, {len(images)} images: " + ", ".join(
            f"{name} {value:.3f}" for name, value in best.items()
        )
        said += (
            ""
            if "CIDEr-D" in best
            else "; CIDEr-D needs several images, of one it is 0 whatever is said"
        )
        run.write("verdict.json", {"verdict": said, **found})
        cli.say(said)
        lines = present.read_metrics(run.folder / "metrics.jsonl")
        panels = [
            present.Panel(NATS, {"training": f"train/{NATS}", "val": f"test/{NATS}"}, log=True),
            present.Panel(f"{EXACT}, val", {"greedy": f"test/{EXACT}"}),
        ]
        present.draw_curves(lines, folder / "curves.png", panels)
        sections = [present.Section("The verdict", said, ["curves.png"], found)]
        right = np.array([among(*pair) for pair in zip(written, captions, strict=True)])
        for title, rows, file in (
            (SAME, np.flatnonzero(right), "right.png"),
            (OTHER, np.flatnonzero(~right), "other.png"),
        ):
            if len(rows):
                draw(
                    images[rows],
                    [written[n] for n in rows],
                    [captions[n] for n in rows],
                    folder / file,
                )
                sections.append(
                    present.Section(f"{title}: {len(rows)} of {len(right)}", SOME, [file])
                )
        draw(learned_images, learned, [known[row] for row in some], folder / "learned.png")
        sections.append(present.Section("Training images", SOME, ["learned.png"]))
        if self.config.attention:
            shown, learned_images = (
                data.selected(len(images), 6),
                learned_images[data.selected(len(learned), 6)],
            )
            narrator.draw_looks(variables, images[shown], ids[shown], folder / "looks.png")
            ids = narrator.write(variables, learned_images, WIDTH)
            narrator.draw_looks(variables, learned_images, ids, folder / "looks_learned.png")
            sections.insert(
                1, present.Section("Where it looks", LOOKS, ["looks.png", "looks_learned.png"])
            )
        return sections


def draw(
    images: np.ndarray,
    written: Sequence[str],
    captions: Sequence[Sequence[str]],
    path: Path,
    most: int = 18,
) -> None:
    """Images with what was written below, and, where it is not of theirs, one of their captions;
    `most` drawn at random."""
    shown = data.selected(len(images), most)
    below = [
        written[n] if among(written[n], captions[n]) else f"{written[n]} ({captions[n][0]})"
        for n in shown
    ]
    present.draw_grid(
        images[shown], path, columns=6, scale=max(1, 192 // images.shape[1]), captions=below
    )


def predict(
    narrator: Narrator, variables: train.Variables, options: Predict, folder: Path
) -> dict[str, Any]:
    """The caption of each image; with attention also a picture of where each word looked."""
    if not options.files:
        raise UserError(
            "predict needs image files: python experiments/caption.py predict photo.jpg"
        )
    images = np.stack([data.decode(path, narrator.shape) for path in options.files])
    ids = narrator.write(variables, images, options.width)
    if narrator.config.attention:
        with train.told(f"folder {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            for path, image, row in zip(options.files, images, ids, strict=True):
                narrator.draw_looks(
                    variables, image[None], row[None], folder / f"{path.stem}_looks.png"
                )
        cli.say(f"where it looked: {folder}/*_looks.png")
    return {str(path): narrator.text(row) for path, row in zip(options.files, ids, strict=True)}


SAME, OTHER = "Equal to one of the image's captions", "Equal to none of the image's captions"
SOME = (
    "Some of them, drawn at random. In parentheses, where it is another, a caption that the image"
    " has."
)
LOOKS = """Held-out and training images, drawn at random. Bright is where it looked for the word below, by the word's own \
largest weight."""


if __name__ == "__main__":
    cli.main(build, PRESETS, Predict)
