"""Reports on what networks write, with functions in place of the networks."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

from advdl import data, metrics, present, reports, train
from advdl.errors import UserError

PAIRS = {
    "train": [("one two three four", "a b c d"), ("two", "b"), ("two four", "b d")] * 3,
    "val": [("one", "a")],
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
    evaluations = {"test": texts.batches("test", spec, 1, 2)}
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
    assert found["beam of 5"] == {"bleu": pytest.approx(100), "exact_match": 1}
    assert found["greedy"]["exact_match"] == pytest.approx(1 / 3) and found["greedy"]["bleu"] < 90
    wanted = [target for _, target in PAIRS["test"]]
    for name, texts in {
        "the source as it is": [source for source, _ in PAIRS["test"]],
        "the commonest sentence": ["a b c d"] * 3,
    }.items():
        assert found[name]["bleu"] == pytest.approx(metrics.corpus_bleu(texts, wanted)[0])
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
