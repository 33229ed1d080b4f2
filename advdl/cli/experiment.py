"""What an experiment hands to the command line, and the same put in its place."""

import contextlib
import dataclasses
import functools
import pathlib
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advdl import data, present, reports, train
from advdl.cli.config import Config
from advdl.errors import UserError

SPEC = "spec.json"


class Experiment(NamedTuple):
    """What `build(config, spec)` returns.

    learner: how it learns.
    report: `trained -> page`, of `reports.Trained`; the `present.Page` is what report.html shows,
      beside figures and settings; None shows these alone.
    predict: `(trained, options, folder) -> results`, which are printed; files go to `folder`.
      options: what the experiment adds to `cli.Predict`, such as files.
    snapshot: `trained -> None` draws a picture at step 0 and at every evaluation.
    monitor: the figure whose best checkpoint is kept, such as `"val/loss"`, and "max" or "min".
    warm_start: what players begin with, see `train.WarmStart`.
    baselines: `splits -> figures` of trivial and classic methods, for `evaluate --baselines`.
    bench: `splits -> figures` that `bench` prints beside its own.
    units: `batch -> {"tokens": …}`: what a batch holds beside examples, padding not counted; so
      many a second are printed by `bench`, and of the first at most by `plan`.
    rules: sharding rules for a mesh, see `advdl.train.placement.on_mesh`.
    alarms: conditions on the metrics of training that are reported when they hold.
    ready: whether the players, as `warm_start` leaves them, are what `evaluate` measures; no run is
      read.
    statistics: `(measure, count)` where a state is evaluated and used with statistics that are
      averaged over so many training batches, see `advdl.train.statistics`. They are written beside
      each checkpoint.
    """

    learner: train.Learner
    report: Callable[..., present.Page | Sequence[present.Section] | None] = lambda _: None
    predict: Callable[..., Mapping[str, Any]] | None = None
    snapshot: Callable[..., None] | None = None
    monitor: tuple[str, str] | None = None
    warm_start: Mapping[str, train.WarmStart] = {}
    baselines: Callable[..., Mapping[str, Any]] | None = None
    bench: Callable[..., Mapping[str, Any]] | None = None
    units: Callable[[Any], Mapping[str, float]] = lambda batch: {}
    rules: Sequence[tuple[str, jax.sharding.PartitionSpec]] = ()
    alarms: Sequence[train.Alarm] = ()
    ready: bool = False
    statistics: tuple[Callable[[train.Variables, Any], train.Variables], int] | None = None


Load = Callable[[Any], data.Splits]
Build = Callable[[Any, Any], Experiment]


def spec_of(build: Build, stored: Mapping[str, Any], file: Any = SPEC) -> data.Spec:
    """The spec that was stored, of the kind that `build` is annotated with. Raises UserError."""
    kind = typing.get_type_hints(build).get("spec")
    kind = kind if isinstance(kind, type) and issubclass(kind, data.Spec) else data.Spec
    return kind.from_json(stored.get("spec"), file)


def devices_of(state: train.State) -> str:
    """The number and the kind of the devices that hold a state."""
    devices = jax.tree.leaves(state)[0].sharding.device_set
    return f"{len(devices)} × {next(iter(devices)).device_kind}"


class Session:
    """An experiment in its place: everything known before there is a state.

    The data is opened when it is first asked for: to train, or to evaluate. A run that was stored
    has its spec and the shapes of its batches in `spec.json`, and needs no data for a prediction.
    """

    def __init__(self, name: str, config: Config, run: train.Run, load: Load, build: Build):
        """Raises UserError for what does not fit."""
        self.name, self.config, self.run = name, config, run
        train.place(config.placement, config.mesh)  # an impossible mesh is refused first
        stored = run.read(SPEC)
        self.splits = load(config)
        if stored is not None:
            self.splits.given(spec_of(build, stored, run.folder / SPEC))
        self._stored = stored
        self.experiment = build(config, self.splits.spec)
        self.key_init, self.key = jax.random.split(jax.random.key(config.seed))
        self.placement = train.place(config.placement, config.mesh, self.experiment.rules)
        self.placed = self.placement(
            train.multi_step(self.experiment.learner, config.steps_per_call)
        )
        self._measured: tuple[int, dict[str, Any]] = -1, {}

    def check_same_data(self) -> None:
        """Raises UserError where a run goes on with data that has another spec, or other files,
        than it was started with."""
        if self._stored is None:
            return
        now, was = self.splits.make_spec(), self.splits.spec
        names = [field.name for field in dataclasses.fields(now)]
        if changed := [k for k in names if getattr(now, k) != getattr(was, k, None)]:
            raise UserError(
                f"{self.run.folder} was started with data of another {changed[0]} than --data gives"
                " now; restore the data that the run was started with, or give another --run"
            )
        was, files = self._stored.get("files"), self.splits.fingerprint()
        if was not in (None, files):
            raise UserError(
                f"{self.run.folder} was started with other files of --data ({was}) than there are"
                f" now ({files}); restore them, or give another --run"
            )

    def part(self, batches: Any) -> Any:
        """What this process reads of batches."""
        number, parts = self.placed.part()
        return batches.part(number, parts) if parts > 1 else batches

    @functools.cached_property
    def batches(self) -> data.StackedBatches:
        """This process's part of the batches to train on, those of a call in one."""
        return data.StackedBatches(self.part(self.splits.train), self.config.steps_per_call)

    @functools.cached_property
    def batch(self) -> Any:
        """The first batch, in place."""
        return self.placed.put(self.batches(0))

    @functools.cached_property
    def evaluations(self) -> dict[str, Any]:
        """This process's part of the batches to evaluate on, by name. Raises UserError where the
        data has other classes than a stored run knows."""
        for batches in self.splits.evaluations.values() if self._stored is not None else ():
            self._check_classes(getattr(batches, "source", None))
        return {name: self.part(batches) for name, batches in self.splits.evaluations.items()}

    def _check_classes(self, source: Any) -> None:
        known: tuple[str, ...] = tuple(getattr(self.splits.spec, "label_names", ()))
        found: tuple[str, ...] = tuple(getattr(source, "label_names", ()))
        if known and found and known != found:
            others = [name for name in found if name not in known] or ["these in another order"]
            raise UserError(
                f"{self.run.folder} knows no classes {', '.join(others[:5])}, as {source.name} has;"
                f" it knows {', '.join(known[:5])} …; give data of the same classes"
            )

    @functools.cached_property
    def shapes(self) -> dict[str, list[Any]]:
        """The shapes of a batch, see `data.shapes_of`, of which one example is read."""
        batches = self.splits.train
        example = batches.part(0, batches.batch_size)(0)
        times = batches.batch_size // self.config.batch
        return {
            name: [times * count, rest, dtype]
            for name, (count, rest, dtype) in data.shapes_of(example, 1).items()
        }

    def stored_spec(self) -> dict[str, Any]:
        """What `spec.json` holds: the spec, and the shapes of a batch."""
        files = self.splits.fingerprint()
        return {"spec": self.splits.spec.to_json(), "batch": self.shapes, "files": files}

    def stream(self, start: int, stop: int):
        """Batches of steps start..stop-1, read ahead and put in place, those of a call in one."""
        threads, steps_per_call = self.config.threads, self.config.steps_per_call
        return data.prefetch(
            self.batches,
            start // steps_per_call,
            stop // steps_per_call,
            threads,
            2 * threads + 2,
            self.placed.put,
        )

    @functools.cached_property
    def abstract(self) -> train.State:
        """Shapes and shardings of the state. Raises UserError where it does not fit in memory, or a
        batch does not."""
        state = self.placed.abstract(self.key_init, self.abstract_batch)
        train.check_memory(state, self.abstract_batch)
        return state

    @functools.cached_property
    def abstract_batch(self) -> Any:
        """Shapes and shardings of a batch, those of a call in one."""
        stored, size = self._stored or {}, self.config.batch * self.config.steps_per_call
        if self.experiment.ready:  # no checkpoint has to fit, so a batch that divides will do
            stored, size = {}, self.placed.ways
        shapes = stored.get("batch") or self.shapes
        return self.placed.shapes(data.batch_of(shapes, size, shape_on_device))

    def new(self) -> train.State:
        """The state before the first update."""
        return self.prepared()()

    def prepared(self) -> Callable[[], train.State]:
        """What makes the state before the first update; what players begin with is read now. Raises
        UserError for a file or a run that does not fit its player, and where the state does not fit
        in memory."""
        abstract = self.abstract
        starts = {
            name: start(abstract[name].variables)
            for name, start in self.experiment.warm_start.items()
        }

        def new() -> train.State:
            if self.experiment.ready:  # whatever is drawn would be written over
                state = jax.tree.map(_zeros, abstract)
            else:
                state = self.placed.init(self.key_init, self.batch)
            players = dict(state.players)
            for name, start in starts.items():
                drawn = jax.device_get(train.allgather(state[name].variables))
                players[name] = state[name].starting_from(start(drawn))
            return state.replace(players=players)

        return new

    def checkpoints(self) -> train.Checkpoints:
        """Those of the run."""
        return train.Checkpoints(
            self.config.checkpoints or self.run.checkpoints,
            self.config.keep,
            self.experiment.monitor,
            self._saved,
        )

    def _saved(self, step: int) -> None:
        if train.is_main_process():
            folder = self.checkpoints().folder
            self.run.write("saved.json", {"folder": folder, "step": step})

    def restored(self, *which: train.Which) -> tuple[int, train.State]:
        """(step, state as it is evaluated) of a checkpoint, without any named the latest; of
        several, the last of their steps and the state of their mean. Raises UserError where there
        is none that is whole."""
        checkpoints, found = self.checkpoints(), []
        for one in which or ("latest",):
            if (restored := checkpoints.restore(self.abstract, which=one)) is None:
                raise UserError(f"{self.run.folder} holds no checkpoint yet; train it first")
            found.append(restored)
        (step, state), *others = sorted(found, key=lambda one: -one[0])
        if others:
            state = train.averaged([state, *(other for _, other in others)])
        elif self.experiment.statistics is not None:
            stored = checkpoints.derived(step)
            if stored is not None and stored["batches"] == self.experiment.statistics[1]:
                self._measured = step, stored
        return step, self.evaluated(step, state)

    def evaluated(self, step: int, state: train.State) -> train.State:
        """What the state of a step is evaluated and used as; the one that is given stays as it
        is."""
        found = self.derived(step, state)
        return train.with_statistics(state, found["collections"]) if found else state

    def derived(self, step: int, state: train.State) -> dict[str, Any]:
        """What is measured for the state of a step and written beside its checkpoint: the
        statistics, and over how many batches. It is measured once, and not at all where it was
        restored."""
        if self.experiment.statistics is None:
            return {}
        if self._measured[0] != step:
            count, batches = self.experiment.statistics[1], self.part(self.splits.train)
            collections = train.measure_statistics(self._measuring, state, batches, count)
            self._measured = step, {"collections": collections, "batches": np.array([count])}
        return self._measured[1]

    @functools.cached_property
    def _measuring(self) -> train.CompiledLearner:
        assert self.experiment.statistics is not None
        measure = self.experiment.statistics[0]
        return self.placement(train.measuring(self.experiment.learner, measure))

    def evaluate(self, state: train.State) -> dict[str, Any]:
        """Figures of a state on every evaluation, `"test/accuracy"`."""
        return {
            f"{split}/{name}": value
            for split, batches in self.evaluations.items()
            for name, value in train.evaluate(self.placed, state, batches).items()
        }

    @contextlib.contextmanager
    def trained(
        self, state: train.State, step: int, figures: Mapping[str, Any]
    ) -> Iterator[reports.Trained]:
        """What a report is given. A process that does not write gets a folder of its own for it,
        which is thrown away."""

        def given(run):
            return reports.Trained(
                run, self.splits.spec, self.splits, self.placed, state, step, figures
            )

        if train.is_main_process():
            yield given(self.run)
            return
        with tempfile.TemporaryDirectory() as folder:
            scratch = train.Run(folder)
            scratch.report.mkdir()
            metrics = (self.run.folder / "metrics.jsonl").absolute()
            (pathlib.Path(folder) / "metrics.jsonl").symlink_to(metrics)
            yield given(scratch)

    @property
    def examples(self) -> int:
        """Examples that one step uses, over all processes."""
        return self.splits.train.batch_size


def shape_on_device(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """The shape of an array as devices hold it."""
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))


def _zeros(shape: jax.ShapeDtypeStruct) -> jax.Array:
    """Zeros of this shape, laid out as its sharding says."""
    return jnp.zeros(shape.shape, shape.dtype, device=shape.sharding)
