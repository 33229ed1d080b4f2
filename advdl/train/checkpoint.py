"""Checkpoints: asynchronous, the last few and the best, checked when they are read.

Orbax writes them; beside each state lies its SHA-256, and that of what lies beside it, so that
damage which still parses is noticed too. Nothing is ever deleted because it is damaged: it is named
and set aside. What cannot be read at the moment (permissions, a failing disk) is not damaged. Of
several processes each writes and reads what its devices hold; process 0 alone decides which
checkpoint is whole.
"""

import asyncio
import contextlib
import errno
import functools
import gc
import hashlib
import itertools
import logging
import math
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from advdl.errors import UserError
from advdl.ranges import whole_number
from advdl.reading import exists, expand
from advdl.train import files, hosts

log = logging.getLogger(__name__)

Which = Literal["latest", "best"] | int
"""A checkpoint of a run: the latest one that is whole, the one whose figures are best, or that of a
step."""


def digest(state: Any) -> str:
    """SHA-256 of a tree: every leaf's path, dtype, shape and bytes, in the order of the paths.
    Equal trees, equal digests; so are those of a tree of classes and of nested dicts of the same
    names. All processes that hold parts of it take part."""
    hasher = hashlib.sha256()
    leaves = jax.tree.leaves_with_path(state)
    named = [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves
    ]
    for name, leaf in sorted(named, key=lambda item: item[0]):
        array = np.ascontiguousarray(jax.device_get(hosts.allgather(leaf)))
        hasher.update(f"{name} {array.dtype} {array.shape}\n".encode())
        hasher.update(array.tobytes())
    return hasher.hexdigest()


class _Kept(NamedTuple):
    """Which checkpoints Orbax keeps: so many of the latest, and the one that is worth most."""

    latest: int
    worth: dict[int, float]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """In the order of the checkpoints, which is that of their steps."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        best = max(
            (step for step in reversed(steps) if step in self.worth),
            key=lambda step: self.worth[step],
            default=None,
        )
        return [step == best or step in steps[-self.latest :] for step in steps]


class _Durable(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """A checkpoint that is brought to disk before it counts, and before an older one is deleted."""

    async def finalize(self) -> None:
        """Brings it to disk, gives it its name, and brings to disk what that changed."""
        for folder, _, _ in os.walk(self.get()):
            await asyncio.to_thread(files.sync_files, folder)
        await super().finalize()
        await asyncio.to_thread(files.sync_files, self.get_final())
        await asyncio.to_thread(files.sync_folder, self.get_final().parent)


BUCKETS = ("gs", "s3")
"""Kinds of buckets that are known."""


class Checkpoints:
    """The folder `checkpoints/` of a run, or wherever its checkpoints lie; saving happens within
    `with checkpoints:`.

    folder: on a file system that all processes share, or `gs://BUCKET/…`. keep: how many of the
    latest to keep. best: `(metric, "max" or "min")`, whose best checkpoint is kept as well; every
    checkpoint says what it is. saved: called with the step of each checkpoint once whole.
    """

    def __init__(
        self,
        folder: str | pathlib.Path,
        keep: int = 3,
        best: tuple[str, str] | None = None,
        saved: Callable[[int], None] = lambda step: None,
    ):
        scheme, bucket, _ = str(folder).partition("://")
        if bucket and scheme not in BUCKETS:
            raise UserError(
                f"{folder} is no place for checkpoints; give a folder, or gs://BUCKET/PATH"
            )
        if not bucket:
            exists(folder := os.path.abspath(expand(folder)))  # or else it cannot be
        self._folder = epath.Path(folder)
        self._best, self._kept = best, _Kept(keep, {})
        self._saved, self._saving = saved, None
        self._manager: ocp.CheckpointManager | None = None

    @property
    def folder(self) -> str:
        """Where they lie."""
        return str(self._folder)

    def make(self) -> None:
        """Makes the folder, unless it is in a bucket. Raises UserError where that cannot be."""
        if "://" not in self.folder:
            with files.os_errors_as_user_errors(self.folder, "--checkpoints"):
                files.make_folder(pathlib.Path(self.folder))

    def steps(self) -> list[int]:
        """Steps that have a finished checkpoint, the latest first. Raises UserError for a bucket or
        a folder that cannot be read."""
        try:
            if not self._folder.exists():
                return []
            return sorted(
                (
                    int(p.name)
                    for p in self._folder.iterdir()
                    if whole_number(p.name) is not None and p.is_dir()
                ),
                reverse=True,
            )
        except ImportError as error:
            raise UserError(
                f"{self._folder} is a bucket, and {error}; install what reads it, or give a folder"
            ) from error
        except OSError as error:
            raise UserError(
                f"cannot read the checkpoints in {self._folder}: {error.strerror or error}; make it"
                " a readable folder"
            ) from error

    def save(
        self,
        step: int,
        state: Any,
        metrics: Mapping[str, float] | None = None,
        derived: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts writing the state after `step` updates; returns once it is copied off the devices.

        derived: arrays on the host that were computed from the state and are written beside it, the
        same on every process, for `derived`. Raises UserError where the checkpoint before it could
        not be written (a full disk, say).
        """
        self._wait()
        if self._manager is None:
            self._manager = self._open()
        facts = {
            "step": step,
            "digest": digest(state),
            "layout": layout(state),
            "best": self._best,
            "figures": metrics,
            "derived": digest(derived) if derived else None,
        }
        facts = files.finite(facts)
        facts["sha256"] = _digest_of_facts(facts)
        if self._best is not None and metrics:
            self._kept.worth[step] = worth(self._best, metrics)
        items = {"state": ocp.args.StandardSave(state), "facts": ocp.args.JsonSave(facts)}
        if derived:
            items["derived"] = ocp.args.StandardSave(dict(derived))
        try:
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)
        except Exception as error:
            raise self._failed(error) from error
        self._saving = step

    def __enter__(self) -> "Checkpoints":
        self._hook = sys.unraisablehook
        sys.unraisablehook = _WithoutAbandoned(self._hook)
        return self

    def __exit__(self, *_) -> None:
        """Waits for the checkpoint being written. Raises UserError where that failed."""
        try:
            self._wait()
            sys.unraisablehook = self._hook
        finally:
            manager, self._manager = self._manager, None
            if manager is not None:
                manager.close()

    def restore(
        self, abstract: Any, set_aside: bool = False, which: Which = "latest"
    ) -> tuple[int, Any] | None:
        """A checkpoint as (step, state) laid out like `abstract`; None where there is none yet.

        The latest is the latest that is whole: damaged ones are named in the log and passed over,
        and with `set_aside` their folders move to `damaged/` beside `checkpoints/`, so that the run
        can write these steps again. Raises UserError where every checkpoint is damaged, where the
        best or that of a step is asked for and is damaged or not there, and where a whole one is of
        another network.
        """
        find = functools.partial(self._find, which=which, set_aside=set_aside)
        if jax.process_count() == 1:
            return find(lambda step: self._read(step, abstract, checked=True))
        found = hosts.broadcast_from_main(lambda: find(lambda step: self._check(step, abstract)))
        return None if found is None else (found[0], self._read(found[0], abstract, checked=False))

    def player(self, name: str, which: Which = "latest") -> tuple[int, dict[str, Any]] | None:
        """(step, variables that a player is evaluated with) of a checkpoint, as nested dicts of
        arrays on the host, whatever else the run was made of; None where there is no checkpoint.
        Raises UserError as `restore` does, and where there is no such player."""
        return self._find(lambda step: self._read_player(step, name), which)

    def derived(self, step: int) -> dict[str, Any] | None:
        """What was written beside the state of a step, as arrays on the host; None where there is
        nothing. Raises UserError where it is damaged."""
        with self._told(step, self.steps()):
            known = self._facts(step).get("derived")
            return None if known is None else self._read_item(step, "derived", known)

    def _find(
        self, read: Callable[[int], Any], which: Which, set_aside: bool = False
    ) -> tuple[int, Any] | None:
        if which == "latest":
            return self._latest(read, set_aside)
        if not (steps := self.steps()):
            return None
        step = self._best_step(steps) if which == "best" else which
        if step not in steps:
            raise UserError(f"{self._folder} has no checkpoint of step {step}; {_there(steps)}")
        with self._told(step, steps):
            return step, read(step)

    def _best_step(self, steps: list[int]) -> int:
        """The step, of these, whose figures are best; of equal ones the latest. Raises UserError
        where that is not known."""
        found, best = {}, self._best
        for step in steps:
            with self._told(step, steps):
                facts = self._facts(step)
            if best is None and "best" not in facts:
                raise UserError(
                    f"{self._folder / str(step)} does not say which figure is to be best;"
                    f" {_there(steps)}"
                )
            best = best or facts["best"]
            if best is None:
                raise UserError(
                    f"{self._folder} has no best, since its experiment names no figure;"
                    f" {_there(steps)}"
                )
            if facts.get("figures"):
                found[step] = worth(best, facts["figures"])
        if not found:
            raise UserError(
                f"no checkpoint in {self._folder} has figures beside it; {_there(steps)}"
            )
        return max(found, key=lambda step: found[step])

    @contextlib.contextmanager
    def _told(self, step: int, steps: list[int]) -> Iterator[None]:
        """Turns what damage leads to into a UserError about this step."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            self._check_readable(step, error)
            raise UserError(
                f"checkpoint {self._folder / str(step)} is damaged: {_reason(error)};"
                f" {_there(steps)}"
            ) from error

    def _latest(
        self, read: Callable[[int], Any], set_aside: bool = False
    ) -> tuple[int, Any] | None:
        damaged = []
        for step in self.steps():
            try:
                state = read(step)
            except UserError:
                raise
            except Exception as error:
                self._check_readable(step, error)
                log.warning(
                    "checkpoint %s is damaged and passed over: %s",
                    self._folder / str(step),
                    _reason(error),
                )
                damaged.append(step)
                continue
            if set_aside:
                for bad in damaged:
                    self._set_aside(bad)
            return step, state
        if damaged:
            raise UserError(
                f"every checkpoint in {self._folder} is damaged (steps"
                f" {', '.join(map(str, damaged))}); nothing was deleted; restore one from a backup,"
                " or start again with another --run"
            )
        return None

    def _check_readable(self, step: int, error: Exception) -> None:
        """Raises where an error in reading a checkpoint says nothing of what is in it: the error
        itself where memory is short, UserError where one of its files cannot be read. What is left
        is damage."""
        if isinstance(error, MemoryError | jax.errors.JaxRuntimeError):
            raise error
        if "://" in self.folder:
            return
        try:
            for folder, _, names in os.walk(self._folder / str(step), onerror=_raise):
                for name in names:
                    with open(os.path.join(folder, name), "rb") as file:
                        while file.read(2**20):
                            pass
        except OSError as unreadable:
            raise UserError(
                f"cannot read {unreadable.filename or self._folder / str(step)}:"
                f" {unreadable.strerror or unreadable}; nothing was moved; mend that, and run the"
                " same command again"
            ) from error

    def _read(self, step: int, abstract: Any, checked: bool) -> Any:
        """By all processes, each what it is to hold."""
        folder = self._folder / str(step)
        facts = self._facts(step)
        same_layout(facts["layout"], layout(abstract), folder)
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader, _quiet_siblings():
            state = reader.restore(
                folder, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
            ).state
        if checked:
            _same_digest(facts["digest"], state)
        return state

    def _read_here(self, step: int, abstract: Any = None) -> Any:
        """By this process alone, all of it: nested dicts of arrays on the host, of the layout of
        `abstract` if it is given."""
        facts = self._facts(step)
        if abstract is not None:
            same_layout(facts["layout"], layout(abstract), self._folder / str(step))
        return self._read_item(step, "state", facts["digest"])

    def _read_item(self, step: int, item: str, known: str) -> Any:
        """By this process alone, one of the trees of a checkpoint, whose digest is known."""
        folder, own = self._folder / str(step) / item, jax.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"p{own}"
        )
        handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
        with ocp.Checkpointer(handler, multiprocessing_options=alone) as reader, _quiet_siblings():
            tree = reader.metadata(folder).item_metadata.tree
            on_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            found = reader.restore(folder, args=ocp.args.PyTreeRestore(restore_args=on_host))
        _same_digest(known, found)
        return found

    def _facts(self, step: int) -> Mapping[str, Any]:
        """By this process alone, what lies beside the state. Raises ValueError where it does not
        have the digest written in it; earlier versions wrote none."""
        facts = ocp.JsonCheckpointHandler().restore(self._folder / str(step) / "facts")
        if facts.get("sha256", known := _digest_of_facts(facts)) != known:
            raise ValueError("its facts do not have the SHA-256 written in them")
        return facts

    def _check(self, step: int, abstract: Any) -> None:
        self._read_here(step, abstract)

    def _read_player(self, step: int, name: str) -> dict[str, Any]:
        state = self._read_here(step)
        if name not in state["players"]:
            raise UserError(
                f"{self._folder / str(step)} has no player {name!r}; there are"
                f" {', '.join(state['players'])}"
            )
        player = state["players"][name]
        average = player["ema"] or {"params": player["params"], **player["collections"]}
        return {**average, **(player.get("frozen") or {})}

    def _set_aside(self, step: int) -> None:
        aside = self._folder.parent / "damaged"
        target = next(
            t
            for n in itertools.count()
            if not (t := aside / (f"{step}.{n}" if n else str(step))).exists()
        )
        with files.os_errors_as_user_errors(str(target)):
            files.make_folder(aside)
            files.move(self._folder / str(step), target)
            files.sync_folder(self._folder)
        log.warning("checkpoint %d was moved to %s", step, target)

    def _open(self) -> ocp.CheckpointManager:
        if (best := self._best) is not None:
            for step in self.steps():
                with contextlib.suppress(Exception):  # what cannot be read is not the best
                    self._kept.worth[step] = worth(best, self._facts(step)["figures"])
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._kept,
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
            temporary_path_class=None if "://" in self.folder else _Durable,
        )
        return ocp.CheckpointManager(self._folder, options=options)

    def _wait(self) -> None:
        step, self._saving = self._saving, None
        if self._manager is not None:
            try:
                self._manager.wait_until_finished()
            except Exception as error:
                raise self._failed(error) from error
        if step is not None:
            self._saved(step)

    def _failed(self, error: Exception) -> UserError:
        # Of the other writes of this checkpoint, which Orbax does not wait for any more.
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        reason = " ".join(str(error).split())
        reason = next((text for text in DISK_ERRORS if text in reason), reason[:160])
        whole = self.steps()
        last = (
            f"the checkpoint of step {whole[0]} is whole"
            if whole
            else "there is no earlier checkpoint"
        )
        return UserError(
            f"could not write a checkpoint to {self._folder}: {reason}; {last}; make room and run"
            " again"
        )


class _WithoutAbandoned:
    """A hook for exceptions that nobody catches, without those of the other reads or writes of a
    checkpoint once one has failed: Orbax has closed its event loop by then, and reads that were
    waiting for it are thrown away. They come from other threads, or whenever garbage is collected,
    so the hook stays where something has failed."""

    def __init__(self, hook: Callable[[Any], Any]):
        self._hook = hook._hook if isinstance(hook, _WithoutAbandoned) else hook

    def __call__(self, unraisable: Any) -> None:
        error = unraisable.exc_value
        abandoned = isinstance(error, GeneratorExit) or isinstance(
            getattr(error, "__cause__", None), GeneratorExit
        )
        if not abandoned and str(error) != "Event loop is closed":
            self._hook(unraisable)


def worth(best: tuple[str, str], metrics: Mapping[str, float]) -> float:
    """How good figures are by `(metric, "max" or "min")`, the more the better; what is not a number
    is the worst."""
    metric, mode = best
    value = float(metrics[metric]) * (1 if mode == "max" else -1)  # "nan" is a string in JSON
    return -math.inf if math.isnan(value) else value


def _there(steps: list[int]) -> str:
    return f"there are checkpoints of the steps {', '.join(map(str, sorted(steps)))}"


def _raise(error: OSError) -> None:
    raise error


def _digest_of_facts(facts: Mapping[str, Any]) -> str:
    """SHA-256 of all of them but the digest itself."""
    text = files.to_json({k: v for k, v in facts.items() if k != "sha256"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _same_digest(known: str, tree: Any) -> None:
    if known != digest(tree):
        raise ValueError("its contents do not have the SHA-256 written beside them")


DISK_ERRORS = tuple(
    os.strerror(code)
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO)
)


def layout(state: Any) -> dict[str, str]:
    """Path -> dtype and shape of every leaf: what two states must share for one to be restored into
    the other."""
    return {
        jax.tree_util.keystr(p): f"{x.dtype}{list(x.shape)}"
        for p, x in jax.tree.leaves_with_path(state)
    }


def same_layout(
    stored: Mapping[str, str], wanted: Mapping[str, str], folder: str | os.PathLike[str]
) -> None:
    """Raises UserError, about the folder that the one is from, where two layouts differ."""
    for path in [*wanted, *stored]:
        if stored.get(path) != wanted.get(path):
            raise UserError(
                f"{folder} is of another network: {path} is {stored.get(path, 'absent')} there and"
                f" {wanted.get(path, 'absent')} here; give the flags it was trained with, or"
                " another --run"
            )


@contextlib.contextmanager
def _quiet_siblings():
    """When one array cannot be read Orbax abandons the reads beside it; their complaints are not
    news, and come late too."""
    previous, sys.unraisablehook = (
        sys.unraisablehook,
        lambda event: log.debug("abandoned: %s", event.exc_value),
    )
    try:
        yield
    except BaseException:
        previous = _WithoutAbandoned(previous)
        gc.collect()
        raise
    finally:
        sys.unraisablehook = previous
