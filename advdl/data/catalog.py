"""From what a person names to a source: built-in sets, `tfds:NAME`, `folder:PATH`."""

from advdl.data.blank import blank_images
from advdl.data.digits import BUILT_IN
from advdl.data.folder import FolderSource
from advdl.data.source import Source, in_memory
from advdl.data.tfds import open_tfds
from advdl.data.views import View, chosen
from advdl.errors import UserError, nearest


def open_source(
    spec: str,
    split: str,
    data_dir: str | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    view: View | None = None,
    skip_broken: bool = False,
) -> Source:
    """The source that a person named.

    spec: a built-in name (`digits`, `mnist`, `stacked`), `tfds:NAME`, or `folder:PATH` with
    `PATH/split/class/*.png|jpg|jpeg`; `blank:224x224x3:1000` stands in for what is not there, gray
    images of that shape and so many classes.
    data_dir: where tensorflow-datasets keeps prepared data. view: the part of each image that is
    shown, and its size; image_size: short for `cover(image_size)`, a square; by default images
    whole, of the size they have, which must then be one. channels: 1 or 3; by default those of the
    images. skip_broken: leaves out a folder's files that do not decode.

    Raises UserError for a name, folder, split or size that is not there, ValueError for both a view
    and an image_size.
    """
    kind, _, rest = spec.partition(":")
    wanted = chosen(image_size, view)
    if kind == "folder" and rest:
        return in_memory(FolderSource(rest, split, None, channels, wanted, skip_broken))
    if kind == "tfds" and rest:
        if skip_broken:
            raise UserError(f"{spec} was checked as it was prepared; leave --skip-broken out")
        return in_memory(open_tfds(rest, split, data_dir, wanted, channels))
    if kind == "blank":
        return blank_images(rest, split, wanted, channels)
    if spec not in BUILT_IN:
        known = [*BUILT_IN, "tfds:NAME", "folder:PATH"]
        raise UserError(f"no data set {spec!r}; there are {', '.join(known)}{nearest(spec, known)}")
    if skip_broken:
        raise UserError(f"{spec} have no files that could be broken; leave --skip-broken out")
    found = BUILT_IN[spec](split)
    side, _, own = found.image_shape
    if image_size not in (None, side) or view is not None or channels not in (None, own):
        shape = f"{side} by {side} pixels in {'gray' if own == 1 else f'{own} channels'}"
        raise UserError(f"{spec} are images of {shape}; leave --image-size out")
    return found


def same_classes(first: Source, second: Source, sizes: bool = True) -> None:
    """Raises UserError where two splits do not have the same classes in the same order, or, with
    `sizes`, images of the same shape."""
    if first.label_names != second.label_names:
        only = sorted(set(first.label_names) ^ set(second.label_names))
        raise UserError(
            f"{first.name} has other classes in {first.split} than in {second.split}:"
            f" {', '.join(only[:5]) or 'another order'}"
        )
    if sizes and first.image_shape != second.image_shape:
        raise UserError(
            f"{first.name} has images of {first.image_shape} in {first.split} and of"
            f" {second.image_shape} in {second.split}; give --image-size"
        )
