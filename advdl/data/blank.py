"""Made-up data of a stated shape, `blank:…`: in the place of data that is not there, to plan or to
time a step with."""

import numpy as np

from advdl.data.source import Source
from advdl.data.views import View
from advdl.errors import UserError
from advdl.ranges import Range, whole_number

EXAMPLES = 1024
TOKENS = 400_000
CLASSES = WORDS = Range(1, 1_000_000, "[]")
SIDES = Range(1, 8192, "[]")
FORM = "blank:HEIGHTxWIDTHxCHANNELS:CLASSES"


class BlankSource(Source):
    """Gray images, each class in turn; what `view` makes of them, its draws included. Of scenes,
    every pixel has the class."""

    def __init__(
        self,
        split: str,
        shape: tuple[int, ...],
        classes: int,
        view: View | None = None,
        scenes: bool = False,
    ):
        self.name, self.split, self.label_names = "blank", split, tuple(map(str, range(classes)))
        self.image_shape = shape if view is None else (*view.size, shape[2])
        self.draws, self._scenes = (view.draws if view else 0), scenes

    def __len__(self) -> int:
        return EXAMPLES

    def read(self, rows: np.ndarray, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See `Source.read`."""
        self.uniforms(rows, u)
        label = (np.asarray(rows) % len(self.label_names)).astype(np.int32)
        images = np.full((len(rows), *self.image_shape), 128, np.uint8)
        if not self._scenes:
            return {"image": images, "label": label}
        mask = np.broadcast_to(label.astype(np.uint8)[:, None, None], images.shape[:3])
        return {"image": images, "mask": np.array(mask)}


def blank_images(
    rest: str,
    split: str,
    view: View | None = None,
    channels: int | None = None,
    scenes: bool = False,
) -> BlankSource:
    """Of `224x224x3:1000`. channels: those that are wanted. Raises UserError for another form."""
    size, _, count = rest.partition(":")
    match *(whole_number(word, SIDES) for word in size.split("x")), whole_number(count, CLASSES):
        case int(height), int(width), 1 | 3 as depth, int(classes):
            shape = height, width, channels or depth
            return BlankSource(split, shape, classes, view, scenes)
    raise UserError(f"--data blank:{rest}; expected {FORM}, as blank:224x224x3:1000")


def blank_text(rest: str) -> str:
    """A text of `10000` different words, in turn, over and over."""
    words = _words(rest, "blank:WORDS, as blank:10000")
    lines = range(TOKENS // 20)
    return "".join(
        " ".join(words[(20 * line + n) % len(words)] for n in range(20)) + "\n" for line in lines
    )


def blank_pairs(rest: str) -> dict[str, list[tuple[str, str]]]:
    """Pairs of sentences of `40:10000`: so many words each, of so many different ones, each of
    which comes several times."""
    length, _, count = rest.partition(":")
    form = "blank:LENGTH:WORDS, as blank:40:10000"
    words = _words(count, form)
    if (length := whole_number(length, WORDS)) is None:
        raise UserError(f"--data blank:{rest}; expected {form}")
    sentences = max(EXAMPLES, -(-4 * len(words) // length))
    own = [
        " ".join(words[(length * n + k) % len(words)] for k in range(length))
        for n in range(sentences)
    ]
    return {part: [(one, one) for one in own] for part in ("train", "val", "test")}


def _words(count: str, form: str) -> list[str]:
    if (number := whole_number(count, WORDS)) is None:
        raise UserError(f"{count!r} is no number of words; expected {form}")
    return [f"w{n}" for n in range(number)]
