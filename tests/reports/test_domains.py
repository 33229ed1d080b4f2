"""What is said of translations: of which examples, beside which, and in which pictures."""

from types import SimpleNamespace

import numpy as np
import pytest

from advdl import data, reports, train
from advdl.errors import UserError
from advdl.reports import domains

COMPARED = train.Comparison({"discogan": None, "gan": None}, 2)


def trained_on(training, test, apply, **fields):
    splits = SimpleNamespace(
        train=SimpleNamespace(source=training), evaluations={"test": SimpleNamespace(source=test)}
    )
    return SimpleNamespace(splits=splits, apply=apply, **fields)


@pytest.fixture(scope="module")
def sorted_images():
    """4,500 sorted images of either side, whose single factor is their color."""
    factor = np.linspace(0, 1, 4500)[:, None]
    pixels = np.rint(255 * factor).astype(np.uint8).reshape(-1, 1, 1, 1)
    pixels = np.broadcast_to(pixels, (4500, 2, 2, 1)) + np.zeros((4500, 2, 2, 1), np.uint8)
    pixels[-1] = [[[7], [200]], [[90], [31]]]  # of no other image
    source = data.ArraySource(
        "sorted", "test", {"image": pixels, "label": np.zeros(4500)}, ("all",)
    )
    return data.UnpairedSource(
        source, source, "test", ("a", "b"), {"a": factor, "b": factor}, ("hue",)
    )


@pytest.fixture
def images(sorted_images):
    """(the report, a run whose networks change nothing)."""
    report = reports.ImagesReport(COMPARED, data.DomainsSpec.of(sorted_images))

    def apply(name, inputs, rows, to):
        return inputs["x"]

    return report, trained_on(sorted_images, sorted_images, apply)


@pytest.mark.slow
def test_what_is_measured_is_from_all_images_and_has_its_own_factors(images):
    """What changes nothing keeps the factor of every image that it is of."""
    report, trained = images
    x = report.real(trained.splits.evaluations["test"].source, "a")
    factors = np.linspace(0, 1, 4500)[data.selected(4500, domains.MEASURED)]
    assert len(x) == len(factors) == 4000 and factors.max() > 0.99  # the first 4,000 end at .89
    inside = factors < 1
    shades = (x[inside].mean((1, 2, 3)) + 1) / 2
    np.testing.assert_allclose(shades, factors[inside], atol=1 / 255)
    found = report.measure(trained, "gan-s1")
    assert found["translated/hue_kept"] > 0.999
    assert found["translated/color_correlation"] == pytest.approx(1)
    for name in ("round_trip_error", "nearest_distance", "counterpart_distance"):
        assert found[f"translated/{name}"] == pytest.approx(0, abs=1e-6)
    assert found["translated/deviation"] == pytest.approx(x.astype(np.float64).std(), rel=1e-2)
    assert set(found) == set(report.report.figures)


def test_the_nearest_is_sought_among_all_training_images(images):
    report, trained = images
    last = report.floats(trained.splits.train.source.b.read(np.array([4499]))["image"])
    index, distance = report.near(trained, last)
    assert index.tolist() == [4499] and distance == 0


def test_rows_are_of_the_first_seeds_and_there_and_back(images):
    report, trained = images
    asked = []

    def apply(name, inputs, rows, to):
        asked.append((name, to))
        return -inputs["x"]

    trained.apply = apply
    rows = report.rows(trained, "b", 5)
    assert list(rows) == ["b", "discogan", "discogan, back", "gan", "gan, back", "true counterpart"]
    assert asked == [(f"{name}-s0/translate", to) for name in ("discogan", "gan") for to in "ab"]
    np.testing.assert_allclose(rows["discogan"], 1 - rows["b"], atol=1e-6)
    np.testing.assert_allclose(rows["gan, back"], rows["b"], atol=1e-6)
    assert {x.shape for x in rows.values()} == {(5, 64, 64, 1)}


def test_points_count_modes_and_targets():
    modes = data.open_domains("modes", "test")
    centers = modes.b.mixture.centers_KD

    def apply(name, inputs, rows, to):
        """Everything of A goes to two modes of B."""
        if to == "a":
            return inputs["x"]
        left = inputs["x"][:, :1] < inputs["x"][:, 0].mean()
        return np.where(left, centers[:1], centers[3:4]).astype(np.float32)

    report = reports.PointsReport(COMPARED, data.DomainsSpec.of(modes))
    trained = trained_on(modes, modes, apply)
    found = report.measure(trained, "discogan-s0")
    assert found["translated/targets"] == found["translated/modes"] == 2
    assert found["translated/high_quality"] == 1 and set(found) == set(report.report.figures)
    assert report.floor(trained).figures["modes"] == 10
    with pytest.raises(UserError, match="points"):
        report.predict(trained, SimpleNamespace(files=()), None)


def test_the_verdict_is_on_the_first_and_beside_a_plain_gan_where_there_is_one():
    spec = data.DomainsSpec.of(data.open_domains("modes", "test"))
    error, deviation = domains.ERROR, domains.DEVIATION
    figures = {
        error: {"discogan": [0.1, 0.15], "gan": [2.0, 2.0]},
        deviation: {"discogan": [1.0, 1.1], "gan": [0.1, 0.15]},
    }
    rules = reports.PointsReport(COMPARED, spec).report.rules
    assert [rule(figures).holds for rule in rules] == [True, True]
    figures[error]["discogan"], figures[deviation]["gan"] = [0.1, 0.3], [0.1, 0.3]
    assert [rule(figures).holds for rule in rules] == [False, False]
    alone = train.Comparison({"gan": None}, 1)
    assert len(reports.PointsReport(alone, spec).report.rules) == 1
