"""Spoken strings: recordings of words, laid one behind the other.

Axes: B batch, T frames, M mel bands, L labels of a string. Labels count from 1, since 0 is CTC's
  blank.
"""

import functools
import pathlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from advdl.data.audio import dial, log_mel, read_wav
from advdl.data.sequences import pad
from advdl.data.source import Source
from advdl.data.spec import Spec
from advdl.errors import UserError, nearest
from advdl.reading import expand, files, is_folder

RATE, WINDOW, HOP, BANDS = 8000, 0.032, 0.020, 40
KEYS = "0123456789*#"
PARTS = {"test": range(5), "val": range(5, 10)}
"""Which recordings of a word and a speaker are held out, by their number: the official test split
of the Free Spoken Digit Dataset, and as many for validation."""
DIALED = {"train": 1200, "val": 100, "test": 300}


class Recording(NamedTuple):
    """samples (N,) at RATE, labels of what is said, and by whom."""

    samples: np.ndarray
    labels: tuple[int, ...]
    speaker: str


@dataclass(frozen=True)
class SpeechSpec(Spec):
    """Spoken words, as a network gets them. label_names: what the labels from 1 on are called."""

    label_names: tuple[str, ...]

    def __post_init__(self):
        if not self.label_names:
            raise ValueError("it names no labels")

    def decode(self, labels: Sequence[int]) -> str:
        """The words of labels."""
        return " ".join(self.label_names[label - 1] for label in labels)


def features(samples: np.ndarray) -> np.ndarray:
    """(T, M): log mel bands, each with mean 0 and deviation 1 over the recording, so that its level
    does not matter."""
    x = log_mel(samples, RATE, WINDOW, HOP, BANDS)
    return ((x - x.mean(0)) / (x.std(0) + 1e-3)).astype(np.float32)


def padded_features(recordings: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Samples (N,) of each recording as `{"frames": (B, T, M), "frames_length": (B,)}`."""
    found = [features(samples) for samples in recordings]
    frames, lengths, _ = pad(found, max(map(len, found)))
    return {"frames": frames, "frames_length": lengths}


class SpeechSource(Source):
    """`{"frames": float32 (B, T, M), "frames_length": int32 (B,), "label": int32 (B, L),
    "label_length": int32 (B,)}`: strings of one speaker's recordings, from one to `most` of them,
    each with the features of the whole.

    With `fixed` it is a list of so many strings, and T that of the longest. Else every place in the
    line of examples has a string of its own, which is left shorter where it would not fit into
    `most` recordings of nearly the greatest length.

    speed: each recording is played up to this share faster or slower, pitch with it. masks: in each
    recording so many stretches of up to MASKED frames, and as many of bands, are silenced
    (SpecAugment, Park et al. 2019, arXiv:1904.08779, section 2, without its warping). Neither
    changes a list.

    `recordings` are those that it was given.
    """

    def __init__(
        self,
        name: str,
        split: str,
        recordings: Sequence[Recording],
        most: int,
        fixed: int = 0,
        seed: int = 0,
        speed: float = 0.0,
        masks: int = 0,
    ):
        self._speed, self._masks = (0.0, 0) if fixed else (speed, masks)
        self.name, self.split, self.recordings, self._most = name, split, recordings, most
        self._speakers: dict[str, list[int]] = {}
        for row, recording in enumerate(recordings):
            self._speakers.setdefault(recording.speaker, []).append(row)
        self._labels = most * max(len(recording.labels) for recording in recordings)
        self.draws, self._fixed = (0 if fixed else 2 + most * (1 + bool(speed) + 4 * masks)), None
        lengths = sorted(len(recording.samples) for recording in recordings)
        self._room = (
            1 / (1 - self._speed) * max(lengths[-1], most * lengths[-1 - len(lengths) // 50])
        )
        if fixed:
            u = np.random.default_rng([0x73706B, seed]).random((fixed, 2 + most))
            made = [self._made(row, np.inf) for row in u]
            self._fixed = self._batch(made, max(len(frames) for frames, _ in made))

    def __len__(self) -> int:
        return 10_000 if self._fixed is None else len(self._fixed["label"])

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        u = self.uniforms(rows, u)
        if self._fixed is not None:
            return {name: value[rows] for name, value in self._fixed.items()}
        return self._batch(
            [self._made(own, self._room) for own in u], int(self._room / RATE / HOP) + 1
        )

    def _made(self, u: np.ndarray, room: float) -> tuple[np.ndarray, tuple[int, ...]]:
        speakers = list(self._speakers)
        own = self._speakers[speakers[int(u[0] * len(speakers))]]
        count = 1 + int(u[1] * self._most)
        most = self._most
        chosen = [self.recordings[own[int(x * len(own))]] for x in u[2 : 2 + count]]
        samples = [recording.samples for recording in chosen]
        if self._speed:
            samples = [
                played(x, 1 + self._speed * (2 * v - 1))
                for x, v in zip(samples, u[2 + most :], strict=False)
            ]
        while sum(map(len, samples)) > room:
            samples.pop()
        x = features(np.concatenate(samples))
        if self._masks:
            ends = np.linspace(0, len(x), len(samples) + 1).astype(
                int
            )  # recordings of about equal length
            for first, last, v in zip(
                ends[:-1], ends[1:], u[-4 * most * self._masks :].reshape(most, -1, 4), strict=False
            ):
                silence(x[first:last], v)
        return x, tuple(label for recording in chosen[: len(samples)] for label in recording.labels)

    def _batch(
        self, made: Sequence[tuple[np.ndarray, tuple[int, ...]]], most: int
    ) -> dict[str, np.ndarray]:
        frames = np.zeros((len(made), most, BANDS), np.float32)
        label = np.zeros((len(made), self._labels), np.int32)
        for n, (x, said) in enumerate(made):
            frames[n, : len(x)] = x
            label[n, : len(said)] = said
        lengths = [len(x) for x, _ in made]
        return {
            "frames": frames,
            "frames_length": np.array(lengths, np.int32),
            "label": label,
            "label_length": np.array([len(said) for _, said in made], np.int32),
        }


MASKED = (6, 8)
"""Frames and bands of the widest mask."""


def played(samples: np.ndarray, speed: float) -> np.ndarray:
    """(N,) -> (N / speed,): faster or slower, by linear interpolation."""
    place = np.arange(max(1, round(len(samples) / speed))) * speed
    return np.interp(place, np.arange(len(samples)), samples).astype(samples.dtype)


def silence(x_TM: np.ndarray, u: np.ndarray) -> None:
    """Sets stretches of frames and of bands to 0, their mean, in place. u: (masks, 4) uniform:
    width and place of either."""
    for own in u:
        for axis, (size, (width, place)) in enumerate(zip(MASKED, own.reshape(2, 2), strict=True)):
            wide = min(int(width * (size + 1)), x_TM.shape[axis])
            begin = int(place * (x_TM.shape[axis] - wide + 1))
            x_TM[(slice(None),) * axis + (slice(begin, begin + wide),)] = 0


def open_spec(name: str) -> SpeechSpec:
    """The spec of the recordings that a person named, see `open_recordings`; none of them is
    read."""
    return SpeechSpec(tuple(KEYS) if name == "dial" else _named(name)[1])


def open_speech(
    name: str,
    parts: Sequence[str],
    most: int,
    fixed: int = 0,
    seed: int = 0,
    speed: float = 0.0,
    masks: int = 0,
) -> SpeechSource:
    """Strings of the recordings of these parts; see `open_recordings` and `SpeechSource`."""
    recordings = [one for part in parts for one in open_recordings(name, part)[0]]
    return SpeechSource(name, "+".join(parts), recordings, most, fixed, seed, speed, masks)


def open_recordings(name: str, part: str) -> tuple[list[Recording], tuple[str, ...]]:
    """(recordings, names of the labels from 1 on) of a part, `train`, `val` or `test`.

    name: `dial`, keys of a telephone, dialed by nobody; or `folder:PATH` with
    WORD_SPEAKER_NUMBER.wav, of which the numbers 0 to 4 are the test part and 5 to 9 that of
    validation. Raises UserError for what is not there, does not read, or is called otherwise.
    """
    if part not in DIALED:
        raise UserError(f"no part {part!r}; there are {', '.join(DIALED)}{nearest(part, DIALED)}")
    if name == "dial":
        return dialed(part), tuple(KEYS)
    named, names = _named(name)

    def of(number):
        return next((part for part, own in PARTS.items() if number in own), "train")

    chosen = [(file, match) for file, match in named if of(int(match[3])) == part]
    if not chosen:
        raise UserError(
            f"{name} has no recordings for {part}; expected WORD_SPEAKER_NUMBER.wav with numbers"
            " from 0"
        )
    return [
        Recording(read_wav(file, RATE)[0], (names.index(match[1]) + 1,), match[2])
        for file, match in chosen
    ], names


@functools.lru_cache(3)
def dialed(part: str) -> list[Recording]:
    """Strings of one to three keys."""
    rng, found = np.random.default_rng([0x6469616C, list(DIALED).index(part)]), []
    for _ in range(DIALED[part]):
        keys = "".join(rng.choice(list(KEYS), rng.integers(1, 4)))
        labels = tuple(KEYS.index(key) + 1 for key in keys)
        found.append(Recording(dial(keys, rng, RATE), labels, "nobody"))
    return found


def _named(name: str) -> tuple[list[tuple[pathlib.Path, re.Match[str]]], tuple[str, ...]]:
    """The files of a folder with the parts of their names, and the words that there are."""
    kind, _, path = name.partition(":")
    if kind != "folder" or not path:
        known = ["dial", "folder:PATH"]
        raise UserError(
            f"no recordings {name!r}; there are {', '.join(known)}{nearest(name, known)}"
        )
    if not is_folder(root := expand(path)):
        raise UserError(f"no folder {root}; expected {root}/WORD_SPEAKER_NUMBER.wav")
    if not (found := files(root, [".wav"], root)):
        raise UserError(f"{root} has no recordings; expected {root}/WORD_SPEAKER_NUMBER.wav")
    named = []
    for file in map(pathlib.Path, found):
        match = re.fullmatch(r"(.+)_([^_]+)_(\d+)", file.stem)
        if match is None:
            raise UserError(f"{file} is not called WORD_SPEAKER_NUMBER.wav; rename or remove it")
        named.append((file, match))
    return named, tuple(sorted({match[1] for _, match in named}))
