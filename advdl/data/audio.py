"""Sound: WAV files, log mel features, and dial tones to recognize.

Axes: N samples, T frames, F frequencies of the spectrum, M bands. Samples are float32 in [-1, 1];
times are in seconds, frequencies in Hz.
"""

import functools
import math
import pathlib
import struct

import numpy as np

from advdl.errors import UserError
from advdl.reading import read_bytes

RATES = (1_000, 768_000)  # what a file may have; others are damage
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
FLOOR = 1e-10  # of a band's energy; the noise of 16 bits is a hundred times as much
DTMF = {
    key: (low, high)
    for low, keys in ((697, "123A"), (770, "456B"), (852, "789C"), (941, "*0#D"))
    for key, high in zip(keys, (1209, 1336, 1477, 1633), strict=True)
}
"""The two frequencies of each key: ITU-T Recommendation Q.23 (11/88), "Technical features of
push-button telephone sets"."""
TOLERANCE = 0.018  # of a frequency, as Q.23 allows it


def read_wav(path: str | pathlib.Path, rate: int) -> tuple[np.ndarray, int]:
    """Samples (N,) float32 in [-1, 1] at `rate`, and the rate that the file has. PCM of 8, 16, 24
    or 32 bits, or floats; channels are averaged, and another rate is resampled. Raises UserError,
    with the path, for a file that cannot be read, is not such a WAV, is truncated, or has no
    samples."""
    if rate < 1:
        raise UserError(f"a rate of {rate} Hz; expected a positive one, such as 16000")
    samples, original = _parse(read_bytes(path), path)
    if rate != original:
        from scipy.signal import resample_poly  # here, since it takes most of a second

        common = math.gcd(rate, original)
        samples = resample_poly(samples, rate // common, original // common)
    return np.clip(samples, -1, 1).astype(np.float32), original


def log_mel(
    samples: np.ndarray, rate: int, window: float = 0.025, hop: float = 0.010, bands: int = 40
) -> np.ndarray:
    """Logarithm of the energy in mel bands (T, M) float32 of samples (N,).

    T = 1 + ⌊(N - window) / hop⌋ whole windows; what is shorter than one is filled up with zeros.
    Each is weighted by a Hann window, and its power spectrum by M triangles that overlap by half,
    equally wide in mel = 2595 log₁₀(1 + f / 700) from 0 to rate / 2 and linear in it (HTK Book,
    section 5.4). Energies below `FLOOR` are raised to it. Raises UserError where a band would lie
    between two frequencies of the spectrum, and for a window or hop of less than one sample.
    """
    size, step = round(window * rate), round(hop * rate)
    if min(size, step, bands) < 1:
        raise UserError(
            f"a window of {size} samples, a hop of {step} and {bands} bands; expected at least 1 of"
            " each"
        )
    if np.ndim(samples) != 1 or not len(samples):
        raise ValueError(f"samples are {np.shape(samples)}; expected (N,) with N of at least 1")
    samples = np.pad(np.asarray(samples, np.float64), (0, max(0, size - len(samples))))
    frames_TN = np.lib.stride_tricks.sliding_window_view(samples, size)[::step]
    bins = 1 << (size - 1).bit_length()
    hann_N = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    power_TF = np.abs(np.fft.rfft(frames_TN * hann_N, bins)) ** 2
    return np.log(np.maximum(power_TF @ _triangles(rate, bins, bands), FLOOR)).astype(np.float32)


def mel(frequency):
    """2595 log₁₀(1 + f / 700)."""
    return 2595 * np.log10(1 + np.asarray(frequency, np.float64) / 700)


@functools.lru_cache(16)
def _triangles(rate: int, bins: int, bands: int) -> np.ndarray:
    """(F, M): the share that each band has in each frequency of the spectrum."""
    place_F1 = mel(np.arange(bins // 2 + 1) * rate / bins)[:, None]
    width = mel(rate / 2) / (bands + 1)
    found = np.maximum(0, 1 - np.abs(place_F1 / width - np.arange(1, bands + 1)[None]))
    if empty := int((found.sum(0) == 0).sum()):
        raise UserError(
            f"{empty} of {bands} mel bands hold no frequency at {rate} Hz; take fewer bands or a"
            " longer window"
        )
    return found


def dial(
    digits: str, rng: np.random.Generator, rate: int = 8000, noise: float = 0.01
) -> np.ndarray:
    """Somebody dials: samples (N,) float32 of the keys' tones, 0-9, A-D, * and #.

    Each tone lasts 60 to 200 ms, with 40 to 200 ms of silence before it and after the last; each of
    its two frequencies is off by up to `TOLERANCE`, in a phase of its own, and the levels are one
    of -26 to -8 dB for all tones, and ±2 dB for each frequency. noise: standard deviation of white
    noise over it all. Raises UserError for another key, or none, and for a rate that is too low for
    the tones.
    """
    if not digits or (wrong := [key for key in digits if key not in DTMF]):
        raise UserError(
            f"no key {wrong[0]!r}; there are {' '.join(DTMF)}"
            if digits
            else "nothing to dial; give some digits"
        )
    if rate < 4000:
        raise UserError(
            f"a rate of {rate} Hz is too low for tones up to 1633 Hz; take at least 4000"
        )
    level = rng.uniform(-26, -8)
    parts = []
    for key in digits:
        parts.append(np.zeros(_count(rng, rate, 0.04, 0.2)))
        time = np.arange(_count(rng, rate, 0.06, 0.2)) / rate
        parts.append(sum(_tone(time, frequency, level, rng) for frequency in DTMF[key]))
    parts.append(np.zeros(_count(rng, rate, 0.04, 0.2)))
    samples = np.concatenate(parts)
    return np.clip(samples + noise * rng.standard_normal(len(samples)), -1, 1).astype(np.float32)


def _count(rng: np.random.Generator, rate: int, low: float, high: float) -> int:
    return round(rng.uniform(low, high) * rate)


def _tone(time: np.ndarray, frequency: float, level: float, rng: np.random.Generator) -> np.ndarray:
    frequency *= 1 + rng.uniform(-TOLERANCE, TOLERANCE)
    return 10 ** ((level + rng.uniform(-2, 2)) / 20) * np.sin(
        2 * np.pi * (frequency * time + rng.uniform())
    )


def _parse(content: bytes, path: str | pathlib.Path) -> tuple[np.ndarray, int]:
    """Samples (N,) float64 in [-1, 1] and rate of a RIFF WAVE file: a header, then parts with a
    name and a size each."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise UserError(f"{path} is not a WAV file; convert it to WAV (PCM)")
    parts: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        parts.setdefault(name, content[at + 8 : at + 8 + size])
        if at + 8 + size > len(content):
            raise UserError(
                f"{path} is truncated: it ends {at + 8 + size - len(content)} bytes too early; get"
                " it again"
            )
        at += 8 + size + size % 2
    form, data = parts.get(b"fmt ", b""), parts.get(b"data", b"")
    if len(form) < 16:
        raise UserError(f"{path} is a damaged WAV file: it does not say its format; get it again")
    kind, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", form)
    if kind == EXTENSIBLE and len(form) >= 26:
        (kind,) = struct.unpack_from("<H", form, 24)
    if (kind, bits) not in _SAMPLES:
        raise UserError(
            f"{path} holds WAV format {kind} of {bits} bits; convert it to PCM of 8, 16, 24 or 32"
            " bits"
        )
    if (
        not RATES[0] <= rate <= RATES[1]
        or not channels
        or block != channels * bits // 8
        or len(data) % block
    ):
        raise UserError(
            f"{path} is a damaged WAV file: {len(data)} bytes of {channels} channels of {bits}"
            f" bits, {block} bytes at a time, {rate} Hz; get it again"
        )
    if not data:
        raise UserError(f"{path} has no samples; leave it out")
    if bits == 24:  # as the upper bytes of 32 bits
        data = np.pad(np.frombuffer(data, np.uint8).reshape(-1, 3), ((0, 0), (1, 0))).tobytes()
    dtype, zero, one = _SAMPLES[kind, bits]
    samples = (np.frombuffer(data, dtype).astype(np.float64) - zero) / one
    if not np.isfinite(samples).all():
        raise UserError(f"{path} has samples that are not finite numbers; get it again")
    return samples.reshape(-1, channels).mean(1), rate


_SAMPLES = {
    (PCM, 8): ("<u1", 128, 2**7),
    (PCM, 16): ("<i2", 0, 2**15),
    (PCM, 24): ("<i4", 0, 2**31),
    (PCM, 32): ("<i4", 0, 2**31),
    (FLOAT, 32): ("<f4", 0, 1),
    (FLOAT, 64): ("<f8", 0, 1),
}
"""Format and bits -> how a sample is stored, and what is 0 and what is 1."""
