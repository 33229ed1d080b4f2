"""Sheets of images and animations of them, pixel for pixel.

Axes: B images, R rows of a sheet, H height, W width, C channels (1 or 3).
"""

import io
import math
import os
import pathlib
from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from advdl.data.decode import opened
from advdl.present import files

PAPER, INK, RULE, NAN = (255, 255, 255), (30, 30, 30), (0, 114, 178), (255, 0, 255)
_LEGIBLE = 48  # pixels: small images are enlarged to at least this
_MOST = 2**25  # pixels that are shown
_TEXT, _TITLE = 11, 14  # font sizes in pixels
_LINES = 3  # of a caption, at most


def tile(
    images_BHWC: np.ndarray,
    low: float = -1.0,
    high: float = 1.0,
    columns: int | None = None,
    scale: int | None = None,
    margin: int = 4,
    captions: Sequence[str] | None = None,
    right_RHWC: np.ndarray | None = None,
    title: str = "",
) -> np.ndarray:
    """One sheet of all images, row by row: (height, width, 3) uint8.

    images_BHWC: gray (C = 1) or color (C = 3) in [low, high], which become black and white; what is
      outside is clipped and what is NaN is magenta. uint8 images are taken as they are. Where all
      have more than 2^25 pixels, only every second, third … row and column is shown.
    columns: images a row (default: as square as B allows). scale: each pixel becomes scale × scale
      equal ones (default: the smallest with a longer side of at least 48).
    margin: pixels around each tile. captions: one under each image, wrapped to three lines.
    right_RHWC: one more image a row, set off by a rule, such as the nearest training example of the
      row's last image.
    title: a line above all.

    Image b's top left pixel is at row margin + (b // columns) · (H·scale + caption + margin) and
    column margin + (b % columns) · (W·scale + margin), below the title. Raises ValueError where
    shapes or counts do not fit.
    """
    images = _pixels(images_BHWC, low, high)
    if not len(images):
        raise ValueError("there are no images to tile")
    step = math.ceil(math.sqrt(images.size / 3 / _MOST))
    images = images[:, ::step, ::step]
    count, height, width, _ = images.shape
    columns = min(columns or int(np.ceil(np.sqrt(count))), count)
    rows = -(-count // columns)
    scale = scale or max(1, -(-_LEGIBLE // max(height, width)))
    if captions is not None and len(captions) != count:
        raise ValueError(f"{len(captions)} captions for {count} images")
    if right_RHWC is not None:
        right = _pixels(right_RHWC, low, high)[:, ::step, ::step]
        if right.shape != (rows, height, width, 3):
            raise ValueError(
                f"{len(right)} images {right.shape[1:3]} beside {rows} rows of {(height, width)}"
            )

    font = typeface()
    wide, tall = width * scale, height * scale
    wrapped = [_wrap(text, font, wide) for text in captions or ()]
    text_height = max(map(len, wrapped), default=0) * (_TEXT + 3)
    gap = max(3 * margin, 9)
    sheet_width = (
        margin + columns * (wide + margin) + (gap + wide + margin if right_RHWC is not None else 0)
    )
    heading = _wrap(title, typeface(_TITLE), sheet_width - 2 * margin) if title else []
    top = len(heading) * (_TITLE + 4) + (margin if heading else 0)
    sheet_height = top + margin + rows * (tall + text_height + margin)

    sheet = Image.new("RGB", (sheet_width, sheet_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(heading):
        draw.text((margin, margin + number * (_TITLE + 4)), line, INK, typeface(_TITLE))

    def put(image: np.ndarray, lines: list[str], left: int, row: int) -> None:
        y = top + margin + row * (tall + text_height + margin)
        sheet.paste(Image.fromarray(image.repeat(scale, 0).repeat(scale, 1)), (left, y))
        for number, line in enumerate(lines):
            middle = left + (wide - font.getlength(line)) / 2
            draw.text((round(middle), y + tall + 1 + number * (_TEXT + 3)), line, INK, font)

    for b, image in enumerate(images):
        lines = wrapped[b] if wrapped else []
        put(image, lines, margin + (b % columns) * (wide + margin), b // columns)
    if right_RHWC is not None:
        left = margin + columns * (wide + margin) + gap
        rule = left - (gap + margin) // 2
        draw.line([(rule, top + margin), (rule, sheet_height - margin - 1)], RULE, 2)
        for r, image in enumerate(right):
            put(image, [], left, r)
    return np.asarray(sheet)


def draw_grid(images_BHWC: np.ndarray, path: str | os.PathLike, **options) -> pathlib.Path:
    """Writes `tile(images_BHWC, **options)` as a PNG; returns its path."""
    return write(tile(images_BHWC, **options), path)


def animate(
    frames: Sequence[np.ndarray | str | os.PathLike],
    path: str | os.PathLike,
    milliseconds: int = 200,
    hold: int = 2000,
) -> pathlib.Path:
    """Writes a GIF that repeats for ever; returns its path.

    frames: sheets, (height, width, 3) uint8 as `tile` makes them, or pictures' paths, all of one
      size; each is shown for `milliseconds` (the format counts in tens) and the last for `hold`. A
      frame equal to the one before it is stored as a longer showing of that one. All frames share
      one palette, so that no shade flickers: every gray, or 256 colors fitted to all frames.

    Raises ValueError where there are no frames or their sizes differ.
    """
    sheets = [_sheet(frame) for frame in frames]
    if len({sheet.shape for sheet in sheets}) != 1:
        raise ValueError(
            f"frames of shapes {sorted({sheet.shape for sheet in sheets})}; one shape is needed"
        )
    if all((sheet == sheet[..., :1]).all() for sheet in sheets):
        first, *others = (Image.fromarray(sheet[..., 0]) for sheet in sheets)
    else:
        some = sheets[:: -(-len(sheets) // 16)] + sheets[-1:]  # enough to find the colors by
        palette = Image.fromarray(np.concatenate(some)).quantize(256, Image.Quantize.MEDIANCUT)
        dither = Image.Dither.NONE
        first, *others = (
            Image.fromarray(sheet).quantize(palette=palette, dither=dither) for sheet in sheets
        )
    buffer = io.BytesIO()
    shown = [milliseconds] * len(others) + [hold]
    first.save(
        buffer, "GIF", save_all=True, append_images=others, duration=shown, loop=0, disposal=1
    )
    return files.write(path, buffer.getvalue())


def _pixels(images: np.ndarray, low: float, high: float) -> np.ndarray:
    """(B, H, W, 3) uint8."""
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"images of shape {images.shape}; (B, H, W, 1) or (B, H, W, 3) is needed")
    if images.dtype != np.uint8:
        images = images.astype(np.float64)
        unknown = np.isnan(images).any(-1, keepdims=True)
        level = np.clip((images - low) / (high - low), 0, 1)
        images = np.rint(255 * np.where(np.isnan(level), 0, level)).astype(np.uint8)
        images = np.where(unknown, np.array(NAN, np.uint8), images)
    return np.broadcast_to(images, (*images.shape[:3], 3))


def _sheet(frame: np.ndarray | str | os.PathLike) -> np.ndarray:
    if isinstance(frame, np.ndarray):
        return frame
    return opened(pathlib.Path(frame), str(frame), lambda image: np.asarray(image.convert("RGB")))


def write(pixels: np.ndarray, path: str | os.PathLike) -> pathlib.Path:
    """A sheet (height, width, 3) uint8 as a PNG; returns its path."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return files.write(path, buffer.getvalue())


def typeface(size: int = _TEXT) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it; the basic layout is there in every build of Pillow."""
    path = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines that fit into `width` pixels, three at most; what does not fit ends in an ellipsis."""
    lines, words = [], str(text).split()
    while words:
        line = words.pop(0)
        while words and font.getlength(f"{line} {words[0]}") <= width:
            line = f"{line} {words.pop(0)}"
        if len(lines) == _LINES - 1 and words:
            line, words = f"{line} …", []
        if font.getlength(line) > width:
            line = line.removesuffix(" …")
            while line and font.getlength(f"{line}…") > width:
                line = line[:-1]
            line = f"{line}…"
        lines.append(line)
    return lines
