"""Sequences of many lengths: batch(t) of few shapes, a function of seed and step."""

import numpy as np
import pytest

from advdl.data import (
    BucketBatches,
    BucketEvalBatches,
    Transform,
    boundaries,
    buckets,
    pad,
    prefetch,
)
from advdl.errors import UserError

ENDS = {"source": (4, 8, 20), "target": (5, 9, 30)}
SIZE = 61


@pytest.fixture(scope="module")
def examples():
    """Sequences that tell their row: of row n, the source is n + 1 over and over, the target (T, 2)
    n + 1/2."""
    rng = np.random.default_rng(0)
    lengths = np.stack([rng.integers(1, 21, SIZE), rng.integers(1, 31, SIZE)], 1)
    lengths[: SIZE // 2] = np.minimum(lengths[: SIZE // 2], 4)
    return {
        "source": [[n + 1] * int(length) for n, (length, _) in enumerate(lengths)],
        "target": [np.full((length, 2), n + 0.5) for n, (_, length) in enumerate(lengths)],
        "label": np.arange(SIZE) % 3,
    }


def equal(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def joined(parts):
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


# ---- padding ----


def test_padding_keeps_what_fits_and_counts_what_is_cut():
    ids, lengths, cut = pad([[1, 2, 3], [], [4, 5, 6, 7, 8], (9,)], 4)
    assert ids.tolist() == [[1, 2, 3, 0], [0, 0, 0, 0], [4, 5, 6, 7], [9, 0, 0, 0]]
    assert lengths.tolist() == [3, 0, 4, 1] and cut == 1
    assert ids.dtype == lengths.dtype == np.int32


def test_frames_are_padded_as_tokens_are():
    found = pad([np.ones((2, 3)), np.ones((1, 3))], 2)
    assert found.ids.shape == (2, 2, 3) and found.ids.dtype == np.float32 and found.ids.sum() == 9
    assert pad([], 3).ids.shape == (0, 3) and pad([[], []], 3).ids.shape == (2, 3)


def test_a_bucket_is_the_first_that_holds_the_sequence():
    assert buckets([1, 4, 5, 8, 9, 20], (4, 8, 20)).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("lengths", "boundaries", "line"),
    [
        (
            [1, 9, 12],
            (4, 8),
            "2 of 3 words are longer than the last boundary, 8; the longest is number 2 with 12",
        ),
        ([1, 0], (4,), "1 of 2 words are empty, first number 1"),
        ([1], (4, 4), r"boundaries of words are \[4, 4\]"),
        ([1], (), r"boundaries of words are \[\]"),
        ([1], (0, 4), "from 1 on"),
    ],
)
def test_lengths_without_a_bucket_are_told(lengths, boundaries, line):
    with pytest.raises(UserError, match=line):
        buckets(lengths, boundaries, "words")


# ---- batch(t) ----


def test_every_part_of_an_example_stands_in_its_row(examples):
    batches = BucketBatches(examples, ENDS, 4, seed=1)
    for t in range(40):
        batch = batches(t)
        assert list(batch) == [
            "source",
            "source_length",
            "target",
            "target_length",
            "label",
            "index",
        ]
        for n, row in enumerate(batch["index"]):
            source, target = (
                pad([examples["source"][row]], 20).ids[0],
                pad([examples["target"][row]], 30).ids[0],
            )
            width, height = batch["source"].shape[1], batch["target"].shape[1]
            np.testing.assert_array_equal(batch["source"][n], source[:width])
            np.testing.assert_array_equal(batch["target"][n], target[:height])
            assert batch["source_length"][n] == len(examples["source"][row]) <= width
            assert batch["target_length"][n] == len(examples["target"][row]) <= height
            assert batch["label"][n] == row % 3
        assert batch["target"].dtype == np.float32
        assert all(
            batch[key].dtype == np.int32
            for key in ("source", "source_length", "target_length", "index")
        )


def test_shapes_are_as_few_as_buckets_and_the_smallest_that_fit(examples):
    batches = BucketBatches(examples, ENDS, 4, seed=1)
    shapes = set()
    for t in range(100):
        batch = batches(t)
        shape = batch["source"].shape[1], batch["target"].shape[1]
        shapes.add(shape)
        smaller = dict(
            zip(zip(*ENDS.values(), strict=True), [(0, 0), (4, 5), (8, 9)], strict=True)
        )[shape]
        assert ((batch["source_length"] > smaller[0]) | (batch["target_length"] > smaller[1])).all()
    assert shapes == {(4, 5), (8, 9), (20, 30)}


def of_example(examples):
    return np.maximum(*(buckets([len(one) for one in examples[name]], ENDS[name]) for name in ENDS))


@pytest.mark.parametrize("batch_size", [1, 4, 7, 100])
def test_every_example_is_drawn_equally_often(examples, batch_size):
    batches = BucketBatches(examples, ENDS, batch_size, seed=3)
    members = [of_example(examples) == number for number in range(3)]
    seen = np.zeros(SIZE, int)
    for epoch in range(30):
        for t in range(batches.steps(epoch), batches.steps(epoch + 1)):
            batch = batches(t)
            assert batches.epoch(t) == epoch and len(batch["index"]) == batch_size
            np.add.at(seen, batch["index"], 1)
        for drawn in (seen[one] for one in members):
            assert (
                drawn.sum() == (epoch + 1) * len(drawn) // batch_size * batch_size
            )  # what does not fill a batch waits
            assert np.ptp(drawn) <= 1 and drawn.max() <= epoch + 1
            assert drawn.min() >= epoch or len(drawn) < batch_size


def test_steps_and_epochs_agree_however_far(examples):
    for batch_size in (1, 4, 7, 64, 1000):
        batches = BucketBatches(examples, ENDS, batch_size, seed=0)
        for t in [*range(50), 10**6 + 7, 10**12 + 1]:
            epoch = batches.epoch(t)
            assert batches.steps(epoch) <= t < batches.steps(epoch + 1)
    assert len(BucketBatches(examples, ENDS, 4, seed=0)(10**12)["index"]) == 4


def test_a_batch_depends_on_seed_and_step_alone(examples):
    first = BucketBatches(examples, ENDS, 4, 3)
    forward = [first(t) for t in range(60)]
    again = BucketBatches(examples, ENDS, 4, 3)
    for t in np.random.default_rng(1).permutation(60):
        equal(again(int(t)), forward[t])
    for t, batch in enumerate(prefetch(BucketBatches(examples, ENDS, 4, 3), 0, 60, threads=3)):
        equal(batch, forward[t])
    other = BucketBatches(examples, ENDS, 4, 4)
    assert [forward[t]["index"].tolist() for t in range(9)] != [
        other(t)["index"].tolist() for t in range(9)
    ]


def test_buckets_come_mixed_and_every_epoch_in_another_order():
    batches = BucketBatches({"text": [[1]] * 100 + [[1] * 5] * 100}, {"text": (2, 5)}, 10, seed=0)
    widths = np.array([batches(t)["text"].shape[1] for t in range(200)]).reshape(10, 20)
    assert ((widths == 2).sum(1) == 10).all()  # as many as the bucket's share
    assert len({tuple(epoch) for epoch in widths}) == 10


def test_neither_buckets_nor_epochs_share_their_orders():
    batches = BucketBatches({"text": [[1]] * 50 + [[1] * 5] * 50}, {"text": (2, 5)}, 50, seed=0)
    orders = [batches(t)["index"] % 50 for t in range(8)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 8


@pytest.mark.parametrize("processes", [2, 3, 6])
def test_processes_together_see_what_one_would(examples, processes):
    noise = Transform(1, lambda batch, u: {**batch, "noise": u[:, 0]})
    whole = BucketBatches(examples, ENDS, 6, 5, noise)
    parts = [
        BucketBatches(examples, ENDS, 6, 5, noise).part(process, processes)
        for process in range(processes)
    ]
    for t in (0, 1, 7, 100):
        equal(joined([part(t) for part in parts]), whole(t))
    assert all(part.batch_size == 6 for part in parts)


def test_a_transform_sees_the_row_of_all_examples(examples):
    seen = Transform(0, lambda batch, u: {**batch, "seen": batch["index"]})
    train, evaluate = (
        BucketBatches(examples, ENDS, 4, 0, seen),
        BucketEvalBatches(examples, ENDS, 4, seen),
    )
    for batch in [train(t) for t in range(20)] + list(evaluate):
        np.testing.assert_array_equal(batch["seen"], batch["source"][:, 0] - 1)


# ---- evaluation ----


@pytest.mark.parametrize("batch_size", [1, 4, 12, 100])
def test_evaluation_counts_every_example_once(examples, batch_size):
    batches = BucketEvalBatches(examples, ENDS, batch_size)
    seen = [batches[n] for n in range(len(batches))]
    counts = np.bincount(of_example(examples))
    assert len(seen) == sum(-(-count // batch_size) for count in counts)
    index, mask = (np.concatenate([batch[key] for batch in seen]) for key in ("index", "mask"))
    assert mask.dtype == np.float32 and all(len(batch["source"]) == batch_size for batch in seen)
    assert sorted(index[mask > 0]) == list(range(SIZE))
    for batch in seen:
        np.testing.assert_array_equal(batch["source"][:, 0], batch["index"] + 1)
    with pytest.raises(IndexError):
        batches[len(batches)]
    assert len(list(batches)) == len(batches) and batches.batch_size == batch_size


def test_processes_evaluate_what_one_would(examples):
    whole = BucketEvalBatches(examples, ENDS, 8)
    parts = [BucketEvalBatches(examples, ENDS, 8).part(process, 2) for process in range(2)]
    for n in range(len(whole)):
        equal(joined([part[n] for part in parts]), whole[n])


# ---- what does not go together ----


def test_mistakes_are_told(examples):
    for kind in (BucketEvalBatches, lambda *args: BucketBatches(*args, 0)):
        with pytest.raises(UserError, match=r"not equally many: source \[4, 20\]; target \[30\]"):
            kind(examples, {"source": (4, 20), "target": (30,)}, 4)
        with pytest.raises(UserError, match="61 source are longer than the last boundary, 10"):
            kind(examples, {"source": (4, 10), "target": (5, 30)}, 4)
        with pytest.raises(UserError, match="no examples"):
            kind({"text": []}, {"text": (4,)}, 4)
        with pytest.raises(ValueError, match="boundaries are of"):
            kind(examples, {"sorce": (4,)}, 4)
        with pytest.raises(ValueError, match="equally long"):
            kind({"a": [[1]], "b": [[1], [2]]}, {"a": (4,)}, 4)
    with pytest.raises(UserError, match="4 does not divide over 3"):
        BucketBatches(examples, ENDS, 4, 0).part(0, 3)


def test_between_the_boundaries_lie_about_equally_many():
    lengths = np.random.default_rng(0).geometric(0.1, 1000)
    ends = boundaries(lengths, 4, 30)
    assert len(ends) == 4 and ends[-1] == 30
    found = np.bincount(buckets(np.minimum(lengths, 30), ends))
    assert found.min() > 180
    assert (
        boundaries(lengths, 1, 30) == (30,)
        and boundaries([3, 3, 3], 3, 9) == (3, 9)
        and boundaries([], 3, 9) == (9,)
    )
