"""Reports on classes of texts, of a network that counts good and bad words."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from advdl import data, present, train
from advdl.errors import UserError
from advdl.reports import SentencesReport, sentences

GOOD, BAD = ("good", "fine"), ("bad", "dull")
TEXTS = tuple(f"a {word} film number {n}" for n in range(6) for word in GOOD + BAD)
LABEL = np.array([int(text.split()[1] in GOOD) for text in TEXTS], np.int32)
FOUND = data.TextSplits(("neg", "pos"), *[data.LabeledTexts(TEXTS, LABEL)] * 3)
SPEC = FOUND.spec(1, 6)


@pytest.fixture
def trained(tmp_path):
    def apply(name, inputs, rows=64):
        assert name == "explain" and set(inputs) == {"token", "token_length"}
        words = np.array(SPEC.text.vocabulary.tokens)[inputs["token"]]
        worth = np.isin(words, GOOD).astype(np.float32) - np.isin(words, BAD)
        p = 1 / (1 + np.exp(-3 * worth.sum(1) - np.isin(words, "fine").sum(1)))
        weight = np.where(p[:, None] > 0.5, worth, -worth)
        return {"probability": np.stack([1 - p, p], 1), "weight": weight}

    names = ("train", "val", "test")
    batches = {name: FOUND.batches(name, SPEC, 1, 4) for name in names}
    run = train.Run(tmp_path / "run")
    run.report.mkdir(parents=True)
    both = {f"{name}/{metric}": 0.5 for name in names for metric in ("loss", "accuracy")}
    return SimpleNamespace(
        spec=SPEC,
        splits=SimpleNamespace(
            spec=SPEC,
            train=batches.pop("train"),
            evaluations=batches,
        ),
        apply=apply,
        run=run,
        folder=run.report,
        lines=lambda: [{"step": 2, **both}],
        figures={
            "test/accuracy": 1.0,
            "test/loss": 0.1,
            "test/confusion": np.array([[12, 0], [0, 12]]),
        },
    )


@pytest.mark.slow
def test_the_page_has_the_words_and_the_methods_without_a_network(trained):
    page = SentencesReport("0.9, somewhere")(trained)
    pictures = {path.stem for path in trained.folder.glob("*.png")}
    assert {"right", "words", "confusion", "curves"} <= pictures and "wrong" not in pictures
    found = json.loads((trained.run.folder / "verdict.json").read_text())
    assert found["classic"]["bag of words"]["accuracy"] == 1
    assert found["classic"]["most frequent class"]["accuracy"] == 0.5
    assert page.sentence == found["verdict"] and "bag of words, that of 100.0%" in page.sentence
    assert page.figures[0] == present.Figure(
        "accuracy", "100.00%", "100.00%, bag of words", "0.9, somewhere"
    )
    present.write_report(trained.folder, "a run", page)


@pytest.mark.slow
def test_texts_that_were_mistaken_are_shown(trained):
    own = trained.apply
    trained.apply = lambda *given, **named: (
        (found := own(*given, **named)) | {"probability": found["probability"][:, ::-1]}
    )
    page = SentencesReport()(trained)
    assert not (trained.folder / "right.png").exists()
    assert page.picture.path == "wrong.png"


def test_of_very_many_texts_only_the_most_frequent_class_is_beside_the_network(
    trained, monkeypatch
):
    monkeypatch.setattr(sentences, "MOST", 3)
    found = SentencesReport().classic(trained.splits)
    assert found == {"most frequent class": {"accuracy": 0.5}}


def test_mean_weights_are_of_words_that_occur_often_and_are_shared_by_the_other_classes():
    words = [["a", "b", ""], ["a", "c", "b"], ["b", "a"]]
    weight = np.array([[1.0, 2, 3], [-1, 5, 0], [4, 3, 9]])
    found = sentences.mean_weights(words, weight, np.array([0, 0, 2]), ("x", "y", "z"))
    assert list(found) == ["x", "y", "z"] and set(found["x"]) == {"a", "b"}
    assert found["x"]["a"] == pytest.approx((1 - 1 - 3 / 2) / 3)
    assert found["y"]["b"] == pytest.approx((-2 / 2 + 0 - 4 / 2) / 3)
    assert found["z"]["b"] == pytest.approx((-2 / 2 + 0 + 4) / 3)
    assert list(found["z"]) == sorted(found["z"], key=found["z"].get, reverse=True)


def test_predictions_name_the_class_and_the_words_that_count(trained, tmp_path):
    report = SentencesReport()
    lines = tmp_path / "lines.txt"
    lines.write_text("a bad film\n\na very very very very very very very long one\n")
    options = SimpleNamespace(sentences=("a good zebra, $ 中",), file=str(lines))
    found = report.predict(trained, options, tmp_path)
    assert list(found)[1:] == ["a bad film", "a very very very very very very very long one"]
    first, second, last = found.values()
    assert first["class"] == "pos" and second["class"] == "neg"
    assert second["word_weights"]["bad"] == 1.0 and "unknown_words" not in second
    assert first["unknown_words"] == ["zebra", ",", "$", "中"] and last["words_not_read"] == 4
    with Image.open(tmp_path / "words.png") as image:
        assert image.width > 500


def test_what_cannot_be_asked_is_told_in_one_line(trained, tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    for given, file, line in (
        ((" ",), "", "sentence 1 is empty"),
        ((), "", "give sentences"),
        ((), tmp_path / "latin.txt", "is not UTF-8"),
        ((), tmp_path / "none.txt", "cannot read"),
    ):
        with pytest.raises(UserError, match=line):
            options = SimpleNamespace(sentences=given, file=str(file))
            SentencesReport().predict(trained, options, tmp_path)
