"""Training steps and inference beside PyTorch: the same networks, batch, precision and optimizer,
in turns in one run.

    python tests/benchmarks/versus_torch.py  # every row, some minutes each
    python tests/benchmarks/versus_torch.py --rows resnet18,dcgan --rounds 9 --ways eager
    python tests/benchmarks/versus_torch.py --rows resnet50 --batch 16 --size 160 \\
        --precision bfloat16

Ours is what a run does: the learner's own step, metrics and donated state included, placed by
`train.place("jit")` with its compiler options, in a process that holds its memory as `advdl.cli`
does (`train.keep_memory`). PyTorch's is what its users write (`twins.py`): eager, with channels
last, and through `torch.compile`, with its own memory; `--keep-memory` gives it ours. Every program
has a process of its own, and all take turns, round by round. One process may be a third slower than
the next of the same program, so all are started anew, `--starts` times. A ratio is PyTorch's time
over ours, the median of the rounds' in a start, and of the starts' (the lowest and the highest
beside it): above 1 we are faster. Networks must have equally many parameters, or the run ends.

GFLOP/s is of the training step, counted by PyTorch's FLOP counter in its eager program, and its
share is of the faster matrix product of the two libraries (2048×2048, float32 or what --precision
says), measured in the same run. Memory is what a step adds to the process at most, and what lives
between steps (parameters, optimizer, batch). On a GPU it is what the library's own allocator has
seen.
"""

import argparse
import contextlib
import functools
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from timing import Apart, in_turns, machine, peak, ratio, seconds

from advdl import losses, models, train
from advdl.metrics import Mean
from advdl.models import dcgan, language, segnet, seq2seq, unet

SECONDS = 0.4  # a turn is as many steps as take this long
PEAK_SIZE = 2048
LANGUAGE = (10_000, 200)  # vocabulary, features: the small network of Zaremba et al. 2014
TRANSLATOR = (8_000, 6_000, 256, 256)  # source and target vocabulary, embedding, features


# What both sides are given, from one seed.


def photographs(batch: int, size: int) -> dict[str, np.ndarray]:
    """Images and their classes."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.standard_normal((batch, size, size, 3), np.float32),
        "label": rng.integers(0, 1000, batch).astype(np.int32),
    }


def scenes(classes: int, batch: int, size: int) -> dict[str, np.ndarray]:
    """Images and the classes of their pixels."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.standard_normal((batch, size, size, 3), np.float32),
        "mask": rng.integers(0, classes, (batch, size, size)).astype(np.int32),
    }


def pixels(batch: int, size: int) -> dict[str, np.ndarray]:
    """Images in [-1, 1]."""
    return {
        "image": np.random.default_rng(0).uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)
    }


def windows(batch: int, size: int) -> dict[str, np.ndarray]:
    """Tokens and those after them."""
    token = np.random.default_rng(0).integers(0, LANGUAGE[0], (batch, size + 1)).astype(np.int32)
    return {"inputs": token[:, :-1].copy(), "targets": token[:, 1:].copy()}


def sentences(batch: int, size: int) -> dict[str, np.ndarray]:
    """Pairs of half to all of `size` words."""
    rng = np.random.default_rng(0)
    found = {}
    for name, vocabulary, more in (("source", TRANSLATOR[0], 0), ("target", TRANSLATOR[1], 1)):
        length = rng.integers(size // 2, size + 1, batch).astype(np.int32)
        token = rng.integers(4, vocabulary, (batch, size + more)).astype(np.int32)
        token[np.arange(size + more)[None] >= length[:, None] + more] = 0
        found |= {name: token, f"{name}_length": length}
    return found


# Our side: learners as the experiments build them. `evaluate` gives what inference gives.

Learners = Callable[[Any], train.Learner]


def descending(
    network, rule, loss, output, example=lambda batch: (batch["image"],), **more
) -> train.Learner:
    """`minimize` of `loss(output of training, batch) -> Mean`."""

    def step(variables, batch, rng):
        keys = {"dropout": rng("dropout")}
        out, new = network.apply(
            variables, *example(batch), train=True, mutable=["batch_stats"], rngs=keys
        )
        return train.Loss(loss(out, batch), {}, new)

    def init(key, batch):
        return network.init(key, *example(batch), train=False)

    def evaluate(variables, batch):
        return output(network.apply(variables, *example(batch), train=False))

    return train.minimize(train.Player(init, step, rule), evaluate, **more)


def classifier(name: str, dtype: Any) -> train.Learner:
    """SGD with momentum, auxiliary heads with weight 0.3."""

    def loss(out, batch):
        logits, seen = out
        error = losses.cross_entropy(logits, batch["label"])
        for head in ("aux1", "aux2"):
            if head in seen:
                error += 0.3 * losses.cross_entropy(seen[head], batch["label"])
        return Mean.of(error)

    return descending(
        models.classifier(name).build(dtype=dtype), optax.sgd(1e-3, 0.9), loss, lambda out: out[0]
    )


def segmenter(build: Callable[..., Any], dtype: Any) -> train.Learner:
    """SGD with momentum, cross-entropy of every pixel."""

    def loss(out, batch):
        return Mean.of(*losses.pixel_cross_entropy(out[0], batch["mask"]))

    return descending(build(dtype=dtype), optax.sgd(1e-3, 0.9), loss, lambda out: out[0])


def gan(dtype: Any) -> train.Learner:
    """The discriminator's update, then the generator's, Adam; inference is of the generator."""
    generator, discriminator = (
        dcgan.Generator((32, 32, 3), dtype=dtype),
        dcgan.Discriminator(dtype=dtype),
    )

    def noise(key, batch):
        return jax.random.normal(key, (len(batch["image"]), 100))

    def forward(module, variables, x):
        return module.apply(variables, x, train=True, mutable=["batch_stats"])

    def of_discriminator(own, opponent, batch, rng):
        fake, _ = forward(generator, opponent, noise(rng("noise"), batch))
        (real_logit, _), seen = forward(discriminator, own, batch["image"])
        (fake_logit, _), seen = forward(discriminator, {**own, **seen}, fake)
        return train.Loss(Mean.of(losses.minimax_discriminator(real_logit, fake_logit)), {}, seen)

    def of_generator(own, opponent, batch, rng):
        fake, seen = forward(generator, own, noise(rng("noise"), batch))
        (logit, _), _ = forward(discriminator, opponent, fake)
        return train.Loss(Mean.of(losses.nonsaturating_generator(logit)), {}, seen)

    rule = optax.adam(2e-4, b1=0.5)
    return train.alternate(
        train.Player(
            lambda key, batch: discriminator.init(key, batch["image"], train=False),
            of_discriminator,
            rule,
        ),
        train.Player(
            lambda key, batch: generator.init(key, noise(key, batch), train=False),
            of_generator,
            rule,
        ),
        lambda variables, batch: generator.apply(
            variables["generator"], noise(jax.random.key(0), batch), train=False
        ),
    )


def language_model(dtype: Any) -> train.Learner:
    """SGD, gradients clipped at 5, the state carried on."""
    size, features = LANGUAGE
    network = language.LanguageModel(size, features, features, layers=2, dtype=dtype)

    def loss(variables, batch, rng):
        logits, found = network.apply(variables, batch["inputs"], batch["carried"], train=True)
        return train.Loss(
            Mean.of(losses.cross_entropy(logits, batch["targets"])), carried=found["carry"]
        )

    def init(key, batch):
        return network.init(key, batch["inputs"])

    player = train.Player(init, loss, train.chain(optax.sgd(1.0), 5.0))

    def evaluate(variables, batch):
        return network.apply(variables, batch["inputs"])[0]

    return train.minimize(player, evaluate, lambda batch: network.begin(len(batch["inputs"])))


def translator(dtype: Any) -> train.Learner:
    """Adam, gradients clipped at 1, cross-entropy of the words that are there."""

    def loss(out, batch):
        label = batch["target"][:, 1:]
        mask = jnp.arange(label.shape[1])[None] < batch["target_length"][:, None]
        return Mean.of(losses.cross_entropy(out[0], label), mask)

    def given(batch):
        return (batch["source"], batch["source_length"], batch["target"][:, :-1])

    network = seq2seq.Translator(*TRANSLATOR, dtype=dtype)
    return descending(network, train.chain(optax.adam(1e-3), 1.0), loss, lambda out: out[0], given)


class Row(NamedTuple):
    """learner: of a dtype. twin: `twins.NAME(…)` of its module, and what comes before (batch,
    prepare, put). data: of batch and size. unit: of which there are batch examples."""

    learner: Learners
    twin: tuple[Any, ...]
    data: Callable[[int, int], dict[str, np.ndarray]]
    batch: int
    size: int


def network(ours: str, theirs: str, batch: int) -> Row:
    """A classifier of photographs."""
    return Row(functools.partial(classifier, ours), ("classifier", theirs), photographs, batch, 224)


ROWS: Mapping[str, Row] = {
    "resnet18": network("resnet18", "resnet18", 16),
    "resnet50": network("resnet50_v1_5", "resnet50", 8),
    "googlenet": network("googlenet_torchvision", "googlenet", 16),
    "alexnet": network("alexnet_torchvision", "alexnet", 32),
    "segnet": Row(
        functools.partial(segmenter, segnet.SegNet),
        ("segmenter", "SegNet"),
        functools.partial(scenes, 11),
        2,
        192,
    ),
    "unet": Row(
        functools.partial(segmenter, unet.unet_same),
        ("segmenter", "UNet"),
        functools.partial(scenes, 2),
        2,
        192,
    ),
    "dcgan": Row(gan, ("gan",), pixels, 64, 32),
    "lstm_lm": Row(language_model, ("language", *LANGUAGE), windows, 20, 35),
    "seq2seq": Row(translator, ("translator", TRANSLATOR), sentences, 64, 25),
}


class Side:
    """One of the programs that take turns, in a process of its own: `_step()` and `_infer()` do not
    wait for the device."""

    def __init__(self, clock: str):
        self._counts, self._clock = (
            {},
            {"wall": time.perf_counter, "process": time.process_time}[clock],
        )
        start = time.perf_counter()
        self._wait(self._step())
        self.first = time.perf_counter() - start

    def turn(self, what: str) -> float:
        """Seconds of one training step or one inference."""
        run = {"train": self._step, "infer": self._infer}[what]

        def several(count):
            for _ in range(count):
                out = run()
            self._wait(out)

        if what not in self._counts:
            several(1)
            self._counts[what] = max(1, min(200, round(SECONDS / seconds(lambda: several(1)))))
        return seconds(lambda: several(self._counts[what]), self._clock) / self._counts[what]

    def multiply(self) -> float:
        """Seconds of one product of square matrices."""
        self._wait(self._product())
        return min(seconds(lambda: self._wait(self._product()), self._clock) for _ in range(5))


class Ours(Side):
    """advdl."""

    def __init__(self, name: str, batch: int, size: int, precision: str, clock: str):
        train.keep_memory()
        dtype = None if precision == "float32" else jnp.dtype(precision)
        row = ROWS[name]
        self._placed = train.place("jit")(row.learner(dtype))
        self._batch, self._key = self._placed.put(row.data(batch, size)), jax.random.key(0)
        self._state = self._placed.init(self._key, self._batch)
        self._matrix = jnp.ones((PEAK_SIZE, PEAK_SIZE), dtype or jnp.float32)
        self._product = jax.jit(lambda: self._matrix @ self._matrix)
        super().__init__(clock)

    def _step(self):
        self._state, metrics = self._placed.step(self._state, self._batch, self._key)
        return self._state

    def _infer(self):
        return self._placed.evaluate(self._state, self._batch)

    def _wait(self, out):
        jax.block_until_ready(out)

    def program(self) -> Any:
        """The compiled training step, a `CompiledFunction`."""
        return self._placed.step

    def facts(self) -> dict[str, Any]:
        """parameters, seconds of compilation of the training step, MiB of memory, the device."""
        players = self._state.players.values()
        held = sum(x.nbytes for x in jax.tree.leaves((self._state, self._batch)))
        stats = jax.devices()[0].memory_stats() or {}
        memory = stats.get("peak_bytes_in_use", 0) / 2**20 or held / 2**20 + peak(
            lambda: self._wait(self._step())
        )
        return {
            "parameters": sum(x.size for player in players for x in jax.tree.leaves(player.params)),
            "compile s": self._placed.step.seconds,
            "memory MiB": memory,
            "device": jax.devices()[0].device_kind,
        }


class Theirs(Side):
    """PyTorch. way: "eager", "channels_last" or "compiled"."""

    def __init__(
        self,
        name: str,
        batch: int,
        size: int,
        precision: str,
        clock: str,
        way: str,
        keep_memory: bool,
    ):
        import torch
        import twins

        if keep_memory:
            train.keep_memory()
        warnings.simplefilter("ignore")
        self._torch, row = torch, ROWS[name]
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        last = {"memory_format": torch.channels_last} if way == "channels_last" else {}

        def prepare(module):
            module = module.to(device, **last)
            return torch.compile(module) if way == "compiled" else module

        def put(array):
            if array.ndim == 4:
                return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2))).to(
                    device, **last
                )
            return torch.from_numpy(
                array.astype(np.int64) if array.dtype == np.int32 else array
            ).to(device)

        self._data = row.data(batch, size)
        make, *given = row.twin
        if isinstance(given[0] if given else None, str) and hasattr(twins, given[0]):
            given = [getattr(twins, given[0])()]
        self._twin = getattr(twins, make)(*given, self._data, prepare, put)
        self._cast = contextlib.nullcontext
        if precision != "float32":
            self._cast = functools.partial(torch.autocast, device.type, getattr(torch, precision))
        matrix = torch.ones(PEAK_SIZE, PEAK_SIZE, device=device, dtype=getattr(torch, precision))
        self._product = lambda: matrix @ matrix
        super().__init__(clock)

    def _step(self):
        with self._cast():
            self._twin.step()

    def _infer(self):
        with self._cast():
            return self._twin.infer()

    def _wait(self, out):
        if self._torch.cuda.is_available():
            self._torch.cuda.synchronize()

    def facts(self) -> dict[str, Any]:
        """parameters (without the second bias of torch's LSTM, which is none of its own), seconds
        of the first step beyond a usual one, MiB of memory, FLOPs of a training step, the
        device."""
        torch, networks = self._torch, self._twin.networks
        named = [item for network in networks for item in network.named_parameters()]
        held = sum(2 * p.nbytes for _, p in named) + sum(x.nbytes for x in self._data.values())
        memory = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
        usual = self.turn("train")
        return {
            "parameters": sum(p.numel() for name, p in named if "bias_hh" not in name),
            "compile s": max(0.0, self.first - usual),
            "memory MiB": memory if memory is not None else held / 2**20 + peak(self._step),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        }

    def operations(self) -> int:
        """FLOPs of a training step's matrix products and convolutions."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self._step()
        return counter.get_total_flops()


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row: times of every start, and facts of the first."""
    row = ROWS[name]
    given = (
        name,
        options.batch or row.batch,
        options.size or row.size,
        options.precision,
        options.clock,
    )
    found: dict[str, Any] = {
        "row": name,
        "batch": given[1],
        "size": given[2],
        "failed": {},
        "train": [],
        "infer": [],
    }
    for start in range(options.starts):
        sides = {"ours": Apart(Ours, *given)}
        for way in options.ways:
            if way not in found["failed"]:
                try:
                    sides[way] = Apart(Theirs, *given, way, options.keep_memory)
                except RuntimeError as error:
                    found["failed"][way] = str(error).splitlines()[0]
        if start == 0:
            found["facts"] = facts = {side: apart.facts() for side, apart in sides.items()}
            counts = {side: known["parameters"] for side, known in facts.items()}
            assert len(set(counts.values())) == 1, f"{name}: {counts}"
            found["peak"] = 2 * PEAK_SIZE**3 / min(apart.multiply() for apart in sides.values())
            found["flops"] = sides["eager"].operations() if "eager" in sides else float("nan")
        for what in ("train", "infer"):
            turns = {side: functools.partial(apart.turn, what) for side, apart in sides.items()}
            found[what].append(in_turns(turns, options.rounds))
        for apart in sides.values():
            apart.close()
    return found


def milliseconds(starts: list[dict[str, list[float]]]) -> float:
    """The median of the starts' medians, of ours."""
    return statistics.median(statistics.median(times["ours"]) for times in starts) * 1e3


def compared(starts: list[dict[str, list[float]]], way: str) -> str:
    """A ratio, and its range over the starts."""
    ratios = [ratio(times[way], times["ours"]) for times in starts if way in times]
    if not ratios:
        return "–"
    spread = f" ({min(ratios):.2f}–{max(ratios):.2f})" if len(ratios) > 1 else ""
    return f"{statistics.median(ratios):.2f}{spread}"


def lines(found: dict[str, Any], ways: list[str]) -> list[str]:
    """A row of each table."""
    title = f"| {found['row']}, {found['batch']} × {found['size']} |"
    for what in ("train", "infer"):
        title += f" {milliseconds(found[what]):.1f} |"
        title += "".join(f" {compared(found[what], way)} |" for way in ways)
    rate = found["flops"] / milliseconds(found["train"]) * 1e3
    cells = [
        f"{facts['compile s']:.1f}" if side in ("ours", "compiled") else "–"
        for side, facts in found["facts"].items()
    ]
    memory = [f"{facts['memory MiB']:.0f}" for facts in found["facts"].values()]
    counted = found["facts"]["ours"]["parameters"]
    rest = (
        f"| {found['row']} | {counted:,} | {rate / 1e9:.0f} | {100 * rate / found['peak']:.0f} % | "
    )
    return [title, rest + " / ".join(cells) + " | " + " / ".join(memory) + " |"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--ways", default="eager,channels_last,compiled")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--starts", type=int, default=3, help="how often every process is started anew"
    )
    parser.add_argument(
        "--batch", type=int, default=0, help="of every row (default: each row's own)"
    )
    parser.add_argument(
        "--size", type=int, default=0, help="side of images, or tokens (default: each row's own)"
    )
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--clock",
        choices=("wall", "process"),
        default="wall",
        help="process: of all threads; other work disturbs it less",
    )
    parser.add_argument(
        "--keep-memory",
        action="store_true",
        help="give PyTorch's processes our setting of the allocator",
    )
    options = parser.parse_args()
    options.ways = options.ways.split(",")
    if unknown := [name for name in options.rows.split(",") if name not in ROWS]:
        parser.error(f"no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    if importlib.util.find_spec("torch") is None:
        parser.error("this needs PyTorch: pip install -e '.[parity]'")
    print(
        f"{machine('jax', 'flax', 'torch', 'torchvision')}, {options.precision}, {options.clock}"
        f" time, {options.starts} starts of {options.rounds} rounds"
    )
    every = [measure_and_tell(name, options) for name in options.rows.split(",")]
    heads = "".join(f" {way} / ours |" for way in options.ways)
    print(
        f"\n| ms, ratios | training step |{heads} inference |{heads}\n|---|"
        + "---|" * (2 + 2 * len(options.ways))
    )
    print("\n".join(lines(found, options.ways)[0] for found in every))
    sides = " / ".join(["ours", *options.ways])
    print(
        f"\n| training step | parameters | GFLOP/s | of the peak | compile s ({sides}) | memory MiB"
        f" ({sides}) |"
    )
    print("|---|---|---|---|---|---|")
    print("\n".join(lines(found, options.ways)[1] for found in every))


def measure_and_tell(name, options):
    """`measure`, said at once, since a whole run takes long."""
    found = measure(name, options)
    device = " and ".join(sorted({facts["device"] for facts in found["facts"].values()}))
    print(f"{device}, matrix product {found['peak'] / 1e9:.0f} GFLOP/s")
    print("\n".join(lines(found, options.ways)), flush=True)
    for way, error in found["failed"].items():
        print(f"  {way}: {error}", flush=True)
    return found


if __name__ == "__main__":
    main()
