"""A long text: its parts, its tokens, and windows of it in turn."""

import numpy as np
import pytest

from advdl.data import END, UNKNOWN, Speller, StreamBatches, StreamEvalBatches, open_text
from advdl.errors import UserError

TEXT = 'The "for" loop.\n\n  it isn\'t <pad> 3.5\n'


def test_the_reference_is_parted_without_a_paragraph_twice():
    corpus = open_text("pydoc")
    parts = corpus[1:]
    paragraphs = [" ".join(p.split()) for part in parts for p in part.split("\n\n") if p.strip()]
    assert len(set(paragraphs)) >= 0.998 * len(
        paragraphs
    )  # a cut may leave the end of one that is another as a whole
    shares = np.array([len(part) for part in parts]) / sum(map(len, parts))
    np.testing.assert_allclose(shares, [0.9, 0.05, 0.05], atol=0.005)
    assert all(part.endswith("\n") for part in parts) and "statement" in parts[0]


def test_a_folder_has_its_own_parts_or_is_parted(tmp_path):
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text(f"of {name}\n")
    assert open_text(f"folder:{tmp_path}")[1:] == ("of train\n", "of valid\n", "of test\n")
    (tmp_path / "valid.txt").unlink()
    (tmp_path / "train.txt").write_text("".join(f"line {n}\n" for n in range(60)))
    parted = open_text(f"folder:{tmp_path}")
    assert "".join(parted[1:]) == "of test\n" + (tmp_path / "train.txt").read_text()
    assert open_text(f"folder:{tmp_path / 'train.txt'}").name == "train"


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"", "has no text"), (b"one line", "too few lines"), (b"\xff\n", "is not UTF-8: byte 0")],
)
def test_what_is_no_text_is_told(tmp_path, content, line):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError, match=line):
        open_text(f"folder:{tmp_path}")


def test_another_name_is_told(tmp_path):
    with pytest.raises(UserError, match="nearest: pydoc"):
        open_text("pydocs")
    with pytest.raises(UserError, match=r"has no \*.txt"):
        open_text(f"folder:{tmp_path}")


@pytest.mark.parametrize("kind", ["characters", "subwords"])
def test_what_keeps_all_gives_the_text_back(kind):
    speller = Speller.of(kind, TEXT, size=270)
    assert speller.decode(speller.encode(TEXT)) == TEXT
    again = Speller.from_json(speller.to_json(), "a file")
    np.testing.assert_array_equal(again.encode(TEXT), speller.encode(TEXT))


@pytest.mark.parametrize(
    ("kind", "lines"),
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
def test_lines_of_words_end(kind, lines):
    speller = Speller.of(kind, TEXT)
    ids = speller.encode(TEXT + "\nnever\n")
    assert list(ids[-2:]) == [UNKNOWN, END] and (ids == END).sum() == 3
    ends = np.flatnonzero(ids == END)
    tokens = [speller.vocabulary.tokens[n] for n in ids]
    assert [tokens[: ends[0]], tokens[ends[0] + 1 : ends[1]]] == lines
    assert speller.unknown("The never 3.5") == (["never"] if kind == "spaces" else ["never"])
    assert Speller.of(kind, TEXT + "The\n", least=2).unknown("The loop")[-1] == "loop"


def test_no_vocabulary_is_told():
    for content in (
        None,
        [],
        {},
        {"kind": "letters", "vocabulary": "{}"},
        {"kind": "words", "vocabulary": 3},
    ):
        with pytest.raises(UserError, match="a file"):
            Speller.from_json(content, "a file")


def test_streams_go_on_where_they_stopped_and_use_the_text_once_an_epoch():
    ids = np.arange(1000, dtype=np.int32)
    batches = StreamBatches(ids, batch_size=3, length=7, seed=0)
    assert batches.windows == 999 // 21
    first, before = [], None
    for t in range(2 * batches.windows):
        batch = batches(t)
        np.testing.assert_array_equal(batch["targets"], batch["inputs"] + 1)
        np.testing.assert_array_equal(batch["inputs"][:, 0], batch["index"])
        fresh = t % batches.windows == 0
        assert (batch["fresh"] == fresh).all()
        if not fresh:
            np.testing.assert_array_equal(batch["inputs"][:, 0], before + 1)
        before = batch["inputs"][:, -1]
        first.append(batch["inputs"])
    seen = np.sort(np.concatenate(first[: batches.windows]).ravel())
    assert (
        len(np.unique(seen)) == len(seen) == 21 * batches.windows and np.ptp(seen) == len(seen) - 1
    )
    assert first[0][0, 0] != first[batches.windows][0, 0]  # another share is left over
    parts = [StreamBatches(np.arange(1000), 4, 7, 0).part(process, 2)(5) for process in range(2)]
    whole = StreamBatches(np.arange(1000), 4, 7, 0)(5)
    for name, value in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), value)


@pytest.mark.parametrize(
    ("size", "batch", "length"), [(100, 3, 7), (101, 4, 5), (9, 4, 5), (2, 3, 4)]
)
def test_every_token_but_the_first_is_evaluated_once_in_its_place(size, batch, length):
    batches = StreamEvalBatches(np.arange(size), batch, length)
    (found,) = [batches[n] for n in range(len(batches))]
    assert found["inputs"].shape[0] == batch and found["inputs"].shape[1] % length == 0
    parts = [batches.part(process, batch)[0] for process in range(batch)]
    for name, value in found.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), value)
    counted = found["counted"] > 0
    np.testing.assert_array_equal(np.sort(found["targets"][counted]), np.arange(1, size))
    np.testing.assert_array_equal(found["inputs"][counted] + 1, found["targets"][counted])
    for row, keep in zip(found["inputs"], counted, strict=True):
        own = row[keep]
        np.testing.assert_array_equal(own, own[:1].sum() + np.arange(len(own)))


def test_a_text_shorter_than_a_window_of_each_stream_is_told():
    with pytest.raises(UserError, match="20 tokens, fewer than 4 windows of 5"):
        StreamBatches(np.arange(20), 4, 5, 0)
    with pytest.raises(UserError, match="has 1 tokens"):
        StreamEvalBatches(np.arange(1), 4, 5)
