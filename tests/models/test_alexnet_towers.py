"""AlexNet's towers on devices of their own: the numbers of one device, and talk only where the
paper's GPUs do."""

import functools
import re
from collections import Counter

import jax
import numpy as np
import optax
import pytest

from advdl import losses, train
from advdl.metrics import Mean
from advdl.models import alexnet
from advdl.scale import hlo

KINDS = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute"


def learner():
    model = alexnet.AlexNet(num_classes=5)

    def loss(variables, batch, rng):
        logits, _ = model.apply(variables, batch["image"], train=True, rngs={"dropout": rng.key})
        return train.Loss(Mean.of(losses.cross_entropy(logits, batch["label"])))

    def init(key, batch):
        return model.init(key, batch["image"], train=False)

    return train.minimize(
        train.Player(init, loss, optax.sgd(0.1, 0.9)), lambda variables, batch: {}
    )


@pytest.fixture(scope="module")
def stepped():
    """`stepped(placement, mesh)` -> (loss, state after one step, the compiled program)."""
    random = np.random.default_rng(0)
    batch = {
        "image": random.standard_normal((4, 67, 67, 3), np.float32),
        "label": np.arange(4, dtype=np.int32),
    }

    @functools.cache
    def run(placement, mesh=""):
        placed = train.place(placement, mesh, alexnet.RULES if placement == "mesh" else ())(
            learner()
        )
        key, on_device = jax.random.key(0), placed.put(batch)
        state, metrics = placed.step(placed.init(key, on_device), on_device, key)
        return metrics["loss"].compute(), state, placed.step.executable.as_text()

    return run


@pytest.mark.scale
def test_four_devices_make_the_update_of_one(stepped):
    """The first update of SGD with momentum is the momentum itself; the parameters' own rounding
    would hide it."""
    (loss, one, _), (loss_mesh, four, _) = stepped("jit"), stepped("mesh", "data=2,model=2")
    assert loss_mesh == pytest.approx(loss, rel=1e-5)
    kernel = four["model"].params["conv2"]["kernel"]
    assert len(kernel.sharding.device_set) == 4 and kernel.addressable_shards[0].data.shape[0] == 1
    updates, updates_mesh = (
        jax.tree.leaves(jax.device_get(state["model"].optimizer)) for state in (one, four)
    )
    for a, b in zip(updates, updates_mesh, strict=True):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()
        assert np.abs(a).max() > 0


@pytest.mark.scale
def test_devices_talk_across_towers_only_where_the_papers_gpus_do(stepped):
    """Mesh data=2, model=2 is devices ((0, 1), (2, 3)): a group within a row is talk between
    towers.

    Forward: conv3, fc6 and fc7 gather the other tower's values, fc8 adds both towers' parts.
    Backward: each of them but fc8 adds both towers' derivatives of what was gathered. Beside them
    only scalars, the norm of the whole gradient.
    """
    *_, program = stepped("mesh", "data=2,model=2")
    forward, backward = Counter(), Counter()
    for kind, shapes, groups, name in collectives(program):
        assert groups in ([{0, 1}, {2, 3}], [{0, 2}, {1, 3}], [{0, 1, 2, 3}]), groups
        if groups != [{0, 2}, {1, 3}]:
            layers = [
                found[1]
                for part in name.split(":")
                if (found := re.search(r"AlexNet\)\)?/(\w+)/", part))
            ]
            assert len(layers) == sum(shape != "f32[]" for shape in shapes), (
                f"{kind} of {shapes} in {name}"
            )
            (backward if "transpose" in name else forward).update((layer, kind) for layer in layers)
    assert forward == {
        ("conv3", "all-gather"): 1,
        ("fc6", "all-gather"): 1,
        ("fc7", "all-gather"): 1,
        ("fc8", "all-reduce"): 1,
    }
    assert backward == {(layer, "all-reduce"): 1 for layer in ("conv3", "fc6", "fc7")}


def collectives(program):
    """(kind, shapes of the results, groups of devices, operation) of every collective of a compiled
    program."""
    for line in program.splitlines():
        if found := re.search(rf" = .* ({KINDS})(-start)?\(", line):
            name = re.search(r'op_name="([^"]*)"', line)[1]
            shapes = re.findall(r"\b[a-z]+\d+\[[\d,]*\]", line[: found.start(1)])
            yield found[1], shapes, sorted(map(set, hlo.device_groups(line, 4)), key=min), name
