"""Where a learner runs: `mesh` on named axes data × fsdp × model, `jit` on a mesh of one device,
`pmap` on replicas.

A placement turns a learner into one that runs somewhere, with the same three functions and the same
numbers. The step is written once; what replicas must agree on it asks of `advdl.nn.replica`.
"""

import contextlib
import functools
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from advdl.errors import UserError, nearest
from advdl.memory import check_fits, host_memory
from advdl.nn import replica, tracing
from advdl.ranges import COUNTS, whole_number
from advdl.train import hosts
from advdl.train.learner import Batch, Key, Learner, State

AXES = (*replica.SPLIT, "model")
Rule = tuple[str, PartitionSpec]
Device: TypeAlias = Any  # jax.Device, whose class type checkers cannot see
Devices = Sequence[Device] | None


class CompiledFunction:
    """A function compiled at its first call with a batch of some shape, and only run afterwards:
    one program a shape.

    `seconds` is what tracing and compiling took in all, `executable` the first of JAX's compiled
    programs (cost and memory analysis).
    """

    def __init__(self, lower: Callable[..., Any], platform: str):
        """`lower(first, second, …)`: the traced program, as `jax.jit(f).lower` gives it, for
        devices of this platform. Batches are the second argument."""
        self._lower, self._platform = lower, platform
        self._programs: dict[Any, Any] = {}
        self._fitting: set[Any] = set()
        self.seconds = 0.0

    @property
    def executable(self) -> Any:
        """None before the first call."""
        return next(iter(self._programs.values()), None)

    def compile(self, *arguments) -> Any:
        """The program for a batch of this shape, compiled if that is still to be done."""
        shape = tuple((x.shape, x.dtype) for x in jax.tree.leaves(arguments[1]))
        if shape not in self._programs:
            start = time.perf_counter()
            program = compiled(lambda: self._lower(*arguments), self._platform)
            self.seconds += time.perf_counter() - start
            self._programs[shape] = program
            hosts.barrier("compiled")
        return self._programs[shape]

    def fitting(self, *arguments) -> Any:
        """The program, which fits in memory. Raises UserError where it does not. Shapes will do."""
        program = self.compile(*arguments)
        if program not in self._fitting:
            leaves = jax.tree.leaves((arguments[1], arguments[0]))  # the batch, and what it is for
            placed = (x.sharding.device_set for x in leaves if hasattr(x, "sharding"))
            _check_program(program, next(placed, set(jax.local_devices()[:1])))
            self._fitting.add(program)
        return program

    def __call__(self, *arguments):
        result = self.fitting(*arguments)(*arguments)
        if _simulated_devices():
            jax.block_until_ready(result)
        return result


class CompiledLearner(NamedTuple):
    """A learner in its place.

    init, step, evaluate: as `Learner`'s, compiled; `step` consumes the state it is given (its
      buffers are reused).
    functions: those of the learner, `(state, batch, **settings) -> tree of (B, …)`, laid out as the
      batch is, and compiled at their first call for each shape and each setting.
    ways: how many equal parts a batch is split into, over all processes.
    put: host batch (this process's part) -> device batch, laid out as `step` and `evaluate` want
      it.
    shapes: the same of the shapes of a whole batch, over all processes: what `step.compile` needs
      to know of one.
    abstract: `(key, batch) -> state` of shapes with shardings, for restoring without making one.
    part: `() -> (number, parts)`: which of how many equal parts of a batch this process's devices
      hold, see `data.ShardedBatches`.
    """

    init: CompiledFunction
    step: CompiledFunction
    evaluate: CompiledFunction
    functions: Mapping[str, Callable[..., Any]]
    ways: int
    put: Callable[[Mapping[str, Any]], Batch]
    shapes: Callable[[Batch], Batch]
    abstract: Callable[[Key, Batch], State]
    part: Callable[[], tuple[int, int]]


Placement = Callable[[Learner], CompiledLearner]


def place(
    name: str, mesh: str = "", rules: Sequence[Rule] = (), devices: Devices = None
) -> Placement:
    """The placement called `jit`, `pmap` or `mesh`; `mesh` as in `"data=2,fsdp=2"` (default: all
    devices on data).

    devices: those to take, by default all there are. For devices that are not there, those of a
    topology, `abstract`, `shapes` and `compile` can be called and nothing else.

    Raises UserError for a mesh that does not fit, an unknown axis, or a mesh given to another
    placement.
    """
    if name == "mesh":
        return on_mesh(
            parse_mesh(mesh) if mesh else {"data": len(devices or all_devices())}, rules, devices
        )
    if mesh:
        raise UserError(
            f"--mesh {mesh} was given with --placement {name}; a mesh needs --placement mesh"
        )
    return functools.partial({"jit": jit, "pmap": pmap}[name], devices=devices)


def all_devices() -> list[Device]:
    """The devices that a placement takes where nothing else is asked for: all, of every process."""
    try:
        return jax.devices()
    except RuntimeError as error:
        raise UserError(f"{error}; install what it needs, or change JAX_PLATFORMS") from error


def parse_mesh(text: str) -> dict[str, int]:
    """`"data=2,fsdp=2"` -> `{"data": 2, "fsdp": 2}`. Raises UserError naming what does not
    parse."""
    sizes: dict[str, int] = {}
    for part in text.split(","):
        axis, _, size = part.partition("=")
        axis = axis.strip()
        if axis not in AXES:
            raise UserError(
                f"no mesh axis {axis!r}; the axes are {', '.join(AXES)}{nearest(axis, AXES)}"
            )
        if axis in sizes:
            raise UserError(f"mesh axis {axis!r} is given twice in {text!r}")
        if (count := whole_number(size, COUNTS)) is None:
            raise UserError(
                f"mesh axis {axis!r} has size {size!r}; expected a positive integer, as in"
                " data=2,fsdp=2"
            )
        sizes[axis] = count
    return sizes


def jit(learner: Learner, devices: Devices = None) -> CompiledLearner:
    """On the first device: a mesh of one."""
    return on_mesh({"data": 1}, devices=list(devices or jax.local_devices())[:1])(learner)


def on_mesh(
    sizes: Mapping[str, int], rules: Sequence[Rule] = (), devices: Devices = None
) -> Placement:
    """On a mesh with axes `data`, `fsdp`, `model` of these sizes (1 where not given).

    The batch is split over data × fsdp. Each state leaf follows the first rule whose regular
    expression is found in its path (`players/model/params/Dense_0/kernel`); a leaf that no rule
    names is split over `fsdp` along its largest dimension that divides, and whole on every device
    where none does. What is carried from batch to batch is split as the batch is. Parameters are
    born sharded.

    Raises UserError for an unknown axis, more devices than there are, a batch that does not divide,
    or a rule that does not fit the leaf it names.
    """
    if unknown := [axis for axis in sizes if axis not in AXES]:
        raise UserError(f"no mesh axis {unknown[0]!r}; the axes are {', '.join(AXES)}")
    shape = tuple(sizes.get(axis, 1) for axis in AXES)
    devices = devices or jax.devices()
    need, have = math.prod(shape), len(devices)
    given = ",".join(f"{axis}={size}" for axis, size in sizes.items())
    if need > have:
        raise UserError(
            f"mesh {given} needs {need} devices and there are {have}; take smaller axes or more"
            " devices"
        )
    if len({device.process_index for device in devices}) > 1 and need < have:
        raise UserError(
            f"mesh {given} covers {need} of {have} devices; over several processes it must"
            " cover all"
        )
    mesh = jax.make_mesh(
        shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices[:need]
    )
    over_batch = NamedSharding(mesh, PartitionSpec(replica.SPLIT))

    def shardings(state):
        spread = jax.tree.map_with_path(
            lambda path, leaf: NamedSharding(mesh, _spec(path, leaf, mesh, rules)), state
        )
        return spread.replace(carried=jax.tree.map(lambda _: over_batch, state.carried))

    ways = shape[0] * shape[1]

    def check(size):
        _check_divides(size, ways, f"mesh {given}", "data × fsdp")

    def layout(path, leaf):
        spec = _spec(path, leaf, mesh, rules)
        together = PartitionSpec(*[None if axis == "fsdp" else axis for axis in spec])
        return NamedSharding(mesh, together), NamedSharding(mesh, spec)

    @contextlib.contextmanager
    def within():
        with jax.set_mesh(mesh), tracing.use(layout=layout):
            yield

    whole = NamedSharding(mesh, PartitionSpec())
    return lambda learner: _jitted(
        learner, devices[0].platform, shardings, over_batch, whole, check, within, ways
    )


def pmap(learner: Learner, devices: Devices = None) -> CompiledLearner:
    """A replica on every device, kept for those who run it; JAX keeps `pmap` in maintenance and
    `mesh` leads.

    What is carried from batch to batch is (B, …) here too, so that a checkpoint is that of every
    placement.
    """
    everywhere = jax.devices() if devices is None else devices
    mesh = Mesh(np.array(everywhere), (replica.AXIS,))
    whole, over_batch = (
        NamedSharding(mesh, PartitionSpec()),
        NamedSharding(mesh, PartitionSpec(replica.AXIS)),
    )
    mapped = functools.partial(jax.pmap, axis_name=replica.AXIS, devices=devices)
    axes: tuple[Any, Any, Any] = (None, None, 0)
    state_axes = State(*axes)
    init = mapped(learner.init, in_axes=(None, 0), out_axes=state_axes)
    step = mapped(
        learner.step, in_axes=(state_axes, 0, None), out_axes=(state_axes, None), donate_argnums=0
    )
    evaluate = mapped(learner.evaluate, in_axes=(state_axes, 0), out_axes=None)

    def dealt(tree, ways=None):
        ways = len(everywhere) if ways is None else ways
        return jax.tree.map(lambda x: x.reshape(ways, x.shape[0] // ways, *x.shape[1:]), tree)

    def to_replicas(state):
        return state.replace(carried=dealt(state.carried))

    def from_replicas(state):
        return state.replace(
            carried=jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), state.carried)
        )

    def check(size):
        _check_divides(size, len(everywhere), f"{len(everywhere)} devices", "replicas")

    part = functools.cache(functools.partial(_part, over_batch, len(everywhere)))

    def put(batch):
        check(_size(batch) * part()[1])
        return jax.make_array_from_process_local_data(
            over_batch, dealt(batch, jax.local_device_count())
        )

    def shapes(batch):
        check(_size(batch))
        return jax.eval_shape(dealt, batch)

    def abstract(key, batch):
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), batch)
        state = jax.eval_shape(learner.init, key, one)

        def times(x):
            return jax.ShapeDtypeStruct((len(everywhere) * x.shape[0], *x.shape[1:]), x.dtype)

        return _sharded(state.replace(carried=jax.tree.map(times, state.carried)), layout)

    def layout(state):
        return jax.tree.map(lambda _: whole, state).replace(
            carried=jax.tree.map(lambda _: over_batch, state.carried)
        )

    def lower_init(key, batch):
        born = abstract(key, batch)
        if not born.carried:
            return init.lower(key, batch)
        return jax.jit(
            lambda *given: from_replicas(init(*given)), out_shardings=layout(born)
        ).lower(key, batch)

    def lower_step(state, batch, key):
        if not state.carried:
            return step.lower(state, batch, key)

        def around(state, batch, key):
            state, metrics = step(to_replicas(state), batch, key)
            return from_replicas(state), metrics

        return jax.jit(around, out_shardings=(layout(state), whole), donate_argnums=0).lower(
            state, batch, key
        )

    def lower_evaluate(state, batch):
        if not state.carried:
            return evaluate.lower(state, batch)
        return jax.jit(
            lambda state, batch: evaluate(to_replicas(state), batch), out_shardings=whole
        ).lower(state, batch)

    def lower_function(function, state, batch):
        applied = mapped(function, in_axes=(state_axes, 0), out_axes=0)

        def around(state, batch):
            found = applied(to_replicas(state), batch)
            return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)

        return jax.jit(around, out_shardings=over_batch).lower(state, batch)

    once = functools.partial(CompiledFunction, platform=everywhere[0].platform)
    return CompiledLearner(
        once(lower_init),
        once(lower_step),
        once(lower_evaluate),
        _compiled(learner, lower_function, once),
        len(everywhere),
        put,
        shapes,
        abstract,
        part,
    )


Option: TypeAlias = tuple[str, str | bool]
EIGEN: Option = ("xla_cpu_experimental_ynn_fusion_type", "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT")
ONEDNN: Option = ("xla_cpu_experimental_onednn_custom_call", True)


def compiled(lower: Callable[[], Any], platform: str) -> Any:
    """The program that `lower()` traces (`jax.jit(f).lower(…)`), traced and compiled for devices
    of this platform by its `compiler_options`. Without convolutions there is nothing for oneDNN,
    and with loops XLA would spend three times as long on looking for it."""
    options = compiler_options(platform)
    with tracing.use(platform=platform, onednn=ONEDNN[0] in options):
        lowered = lower()
    if ONEDNN[0] in options and "stablehlo.convolution" not in lowered.as_text():
        del options[ONEDNN[0]]
    return lowered.compile(compiler_options=options)


def compiler_options(platform: str) -> dict[str, str | bool]:
    """The compiler options for this platform; one place for all placements.

    On CPU, matrix products keep XLA's default library. Convolutions take XLA's Eigen path, about
    twice as fast here for 3×3 and 1×1 kernels, forward and backward
    (`tests/benchmarks/layers.py`); or oneDNN's, faster still, where JAX has them (0.12 on Linux
    x86-64) and compiled programs are not kept from one start to the next, which JAX cannot do with
    them.
    """
    if platform != "cpu":
        return {}
    options = {} if _convolution(*EIGEN) is None else dict([EIGEN])
    cache = jax.config.values
    kept = cache["jax_enable_compilation_cache"] and cache["jax_compilation_cache_dir"]
    return options if kept or not _takes_onednn() else options | dict([ONEDNN])


@functools.cache
def _convolution(name: str, value: str | bool) -> str | None:
    """A convolution compiled with this option; None where this jaxlib does not know it, as those
    above are experimental."""
    shapes = (1, 8, 4, 4), (8, 8, 3, 3)
    with jax.default_device(jax.devices("cpu")[0]):
        x, kernel = (jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes)
        lowered = jax.jit(lambda x, w: lax.conv(x, w, (1, 1), "SAME")).lower(x, kernel)
        try:
            return lowered.compile(compiler_options={name: value}).as_text()
        except Exception:
            return None


def _takes_onednn() -> bool:
    return "__onednn$convolution" in (_convolution(*ONEDNN) or "")


@functools.cache
def _simulated_devices() -> bool:
    """Several devices simulated on one CPU: they share its few threads, and the collectives of two
    programs in flight can then wait for each other for ever, so a program must end before the next
    one starts."""
    return jax.default_backend() == "cpu" and jax.local_device_count() > 1


def _jitted(
    learner: Learner, platform, state_sharding, batch_sharding, whole, check, within, ways
) -> CompiledLearner:
    """Through `jax.jit`: `state_sharding(shapes)` lays out the state, `check(size)` refuses a batch
    of so many examples that does not fit, `within()` is the context to trace in, which tells layers
    of the mesh, and the batch is split `ways`."""

    def abstract(key, batch):
        return _sharded(jax.eval_shape(learner.init, key, batch), state_sharding)

    def layout(state):
        return jax.tree.map(lambda leaf: leaf.sharding, state)

    def init(key, batch):
        born = layout(abstract(key, batch))
        jitted = jax.jit(learner.init, in_shardings=(whole, batch_sharding), out_shardings=born)
        with within():
            return jitted.lower(key, batch)

    def step(state, batch, key):
        inputs, outputs = (layout(state), batch_sharding, whole), (layout(state), whole)
        jitted = jax.jit(learner.step, in_shardings=inputs, out_shardings=outputs, donate_argnums=0)
        with within():
            return jitted.lower(state, batch, key)

    def evaluate(state, batch):
        jitted = jax.jit(
            learner.evaluate, in_shardings=(layout(state), batch_sharding), out_shardings=whole
        )
        with within():
            return jitted.lower(state, batch)

    part = functools.cache(functools.partial(_part, batch_sharding, ways))

    def put(batch):
        check(_size(batch) * part()[1])
        return jax.make_array_from_process_local_data(batch_sharding, batch)

    def shapes(batch):
        check(_size(batch))
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=batch_sharding), batch
        )

    def lower_function(function, state, batch):
        jitted = jax.jit(
            function, in_shardings=(layout(state), batch_sharding), out_shardings=batch_sharding
        )
        with within():
            return jitted.lower(state, batch)

    once = functools.partial(CompiledFunction, platform=platform)
    functions = _compiled(learner, lower_function, once)
    return CompiledLearner(
        once(init), once(step), once(evaluate), functions, ways, put, shapes, abstract, part
    )


def _compiled(
    learner: Learner, lower: Callable[..., Any], once: Callable[..., CompiledFunction]
) -> Any:
    """The learner's functions, each with settings as constants of a program of its own."""

    def compiled(function):
        @functools.cache
        def program(settings):
            fixed = functools.partial(function, **dict(settings))
            return once(functools.partial(lower, fixed))

        return lambda state, batch, **settings: program(tuple(sorted(settings.items())))(
            state, batch
        )

    return {name: compiled(function) for name, function in learner.functions.items()}


def _part(sharding, ways: int) -> tuple[int, int]:
    """Which of how many parts of a batch that is split so many ways lie on this process's devices.
    Processes whose devices hold the same rows, such as those that share a model, read the same
    part."""
    rows: dict[int, set[int]] = {}
    for device, (held,) in sharding.devices_indices_map((ways,)).items():
        rows.setdefault(device.process_index, set()).add(held.start or 0)
    parts = sorted(map(sorted, {frozenset(held) for held in rows.values()}))
    return parts.index(sorted(rows[jax.process_index()])), len(parts)


def _sharded(shapes, state_sharding):
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        state_sharding(shapes),
    )


def _spec(path, leaf, mesh: Mesh, rules: Sequence[Rule]) -> PartitionSpec:
    name = path_name(path)
    for pattern, spec in rules:
        if re.search(pattern, name):
            try:
                NamedSharding(mesh, spec).shard_shape(leaf.shape)
            except (ValueError, IndexError):
                raise UserError(
                    f"sharding rule ({pattern!r}, {spec}) does not fit {name} of shape {leaf.shape}"
                    f" on mesh {dict(mesh.shape)}"
                ) from None
            return spec
    ways = mesh.shape["fsdp"]
    largest = max(
        (d for d in range(len(leaf.shape)) if leaf.shape[d] % ways == 0),
        key=lambda d: leaf.shape[d],
        default=None,
    )
    if ways == 1 or largest is None or leaf.shape[largest] == 0:
        return PartitionSpec()
    return PartitionSpec(*[None] * largest, "fsdp")


def path_name(path) -> str:
    """A tree path as `players/model/params/Dense_0/kernel`."""
    return "/".join(
        str(getattr(part, "key", getattr(part, "name", getattr(part, "idx", part))))
        for part in path
    )


def bytes_held(tree: Any) -> float:
    """Bytes of a device's part of every leaf, which may be a shape; all where it does not say."""

    def held(leaf):
        dims = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding is not None else leaf.shape
        return math.prod(dims) * leaf.dtype.itemsize

    return sum(map(held, jax.tree.leaves(tree)))


SMALLER = "take a smaller network, smaller examples or a smaller --batch"


def check_memory(state: State, batch: Batch) -> None:
    """Raises UserError for a state and a batch, both by their shapes, that do not fit in memory."""
    memory = _memory_of(jax.tree.leaves(state)[0].sharding.device_set)
    for what, tree in (("the network with its optimizer", state), ("a batch", batch)):
        check_fits(bytes_held(tree), what, SMALLER, memory)


def _check_program(program: Any, devices: set[Device]) -> None:
    if (used := program.memory_analysis()) is not None:
        total = used.argument_size_in_bytes + used.output_size_in_bytes + used.temp_size_in_bytes
        total -= used.alias_size_in_bytes
        check_fits(total, "the compiled program", SMALLER, _memory_of(devices))


def _memory_of(devices: set[Device]) -> float:
    """Bytes that each of these devices has; those on one CPU share its memory."""
    own = [device for device in devices if device.process_index == jax.process_index()]
    stats = own[0].memory_stats() or {}
    return stats.get("bytes_limit") or host_memory() / len(own)


def _size(batch) -> int:
    return jax.tree.leaves(batch)[0].shape[0]


def _check_divides(size: int, ways: int, where: str, over: str) -> None:
    if size % ways:
        raise UserError(
            f"a batch of {size} examples does not divide over {ways} {over} ({where}); take a"
            f" multiple of {ways}"
        )
