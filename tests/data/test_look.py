"""How a network looks at images: what goes in comes out, and the sizes are those asked for."""

import numpy as np
import pytest

from advdl import data


@pytest.mark.parametrize(
    "look",
    [data.Look(0, 0, 0), data.Look(224, 224, 256, "inception", data.IMAGENET_MEAN, data.IMAGENET_STD)],
    ids=["-1..1", "imagenet"],
)
def test_pixels_takes_back_what_normalize_did(look):
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    seen = look.normalize()({"image": image})["image"]
    assert seen.dtype == np.float32
    np.testing.assert_array_equal(look.pixels(seen), image)


@pytest.mark.parametrize("kind", ["whole", "inception", "scale"])
def test_views_have_the_sizes_asked_for(kind):
    look = data.Look(64, 96, 110, kind)
    assert look.train().size == (64, 64) and look.test().size == (96, 96)
    assert look.test(whole=True).size == ((96, 96) if kind == "whole" else (110, 110))
    assert (look.train().draws > 0) == (kind != "whole") and look.test().draws == 0


def test_without_a_size_images_are_shown_as_they_are():
    assert data.Look(0, 0, 0).train() is None and data.Look(0, 0, 0).test() is None
