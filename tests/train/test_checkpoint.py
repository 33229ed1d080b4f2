"""What was saved comes back bit for bit, damage is noticed, and nothing is deleted for being
damaged."""

import importlib.util
import json
import logging
import os
import pathlib
import sys
import tempfile
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advdl import train
from advdl.errors import UserError
from advdl.train import Checkpoints, checkpoint, digest


def state(number=0.0):
    x = jax.random.normal(jax.random.key(1), (300, 40))
    return {"w": x + number, "n": jnp.int32(3), "none": None, "nested": {"b": jnp.arange(5.0)}}


def abstract(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def saved(tmp_path, numbers, **options):
    checkpoints = Checkpoints(tmp_path / "checkpoints", **options)
    with checkpoints:
        for number, metrics in numbers.items():
            checkpoints.save(number, state(number), metrics)
    return checkpoints


def files(folder):
    """Regular files, the largest first: the arrays' bytes lie in the largest."""
    return sorted(
        (p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size, reverse=True
    )


def test_a_state_comes_back_bit_for_bit(tmp_path):
    checkpoints = saved(tmp_path, {10: None, 20: None})
    step, back = checkpoints.restore(abstract(state()))
    assert step == 20 and digest(back) == digest(state(20))


@pytest.mark.slow
def test_what_was_derived_from_a_state_lies_beside_it_and_is_no_part_of_it(tmp_path):
    derived = {"mean": np.arange(3, dtype=np.float32) / 3, "inner": {"count": np.array([7])}}
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with checkpoints:
        checkpoints.save(10, state(), derived=derived)
        checkpoints.save(20, state(20))
    step, back = checkpoints.restore(abstract(state()), which=10)
    assert digest(back) == digest(state())
    found = checkpoints.derived(10)
    jax.tree.map(np.testing.assert_array_equal, found, derived)
    assert found["mean"].dtype == np.float32
    assert checkpoints.derived(20) is None
    damage(tmp_path / "checkpoints" / "10" / "derived")
    with pytest.raises(UserError, match="checkpoints/10 is damaged.*steps 10, 20"):
        checkpoints.derived(10)


@pytest.mark.skipif(
    importlib.util.find_spec("gcsfs") is not None, reason="gcsfs is there and would ask the network"
)
def test_a_bucket_is_no_folder_here_and_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="gs://bucket/run is a bucket.*gcsfs"):
        Checkpoints("gs://bucket/run").restore(abstract(state()))
    assert not list(tmp_path.iterdir())


def test_nothing_saved_is_none(tmp_path):
    assert Checkpoints(tmp_path / "checkpoints").restore(abstract(state())) is None


def test_the_latest_and_the_best_are_kept(tmp_path):
    accuracies = {1: 0.2, 2: 0.9, 3: 0.5, 4: 0.4, 5: 0.3}
    best = saved(
        tmp_path,
        {k: {"accuracy": v} for k, v in accuracies.items()},
        keep=2,
        best=("accuracy", "max"),
    )
    assert best.steps() == [5, 4, 2]
    worst = saved(
        tmp_path / "min",
        {k: {"loss": v} for k, v in accuracies.items()},
        keep=2,
        best=("loss", "min"),
    )
    assert worst.steps() == [5, 4, 1]


def damage(folder):
    """Empties every file."""
    for path in files(folder):
        path.write_bytes(b"")


def player(number):
    """A state of which one player is read."""
    whole = {"params": {"w": jnp.arange(3.0) + number}, "collections": {}, "ema": None}
    return {"players": {"model": whole}, "step": jnp.int32(number)}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_checkpoint_the_latest_and_that_of_a_step_come_back_bit_for_bit(tmp_path, mode):
    """Of figures that grow worse the best is the first; who reads a player need not know what is
    best."""
    best = ("figure", mode)
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2, best=best)
    with checkpoints:
        for step, figure in {1: 2.0, 2: 1.0, 3: 3.0, 4: 4.0, 5: 5.0}.items():
            checkpoints.save(step, player(step), {"figure": figure if mode == "min" else -figure})
    assert checkpoints.steps() == [5, 4, 2]
    for which, expected in {"best": 2, "latest": 5, 4: 4}.items():
        step, back = checkpoints.restore(abstract(player(0)), which=which)
        assert step == expected and digest(back) == digest(player(expected))
        step, variables = Checkpoints(tmp_path / "checkpoints").player("model", which)
        assert step == expected and digest(variables) == digest(
            {"params": player(expected)["players"]["model"]["params"]}
        )
    with pytest.raises(
        UserError, match="no checkpoint of step 3; there are checkpoints of the steps 2, 4, 5$"
    ):
        checkpoints.restore(abstract(player(0)), which=3)


def test_a_figure_that_is_no_number_is_not_the_best_and_of_equal_ones_the_latest_is(tmp_path):
    figures = {1: 0.5, 2: float("nan"), 3: 0.5, 4: 0.1, 5: float("nan")}
    checkpoints = saved(
        tmp_path, {k: {"accuracy": v} for k, v in figures.items()}, keep=1, best=("accuracy", "max")
    )
    assert (
        checkpoints.steps() == [5, 3]
        and checkpoints.restore(abstract(state()), which="best")[0] == 3
    )


def test_of_equally_good_checkpoints_that_are_all_kept_the_latest_is_the_best(tmp_path):
    figures = {1: {"accuracy": 0.5}, 2: {"accuracy": 0.5}, 3: {"accuracy": 0.1}}
    checkpoints = saved(tmp_path, figures, best=("accuracy", "max"))
    assert checkpoints.steps() == [3, 2, 1]
    assert checkpoints.restore(abstract(state()), which="best")[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("which", ["best", 10])
def test_a_checkpoint_that_was_asked_for_is_told_to_be_damaged_and_no_other_taken(tmp_path, which):
    checkpoints = saved(tmp_path, {10: {"loss": 0.1}, 20: {"loss": 0.2}}, best=("loss", "min"))
    damage(tmp_path / "checkpoints" / "10" / "state")
    with pytest.raises(
        UserError,
        match="checkpoint .*/10 is damaged: .*; there are checkpoints of the steps 10, 20$",
    ):
        checkpoints.restore(abstract(state()), which=which)
    assert checkpoints.restore(abstract(state()))[0] == 20


def test_where_no_best_is_known_it_is_told(tmp_path):
    """No experiment's figure; no figures beside any checkpoint; figures that cannot be read; and no
    checkpoint at all."""
    assert saved(tmp_path / "none", {}).restore(abstract(state()), which="best") is None
    with pytest.raises(
        UserError, match="has no best, since its experiment names no figure; there are .* 1$"
    ):
        saved(tmp_path / "unnamed", {1: {"loss": 0.1}}).restore(abstract(state()), which="best")
    with pytest.raises(UserError, match="no checkpoint in .* has figures beside it"):
        saved(tmp_path / "bare", {1: None}, best=("loss", "min")).restore(
            abstract(state()), which="best"
        )
    checkpoints = saved(
        tmp_path / "damaged", {1: {"loss": 0.1}, 2: {"loss": 0.2}}, best=("loss", "min")
    )
    damage(tmp_path / "damaged" / "checkpoints" / "2" / "facts")
    with pytest.raises(UserError, match="/2 is damaged"):
        checkpoints.restore(abstract(state()), which="best")


def test_a_checkpoint_from_before_says_that_it_does_not_know_what_is_best(tmp_path):
    checkpoints = saved(tmp_path, {1: {"loss": 0.1}}, best=("loss", "min"))
    (written,) = [
        path
        for path in files(tmp_path / "checkpoints" / "1" / "facts")
        if b'"best"' in path.read_bytes()
    ]
    facts = json.loads(written.read_text())
    assert facts.pop("best") == ["loss", "min"] and len(facts.pop("sha256")) == 64
    written.write_text(json.dumps(facts))
    with pytest.raises(UserError, match="/1 does not say which figure is to be best"):
        Checkpoints(tmp_path / "checkpoints").player("model", "best")
    assert (
        checkpoints.restore(abstract(state()), which="best")[0] == 1
    )  # by the experiment that knows


def test_a_run_that_is_resumed_keeps_the_best_from_before(tmp_path):
    saved(tmp_path, {1: {"loss": 0.1}, 2: {"loss": 0.2}}, keep=1, best=("loss", "min"))
    later = saved(
        tmp_path, {3: {"loss": 0.3}, 4: None, 5: {"loss": 0.4}}, keep=1, best=("loss", "min")
    )
    assert later.steps() == [5, 1]
    step, back = later.restore(abstract(state()), which="best")
    assert step == 1 and digest(back) == digest(state(1))


def test_digest_tells_values_types_shapes_and_places_apart():
    one = {"a": np.float32([1, 2]), "b": np.float32([3])}
    others = [
        {"a": np.float32([1, 2.0000002]), "b": np.float32([3])},
        {"a": np.float64([1, 2]), "b": np.float32([3])},
        {"a": np.float32([[1, 2]]), "b": np.float32([3])},
        {"a": np.float32([1]), "b": np.float32([2, 3])},
        {"a": np.float32([1, 2]), "c": np.float32([3])},
    ]
    assert digest(one) == digest({name: jnp.asarray(x) for name, x in one.items()})
    assert len({digest(tree) for tree in [one, *others]}) == 6


@pytest.mark.slow
@pytest.mark.parametrize("ema", [None, 0.5])
def test_a_player_is_read_without_knowing_what_else_the_run_is_made_of(tmp_path, ema):
    """Of a real state, whose optimizer is made of classes; its digest holds for the dicts that it
    is read back as."""
    network = nn.Sequential([nn.Dense(300), nn.BatchNorm(use_running_average=False)])

    def init(key, batch):
        return network.init(key, batch["x"])

    player = train.Player(
        init, lambda *_: None, optax.chain(optax.clip(1.0), optax.adam(1e-3, b1=0.5)), ema
    )
    begun = train.minimize(player, lambda *_: {}).init(jax.random.key(0), {"x": jnp.ones((2, 40))})
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.player("model") is None
    with checkpoints:
        checkpoints.save(7, begun)
    step, variables = checkpoints.player("model")
    assert step == 7 and digest(variables) == digest(begun["model"].average)
    assert jax.tree.structure(variables) == jax.tree.structure(begun["model"].average)
    with pytest.raises(UserError, match="no player 'generator'; there are model"):
        checkpoints.player("generator")
    largest = files(tmp_path / "checkpoints" / "7" / "state")[0]
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.raises(UserError, match="damaged .steps 7"):
        checkpoints.player("model")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "empty-all"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, caplog, damage):
    checkpoints = saved(tmp_path, {10: None, 20: None})
    folder = tmp_path / "checkpoints" / "20"
    largest = files(folder)[0]
    match damage:
        case "truncate":
            largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
        case "flip":
            content = bytearray(largest.read_bytes())
            content[len(content) // 2] ^= 1
            largest.write_bytes(content)
        case "remove":
            largest.unlink()
        case "empty-all":
            for path in files(folder):
                path.write_bytes(b"")
    before = {p.relative_to(folder): p.read_bytes() for p in files(folder)}
    with caplog.at_level(logging.WARNING):
        step, back = checkpoints.restore(abstract(state()), set_aside=True)
    assert step == 10 and digest(back) == digest(state(10))
    assert str(folder) in caplog.text and "damaged" in caplog.text
    aside = tmp_path / "damaged" / "20"
    assert {p.relative_to(aside): p.read_bytes() for p in files(aside)} == before
    with checkpoints:
        checkpoints.save(20, state(20))  # the run can write this step again
    assert checkpoints.restore(abstract(state()))[0] == 20


def test_a_byte_flipped_beside_the_state_is_damage_and_no_other_network(tmp_path, caplog):
    checkpoints = saved(tmp_path, {10: None, 20: None})
    written = tmp_path / "checkpoints" / "20" / "facts" / "metadata"
    content = written.read_bytes()
    place = content.index(b"float32[300")
    written.write_bytes(content[:place] + b"h" + content[place + 1 :])
    with caplog.at_level(logging.WARNING):
        step, back = checkpoints.restore(abstract(state()))
    assert step == 10 and digest(back) == digest(state(10))
    assert "20 is damaged" in caplog.text
    with pytest.raises(UserError, match="20 is damaged"):
        checkpoints.restore(abstract(state()), which=20)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["state", "facts"])
def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged_and_stays_where_it_is(kind):
    """By a user who is not root, in a folder that he can reach."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        checkpoints = saved(folder, {10: None, 20: None})
        closed = files(folder / "checkpoints" / "20" / kind)[0]
        closed.chmod(0)
        if root := os.geteuid() == 0:
            os.seteuid(65534)
        try:
            for which in ("latest", 20):
                with pytest.raises(UserError, match=f"cannot read {closed}: Permission denied"):
                    checkpoints.restore(abstract(state()), which=which, set_aside=True)
        finally:
            if root:
                os.seteuid(0)
        closed.chmod(0o644)
        assert checkpoints.restore(abstract(state()))[0] == 20


def test_short_memory_is_no_damage(tmp_path, monkeypatch):
    checkpoints = saved(tmp_path, {10: None})

    def short(*_, **named):
        raise MemoryError

    monkeypatch.setattr(checkpoints, "_read", short)
    with pytest.raises(MemoryError):
        checkpoints.restore(abstract(state()), set_aside=True)
    assert checkpoints.steps() == [10]


def test_a_checkpoint_is_on_disk_before_it_has_its_name_and_before_it_is_told(
    tmp_path, monkeypatch
):
    """Every file that Orbax wrote is synced before the rename, the folder of the checkpoints
    afterwards."""
    synced, told = [], []
    fsync = os.fsync

    def record(file):
        synced.append(os.readlink(f"/proc/self/fd/{file}"))
        fsync(file)

    monkeypatch.setattr(train.files.system, "fsync", record)
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder, saved=lambda step: told.append((step, list(synced))))
    with checkpoints:
        checkpoints.save(10, state())
    ((step, before),) = told
    renamed = next(n for n, path in enumerate(before) if path.startswith(f"{folder}/10/"))
    assert step == 10 and before[-1] == str(folder)
    first = {path.partition("orbax-checkpoint-tmp")[2] for path in before[:renamed]}
    rest = {path.removeprefix(f"{folder}/10") for path in before[renamed:]}
    assert first | rest >= {f"/{path.relative_to(folder / '10')}" for path in files(folder / "10")}


def test_when_all_are_damaged_the_run_stops_and_nothing_is_touched(tmp_path):
    checkpoints = saved(tmp_path, {10: None})
    for path in files(tmp_path):
        path.write_bytes(b"x")
    before = sorted(files(tmp_path))
    with pytest.raises(UserError, match="damaged .steps 10.*nothing was deleted"):
        checkpoints.restore(abstract(state()), set_aside=True)
    assert sorted(files(tmp_path)) == before


@pytest.mark.parametrize(
    "change", [{"w": jnp.ones((2, 2))}, {"n": jnp.float32(3)}, {"extra": jnp.ones(3)}]
)
def test_another_network_is_refused_by_name_and_not_called_damaged(tmp_path, change):
    checkpoints = saved(tmp_path, {10: None})
    with pytest.raises(UserError, match=f"another network: .'{next(iter(change))}'"):
        checkpoints.restore(abstract(state() | change), set_aside=True)
    assert checkpoints.steps() == [10]


def test_late_complaints_about_an_abandoned_read_are_dropped_and_no_others(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda event: seen.append(str(event.exc_value)))
    for _ in range(2):  # the hook of the first failure is there at the second
        with pytest.raises(ValueError, match="damaged"), checkpoint._quiet_siblings():
            raise ValueError("damaged")
    thrown_away = RuntimeError("cannot read an array")
    thrown_away.__cause__ = GeneratorExit()
    for error in (
        RuntimeError("Event loop is closed"),
        thrown_away,
        RuntimeError("something else"),
    ):
        sys.unraisablehook(types.SimpleNamespace(exc_value=error))
    assert seen == ["something else"]
