"""Pairs of sentences: no number in two parts, and what is left out."""

import pytest

from advdl.data import BEGIN, END
from advdl.data.languages import COUNTS, ParallelTexts, open_parallel
from advdl.errors import UserError


@pytest.mark.slow
def test_numbers_in_words_are_in_one_part_each():
    pairs = open_parallel("numbers", "en", "es")
    assert {part: len(own) for part, own in pairs.items()} == COUNTS
    sources = [source for own in pairs.values() for source, _ in own]
    assert len(set(sources)) == len(sources)
    assert dict(pairs["train"]).get("twenty-three", "veintitrés") == "veintitrés"
    assert pairs == open_parallel("numbers", "en", "es")


def test_empty_sentences_are_left_out_and_empty_parts_told(tmp_path):
    for part in ("train", "val", "test"):
        for language in "ab":
            (tmp_path / f"{part}.{language}").write_text("x y\n \nz\n")
    (tmp_path / "train.b").write_text("x\ny\n \n")
    assert open_parallel(f"folder:{tmp_path}", "a", "b")["train"] == [("x y", "x")]
    (tmp_path / "val.a").write_text(" \n \n \n")
    with pytest.raises(UserError, match="val.a has no text"):
        open_parallel(f"folder:{tmp_path}", "a", "b")


@pytest.fixture
def texts(tmp_path):
    """Training sentences of one to six words, of which the longest are left out; cut elsewhere."""
    lines = [" ".join(f"W{n}" for n in range(length)) for length in (1, 2, 3, 5, 6)]
    for part, own in {"train": lines, "val": lines[-1:], "test": lines[::2]}.items():
        for language in "ab":
            text = "\n".join(line + " end" * (language == "b") for line in own)
            (tmp_path / f"{part}.{language}").write_text(text + "\n")
    return ParallelTexts(f"folder:{tmp_path}", "a", "b", 5)


def test_long_pairs_are_left_out_of_training_and_cut_elsewhere(texts):
    spec = texts.spec(1)
    assert (spec.source.longest, spec.target.longest) == (5, 5)
    assert spec.source.tokens[4:] == ("w0", "w1", "w2") and spec.target.tokens[4] == "end"
    learned, held_out = (texts.batches(part, spec, 1, 3) for part in ("train", "val"))
    assert learned.examples.left_out == 2 and len(learned.examples.pairs) == 3
    assert held_out.examples.pairs == [("W0 W1 W2 W3 W4 W5", "W0 W1 W2 W3 W4 W5 end")]
    (batch,) = held_out
    assert batch["source"].shape == (3, 5) and batch["target"].shape == (3, 7)
    assert batch["source_length"][0] == 5 and batch["target_length"][0] == 7
    assert batch["mask"].tolist() == [1, 0, 0]
    batch = learned(0)
    assert (batch["target"][:, 0] == BEGIN).all()
    ends = batch["target"][range(3), batch["target_length"] - 1]
    assert (ends == END).all()


def test_buckets_hold_every_pair(texts):
    spec = texts.spec(1)
    batches = texts.batches("test", spec, 2, 1)
    assert len(batches) == 3 and len({batches[n]["source"].shape for n in range(3)}) == 2
    assert {batches[n]["target"].shape[1] - batches[n]["source"].shape[1] for n in range(3)} == {2}


def test_sentences_that_are_all_too_long_are_told(tmp_path, texts):
    with pytest.raises(UserError, match="no training pair has at most --longest 1 words"):
        ParallelTexts(f"folder:{tmp_path}", "a", "b", 1)


def test_subwords_leave_no_word_unknown_and_count_as_tokens(tmp_path):
    """Of the alphabet alone, each letter is a token; what is too long is counted in them."""
    for part, lines in {"train": ["ab", "abc Ab"], "val": ["Zebra é"], "test": ["b"]}.items():
        for language in "ab":
            (tmp_path / f"{part}.{language}").write_text("\n".join(lines) + "\n")
    texts = ParallelTexts(f"folder:{tmp_path}", "a", "b", 4, subwords=260)
    spec = texts.spec(1)
    assert (spec.source.unit, len(spec.source), spec.source.longest) == ("subwords", 260, 4)
    assert texts.batches("train", spec, 1, 1).examples.left_out == 1
    source = spec.source
    for text in ("Zebra é", "snow \N{SNOWMAN}"):
        assert source.decode(source.encode(text)) == text.lower() == source.normalized(text)
    assert source.spelled("Zebra") == ["z", "e", "b", "r", "a"]
    assert source.pieces([*source.encode("ab"), END, 7]) == ["a", "b"]
    (batch,) = texts.batches("val", spec, 1, 1)
    assert batch["source_length"][0] == 4 and batch["target_length"][0] == 6
    assert spec.from_json(spec.to_json()) == spec
