"""From the command line to a verb."""

import contextlib
import errno
import inspect
import io
import logging
import os
import pathlib
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from advdl import reports, train
from advdl.cli import bench, plan, verbs
from advdl.cli.config import Config, Predict, check, check_same, parse_checkpoints
from advdl.cli.experiment import SPEC, Build, Load, Session
from advdl.cli.parse import defaults, given, parse
from advdl.errors import UserError, nearest
from advdl.ranges import check_ranges
from advdl.reading import is_unicode
from advdl.scale import cluster
from advdl.train import files, stop

VERBS = {
    "train": "train, or go on where the run was stopped; then evaluate, draw and write report.html",
    "evaluate": "figures of a trained run on its test data",
    "predict": "use a trained run",
    "bench": "time the compiled step, the loop around it, and XLA's implementation of its layers",
    "plan": (
        "what a step would cost on many devices: memory, work, messages; none of them needs to be"
        " there"
    ),
}


def main(
    load: Load,
    build: Build,
    presets: Mapping[str, Any],
    predict: type[Predict] = Predict,
    arguments: Sequence[str] | None = None,
) -> None:
    """Runs one verb of an experiment.

    load: configuration -> data. build: configuration and spec -> experiment, which is called after
      the file that defines it.
    presets: `"laptop"` and others, all of the experiment's own configuration class. predict: the
    configuration of its verb `predict`.

    A UserError is printed in one line and ends the process with status 2. A request to stop (see
    `advdl.train.stop`) ends `train` with status 0, since the same command goes on, and another verb
    as the signal would have; a second SIGINT ends it at once, with status 130.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    file = pathlib.Path(inspect.getfile(build))
    trains = arguments[:1] == ["train"]
    try:
        with cluster.attribute_peer_failure(), stop.requests(), _written():
            _check_working_directory()
            about = inspect.getdoc(inspect.getmodule(build)) or ""
            _run(file, about, load, build, presets, predict, arguments)
    except UserError as error:
        _fail(file, error)
    except stop.Stopped as request:
        goes_on = "; the same command goes on" if trains else ""
        print(f"{file.name}: stopped by {request}{goes_on}", file=sys.stderr)
        raise SystemExit(0 if trains else 128 + request.number) from None
    except KeyboardInterrupt:
        _fail(file, "interrupted", 128 + signal.SIGINT)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.filename is None and error.errno not in NO_ROOM:
            cluster.leave(error, 1)
            raise
        what = f"cannot read or write {error.filename or 'a file'}: {error.strerror}"
        _fail(file, f"{what}; mend that, or make room, and run again")
    except BaseException as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            what = str(error).partition("\n")[0]
            _fail(file, UserError(f"not enough memory ({what}); {train.SMALLER}"))
        cluster.leave(error, 1)
        raise


def run(load: Load, build: Build, config: Any, name: str = "") -> reports.Trained:
    """Trains from Python, a notebook for example, as `train` does from the command line.

    The run goes to `config.run`, or to runs/NAME, and goes on where it was stopped. name: what the
    experiment is called; by default after the module that defines `build`. Returns the trained
    state in its place, with its figures and its functions. Raises UserError where `train` would end
    with status 2.
    """
    name = name or build.__module__.rpartition(".")[2].strip("_")
    check(config)
    folder = train.Run(config.run or pathlib.Path("runs") / name)
    if (stored := folder.config(name)) is not None:
        check_same(config, stored, folder.folder)
    session = Session(name, config, folder, load, build)
    verbs.run_train(session)
    step, state = session.restored()
    figures = session.evaluate(state)
    return reports.Trained(
        folder, session.splits.spec, session.splits, session.placed, state, step, figures
    )


def _check_working_directory() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise UserError("the working directory is not there any more; change to one") from error


@contextlib.contextmanager
def _written() -> Iterator[None]:
    """Inside, characters that an encoding lacks are printed as escapes; in the end, all is written.
    What is printed to a stream that is closed is dropped."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is None and error.errno in NO_ROOM:  # nor could Python, when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise UserError(f"cannot write standard output: {error.strerror}") from error
        raise


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG)


def _fail(file: pathlib.Path, what: Any, status: int = 2) -> NoReturn:
    print(f"{file.name}: {what}", file=sys.stderr)
    cluster.leave(str(what), status)
    raise SystemExit(status) from None


def _run(file, about, load, build, presets, predict, arguments) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = "\n".join(f"  {verb:9} {what}" for verb, what in VERBS.items())
        print(f"{about}\n\nusage: python {file} VERB [--help] [flags]\n\n{lines}")
        raise SystemExit(0 if arguments else 2)
    if wrong := [word for word in arguments if not is_unicode(word)]:
        raise UserError(f"the argument {wrong[0]!r} is not UTF-8; write or rename it so")
    verb = arguments.pop(0)
    if verb not in VERBS:
        raise UserError(f"no verb {verb!r}; there are {', '.join(VERBS)}{nearest(verb, VERBS)}")
    run = train.Run(given(arguments, "run") or pathlib.Path("runs") / file.stem)
    # With published weights no run is looked at.
    published = verb in ("evaluate", "predict") and given(arguments, "weights")
    stored = None if published else run.config(file.stem)
    config, options = defaults(presets, given(arguments, "preset"), stored), None
    if verb == "predict":
        options, as_json = parse(predict(), arguments, f"{file.name} {verb}", about)
        check_ranges(options)
    elif verb == "plan":
        planned = plan.with_planning(config)
        config, as_json = parse(planned, arguments, f"{file.name} {verb}", about, presets)
    else:
        config, as_json = parse(config, arguments, f"{file.name} {verb}", about, presets)
    asked = config.checkpoint if options is None else options.checkpoint
    which = parse_checkpoints(asked)
    if which != ("latest",) and (published or verb not in ("evaluate", "predict")):
        does = "reads no run with --weights" if published else "reads no checkpoint but the latest"
        raise UserError(
            f"--checkpoint {asked} is for evaluate and predict of a run, and this {verb} {does};"
            " leave it out"
        )
    _settle()
    if published and options is not None and (own := options.without_run()) is not None:
        config = own
    if options is not None:
        config = config.but(placement=options.placement, mesh=options.mesh)
    check(config)
    if verb == "plan":
        plans = plan.run_plan(config, plan.start(arguments), load, build, stored and run.read(SPEC))
        _print(plan.as_json(plans), True) if as_json else plan.show(plans)
        return
    if verb in ("evaluate", "predict") and stored is None and not published:
        raise UserError(
            f"{run.folder} holds no run of {file.stem}; first: python {file} train --run"
            f" {run.folder}"
        )
    if verb == "train" and stored is None:
        run.check_free()
    if verb == "train" and stored is not None:
        check_same(config, stored, run.folder)
    with _together(config):
        session = Session(file.stem, config, run, load, build)
        match verb:
            case "train":
                results = verbs.run_train(session)
            case "evaluate":
                results = verbs.run_evaluate(session, which)
            case "predict" if options is not None:
                results = verbs.run_predict(session, options, which)
            case _:
                results = bench.run_bench(session, Session(file.stem, config, run, load, build))
        if train.is_main_process():
            _print(results, as_json)


def _together(config: Config) -> contextlib.AbstractContextManager[None]:
    """With the other processes, where there are some."""
    if not config.distributed:
        return contextlib.nullcontext()
    of = config.coordinator, config.processes, config.process
    return cluster.joined(cluster.Meeting(*of, config.start_timeout, config.peer_timeout))


def _settle() -> None:
    """Compiled programs are kept between runs; libraries log only what is wrong, and Orbax
    nothing, since what it raises is printed here."""
    # JAX sets its options as attributes while it is imported, which a checker does not see.
    if jax.config.values["jax_compilation_cache_dir"] is None:
        home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "advdl" / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)  # many are small
    train.keep_memory()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _print(results: Mapping[str, Any], as_json: bool) -> None:
    if as_json:

        def plain(value):
            return files.finite(np.asarray(value).tolist())

        print(files.to_json(results, indent=2, default=plain))
        return
    for name, value in results.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {_text(part)}" for key, part in value.items())
        print(f"{name}: {_text(value)}")


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
