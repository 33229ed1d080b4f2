"""Files of torch.save without PyTorch: the same numbers, nothing executed, and one line for
whatever else the bytes say.

The files of most tests are put together here from opcodes, so that they need no PyTorch either.
"""

import collections
import io
import pickle
import struct
import sys
import tracemalloc
import zipfile
import zlib
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from advdl import weights
from advdl.errors import UserError
from advdl.models import abstract, resnet
from advdl.weights import pickled

FORMS = ("archive", "sequence")
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Global(NamedTuple):
    """module and name, with a space between."""

    name: str


class Call(NamedTuple):
    """What REDUCE does."""

    function: Any
    arguments: tuple


class Persistent(NamedTuple):
    """A persistent id."""

    value: Any


class Raw(bytes):
    """Opcodes as they are."""


def opcodes(value) -> bytes:
    """Protocol 2."""

    def many(values):
        return b"(" + b"".join(map(opcodes, values))

    match value:
        case Raw():
            return value
        case Global(name):
            return f"c{name}\n".replace(" ", "\n").encode()
        case Call(function, arguments):
            return opcodes(function) + opcodes(arguments) + b"R"
        case Persistent(inner):
            return opcodes(inner) + b"Q"
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            size = value.bit_length() // 8 + 1
            return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case dict():
            return b"}" + many(one for pair in value.items() for one in pair) + b"u"
        case list():
            return b"]" + many(value) + b"e"
        case tuple():
            return many(value) + b"t"
    raise TypeError(value)


def dump(value) -> bytes:
    return b"\x80\x02" + opcodes(value) + b"."


def storage(key="0", kind="Float", elements=6, place="cpu"):
    return ("storage", Global(f"torch {kind}Storage"), key, place, elements)


def tensor(
    size=(2, 3),
    stride=(3, 1),
    offset=0,
    function="torch._utils _rebuild_tensor_v2",
    bits=(),
    **options,
):
    given = (
        Persistent(storage(**options)),
        offset,
        size,
        stride,
        False,
        Call(Global("collections OrderedDict"), ()),
        *bits,
    )
    return Call(Global(function), given)


def archive(
    content: bytes, storages, order=None, compression=zipfile.ZIP_STORED, root="net"
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr(f"{root}/data.pkl", content)
        if order is not None:
            file.writestr(f"{root}/byteorder", order)
        for key, values in storages.items():
            file.writestr(f"{root}/data/{key}", values.tobytes())
        file.writestr(f"{root}/version", "3\n")
    return buffer.getvalue()


def sequence(content: bytes, storages, magic=MAGIC, protocol=PROTOCOL) -> bytes:
    begin = dump(magic) + dump(protocol) + dump({"little_endian": True, "protocol_version": 1001})
    values = b"".join(
        struct.pack("<q", len(values)) + values.tobytes() for values in storages.values()
    )
    return begin + content + dump(list(storages)) + values


def written(tmp_path, form, value, storages=None, **options):
    """The path of a file of this form, with a storage of the numbers 0 to 5 if nothing else is
    said."""
    storages = {"0": np.arange(6, dtype="<f4")} if storages is None else storages
    content = value if isinstance(value, bytes) and not isinstance(value, Raw) else dump(value)
    path = tmp_path / "net.th"
    path.write_bytes({"archive": archive, "sequence": sequence}[form](content, storages, **options))
    return path


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it raises ImportError


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


X = np.arange(6, dtype=np.float32)


def test_a_training_checkpoint_is_read_without_pytorch(form, tmp_path, without_torch):
    """By the names without `module.`, the rest of the checkpoint passed over."""
    state = Raw(
        opcodes(Call(Global("collections OrderedDict"), ()))
        + opcodes(
            (
                "module.a",
                tensor(),
                "module.b",
                tensor((3, 2), (1, 3)),
                "module.c",
                tensor((), (), 4),
            )
        )[:-1]
        + b"u"
        + opcodes({"_metadata": {"": {"version": 1}}})
        + b"b"
    )
    rest = {
        "best_prec1": tensor((), ()),
        "epoch": 3,
        "none": None,
        "optimizer": {
            "state": {0: {"step": 1.5}, -1: [1, (2,)]},
            "device": Call(Global("torch device"), ("cpu",)),
        },
        "milestones": Call(Global("collections Counter"), ({100: 1},)),
        "dtype": Global("torch float32"),
    }
    got = weights.read(written(tmp_path, form, {**rest, "state_dict": state}))
    assert list(got) == ["a", "b", "c"] and all(value.dtype == np.float32 for value in got.values())
    np.testing.assert_array_equal(got["a"], X.reshape(2, 3))
    np.testing.assert_array_equal(got["b"], X.reshape(2, 3).T)
    assert got["c"].shape == () and got["c"] == 4


def test_a_file_of_the_cifar_repository_fills_its_network(form, tmp_path, without_torch):
    """akamaster/pytorch_resnet_cifar10: `.th`, the names under `module.` in `state_dict`, option
    A's shortcuts have none."""
    model = resnet.cifar(8, num_classes=4)
    shapes = abstract(model, (16, 16, 3))
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: random.standard_normal(leaf.shape, np.float32), shapes)
    weights.export(tmp_path / "net.safetensors", model, variables)
    tensors = weights.read(tmp_path / "net.safetensors")
    whole = {
        f"module.{name}": tensor(
            x.shape, tuple(n // x.itemsize for n in x.strides), key=name, elements=x.size
        )
        for name, x in tensors.items()
    } | {"module.bn1.num_batches_tracked": tensor((), (), kind="Long", key="n", elements=1)}
    storages = {name: x.reshape(-1) for name, x in tensors.items()} | {"n": np.array([64_000])}
    path = written(
        tmp_path, form, {"state_dict": whole, "best_prec1": 91.78, "epoch": 200}, storages
    )
    got, report = weights.load(path, model, jax.tree.map(np.zeros_like, variables))
    jax.tree.map(np.testing.assert_array_equal, got, variables)
    assert report.fits and report.style == "pytorch_resnet_cifar10"


@pytest.mark.parametrize("order", ["little", "big", None])
@pytest.mark.parametrize(
    ("kind", "dtype", "given", "numbers"),
    [
        ("Double", "f8", None, [0.1, -2e300, 3]),
        ("Half", "f2", None, [0.5, -65504, 2**-24]),
        ("BFloat16", "u2", [0x3F80, 0xC000, 0x7F00], [1, -2, 2.0**127]),
        ("Long", "i8", None, [2**62, -1, 0]),
        ("Int", "i4", None, [2**30, -1, 0]),
        ("Short", "i2", None, [2**14, -1, 0]),
        ("Char", "i1", None, [127, -128, 0]),
        ("Byte", "u1", None, [255, 1, 0]),
        ("Bool", "u1", [1, 0, 7], [True, False, True]),
    ],
)
def test_every_type_in_either_order_of_bytes(order, kind, dtype, given, numbers, tmp_path):
    values = np.array(
        numbers if given is None else given, f"{'>' if order == 'big' else '<'}{dtype}"
    )
    where = {"0": values}
    value = {"a": tensor((3,), (1,), kind=kind, elements=3)}
    got = weights.read(written(tmp_path, "archive", value, where, order=order))["a"]
    expected = {"Half": np.float32, "BFloat16": np.float32, "Bool": np.bool_}.get(
        kind, np.dtype(dtype)
    )
    assert got.dtype == expected and got.dtype.isnative
    np.testing.assert_array_equal(got, np.array(numbers, got.dtype))
    if order != "big":
        np.testing.assert_array_equal(
            weights.read(written(tmp_path, "sequence", value, where))["a"], got
        )


def test_what_python_2_wrote_is_read(form, tmp_path):
    """An OrderedDict of a list of pairs, strings without an encoding, and a tensor of PyTorch 0.3's
    function."""
    name = Raw(b"U\x01a")
    value = Call(
        Global("collections OrderedDict"),
        ([[name, tensor(function="torch._utils _rebuild_tensor")]],),
    )
    np.testing.assert_array_equal(
        weights.read(written(tmp_path, form, value))["a"], X.reshape(2, 3)
    )


def saved(tmp_path, form, value):
    torch = pytest.importorskip("torch", reason="writes the files that are read")
    torch.save(value, tmp_path / "net.pth", _use_new_zipfile_serialization=form == "archive")
    return tmp_path / "net.pth"


@pytest.mark.slow
def test_tensors_are_those_that_pytorch_reads(form, tmp_path):
    torch = pytest.importorskip("torch", reason="writes the files and is compared with")
    base = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2)
    )
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3, 3, 6).to(memory_format=torch.channels_last)).sum().backward()
    optimizer.step()
    state = net.state_dict() | {
        "base": base,
        "permuted": base.permute(2, 0, 1),
        "part": base[1:, ::2, 3],
        "expanded": torch.ones(1).expand(3, 2),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(base[0]),
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }
    kinds = ["float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    state |= {name: (base.reshape(-1) * 50).to(getattr(torch, name)) for name in kinds}
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [100, 150])
    checkpoint = {
        "epoch": 7,
        "best_prec1": torch.tensor(91.78, dtype=torch.float64),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "shape": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "arguments": {
            "lr": 0.1,
            "names": ["a", ("b", None)],
            "seen": {1, 2},
            "raw": b"ab",
            "type": torch.float32,
        },
    }
    for value, inner in (
        ({**checkpoint, "state_dict": state}, "state_dict"),
        ({**checkpoint, "model": state}, "model"),
    ):
        path = saved(tmp_path, form, value)
        got, expected = weights.read(path), torch.load(path, weights_only=True)[inner]
        assert list(got) == list(expected)
        for name, one in expected.items():
            one = one.detach()
            one = (
                one.float() if one.is_floating_point() and one.element_size() < 4 else one
            ).numpy()
            assert got[name].dtype == one.dtype, name
            np.testing.assert_array_equal(got[name], one, name)
    assert np.shares_memory(got["base"], got["permuted"])


class Executed:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


HOSTILE = {
    "os.system": Call(Global("os system"), ("touch executed",)),
    "posix.system": Call(Global("posix system"), ("touch executed",)),
    "eval": Call(Global("builtins eval"), ("open('executed', 'w')",)),
    "python 2's eval": Call(Global("__builtin__ eval"), ("open('executed', 'w')",)),
    "getattr": Call(Global("builtins getattr"), (1, "real")),
    "torch.load": Call(Global("torch load"), ("executed",)),
    "a dotted name": Global("torch._utils _rebuild_tensor_v2.__globals__"),
    "a call of a word": Call("collections OrderedDict", ()),
    "a call of a type": Call(Global("torch FloatStorage"), (3,)),
    "a call of a tensor": Call(tensor(), ()),
    "a call without a tuple": Raw(opcodes(Global("collections OrderedDict")) + b"]R"),
    "the old form of a call": Raw(b"(X\x01\x00\x00\x00aios\nsystem\n"),
    "an object": Raw(b"(cos\nsystem\nX\x01\x00\x00\x00ao"),
    "a new object": Raw(opcodes(Global("collections OrderedDict")) + b")\x81"),
    "a registered extension": Raw(b"\x82\x01"),
    "a state of a function": Raw(
        opcodes(Global("torch._utils _rebuild_tensor_v2")) + opcodes({"__code__": 1}) + b"b"
    ),
    "a persistent id in words": Raw(b"Pabc\n"),
    "a name put together": Raw(
        opcodes("os") + opcodes("system") + b"\x93" + opcodes(("touch executed",)) + b"R"
    ),
    "a buffer of 4 EiB": Raw(b"\x96" + struct.pack("<Q", 2**62)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_could_execute_is_refused(what, form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, form, {"conv1.weight": tensor(), "more": HOSTILE[what]})
    with pytest.raises(UserError, match=r"net\.th is refused or damaged") as caught:
        weights.read(path)
    said = str(caught.value)
    assert "asks for more than tensors (such a file can run any code)" in said or "4 EiB" in what
    assert "\n" not in said and [one.name for one in tmp_path.iterdir()] == ["net.th"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_protocol_executes(protocol, form, tmp_path):
    data = pickle.dumps({"conv1.weight": Executed(tmp_path / "executed")}, protocol)
    with pytest.raises(UserError, match="asks for more than tensors"):
        weights.read(written(tmp_path, form, data))
    (tmp_path / "plain.pth").write_bytes(data)  # and that of a file that is nothing but a pickle
    with pytest.raises(UserError, match="asks for more than tensors"):
        weights.read(tmp_path / "plain.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"size": (2, 4)},
        {"size": (2, 3), "offset": 1},
        {"size": (), "stride": (), "offset": 6},
        {"size": (0,), "stride": (1,), "offset": 7},
        {"size": (-1, 3)},
        {"stride": (3, -1)},
        {"offset": -1},
        {"size": (2,)},
        {"size": (2**64, 3), "stride": (0, 1)},
        {"size": (2**40, 2**40), "stride": (0, 0)},
        {"size": (1,) * 65, "stride": (1,) * 65},
        {"size": (2, 3.0)},
        {"size": [2, 3]},
        {"size": (True, 3)},
        {"size": ("2", "3")},
        {"elements": 7},
        {"elements": 5, "size": (5,), "stride": (1,)},
        {"elements": -1, "size": (0,), "stride": (1,)},
        {"elements": 2**62},
        {"kind": "Double"},
        {"key": "1"},
        {"bits": ({"neg": True},)},
        {"bits": ({"conj": True},)},
        {"key": "../data.pkl"},
    ],
)
def test_views_and_storages_that_cannot_be_are_told(options, form, tmp_path):
    with pytest.raises(UserError, match="refused or damaged"):
        weights.read(written(tmp_path, form, {"a": tensor(**options)}))


def bombs():
    """Short pickles that ask for much: what they do -> (opcodes, what is said of them)."""
    doubled = b"".join(b"q%ch%c\x86" % (n, n) for n in range(250))
    pairs = opcodes([[f"a{n}", n] for n in range(2000)])
    collide = b"".join(opcodes(n * (2**61 - 1)) + b"N" for n in range(5000))
    again = b"h\x00h\x01R" * 5000
    return {
        "a place far out in the memo": (b"Nr\xff\xff\xff\x7f", "no tensors"),
        "deep lists": (b"]" * 30_000 + b"a" * 29_999, "no tensors"),
        "a deep key": (b"}N" + b"\x85" * 50_000 + b"Ns", "a word nor a number"),
        "a key of 2 to the power of 250 parts": (b"}N" + doubled + b"Ns", "a word nor a number"),
        "a global of such a name": (b"N" + doubled + b"X\x01\x00\x00\x00a\x93", "expected str"),
        "keys that collide": (b"}(" + collide + b"u", "a word nor a number"),
        "a list that holds itself": (b"]q\x00h\x00a", "no tensors"),
        "a dictionary made again and again": (
            b"("
            + opcodes(Global("collections OrderedDict"))
            + b"q\x00"
            + pairs
            + b"\x85q\x01"
            + again
            + b"t",
            "no tensors",
        ),
        "arguments given again and again": (
            b"("
            + opcodes(Global("torch device"))
            + b"q\x00("
            + b"N" * 5000
            + b"tq\x01"
            + again
            + b"t",
            "a call",
        ),
        "a word longer than the file": (b"X\xff\xff\xff\xff", "expected 4294967295 bytes"),
        "a word of 4 EiB": (
            b"\x8d" + struct.pack("<Q", 2**62),
            "expected 4611686018427387904 bytes",
        ),
        "bytes of 4 EiB": (
            b"\x8e" + struct.pack("<Q", 2**62),
            "expected 4611686018427387904 bytes",
        ),
        "a number of 2 GiB": (b"\x8b\xff\xff\xff\x7f", "not enough data"),
        "more instructions than any weights": (b"]" * 60_002, "longer than that of any weights"),
    }


@pytest.mark.parametrize("what", bombs())
def test_a_short_pickle_cannot_ask_for_much(what, form, tmp_path, monkeypatch):
    monkeypatch.setattr(pickled, "INSTRUCTIONS", 60_000)
    content, said = bombs()[what]
    path = written(tmp_path, form, Raw(content), {})
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=said):
            weights.read(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path):
    """torch.save compresses nothing; and members that lie over one another are more than the
    file."""
    value, where = {"a": tensor((2**20,), (1,), elements=2**20)}, {"0": np.zeros(2**20, np.float32)}
    with pytest.raises(UserError, match="compressed, or longer"):
        weights.read(written(tmp_path, "archive", value, where, compression=zipfile.ZIP_DEFLATED))
    inner, found, entries = bytes(2**20), {}, b""
    for key in "012":  # each member is the one before it, with its header
        found[key] = tensor((1,), (1,), key=key, kind="Byte", elements=len(inner))
        name, whole = f"net/data/{key}".encode(), inner
        facts = struct.pack(
            "<HHHHHIIIHH", 20, 0, 0, 0, 33, zlib.crc32(whole), len(whole), len(whole), len(name), 0
        )
        inner = b"PK\x03\x04" + facts + name + whole
        entries += (
            struct.pack("<I", len(inner)) + facts + name
        )  # how far from the end of the members it begins
    content = dump(found)
    name = b"net/data.pkl"
    facts = struct.pack(
        "<HHHHHIIIHH",
        20,
        0,
        0,
        0,
        33,
        zlib.crc32(content),
        len(content),
        len(content),
        len(name),
        0,
    )
    members = b"PK\x03\x04" + facts + name + content
    directory, at = (
        b"PK\x01\x02\x14\x00" + facts + bytes(10) + struct.pack("<I", 0) + name,
        len(members) + len(inner),
    )
    while entries:
        size = struct.unpack_from("<I", entries)[0]
        directory += (
            b"PK\x01\x02\x14\x00"
            + entries[4:30]
            + bytes(10)
            + struct.pack("<I", at - size)
            + entries[30:40]
        )
        entries = entries[40:]
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 4, 4, len(directory), at, 0)
    (tmp_path / "net.th").write_bytes(members + inner + directory + end)
    with pytest.raises(UserError, match="longer than the file|Overlapped"):
        weights.read(tmp_path / "net.th")


@pytest.mark.parametrize(
    "options",
    [
        {"magic": 1},
        {"magic": "a"},
        {"protocol": 1002},
        {"protocol": [[]]},
        {"form": "archive", "order": "middle"},
    ],
)
def test_what_is_no_file_of_pytorchs_is_told(options, tmp_path):
    form = options.pop("form", "sequence")
    with pytest.raises(UserError, match="refused or damaged"):
        weights.read(written(tmp_path, form, {"a": tensor()}, **options))


@pytest.mark.parametrize(
    "value", [3, [], {}, {"a": 1}, {"state_dict": {}}, {"a": tensor(), "b": 2}, {"model": "resnet"}]
)
def test_a_file_without_tensors_by_name_is_told(value, form, tmp_path):
    with pytest.raises(UserError, match="no tensors by name|missing|not those"):
        weights.read(written(tmp_path, form, value))


def test_damage_anywhere_is_told_in_a_line_or_changes_a_number(form, tmp_path):
    """Hundreds of files with a byte changed, some with several, and cut off everywhere."""
    order = {"order": "little"} if form == "archive" else {}
    state = {
        "state_dict": {"a": tensor(), "b": tensor((2,), (2,), kind="Half", key="1", elements=4)},
        "epoch": 3,
    }
    where = {"0": X.astype("<f4"), "1": np.arange(4, dtype="<f2")}
    path = written(tmp_path, form, state, where, **order)
    whole, random, read = path.read_bytes(), np.random.default_rng(0), collections.Counter()

    def attempt(content):
        path.write_bytes(content)
        try:
            got = weights.read(path)
            assert all(isinstance(one, np.ndarray) for one in got.values())
            read["read"] += 1
        except UserError as error:
            assert "\n" not in str(error)
            read["told"] += 1

    for _ in range(600):
        content = bytearray(whole)
        for at in random.integers(0, len(whole), random.choice([1, 1, 1, 5])):
            content[at] ^= 1 << random.integers(8)
        attempt(bytes(content))
    for length in range(0, len(whole), 3):
        attempt(whole[:length])
        attempt(whole[:length] + bytes(8))
    assert read["told"] > 300


def test_damage_of_the_numbers_of_an_archive_is_told(tmp_path):
    path = written(tmp_path, "archive", {"a": tensor()})
    content = bytearray(path.read_bytes())
    content[content.index(X.tobytes()) + 5] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="CRC"):
        weights.read(path)
