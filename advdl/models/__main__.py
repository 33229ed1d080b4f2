"""Prints every classifier with paper, year, input, parameters and multiply-adds, counted, not
copied.

python -m advdl.models
"""

from rich import box
from rich.console import Console
from rich.table import Table

from advdl.models import CLASSIFIERS, count_multiply_adds, count_parameters


def main() -> None:
    """Counts and prints; no network is run."""
    table = Table(box=box.SIMPLE)
    for column in ("network", "paper", "year", "input", "parameters", "multiply-adds", "published"):
        table.add_column(
            column, justify="right" if column in ("parameters", "multiply-adds") else "left"
        )
    for name, row in CLASSIFIERS.items():
        model = row.build(scan=True) if name.startswith("resnet1202") else row.build()
        counts = (
            f"{count(model, row.input):,}" for count in (count_parameters, count_multiply_adds)
        )
        table.add_row(
            name, row.paper, str(row.year), "×".join(map(str, row.input)), *counts, row.figure
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
