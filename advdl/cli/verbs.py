"""train, evaluate and predict."""

import dataclasses
import importlib.metadata
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import advdl
from advdl import present, reading, train
from advdl.cli.config import NOT_STORED, Predict, flag, parse_steps
from advdl.cli.experiment import SPEC, Session, devices_of
from advdl.cli.progress import Progress, log
from advdl.errors import UserError
from advdl.train import stop

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def run_train(session: Session) -> Mapping[str, Any]:
    """Trains to the end, or from where it was stopped; returns the summary."""
    try:
        return _train(session)
    finally:
        session.run.lock.release()


def _train(session: Session) -> Mapping[str, Any]:
    config, run, experiment = session.config, session.run, session.experiment
    train.broadcast_from_main(run.claim)
    session.check_same_data()
    checkpoints = session.checkpoints()
    restored = checkpoints.restore(session.abstract, set_aside=True)
    if restored is None:
        train.broadcast_from_main(lambda: _check_not_saved(run, checkpoints))
    step, state = (0, None) if restored is None else restored
    summary = train.broadcast_from_main(run.summary)
    if summary is not None and step >= config.steps:
        log(f"{run.folder} is finished at step {step}; nothing to do (raise --steps to go on)")
        return summary
    # What is wrong with data, weights or the run, or too large, is found before a file is written.
    logged = run.folder / "metrics.jsonl"
    earlier = train.read_metrics(logged) if step and reading.exists(logged) else ()
    _ = session.batches, session.evaluations
    state = _to_train(session, state)
    train.broadcast_from_main(lambda: _begin(session))
    if not train.all_processes((run.folder / "config.json").exists()):
        raise UserError(
            f"{run.folder} of process 0 is not there for every process; give --run a folder that"
            " they share"
        )
    latest = Evaluation(-1, {})

    def evaluate(step: int, state: train.State) -> None:
        nonlocal latest
        latest = Evaluation(step, session.evaluate(session.evaluated(step, state)))
        write(step, latest.scalars(step))
        draw(step, state)

    def draw(step: int, state: train.State) -> None:
        if experiment.snapshot:
            with session.trained(state, step, latest.figures) as trained:
                experiment.snapshot(trained)

    def save(step: int, state: train.State) -> None:
        write.sync()
        checkpoints.save(step, state, latest.scalars(step), session.derived(step, state))

    if not step:
        draw(0, state)
    with (
        stop.deferred() as requested,
        checkpoints,
        train.Log(run, step) as write,
        Progress(step, config.steps) as progress,
    ):
        watch = train.Watch(experiment.alarms)
        watch.over(line for line in earlier if line["step"] <= step)
        if step:
            log(f"resuming {run.folder} at step {step}")

        def log_figures(step: int, figures: Mapping[str, float]) -> None:
            write(step, figures)
            progress(step, figures)
            for said in watch(step, figures):
                log(f"alarm: {said}")

        outcome = train.fit(
            session.placed,
            state,
            session.stream,
            session.key,
            config.steps,
            session.examples,
            log=log_figures,
            save=save,
            evaluate=evaluate,
            log_every=config.log_every,
            evaluate_every=config.evaluate_every,
            save_every=config.save_every,
            steps_per_call=config.steps_per_call,
            watchdog=train.Watchdog(config.watchdog, run.stacks),
            trace=_trace(session, step),
        )
        state, step = outcome.state, step + outcome.steps
        if not outcome.stopped and latest.step != step:
            evaluate(step, state)
        stopped = outcome.stopped or train.broadcast_from_main(requested)
    if stopped:
        log(
            f"stopped at step {step} of {config.steps} and saved; the same command goes on from"
            " there"
        )
        return {"stopped": step}
    summary = _report(session, step, session.evaluated(step, state), latest)
    log(f"finished: {run.folder / 'summary.json'}, {run.report / 'report.html'}")
    return summary


def run_evaluate(session: Session, which: Sequence[train.Which] = ()) -> Mapping[str, Any]:
    """Figures of the trained state on the test data, and the step of its checkpoint, or of those
    that were averaged."""
    if session.experiment.ready:
        said, state = {}, session.evaluated(0, session.new())
    else:
        step, state = session.restored(*which)
        several = len(which) > 1
        said = {"averaged checkpoints": list(which)} if several else {"checkpoint step": step}
    figures = said | session.evaluate(state)
    if session.config.baselines:
        if session.experiment.baselines is None:
            raise UserError(f"{session.name} has no baselines to compare with")
        figures |= session.experiment.baselines(session.splits)
    return figures


def run_predict(
    session: Session, options: Predict, which: Sequence[train.Which] = ()
) -> Mapping[str, Any]:
    """What the experiment makes of a trained state; the step of its checkpoint, or of those that
    were averaged, is printed on standard error."""
    if session.experiment.predict is None:
        raise UserError(f"{session.name} has no predict")
    ready = session.experiment.ready
    out = pathlib.Path(options.out or ("." if ready else session.run.folder / "predict"))
    if ready:
        step, state = 0, session.evaluated(0, session.new())
    else:
        step, state = session.restored(*which)
    with train.os_errors_as_user_errors(f"folder {out}"):
        made = not out.exists()
        out.mkdir(parents=True, exist_ok=True)
    try:
        with session.trained(state, step, {}) as trained:
            results = session.experiment.predict(trained, options, out)
    except UserError:
        if made and not any(out.iterdir()):
            out.rmdir()
        raise
    if not ready:
        steps = ", ".join(map(str, which))
        used = f"mean of the checkpoints of steps {steps}" if len(which) > 1 else ""
        log(f"{session.run.folder}: by the {used or f'checkpoint of step {step}'}")
    return results


class Evaluation(NamedTuple):
    """The figures of the state of a step."""

    step: int
    figures: Mapping[str, Any]

    def scalars(self, step: int) -> dict[str, float]:
        """Those that are single numbers, where they are of this step."""
        figures = self.figures if step == self.step else {}
        return {name: value for name, value in figures.items() if isinstance(value, float)}


def _check_not_saved(run: train.Run, checkpoints: train.Checkpoints) -> None:
    """Raises UserError where a run without checkpoints once had some: their folder is not mounted,
    perhaps."""
    saved, summary = run.read("saved.json"), run.summary()
    if saved is not None or summary is not None:
        step = saved["step"] if saved else (summary or {}).get("steps")
        folder = saved["folder"] if saved else checkpoints.folder
        raise UserError(
            f"{run.folder} was saved at step {step} in {folder}, and no checkpoint is there now;"
            " mount or restore that folder; or, to begin anew, give another --run or delete"
            f" {run.folder}"
        )


def _to_train(session: Session, state: train.State | None) -> train.State:
    """The state to go on from, a new one for None, once the step is known to fit in memory."""
    give = session.prepared() if state is None else lambda: state
    session.placed.step.fitting(session.abstract, session.abstract_batch, session.key)
    return give()


def _begin(session: Session) -> None:
    if session.config.checkpoints:
        session.checkpoints().make()
    session.run.start(session.name, _settings(session))
    session.run.write(SPEC, session.stored_spec())


def _settings(session: Session) -> dict[str, Any]:
    """Those that the run keeps."""
    settings = dataclasses.asdict(session.config)
    return {name: value for name, value in settings.items() if name not in NOT_STORED}


def _trace(session: Session, step: int) -> train.Trace:
    """Of the first process alone; the others do the same."""
    first, count = parse_steps(session.config.profile)
    first = step + session.config.steps_per_call if first is None else first
    return train.Trace(
        session.run.folder / "profile", first, count if train.is_main_process() else 0
    )


def _report(session: Session, step: int, state: train.State, latest: Evaluation) -> dict[str, Any]:
    """Draws and writes the report; returns the summary. Every process takes part."""
    digest, devices = train.digest(state), devices_of(state)
    with session.trained(state, step, latest.figures) as trained:
        page = session.experiment.report(trained)
    if isinstance(page, present.Page):
        log(page.sentence)

    def write() -> dict[str, Any]:
        run = session.run
        summary = _summary(session, step, digest, devices, latest)
        title = f"{session.name}: {run.folder.name}"
        present.write_report(run.report, title, page or [], _details(session, summary))
        run.write("summary.json", summary)
        return summary

    return train.broadcast_from_main(write)


def _summary(
    session: Session, step: int, digest: str, devices: str, latest: Evaluation
) -> dict[str, Any]:
    seconds = sum(
        line.get("train/seconds", 0.0)
        for line in train.read_metrics(session.run.folder / "metrics.jsonl")
    )
    return {
        "experiment": session.name,
        "preset": session.config.preset,
        "steps": step,
        "seed": session.config.seed,
        **_by_split(latest.scalars(step)),
        "seconds": round(seconds, 2),
        "steps_per_second": round(step / seconds, 2) if seconds else None,
        "examples_per_second": round(step * session.examples / seconds, 1) if seconds else None,
        "compile_seconds": round(session.placed.step.seconds, 2),
        "placement": f"{session.config.placement} {session.config.mesh}".strip(),
        "devices": devices,
        "versions": (
            {"advdl": advdl.__version__, "python": platform.python_version()}
            | {name: importlib.metadata.version(name) for name in PACKAGES}
        ),
        "digest": digest,
    }


def _details(session: Session, summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The summary and the settings, as tables of the report."""
    parts = {name: value for name, value in summary.items() if isinstance(value, Mapping)}
    versions = parts.pop("versions")
    return {
        "Figures": {
            f"{split}/{name}": value for split in parts for name, value in parts[split].items()
        },
        "Run": {name: value for name, value in summary.items() if not isinstance(value, Mapping)},
        "Settings": {flag(name): value for name, value in _settings(session).items()},
        "Versions": versions,
    }


def _by_split(figures: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """`{"test/accuracy": a}` -> `{"test": {"accuracy": a}}`."""
    found: dict[str, dict[str, float]] = {}
    for name, value in figures.items():
        split, _, own = name.partition("/")
        found.setdefault(split, {})[own] = value
    return found
