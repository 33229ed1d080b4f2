"""Lines of files, words, and vocabularies that give back what they were given."""

import copy
import json
import pickle
import sys

import numpy as np
import pytest

from advdl import data
from advdl.data.text import BEGIN, END, PAD, SPECIALS, UNKNOWN, Subwords, Vocabulary, join, words
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
    with pytest.raises(UserError, match="cannot read .*directory"):
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


# ---- vocabularies ----


def test_the_frequent_come_first_and_equals_by_alphabet():
    sentences = [words(sentence) for sentence in SENTENCES]
    found = Vocabulary.of_words(sentences, least=2)
    assert found.tokens == (*SPECIALS, "cat", "the", ".", "a", "dog")
    assert found == Vocabulary.of_words(reversed(sentences), least=2)
    assert Vocabulary.of_words(sentences, most=2).tokens == (*SPECIALS, "cat", "the")
    assert Vocabulary.of_words(sentences, most=0).tokens == SPECIALS
    assert tuple(found.encode(SPECIALS)) == (PAD, UNKNOWN, BEGIN, END)


def test_known_tokens_come_back_and_others_are_unknown():
    found = Vocabulary.of_words([words(sentence) for sentence in SENTENCES])
    for sentence in SENTENCES:
        ids = found.encode(words(sentence))
        assert ids.dtype == np.int32 and ids.min() >= len(SPECIALS)
        assert found.decode(ids) == words(sentence) and not found.unknown(words(sentence))
    assert found.encode(["cat", "zebra"]).tolist() == [found.tokens.index("cat"), UNKNOWN]
    assert found.unknown(["zebra", "cat", "yak", "zebra"]) == ["zebra", "yak"]
    assert found.encode([]).shape == (0,)


def test_characters_are_tokens_too():
    found = Vocabulary.of_characters("banana\n")
    assert found.tokens[4:] == ("\n", "a", "b", "n") and len(found) == 8
    assert found == Vocabulary.of_characters(["ban", "an\n"])
    assert "".join(found.decode(found.encode("nab"))) == "nab"


def test_decoding_stops_at_the_end():
    found = Vocabulary.of_characters("ab")
    ids = [BEGIN, 4, PAD, 5, UNKNOWN, END, 4, PAD]
    assert found.decode(ids) == ["a", "b", "<unk>"]
    assert found.decode(np.array(ids), until_eos=False) == [
        "<bos>",
        "a",
        "<pad>",
        "b",
        "<unk>",
        "<eos>",
        "a",
        "<pad>",
    ]
    assert found.decode([]) == []
    for wrong in (6, -1):
        with pytest.raises(ValueError, match=f"id {wrong} is none of a vocabulary of 6"):
            found.decode([wrong])


def test_specials_in_a_text_are_not_counted_as_words():
    found = Vocabulary.of_words([["<unk>", "<eos>", "a", "<unk>"]])
    assert found.tokens == (*SPECIALS, "a") and found.encode(["<unk>"]).tolist() == [UNKNOWN]


def test_a_sentence_is_not_taken_for_a_list_of_characters():
    with pytest.raises(TypeError, match="words"):
        Vocabulary.of_words(["a sentence"])


def test_a_vocabulary_comes_back_from_json():
    found = Vocabulary.of_characters('aé\u2028"\\\n日')
    assert Vocabulary.from_json(found.to_json()) == found
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "is not JSON"),
        ('{"vocabulary": ["<pad>"', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "expected a list of tokens"),
        ('{"vocabulary": {"a": 0}}', "expected a list of tokens"),
        ('{"vocabulary": ["a"]}', "begins with"),
        (json.dumps({"vocabulary": [*SPECIALS, 3]}), "not a text"),
        (json.dumps({"vocabulary": [*SPECIALS, ["a"]]}), "not a text"),
        (json.dumps({"vocabulary": [*SPECIALS, "a", "b", "a"]}), "'a' more than once"),
    ],
    ids=range(9),
)
def test_what_is_no_vocabulary_is_told(content, line):
    with pytest.raises(UserError, match=f"^words.json .*{line}"):
        Vocabulary.from_json(content, "words.json")


# ---- subwords ----


@pytest.fixture(scope="module")
def subwords():
    return Subwords.train(SENTENCES * 5, 280)


def test_every_text_comes_back_from_its_subwords(subwords):
    for text in [*SENTENCES, *PROSE, "日本\u2028 \x00\x85\n  two ", "", "<eos> and <pad>"]:
        ids = subwords.encode(text)
        assert (
            ids.dtype == np.int32 and subwords.decode(ids) == text and subwords.unknown(text) == []
        )
        assert not len(ids) or len(SPECIALS) <= ids.min() and ids.max() < len(subwords)


def test_subwords_are_fewer_than_bytes_and_the_same_every_time(subwords):
    assert len(subwords) == 280 and len(subwords.encode("The cat")) < len("The cat") / 2
    assert Subwords.train(SENTENCES * 5, 280) == subwords
    assert len(Subwords.train(["ab"], 1000)) == 256 + 4 + 1


def test_subwords_stop_at_the_end(subwords):
    ids = [BEGIN, *subwords.encode("a cat"), END, *subwords.encode("dog"), PAD]
    assert subwords.decode(ids) == "a cat"
    assert subwords.decode(ids, until_eos=False) == "<bos>a cat<eos>dog<pad>"
    with pytest.raises(ValueError, match="id 280 is none of a vocabulary of 280"):
        subwords.decode([280])


def test_copies_of_subwords_are_the_same(subwords):
    again = (
        Subwords.from_json(subwords.to_json()),
        pickle.loads(pickle.dumps(subwords)),
        copy.deepcopy(subwords),
    )
    for one in again:
        assert one == subwords
        np.testing.assert_array_equal(one.encode("a cat <eos>"), subwords.encode("a cat <eos>"))


def test_what_are_no_subwords_is_told(subwords):
    def changed(**parts):
        return json.dumps(json.loads(subwords.content) | parts)

    model = json.loads(subwords.content)["model"]
    cases = {
        "{": "is not JSON",
        "[]": "does not read it",
        "{}": "does not read it",
        Vocabulary.of_characters("ab").to_json(): "does not read it",
        changed(model=model | {"merges": [["zz", "z"]]}): "does not read it",
        changed(
            model={"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
        ): "its model is WordLevel",
        changed(pre_tokenizer=None): "its pre_tokenizer is None",
        changed(normalizer={"type": "Lowercase"}): "it has normalizer",
        changed(model=model | {"dropout": 0.5}): "it has dropout",
        changed(
            pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
        ): "it has add_prefix_space",
        changed(
            added_tokens=[], model=model | {"vocab": {"a": 0}, "merges": []}
        ): "first tokens are not",
        changed(
            model=model | {"vocab": dict(list(model["vocab"].items())[:50]), "merges": []}
        ): "of the 256 bytes",
    }
    for content, line in cases.items():
        with pytest.raises(UserError, match=f"^words.json .*{line}"):
            Subwords.from_json(content, "words.json")


def test_too_few_subwords_are_refused():
    with pytest.raises(UserError, match="259 subwords are too few.*260"):
        Subwords.train(SENTENCES, 259)


def test_a_missing_library_is_told_with_what_to_do(monkeypatch, subwords):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for make in (
        lambda: Subwords.train(SENTENCES, 280),
        lambda: Subwords.from_json(subwords.content, "words.json"),
    ):
        with pytest.raises(
            UserError, match=r"^subwords need the library tokenizers; pip install 'advdl\[text\]'$"
        ):
            make()
