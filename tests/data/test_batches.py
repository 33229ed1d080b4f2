"""batch(t) is a function of seed, step and data, however it is read."""

import threading
import time

import numpy as np
import pytest

from advdl.data import (
    ArraySource,
    EvalBatches,
    TrainBatches,
    compose,
    prefetch,
    random_crop,
    random_flip,
    to_float,
)
from advdl.errors import UserError

SIZE = 23


@pytest.fixture(scope="module")
def source():
    """Images that tell their row."""
    images = np.random.default_rng(0).integers(0, 256, (SIZE, 6, 5, 1), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(SIZE)
    return ArraySource(
        "rows", "train", {"image": images, "label": np.arange(SIZE) % 3}, ("a", "b", "c")
    )


def augment():
    return compose(to_float(0, 1), random_crop(2), random_flip())


def equal(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def line(batches, steps):
    return np.concatenate([batches(t)["index"] for t in range(steps)])


def test_every_epoch_has_every_example_once_in_another_order(source):
    rows = line(TrainBatches(source, 7, seed=1), 40)[: 12 * SIZE].reshape(12, SIZE)
    assert all(sorted(epoch) == list(range(SIZE)) for epoch in rows)
    assert len({tuple(epoch) for epoch in rows}) == 12


def test_image_label_and_index_belong_together(source):
    batch = TrainBatches(source, 16, seed=0)(5)
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["index"])
    np.testing.assert_array_equal(batch["label"], batch["index"] % 3)
    assert batch["label"].dtype == batch["index"].dtype == np.int32


def test_a_batch_depends_on_seed_and_step_alone(source):
    first = TrainBatches(source, 8, 3, augment())
    forward = [first(t) for t in range(9)]
    again = TrainBatches(source, 8, 3, augment())
    for t in (8, 2, 5, 0, 5):
        equal(again(t), forward[t])


def test_seeds_and_epochs_do_not_share_their_orders(source):
    orders = [line(TrainBatches(source, SIZE, seed), 4).reshape(4, SIZE) for seed in range(4)]
    assert len({tuple(order) for order in np.concatenate(orders)}) == 16


@pytest.mark.parametrize("processes", [2, 3, 4, 12])
def test_processes_together_see_what_one_would(source, processes):
    whole = TrainBatches(source, 12, 5, augment())
    parts = [
        TrainBatches(source, 12, 5, augment()).part(process, processes)
        for process in range(processes)
    ]
    for t in (0, 1, 7):
        seen = [part(t) for part in parts]
        equal({key: np.concatenate([part[key] for part in seen]) for key in seen[0]}, whole(t))


def test_randomness_belongs_to_the_place_and_not_to_the_batch(source):
    small, large = TrainBatches(source, 3, 2, augment()), TrainBatches(source, 12, 2, augment())
    parts = [small(t) for t in range(8, 12)]
    equal({key: np.concatenate([part[key] for part in parts]) for key in parts[0]}, large(2))
    first, second = large(0)["image"], TrainBatches(source, 12, 9, augment())(0)["image"]
    assert not np.array_equal(first, second)


def test_a_batch_may_be_larger_than_the_data(source):
    rows = TrainBatches(source, 3 * SIZE, 0)(1)["index"]
    assert np.bincount(rows).tolist() == [3] * SIZE


def test_evaluation_counts_every_example_once(source):
    batches = EvalBatches(source, 8, to_float(0, 1))
    seen = [batches[n] for n in range(len(batches))]
    assert len(batches) == 3 and all(batch["image"].shape == (8, 6, 5, 1) for batch in seen)
    index, mask = (np.concatenate([batch[key] for batch in seen]) for key in ("index", "mask"))
    np.testing.assert_array_equal(index[mask > 0], np.arange(SIZE))
    assert mask.dtype == np.float32 and mask.sum() == SIZE
    halves = [EvalBatches(source, 8, to_float(0, 1)).part(process, 2) for process in range(2)]
    equal({key: np.concatenate([half[2][key] for half in halves]) for key in seen[2]}, seen[2])


def test_a_batch_that_processes_cannot_share_is_refused(source):
    with pytest.raises(UserError, match="10 does not divide over 3"):
        TrainBatches(source, 10, 0).part(1, 3)


@pytest.mark.parametrize("threads", [1, 4])
def test_reading_ahead_keeps_the_order(threads):
    def slow(t):
        time.sleep(0.002 * (t % 3))
        return t

    assert list(prefetch(slow, 5, 40, threads, 8, put=lambda t: t * 10)) == [
        t * 10 for t in range(5, 40)
    ]
    assert list(prefetch(slow, 5, 5)) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_arrives_as_it_is_at_its_turn(threads):
    def broken(t):
        if t == 3:
            raise UserError("image 3 is broken")
        return t

    seen = []
    with pytest.raises(UserError, match="^image 3 is broken$"):
        for t in prefetch(broken, 0, 10, threads):
            seen.append(t)
    assert seen == [0, 1, 2]


def test_closing_early_stops_the_threads():
    before = threading.active_count()
    batches = prefetch(lambda t: t, 0, 10**9, 2, 4)
    assert [next(batches), next(batches)] == [0, 1]
    batches.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_batch_of_chosen_rows_is_what_evaluation_gives_of_them(source):
    batches = EvalBatches(source, 4, to_float(0, 1))
    found, whole = batches.examples(np.array([9, 2, 2])), [batches[n] for n in range(len(batches))]
    for name in ("image", "label", "index", "mask"):
        np.testing.assert_array_equal(
            found[name], np.concatenate([part[name] for part in whole])[[9, 2, 2]]
        )
