"""The data of an experiment: a spec, batches to train on, and batches to evaluate on by name."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

from advdl.data.batches import EvalBatches, TrainBatches
from advdl.data.source import Source
from advdl.data.spec import Spec
from advdl.data.transforms import Transform
from advdl.reading import fingerprint, recorded


class Splits:
    """What `load(config)` returns. Each part is opened when it is first asked for, and then kept.

    spec: what a network must know of the data, a `Spec`. Making it may open the training data.
    train: `batch(t)`, see `TrainBatches`.
    evaluations: finite batches by name, see `EvalBatches`: `val`, where settings and checkpoints
      are chosen, and `test`.
    """

    def __init__(
        self,
        spec: Callable[[], Spec],
        train: Callable[[Any], Any],
        evaluations: Mapping[str, Callable[[Any], Any]],
    ):
        """`spec()` makes the spec; `train(spec)` and `evaluations[name](spec)` open the parts."""
        self._make, self._train, self._spec = spec, train, None
        self._opened: dict[str, Any] = {}
        self._files: dict[str, Any] = {}
        self._evaluations = _Opened(dict(evaluations), lambda: self.spec)

    @classmethod
    def of_sources(
        cls,
        spec: Callable[[], Spec],
        sources: Mapping[str, Callable[[], Source]],
        batch_size: int,
        seed: int,
        transform: Callable[[Any], Transform | None] = lambda spec: None,
        minibatches: int = 1,
    ) -> "Splits":
        """Splits of sources: `train` is trained on, and the others are evaluated on.

        transform: what changes the batches of all of them, a function of the spec. minibatches: of
        `batch_size` examples that one step is trained on.
        """

        def training(spec):
            count = batch_size * minibatches
            return TrainBatches(sources["train"](), count, seed, transform(spec))

        def evaluated(source):
            return lambda spec: EvalBatches(source(), batch_size, transform(spec))

        others = {name: evaluated(source) for name, source in sources.items() if name != "train"}
        return cls(spec, training, others)

    @classmethod
    def of(
        cls,
        spec: Callable[[], Spec],
        batches: Callable[[str, Any], Any],
        parts: Iterable[str] = ("train", "val", "test"),
    ) -> Self:
        """Splits whose parts are opened by one function, `batches(part, spec)`."""
        opened = {part: functools.partial(batches, part) for part in parts}
        return cls(spec, opened.pop("train"), opened)

    def given(self, spec: Spec | None) -> "Splits":
        """The same with a spec that was stored, if there is one: it is not made again."""
        self._spec = spec if spec is not None else self._spec
        return self

    @property
    def spec(self) -> Any:
        """What a network must know of the data."""
        if self._spec is None:
            self._spec = self.make_spec()
        return self._spec

    def make_spec(self) -> Any:
        """The spec of the data as it is now, whatever spec was given."""
        with recorded(self._files):
            return self._make()

    @property
    def train(self) -> Any:
        """Batches to train on."""
        if "train" not in self._opened:
            with recorded(self._files):
                self._opened["train"] = self._train(self.spec)
        return self._opened["train"]

    def fingerprint(self) -> str:
        """Which files the spec and the part to train on were made of, by their names and sizes, or
        by what they hold where they are read whole. Opens both."""
        self.make_spec()
        return fingerprint(self._files) if self.train else ""

    @property
    def evaluations(self) -> Mapping[str, Any]:
        """Batches to evaluate on, by name; each is opened when it is read."""
        return self._evaluations


class _Opened(Mapping):
    """Functions of the spec by name, called when they are first asked for."""

    def __init__(self, make: dict[str, Callable[[Any], Any]], spec: Callable[[], Any]):
        self._make, self._spec, self._made = make, spec, {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._make[name](self._spec())
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._make)

    def __len__(self) -> int:
        return len(self._make)
