"""Spoken strings: of one speaker, with the labels of what is said, and no recording in two
parts."""

import wave

import numpy as np
import pytest

from advdl.data import speech
from advdl.errors import UserError


def recordings(least=800):
    """Of two speakers, each word a length of its own, so that what is in a string can be told."""
    rng = np.random.default_rng(0)
    return [
        speech.Recording(
            rng.standard_normal(least + 400 * word).astype(np.float32), (word + 1,), speaker
        )
        for speaker in "ab"
        for word in range(3)
    ]


def test_a_string_is_its_recordings_in_order():
    source = speech.SpeechSource("made", "train", recordings(), 3)
    found = source.read(np.arange(200), np.random.default_rng(1).random((200, source.draws)))
    for frames, length, label, count in zip(*found.values(), strict=True):
        samples = sum(800 + 400 * (word - 1) for word in label[:count])
        window, hop = speech.WINDOW * speech.RATE, speech.HOP * speech.RATE
        assert (
            length == 1 + (samples - window) // hop
            and not label[count:].any()
            and not frames[length:].any()
        )
        np.testing.assert_allclose(frames[:length].mean(0), 0, atol=1e-4)
    assert {1, 2, 3} == set(found["label_length"]) and set(found["label"].ravel()) == {0, 1, 2, 3}


def test_a_string_that_would_not_fit_is_left_shorter():
    own = [speech.Recording(np.ones(400, np.float32), (1,), "a")] * 99 + [
        speech.Recording(np.ones(4000, np.float32), (2,), "a")
    ]
    source = speech.SpeechSource("made", "train", own, 2)
    u = np.array([[0, 0.9, 0.995, 0.995]])
    found = source.read(np.arange(1), u)
    assert found["label"].tolist() == [[2, 0]] and found["label_length"] == [1]


def test_fixed_strings_stay_and_training_ones_follow_their_numbers():
    one, two = (speech.SpeechSource("made", "test", recordings(), 3, fixed=20) for _ in range(2))
    assert all(
        (one.read(np.arange(20))[key] == two.read(np.arange(20))[key]).all()
        for key in ("frames", "label")
    )
    source = speech.SpeechSource("made", "train", recordings(), 3)
    u = np.random.default_rng(0).random((2, 5))
    assert (
        source.read(np.arange(2), u)["frames"] == source.read(np.arange(7, 9), u)["frames"]
    ).all()


def test_dialed_keys_are_others_in_every_part():
    parts = {part: speech.open_recordings("dial", part)[0] for part in ("val", "test")}
    assert [len(own) for own in parts.values()] == [100, 300]
    assert all(1 <= len(recording.labels) <= 3 for recording in parts["test"])
    assert not np.array_equal(parts["val"][0].samples[:200], parts["test"][0].samples[:200])


def write(path, samples=4000, rate=8000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(
            np.random.default_rng(len(path.stem)).integers(-9000, 9000, samples, np.int16).tobytes()
        )


def test_a_folder_is_parted_by_the_numbers(tmp_path):
    for word in ("one", "two"):
        for number in range(12):
            write(tmp_path / f"{word}_ann_{number}.wav")
    found = {
        part: speech.open_recordings(f"folder:{tmp_path}", part)
        for part in ("train", "val", "test")
    }
    assert {part: len(own) for part, (own, _) in found.items()} == {
        "train": 4,
        "val": 10,
        "test": 10,
    }
    assert found["test"][1] == ("one", "two") and {
        recording.speaker for recording in found["val"][0]
    } == {"ann"}
    assert speech.open_spec(f"folder:{tmp_path}").decode([2, 1]) == "two one"
    both = speech.open_speech(f"folder:{tmp_path}", ["train", "val"], 1)
    assert [r.samples.tolist() for r in both.recordings] == [
        r.samples.tolist() for part in ("train", "val") for r in found[part][0]
    ]
    write(tmp_path / "three.wav")
    with pytest.raises(UserError, match="not called WORD_SPEAKER_NUMBER.wav"):
        speech.open_recordings(f"folder:{tmp_path}", "train")


def test_what_is_not_there_is_told(tmp_path):
    for spec, part, line in (
        ("dail", "train", "nearest: dial"),
        ("dial", "trian", "nearest: train"),
        (f"folder:{tmp_path}/x", "train", "no folder"),
        (f"folder:{tmp_path}", "train", "no recordings"),
    ):
        with pytest.raises(UserError, match=line):
            speech.open_recordings(spec, part)
    write(tmp_path / "one_ann_0.wav")
    with pytest.raises(UserError, match="no recordings for train"):
        speech.open_recordings(f"folder:{tmp_path}", "train")


def test_a_spec_without_labels_is_refused():
    with pytest.raises(ValueError, match="no labels"):
        speech.SpeechSpec(())


def test_faster_and_slower_recordings_have_other_lengths_and_the_same_labels():
    plain, fast = (
        speech.SpeechSource("made", "train", recordings(), 3, speed=speed) for speed in (0.0, 0.2)
    )
    u = np.random.default_rng(2).random((50, fast.draws))
    one, two = plain.read(np.arange(50), u[:, : plain.draws]), fast.read(np.arange(50), u)
    np.testing.assert_array_equal(one["label"], two["label"])
    was, now = one["frames_length"], two["frames_length"]
    assert (
        (now <= was / 0.8 + 1).all()
        and (now >= was / 1.2 - 1).all()
        and (now < was).any()
        and (now > was + 1).any()
    )
    wave = np.sin(np.arange(800) * 0.1)
    np.testing.assert_allclose(speech.played(wave, 1.25), np.sin(np.arange(640) * 0.125), atol=2e-3)


def test_masks_silence_stretches_of_each_recording_and_no_label():
    plain, masked = (
        speech.SpeechSource("made", "train", recordings(8000), 3, masks=masks) for masks in (0, 2)
    )
    u = np.random.default_rng(3).random((40, masked.draws))
    one, two = plain.read(np.arange(40), u[:, : plain.draws]), masked.read(np.arange(40), u)
    np.testing.assert_array_equal(one["label"], two["label"])
    same, silent = one["frames"] == two["frames"], two["frames"] == 0
    assert (same | silent).all() and 0.05 < (silent & ~same).sum() / (
        one["frames"] != 0
    ).sum() < 0.6
    x = np.ones((20, 40), np.float32)
    speech.silence(x, np.array([[0.99, 0.0, 0.99, 0.999]]))
    assert not x[: speech.MASKED[0]].any() and not x[:, -speech.MASKED[1] :].any()
    assert x[speech.MASKED[0] :, : -speech.MASKED[1]].all()
