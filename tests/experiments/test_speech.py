"""Speech: a run that is whole, and recordings of one's own."""

import json
import wave

import numpy as np
import pytest

from advdl.data import speech

SMALL = [
    "--features",
    8,
    "--strings",
    12,
    "--batch",
    8,
    "--steps",
    4,
    "--evaluate-every",
    2,
    "--log-every",
    2,
    "--save-every",
    2,
]


def write(path, samples, rate):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 30000).astype(np.int16).tobytes())


@pytest.mark.experiments
def test_a_run_is_trained_scored_drawn_and_goes_on(verb, load, tmp_path, monkeypatch, caplog):
    run = tmp_path / "run"
    status, _, err = verb("speech", "train", "--run", run, *SMALL)
    assert status == 0, err
    found = json.loads((run / "verdict.json").read_text())
    assert {"greedy", "prefix_beam", "commonest_string", "single_words"} <= set(found)
    single = found["single_words"]["test"]
    assert 0 <= single["accuracy"] <= 1 and single["count"] > 50
    assert all((run / "report" / name).exists() for name in ("heard.png", "curves.png"))
    status, _, err = verb(
        "speech", "train", "--run", run, *[6 if n == 7 else flag for n, flag in enumerate(SMALL)]
    )
    assert status == 0 and "resuming" in err, err
    recording = speech.open_recordings("dial", "test")[0][0]
    write(tmp_path / "own.wav", recording.samples, speech.RATE)
    write(tmp_path / "other.wav", np.repeat(recording.samples, 2), 2 * speech.RATE)
    monkeypatch.setattr(speech, "open_recordings", None)  # a prediction needs no data
    monkeypatch.setattr(load("speech").metrics, "word_error_rate", None)
    status, out, err = verb(
        "speech", "predict", tmp_path / "own.wav", tmp_path / "other.wav", "--run", run, "--json"
    )
    assert status == 0 and len(json.loads(out)) == 2, err
    assert "has 16000 Hz and was resampled to 8000" in caplog.text
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    for files, line in (([tmp_path / "bad.wav"], "bad.wav"), ([], "predict needs WAV files")):
        status, _, err = verb("speech", "predict", *files, "--run", run)
        assert status == 2 and line in err and err.count("\n") == 1, err


@pytest.mark.experiments
def test_strings_with_too_few_frames_are_counted_and_leave_the_mean_finite(verb, tmp_path):
    """One word of a hundredth of a second, which is a single frame: said twice in a string it would
    need a blank between."""
    folder, run = tmp_path / "words", tmp_path / "run"
    folder.mkdir()
    for number in range(11):
        write(
            folder / f"one_a_{number}.wav",
            np.random.default_rng(number).uniform(-1, 1, 80),
            speech.RATE,
        )
    flags = ["--run", run, "--data", f"folder:{folder}", "--most", 2, *SMALL]
    status, _, err = verb("speech", "train", *flags)
    assert status == 0, err
    strings = speech.SpeechSource(
        "words", "val", speech.open_recordings(f"folder:{folder}", "val")[0], 2, 12, seed=1
    )
    twice = int((strings.read(np.arange(12))["label_length"] == 2).sum())
    assert twice and "alarm: strings have fewer frames than CTC needs" in err
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    figures = [(name, value) for line in lines for name, value in line.items()]
    shares = [value for name, value in figures if name == "val/too_short"]
    assert shares and all(share == pytest.approx(twice / 12) for share in shares)
    assert any(0 < value < 1 for name, value in figures if name == "train/too_short")
    assert all(
        value < 10 for name, value in figures if name in ("train/loss", "val/nats_per_string")
    )


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--data", "folder:nowhere"], "no folder nowhere"),
        (["--dropout", 1], "--dropout is 1"),
        (["--most", 0], "--most is 0"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(verb, tmp_path, flags, line):
    status, _, err = verb("speech", "train", "--run", tmp_path / "run", *flags)
    assert status == 2 and line in err and err.count("\n") == 1, err
