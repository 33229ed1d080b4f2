"""A long text: its parts, its tokens, and windows of it in turn."""

import json

import numpy as np
import pytest

from advdl.data import (
    END,
    UNKNOWN,
    Corpus,
    CorpusSpec,
    StreamBatches,
    StreamEvalBatches,
    open_text,
    stream_batches,
)
from advdl.errors import UserError


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


def test_a_spec_counts_the_tokens_and_the_batches_are_its_own():
    corpus = Corpus("some", "one two\n" * 40, "two\n" * 9, "two three\n" * 5)
    spec = CorpusSpec.of(corpus, "words", least=1, size=0)
    assert (spec.train_tokens, spec.updates(3, 4), spec.updates(1000, 4)) == (120, 9, 1)
    assert CorpusSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    learned = stream_batches(corpus, "train", spec, 3, 4, seed=0)
    assert learned.windows == 9 and len(learned.ids) == 120
    held_out = stream_batches(corpus, "test", spec, 2, 4, seed=0)
    assert held_out.ids.tolist() == [spec.text.tokens.index("two"), UNKNOWN, END] * 5
    np.testing.assert_allclose(held_out[0]["characters"], len(corpus.test) / 15)


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
