"""Texts of classes: parts that do not overlap, every text once, what cannot be read named; opinions
by their rule."""

import dataclasses

import numpy as np
import pytest

from advdl import data
from advdl.data.sentences import BAD, GOOD, NEGATIONS
from advdl.errors import UserError


def write(folder, **classes):
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in classes.items():
        (folder / f"{name}.txt").write_bytes(
            lines if isinstance(lines, bytes) else "\n".join(lines).encode()
        )
    return f"folder:{folder}"


def numbered(name, count):
    return [f"{name} number {n}" for n in range(count)]


def test_parts_of_files_hold_every_text_once_and_equal_texts_together(tmp_path):
    spec = write(
        tmp_path, pos=[*numbered("good", 100), "", *numbered("good", 30)], neg=numbered("bad", 70)
    )
    found = data.open_sentences(spec, seed=3)
    assert found.label_names == ("neg", "pos") and found.blank == 1
    parts = [found.train, found.val, found.test]
    assert sorted(text for part in parts for text in part.texts) == sorted(
        numbered("good", 100) + numbered("good", 30) + numbered("bad", 70)
    )
    kinds = [set(part.texts) for part in parts]
    assert [len(kind) for kind in kinds] == [136, 17, 17] and not (
        kinds[0] & kinds[1] | kinds[0] & kinds[2] | kinds[1] & kinds[2]
    )
    assert all(
        (text.startswith("good")) == bool(label)
        for part in parts
        for text, label in zip(*part, strict=True)
    )
    assert (
        data.open_sentences(spec, seed=3).test.texts
        == found.test.texts
        != data.open_sentences(spec, seed=4).test.texts
    )


def test_fewer_training_texts_are_drawn_with_their_labels_and_nothing_else_changes(tmp_path):
    found = data.open_sentences(
        write(tmp_path, pos=numbered("good", 60), neg=numbered("bad", 40)), seed=3
    )
    small, large = (found.fewer(count, 3) for count in (10, 50))
    for some, count in ((small, 10), (large, 50)):
        assert len(set(some.train.texts)) == len(some.train.label) == count
        assert set(some.train.texts) <= set(found.train.texts)
        pairs = zip(*some.train, strict=True)
        assert all(text.startswith("good") == bool(label) for text, label in pairs)
        assert (some.val, some.test) == (found.val, found.test)
    assert set(small.train.texts) < set(large.train.texts)
    assert set(found.fewer(10, 4).train.texts) != set(small.train.texts)
    assert sum(large.train.label) not in (0, 50)  # drawn, not the first
    for count, told in ((1000, "80 texts to train on, fewer than 1000"), (1, "without any")):
        with pytest.raises(UserError, match=told):
            found.fewer(count)


def test_folders_with_parts_of_their_own_keep_them(tmp_path):
    for part, count in (("train", 20), ("test", 3)):
        for name in ("neg", "pos"):
            write(
                tmp_path / part / name,
                **{f"{n:02}": [f"{name} {part} {n}", "and more"] for n in range(count)},
            )
    found = data.open_sentences(f"folder:{tmp_path}")
    assert set(found.test.texts) == {
        f"{name} test {n} and more" for name in ("neg", "pos") for n in range(3)
    }
    assert len(found.val.texts) == 4 and len(found.train.texts) == 36
    assert all(" train " in text for part in (found.train, found.val) for text in part.texts)
    write(tmp_path / "train" / "unsup", a=["?"])
    with pytest.raises(UserError, match="other classes than .*: unsup"):
        data.open_sentences(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({}, "no .txt files"),
        ({"pos": numbered("a", 20)}, "the class pos alone"),
        ({"pos": numbered("a", 20), "neg": b"\xff\xfe"}, "neg.txt is not UTF-8: byte 0 .0xff"),
        ({"pos": numbered("a", 20), "neg": b" \n"}, "neg.txt has no text"),
        ({"pos": ["a"], "neg": ["b"]}, "too few texts"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, files, line):
    with pytest.raises(UserError, match=line):
        data.open_sentences(write(tmp_path / "texts", **files))


def test_names_that_are_not_there_are_told(tmp_path):
    for spec, line in (
        ("opinion", "nearest: opinions"),
        (f"folder:{tmp_path / 'x'}", "no folder"),
        ("tfds:imdb_reviews", "not prepared"),
        ("tfds:imdb_review", "nearest: imdb_reviews"),
    ):
        with pytest.raises(UserError, match=line):
            data.open_sentences(spec, str(tmp_path))


def test_prepared_sets_keep_their_parts_and_hidden_labels_are_left_out(monkeypatch):
    rows = {
        part: [{"text": f"{part} {n}".encode(), "label": n % 2} for n in range(20)]
        for part in ("train", "test", "unsupervised")
    }
    rows["validation"] = [{"text": b"?", "label": -1}]

    class Builder:
        class info:
            splits = rows
            features = {"text": None, "label": type("Label", (), {"names": ["neg", "pos"]})}

    monkeypatch.setattr("advdl.data.sentences.prepared", lambda name, split, data_dir: Builder)

    class Records(list):
        def __init__(self, builder, name, part):
            super().__init__(rows[part])

        def read(self, numbers):
            return [self[number] for number in numbers]

    monkeypatch.setattr("advdl.data.sentences.Records", Records)
    found = data.open_sentences("tfds:imdb_reviews")
    assert (
        found.label_names == ("neg", "pos")
        and found.test.texts[3] == "test 3"
        and found.test.label[3] == 1
    )
    assert len(found.train.texts) == 18 and len(found.val.texts) == 2
    Builder.info.features = {"text": None}
    with pytest.raises(UserError, match="text and label are needed"):
        data.open_sentences("tfds:imdb_reviews")


def verdict(text):
    """By the rule, from the words."""
    clauses = [part.strip() for part in text.split(" , ")]
    for clause in clauses:
        if (
            len(clauses) == 1
            or clause.startswith("but")
            or not any([clause.startswith("although"), clauses[1].startswith("but")])
        ):
            words = clause.split()
            favor = any(word in GOOD for word in words)
            assert favor != any(word in BAD for word in words)
            return favor != any(f" {negation} " in f" {clause} " for negation in NEGATIONS)
    raise AssertionError(text)


def test_opinions_follow_their_rule_and_no_word_tells():
    texts, label = data.opinions(4000)
    assert [verdict(text) for text in texts] == label.astype(bool).tolist()
    assert data.opinions(4000).texts == texts
    counts = {}
    for text, own in zip(texts, label, strict=True):
        for word in set(text.split()):
            counts.setdefault(word, []).append(own)
    for word, labels in counts.items():
        assert abs(np.mean(labels) - 0.5) < 4.5 * 0.5 / np.sqrt(len(labels)), word


def test_batches_hold_the_words_that_are_read_and_their_texts(tmp_path):
    given = write(tmp_path, pos=numbered("very very good", 40), neg=numbered("bad", 40))
    found = data.open_sentences(given)
    spec = found.spec(least=2, longest=4)
    assert spec.text.lower and spec.label_names == ("neg", "pos")
    assert {"very", "good", "bad", "number"} < set(spec.text.vocabulary.tokens)
    assert (
        spec.encode("Very very BAD film indeed").tolist()
        == spec.encode("very very bad unheard").tolist()
    )
    training, held_out = (found.batches(part, spec, 2, 4) for part in ("train", "val"))
    batch = training(0)
    assert batch["token"].shape in ((4, 3), (4, 4)) and set(batch) > {"token_length", "label"}
    assert held_out.examples.texts == found.val
    seen = [row for n in range(len(held_out)) for row in held_out[n]["mask"]]
    assert sum(seen) == len(found.val.texts)
    said = found.summary(spec)
    assert "80 texts (train 64, val 8, test 8) of up to 5 words, 40 cut to 4" in said


def test_a_spec_of_other_classes_is_refused(tmp_path):
    found = data.open_sentences(write(tmp_path, pos=numbered("a", 20), neg=numbered("b", 20)))
    spec = dataclasses.replace(found.spec(1, 4), label_names=("bad", "good"))
    with pytest.raises(UserError, match="classes are bad, good, not neg, pos"):
        found.batches("val", spec, 1, 4)
    with pytest.raises(ValueError, match="no two classes"):
        dataclasses.replace(spec, label_names=("bad",))
