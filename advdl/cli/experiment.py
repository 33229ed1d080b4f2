"""What an experiment hands to the command line, and the same put in its place."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from advdl import data, present, train
from advdl.cli.config import Config
from advdl.errors import UserError


class Experiment(NamedTuple):
    """What `build(config)` returns.

    learner: how it learns.
    train: `batch(t)`, with `batch_size`, the examples of one step. test: finite batches, padded and
      masked. Both are whole; several processes ask them for `part`, see `data.Shared`.
    report: `(state, run, figures) -> sections` of report.html; `figures` are those of the last
      evaluation.
    predict: `(state, options, folder) -> results`, which are printed; files go to `folder`.
    snapshot: `(state, step, folder)` draws a picture at step 0 and at every evaluation.
    best: the test metric whose best checkpoint is kept, and "max" or "min".
    warm_start: for players, `variables -> variables`, on the host, before the first update.
    baselines: `() -> figures` of trivial and classic methods on the same split, for `evaluate
      --baselines`.
    bench: `() -> figures` that `bench` prints beside its own.
    counts: `batch -> {"tokens": …}`: what a batch holds beside examples, padding not counted; so
      many a second are printed by `bench`, and of the first at most by `plan`.
    rules: sharding rules for a mesh, see `advdl.train.placement.on_mesh`.
    alarms: what is told of when the metrics of training show it.
    ready: whether the players, as `warm_start` leaves them, are what `evaluate` measures; no run is
      read.
    statistics: `(measure, count)` where a state is evaluated and used with statistics that are
      averaged over so many training batches, see `advdl.train.statistics`.
    kept: JSON files by name, such as a vocabulary, that lie in the run's folder from its start on;
      a run that is resumed must come to the same.
    """

    learner: train.Learner
    train: Any
    test: Any
    report: Callable[[train.State, train.Run, Mapping[str, Any]], list[present.Section]] = (
        lambda *_: []
    )
    predict: Callable[[train.State, Any, pathlib.Path], Mapping[str, Any]] | None = None
    snapshot: Callable[[train.State, int, pathlib.Path], None] | None = None
    best: tuple[str, str] | None = None
    warm_start: Mapping[str, Callable[[train.Variables], train.Variables]] = {}
    baselines: Callable[[], Mapping[str, Any]] | None = None
    bench: Callable[[], Mapping[str, Any]] | None = None
    counts: Callable[[Any], Mapping[str, float]] = lambda batch: {}
    rules: Sequence[tuple[str, jax.sharding.PartitionSpec]] = ()
    alarms: Sequence[train.Alarm] = ()
    ready: bool = False
    statistics: tuple[Callable[[train.Variables, Any], train.Variables], int] | None = None
    kept: Mapping[str, Mapping[str, Any]] = {}


class Session(NamedTuple):
    """An experiment in its place: everything known before there is a state."""

    name: str
    config: Config
    run: train.Run
    experiment: Experiment
    placed: train.Placed
    key: jax.Array
    key_init: jax.Array
    batches: data.Several
    test: Any
    batch: Any
    evaluated: Callable[[train.State], train.State] = lambda state: state
    """What a state is evaluated and used as; the one that is given stays as it is."""

    @classmethod
    def open(
        cls, name: str, config: Config, run: train.Run, build: Callable[[Any], Experiment]
    ) -> "Session":
        """Config, mesh, data, shapes. Raises UserError for what does not fit."""
        train.place(
            config.placement, config.mesh
        )  # a mesh that cannot be is told before data is read
        experiment = build(config)
        for file, content in experiment.kept.items():
            run.check_kept(file, content)
        learner = train.repeated(experiment.learner, config.per_call)
        placed = train.place(config.placement, config.mesh, experiment.rules)(learner)
        number, parts = placed.part()
        own = [
            whole.part(number, parts) if parts > 1 else whole
            for whole in (experiment.train, experiment.test)
        ]
        batches = data.Several(own[0], config.per_call)
        key_init, key = jax.random.split(jax.random.key(config.seed))
        session = cls(
            name,
            config,
            run,
            experiment,
            placed,
            key,
            key_init,
            batches,
            own[1],
            placed.put(batches(0)),
        )
        if experiment.statistics is None:
            return session
        measure, count = experiment.statistics
        measuring = train.place(config.placement, config.mesh, experiment.rules)(
            train.measuring(experiment.learner, measure)
        )
        return session._replace(
            evaluated=lambda state: train.recompute_statistics(measuring, state, own[0], count)
        )

    def stream(self, start: int, stop: int):
        """Batches of steps start..stop-1, read ahead and put in place, those of a call in one."""
        threads, per_call = self.config.threads, self.config.per_call
        return data.prefetch(
            self.batches,
            start // per_call,
            stop // per_call,
            threads,
            2 * threads + 2,
            self.placed.put,
        )

    def abstract(self) -> train.State:
        """Shapes and shardings of the state."""
        return self.placed.abstract(self.key_init, self.batch)

    def new(self) -> train.State:
        """The state before the first update."""
        state = self.placed.init(self.key_init, self.batch)
        players = dict(state.players)
        for name, start in self.experiment.warm_start.items():
            players[name] = state[name].starting_from(
                start(jax.device_get(train.gathered(state[name].variables)))
            )
        return state.replace(players=players)

    def checkpoints(self) -> train.Checkpoints:
        """Those of the run."""
        return train.Checkpoints(
            self.config.checkpoints or self.run.checkpoints, self.config.keep, self.experiment.best
        )

    def trained(self, which: train.Which = "latest") -> tuple[int, train.State]:
        """(step, state as it is evaluated) of a checkpoint. Raises UserError where there is none
        that is whole."""
        restored = self.checkpoints().restore(self.abstract(), which=which)
        if restored is None:
            raise UserError(f"{self.run.folder} holds no checkpoint yet; train it first")
        return restored[0], self.evaluated(restored[1])

    @property
    def examples(self) -> int:
        """Examples that one step uses, over all processes."""
        return self.experiment.train.batch_size
