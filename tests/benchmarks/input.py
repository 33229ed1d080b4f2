"""The input pipeline in examples a second, beside torch's DataLoader with plain Pillow and the same
transforms.

    python tests/benchmarks/input.py [--rounds 5] [--workers 2] [--images 512] \\
        [--data-dir TFDS] [--only jpeg]

`jpeg`: a folder of synthetic photographs (500 by 375 pixels, made in a temporary directory), seen
as ImageNet's are in training: a random area and aspect brought to 224 by 224, mirrored, normalized,
float32. `array_record`: Fashion-MNIST's records read by row and decoded, where the set is prepared
under --data-dir (a run keeps a set so small in memory). `text`: sentences of many lengths padded to
the bounds of four buckets; torch's side pads each batch to its longest in `collate_fn`. Batches are
ours, read ahead by as many threads as torch's side has worker processes. Ours is
`data.TrainBatches` through `data.prefetch`, as a run reads.
Both take turns, round by round, and start each round with nothing read ahead.
"""

import argparse
import io
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from timing import in_turns, machine, ratio, seconds

from advdl import data
from advdl.data.decode import photograph
from advdl.data.tfds import open_tfds, prepared
from advdl.errors import UserError
from advdl.nn.pixels import IMAGENET

SIZE, BATCH, AHEAD = 224, 64, 4
"""Of a photograph's view, of every batch, and how many batches either side reads ahead."""


class Photographs:
    """A map-style set: Pillow opens, converts, crops and resizes; numpy mirrors and normalizes,
    channels first."""

    def __init__(self, files: list[str], labels: np.ndarray):
        self._files, self._labels, self._view = files, labels, data.random_resized_crop(SIZE)

    def __len__(self):
        return len(self._files)

    def __getitem__(self, row: int):
        rng = np.random.default_rng()
        with Image.open(self._files[row]) as image:
            top, left, height, width = self._view.box(
                *image.size[::-1], rng.random(self._view.draws)
            )
            part = image.convert("RGB").crop((left, top, left + width, top + height))
            pixels = (
                np.asarray(part.resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float32) / 255
            )
        pixels = pixels[:, ::-1] if rng.random() < 0.5 else pixels
        normal = (pixels - np.float32(data.IMAGENET_MEAN)) / np.float32(data.IMAGENET_STD)
        return np.ascontiguousarray(normal.transpose(2, 0, 1)), self._labels[row]


class Records:
    """A map-style set of encoded images read by row."""

    def __init__(self, records: Any):
        self._records = records

    def __len__(self):
        return len(self._records)

    def __getitem__(self, row: int):
        example = self._records[row]
        with Image.open(io.BytesIO(example["image"])) as image:
            return np.asarray(image, np.float32)[None] / 127.5 - 1, np.int64(example["label"])


class Sentences:
    """A map-style set of sequences of tokens."""

    def __init__(self, sentences: list[np.ndarray]):
        self._sentences = sentences

    def __len__(self):
        return len(self._sentences)

    def __getitem__(self, row: int):
        return self._sentences[row]


def padded(sentences: list[np.ndarray]):
    """Of a batch's sentences, their tokens filled up with zeros and their lengths."""
    import torch

    rows = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(row) for row in sentences], batch_first=True
    )
    return rows, torch.tensor([len(row) for row in sentences])


def loaded(
    rows: Any, options: argparse.Namespace, collate: Callable[..., Any] | None = None
) -> Callable[[int], float]:
    """Seconds in which torch's loader gives so many batches."""
    import torch

    def run(count):
        loader = torch.utils.data.DataLoader(
            rows,
            BATCH,
            shuffle=True,
            drop_last=True,
            num_workers=options.workers,
            prefetch_factor=AHEAD // options.workers,
            persistent_workers=True,
            collate_fn=collate,
        )
        return timed(endless(loader), count)

    return run


def endless(loader: Any) -> Iterator[Any]:
    """One epoch after another."""
    while True:
        yield from loader


def read(batches: Callable[[int], Any], options: argparse.Namespace) -> Callable[[int], float]:
    """Seconds in which ours gives so many batches."""
    return lambda count: timed(data.prefetch(batches, 0, 10**9, options.workers, AHEAD), count)


def timed(batches: Iterator[Any], count: int) -> float:
    """Seconds of `count` batches, once threads or processes have started and what was read ahead is
    taken."""
    for _ in range(AHEAD + 1):
        next(batches)
    taken = seconds(lambda: [next(batches) for _ in range(count)])
    batches.close()
    return taken


def photographs(images: int, folder: Path, batch: int = BATCH) -> data.TrainBatches:
    """Batches of so many synthetic photographs, which are written to the folder."""
    rng = np.random.default_rng(0)
    for number in range(images):
        file = folder / "train" / f"class{number % 4}" / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(photograph(rng))
    look = data.Preprocessing(SIZE, SIZE, 256, "inception", IMAGENET)
    source = data.FolderSource(str(folder), "train", channels=3, view=look.train())
    return data.TrainBatches(source, batch, 0, data.compose(data.random_flip(), look.normalize()))


def jpeg(options: argparse.Namespace, folder: Path):
    """(ours, torch's, batches a round)."""
    ours = photographs(options.images, folder)
    theirs = Photographs(ours.source.files, ours.source.labels)
    return read(ours, options), loaded(theirs, options), 8


def array_record(options: argparse.Namespace, folder: Path):
    """(ours, torch's, batches a round). Raises UserError where the set is not prepared."""
    import tensorflow_datasets as tfds

    source = open_tfds("fashion_mnist", "train", options.data_dir)
    ours = data.TrainBatches(source, BATCH, 0, data.to_float(-1.0, 1.0))
    builder = prepared("fashion_mnist", "train", options.data_dir)
    rows = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    return read(ours, options), loaded(Records(rows), options), 100


def text(options: argparse.Namespace, folder: Path):
    """(ours, torch's, batches a round)."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.geometric(1 / 25, 20_000), 1, 120)
    sentences = [rng.integers(4, 10_000, length).astype(np.int32) for length in lengths]
    ours = data.BucketBatches(
        {"text": sentences}, {"text": data.boundaries(lengths, 4, 120)}, BATCH, 0
    )
    return read(ours, options), loaded(Sentences(sentences), options, padded), 300


CASES = {"jpeg": jpeg, "array_record": array_record, "text": text}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--data-dir", help="where tensorflow-datasets has prepared fashion_mnist")
    parser.add_argument("--only", default="", help="part of the cases' names")
    options = parser.parse_args()
    print(
        f"{machine('grain', 'pillow', 'numpy', 'torch')}, {options.workers} workers, medians of"
        f" {options.rounds} rounds"
    )
    print(
        f"| examples/s, batches of {BATCH} | ours | torch's DataLoader | ours / torch"
        " |\n|---|---|---|---|",
        flush=True,
    )
    for name, case in CASES.items():
        if options.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                ours, theirs, count = case(options, Path(folder))
            except UserError as error:
                print(f"| {name} | left out: {error} |||", flush=True)
                continue
            programs = {"ours": partial(ours, count), "torch": partial(theirs, count)}
            times = in_turns(programs, options.rounds)
        rates = [BATCH * count / statistics.median(taken) for taken in times.values()]
        print(
            f"| {name} | {rates[0]:,.0f} | {rates[1]:,.0f} |"
            f" {ratio(times['torch'], times['ours']):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
