"""A comparison: several learners, each from several initializations, side by side in one run."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from advdl.train.learner import Learner, train_jointly


class Comparison(NamedTuple):
    """Learners by name, each trained from so many seeds on the same batches.

    Seed 2 of the learner `lstm` is the member `"lstm-s2"`. So its player is `"lstm-s2/model"` in
    the state, its function `states` is `"lstm-s2/states"`, and its metric `accuracy` is logged as
    `"train/lstm-s2/accuracy"` and evaluated as `"test/lstm-s2/accuracy"`. Another name or seed
    beside a member changes nothing of it, see `train_jointly`.
    """

    learners: Mapping[str, Learner]
    seeds: int

    @property
    def learner(self) -> Learner:
        """The learner that trains all members in one step."""
        return train_jointly(
            {member: own for name, own in self.learners.items() for member in self.members(name)}
        )

    def members(self, name: str) -> list[str]:
        """The members of a name, one for each seed."""
        return [f"{name}-s{seed}" for seed in range(self.seeds)]

    def keys(self, metric: str) -> dict[str, list[str]]:
        """By name, what a metric such as `"test/accuracy"` is called for each seed:
        `"test/lstm-s0/accuracy"` and so on."""
        split, _, own = metric.partition("/")
        return {
            name: [f"{split}/{member}/{own}" for member in self.members(name)]
            for name in self.learners
        }

    def figures(self, figures: Mapping[str, Any], metric: str) -> dict[str, list[Any]]:
        """By name, the values of such a metric for each seed, from the figures of an evaluation."""
        return {name: [figures[key] for key in keys] for name, keys in self.keys(metric).items()}
