"""Labeled images as splits: training images as a network is to see them, a validation part, a test
part."""

import functools
from collections.abc import Callable
from typing import Any

from advdl.data.batches import EvalBatches, TrainBatches
from advdl.data.catalog import open_source, same_classes
from advdl.data.digits import BUILT_IN
from advdl.data.imagenet import cifar10_names, imagenet_names
from advdl.data.preprocessing import Preprocessing
from advdl.data.selection import Subset, hold_out
from advdl.data.source import Source
from advdl.data.spec import ImageSpec
from advdl.data.splits import Splits
from advdl.errors import UserError
from advdl.reading import expand, is_folder


def labeled_splits(
    config: Any, look: Preprocessing, photographs: bool, log: Callable[[str], None]
) -> Splits:
    """The splits of a classifier's configuration.

    config: has `data`, `data_dir`, `batch`, `seed`, `validation`, `skip_broken`, `ten_crop`,
    `weights`, `model` and the settings of augmentation. look: what the network is shown of an
    image. photographs: whether it takes photographs in color. log: takes a line about files that
    were left out.

    The evaluations are `val` and `test`. Of a folder, the folders of these names; of a folder with
    only one of both, and of other data, `val` is a share of the training part that is drawn by the
    seed, and not trained on. With `weights` there is no training part, and `blank` data has the
    classes that published weights have.
    """
    if photographs and config.data in BUILT_IN:
        raise UserError(f"{config.model} takes photographs; give --data folder:PATH or tfds:NAME")
    if config.ten_crop and look.kind == "whole":
        raise UserError("--ten-crop cuts crops out of larger images; --view whole shows no more")
    test, held_out = _parts(config.data, bool(config.weights))
    chosen_by = held_out is not None or test == "val" or config.weights
    share = 0.0 if chosen_by else config.validation

    @functools.cache
    def source(split: str, evaluated: bool = True) -> Source:
        view = look.test(config.ten_crop) if evaluated else look.train()
        found = open_source(
            config.data,
            split,
            config.data_dir,
            channels=3 if photographs else None,
            view=view,
            skip_broken=config.skip_broken,
        )
        if found.broken and (evaluated or split == "train"):
            files = ", ".join(map(str, found.broken[:3]))
            log(f"{split}: {len(found.broken)} files left out that do not decode: {files}")
        return found

    def rows() -> tuple[Any, Any]:
        return hold_out(source("train", False), share, config.seed)

    def spec() -> ImageSpec:
        if not config.weights:
            whole = look.kind == "whole" and look.test_size == look.size
            same_classes(source("train", False), source(test), sizes=whole)
            return ImageSpec.of(source("train", False), low=-1.0)
        found = ImageSpec.of(source(test), low=-1.0)
        names = imagenet_names() if len(found.label_names) == 1000 else cifar10_names()
        blank = config.data.startswith("blank:") and len(found.label_names) == len(names)
        return ImageSpec(found.shape, names if blank else found.label_names, -1.0)

    def train(_: ImageSpec) -> TrainBatches:
        training = source(test if config.weights else "train", bool(config.weights))
        training = Subset(training, rows()[0], "train") if share else training
        transform = config.augmentation(look, training)
        return TrainBatches(training, config.batch, config.seed, transform)

    def evaluation(split: str) -> Callable[[ImageSpec], EvalBatches]:
        def opened(_: ImageSpec) -> EvalBatches:
            of = Subset(source("train"), rows()[1], "val") if split == "" else source(split)
            return EvalBatches(of, config.batch, look.normalize())

        return opened

    evaluations = {"val": evaluation(held_out or "")} if share or held_out else {}
    named = "val" if test == "val" else "test"
    return Splits(spec, train, evaluations | {named: evaluation(test)})


def _parts(data: str, published: bool) -> tuple[str, str | None]:
    """Names of the test split and of the split to choose by, None where there is none. The test
    split is `validation` of ImageNet, whose test labels were never published, and `val` of a folder
    that has no `test`."""
    kind, _, rest = data.partition(":")
    if kind != "folder":
        return ("validation" if rest.startswith("imagenet2012") else "test"), None
    val, test = (is_folder(expand(rest) / name) for name in ("val", "test"))
    if val and not test:
        return "val", None
    return "test", "val" if val and test and not published else None
