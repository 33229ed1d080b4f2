"""Vocabularies give back what they were given; a stored spec of texts is the same or refused."""

import copy
import json
import pickle
import sys

import numpy as np
import pytest

from advdl.data import (
    BEGIN,
    END,
    PAD,
    SPECIALS,
    UNKNOWN,
    Spec,
    Subwords,
    TextSpec,
    Vocabulary,
    words,
)
from advdl.errors import UserError

SENTENCES = ["The cat doesn't sit.", "The dog sits on the cat!", "A cat, a dog: 2 animals."]
PROSE = [
    "He said \"it's 5-fold\" (or so), didn't he?",
    "हिन्दी भाषा में, नमस्ते।",
    "¿Qué? «Voilà» l’été à 3.50 €!",
]
TEXT = 'The "for" loop.\n\n  it isn\'t <pad> 3.5\n'

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
    for one in (pickle.loads(pickle.dumps(subwords)), copy.deepcopy(subwords)):
        assert one == subwords
        np.testing.assert_array_equal(one.encode("a cat <eos>"), subwords.encode("a cat <eos>"))


def test_what_are_no_subwords_is_told(subwords):
    def changed(**parts):
        return json.dumps(json.loads(subwords.content) | parts)

    model = json.loads(subwords.content)["model"]
    cases = {
        "{": "does not read it",
        "[]": "does not read it",
        "{}": "does not read it",
        "[" * 100_000: "does not read it",
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
        stored = TextSpec("subwords", subwords=subwords.content).to_json() | {"subwords": content}
        with pytest.raises(UserError, match=f"^words.json describes no data: .*{line}"):
            Spec.from_json(stored, "words.json")


def test_too_few_subwords_are_refused():
    with pytest.raises(UserError, match="259 subwords are too few.*260"):
        Subwords.train(SENTENCES, 259)


def test_a_missing_library_is_told_with_what_to_do(monkeypatch, subwords):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for make in (
        lambda: Subwords.train(SENTENCES, 280),
        lambda: TextSpec("subwords", subwords=subwords.content),
    ):
        with pytest.raises(
            UserError, match=r"^subwords need the library tokenizers; pip install 'advdl\[text\]'$"
        ):
            make()


# ---- specs ----


def of(unit, **settings):
    return TextSpec.of(unit, TEXT.splitlines(keepends=True), size=270, **settings)


@pytest.mark.parametrize("unit", ["words", "captions", "spaces", "characters", "subwords"])
def test_a_spec_of_texts_comes_back_equal_and_does_the_same(unit):
    spec = of(unit, longest=5, lower=True)
    again = TextSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec == pickle.loads(pickle.dumps(spec)) and len(again) == len(spec)
    np.testing.assert_array_equal(again.encode(TEXT), spec.encode(TEXT))
    padded = spec.padded([TEXT, ""])
    assert padded.ids.shape == (2, 5) and list(padded.lengths) == [5, 0] and padded.cut == 1
    framed = spec.framed(TEXT)
    assert (framed[0], framed[-1], len(framed)) == (BEGIN, END, 7)
    np.testing.assert_array_equal(framed[1:-1], padded.ids[0])
    assert spec.decode([*framed, *framed]) == spec.decode(padded.ids[0])


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("words", ["it", "isn't", "so", ",", "Jim"]),
        ("captions", ["it", "is", "n't", "so", "jim"]),
        ("spaces", ["It", "isn't", "so,", "Jim"]),
        ("characters", list("It isn't so, Jim")),
    ],
)
def test_units_split_texts_in_their_own_way(unit, said):
    text = "It isn't so, Jim"
    spec = TextSpec.of(unit, [text])
    parts = spec.split(text)
    assert [part.lower() for part in parts] == [part.lower() for part in said]
    assert (parts == said) == (unit != "words") and not spec.unknown(text)
    assert TextSpec.of("words", [text], lower=True).split(text) == words(text)
    assert spec.decode(spec.encode(text)) == (" ".join(said) if unit == "captions" else text)


@pytest.mark.parametrize("unit", ["characters", "subwords"])
def test_what_keeps_all_gives_the_text_back(unit):
    spec = of(unit)
    assert spec.lossless and not of(unit, lower=True).lossless
    assert spec.decode_lines(spec.encode_lines(TEXT)) == spec.decode(spec.encode(TEXT)) == TEXT


@pytest.mark.parametrize(
    ("unit", "lines"),
    [
        (
            "words",
            [
                ["The", '"', "for", '"', "loop", "."],
                ["it", "isn't", "<", "pad", ">", "3", ".", "5"],
            ],
        ),
        ("spaces", [["The", '"for"', "loop."], ["it", "isn't", "<pad>", "3.5"]]),
    ],
)
def test_lines_of_words_end(unit, lines):
    spec = of(unit)
    ids = spec.encode_lines(TEXT + "\nnever\n")
    assert list(ids[-2:]) == [UNKNOWN, END] and (ids == END).sum() == 3
    ends = np.flatnonzero(ids == END)
    tokens = [spec.tokens[n] for n in ids]
    assert [tokens[: ends[0]], tokens[ends[0] + 1 : ends[1]]] == lines
    assert spec.decode_lines(ids).split("\n")[0] == 'The "for" loop.'
    assert spec.unknown("The never\n3.5") == ["never"]
    once = TextSpec.of(unit, [TEXT, "The\n"], least=2)
    assert once.unknown("The loop")[-1] == "loop"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"unit": "letters"}, "its unit is 'letters'"),
        ({"unit": "subwords"}, "its tokens are none of subwords"),
        ({"tokens": []}, "its tokens are none of words"),
        ({"tokens": {"a": 0}}, "tokens"),
        ({"tokens": ["a"]}, "begins with"),
        ({"tokens": [*SPECIALS, 3]}, "tokens"),
        ({"tokens": [*SPECIALS, ["a"]]}, "tokens"),
        ({"tokens": [*SPECIALS, ""]}, "is empty"),
        ({"tokens": [*SPECIALS, "\ud800"]}, r"tokens\[4\] is '.ud800'"),
        ({"tokens": [*SPECIALS, "a", "b", "a"]}, "'a' more than once"),
        ({"longest": -1}, "-1 tokens"),
        ({"longest": 10**9}, "at most 65536"),
        ({"longest": 10**400}, "longest"),
        ({"lower": 1}, "lower"),
    ],
    ids=range(14),
)
def test_what_is_no_spec_of_texts_is_refused(change, line):
    stored = TextSpec("words", (*SPECIALS, "a")).to_json() | change
    with pytest.raises(UserError, match=f"^words.json describes no data: .*{line}"):
        Spec.from_json(stored, "words.json")


def test_texts_without_a_vocabulary_are_told():
    with pytest.raises(UserError, match="no vocabulary of captions.*half of a character"):
        TextSpec.of("captions", ["a \ud800 b"])
