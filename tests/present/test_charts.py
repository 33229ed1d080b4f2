"""Charts: what is drawn where, the same bytes whatever the reader's settings, nothing left behind
in matplotlib."""

import subprocess
import sys

import matplotlib
import matplotlib.colors
import numpy as np
import pytest
from PIL import Image
from scipy.signal import savgol_filter

from advdl import present
from advdl.present import curves, figure

STEPS = np.arange(10, 1010, 10)
LINES = [
    {"step": int(t), "train/loss": np.exp(-t / 300) + 0.1 * np.sin(t), "train/rate": 0.1 / t}
    for t in STEPS
]
LINES += [{"step": t, "test/accuracy": 1 - 1 / t} for t in (500, 1000)]
MATRIX = np.array([[40, 1, 0], [2, 0, 8], [0, 0, 0]])


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def where(path, color, tolerance=2):
    """(height, width) bool: pixels of that color."""
    return (
        np.abs(pixels(path) - np.round(np.array(matplotlib.colors.to_rgb(color)) * 255))
        <= tolerance
    ).all(-1)


DRAW = {
    "by step": lambda path: present.draw_by_step(
        {"rnn": [np.linspace(0.5, 1, 50), np.full(50, 0.6)], "$5": [np.geomspace(1e-3, 1, 50)]},
        path,
        "title",
        ylabel="share",
        references={"chance": 0.5},
        border=10,
        border_label="trained",
        log=True,
        limits=(1e-4, 2),
    ),
    "states": lambda path: present.draw_states(
        {
            "bits": np.sign(np.sin(np.arange(20.0)))[:, None],
            "rnn": np.random.default_rng(0).normal(size=(20, 8)),
        },
        path,
        "01" * 10,
    ),
    "trade": lambda path: present.draw_trade(
        {"0": (0.1, 0.9), "$5": (0.4, 0.2)}, path, "smoothness", "error", "change"
    ),
    "curves": lambda path: present.draw_curves(
        LINES,
        path,
        [
            present.Panel("Loss", ["train/loss"], {"−log 4 of $5_": 0.5}),
            present.Panel("Rate", {"step size": "train/rate"}, log=True),
            present.Panel("Accuracy", ["test/accuracy"]),
        ],
    ),
    "confusion": lambda path: present.draw_confusion(
        MATRIX, path, ["cat", "dog_$", "a very long name"]
    ),
    "bars": lambda path: present.draw_bars({"a": [0.1, 0.9], "b": [0.5, 0.5]}, path, ["x", "$5_"]),
    "histogram": lambda path: present.draw_histogram({"a": range(9), "b": [3, np.nan]}, path),
}


@pytest.mark.parametrize("name", DRAW)
def test_the_same_input_writes_the_same_bytes_whatever_the_settings(name, tmp_path):
    path = DRAW[name](tmp_path / "a.png")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "pink", "savefig.dpi": 30}):
        before = dict(matplotlib.rcParams)
        again = DRAW[name](tmp_path / "b.png")
        assert dict(matplotlib.rcParams) == before
    assert path == tmp_path / "a.png" and path.read_bytes() == again.read_bytes()
    with Image.open(path) as image:
        assert not {"Software", "Creation Time", "date"} & set(image.info)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.mark.slow
def test_pyplot_is_not_needed():
    program = "import sys; import advdl.present; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run(
        [sys.executable, "-c", program], check=True
    )  # others in this process may have imported it


def test_a_diverged_or_very_short_run_can_be_drawn(tmp_path):
    lines = [{"step": 1, "a": float("nan"), "b": 0.0}]
    panels = [present.Panel("A", ["a", "b"], log=True), present.Panel("B", ["b"])]
    assert present.draw_curves(lines, tmp_path / "a.png", panels).stat().st_size > 1000


def test_what_was_measured_once_is_shown_against_zero(tmp_path):
    """At the right, as high as its share of the largest value says; a point alone spans no axis."""
    heights = []
    for value in (0.25, 0.5, 0.75):
        panel = present.Panel("A", {"a": "a"}, references={"all": 1.0})
        path = present.draw_curves([{"step": 150, "a": value}], tmp_path / f"{value}.png", [panel])
        rows, columns = np.nonzero(where(path, figure.COLORS[0]))
        dot = columns > columns.max() - 8  # beside the legend
        heights.append(rows[dot].mean())
        assert columns.max() > 0.85 * pixels(path).shape[1]
    assert (
        heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=3)
        and heights[0] > heights[2] + 100
    )


def test_a_line_of_few_points_is_drawn_where_its_values_are(tmp_path):
    lines = [{"step": t, "a": value} for t, value in enumerate([0.0, 0.0, 1.0, 1.0])]
    path = present.draw_curves(lines, tmp_path / "a.png", [present.Panel("A", ["a"])])
    rows, columns = np.nonzero(where(path, figure.COLORS[0]))
    early, late = (
        rows[columns < np.quantile(columns, 0.2)],
        rows[columns > np.quantile(columns, 0.8)],
    )
    assert early.min() > late.max()  # rows count from the top


def test_unknown_metrics_are_refused_with_what_is_near():
    with pytest.raises(ValueError, match="train/los'.*nearest: train/loss"):
        curves.points(LINES, "train/los")


def test_points_are_the_finite_values_where_they_were_measured():
    lines = [
        {"step": 1, "a": 2.0},
        {"step": 2},
        {"step": 3, "a": float("inf")},
        {"step": 4, "a": 5},
    ]
    np.testing.assert_array_equal(curves.points(lines, "a"), [[1, 4], [2, 5]])


@pytest.mark.parametrize("count", [40, 101, 1000])
def test_smoothing_is_scipys_filter_and_leaves_straight_lines_alone(count):
    value = np.random.default_rng(0).normal(size=count)
    width = 2 * max(2, count // 30) + 1
    np.testing.assert_allclose(
        curves.smooth(value), savgol_filter(value, width, 1, mode="interp"), atol=1e-12
    )
    np.testing.assert_allclose(
        curves.smooth(3.0 - 2 * np.arange(count)), 3.0 - 2 * np.arange(count), atol=1e-9
    )


def test_confusion_colors_are_shares_of_the_row(tmp_path):
    dark, light = (matplotlib.colormaps["Blues"](share)[:3] for share in (1.0, 0.0))
    path = present.draw_confusion(np.array([[7, 0], [0, 100_000]]), tmp_path / "a.png")
    full = where(path, dark)
    full[:, int(full.shape[1] * 0.86) :] = False  # the color bar
    rows, columns = np.nonzero(full)
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    assert (
        (rows < middle[0]) == (columns < middle[1])
    ).mean() > 0.99  # on the diagonal, the rare class as dark
    upper = (rows < middle[0]).mean()
    assert 0.45 < upper < 0.55
    assert not where(present.draw_confusion(np.zeros((2, 2), int), tmp_path / "b.png"), dark)[
        :, :300
    ].any()
    assert where(tmp_path / "b.png", light).any()


@pytest.mark.slow
def test_confusion_writes_counts_only_where_they_fit(tmp_path):
    few, many = np.eye(30, dtype=int), np.eye(31, dtype=int)
    present.draw_confusion(few, tmp_path / "few.png")
    present.draw_confusion(many, tmp_path / "many.png")
    written = [
        where(tmp_path / f"{name}.png", "white")[100:900, 100:900].sum() for name in ("few", "many")
    ]
    assert written[0] > 0 and written[1] == 0


def test_bars_are_as_high_as_their_values(tmp_path):
    path = present.draw_bars({"": [0.1, 0.2, 0.4]}, tmp_path / "a.png", ["a", "b", "c"])
    heights = where(path, figure.COLORS[0]).sum(0)
    a, b, c = (heights[heights > 0][i] for i in (3, len(heights[heights > 0]) // 2, -4))
    assert b == pytest.approx(2 * a, abs=3) and c == pytest.approx(4 * a, abs=6)


def test_histograms_are_shares_so_that_sizes_compare(tmp_path):
    values = np.random.default_rng(0).normal(size=50)
    path = present.draw_histogram({"a": values}, tmp_path / "a.png")
    again = present.draw_histogram({"a": np.tile(values, 7)}, tmp_path / "b.png")
    np.testing.assert_array_equal(pixels(path), pixels(again))


def test_what_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(ValueError, match="2 names"):
        present.draw_confusion(MATRIX, path, ["a", "b"])
    with pytest.raises(ValueError, match="for 2 names"):
        present.draw_bars({"a": [1, 2], "b": [1]}, path, ["a", "b"])
    with pytest.raises(ValueError, match="no finite values in b"):
        present.draw_histogram({"a": [1.0], "b": [np.nan]}, path)
    with pytest.raises(ValueError, match="everything"):
        present.draw_histogram({}, path)
    assert not path.exists()


@pytest.mark.slow
def test_a_label_of_several_metrics_is_their_mean_where_all_were_measured(tmp_path):
    lines = [
        {"step": 1, "a": 1.0, "b": 3.0},
        {"step": 2, "a": 9.0},
        {"step": 3, "a": 5.0, "b": 6.0},
        {"step": 4, "b": 2.0},
    ]
    at, value = curves.mean([curves.points(lines, name) for name in "ab"])
    np.testing.assert_array_equal([at, value], [[1, 3], [2.0, 5.5]])
    panel = present.Panel("A", {"both": ["a", "b"], "again": "a"}, styles={"again": (3, 0)})
    path = present.draw_curves(lines, tmp_path / "a.png", [panel, panel], share=True)
    assert where(path, figure.COLORS[0]).any() and where(path, figure.COLORS[3]).any()
    assert not where(path, figure.COLORS[1]).any()  # the place of "again", whose color is said
