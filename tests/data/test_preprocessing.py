"""What a network is shown of an image: bytes come back, scales are the published ones, and sizes
are those asked for."""

import numpy as np
import pytest

from advdl import data
from advdl.nn.pixels import BYTES, CENTERED, IMAGENET, UNIT


@pytest.mark.parametrize(
    "pixels", [UNIT, IMAGENET, CENTERED, BYTES], ids=["unit", "imagenet", "centered", "bytes"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_come_back_from_what_the_network_gets(pixels, channels):
    image = np.random.default_rng(0).integers(0, 256, (2, 16, 16, channels), np.uint8)
    seen = data.Preprocessing(pixels=pixels).normalize()({"image": image})["image"]
    assert seen.dtype == np.float32
    np.testing.assert_array_equal(pixels.to_bytes(seen), image)
    np.testing.assert_allclose(
        pixels.from_unit(image / np.float32(127.5) - 1), seen, atol=2e-5 * np.abs(seen).max()
    )


def test_the_scales_are_those_that_weights_are_published_with():
    red = np.array([[[[255, 0, 0]]]], np.uint8)

    def get(pixels):
        return data.scaled(pixels)({"image": red})["image"].ravel()

    # torchvision's Normalize(mean, std) behind ToTensor
    np.testing.assert_allclose(
        get(IMAGENET), [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-5
    )
    # Caffe: mean_value 104, 117, 123 of blue, green, red, and no scale
    np.testing.assert_array_equal(get(CENTERED), [-104, -117, 255 - 123])
    np.testing.assert_array_equal(get(BYTES), [0, 0, 255])
    np.testing.assert_array_equal(get(UNIT), [1, -1, -1])


def test_gray_images_have_no_published_color_scale():
    gray = np.full((1, 2, 2, 1), 255, np.uint8)
    for pixels, white in ((IMAGENET, 1), (CENTERED, 1), (BYTES, 255)):
        assert (data.scaled(pixels)({"image": gray})["image"] == white).all()


@pytest.mark.parametrize("kind", ["whole", "inception", "crop", "scale"])
def test_views_have_the_sizes_asked_for(kind):
    look = data.Preprocessing(64, 96, 110, kind)
    assert look.train().size == (64, 64) and look.test().size == (96, 96)
    assert look.test(whole=True).size == ((96, 96) if kind == "whole" else (110, 110))
    assert (look.train().draws > 0) == (kind != "whole") and look.test().draws == 0


def test_crop_takes_a_part_at_one_scale_and_scale_at_many():
    """Of an image of 256 by 300, parts of 224 by 224 as they are, and parts of other sizes (section
    4.1 of each paper)."""
    boxes = {}
    for kind in ("crop", "scale"):
        view = data.Preprocessing(224, 224, 256, kind).train()
        boxes[kind] = {
            view.box(256, 300, u)[2] for u in np.random.default_rng(0).random((50, view.draws))
        }
    assert boxes["crop"] == {224} and len(boxes["scale"]) > 10 and max(boxes["scale"]) <= 224


def test_without_a_size_images_are_shown_as_they_are():
    assert data.Preprocessing().train() is None and data.Preprocessing().test() is None
