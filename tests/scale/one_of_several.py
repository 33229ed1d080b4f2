"""Trains experiments in turn in one of several processes, and writes down which examples it saw.

    python one_of_several.py PORT PROCESSES PROCESS SECONDS '[["gan", "train", "--run", …], …]' gan

SECONDS: of silence after which a peer is gone. Behind the commands: whose runs are reported on, or
  "" for none. The ids go to RUN.seen.PROCESS.jsonl, one line a
  batch: [number, ids].
"""

import contextlib
import importlib.util
import json
import pathlib
import sys

from advdl import cli, data
from advdl.scale import cluster

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"


def write_down(file, several=data.StackedBatches.__call__):
    """What `data.StackedBatches` gives from now on leaves its ids in the file."""

    def seen(self, number):
        batch = several(self, number)
        file.write(json.dumps([number, batch["index"].tolist()]) + "\n")
        return batch

    data.StackedBatches.__call__ = seen


@contextlib.contextmanager
def reported(whether):
    """Experiments inside report nothing, unless they shall: it takes long and is process 0's
    alone."""
    experiment = cli.Experiment
    if not whether:
        cli.Experiment = lambda *given, **named: experiment(*given, **named)._replace(
            report=lambda *_: [], snapshot=None
        )
    try:
        yield
    finally:
        cli.Experiment = experiment


def load(name):
    """experiments/NAME.py"""
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(port, processes, process, silence, runs, reports):
    with cluster.joined(
        cluster.Meeting(f"127.0.0.1:{port}", int(processes), int(process), 120, float(silence))
    ):
        for name, *arguments in json.loads(runs):
            module = load(name)
            folder = pathlib.Path(arguments[arguments.index("--run") + 1])
            with (folder.parent / f"{folder.name}.seen.{process}.jsonl").open(
                "w", buffering=1
            ) as file:
                write_down(file)
                with reported(name == reports):
                    cli.main(
                        module.load,
                        module.build,
                        module.PRESETS,
                        arguments=arguments,
                    )


if __name__ == "__main__":
    main(*sys.argv[1:])
