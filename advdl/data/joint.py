"""Transforms of images and their masks together. Axes: B batch, H height, W width, C channels."""

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.special import ndtri

from advdl.data.masks import NO_CLASS
from advdl.data.transforms import Batch, Transform


def joint_flip() -> Transform:
    """Mirrors half of the images with their masks, left to right; the numbers are those of
    `random_flip`."""

    def flip(batch: Batch, u: np.ndarray) -> Batch:
        chosen_B = u[:, 0] < 0.5
        both = {key: batch[key].copy() for key in ("image", "mask")}
        for array in both.values():
            array[chosen_B] = array[chosen_B, :, ::-1]
        return {**batch, **both}

    return Transform(1, flip)


def joint_scale_crop(
    size: int | tuple[int, int],
    scales: tuple[float, float] = (0.5, 2.0),
    void: int | None = NO_CLASS,
) -> Transform:
    """Image and mask scaled by a factor uniform in `scales`, then a window of `size` (H, W) at a
    random place; where the scaled image is smaller than the window, it lies at a random place of
    it, on image 0 and mask `void` (Chen et al. 2017, arXiv:1706.05587, section 4.1). Either may
    hold along one axis and not along the other.

    uint8 images, antialiased bilinear; masks by nearest neighbor. void: None is `NO_CLASS`, which
    counts nowhere either. Raises ValueError for scales that are not 0 < low <= high, and for other
    images.
    """
    target, (low, high) = (size, size) if isinstance(size, int) else tuple(size), scales
    if not 0 < low <= high:
        raise ValueError(f"scales are {scales}; expected 0 < low <= high")
    none = NO_CLASS if void is None else void

    def crop(batch: Batch, u: np.ndarray) -> Batch:
        image_BHWC, mask_BHW = batch["image"], batch["mask"]
        if image_BHWC.dtype != np.uint8:
            raise ValueError(
                f"scaling needs uint8 images, not {image_BHWC.dtype}; put it before to_float"
            )
        count, *sides, channels = image_BHWC.shape
        images = np.zeros((count, *target, channels), np.uint8)
        masks = np.full((count, *target), none, np.uint8)
        for n in range(count):
            scale = low + u[n, 0] * (high - low)
            (y, box_y), (x, box_x) = (
                _window(sides[k], target[k], scale, u[n, 1 + k]) for k in range(2)
            )
            box = box_x[0], box_y[0], box_x[1], box_y[1]
            shape = y.stop - y.start, x.stop - x.start
            images[n, y, x] = _resize(image_BHWC[n], shape, box, Image.Resampling.BILINEAR)
            masks[n, y, x] = _resize(mask_BHW[n], shape, box, Image.Resampling.NEAREST)
        return {**batch, "image": images, "mask": masks}

    return Transform(3, crop)


def joint_elastic(sigma: float = 10.0, grid: int = 3) -> Transform:
    """Smooth deformation of image and mask: displacements N(0, sigma²) in pixels, down and to the
    right, on `grid` × `grid` points that reach from corner to corner, and cubic spline
    interpolation of them in between (Ronneberger et al. 2015, U-Net, section 3.1). What comes from
    beyond the border is mirrored.

    uint8 images, bilinear; masks by nearest neighbor. Raises ValueError for other images.
    """

    def deform(batch: Batch, u: np.ndarray) -> Batch:
        image_BHWC, mask_BHW = batch["image"], batch["mask"]
        if image_BHWC.dtype != np.uint8:
            raise ValueError(
                f"deforming needs uint8 images, not {image_BHWC.dtype}; put it before to_float"
            )
        count, *sides, channels = image_BHWC.shape
        places = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in sides), indexing="ij")
        points = np.meshgrid(*(np.linspace(0, grid - 1, n) for n in sides), indexing="ij")
        drawn = sigma * ndtri(np.maximum(u, 2.0**-54)).reshape(
            count, 2, grid, grid
        )  # u may be 0, whose normal is not finite
        images, masks = np.empty_like(image_BHWC), np.empty_like(mask_BHW)
        for n in range(count):
            at = [
                place + ndimage.map_coordinates(d, points, order=3)
                for place, d in zip(places, drawn[n], strict=True)
            ]
            masks[n] = ndimage.map_coordinates(mask_BHW[n], at, order=0, mode="mirror")
            for c in range(channels):
                image = image_BHWC[n, ..., c].astype(np.float32)
                images[n, ..., c] = np.rint(
                    ndimage.map_coordinates(image, at, order=1, mode="mirror")
                )
        return {**batch, "image": images, "mask": masks}

    return Transform(2 * grid * grid, deform)


def border_weights(weight: float = 10.0, sigma: float = 5.0, void: int | None = None) -> Transform:
    """Adds `border` (B, H, W) float32, the second term of U-Net's weight map (equation 2): what a
    pixel between objects weighs more, w0 exp(-(d1 + d2)² / (2 sigma²)) with w0 = `weight`, where d1
    and d2 are its distances in pixels to the nearest and the second nearest object.

    Objects are the connected parts (over edges) of each class but class 0, the background, and
    void. Only pixels of the background are between them: others have 0, and so has everything where
    there are fewer than two objects, or none within six sigma.
    """
    reach = int(np.ceil(6 * sigma))

    def of(mask_HW: np.ndarray) -> np.ndarray:
        nearest, second = np.full((2, *mask_HW.shape), np.inf)
        for k in np.setdiff1d(mask_HW, [0, -1 if void is None else void]):
            numbered = np.empty(mask_HW.shape, np.int32)
            ndimage.label(mask_HW == k, output=numbered)
            for number, box in enumerate(ndimage.find_objects(numbered), 1):
                near = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in box)
                others = numbered[near] != number
                distance = np.empty(others.shape)
                ndimage.distance_transform_edt(others, distances=distance)
                second[near] = np.minimum(second[near], np.maximum(nearest[near], distance))
                nearest[near] = np.minimum(nearest[near], distance)
        return np.where(
            mask_HW == 0, weight * np.exp(-((nearest + second) ** 2) / (2 * sigma**2)), 0
        ).astype(np.float32)

    return Transform(
        0, lambda batch, u: {**batch, "border": np.stack([of(mask) for mask in batch["mask"]])}
    )


def _window(side: int, target: int, scale: float, u: float) -> tuple[slice, tuple[float, float]]:
    """Along one axis: which pixels of the window are covered, and by what part of the image, in its
    pixels."""
    scaled = max(1, round(side * scale))
    unit = side / scaled
    if scaled >= target:
        start = int(u * (scaled - target + 1))
        return slice(0, target), (start * unit, min((start + target) * unit, side))
    start = int(u * (target - scaled + 1))
    return slice(start, start + scaled), (0, side)


def _resize(array: np.ndarray, shape: tuple[int, int], box, how: Image.Resampling) -> np.ndarray:
    flat = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    return np.asarray(Image.fromarray(flat).resize((shape[1], shape[0]), how, box)).reshape(
        *shape, *array.shape[2:]
    )
