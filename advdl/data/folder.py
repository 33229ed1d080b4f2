"""A person's own pictures: `PATH/split/class/*.png|jpg|jpeg`."""

import pathlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from advdl.data.decode import decode_view, natural_shape
from advdl.data.source import Source
from advdl.data.views import View, chosen, cover
from advdl.errors import UserError, nearest
from advdl.reading import expand, files, folders, is_folder

ENDINGS = (".png", ".jpg", ".jpeg")
CHUNK = 4096  # files that wait for their check at a time


class FolderSource(Source):
    """Labeled images in folders named after their classes. Files are decoded when they are read, in
    parallel.

    Classes are the folders in alphabetical order, rows the files by class and name; `files` and
    `labels` are theirs. Hidden files and files of other endings are passed over; so is what a link
    leads to outside of PATH. Images are seen through `view` (`image_size`: short for
    `cover(image_size)`), or all have the first one's size; channels: 1 or 3, by default the first
    one's. skip_broken: every file is decoded once here, and those that fail are left out; `broken`
    names them.

    Raises UserError for a folder or split that is not there, no classes, or a class without images;
    on reading, for an image that does not decode, by name.
    """

    def __init__(
        self,
        path: str,
        split: str,
        image_size: int | None = None,
        channels: int | None = None,
        view: View | None = None,
        skip_broken: bool = False,
    ):
        if not is_folder(root := expand(path)):
            raise UserError(
                f"no folder {root}; expected {root}/train/CLASS/*.png and {root}/test/CLASS/*.png"
            )
        folder = root / split
        if not is_folder(folder):
            found = [place.name for place in folders(root)]
            raise UserError(
                f"no folder {folder}; {root} has"
                f" {', '.join(found) or 'no folders'}{nearest(split, found)}"
            )
        if not (classes := folders(folder)):
            raise UserError(f"{folder} has no class folders; expected {folder}/CLASS/*.png")
        self.name, self.split = f"folder:{root}", split
        self.label_names = tuple(p.name for p in classes)
        self.broken: tuple[pathlib.Path, ...] = ()
        self._view = chosen(image_size, view)
        self.draws = self._view.draws if self._view else 0
        self._pool = ThreadPoolExecutor(thread_name_prefix="decode")
        files = [image_files(place, root) for place in classes]
        for place, inside in zip(classes, files, strict=True):
            if not inside:
                raise UserError(
                    f"class folder {place} has no images ({', '.join(ENDINGS)}); fill or remove it"
                )
        if skip_broken:
            files = self._without_broken(classes, files)
        self.files = [file for inside in files for file in inside]
        self.labels = np.repeat(
            np.arange(len(classes), dtype=np.int32), [len(inside) for inside in files]
        )
        height, width, depth = natural_shape(pathlib.Path(self.files[0]), self.files[0])
        self.image_shape = (
            *(self._view.size if self._view else (height, width)),
            channels or depth,
        )

    def __len__(self) -> int:
        return len(self.files)

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        images = list(self._pool.map(self._decode, rows, self.uniforms(rows, u)))
        return {"image": np.stack(images), "label": self.labels[rows]}

    def _decode(self, row: int, u: np.ndarray) -> np.ndarray:
        file = self.files[row]
        return decode_view(pathlib.Path(file), file, self.image_shape, self._view, u)

    def _without_broken(
        self, classes: list[pathlib.Path], files: list[list[str]]
    ) -> list[list[str]]:
        kept: list[list[str]] = []
        for place, inside in zip(classes, files, strict=True):
            parts = [inside[n : n + CHUNK] for n in range(0, len(inside), CHUNK)]
            whole = [good for part in parts for good in self._pool.map(_decodes, part)]
            kept.append([file for file, good in zip(inside, whole, strict=True) if good])
            self.broken += tuple(
                pathlib.Path(file) for file, good in zip(inside, whole, strict=True) if not good
            )
            if not kept[-1]:
                raise UserError(
                    f"class folder {place} has no images that decode, {len(inside)} broken ones;"
                    " fill or remove it"
                )
        return kept


def image_files(place: pathlib.Path, root: pathlib.Path) -> list[str]:
    """The image files of a folder in order, without links out of `root`."""
    return files(place, ENDINGS, root)


def _decodes(file: str) -> bool:
    """Whether a file decodes to its end; at an eighth of its size where it can."""
    try:
        decode_view(pathlib.Path(file), file, (8, 8, 3), cover(8))
    except UserError:
        return False
    return True
