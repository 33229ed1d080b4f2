"""Runs the parts of a long measurement, each in a process of its own and within a limit, and writes
what they find line by line.

FOLDER/results.jsonl has a line for each result, `{"part", "item", …}`, and one for each item that
came to an end, with a `status`: `done`, or `failed` with an `error`. FOLDER/log.txt is what the
processes print. A part that was stopped at its limit has a line with an `error` and no item.
"""

import argparse
import contextlib
import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FAILED = 3  # exit status of a process that has recorded its failure itself


class Part(NamedTuple):
    """limit, each: seconds of all and of one item. items: their names. run: `(item, options) ->
    results`, in the part's own process. environment: what that is given."""

    limit: float
    each: float
    items: list[str]
    run: Callable[[str, argparse.Namespace], Iterator[dict[str, Any]]]
    environment: Mapping[str, str] = {}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `run` wants to know."""
    parser.add_argument("folder", type=Path, help="folder of the results")
    parser.add_argument("--only", nargs="+", default=[], help="names of parts (default: all)")
    parser.add_argument("--minutes", type=float, default=8.0, help="of all; limits grow with it")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # what a part's process is to do
    parser.add_argument("--items", nargs="*", help=argparse.SUPPRESS)


def run(parts: Mapping[str, Part], options: argparse.Namespace, minutes: float = 8.0) -> None:
    """Every part in turn; then, in what is left of the time, those that were stopped once more.
    minutes: for which the limits are meant. Items that have come to an end are not run again."""
    factor = options.minutes / minutes
    parts = {
        name: part._replace(limit=part.limit * factor, each=part.each * factor)
        for name, part in parts.items()
    }
    if options.part:
        serve(options.part, parts[options.part], options)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    for again in (False, True):
        for name in options.only or parts:
            left = end - time.monotonic()
            supervise(name, parts[name], left if again else min(left, parts[name].limit), options)


def serve(name: str, part: Part, options: argparse.Namespace) -> None:
    """A part's process: items in turn, to the first that fails, since a device is not to be trusted
    after an error. An item that takes too long ends the process, which prints where it was."""
    for item in options.items:
        faulthandler.dump_traceback_later(part.each, exit=True)
        start, here = time.monotonic(), {"part": name, "item": item}
        try:
            for found in part.run(item, options):
                write(options.folder, **here, **found)
        except Exception as error:
            traceback.print_exc()
            said = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            write(options.folder, **here, status="failed", error=said)
            sys.exit(FAILED)
        faulthandler.cancel_dump_traceback_later()
        write(options.folder, **here, status="done", took=round(time.monotonic() - start, 1))


def supervise(name: str, part: Part, limit: float, options: argparse.Namespace) -> None:
    """Processes of a part, one after another, until it has no items or no time."""
    end = time.monotonic() + limit
    while (items := pending(name, part, options.folder)) and (left := end - time.monotonic()) > 0:
        command = [sys.executable, *sys.argv, "--part", name, "--items", *items]
        with (options.folder / "log.txt").open("ab") as log:
            log.write(f"\n{name}: {', '.join(items)}\n".encode())
            log.flush()
            before = log.tell()
            process = subprocess.Popen(
                command,
                env={**os.environ, **part.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            process.wait(left)
        except subprocess.TimeoutExpired:
            missing = ", ".join(pending(name, part, options.folder))
            write(options.folder, part=name, error=f"stopped after {limit:.0f} s before {missing}")
            return
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what it has started
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        if process.returncode not in (0, FAILED):
            late = b"Timeout (" in (options.folder / "log.txt").read_bytes()[before:]
            said = f"no end within {part.each:.0f} s" if late else f"status {process.returncode}"
            item = pending(name, part, options.folder)[0]
            write(options.folder, part=name, item=item, status="failed", error=said)


def pending(name: str, part: Part, folder: Path) -> list[str]:
    """Items that have not come to an end."""
    ended = [line["item"] for line in read(folder) if line["part"] == name and "status" in line]
    return [item for item in part.items if item not in ended]


def read(folder: Path) -> list[dict[str, Any]]:
    """The lines so far."""
    file = folder / "results.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def write(folder: Path, **line: Any) -> None:
    """Adds a line."""
    with (folder / "results.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def show(records: list[dict[str, Any]]) -> None:
    """Prints a Markdown table whose columns are all keys."""
    heads = list(dict.fromkeys(key for record in records for key in record))
    if heads:
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for record in records:
        cells = [record.get(head, "") for head in heads]
        cells = [f"{x:.4g}" if isinstance(x, float) else str(x) for x in cells]
        print(f"| {' | '.join(cells)} |")
