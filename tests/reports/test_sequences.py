"""Reports on what networks write, with functions in place of the networks."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from advdl import data, metrics, present, reports, train
from advdl.errors import UserError

PAIRS = {
    "train": [("two", "b"), ("one two three four", "a b c d"), ("two four", "b d")] * 3,
    "val": [("one two three", "a b c")],
    "test": [("one two three four", "a b c d"), ("four three two one", "d c b a"), ("two", "b")],
}
WORDS = dict(zip(("one", "two", "three", "four"), "abcd", strict=True))


@pytest.fixture
def translated(tmp_path, monkeypatch):
    """A network that knows every word by a beam, and greedily forgets the last one of the longest;
    its attention is a diagonal."""
    for part, pairs in PAIRS.items():
        for language, lines in zip("xy", zip(*pairs, strict=True), strict=True):
            (tmp_path / f"{part}.{language}").write_text("\n".join(lines) + "\n")
    texts = data.ParallelTexts(f"folder:{tmp_path}", "x", "y", 10)
    spec = texts.spec(1)

    def apply(name, inputs, rows, width=None):
        assert inputs["source"].shape[1] == 4 and list(inputs)[:2] == ["source", "source_length"]
        if name == "attend":
            return np.broadcast_to(np.eye(5, 4), (len(inputs["source"]), 5, 4))
        out = np.zeros((len(inputs["source"]), 5), np.int32)
        for row, ids, length in zip(out, inputs["source"], inputs["source_length"], strict=True):
            kept = ids[: min(length, 3) if width == 1 else length]
            words = [WORDS.get(spec.source.tokens[n], "d") for n in kept]
            row[: len(words) + 1] = spec.target.framed(" ".join(words))[1:]
        return out

    run = train.Run(tmp_path / "run")
    run.report.mkdir(parents=True)
    drawn = []
    monkeypatch.setattr(present, "draw_attention", lambda pairs, path: drawn.extend(pairs))
    monkeypatch.setattr(present, "draw_curves", lambda *given: None)
    evaluations = {part: texts.batches(part, spec, 1, 2) for part in ("val", "test")}
    return SimpleNamespace(
        spec=spec,
        splits=SimpleNamespace(train=texts.batches("train", spec, 1, 2), evaluations=evaluations),
        apply=apply,
        run=run,
        folder=run.report,
        figures={"val/nats_per_word_teacher_forced": 0.5},
        lines=list,
        drawn=drawn,
    )


def test_translations_are_scored_beside_trivial_answers(translated):
    page = reports.TranslationReport(translated.spec, paper="28.3, there")(translated)
    found = json.loads((translated.run.folder / "verdict.json").read_text())
    assert found["beam of 5"] == {"bleu": pytest.approx(100), "chrf": 100, "exact_match": 1}
    assert found["greedy"]["exact_match"] == pytest.approx(1 / 3) and found["greedy"]["bleu"] < 90
    wanted = [target for _, target in PAIRS["test"]]
    for name, texts in {
        "the source as it is": [source for source, _ in PAIRS["test"]],
        "the commonest sentence": ["a b c d"] * 3,
    }.items():
        assert found[name]["bleu"] == pytest.approx(metrics.corpus_bleu(texts, wanted)[0])
        assert found[name]["chrf"] == pytest.approx(metrics.corpus_chrf(texts, wanted)[0])
    assert "version:" in found["signature"] and found["left_out"] == 0
    assert found["verdict"] == page.sentence and "100.0% of 3 test sentences" in page.sentence
    assert page.figures[0].paper == "28.3, there" and "commonest" in page.figures[0].baseline
    assert page.picture.path == "attention.png"
    shown = next(section for section in page.sections if section.title == "Test sentences")
    assert "four three two one\n→ d c b a\n(wanted: d c b a)" in shown.text


def test_attention_is_drawn_of_the_words_that_are_there(translated):
    reports.TranslationReport(translated.spec)(translated)
    source, target, weights = translated.drawn[-1]
    assert (source, target) == (["two"], ["b", "."])
    np.testing.assert_array_equal(weights, np.eye(2, 1))
    assert [pair[0] for pair in translated.drawn] == [s.split() for s, _ in PAIRS["test"]]


def test_without_attention_the_page_opens_with_the_curves(translated):
    page = reports.TranslationReport(translated.spec, attention=False)(translated)
    assert page.picture.path == "curves.png" and not translated.drawn


def test_sentences_are_translated_and_what_is_not_read_is_said(translated, capsys, monkeypatch):
    report = reports.TranslationReport(translated.spec)
    options = SimpleNamespace(sentences=("one zebra", "two " * 6), width=1)
    found = report.predict(translated, options, translated.folder)
    assert list(found) == list(options.sentences) and found["one zebra"] == "a d"
    said = capsys.readouterr().err
    assert "read as <unk>: zebra" in said and "has 6 tokens; only 4 are read" in said
    monkeypatch.setattr("sys.stdin", io.StringIO("two\none two\n"))
    options = SimpleNamespace(sentences=(), width=5)
    assert report.predict(translated, options, translated.folder) == {"two": "b", "one two": "a b"}
    for empty in (("one", " "), ("",)):
        with pytest.raises(UserError, match="is empty; give words"):
            options = SimpleNamespace(sentences=empty, width=5)
            report.predict(translated, options, translated.folder)


# ---- captions ----


@pytest.fixture
def captioned(tmp_path):
    """A network that says the brightness of an image by a beam, and greedily the same of all; it
    looks at one place after the other."""
    bright = {20: "a dark cat", 120: "a gray cat", 220: "a light cat"}

    def album(count, several):
        values = [list(bright)[n % 3] for n in range(count)]
        images = np.array(values, np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
        source = data.ArraySource("some", "train", {"image": images, "label": np.zeros(count)})
        captions = [(bright[value], f"{bright[value]} here")[: 1 + several] for value in values]
        return data.CaptionedImages(source, tuple(captions))

    spec = data.CaptionSpec.of(album(9, True), 1, 6)
    normalize = data.to_float(0.0, 255.0)

    def apply(name, inputs, rows, width=None):
        values = inputs["image"].mean((1, 2, 3)).round().astype(int)
        if name == "features":
            return values[:, None].astype(np.float32)
        if name == "attend":
            return np.broadcast_to(np.eye(7, 4), (len(values), 7, 4))
        out = np.zeros((len(values), 7), np.int32)
        for row, value in zip(out, values, strict=True):
            ids = spec.text.framed(bright[20 if width == 1 else int(value)])[1:]
            row[: len(ids)] = ids
        return out

    run = train.Run(tmp_path / "run")
    run.report.mkdir(parents=True)
    (run.folder / "metrics.jsonl").write_text(
        json.dumps({"step": 1, "train/nats_per_word": 1.0, "val/nats_per_word": 1.0})
        + "\n"
        + json.dumps({"step": 2, "val/exact_match": 0.5})
        + "\n"
    )

    def batches(part, count, several=True):
        source = data.CaptionSource(album(count, several), spec.text, drawn=part == "train")
        return data.batches_of(part, source, 4, 0, normalize)

    splits = SimpleNamespace(
        train=batches("train", 9), evaluations={"val": batches("val", 30), "test": batches("t", 40)}
    )
    return SimpleNamespace(
        spec=spec,
        normalize=normalize,
        splits=splits,
        apply=apply,
        run=run,
        folder=run.report,
        lines=lambda: train.read_metrics(run.folder / "metrics.jsonl"),
        batches=batches,
    )


def test_captions_are_scored_beside_trivial_ones(captioned):
    report = reports.CaptionReport(captioned.spec, captioned.normalize, (2, 2), paper="27.7, there")
    page = report(captioned)
    found = json.loads((captioned.run.folder / "verdict.json").read_text())
    assert found["beam of 3"]["bleu_3"] == pytest.approx(found["beam of 3"]["exact_match"]) == 1
    assert found["greedy"]["exact_match"] == pytest.approx(14 / 40)
    assert found["the commonest caption"]["exact_match"] == pytest.approx(14 / 40)
    for nearest in ("by pixels", "by features"):
        assert found[f"the caption of the nearest training image, {nearest}"]["exact_match"] == 1
    assert found["a person against the others"]["exact_match"] == 0
    assert found["9 training images, beam of 3"]["exact_match"] == 1
    assert page.sentence.startswith("100.0% of 40 images of test")
    assert page.picture.path == "looks.png" and page.figures[1].paper == "27.7, there"
    names = {path.name for path in captioned.folder.iterdir()}
    assert names == {f"{n}.png" for n in ("right", "learned", "looks", "looks_learned", "curves")}
    assert report.baselines(captioned.splits).keys() == {
        "the commonest caption",
        "the caption of the nearest training image, by pixels",
        "a person against the others",
    }


def test_without_attention_or_a_test_part_captions_are_of_val(captioned):
    del captioned.splits.evaluations["test"]
    page = reports.CaptionReport(captioned.spec, captioned.normalize)(captioned)
    assert page.sentence.startswith("100.0% of 30 images of val")
    assert page.picture.path == "right.png" and not (captioned.folder / "looks.png").exists()


def test_looks_are_of_the_words_that_were_written(captioned, monkeypatch):
    drawn = []
    monkeypatch.setattr(present, "draw_looks", lambda *given: drawn.append(given))
    reports.CaptionReport(captioned.spec, captioned.normalize, (2, 2))(captioned)
    images, sentences, maps, path = drawn[0]
    assert path.name == "looks.png" and len(images) == len(sentences) == len(maps) == 6
    assert {tuple(words) for words in sentences} <= {("a", n, "cat") for n in DARKNESS}
    for own in maps:
        np.testing.assert_array_equal(own, np.eye(3, 4).reshape(3, 2, 2))


DARKNESS = ("dark", "gray", "light")


def test_images_are_shown_from_everywhere_with_their_own_captions(monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr(
        present, "draw_grid", lambda images, path, captions, **_: shown.append((images, captions))
    )
    images = np.arange(90, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    captions = [(f"a {n}", [f"b {n}"]) for n in range(90)]
    reports.sequences.draw_captioned(images, captions, tmp_path / "some.png")
    ((pictures, captions),) = shown
    rows = pictures[:, 0, 0, 0]
    assert len(rows) == 18 and np.histogram(rows, 3, (0, 90))[0].min() > 0
    assert captions == [f"a {n} (b {n})" for n in rows]


def test_images_are_captioned_without_the_data(captioned, tmp_path):
    captioned.splits = None
    file = tmp_path / "gray.png"
    Image.fromarray(np.full((20, 30), 120, np.uint8)).save(file)
    report = reports.CaptionReport(captioned.spec, captioned.normalize, (2, 2))
    options = SimpleNamespace(files=(file,), width=3)
    assert report.predict(captioned, options, tmp_path) == {str(file): "a gray cat"}
    assert (tmp_path / "gray_looks.png").exists()
    with pytest.raises(UserError, match="predict needs images"):
        report.predict(captioned, SimpleNamespace(files=(), width=3), tmp_path)
