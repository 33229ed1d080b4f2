"""Reports on a language model, with functions in place of it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from advdl import data, present, reports, train

LINE = 'the "loop" of 7\n'


def read(path):
    return train.read_metrics(path / "metrics.jsonl")


@pytest.fixture
def model(tmp_path):
    """`model("words")` -> a network that foresees every token with a probability of one half, and
    goes wrong at the end of a line; fed its own, it is right only at first. One of its units is the
    place in the line."""

    def model(unit, count=60):
        corpus = data.Corpus("some", LINE * count, LINE * 20, LINE * 20)
        spec = data.CorpusSpec.of(corpus, unit, 1, 270)
        end = spec.text.encode_lines("\n")[-1:] if spec.text.lossless else [data.END]
        asked = []

        def apply(name, inputs, rows, **settings):
            asked.append((name, {key: x.shape for key, x in inputs.items()}, settings))
            if name == "write":
                return np.tile(spec.text.encode_lines(LINE), 60)[None, : settings["steps"]]
            if name == "go_on":
                wanted = inputs["tokens"][:, settings["context"] + 1 :]
                right = np.ones(wanted.shape, bool)
                right[:, 1:] = not settings["sampling"]
                return {"nats": np.where(right, 0.5, 3.0), "right": right}
            targets = inputs["targets"]
            column = (np.arange(targets.shape[1]) + 1) % len(spec.text.encode_lines(LINE))
            states = np.stack([np.sin(np.arange(len(column)) * 7.0), column], -1)
            return {
                "nats": np.full(targets.shape, np.log(2)),
                "right": ~np.isin(targets, end),
                "states": states[None].astype(np.float32),
            }

        run = train.Run(tmp_path / "run")
        run.report.mkdir(parents=True)
        lines = [
            {"step": 1, "train/loss": 1.0, "train/accuracy": 0.1},
            {"step": 1, "val/nats_per_token": 1.0, "val/accuracy": 0.1},
        ]
        (run.folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
        parts = {
            part: data.stream_batches(corpus, part, spec, 2, 8, seed=0)
            for part in ("train", "val", "test")
        }
        return SimpleNamespace(
            spec=spec,
            splits=SimpleNamespace(train=parts.pop("train"), evaluations=parts),
            apply=apply,
            asked=asked,
            run=run,
            folder=run.report,
            step=3,
            lines=lambda: read(run.folder),
        )

    return model


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["characters", "words", "subwords"])
def test_a_text_is_scored_beside_counts_and_compressors(model, unit):
    trained = model(unit)
    report = reports.LanguageReport(trained.spec, 8, "82.7, there")
    report.snapshot(trained)
    page = report(trained)
    found = json.loads((trained.run.folder / "verdict.json").read_text())
    assert found["test"]["perplexity"] == pytest.approx(2)
    ids = trained.splits.evaluations["test"].ids
    lossless = unit != "words"
    assert ("bits_per_character" in found["test"]) == ("bz2" in found) == lossless
    if lossless:
        rate = len(ids) / (20 * len(LINE))
        assert found["test"]["bits_per_character"] == pytest.approx(rate)
    assert found["counts of pairs"]["perplexity"] < found["counts of single tokens"]["perplexity"]
    assert found["verdict"] == page.sentence and found["unknown"] == 0
    assert ("bits per character" if lossless else "perplexity on") in page.sentence
    assert "Far from the last given token 100.0% are right, and 0.0%" in page.sentence
    perplexity = next(figure for figure in page.figures if "perplexity" in figure.label)
    assert perplexity.paper == "82.7, there" and len(page.figures) == 2 + lossless
    names = {path.name for path in trained.folder.iterdir()}
    drawn = {"surprise.png", "units.png"} if unit == "characters" else set()
    assert names == {"curves.png", "free_running.png", "written_000003.txt"} | drawn
    wanted = "surprise.png" if drawn else "free_running.png"
    assert page.picture.path == wanted
    written = next(section for section in page.sections if section.title == "What it writes")
    assert written.text.startswith("After 3 updates:\nthe")


@pytest.mark.slow
def test_a_network_that_learns_as_it_reads_is_scored_on_val_and_test(model):
    """The stand-in foresees with one half whatever it is asked; what counts is that it is asked."""
    trained = model("characters")
    page = reports.LanguageReport(trained.spec, 8, adapt=0.25)(trained)
    asked = [
        (shapes["inputs"][1], given) for name, shapes, given in trained.asked if name == "adapt"
    ]
    lengths = [
        -(-(len(trained.splits.evaluations[part].ids) - 1) // 8) * 8 for part in ("val", "test")
    ]
    assert asked == [(length, {"rate": 0.25}) for length in lengths]
    found = json.loads((trained.run.folder / "verdict.json").read_text())
    assert found["adapted"]["test"] == pytest.approx(found["test"])
    assert "dynamic evaluation at the rate 0.25" in page.sentence


@pytest.mark.slow
@pytest.mark.parametrize("adapt", [0.0, 0.25])
def test_a_network_that_looks_up_what_it_has_read_is_scored_on_val_and_test(model, adapt):
    """The stand-in's states tell the place in a line that comes again and again, which is enough
    to foresee more than every other token."""
    trained = model("characters")
    page = reports.LanguageReport(trained.spec, 8, adapt=adapt, lookup=10_000)(trained)
    found = json.loads((trained.run.folder / "verdict.json").read_text())
    looked, plain = found["looked_up"], found["test"]
    assert looked["share"] == 0.9 and ("adapted" in found) == bool(adapt)
    for part in ("val", "test"):
        assert looked[part]["nats_per_token"] < plain["nats_per_token"] - 0.2
    assert (
        f"looks up what it has read has {looked['test']['bits_per_character']:.4g}" in page.sentence
    )


def test_the_whole_text_is_read_in_windows(model):
    trained = model("characters")
    ids = trained.splits.evaluations["test"].ids
    read = reports.LanguageReport(trained.spec, 7).read(trained, ids)
    ((name, shapes, _),) = trained.asked
    assert name == "read" and shapes["inputs"][1] % 7 == 0 and len(read["nats"]) == len(ids) - 1
    lines = trained.spec.text.decode_lines(ids[1:][~read["right"]])
    assert set(lines) == {"\n"}


def test_units_that_are_drawn_go_best_with_the_place(model, monkeypatch):
    trained, drawn = model("characters"), []
    monkeypatch.setattr(present, "draw_characters", lambda texts, path: drawn.append(texts))
    reports.LanguageReport(trained.spec, 8)(trained)
    surprise, units = drawn
    np.testing.assert_allclose(surprise[0][2], 1)
    assert surprise[0][1].startswith("he") and len(surprise[0][1]) == len(surprise[0][2])
    assert units[0][1].startswith("the") and units[0][2][0] < 0 < units[0][2][len(LINE) - 2]
    assert units[0][0].startswith("unit 1, which goes best with the place in the line: r = 1.00")


@pytest.mark.slow
def test_a_text_that_is_too_short_to_go_on_is_not_drawn(model):
    trained = model("characters")
    report = reports.LanguageReport(trained.spec, 400)
    assert not report.free_running(trained, trained.splits.evaluations["test"].ids)
    page = report(trained)
    assert "Far from" not in page.sentence and not (trained.folder / "free_running.png").exists()


def test_beginnings_go_on_without_the_text(model, capsys):
    trained = model("words")
    trained.splits = None
    options = SimpleNamespace(
        beginnings=("the zebra", ""), length=7, temperature=0.5, top_k=3, top_p=0.9, seed=4
    )
    report = reports.LanguageReport(trained.spec, 8)
    found = report.predict(trained, options, trained.folder)
    assert found == {"the zebra": 'the "loop" of 7\n', "": 'the "loop" of 7\n'}
    assert "read as <unk>: zebra" in capsys.readouterr().err
    (_, shapes, settings), (_, empty, _) = trained.asked
    assert shapes == {"beginning": (1, 3), "key": (1, 2)} and empty["beginning"] == (1, 1)
    assert settings == {"steps": 7, "temperature": 0.5, "top_k": 3, "top_p": 0.9}


def test_the_perplexity_of_a_network_that_diverged_is_infinite(model):
    trained = model("words")
    ids = trained.splits.evaluations["test"].ids
    found = reports.LanguageReport(trained.spec, 8, "").figures(1e4, ids)
    assert found == {"nats_per_token": 1e4, "perplexity": float("inf")}
