"""Data sets prepared by tensorflow-datasets, read by row without TensorFlow (`tfds.data_source`)."""

import logging

import numpy as np
from PIL import Image

from advdl.data.folder import cover
from advdl.errors import UserError, nearest


class TfdsSource:
    """A split of a prepared data set with features `image` and `label`."""

    def __init__(self, name: str, split: str, records, image_size: int | None, channels: int | None):
        features = records.dataset_info.features
        if not {"image", "label"} <= set(features):
            raise UserError(f"tfds:{name} has {', '.join(features)}; image and label are needed")
        self.name, self.split, self._records = f"tfds:{name}", split, records
        self.label_names = tuple(features["label"].names)
        height, width, depth = features["image"].shape
        if image_size is None and (height is None or width is None):
            raise UserError(f"tfds:{name} has images of many sizes; give --image-size")
        self.image_shape = (image_size or height, image_size or width, channels or depth)

    def __len__(self) -> int:
        return len(self._records)

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        examples = self._records.__getitems__([int(row) for row in rows])
        images = np.stack([fit(example["image"], self.image_shape) for example in examples])
        return {"image": images, "label": np.array([example["label"] for example in examples], np.int32)}


def open_tfds(
    name: str, split: str, data_dir: str | None, image_size: int | None = None, channels: int | None = None
) -> TfdsSource:
    """The prepared data set under `data_dir` (default: tensorflow-datasets' own place). Nothing is downloaded.

    Raises UserError for an unknown name, a set that is not prepared there as array_record, or an unknown split.
    """
    logging.getLogger("absl").addFilter(_not_opencv)
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        known = tfds.list_builders(with_community_datasets=False)
        base = name.partition("/")[0].partition(":")[0]
        if base in known:
            raise UserError(f"tfds:{name}: {error}") from error
        raise UserError(f"tensorflow-datasets has no {name!r}{nearest(base, known)}") from None
    splits = sorted(builder.info.splits or ())
    place = builder.data_path
    if not splits:
        raise UserError(
            f"tfds:{name} is not prepared in {place}; where TensorFlow is installed: "
            f"tfds build {name} --data_dir {data_dir or 'DIR'} --file_format array_record; then give --data-dir"
        )
    if split not in splits:
        raise UserError(f"tfds:{name} has no split {split!r}; there are {', '.join(splits)}{nearest(split, splits)}")
    try:
        records = builder.as_data_source(split=split)
    except (NotImplementedError, ValueError, OSError) as error:
        raise UserError(f"tfds:{name} in {place} cannot be read by row: {error}; prepare it as array_record") from error
    return TfdsSource(name, split, records, image_size, channels)


def fit(image: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """A decoded image (h, w, c) uint8 brought to (H, W, C) as `advdl.data.folder.decode` does."""
    if image.shape == shape:
        return image
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return cover(picture, shape)


def _not_opencv(record: logging.LogRecord) -> bool:
    """tensorflow-datasets recommends OpenCV in a warning; Pillow decodes the same pixels."""
    return "OpenCV is not installed" not in str(record.msg)
