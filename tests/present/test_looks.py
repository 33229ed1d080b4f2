"""Where a network looked: a row an image, a tile a word, bright where the weight is."""

import numpy as np
import pytest
from PIL import Image

from advdl import present


def test_every_word_has_a_tile_that_is_bright_where_it_looked(tmp_path):
    images = np.full((2, 56, 56, 1), 100, np.uint8)
    first, second = np.zeros((2, 4, 4), np.float32), np.zeros((1, 4, 4), np.float32)
    first[0, 0, 0], first[1, 3, 3], second[0, 0, 3] = 0.2, 0.9, 1.0
    path = present.draw_looks(
        images, [["a", "cat"], ["dog"]], [first, second], tmp_path / "looks.png"
    )
    with Image.open(path) as picture:
        sheet = np.asarray(picture).astype(int).sum(-1)
    side, (row, column) = 112, (4, 4)

    def corner(n, dy, dx):
        return sheet[row + dy, column + n * (side + 4) + dx]

    assert corner(1, 8, 8) > corner(1, 100, 100) and corner(2, 100, 100) > corner(2, 8, 8)
    assert corner(0, 8, 8) == corner(0, 100, 100) == 300  # the image itself
    below = sheet[len(sheet) // 2 :]
    assert (below[20:80, 4 + 2 * (side + 4) : -8] == 765).all()  # one word less, paper in its place
    with pytest.raises(ValueError, match="2 words with weights"):
        present.draw_looks(images[:1], [["a", "cat"]], [second], tmp_path / "looks.png")
