"""Networks that are divided over devices, from the first update to the prediction.

Every test watches what becomes of the arrays that `--mesh fsdp=4` divides: on devices they have to
stay divided, and on the host only what is drawn or exported may come together.
"""

import contextlib
import functools
from collections import Counter

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from advdl import cli, models, reports, train, weights
from advdl.cli.experiment import Session
from advdl.train import hosts, placement

MESH = ["--mesh", "fsdp=4"]
TRAIN = ["--batch", 16, "--steps", 2, "--evaluate-every", 1, "--log-every", 1, *MESH]
RUNS = {
    "classify": ["--model", "resnet8", "--ema", 0.9],
    # Noise has the shape of no kernel.
    "gan": ["--preset", "digits", "--width", 8, "--z", 40, "--ema", 0.9],
    "gan_equilibrium": ["--hidden", "20", "--seeds", 1, "--steps-per-call", 1, "--save-every", 2],
}
DRAWN = {"classify": {(3, 3, 1, 16)}}  # the kernels of the first layer
ArrayType = type(jnp.zeros(()))


def is_divided(x):
    """Whether an array lies as a divided parameter does; a batch is split over data × fsdp."""
    return "fsdp" in getattr(x.sharding, "spec", ())


class Witness:
    """Watches what becomes of the arrays that a placement divides.

    programs: how many programs ran on a state, and how many of them while a report, a snapshot or a
    prediction was made. whole: arrays on devices that have the shape of a divided one and are not
    divided, and leaves of states that lie elsewhere than their placement says. on_host: shapes of
    divided arrays that came together on the host while a report, a snapshot or a prediction was
    made. Arrays outside of a state are known by their shapes, from two dimensions on; no part of
    one has the shape of another.
    """

    def __init__(self):
        self.older = {id(x): x for x in jax.live_arrays()}  # kept, so that no id is used again
        self.shapes, self.making = set(), False
        self.forget()

    def forget(self):
        """Begins anew."""
        self.programs, self.whole, self.on_host = Counter(), [], []

    def learn(self, state):
        """Takes what is divided from the shapes and shardings of a state."""
        self.state, leaves = state, jax.tree.leaves(state)
        divided = [x for x in leaves if is_divided(x)]
        assert sum(x.size for x in divided) > 0.9 * sum(x.size for x in leaves)
        kernels = [x for x in divided if len(x.shape) > 1]
        self.shapes = {x.shape for x in kernels}
        assert self.shapes.isdisjoint(x.sharding.shard_shape(x.shape) for x in kernels)

    def look(self, where, arrays=()):
        """Looks at some arrays and at all that live."""
        for x in [*arrays, *jax.live_arrays()]:
            known = isinstance(x, ArrayType) and x.shape in self.shapes and id(x) not in self.older
            if known and not is_divided(x):
                self.whole.append((where, x.shape, x.sharding))

    def compare(self, where, layout):
        """Compares where the leaves of a state lie, or are taken from, with their placement; an
        input that a program has no use for lies nowhere."""
        leaves = functools.partial(jax.tree.leaves, is_leaf=lambda x: x is None)
        for found, wanted in zip(leaves(layout), leaves(self.state), strict=True):
            if found and not found.is_equivalent_to(wanted.sharding, len(wanted.shape)):
                self.whole.append((where, wanted, found))

    def take(self, x):
        """Notes an array that comes together on the host."""
        if self.making and isinstance(x, ArrayType) and is_divided(x):
            self.on_host.append(x.shape)


@pytest.fixture(scope="module")
def watching():
    """A `Witness` of all that happens in this file."""
    witness = Witness()
    abstract, trained = Session.abstract.func, Session.trained
    call, apply = placement.CompiledFunction.__call__, nn.Module.apply
    put, to_host, gather = jax.device_put, ArrayType.__array__, hosts._whole

    def watched_abstract(self):
        witness.learn(found := abstract(self))
        return found

    @contextlib.contextmanager
    def watched_trained(self, *given):
        with trained(self, *given) as found:
            witness.making = True
            yield found
            witness.look("report")
        witness.making = False

    def watched_call(self, first, *rest):
        if isinstance(first, train.State):
            program = self.compile(first, *rest)
            witness.compare("state", jax.tree.map(lambda x: x.sharding, first))
            witness.compare("program", program.input_shardings[0][0])
            witness.programs["making" if witness.making else "training"] += 1
        found = call(self, first, *rest)
        witness.look("program", jax.tree.leaves(found))
        return found

    def watched_apply(self, variables, *inputs, **named):
        witness.look("network", jax.tree.leaves(variables))
        return apply(self, variables, *inputs, **named)

    def watched_put(x, *where, **named):
        found = put(x, *where, **named)
        witness.look("device_put", jax.tree.leaves((x, found)))
        return found

    def watched_to_host(self, *given, **named):
        witness.take(self)
        return to_host(self, *given, **named)

    def watched_gather(leaf):
        witness.take(leaf)
        return gather(leaf)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "abstract", property(watched_abstract))
        patch.setattr(Session, "trained", watched_trained)
        patch.setattr(placement.CompiledFunction, "__call__", watched_call)
        patch.setattr(nn.Module, "apply", watched_apply)
        patch.setattr(jax, "device_put", watched_put)
        patch.setattr(ArrayType, "__array__", watched_to_host)
        patch.setattr(hosts, "_whole", watched_gather)
        patch.setattr(reports.mixtures.LineReport, "theory", lambda self: [])
        patch.setattr(reports.mixtures, "LINE_ROWS", 2000)
        patch.setattr(reports.mixtures, "FRESH_STEPS", 20)
        yield witness


@pytest.fixture
def witness(watching):
    """The same, which has seen nothing yet."""
    watching.forget()
    return watching


@pytest.fixture(scope="module")
def finished(load, watching, tmp_path_factory):
    """`finished("gan")`: (folder of a run, what was seen while it was trained and reported on)."""

    @functools.cache
    def finished(name):
        module, folder = load(name), tmp_path_factory.mktemp(name) / "run"
        flags = ["train", "--run", folder, *TRAIN, *RUNS[name]]
        predict = getattr(module, "Predict", cli.Predict)
        watching.forget()
        cli.main(module.load, module.build, module.PRESETS, predict, list(map(str, flags)))
        return folder, watching.programs, watching.whole, watching.on_host

    return finished


@pytest.fixture
def photographs(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    for n, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{n}.png")
    return sorted(tmp_path.glob("*.png"))


@pytest.mark.experiments
@pytest.mark.parametrize("name", RUNS)
def test_a_divided_network_is_trained_and_reported_on_where_it_lies(finished, name):
    folder, programs, whole, on_host = finished(name)
    assert (folder / "report" / "report.html").exists()
    assert programs["training"] > 2 and programs["making"] > 2
    assert whole == []
    assert set(on_host) == DRAWN.get(name, set())


@pytest.mark.experiments
@pytest.mark.parametrize("name", RUNS)
def test_it_predicts_where_it_lies(finished, verb, witness, photographs, tmp_path, name):
    asked = {"classify": [*photographs, "--features", "stage1"]}.get(name, ["--count", 8])
    folder = finished(name)[0]
    witness.forget()
    flags = ["--run", folder, "--out", tmp_path / "out", *MESH]
    status, _, err = verb(name, "predict", *flags, *asked)
    assert status == 0, err
    assert witness.programs["making"] > 0
    assert witness.whole == [] and witness.on_host == []


@pytest.mark.experiments
def test_export_brings_each_array_together_on_the_host_alone(finished, verb, witness, tmp_path):
    folder, file = finished("classify")[0], tmp_path / "file.safetensors"
    witness.forget()
    status, _, err = verb("classify", "predict", "--run", folder, "--export", file, *MESH)
    assert status == 0 and file.exists(), err
    assert witness.whole == [] and witness.shapes <= set(witness.on_host)
    status, _, err = verb("classify", "evaluate", *RUNS["classify"], "--weights", file, *MESH)
    assert status == 0, err
    assert witness.whole == [] and witness.programs["training"] > 0


@pytest.mark.experiments
def test_published_weights_are_used_in_parts(verb, witness, photographs, tmp_path):
    network = models.classifier("resnet8").build()
    shapes = models.abstract(network, (32, 32, 3))
    variables = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
    weights.export(tmp_path / "file.safetensors", network, variables)
    flags = ["--model", "resnet8", "--weights", tmp_path / "file.safetensors", *MESH]
    status, _, err = verb("classify", "predict", photographs[0], *flags, "--out", tmp_path)
    assert status == 0, err
    assert witness.programs["making"] > 0
    assert witness.whole == [] and witness.on_host == []


def test_the_witness_sees_what_comes_together():
    """On one device, on all of them, on the host, in a state, and as what a network is given."""
    mesh = jax.make_mesh((1, 4), ("data", "fsdp"), devices=jax.devices()[:4])
    lies = functools.partial(jax.sharding.NamedSharding, mesh)
    spec, everywhere = jax.sharding.PartitionSpec(None, "fsdp"), jax.sharding.PartitionSpec()
    witness = Witness()
    x = jax.device_put(np.ones((52, 28)), lies(spec))
    witness.learn({"x": x})
    witness.look("here")
    witness.compare("state", {"x": x.sharding})
    assert witness.whole == []
    one = jax.device_put(x, jax.devices()[0])
    witness.look("here")
    assert len(witness.whole) == 1
    del one
    copies = jax.jit(lambda x: x, out_shardings=lies(everywhere))(x)
    witness.forget()
    witness.compare("state", {"x": copies.sharding})
    assert len(witness.whole) == 1
    witness.look("here")
    assert len(witness.whole) == 2
    witness.take(x)
    assert witness.on_host == []
    witness.making = True
    witness.take(x)
    assert witness.on_host == [(52, 28)]
