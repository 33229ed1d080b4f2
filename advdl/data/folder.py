"""A person's own pictures: `PATH/split/class/*.png|jpg|jpeg`."""

import pathlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps

from advdl.errors import UserError, nearest

ENDINGS = (".png", ".jpg", ".jpeg")
MOST_PIXELS = 2**27  # an image that claims more is refused before it is decoded


class FolderSource:
    """Labeled images in folders named after their classes. Files are decoded when they are read, in parallel.

    Classes are the folders in alphabetical order, rows the files by class and name. Hidden files and files of other
    endings are passed over; so is what a link leads to outside of PATH.

    Raises UserError for a folder or split that is not there, no classes, or a class without images; on reading, for an
    image that does not decode, by name.
    """

    def __init__(self, path: str, split: str, image_size: int | None = None, channels: int | None = None):
        root = pathlib.Path(path).expanduser()
        if not root.is_dir():
            raise UserError(f"no folder {root}; expected {root}/train/CLASS/*.png and {root}/test/CLASS/*.png")
        folder = root / split
        if not folder.is_dir():
            found = sorted(p.name for p in root.iterdir() if p.is_dir())
            raise UserError(f"no folder {folder}; {root} has {', '.join(found) or 'no folders'}{nearest(split, found)}")
        classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not classes:
            raise UserError(f"{folder} has no class folders; expected {folder}/CLASS/*.png")
        inside = root.resolve()
        self.name, self.split = f"folder:{root}", split
        self.label_names = tuple(p.name for p in classes)
        self._files: list[pathlib.Path] = []
        labels: list[int] = []
        for label, place in enumerate(classes):
            files = sorted(
                p
                for p in place.iterdir()
                if p.suffix.lower() in ENDINGS and not p.name.startswith(".") and p.resolve().is_relative_to(inside)
            )
            if not files:
                raise UserError(f"class folder {place} has no images ({', '.join(ENDINGS)}); fill or remove it")
            self._files += files
            labels += [label] * len(files)
        self._labels = np.array(labels, np.int32)
        first = _open(self._files[0], lambda image: (*image.size[::-1], 1 if image.mode in ("1", "L", "I;16", "I") else 3))
        height, width = (image_size, image_size) if image_size else first[:2]
        self.image_shape = (height, width, channels or first[2])
        self._resize = image_size is not None
        self._pool = ThreadPoolExecutor(thread_name_prefix="decode")

    def __len__(self) -> int:
        return len(self._files)

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        images = list(self._pool.map(lambda row: self._decode(self._files[row]), rows))
        return {"image": np.stack(images), "label": self._labels[rows]}

    def _decode(self, path: pathlib.Path) -> np.ndarray:
        return decode(path, self.image_shape, self._resize)


def decode(path: str | pathlib.Path, shape: tuple[int, int, int], resize: bool = True) -> np.ndarray:
    """An image file as uint8 (H, W, C) of this shape, C 1 (gray) or 3 (RGB).

    Turned upright by its EXIF orientation; 16-bit gray scaled to 8; transparency laid on white; with `resize` scaled
    (antialiased) so that it just covers the shape, the middle cut out. Raises UserError, naming the file, where it is
    missing, does not decode, is too large to be meant, or has another size and may not be resized.
    """
    path, (height, width, channels) = pathlib.Path(path), shape

    def pixels(image: Image.Image) -> np.ndarray:
        image = ImageOps.exif_transpose(image)
        return cover(image, shape if resize else (*image.size[::-1], channels))

    array = _open(path, pixels)
    if array.shape[:2] != (height, width):
        raise UserError(
            f"{path} is {array.shape[1]} by {array.shape[0]} pixels and others are {width} by {height}; give --image-size"
        )
    return array


def cover(image: Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 (H, W, C): the image scaled until it just covers H by W, the middle of it."""
    height, width, channels = shape
    image = _eight_bits(image).convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def _open(path: pathlib.Path, look):
    """`look(image)`, whatever is wrong with the file told in one line."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UserError(f"{path} claims {image.width} by {image.height} pixels; over {MOST_PIXELS} are refused")
            return look(image)
    except FileNotFoundError:
        raise UserError(f"no file {path}") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} does not decode as an image ({error}); mend or remove it") from error
