"""Sound: what a WAV file holds, features against sums written out, and dialed keys found again."""

import io
import itertools
import wave

import numpy as np
import pytest
from scipy.io import wavfile

from advdl import data
from advdl.data.audio import DTMF, FLOOR, TOLERANCE, mel
from advdl.errors import UserError

RATE = 8000


def tone(frequency, seconds=0.2, rate=RATE, level=0.5):
    return level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def write(path, samples_NC, width, rate=RATE):
    """By Python's own module: PCM of `width` bytes of samples in [-1, 1]."""
    whole = np.clip(
        np.round(samples_NC * 2.0 ** (8 * width - 1)),
        -(2 ** (8 * width - 1)),
        2 ** (8 * width - 1) - 1,
    )
    whole = whole.astype(np.int64) + (128 if width == 1 else 0)
    with wave.open(str(path), "wb") as file:
        file.setparams((samples_NC.shape[1], width, rate, 0, "NONE", ""))
        file.writeframes(
            b"".join(
                int(one).to_bytes(width, "little", signed=width > 1) for one in whole.reshape(-1)
            )
        )


# ---- files ----


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_depth_holds_the_same_samples(tmp_path, width):
    samples = np.concatenate([tone(440, 0.02), [-1, 0, 1]])
    write(tmp_path / "a.wav", samples[:, None], width)
    found, rate = data.read_wav(tmp_path / "a.wav", RATE)
    assert rate == RATE and found.dtype == np.float32 and found.shape == samples.shape
    np.testing.assert_allclose(found, samples, atol=max(2.0 ** (1 - 8 * width), 1e-7))
    assert found[-3] == -1 and found[-2] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.uint8])
def test_files_of_another_writer_are_read(tmp_path, dtype):
    samples = tone(440, 0.02)
    one = {np.uint8: 127, np.int16: 2**15 - 1, np.int32: 2**31 - 1}.get(dtype, 1)
    wavfile.write(
        tmp_path / "a.wav", RATE, (samples * one + 128 * (dtype == np.uint8)).astype(dtype)
    )
    np.testing.assert_allclose(
        data.read_wav(tmp_path / "a.wav", RATE)[0],
        samples,
        atol=2e-2 if dtype == np.uint8 else 1e-4,
    )


def test_channels_are_averaged(tmp_path):
    write(tmp_path / "a.wav", np.stack([tone(300), 0 * tone(300), -tone(500)], 1), 2)
    np.testing.assert_allclose(
        data.read_wav(tmp_path / "a.wav", RATE)[0], (tone(300) - tone(500)) / 3, atol=1e-4
    )


@pytest.mark.parametrize("original", [44100, 16000, 4000])
def test_another_rate_is_the_same_sound(tmp_path, original):
    write(tmp_path / "a.wav", tone(440, 0.2, original)[:, None], 2, original)
    found, rate = data.read_wav(tmp_path / "a.wav", RATE)
    assert rate == original and len(found) == round(0.2 * RATE)
    np.testing.assert_allclose(
        found[80:-80], tone(440)[80:-80], atol=5e-3
    )  # the filter's ends left out


def test_what_lies_above_half_of_the_rate_is_gone(tmp_path):
    write(tmp_path / "a.wav", tone(6000, 0.2, 44100)[:, None], 2, 44100)
    assert np.abs(data.read_wav(tmp_path / "a.wav", RATE)[0][80:-80]).max() < 5e-3


def chunks(*parts):
    inside = b"WAVE" + b"".join(
        name + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)
        for name, body in parts
    )
    return b"RIFF" + len(inside).to_bytes(4, "little") + inside


def form(kind=1, channels=1, rate=RATE, block=2, bits=16):
    numbers = ((kind, 2), (channels, 2), (rate, 4), (rate * block, 4), (block, 2), (bits, 2))
    return b"".join(number.to_bytes(size, "little") for number, size in numbers)


def test_other_parts_and_the_extensible_header_are_understood(tmp_path):
    guid = (1).to_bytes(2, "little") + bytes.fromhex("000000001000800000aa00389b71")
    extension = (22).to_bytes(2, "little") + (24).to_bytes(2, "little") + bytes(4) + guid
    content = chunks(
        (b"LIST", b"odd"),
        (b"fmt ", form(0xFFFE, 1, RATE, 3, 24) + extension),
        (b"data", b"\0\0\x40\0\0\xc0"),
    )
    (tmp_path / "a.wav").write_bytes(content)
    assert data.read_wav(tmp_path / "a.wav", RATE)[0].tolist() == [0.5, -0.5]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "not a WAV"),
        (b"ID3\x04" + bytes(100), "not a WAV"),
        (b"RIFF", "not a WAV"),
        (
            chunks((b"fmt ", form()), (b"data", bytes(100)))[:-10],
            "truncated: it ends 10 bytes too early",
        ),
        (chunks((b"fmt ", form()), (b"data", bytes(100)))[:30], "truncated"),
        (chunks((b"fmt ", form())), "no samples"),
        (chunks((b"fmt ", form()), (b"data", b"")), "no samples"),
        (chunks((b"data", bytes(4))), "does not say its format"),
        (chunks((b"fmt ", form()), (b"data", bytes(3))), "damaged.*3 bytes"),
        (chunks((b"fmt ", form(channels=0, block=0)), (b"data", bytes(4))), "damaged.*0 channels"),
        (chunks((b"fmt ", form(rate=0)), (b"data", bytes(4))), "damaged.* 0 Hz"),
        (chunks((b"fmt ", form(rate=2**32 // 2 - 1)), (b"data", bytes(4))), "damaged"),
        (
            chunks((b"fmt ", form(kind=7, bits=8, block=1)), (b"data", bytes(4))),
            "WAV format 7 of 8 bits",
        ),
        (chunks((b"fmt ", form(bits=12)), (b"data", bytes(4))), "12 bits; convert it"),
        (chunks((b"fmt ", form(3, bits=32, block=4)), (b"data", b"\0\0\xc0\x7f")), "not finite"),
    ],
    ids=range(15),
)
def test_files_that_are_no_sound_are_told(tmp_path, content, line):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(UserError, match=f"a.wav .*{line}"):
        data.read_wav(tmp_path / "a.wav", RATE)


def test_every_truncation_of_a_file_is_told(tmp_path):
    with wave.open(whole := io.BytesIO(), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(bytes(20))
    for end in range(len(whole.getvalue())):
        (tmp_path / "a.wav").write_bytes(whole.getvalue()[:end])
        with pytest.raises(UserError, match="a.wav "):
            data.read_wav(tmp_path / "a.wav", RATE)


def test_paths_and_rates_that_are_not_there_are_told(tmp_path):
    with pytest.raises(UserError, match="cannot read .*b.wav: No such file"):
        data.read_wav(tmp_path / "b.wav", RATE)
    with pytest.raises(UserError, match="a rate of 0 Hz"):
        data.read_wav(tmp_path / "b.wav", 0)


# ---- features ----


def test_features_are_the_sums_of_their_definition():
    rng = np.random.default_rng(0)
    samples, rate, size, step, bins, bands = rng.normal(0, 0.1, 150), 1000, 50, 20, 64, 6
    found = data.log_mel(samples, rate, size / rate, step / rate, bands)
    edges = [
        700 * (10 ** (m / 2595) - 1)
        for m in np.linspace(0, 2595 * np.log10(1 + 500 / 700), bands + 2)
    ]
    n = np.arange(size)
    assert found.shape == (6, bands) and found.dtype == np.float32
    for t in range(6):
        frame = [
            samples[t * step + i] * (0.5 - 0.5 * np.cos(2 * np.pi * i / size)) for i in range(size)
        ]
        power = [
            abs(np.sum(frame * np.exp(-2j * np.pi * k * n / bins))) ** 2
            for k in range(bins // 2 + 1)
        ]
        for band in range(bands):
            low, center, high = edges[band : band + 3]
            energy = 0.0
            for k, p in enumerate(power):
                f = k * rate / bins
                if low < f <= center:
                    energy += p * (mel(f) - mel(low)) / (mel(center) - mel(low))
                elif center < f < high:
                    energy += p * (mel(high) - mel(f)) / (mel(high) - mel(center))
            np.testing.assert_allclose(found[t, band], np.log(energy), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_tone_sounds_in_the_band_that_holds_it(rate):
    for frequency in np.arange(300, 0.95 * rate / 2, 97):
        found = np.exp(data.log_mel(tone(frequency, 0.1, rate), rate)).mean(0)
        place = mel(frequency) / (mel(rate / 2) / 41) - 1  # in bands, of the centers
        assert abs(found.argmax() - place) <= 0.75, (
            frequency
        )  # near the middle of two it may be either
        assert found[max(0, int(place) - 1) : int(place) + 3].sum() > 0.9 * found.sum(), frequency


def test_twice_as_loud_is_a_constant_more():
    samples = np.random.default_rng(1).normal(0, 0.1, 2000)
    np.testing.assert_allclose(
        data.log_mel(2 * samples, RATE) - data.log_mel(samples, RATE), np.log(4), atol=1e-4
    )


@pytest.mark.parametrize(
    ("count", "frames"), [(1, 1), (199, 1), (200, 1), (279, 1), (280, 2), (8000, 98)]
)
def test_windows_are_whole(count, frames):
    assert data.log_mel(np.ones(count, np.float32), RATE).shape == (frames, 40)


def test_silence_is_the_floor():
    np.testing.assert_allclose(data.log_mel(np.zeros(400), RATE), np.log(FLOOR), rtol=1e-6)


def test_features_that_cannot_be_are_told():
    samples = np.ones(400)
    for options, line in (
        ({"window": 1e-5}, "window of 0 samples"),
        ({"hop": 0}, "hop of 0"),
        ({"bands": 0}, "0 bands"),
        ({"bands": 200}, "of 200 mel bands hold no frequency"),
    ):
        with pytest.raises(UserError, match=line):
            data.log_mel(samples, RATE, **options)
    for wrong in (np.ones((2, 400)), np.ones(0)):
        with pytest.raises(ValueError, match="expected"):
            data.log_mel(wrong, RATE)


# ---- dialing ----


def heard(samples, rate):
    """The keys: of each frame of 20 ms that is not silent, the strongest low and high tone; and of
    frames, those that follow one like themselves, each run once."""
    size = round(0.02 * rate)
    time, detuned = np.arange(size) / rate, 1 + np.linspace(-TOLERANCE, TOLERANCE, 5)[:, None]
    lows, highs = (sorted(set(tones)) for tones in zip(*DTMF.values(), strict=True))
    names = {pair: key for key, pair in DTMF.items()}

    def key(frame):
        if np.sqrt(np.mean(frame**2)) < 0.02:
            return None

        def strength(f):
            return np.abs(np.exp(-2j * np.pi * f * detuned * time) @ frame).max()

        return names[max(lows, key=strength), max(highs, key=strength)]

    keys = [key(frame) for frame in np.lib.stride_tricks.sliding_window_view(samples, size)[::size]]
    runs = [(one, len(list(run))) for one, run in itertools.groupby(keys)]
    return "".join(one for one, count in runs if one and count > 1)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_dialed_keys_are_heard_again(rate):
    for seed, digits in enumerate(("0123456789", "*#ABCD", "5", "112", "007700")):
        samples = data.dial(digits, np.random.default_rng(seed), rate, noise=0.002)
        assert samples.dtype == np.float32 and samples.ndim == 1 and np.abs(samples).max() <= 1
        assert heard(samples, rate) == digits


def test_the_table_is_that_of_the_recommendation():
    assert len(DTMF) == len(set(DTMF.values())) == 16
    assert (DTMF["1"], DTMF["5"], DTMF["0"], DTMF["D"]) == (
        (697, 1209),
        (770, 1336),
        (941, 1336),
        (941, 1633),
    )


def test_dialing_is_a_function_of_the_generator():
    first, again, other = (data.dial("123", np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert len(first) != len(other) or (first != other).any()


def test_noise_is_as_loud_as_asked():
    quiet, noisy = (data.dial("1", np.random.default_rng(3), noise=noise) for noise in (0.0, 0.05))
    assert len(quiet) == len(noisy)
    np.testing.assert_allclose((noisy - quiet).std(), 0.05, rtol=0.05)


def test_keys_that_are_not_there_are_told():
    rng = np.random.default_rng(0)
    for digits, rate, line in (
        ("12x", 8000, "no key 'x'"),
        ("", 8000, "nothing to dial"),
        ("1", 3000, "3000 Hz is too low"),
    ):
        with pytest.raises(UserError, match=line):
            data.dial(digits, rng, rate)
