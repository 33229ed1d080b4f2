"""The built-in data: 1,797 real handwritten digits, 8×8, as scikit-learn ships them (UCI ML
hand-written digits)."""

import functools
from typing import Any

import numpy as np

from advdl.data.source import ArraySource
from advdl.errors import UserError, nearest

SPLITS = ("train", "test")


@functools.cache
def digits(split: str) -> ArraySource:
    """`train`, 1,433 digits, or `test`, 364: of each class every fifth, from its first, in
    scikit-learn's order.

    Gray levels 0..16 become round(255·level / 16), so that level = round(16·pixel / 255) exactly.
    Raises UserError for another split.
    """
    from sklearn.datasets import load_digits

    if split not in SPLITS:
        raise UserError(
            f"digits have no split {split!r}; there are {', '.join(SPLITS)}{nearest(split, SPLITS)}"
        )
    found: Any = load_digits()
    test = np.zeros(len(found.target), bool)
    for digit in range(10):
        test[np.flatnonzero(found.target == digit)[::5]] = True
    rows = test if split == "test" else ~test
    images = np.rint(found.images[rows] * (255 / 16)).astype(np.uint8)[..., None]
    return ArraySource("digits", split, images, found.target[rows], tuple(map(str, range(10))))
