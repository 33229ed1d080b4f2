"""Lines of files, and words that are joined as they were written."""

import numpy as np
import pytest

from advdl import data
from advdl.data.text import join, words
from advdl.errors import UserError

SENTENCES = ["The cat doesn't sit.", "The dog sits on the cat!", "A cat, a dog: 2 animals."]
PROSE = [
    "He said \"it's 5-fold\" (or so), didn't he?",
    "Dogs' bones; 'quoted' words... and — dashes -",
    "¿Qué? «Voilà» l’été à 3.50 €!",
    "हिन्दी भाषा में, नमस्ते।",
    "'' \" ' \" a'b 'c' d'' - ' - (' \"",
    "_under_score_ a@b.c #tag $5",
]


# ---- files ----


def test_a_line_ends_where_the_file_says_and_nowhere_else(tmp_path):
    path = tmp_path / "lines.txt"
    lines = ["one\u2028still one", "two\x85\x0b\x0cstill\rtwo", "", "\u00a0four "]
    for end in ("\n", "\r\n"):
        for last in ("", end):
            path.write_bytes((end.join(lines) + last).encode())
            assert data.read_lines(path) == lines
    path.write_bytes(b"\xef\xbb\xbfmarked\n\n")
    assert data.read_lines(str(path)) == ["marked", ""]


def test_files_that_are_no_text_are_told(tmp_path):
    path = tmp_path / "lines.txt"
    with pytest.raises(UserError, match="cannot read .*lines.txt: No such file"):
        data.read_lines(path)
    with pytest.raises(UserError, match="cannot read .*it is a folder"):
        data.read_lines(tmp_path)
    for content, line in (
        (b"", "has no text"),
        (b"\n \r\n", "has no text"),
        (b"caf\xc3\xa9 \xe9t\xe9\n", r"byte 6 \(0xe9\)"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"lines.txt .*{line}"):
            data.read_lines(path)


def test_parallel_lines_stay_together_and_odd_ones_are_named(tmp_path):
    source, target = tmp_path / "a.en", tmp_path / "a.de"
    source.write_text("one\n\ntwo\n")
    target.write_text("eins\n\nzwei\n")
    assert data.read_parallel(source, target) == [("one", "eins"), ("", ""), ("two", "zwei")]
    target.write_text("eins\n\nzwei\ndrei\nvier\n")
    with pytest.raises(
        UserError, match="a.en has 3 lines and .*a.de has 5; line 4 of .*a.de has no counterpart"
    ):
        data.read_parallel(source, target)
    with pytest.raises(
        UserError, match="a.de has 5 lines and .*a.en has 3; line 4 of .*a.de has no counterpart"
    ):
        data.read_parallel(target, source)


# ---- words ----


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Don't stop, 007!", ["don't", "stop", ",", "007", "!"]),
        ("l’été 'tis", ["l’été", "'", "tis"]),
        ("e\u0301te\u0301 नमस्ते", ["été", "नमस्ते"]),
        ("3.5\t_x_ \n", ["3", ".", "5", "_", "x", "_"]),
        (" ", []),
    ],
)
def test_words_hold_together_and_punctuation_stands_apart(sentence, expected):
    assert words(sentence) == expected


def test_case_is_kept_where_asked():
    assert words("The Cat", lower=False) == ["The", "Cat"]


def test_joined_words_come_apart_again():
    rng = np.random.default_rng(0)
    signs = [*"abZ9_'\"’-.,()[«»é€#", " ", "  ", "don't", "\u0301"]
    made = ["".join(rng.choice(signs, size=n % 23)) for n in range(3000)]
    for sentence in PROSE + made:
        apart = words(sentence, lower=False)
        assert words(join(apart), lower=False) == apart, sentence


def test_joined_words_read_as_they_are_written():
    for sentence in (
        '"A", "b" and \'c\'.',
        "He said \"it's 5-fold\" (or so), didn't he?",
        "A cat, a dog: 2 animals.",
        "¿Qué? «Voilà»!",
    ):
        assert join(words(sentence, lower=False)) == sentence
