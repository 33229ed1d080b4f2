"""Pairs of sentences: no number in two parts, and what is left out."""

import pytest

from advdl.data.languages import COUNTS, open_parallel
from advdl.errors import UserError


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
