"""Data sets prepared by tensorflow-datasets, read by row without TensorFlow
(`tfds.data_source`)."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from advdl.data.decode import decode_view
from advdl.data.source import Source
from advdl.data.views import View
from advdl.errors import UserError, nearest
from advdl.reading import files, is_folder


class TfdsSource(Source):
    """A split of a prepared data set: records with `image` (an encoded file) and `label`, decoded
    when read, in parallel."""

    def __init__(
        self,
        name: str,
        split: str,
        records: "Records",
        features: Mapping[str, Any],
        view: View | None,
        channels: int | None,
    ):
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
        examples = self._records.read(rows)
        files = [example["image"] for example in examples]
        images = list(self._pool.map(self._decode, rows, files, self.uniforms(rows, u)))
        return {
            "image": np.stack(images),
            "label": labels(examples, len(self.label_names), f"{self.name} {self.split}"),
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
    features = features_of(builder, name)
    missing = [one for one in ("image", "label") if one not in features]
    if missing or not getattr(features["label"], "names", None):
        raise UserError(
            f"tfds:{name} has {', '.join(features)}; image and label, with names, are needed"
        )
    return TfdsSource(name, split, Records(builder, name, split, "image"), features, view, channels)


def prepared(name: str, split: str, data_dir: str | None) -> Any:
    """The builder of a data set that has this split prepared under `data_dir`. Raises UserError
    otherwise."""
    import tensorflow_datasets as tfds

    base = name.partition("/")[0].partition(":")[0]
    if name.partition("/")[0].partition(":")[2].strip("0123456789.*"):
        raise UserError(f"tfds:{name} names a community's data set; none of them is read")
    known = tfds.list_builders(with_community_datasets=False)
    try:
        with _read(f"tfds:{name}", tfds.core.DatasetNotFoundError):
            builder = tfds.builder(name, data_dir=data_dir)
            splits = sorted(builder.info.splits or ())
    except tfds.core.DatasetNotFoundError as error:
        if base in known:
            raise UserError(f"tfds:{name}: {error}") from error
        raise UserError(f"tensorflow-datasets has no {name!r}{nearest(base, known)}") from None
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


def features_of(builder: Any, name: str) -> Mapping[str, Any]:
    """The features of a prepared data set by name, `image` one of images. Raises UserError where
    there are none by name."""
    found = builder.info.features
    shape = found["image"].shape if hasattr(found, "keys") and "image" in found else (1, 1, 1)
    if not hasattr(found, "keys") or len(shape) != 3:
        raise UserError(f"tfds:{name} has no features by name, or an image that is none")
    return found


class Records:
    """The records of a prepared split, by row, with the features `encoded` as the files that they
    are. Raises UserError where it is not prepared as array_record, and for damaged files."""

    def __init__(self, builder: Any, name: str, split: str, *encoded: str):
        import tensorflow_datasets as tfds

        self._place = f"tfds:{name} {split} in {builder.data_path}"
        if is_folder(builder.data_path):
            files(builder.data_path, [""])  # which is noted with the run
        with _read(self._place):
            self._records = builder.as_data_source(
                split=split, decoders={key: tfds.decode.SkipDecoding() for key in encoded}
            )

    def __len__(self) -> int:
        return len(self._records)

    def read(self, rows: Iterable[int]) -> list[dict[str, Any]]:
        """Those of these rows."""
        with _read(self._place):
            return list(self._records.__getitems__([int(row) for row in rows]))


def labels(records: Sequence[Mapping[str, Any]], classes: int, place: str) -> np.ndarray:
    """The labels of records (N,) int32, of so many classes, -1 where one is hidden. Raises
    UserError for others."""
    found = np.array([record["label"] for record in records], np.int64)
    if ((found < -1) | (found >= classes)).any():
        raise UserError(
            f"{place} has a label {found.max()} and {classes} classes; prepare it again"
        )
    return found.astype(np.int32)


@contextlib.contextmanager
def _read(place: str, *but: type[Exception]) -> Iterator[None]:
    """Inside, files of TFDS are read: what is wrong with them leads it to any exception. It makes
    no feature but those that it has, where it would import what a `features.json` names."""
    from tensorflow_datasets.core.features import feature

    connector: Any = feature.FeatureConnector
    find = connector.__dict__["cls_from_name"]

    def known(cls, name):
        if name not in cls._registered_features:
            raise ValueError(f"its features.json names {name!r}, which is none of TFDS's features")
        return find.__func__(cls, name)

    connector.cls_from_name = classmethod(known)
    try:
        yield
    except (UserError, MemoryError, *but):
        raise
    except Exception as error:
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{place} cannot be read: {why}; prepare it as array_record") from error
    finally:
        connector.cls_from_name = find
