"""Experiments of the first edition, `build(config)`, as `load` and `build(config, spec)`."""

import dataclasses

from advdl import data, train


@dataclasses.dataclass(frozen=True)
class FirstEdition(data.Spec):
    pass


def adapt(old):
    opened = {}

    def made(config):
        if config not in opened:
            opened.clear()
            opened[config] = old(config)
        return opened[config]

    def load(config):
        return data.Splits(
            FirstEdition,
            lambda spec: made(config).train,
            {"test": lambda spec: made(config).test},
        )

    def build(config, spec):
        own = made(config)

        def report(trained):
            figures = {k.removeprefix("test/"): v for k, v in trained.figures.items()}
            return own.report(train.gathered(trained.state), trained.run, figures)

        def predict(trained, options, folder):
            return own.predict(train.gathered(trained.state), options, folder)

        def snapshot(trained):
            own.snapshot(train.gathered(trained.state), trained.step, trained.folder)

        return own._replace(
            report=report,
            predict=own.predict and predict,
            snapshot=own.snapshot and snapshot,
            monitor=own.best and (f"test/{own.best[0]}", own.best[1]),
            baselines=own.baselines and (lambda splits: own.baselines()),
            bench=own.bench and (lambda splits: own.bench()),
            units=own.counts or own.units,
        )

    load.first_edition = True
    return load, build
