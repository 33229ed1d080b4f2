"""From an image file to pixels, no more of them than a view needs.

Photographs come gray, with transparency, in CMYK, in 16 bits and rotated; all become uint8 (H, W,
C), C 1 (gray) or 3 (RGB).
"""

import contextlib
import io
import pathlib
import threading
import time
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, ImageOps

from advdl.data.views import View, cover, random_resized_crop
from advdl.errors import UserError
from advdl.reading import open_file

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
"""What is read, whatever a file is called: Pillow would hand PostScript to another program."""
MOST_PIXELS = 2**27
"""An image that claims more is refused before it is decoded; so many are decoded at a time, over
all threads."""
GRAY = ("1", "L", "I;16", "I")  # modes of which a set is gray unless told otherwise


def decode(
    path: str | pathlib.Path,
    shape: tuple[int, int, int],
    resize: bool = True,
    view: View | None = None,
    u: np.ndarray | None = None,
) -> np.ndarray:
    """An image file as uint8 (H, W, C) of this shape, C 1 (gray) or 3 (RGB).

    Turned upright by its EXIF orientation; 16-bit gray scaled to 8; transparency laid on white;
    with `resize` scaled (antialiased) so that it just covers the shape, the middle cut out, or what
    `view` shows with the numbers u (draws,). Raises UserError, naming the file, where it is
    missing, does not decode, is too large to be meant, or has another size and may not be resized.
    """
    view = cover(shape[:2]) if view is None and resize else view
    return decode_view(pathlib.Path(path), str(path), shape, view, u)


def decode_view(
    file: pathlib.Path | bytes,
    name: str,
    shape: tuple[int, ...],
    view: View | None,
    u: np.ndarray | None = None,
) -> np.ndarray:
    """A file, or its contents, seen through a view with the numbers u (draws,): uint8 (H, W, C) of
    this shape.

    Without a view the image must have that size. Errors are `decode`'s and call the file `name`.
    """
    array = opened(file, name, lambda image: _pixels(image, view, shape[2], u))
    if array.shape != shape:
        raise UserError(
            f"{name} is {array.shape[1]} by {array.shape[0]} pixels and others are {shape[1]} by"
            f" {shape[0]}; give --image-size"
        )
    return array


def natural_shape(file: pathlib.Path | bytes, name: str) -> tuple[int, int, int]:
    """(H, W, C) of an image as it is, upright, from its header."""
    return opened(file, name, lambda image: (*_upright(image)[:2], 1 if image.mode in GRAY else 3))


def natural_size(path: str | pathlib.Path) -> tuple[int, int]:
    """(H, W) of an image file as it is, upright. Raises UserError as `decode` does."""
    return natural_shape(pathlib.Path(path), str(path))[:2]


def decoding_speed(size: int = 224, seconds: float = 2.0) -> dict[str, float]:
    """Images per second of one core, `random_resized_crop(size)` of synthetic photographs (JPEG,
    500 by 375 pixels).

    `view`: what sources do; `pillow`: open, convert to RGB, crop, resize. In turns, `seconds` in
    all, by the thread's own time, so that other work beside it does not count.
    """
    rng = np.random.default_rng(0)
    files, view = [photograph(rng) for _ in range(8)], random_resized_crop(size)

    def plain(file: bytes, u: np.ndarray) -> np.ndarray:
        with Image.open(io.BytesIO(file), formats=FORMATS) as image:
            top, left, height, width = view.box(image.height, image.width, u)
            part = image.convert("RGB").crop((left, top, left + width, top + height))
            return np.asarray(part.resize((size, size), Image.Resampling.BILINEAR))

    ways = {
        "view": lambda file, u: decode_view(file, "", (size, size, 3), view, u),
        "pillow": plain,
    }
    spent, count, end = dict.fromkeys(ways, 0.0), 0, time.monotonic() + seconds
    while not count or time.monotonic() < end:
        draws = rng.random((len(files), view.draws))
        for name, way in ways.items():
            start = time.thread_time()
            for file, u in zip(files, draws, strict=True):
                way(file, u)
            spent[name] += time.thread_time() - start
        count += len(files)
    return {name: count / spent[name] for name in ways}


def photograph(rng: np.random.Generator) -> bytes:
    """A JPEG of noise whose strength falls with its frequency, as that of photographs does."""
    image = np.zeros((375, 500, 3), np.float32)
    for cells in (2, 4, 8, 16, 32, 64, 128):
        coarse = Image.fromarray(rng.integers(0, 256, (cells * 3 // 4, cells, 3), dtype=np.uint8))
        image += (
            (np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.float32) - 128)
            * 1.5
            / cells**0.5
        )
    file = io.BytesIO()
    Image.fromarray((image + 128).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
    return file.getvalue()


def _pixels(
    image: Image.Image, view: View | None, channels: int, u: np.ndarray | None
) -> np.ndarray:
    height, width, turned = _upright(image)
    size = view.size if view else (height, width)
    top, left, tall, wide = (
        view.box(height, width, np.empty(0) if u is None else u) if view else (0, 0, height, width)
    )
    reduction = _draft(image, min(tall / size[0], wide / size[1]), turned)
    if turned:
        image = ImageOps.exif_transpose(image)
    image = _eight_bits(image)
    mode = "L" if channels == 1 or image.mode in ("1", "L") else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    box = (
        max(left, 0) / reduction,
        max(top, 0) / reduction,
        min(left + wide, width) / reduction,
        min(top + tall, height) / reduction,
    )
    image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR, box)
    if channels == 3 and mode == "L":
        image = image.convert("RGB")
    return np.asarray(image).reshape(*size, channels)


def _upright(image: Image.Image) -> tuple[int, int, bool]:
    """(height, width, turned): of the image as its EXIF orientation will have it, and whether that
    moves pixels."""
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    width, height = image.size
    if orientation in (5, 6, 7, 8):
        height, width = width, height
    return height, width, orientation in range(2, 9)


def _draft(image: Image.Image, most: float, turned: bool) -> float:
    """Has a JPEG decoded at 1/2, 1/4 or 1/8 of its size, by fewer frequencies of each block, where
    that is at most `most`.

    Gives the reduction. The last row and column of a reduced image may stand for fewer pixels; an
    image that is turned, which would bring them to the front, is reduced only where they do not.
    """
    width, height = image.size
    for reduction in (8, 4, 2):
        if reduction <= most and not (turned and (width % reduction or height % reduction)):
            drafted = image.draft(None, (width // reduction, height // reduction))
            return width / drafted[1][2] if drafted else 1.0
    return 1.0


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray(
            (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        )
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def opened(file: pathlib.Path | bytes, name: str, look):
    """`look(image)` of a Pillow image of one of `FORMATS`, of several frames the first. Raises
    UserError, which calls the file `name`, where anything is wrong."""
    try:
        with (
            io.BytesIO(file) if isinstance(file, bytes) else open_file(file) as content,
            Image.open(content, formats=FORMATS) as image,
        ):
            if image.width * image.height > MOST_PIXELS:
                raise UserError(
                    f"{name} claims {image.width} by {image.height} pixels; over {MOST_PIXELS} are"
                    " refused"
                )
            with _decoding(image.width * image.height):
                return look(image)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # damage leads a decoder to any of them
        unknown = isinstance(error, Image.UnidentifiedImageError)
        why = f"expected {', '.join(FORMATS)}" if unknown else error
        raise UserError(f"{name} does not decode as an image ({why}); mend or remove it") from error


@contextlib.contextmanager
def _decoding(pixels: int) -> Iterator[None]:
    """Waits until there is room for so many pixels among those that are being decoded."""
    global _left
    with _room:
        _room.wait_for(lambda: _left >= pixels)
        _left -= pixels
    try:
        yield
    finally:
        with _room:
            _left += pixels
            _room.notify_all()


_room, _left = threading.Condition(), MOST_PIXELS
