"""Games on points: figures of samples, whatever the discriminators that play say of them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from advdl import data, metrics, models, present, reports, train
from advdl.models import mlp
from advdl.reports import discriminators, mixtures

LEARNER = train.Learner(None, None, None)
CURVES = ["value", "d_real", "d_fake", "jsd", "modes", "high_quality"]


def report_of(name, rows=2000, labels=("right", "wrong")):
    spec = data.MixtureSpec.of(name)
    mixture, dimensions = spec.mixture, len(spec.centers[0])
    critic = mlp.Discriminator(tuple(mixture.mean), tuple(mixture.std), (8,))
    noise = models.Noise("unit-uniform", dimensions)
    game = models.Game(mlp.Generator(dimensions, (8,)), critic, noise, "point")
    compared = train.Comparison(dict.fromkeys(labels, LEARNER), 2)
    kind = mixtures.LineReport if dimensions == 1 else mixtures.PlaneReport
    real_labels = dict(zip(labels, (1.0, 0.9), strict=True))
    return kind(spec, compared, dict.fromkeys(labels, game), real_labels, rows=rows)


@pytest.fixture
def trained(tmp_path):
    """`trained(report)`: members called right draw data, the others one point far off; both are
    judged by 1/2."""

    def trained(report):
        def apply(name, inputs, rows):
            member, _, function = name.partition("/")
            count = len(next(iter(inputs.values())))
            if function == "judge":
                return np.full(count, 0.5, np.float32)
            made = report.real(count, 7)
            return made if member.startswith("right") else np.zeros_like(made)

        run = train.Run(tmp_path)
        run.report.mkdir(exist_ok=True)
        members = [m for name in report.games for m in report.compared.members(name)]
        lines = [
            {"step": t} | {f"test/{member}/{name}": 0.5 for member in members for name in CURVES}
            for t in (10, 20)
        ]
        return SimpleNamespace(
            run=run,
            folder=run.report,
            step=20,
            figures={},
            apply=apply,
            variables=lambda player: None,
            lines=lambda: lines,
            frame=lambda: run.report / "frames" / "0000020.png",
            animation=lambda milliseconds: "samples.png",
        )

    return trained


@pytest.fixture
def untrained(monkeypatch):
    """A discriminator that is trained to its optimum finds nothing."""
    monkeypatch.setattr(discriminators, "fit_discriminator", lambda *_: lambda *_: None)
    monkeypatch.setattr(discriminators, "jsd_by_discriminator", lambda *_: 0.0)


def test_samples_on_the_line_are_measured_whatever_their_discriminators_say(trained, untrained):
    report = report_of("normal")
    stub = trained(report)
    right, wrong = (report.measure(stub, f"{name}-s1") for name in ("right", "wrong"))
    assert set(right) == set(report.labels)
    assert right["samples/wasserstein_1"] < 0.1 < 3.9 < wrong["samples/wasserstein_1"]
    assert right["samples/jsd_in_histograms"] < 0.05
    assert wrong["samples/jsd_in_histograms"] == pytest.approx(np.log(2), rel=1e-3)
    assert wrong["samples/jsd_difference"] == wrong["samples/jsd_in_histograms"]
    assert right["samples/d_fake"] == wrong["samples/d_fake"] == 0.5


def test_modes_in_the_plane_are_counted(trained):
    report = report_of("ring")
    stub = trained(report)
    right, wrong = (report.measure(stub, f"{name}-s0") for name in ("right", "wrong"))
    assert right["samples/modes"] == 8 and right["samples/high_quality"] > 0.95
    assert wrong["samples/modes"] == 0
    found = report.baselines()
    assert found["data"]["modes"] == 8 and found["one Gaussian"]["high_quality"] < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["normal", "ring"])
def test_the_page_is_whole_and_the_verdict_on_the_first_learner(
    name, trained, untrained, tmp_path, monkeypatch
):
    monkeypatch.setattr(mixtures.LineReport, "theory", lambda self: [])
    monkeypatch.setitem(mixtures.AT_MOST, "normal", {"samples/wasserstein_1": 0.1})
    for labels, holds in ((("right", "wrong"), True), (("wrong", "right"), False)):
        report = report_of(name, labels=labels)
        page = report.report(trained(report))
        present.write_report(tmp_path / "report", "points", page)
        verdict = json.loads((tmp_path / "verdict.json").read_text())
        assert verdict["holds"] is holds and labels[0] in verdict["verdict"]
        assert set(report.labels) <= set(verdict)
        assert [len(values) for values in verdict[next(iter(report.labels))].values()] == [2, 2]
        assert len(page.figures) == 2 and all(figure.baseline for figure in page.figures)


def test_a_verdict_is_of_the_worst_seed():
    rule = metrics.Bounds(mixtures.AT_LEAST["ring"], mixtures.AT_MOST["ring"])
    found = {
        "samples/modes": {"ring": [8, 8, 7]},
        "samples/high_quality": {"ring": [0.9, 0.8, 0.8]},
        "samples/reverse_kl": {"ring": [0.01, 0.02, 0.01]},
    }
    missed = rule(found, {})
    assert not missed.holds and missed.sentence.count("missed") == 1
    kept = rule(found | {"samples/modes": {"ring": [8, 8, 8]}}, {})
    assert kept.holds and "missed" not in kept.sentence


def test_noise_of_one_number_is_at_even_places_within_its_bound():
    report = report_of("normal")
    z = report.noise("right", 1000, 0)
    assert z.shape == (1000, 1) and -1 < z.min() < -0.998 and 0.998 < z.max() < 1
    np.testing.assert_allclose(np.diff(z[:, 0]), 2 / 1000, rtol=1e-3)
    drawn = report_of("ring").noise("right", 1000, 0)
    assert drawn.shape == (1000, 2) and np.ptp(np.diff(drawn[:, 0])) > 1


@pytest.mark.parametrize("name", [pytest.param("normal", marks=pytest.mark.slow), "ring"])
def test_a_prediction_draws_samples_of_every_member_without_data(
    name, trained, untrained, tmp_path
):
    report = report_of(name)
    options = SimpleNamespace(count=7, sample_seed=3)
    found = report.predict(trained(report), options, tmp_path)
    assert set(found) == set(report.labels)
    with np.load(tmp_path / "samples.npz") as drawn:
        assert {member: points.shape for member, points in drawn.items()} == {
            f"{label}-s{seed}": (7, len(report.spec.centers[0]))
            for label in ("right", "wrong")
            for seed in (0, 1)
        }
    assert (tmp_path / "samples.png").exists()


@pytest.mark.experiments
def test_a_discriminator_at_its_optimum_is_what_proposition_1_says(trained, optimized):
    report = report_of("normal")
    section = report.optimum(trained(report), seeds=1)
    found = section.figures
    assert found["against N(4.5, 0.7²)"]["mean |D − best|"][0] <= 0.01
    assert found["against N(4.5, 0.7²)"]["V off equation 6"][0] <= 0.002
    assert found["against the data itself"]["mean D"][0] == pytest.approx(0.5, abs=0.01)
    assert found["data labeled 0.9"]["mean D"][0] == pytest.approx(0.45, abs=0.01)
    assert section.text.count("passes") == 3


@pytest.mark.slow
def test_the_section_on_saturation_shows_both_gradients(trained, monkeypatch):
    names = ("minimax", "nonsaturating", "ratio", "accuracy", "d_fake")
    values = {name: np.linspace(1, 0.1, 5) for name in names}
    monkeypatch.setattr(discriminators, "saturation", lambda game, real: values)
    report = report_of("normal")
    stub = trained(report)
    section = report.saturation(stub)
    assert section.figures["ratio of the norms at first"] == 1
    assert section.figures["ratio of the norms at the end"] == pytest.approx(0.1)
    assert [(stub.folder / picture).exists() for picture in section.pictures] == [True]


@pytest.mark.slow
def test_a_report_is_of_a_line_or_of_a_plane():
    for name, kind in (("normal", mixtures.LineReport), ("grid", mixtures.PlaneReport)):
        own = report_of(name)
        made = reports.mixture_report(own.spec, own.compared, own.games, own.real_labels)
        assert type(made) is kind
