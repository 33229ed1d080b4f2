"""Views against the definitions they come from, written out again, and the pixels that they lead
to."""

import functools
import io
import math
import pathlib
import types

import numpy as np
import pytest
from PIL import Image

from advdl import data
from advdl.data.tfds import TfdsSource
from advdl.errors import UserError

SIZES = [(375, 500), (500, 333), (64, 64), (40, 900), (700, 31), (257, 256)]


def draws(view, count, seed=0):
    return np.random.default_rng(seed).random((count, view.draws))


def smooth(height, width, channels=3, seed=0, grain=16):
    """An image without sharp edges, as uint8."""
    coarse = np.random.default_rng(seed).integers(
        0, 256, (-(-height // grain), -(-width // grain), 3), dtype=np.uint8
    )
    image = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return image if channels == 3 else image[..., :1]


def save(path, array, **arguments):
    Image.fromarray(array.squeeze()).save(path, **arguments)
    return path


ALL = [
    data.cover((20, 30)),
    data.center_crop(24, 32),
    data.random_resized_crop(20),
    data.random_scale_crop(24, (28, 40)),
]


@pytest.mark.parametrize("view", ALL)
@pytest.mark.parametrize("size", SIZES)
def test_boxes_lie_inside_the_image(view, size):
    for u in [*draws(view, 200), np.zeros(view.draws), np.full(view.draws, 1 - 2**-53)]:
        top, left, height, width = view.box(*size, u)
        assert top >= 0 and left >= 0 and height > 0 and width > 0
        assert top + height <= size[0] + 1e-9 and left + width <= size[1] + 1e-9


@pytest.mark.parametrize("size", SIZES)
def test_cover_is_the_largest_centered_box_of_its_aspect(size):
    top, left, height, width = data.cover((20, 30)).box(*size, np.empty(0))
    assert width / height == pytest.approx(1.5)
    assert height == pytest.approx(size[0]) or width == pytest.approx(size[1])
    assert top == pytest.approx((size[0] - height) / 2) and left == pytest.approx(
        (size[1] - width) / 2
    )


@pytest.mark.parametrize("size", SIZES)
def test_center_crop_is_scaling_the_shorter_side_and_cutting_out_the_middle(tmp_path, size):
    image = smooth(*size)
    (height, width), of, crop = size, 32, 27
    scaled = (of, int(of * width / height)) if height <= width else (int(of * height / width), of)
    top, left = (round((side - crop) / 2) for side in scaled)
    whole = np.asarray(Image.fromarray(image).resize(scaled[::-1], Image.Resampling.BILINEAR))
    seen = data.decode(
        save(tmp_path / "a.png", image), (crop, crop, 3), view=data.center_crop(crop, of)
    )
    expected = whole[top : top + crop, left : left + crop]
    np.testing.assert_allclose(seen.astype(int), expected.astype(int), atol=2)


@pytest.mark.parametrize("size", SIZES)
def test_random_resized_crop_is_the_first_try_that_fits(size):
    view, (height, width) = data.random_resized_crop(20, (0.2, 0.9), (0.5, 1.6)), size
    for u in draws(view, 300):
        for n in range(10):
            area = height * width * (0.2 + 0.7 * u[2 * n])
            ratio = math.exp(math.log(0.5) + math.log(1.6 / 0.5) * u[2 * n + 1])
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if w <= width and h <= height:
                expected = int(u[20] * (height - h + 1)), int(u[21] * (width - w + 1)), h, w
                break
        else:  # the middle, with the ratio nearest to the image's
            h = round(width / 0.5) if width / height < 0.5 else height
            w = round(height * 1.6) if width / height > 1.6 else width
            expected = (height - h) // 2, (width - w) // 2, h, w
        assert view.box(height, width, u) == expected


def test_random_resized_crop_has_the_areas_ratios_and_places_asked_for():
    view = data.random_resized_crop(224)
    top, left, height, width = np.array([view.box(400, 400, u) for u in draws(view, 4000)]).T
    share, aspect = height * width / 400**2, np.log(width / height)
    assert 0.079 < share.min() < 0.09 and 0.9 < share.max() <= 1
    assert np.exp(aspect.min()) > 0.74 and np.exp(aspect.max()) < 1.35
    assert np.std(aspect) == pytest.approx(
        math.log(16 / 9) / 12**0.5, rel=0.05
    )  # a uniform one's, hardly cut
    small = share < 0.5
    assert np.mean(top[small] / (400 - height[small])) == pytest.approx(0.5, abs=0.03)
    assert np.std(left[small] / (400 - width[small])) == pytest.approx(12**-0.5, abs=0.02)


def test_random_scale_crop_has_every_scale_and_place():
    view = data.random_scale_crop(24, (28, 40))
    top, left, height, width = np.array([view.box(300, 450, u) for u in draws(view, 4000)]).T
    scale = 24 / height * 300  # what the shorter side, 300, became
    np.testing.assert_allclose(scale, np.rint(scale))
    assert np.bincount(np.rint(scale).astype(int))[28:].tolist() == pytest.approx(
        [4000 / 13] * 13, rel=0.25
    )
    np.testing.assert_allclose(width / height, 1, rtol=0.02)  # the longer side is rounded
    corner = top * scale / 300  # whole pixels of the scaled image
    np.testing.assert_allclose(corner, np.rint(corner), atol=1e-9)
    assert (
        np.all(np.rint(corner) <= scale - 24)
        and np.any(np.rint(corner) == np.rint(scale) - 24)
        and np.any(corner == 0)
    )
    assert len(set(np.rint(left * scale / 300))) > 30


def test_views_that_cannot_be_are_refused():
    for view in (
        functools.partial(data.center_crop, 33, 32),
        functools.partial(data.random_scale_crop, 300),
    ):
        with pytest.raises(ValueError, match="does not hold"):
            view()
    with pytest.raises(ValueError, match="give one"):
        data.open_source("digits", "train", image_size=8, view=data.cover(8))
    with pytest.raises(UserError, match="8 by 8"):
        data.open_source("digits", "train", view=data.cover(8))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "view",
    [data.cover((48, 64)), data.center_crop(48, 48), data.random_resized_crop(48, (1, 1), (1, 1))],
)
def test_a_box_of_the_views_size_gives_the_pixels_unchanged(tmp_path, view, channels):
    image = smooth(*view.size, channels)
    seen = data.decode(save(tmp_path / "a.png", image), image.shape, view=view, u=draws(view, 1)[0])
    np.testing.assert_array_equal(seen, image)


def test_a_whole_box_is_cut_out_and_not_interpolated(tmp_path):
    image, view = smooth(60, 80), data.View((20, 30), 0, lambda height, width, u: (7, 11, 20, 30))
    seen = data.decode(save(tmp_path / "a.png", image), (20, 30, 3), view=view)
    np.testing.assert_array_equal(seen, image[7:27, 11:41])


@pytest.mark.parametrize("size", [(480, 640), (483, 645)])
@pytest.mark.parametrize("target", [200, 100, 48])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_decoded_at_less_detail_looks_the_same_either_way_up(
    tmp_path, size, target, orientation
):
    """At 1/2, 1/4 and 1/8 of its size, against the whole image turned and then scaled."""
    whole = Image.fromarray(smooth(*size, grain=80))
    exif = Image.Exif()
    exif[0x0112] = orientation
    whole.save(tmp_path / "a.jpg", quality=95, exif=exif)
    # what undoes each orientation, by the table of the EXIF standard: row 0 and column 0 are
    # which sides
    turns = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: a[::-1].swapaxes(0, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: a[:, ::-1].swapaxes(0, 1),
    }  # fmt: skip
    upright = Image.fromarray(
        np.ascontiguousarray(turns[orientation](np.asarray(Image.open(tmp_path / "a.jpg"))))
    )
    view = data.random_resized_crop(target, (0.9, 0.9))
    u = draws(view, 1, seed=orientation)[0]
    top, left, height, width = view.box(upright.height, upright.width, u)
    expected = upright.resize(
        (target, target), Image.Resampling.BILINEAR, (left, top, left + width, top + height)
    )
    difference = data.decode(tmp_path / "a.jpg", (target, target, 3), view=view, u=u).astype(
        int
    ) - np.asarray(expected)
    assert np.abs(difference).mean() < 1 and np.abs(difference).max() < 12


PHOTOGRAPHS = {  # mode -> a color of it, and what that is in red, green and blue
    "1": (1, (255, 255, 255)),
    "L": (90, (90, 90, 90)),
    "LA": ((80, 0), (255, 255, 255)),
    "P": ("transparent palette", (255, 255, 255)),
    "RGB": ((200, 40, 90), (200, 40, 90)),
    "RGBA": ((200, 0, 100, 51), (244, 204, 224)),  # 1/5 of it on 4/5 of white
    "CMYK": ((0, 255, 255, 0), (255, 0, 0)),
    "I;16": (90 * 257, (90, 90, 90)),
}


def photograph(mode, height, width):
    color = PHOTOGRAPHS[mode][0]
    file = io.BytesIO()
    if mode == "P":
        image = Image.new("P", (width, height), 1)
        image.putpalette([9, 9, 9, 70, 80, 90])
        image.save(file, "PNG", transparency=1)
    else:
        Image.new(mode, (width, height), color).save(file, "JPEG" if mode == "CMYK" else "PNG")
    return file.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("view", [data.center_crop(10, 12), data.random_resized_crop(10)])
def test_photographs_of_every_mode_and_many_sizes_are_one_batch(tmp_path, view, channels):
    place = tmp_path / "train" / "things"
    place.mkdir(parents=True)
    for n, mode in enumerate(PHOTOGRAPHS):
        (place / f"{n}.png").write_bytes(photograph(mode, 90 + 7 * n, 200 - 13 * n))
    source = data.open_source(f"folder:{tmp_path}", "train", channels=channels, view=view)
    images = source.read(np.arange(len(source)), draws(view, len(source)))["image"]
    assert images.shape == (len(PHOTOGRAPHS), 10, 10, channels) and images.dtype == np.uint8
    for image, (mode, (_, color)) in zip(images, PHOTOGRAPHS.items(), strict=True):
        gray = [np.dot(color, (0.299, 0.587, 0.114))]  # ITU-R 601-2
        np.testing.assert_allclose(
            image,
            np.broadcast_to(color if channels == 3 else gray, image.shape),
            atol=2,
            err_msg=mode,
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """21 photographs of two classes and of different sizes."""
    root = tmp_path_factory.mktemp("photographs")
    for n in range(21):
        place = root / "train" / "ab"[n % 2]
        place.mkdir(parents=True, exist_ok=True)
        save(place / f"{n:02}.jpg", smooth(40 + 3 * n, 90 - 2 * n, seed=n), quality=90)
    return f"folder:{root}"


def equal(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


@pytest.mark.parametrize(
    "view", [data.random_resized_crop(16), data.random_scale_crop(16, (20, 30))]
)
def test_a_batch_of_views_depends_on_seed_and_step_alone(folder, view):
    def batches():
        source = data.open_source(folder, "train", view=view)
        return data.TrainBatches(
            source, 8, 3, data.compose(data.to_float(0, 1), data.random_flip())
        )

    whole, halves = batches(), [batches().part(process, 2) for process in range(2)]
    first = {t: whole(t) for t in (0, 1, 2, 9)}
    for t in (9, 0, 2, 1):
        equal(whole(t), first[t])
        seen = [half(t) for half in halves]
        equal({key: np.concatenate([part[key] for part in seen]) for key in seen[0]}, first[t])


def test_numbers_go_to_the_view_and_then_to_the_transform(folder):
    view = data.random_resized_crop(16)
    source = data.open_source(folder, "train", view=view)
    seen = []
    watch = data.Transform(2, lambda batch, u: seen.append(u) or batch)
    batch = data.TrainBatches(source, 4, 5, watch)(1)
    words = (
        np.random.Philox(key=[5, 0x61756776]).random_raw(8 * 24).reshape(8, 24)[4:]
    )  # places 4 … 7, 24 words each
    u = (words >> 11) * 2.0**-53
    np.testing.assert_array_equal(seen[0], u[:, 22:])
    np.testing.assert_array_equal(batch["image"], source.read(batch["index"], u[:, :22])["image"])


def test_a_source_that_draws_is_not_kept_and_cannot_be_evaluated_on(folder):
    view = data.random_resized_crop(16)
    source = data.open_source(folder, "train", view=view)
    assert source.draws == 22 and data.in_memory(source) is source
    rows = np.array([4, 4])
    first, second = source.read(rows, draws(view, 2))["image"]
    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match="draws 22"):
        source.read(rows)
    with pytest.raises(ValueError, match="center_crop"):
        data.EvalBatches(source, 4)
    assert data.open_source(folder, "train", view=data.center_crop(16, 20)).draws == 0


def test_broken_files_are_left_out_and_named(tmp_path):
    for name, n in (("ant", 3), ("bee", 2)):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(n):
            save(tmp_path / "train" / name / f"{number}.jpg", smooth(64, 80, seed=number))
    broken = [tmp_path / "train" / name for name in ("ant/0.jpg", "bee/1.jpg")]
    broken[1].write_bytes(broken[1].read_bytes()[:-200])
    spec, view = f"folder:{tmp_path}", data.cover(16)
    with pytest.raises(UserError, match=str(broken[1])):
        data.FolderSource(str(tmp_path), "train", 16).read(np.array([4]))
    broken[0].write_bytes(b"no image")
    for source in (data.open_source(spec, "train", view=view, skip_broken=True), data.FolderSource(
        str(tmp_path), "train", skip_broken=True
    )):  # fmt: skip
        assert source.broken == tuple(broken)
        assert source.read(np.arange(len(source)))["label"].tolist() == [0, 0, 1]
    (tmp_path / "train" / "bee" / "0.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="bee has no images that decode"):
        data.open_source(spec, "train", view=view, skip_broken=True)
    for spec in ("digits", "tfds:mnist"):
        with pytest.raises(UserError, match="leave --skip-broken out"):
            data.open_source(spec, "train", skip_broken=True)


def test_an_upright_size_is_that_of_the_first_image(tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "train" / "a" / "0.jpg", smooth(40, 60), exif=exif)
    source = data.open_source(f"folder:{tmp_path}", "train")
    assert source.image_shape == (60, 40, 3) and source.read(np.array([0]))["image"].shape == (
        1,
        60,
        40,
        3,
    )


def test_decoding_speed_is_told_for_both_ways():
    speed = data.decoding_speed(32, seconds=0.05)
    assert set(speed) == {"view", "pillow"} and min(speed.values()) > 1


class Records(list):
    """What tensorflow-datasets gives with decoding skipped: encoded images of many sizes."""

    features = {
        "image": types.SimpleNamespace(shape=(None, None, 3)),
        "label": types.SimpleNamespace(names=["a", "b"]),
    }

    def read(self, rows):
        return [self[row] for row in rows]


def test_a_prepared_set_and_a_folder_show_the_same_views(folder):
    view = data.random_resized_crop(16)
    source = data.open_source(folder, "train", view=view)
    files = sorted(pathlib.Path(folder.removeprefix("folder:")).glob("train/*/*.jpg"))
    records = Records(
        {"image": file.read_bytes(), "label": "ab".index(file.parent.name)} for file in files
    )
    prepared = TfdsSource("photographs", "train", records, records.features, view, None)
    rows = np.array([20, 3, 3, 11])
    equal(prepared.read(rows, draws(view, 4)), source.read(rows, draws(view, 4)))
    records[3]["image"] = records[3]["image"][:300]
    with pytest.raises(UserError, match="row 3 of tfds:photographs train does not decode"):
        prepared.read(rows, draws(view, 4))
    with pytest.raises(UserError, match="many sizes; give --image-size"):
        TfdsSource("photographs", "train", records, records.features, None, None)
