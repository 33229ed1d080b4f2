"""How frequent classes are in masks, and what each weighs in a loss that balances them.

Axes: K classes.
"""

from typing import NamedTuple

import numpy as np

from advdl.data.source import Source


class ClassPixels(NamedTuple):
    """Of each class: `pixels` (K,), how many there are, and `present` (K,), how many the images
    have in which there are any; int64. `void`: the same two figures of void."""

    pixels: np.ndarray
    present: np.ndarray
    void: tuple[int, int] = (0, 0)


def class_pixels(source: Source) -> ClassPixels:
    """Counted over all of a source. Raises ValueError for one that draws."""
    if source.draws:
        raise ValueError(f"{source.name} shows random parts of its images")
    classes = len(source.label_names)
    pixels, present = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for rows in np.array_split(np.arange(len(source)), len(source) // 64 + 1):
        for mask in source.read(rows)["mask"]:
            counts = np.bincount(mask.ravel(), minlength=256)
            pixels += counts
            present += (counts > 0) * mask.size
    void = (0, 0) if source.void is None else (int(pixels[source.void]), int(present[source.void]))
    return ClassPixels(pixels[:classes], present[:classes], void)


def median_frequency_weights(counts: ClassPixels, with_void: bool = False) -> np.ndarray:
    """median(f) / f_c, (K,) float32, where f_c = pixels of c / pixels of all images with c in them
    (Eigen & Fergus 2015, arXiv:1411.4734; SegNet, arXiv:1511.00561, section 4).

    with_void: void is among those of which the median is taken, as in SegNet's published weights. A
    class of which there is nothing weighs 0 and is not in the median.
    """
    frequency = np.divide(
        counts.pixels, counts.present, out=np.zeros(len(counts.pixels)), where=counts.present > 0
    )
    among = frequency[frequency > 0].tolist()
    if with_void and counts.void[1]:
        among.append(counts.void[0] / counts.void[1])
    middle = np.median(among) if among else 0.0
    weights = np.divide(middle, frequency, out=np.zeros_like(frequency), where=frequency > 0)
    return weights.astype(np.float32)
