"""Data sets prepared by tensorflow-datasets, read by row without TensorFlow
(`tfds.data_source`)."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from advdl.data.decode import decode_view
from advdl.data.source import Source
from advdl.data.views import View
from advdl.errors import UserError, nearest


class TfdsSource(Source):
    """A split of a prepared data set: records with `image` (an encoded file) and `label`, decoded
    when read, in parallel."""

    def __init__(self, name: str, split: str, records, view: View | None, channels: int | None):
        features = records.dataset_info.features
        self.name, self.split, self._records, self._view = f"tfds:{name}", split, records, view
        self.label_names = tuple(features["label"].names)
        self.draws = view.draws if view else 0
        height, width, depth = features["image"].shape
        if view is None and (height is None or width is None):
            raise UserError(f"tfds:{name} has images of many sizes; give --image-size")
        height, width = view.size if view else (height, width)
        self.image_shape = (height, width, channels or (1 if depth == 1 else 3))
        self._pool = ThreadPoolExecutor(thread_name_prefix="decode")

    def __len__(self) -> int:
        return len(self._records)

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`. Raises UserError, naming the row, for an image that does not
        decode."""
        examples = self._records.__getitems__([int(row) for row in rows])
        files = [example["image"] for example in examples]
        images = list(self._pool.map(self._decode, rows, files, self.uniforms(rows, u)))
        return {
            "image": np.stack(images),
            "label": np.array([example["label"] for example in examples], np.int32),
        }

    def _decode(self, row: int, file: bytes, u: np.ndarray) -> np.ndarray:
        return decode_view(
            file, f"row {row} of {self.name} {self.split}", self.image_shape, self._view, u
        )


def open_tfds(
    name: str,
    split: str,
    data_dir: str | None,
    view: View | None = None,
    channels: int | None = None,
) -> TfdsSource:
    """The prepared data set under `data_dir` (default: tensorflow-datasets' own place). Nothing is
    downloaded.

    Raises UserError for an unknown name, a set that is not prepared there as array_record, an
    unknown split, or a set without `image` and `label`.
    """
    builder = prepared(name, split, data_dir)
    if not {"image", "label"} <= set(builder.info.features):
        raise UserError(
            f"tfds:{name} has {', '.join(builder.info.features)}; image and label are needed"
        )
    return TfdsSource(name, split, records(builder, name, split, "image"), view, channels)


def prepared(name: str, split: str, data_dir: str | None) -> Any:
    """The builder of a data set that has this split prepared under `data_dir`. Raises UserError
    otherwise."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        known = tfds.list_builders(with_community_datasets=False)
        base = name.partition("/")[0].partition(":")[0]
        if base in known:
            raise UserError(f"tfds:{name}: {error}") from error
        raise UserError(f"tensorflow-datasets has no {name!r}{nearest(base, known)}") from None
    splits = sorted(builder.info.splits or ())
    if not splits:
        raise UserError(
            f"tfds:{name} is not prepared in {builder.data_path}; where TensorFlow is installed:"
            f" tfds build {name} --data_dir {data_dir or 'DIR'} --file_format array_record; then"
            " give --data-dir"
        )
    if split not in splits:
        raise UserError(
            f"tfds:{name} has no split {split!r}; there are"
            f" {', '.join(splits)}{nearest(split, splits)}"
        )
    return builder


def records(builder: Any, name: str, split: str, *encoded: str) -> Any:
    """The records of a prepared split, by row, with the features `encoded` as the files that they
    are. Raises UserError where it is not prepared as array_record."""
    import tensorflow_datasets as tfds

    try:
        return builder.as_data_source(
            split=split, decoders={key: tfds.decode.SkipDecoding() for key in encoded}
        )
    except (NotImplementedError, ValueError, OSError) as error:
        place = builder.data_path
        raise UserError(
            f"tfds:{name} in {place} cannot be read by row: {error}; prepare it as array_record"
        ) from error
