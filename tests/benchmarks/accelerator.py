"""What one GPU has to say, in at most eight minutes.

    python tests/benchmarks/accelerator.py FOLDER [--data tfds:fashion_mnist --data-dir TFDS]
    python tests/benchmarks/accelerator.py FOLDER --table    # the tables of what was measured

`parts` lists the parts, the most valuable first. Each is a process of its own (`parts.py`), so that
one library at a time has the card, and each has a limit, as has every item of it. Results are lines
of FOLDER/results.jsonl, written as they come; compiled programs are kept in FOLDER/cache. The same
command goes on with the items that have no result. `--tiny` takes small sizes and few items, for a
CPU, where times say nothing.

Precisions are `float32`, `tf32` (JAX's default on a GPU, which PyTorch is asked for) and `bfloat16`
(PyTorch's autocast). Times follow a warmup and end when the card has finished; what compiling takes
is told apart. Errors are norms of differences over norms.
"""

import argparse
import contextlib
import functools
import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import input as reading
import jax
import jax.numpy as jnp
import layers
import numpy as np
import recurrent
import versus_torch
from jax.experimental import rnn
from parts import Part, add_arguments, read, run, show
from timing import experiment, machine, seconds

from advdl import data, metrics, models, train
from advdl.nn import LSTM, Stack, tracing
from advdl.nn.recurrent import cudnn_lstm
from advdl.train import placement

# Batches begin at 8 times the CPU's and double while rates grow by 5 %, for 12 s at most.
FIRST, GAIN, GROWING = 8, 1.05, 12.0
MATMUL = {"bfloat16": "default", "tf32": "default", "float32": "highest"}
ROWS = ["resnet50", "unet", "seq2seq", "dcgan", "googlenet", "lstm_lm", "segnet", "resnet18"]
ROWS += ["alexnet"]
RECURRENT = {"even": False, "ragged": True}  # in both directions with lengths, or in one without
# Of each experiment the first preset, made smaller where it is a comparison of many networks.
# `gan_edit.py` is not here, since it begins from a run of `gan.py`.
LEARNERS: dict[str, dict[str, Any]] = {
    "classify": {}, "translate": {}, "gan": {"data": "digits"}, "speech": {}, "segment": {},
    "language": {}, "caption": {}, "autoencode": {}, "forecast": {}, "sentiment": {},
    "gan_translate": {}, "gan_pose": {}, "long_memory": {"lags": "20"}, "parity": {"seeds": 1},
    "gan_equilibrium": {}, "depth": {"depths": "8,14", "seeds": 1},
}  # fmt: skip

Options = argparse.Namespace
Found = Iterator[dict[str, Any]]


# (a) Steps and recurrent layers beside the CPU's.


def steps(item: str, options: Options) -> Found:
    """One update from the CPU's state, on the CPU and on the card in float32: errors of the losses
    and norms, and of what the optimizer keeps of the gradients (or of the update)."""
    module, key, found, begun = experiment(item), jax.random.key(0), [], None
    config = next(iter(module.PRESETS.values())).but(**LEARNERS[item])
    splits = module.load(config)
    batch = splits.train(0)
    for device in (jax.devices("cpu")[0], jax.devices()[0]):
        # A learner of its own: JAX would take what it has traced of the other one, and so the CPU's
        # implementation of the layers. Where there is no card, XLA's stands for it.
        learner = module.build(config, splits.spec).learner
        placed = train.place("jit", devices=[device])(learner)
        given, second = placed.put(batch), begun is not None
        how = "xla" if second and device.platform == "cpu" else None
        with tracing.use(implementation=how), jax.default_matmul_precision("highest"):
            if begun is None:
                begun = jax.tree.map(np.array, jax.device_get(placed.init(key, given)))
            layout = placed.abstract(key, given)
            state = jax.tree.map(lambda x, to: jax.device_put(x, to.sharding), begun, layout)
            state, figures = jax.device_get(placed.step(state, given, key))
        figures = sorted(metrics.compute(figures).items())
        found.append(([v for k, v in figures if k.endswith(("loss", "_norm"))], []))
        for name, player in state.players.items():
            kept = [x for x in jax.tree.leaves(player.optimizer) if x.dtype.kind == "f"]
            update = jax.tree.map(np.subtract, player.params, begun[name].params)
            found[-1][1].append(kept or update)
    (norms, gradients), (own_norms, own_gradients) = found
    yield {
        "losses and norms": max(map(error, own_norms, norms)),
        "gradients": error(own_gradients, gradients),
        "compile s": placed.step.seconds,
    }


def lstm(item: str, options: Options) -> Found:
    """cuDNN's layer, our loop and XLA's, beside XLA's loop on the CPU in float32: errors of outputs
    and gradients, milliseconds of both. Ragged lengths include 0 and 1."""
    kind, precision = item.split()
    x, lengths = sequences(kind, options)
    both, features = RECURRENT[kind], x.shape[-1]
    weight = np.random.default_rng(1).standard_normal((*x.shape[:2], features * (1 + both)), "f")

    def call(*given, precision, **how):
        """cuDNN; on a CPU, what JAX keeps as its reference."""
        if jax.default_backend() != "cpu":
            return rnn.lstm(*given, precision=precision, **how)
        sizes = how["input_size"], how["hidden_size"], 1, how["bidirectional"]
        parts = rnn.unpack_lstm_weights(given[3], *sizes)
        return rnn.lstm_ref(*given[:3], *parts, given[4], *how.values())

    class Fused(LSTM):
        def kernel(self, weights, carry, x_BTD, length_B, reverse):
            return cudnn_lstm(weights, carry, x_BTD, length_B, reverse, call)

    def program(layer, how, precision, device):
        dtype = jnp.bfloat16 if precision == "bfloat16" else None
        stack = Stack(functools.partial(layer, features, dtype=dtype), bidirectional=both)

        def value(params, x):
            y, carries = stack.apply({"params": params}, x, lengths)
            return (y * weight).sum() + sum(c.sum() for c in jax.tree.leaves(carries)), y

        given, where = jax.device_put((params, x), device), device.platform
        jitted = jax.jit(jax.value_and_grad(value, (0, 1), has_aux=True))
        with tracing.use(implementation=how), jax.default_matmul_precision(MATMUL[precision]):
            compiled = placement.compiled(lambda: jitted.lower(*given), where)
        return lambda: compiled(*given)

    stack = Stack(functools.partial(LSTM, features), bidirectional=both)
    params = stack.init(jax.random.key(0), x, lengths)["params"]
    (_, y), gradients = program(LSTM, "xla", "float32", jax.devices("cpu")[0])()
    ways = {"cudnn": (Fused, "fast"), "loop": (recurrent.Looped, "fast"), "xla": (LSTM, "xla")}
    for way in list(ways)[precision == "bfloat16" :]:  # cuDNN's is for float32
        both_ways = program(*ways[way], precision, jax.devices()[0])
        (_, own_y), own = both_ways()
        errors = {"output": error(own_y, y), "gradients": error(own, gradients)}
        yield {"way": way, **errors, "ms": 1e3 * per_call(both_ways, jax.block_until_ready)}


def sequences(kind: str, options: Options) -> tuple[np.ndarray, np.ndarray | None]:
    """Inputs (B, T, H), and lengths (B,) of ragged ones."""
    rng, (batch, length, features) = np.random.default_rng(0), (64, 200, 512)
    batch, length, features = (5, 7, 8) if options.tiny else (batch, length, features)
    lengths = np.r_[0, 1, rng.integers(1, length + 1, batch - 2)].astype(np.int32)
    return rng.standard_normal((batch, length, features), "f"), lengths if RECURRENT[kind] else None


def peak(item: str, options: Options) -> Found:
    """A product of square matrices of random numbers."""
    a = jax.random.normal(jax.random.key(0), (side(options),) * 2)
    a = a.astype(jnp.bfloat16) if item == "bfloat16" else a
    product = jax.jit(functools.partial(jnp.matmul, precision=MATMUL[item]))
    taken = per_call(lambda: product(a, a), jax.block_until_ready)
    card = {"card": jax.devices()[0].device_kind, "machine": machine("jax", "flax")}
    yield {"TFLOP/s": 2e-12 * len(a) ** 3 / taken, **card}


def side(options: Options) -> int:
    """Of the matrices that the peak is measured with."""
    return 256 if options.tiny else 8192


# (b) The rows of `versus_torch.py`.


def pytorch(item: str, options: Options, ways=("eager", "channels_last")) -> Found:
    """A row's training step in PyTorch, at the batch that its eager program fills in bfloat16. Or
    the product of `peak`, or the layer of `lstm`."""
    import torch

    name, precision = item.split()
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def wait(_):
        if device.type == "cuda":
            torch.cuda.synchronize()

    if name == "peak":
        a = torch.randn((side(options),) * 2, device=device)
        a = a.to(getattr(torch, precision, torch.float32))
        yield {"TFLOP/s": 2e-12 * len(a) ** 3 / per_call(lambda: a @ a, wait)}
        return
    if name in RECURRENT:
        x, lengths = sequences(name, options)
        lengths = np.full(len(x), x.shape[1]) if lengths is None else np.maximum(lengths, 1)
        layer = torch.nn.LSTM(x.shape[-1], x.shape[-1], bidirectional=RECURRENT[name]).to(device)
        x = torch.from_numpy(x).to(device).swapaxes(0, 1).contiguous().requires_grad_()
        pack = torch.nn.utils.rnn.pack_padded_sequence

        def both_ways():
            layer.zero_grad(set_to_none=True)
            x.grad = None
            given = pack(x, lengths, enforce_sorted=False) if RECURRENT[name] else x
            with torch.autocast(device.type, torch.bfloat16, precision == "bfloat16"):
                y = layer(given)[0]
            (y.data if RECURRENT[name] else y).float().sum().backward()

        yield {"way": "torch", "ms": 1e3 * per_call(both_ways, wait)}
        return

    def measure(way, batch):
        torch.compiler.reset()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        theirs = versus_torch.Theirs(name, batch, *of_row(item, options), "wall", way, False)
        found = rated(item, theirs, way, batch, options)
        if way == "eager":  # the counter does not see into cuDNN's recurrent layers
            with torch.backends.cudnn.flags(enabled=name not in ("lstm_lm", "seq2seq")):
                found["GFLOP each"] = theirs.operations() / batch / 1e9
        if device.type == "cuda":
            found["memory MiB"] = torch.cuda.max_memory_allocated() / 2**20
        return found | {"compile s": max(0.0, theirs.first - found["ms"] / 1e3)}

    batch = batch_of(name, options)
    for way in ways:
        grow = GROWING if way == "eager" and precision == "bfloat16" and not options.tiny else 0.0
        found = filled(functools.partial(measure, way), batch, grow)
        batch = found["batch"]
        yield found


def compiled(item: str, options: Options) -> Found:
    """`pytorch` through `torch.compile`."""
    yield from pytorch(item, options, ("compiled",))


def compiling(item: str, options: Options) -> Found:
    """Compiles our training steps of several rows at once, for `ours`: most of it is done by one
    core each. A row that does not compile is told of there."""

    def ahead(one):
        row, (size, dtype) = versus_torch.ROWS[one.split()[0]], of_row(one, options)
        learner = row.learner(None if dtype == "float32" else jnp.dtype(dtype))
        placed, key = train.place("jit")(learner), jax.random.key(0)
        with contextlib.suppress(Exception):
            shapes = placed.shapes(row.data(batch_of(one.split()[0], options), size))
            placed.step.compile(placed.abstract(key, shapes), shapes, key)
        return {"row": one, "compile s, beside others": placed.step.seconds}

    with ThreadPoolExecutor(8) as pool:
        begun = [pool.submit(ahead, one) for one in parts(options)["advdl"].items]
        yield from (done.result() for done in as_completed(begun))


def ours(item: str, options: Options) -> Found:
    """A row's training step in advdl, at the batch that PyTorch's eager program fills."""

    def measure(batch):
        row = versus_torch.Ours(item.split()[0], batch, *of_row(item, options), "wall")
        found, step = rated(item, row, "advdl", batch, options), row.program()
        used = step.executable.memory_analysis()
        held = used.argument_size_in_bytes + used.temp_size_in_bytes
        held += used.output_size_in_bytes - used.alias_size_in_bytes
        return found | {"memory MiB": held / 2**20, "compile s": step.seconds}

    yield filled(measure, batch_of(item.split()[0], options), 0.0)


def rated(item: str, row: Any, way: str, batch: int, options: Options) -> dict[str, Any]:
    """What both libraries' training steps are compared by."""
    row.turn("train")
    (size, _), taken = of_row(item, options), row.turn("train")
    rate = {"images/s": batch / taken}
    if item.split()[0] in ("lstm_lm", "seq2seq"):
        rate = {"tokens/s": batch * size / taken}
    return {"way": way, "batch": batch, "size": size, "ms": 1e3 * taken, **rate}


def filled(measure: Callable[[int], dict[str, Any]], batch: int, grow: float) -> dict[str, Any]:
    """`measure(batch)`, the batch halved until memory suffices; then doubled while memory does, the
    rate grows and not more than `grow` seconds have passed."""
    best, most, until = None, float("inf"), time.monotonic() + grow
    while True:
        gc.collect()  # what the program before has held
        try:
            found = measure(batch)
        except Exception as problem:
            said = str(problem)
            if "out of memory" not in said.lower() and "RESOURCE_EXHAUSTED" not in said:
                raise
            if best or batch == 1:
                return best or {"batch": 0, "problem": said[:200]}
            batch, until = batch // 2, 0.0
            continue
        each = found["ms"] / batch
        if best and each * GAIN > most:
            return best
        best, most, batch = found, each, 2 * batch
        if time.monotonic() > until:
            return best


def batch_of(name: str, options: Options) -> int:
    """The batch that PyTorch's eager program filled, or the one to begin with."""
    eager = {"part": "torch", "item": f"{name} bfloat16", "way": "eager"}.items()
    known = [line["batch"] for line in read(options.folder) if eager <= line.items()]
    first = 2 if options.tiny else FIRST * versus_torch.ROWS[name].batch
    return known[-1] if known else first


def of_row(item: str, options: Options) -> tuple[int, str]:
    """Size of a row's examples, and the dtype."""
    name, precision = item.split()
    size = versus_torch.ROWS[name].size
    small = 32 if size > 100 else 4
    return small if options.tiny else size, "bfloat16" if precision == "bfloat16" else "float32"


# (c) The CPU's formulations beside XLA's own.


def formulations(item: str, options: Options) -> Found:
    """Forward and backward of a layer in both, and by how much they differ."""
    name, precision = item.rsplit(" ", 1)
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    use, found, values = placement.compiler_options(jax.default_backend()), {}, []
    for how in ("fast", "xla"):
        case = functools.partial(layers.CARD[name], dtype, 2 if options.tiny else 0)
        f, given = layers.compiled(lambda _, case=case: case(), True, how, use)
        values.append(f(*given))
        found[f"{how} ms"] = 1e3 * per_call(functools.partial(f, *given), jax.block_until_ready)
    ratio = found["xla ms"] / found["fast ms"]
    yield {**found, "xla / fast": ratio, "difference": error(*values)}


# (d) Time to accuracy.


def accuracy(item: str, options: Options) -> Found:
    """ResNet-20 by the recorded recipe of `classify.py` for Fashion-MNIST (92.85 % after 3,750
    updates): data and augmentation on the card, updates in a `scan`, test accuracy in between. With
    `--data digits`, scikit-learn's 8×8 digits take the place of Fashion-MNIST."""
    module, (count, calls) = experiment("classify"), (6, 2) if options.tiny else (375, 10)
    config = module.PRESETS["laptop"].but(
        data=options.data, data_dir=options.data_dir, validation=0.0, crop=2, flip=True,
        steps=count * calls, warmup=count * calls // 75, precision=item.replace("tf32", "float32"),
    )  # fmt: skip
    config = config.but(model="resnet8", batch=16) if options.tiny else config
    splits = module.load(config)
    learner, key = module.build(config, splits.spec).learner, jax.random.key(0)
    source, test, border = splits.train.source, splits.evaluations["test"], config.crop
    look = config.preprocessing(False, models.classifier(config.model).build().pixels)
    ends = [np.full((1, *source.image_shape), value, np.uint8) for value in (0, 255)]
    low, high = (look.normalize()({"image": image})["image"] for image in ends)
    batches = [test[number] for number in range(len(test))]
    held = jax.device_put(dict(source.read(np.arange(len(source)))))
    kept = jax.device_put(jax.tree.map(lambda *part: np.stack(part), *batches))

    def batch(held, rows, key):
        keys, edge = jax.random.split(key), (border, border)
        corner = jax.random.randint(keys[0], (len(rows), 2), 0, 2 * border + 1)
        image = jnp.pad(held["image"][rows], ((0, 0), edge, edge, (0, 0)))
        image = jax.vmap(
            lambda image, at: jax.lax.dynamic_slice(image, (*at, 0), source.image_shape)
        )(image, corner)
        mirrored = jax.random.bernoulli(keys[1], 0.5, (len(rows), 1, 1, 1))
        image = jnp.where(mirrored, image[:, :, ::-1], image)
        return {"image": low + (high - low) / 255 * image, "label": held["label"][rows]}

    def several(state, held, key):
        def step(state, rows):
            own = batch(held, rows, jax.random.fold_in(key, state.step))
            return learner.step(state, own, key)[0], None

        epochs = -(-count * config.batch // len(source))
        keys = jax.random.split(jax.random.fold_in(key, -1 - state.step), epochs)
        rows = jax.vmap(lambda key: jax.random.permutation(key, len(source)))(keys).reshape(-1)
        return jax.lax.scan(step, state, rows[: count * config.batch].reshape(count, -1))[0]

    def measured(state, kept):
        found = jax.lax.map(lambda part: learner.evaluate(state, part), kept)
        return jax.tree.map(lambda x: x.sum(0), found)

    state = jax.jit(learner.init)(key, batch(held, np.arange(config.batch), key))
    platform, start = jax.default_backend(), time.perf_counter()
    update = jax.jit(several, donate_argnums=0)
    update = placement.compiled(functools.partial(update.lower, state, held, key), platform)
    evaluate = functools.partial(jax.jit(measured).lower, state, kept)
    evaluate = placement.compiled(evaluate, platform)
    yield {"data": source.name, "compile s": time.perf_counter() - start}
    start = time.perf_counter()
    for number in range(calls):
        state = update(state, held, key)
        reached = metrics.compute(jax.device_get(evaluate(state, kept)))["accuracy"]
        passed = time.perf_counter() - start
        yield {"updates": count * (number + 1), "seconds": passed, "accuracy": reached}


# (e) The input pipeline against the step.


def pipeline(item: str, options: Options) -> Found:
    """The loop of `train` in bfloat16, and the share of it that waits for data: photographs read
    from files for ResNet-50, small images in memory for ResNet-20."""
    where, given = item.split()
    size, count, threads = 128, 60, os.cpu_count() or 1 if given == "all" else int(given)
    network = {"photographs": "resnet50_v1_5", "memory": "resnet20"}[where]
    size, count, network = (2, 4, "resnet8") if options.tiny else (size, count, network)
    with tempfile.TemporaryDirectory() as folder:
        if where == "photographs":
            batches = reading.photographs(4 * size, Path(folder), size)
        else:
            rng = np.random.default_rng(0)
            image = rng.integers(0, 256, (5000, 32, 32, 3), np.uint8)
            arrays = {"image": image, "label": rng.integers(0, 10, len(image))}
            change = data.compose(data.random_crop(4), data.random_flip(), data.to_float(-1.0, 1.0))
            batches = data.TrainBatches(data.ArraySource("", "train", arrays), size, 0, change)
        placed = train.place("jit")(versus_torch.classifier(network, jnp.bfloat16))
        key, batch = jax.random.key(0), placed.put(batches(0))

        def stream(start, stop):
            return data.prefetch(batches, start, stop, threads, 2 * threads + 2, placed.put)

        with contextlib.closing(stream(0, 10**6)) as alone:
            next(alone)
            read_alone = seconds(lambda: [next(alone) for _ in range(count)]) / count
        states = [placed.init(key, batch)]

        def step():
            states.append(placed.step(states.pop(), batch, key)[0])
            return states[0]

        step_alone = per_call(step, jax.block_until_ready)
        outcome = train.fit(placed, placed.init(key, batch), stream, key, count, size)
    rates = {"pipeline": read_alone, "step": step_alone, "loop": outcome.seconds / count}
    rates = {f"{name} images/s": size / each for name, each in rates.items()}
    yield {"threads": threads, **rates, "waiting %": 100 * outcome.waited / outcome.seconds}


# What the parts share.


def error(found: Any, reference: Any) -> float:
    """The norm of the difference of two trees over that of the second."""

    def flat(tree):
        leaves = jax.tree.leaves(jax.device_get(tree))
        return np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in leaves])

    a, b = flat(found), flat(reference)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))


def per_call(call: Callable[[], Any], wait: Callable[[Any], Any]) -> float:
    """Seconds of a call: of as many in a row as take .2 s, the least of three times."""

    def several(count):
        for _ in range(count):
            out = call()
        wait(out)

    several(1)
    count = max(1, min(1000, round(0.2 / seconds(lambda: several(1)))))
    return min(seconds(lambda: several(count)) for _ in range(3)) / count


# The parts, and what they found.


def parts(options: Options) -> dict[str, Part]:
    """All parts; limits are of eight minutes in all."""

    def crossed(names, precisions):
        return [f"{name} {precision}" for precision in precisions.split() for name in names]

    cache = options.folder / "cache"
    jax_has_it = {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": ".9",
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", str(cache)),
    }
    torch_has_it = {"JAX_PLATFORMS": "cpu", "TORCHINDUCTOR_CACHE_DIR": str(cache / "torch")}
    rows, every = crossed(ROWS, "bfloat16 tf32"), "float32 tf32 bfloat16"
    small = crossed(["peak", *RECURRENT], every)
    photographs = ["photographs all", "memory 1", "photographs 4"]
    found = {
        "steps": Part(90, 45, list(LEARNERS), steps, jax_has_it),
        "lstm": Part(50, 30, crossed(RECURRENT, every), lstm, jax_has_it),
        "peak": Part(15, 10, list(MATMUL), peak, jax_has_it),
        "torch": Part(60, 40, small + rows, pytorch, torch_has_it),
        "compiling": Part(60, 60, ["rows"], compiling, jax_has_it),
        "advdl": Part(50, 40, rows, ours, jax_has_it),
        "formulations": Part(
            40, 20, crossed(layers.CARD, "bfloat16 tf32"), formulations, jax_has_it
        ),
        "accuracy": Part(60, 60, ["bfloat16", "tf32"], accuracy, jax_has_it),
        "input": Part(25, 20, photographs, pipeline, jax_has_it),
        "compiled": Part(30, 60, rows, compiled, torch_has_it),
    }
    tiny = {
        "steps": ["long_memory"], "lstm": ["ragged tf32"], "peak": ["bfloat16"], "advdl": TINY,
        "torch": ["peak bfloat16", "ragged tf32", *TINY], "compiled": TINY,
        "formulations": ["batch norm bfloat16"], "accuracy": ["bfloat16"], "input": ["memory 1"],
    }  # fmt: skip
    small_run = {name: found[name]._replace(items=items) for name, items in tiny.items()}
    return found | small_run if options.tiny else found


TINY = ["lstm_lm bfloat16", "lstm_lm tf32"]


def table(options: Options) -> None:
    """Prints what every part found, and the rows of both libraries side by side."""
    lines, rows, best = read(options.folder), {}, {}
    for name in parts(options):
        own = [line for line in lines if line["part"] == name]
        print(f"\n{name}: {sum(line.get('took', 0) for line in own):.0f} s\n")
        results = [line for line in own if "status" not in line and "error" not in line]
        show([{k: v for k, v in line.items() if k != "part"} for line in results])
        told = [line for line in own if "error" in line]
        print("".join(f"- {line.get('item', name)}: {line['error']}\n" for line in told), end="")
    for line in lines:
        if "TFLOP/s" in line:
            precision = line["item"].split()[-1]
            best[precision] = max(best.get(precision, 0.0), line["TFLOP/s"])
        if line.get("batch"):
            rows.setdefault(line["item"], {})[line["way"]] = line
    print("\nPyTorch's time of an example over ours, and our share of the faster product\n")
    show([beside(item, ways, best) for item, ways in rows.items() if "advdl" in ways])


def beside(item: str, ways: dict[str, Any], best: dict[str, float]) -> dict[str, Any]:
    """A row of both libraries: above 1 we are faster."""
    each = {way: line["ms"] / line["batch"] for way, line in ways.items()}
    found = {k: v for k, v in ways["advdl"].items() if k in ("item", "batch") or k.endswith("s/s")}
    found |= {way: time / each["advdl"] for way, time in each.items() if way != "advdl"}
    if "eager" in ways and (limit := best.get(item.split()[1])):
        found["of the peak %"] = 100 * ways["eager"]["GFLOP each"] / each["advdl"] / limit
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="print what FOLDER has, and no more")
    parser.add_argument("--data", default="digits", help="of accuracy, as classify.py takes it")
    parser.add_argument("--data-dir", help="of accuracy, as classify.py takes it")
    parser.add_argument("--tiny", action="store_true", help="small sizes and few items")
    add_arguments(parser)
    options = parser.parse_args()
    if not options.part:
        jax.config.update("jax_platforms", "cpu")  # the card is for the parts' processes
    if unknown := set(options.only) - set(parts(options)):
        parser.error(f"no part {unknown.pop()!r}; there are {', '.join(parts(options))}")
    if not options.table:
        run(parts(options), options)
    if not options.part:
        table(options)


if __name__ == "__main__":
    main()
