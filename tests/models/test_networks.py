"""Every row of every table: the counts are those of the network, and the table shows them."""

import functools
import re

import pytest

from advdl.models import (
    NETWORKS,
    SEGMENTERS,
    abstract,
    classifier,
    count_multiply_adds,
    count_parameters,
)
from advdl.models.__main__ import COLUMNS, main
from advdl.weights import names

ROWS = {name: row for rows in NETWORKS.values() for name, row in rows.items()}


@functools.cache
def built(name):
    """The network and its variables as shapes, traced once for all tests."""
    model = ROWS[name].build(scan=True) if name == "resnet1202" else ROWS[name].build()
    return model, abstract(model, *ROWS[name].inputs)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow)
        if row.parameters > 10e6 or name.endswith(("44", "56", "110"))
        else name
        for name, row in ROWS.items()
    ],
)
def test_counts_are_those_of_the_row(name):
    row, (model, variables) = ROWS[name], built(name)
    assert count_parameters(variables) == row.parameters
    assert count_multiply_adds(model, variables, *row.inputs) == row.multiply_adds


def test_names_are_of_one_network_each():
    assert len(ROWS) == sum(map(len, NETWORKS.values()))
    assert all(SEGMENTERS[name] is row.build for name, row in NETWORKS["Segmentation"].items())
    assert all(classifier(name) is row for name, row in NETWORKS["Classification"].items())


def test_what_was_published_says_where():
    assert all(re.search(r"\(.+\)$", row.figure) for row in ROWS.values() if row.figure)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if row.parameters > 20e6 else name
        for name, row in ROWS.items()
        if row.weights
    ],
)
def test_weights_that_fit_have_names_for_all_variables(name):
    row, (model, variables) = ROWS[name], built(name)
    if name == "inception_v3":  # pytorch-fid's file has torchvision's names
        row = row._replace(weights=("torchvision",))
    assert set(row.weights) <= set(names.styles(model))
    if name != "resnet1202":  # scanned, so its variables are stacked
        assert names.entries(model, variables, row.weights[0])


def test_the_table_shows_every_network(capsys):
    main([])
    printed = capsys.readouterr().out
    assert all(f" {name} " in printed for name in ROWS)
    for text in ("He 2015", "32×32×3", "269,722", "40,551,040", "8.75", "pytorch_resnet_cifar10"):
        assert text in printed


def test_the_table_in_markdown_has_a_line_for_every_network_and_even_columns(capsys):
    main(["--markdown"])
    lines = capsys.readouterr().out.splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    assert all(len(line) == len(COLUMNS) for line in cells)
    assert [line[0] for line in cells if line[0] not in ("network", "---")] == list(ROWS)
    assert [line for line in lines if line.startswith("### ")] == [f"### {t}" for t in NETWORKS]
    (row,) = (line for line in cells if line[0] == "translator_dot")
    assert row[2] == "40 tokens + length + 40 tokens"
