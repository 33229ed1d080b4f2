"""What a network must know of its data, apart from the data: a spec.

`load` makes it from the training data. A run keeps it as `spec.json`, and from then on networks are
built, planned and used for predictions without any data.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from advdl.data.source import Source
from advdl.data.transforms import Transform, to_float
from advdl.errors import UserError
from advdl.reading import convert


@dataclasses.dataclass(frozen=True)
class Spec:
    """Base of all specs: frozen dataclasses of numbers, strings, and tuples of these.

    A class that inherits is known by its name, under which it is stored.
    """

    _kinds: ClassVar[dict[str, type["Spec"]]] = {}

    def __init_subclass__(cls, **named: Any):
        super().__init_subclass__(**named)
        Spec._kinds[cls.__name__] = cls

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON: its kind and its fields."""
        return {"kind": type(self).__name__, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, stored: Any, file: Any = "spec.json") -> Self:
        """The spec that was stored, of this class or one that inherits it. Raises UserError, with
        the file's name, for anything else."""

        def refuse(why: str) -> UserError:
            return UserError(f"{file} describes no data: {why}; restore it, or train the run anew")

        if not isinstance(stored, Mapping):
            raise refuse("it is no JSON object")
        kind = Spec._kinds.get(str(stored.get("kind")))
        if kind is None or not issubclass(kind, cls):
            raise refuse(f"its kind is {stored.get('kind')!r}")
        names = [field.name for field in dataclasses.fields(kind)]
        if missing := [name for name in names if name not in stored]:
            raise refuse(f"{missing[0]} is missing")
        try:
            return convert(kind, {name: stored[name] for name in names})
        except ValueError as error:
            raise refuse(str(error)) from None


@dataclasses.dataclass(frozen=True)
class ImageSpec(Spec):
    """Labeled images, as a network gets them.

    shape: (height, width, channels). label_names: one for each class. low: the lowest value of a
      pixel, -1 or 0; the highest is 1.
    """

    shape: tuple[int, int, int]
    label_names: tuple[str, ...] = ()
    low: float = -1.0

    @classmethod
    def of(cls, source: Source, **fields: Any) -> Self:
        """The spec of a source's images and classes; further fields by name."""
        height, width, channels = source.image_shape
        return cls((height, width, channels), tuple(source.label_names), **fields)

    def transform(self) -> Transform:
        """Brings pixels of bytes to the range that a network is given."""
        return to_float(self.low, 1.0)

    def classes(self, name: str, least: int = 2) -> int:
        """The number of classes. Raises UserError, with the name of the flag that needs them, where
        there are fewer than `least`."""
        if (count := len(self.label_names)) < least:
            raise UserError(f"{name} needs at least {least} classes, and the data has {count}")
        return count


@dataclasses.dataclass(frozen=True)
class PixelMeansSpec(ImageSpec):
    """Images for a network that may start from their mean.

    pixel_means: mean of every pixel over the training images, in [0, 1], row by row; empty where no
      network asks for it.
    """

    pixel_means: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class GeneratorSpec(ImageSpec):
    """Images, and the generator of another run that draws them, see `models.generator`.

    network, width: its name and width. z, noise: the dimensions and the prior of its noise.
    normalization: whether its layers are normalized.
    """

    network: str = "dcgan"
    width: int = 64
    z: int = 64
    noise: str = "normal"
    normalization: bool = True


Shapes = Mapping[str, tuple[tuple[int, ...], str]]
"""By name, the shape of one example and its dtype."""


def shapes_of(batch: Mapping[str, np.ndarray], size: int) -> dict[str, list[Any]]:
    """What `batch_of` makes zeros of, as JSON: of each array (B·n, …) its n and the shape of the
    rest, and its dtype."""
    return {
        name: [len(x) // size, list(x.shape[1:]), np.asarray(x).dtype.name]
        for name, x in batch.items()
    }


def batch_of(
    shapes: Any, size: int, make: Callable[..., Any] = np.zeros, file: Any = "spec.json"
) -> dict[str, Any]:
    """A batch of `size` examples with the shapes that `shapes_of` found, made by
    `make(shape, dtype)`. Raises UserError for what `shapes_of` did not write."""
    try:
        return {
            str(name): make((int(times) * size, *map(int, rest)), np.dtype(dtype))
            for name, (times, rest, dtype) in shapes.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} tells no shapes of a batch ({error}); restore it, or train the run anew"
        ) from None
