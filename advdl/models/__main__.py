"""Prints every network with its paper, input, parameters and multiply-adds, what was published of
it and whose weights fit it.

python -m advdl.models
python -m advdl.models --markdown
"""

import argparse
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from rich import box
from rich.console import Console
from rich.table import Table

from advdl.models import NETWORKS, Variant

COLUMNS = ("network", "paper", "input", "parameters", "multiply-adds", "published", "weights")
NUMBERS = ("parameters", "multiply-adds")


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints what the rows of the tables say; no network is run, and none is counted."""
    parser = argparse.ArgumentParser("python -m advdl.models", description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="Print tables of Markdown.")
    if parser.parse_args(arguments).markdown:
        print("\n\n".join(_markdown(title, rows) for title, rows in _tables()))
        return
    for title, rows in _tables():
        table = Table(box=box.SIMPLE, title=title, title_justify="left")
        for column in COLUMNS:
            table.add_column(column, justify="right" if column in NUMBERS else "left")
        for row in rows:
            table.add_row(*row)
        Console(width=180).print(table)


def _tables() -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    for title, networks in NETWORKS.items():
        yield title, [_row(name, network) for name, network in networks.items()]


def _row(name: str, row: Variant) -> tuple[str, ...]:
    return (
        name,
        row.paper or "–",
        " + ".join(map(_describe, row.inputs)),
        f"{row.parameters:,}",
        f"{row.multiply_adds:,}",
        row.figure or "–",
        ", ".join(row.weights) or "–",
    )


def _describe(given: jax.ShapeDtypeStruct) -> str:
    size = "×".join(map(str, given.shape))
    if not jnp.issubdtype(given.dtype, jnp.integer):
        return size
    return f"{size} tokens" if size else "length"


def _markdown(title: str, rows: Sequence[Sequence[str]]) -> str:
    rule = ("--:" if column in NUMBERS else "---" for column in COLUMNS)
    lines = (f"| {' | '.join(cells)} |" for cells in (COLUMNS, tuple(rule), *rows))
    return f"### {title}\n\n" + "\n".join(lines)


if __name__ == "__main__":
    main()
