"""What a compiled program does, read from its text: products, bytes to and from memory, and what
devices send each other.

XLA's own cost analysis takes a loop for one turn of it. Here every loop counts as often as it runs,
so that a recurrent network or micro-batches are not made to look cheap.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Groups = frozenset[frozenset[int]]

BYTES = {"pred": 1, "token": 0, "opaque": 0, "s4": 0.5, "u4": 0.5, "bf16": 2, "c64": 8, "c128": 16}
KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "ragged-all-to-all",
    "collective-broadcast",
)
FREE = frozenset(
    [
        "parameter",
        "constant",
        "tuple",
        "get-tuple-element",
        "bitcast",
        "after-all",
        "partition-id",
        "replica-id",
        "while",
        "conditional",
        "call",
        "iota",
        "opt-barrier",
        "add-dependency",
        "domain",
        "async-done",
        "async-update",
        "all-reduce-done",
        "all-gather-done",
        "collective-permute-done",
        "copy-done",
        "slice-done",
    ]
)
"""What moves no bytes itself."""

SHAPE = re.compile(r"([a-z]+[0-9a-z]*)\[([0-9,<=]*)\](?:\{([^}]*)\})?")
HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*)?\{$")
NAME, BARE = re.compile(r"%([\w.\-]+)"), re.compile(r"[A-Za-z_][\w.\-]*")
CALLED = re.compile(
    r"\b(?:calls|body|condition|to_apply|true_computation|false_computation)=%?([\w.\-]+)"
)
BRANCHES = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")


class Shape(NamedTuple):
    """One array. fast: in a core's own memory and not in the device's main one."""

    dtype: str
    dims: tuple[int, ...]
    fast: bool

    @property
    def bytes(self) -> float:
        """Without what a tiled layout pads."""
        width = (
            BYTES[self.dtype] if self.dtype in BYTES else int(re.findall(r"\d+", self.dtype)[0]) / 8
        )
        return math.prod(self.dims) * width


class Instruction(NamedTuple):
    """name: of its result. shapes: the arrays of the result. rest: everything behind the
    operands."""

    name: str
    shapes: tuple[Shape, ...]
    opcode: str
    operands: tuple[str, ...]
    arguments: str
    rest: str
    root: bool


class Computation(NamedTuple):
    """Instructions by name, in order."""

    name: str
    entry: bool
    instructions: dict[str, Instruction]

    @property
    def root(self) -> Instruction:
        """What it returns."""
        return next(one for one in reversed(self.instructions.values()) if one.root)


class Collective(NamedTuple):
    """Messages of one kind among the same devices. times: how often in a run of the program. bytes:
    of one device's part, the larger of what goes in and what comes out, over all times. axes: of
    the mesh, over which devices talk."""

    kind: str
    axes: str
    size: int
    times: int
    bytes: float

    @property
    def sent(self) -> float:
        """Bytes that each device sends in a ring: 2 (n - 1) / n of an all-reduce, (n - 1) / n of
        the others."""
        if self.kind == "collective-permute":
            return self.bytes
        return self.bytes * (self.size - 1) / self.size * (2 if self.kind == "all-reduce" else 1)


class Costs(NamedTuple):
    """Of one device, in one run of the program.

    flops: twice the multiply-adds of matrix products and convolutions. bytes: to and from main
    memory, every instruction reading its operands and writing its result. collectives: what is
    sent. endless: loops whose length is not known, counted as one turn.
    """

    flops: float
    bytes: float
    collectives: tuple[Collective, ...]
    endless: int


def costs(text: str, mesh: Mapping[str, int]) -> Costs:
    """Of a compiled program's text, for devices that lie on a mesh with these axes."""
    computations = parse(text)
    times, fused, endless = _times(computations)
    flops = sum(
        times[c.name] * sum(_flops(one, c) for one in c.instructions.values())
        for c in computations.values()
    )
    moved = sum(
        times[c.name] * sum(_moved(one, c, computations) for one in c.instructions.values())
        for c in computations.values()
        if c.name not in fused
    )
    return Costs(flops, moved, _collectives(computations, times, mesh), endless)


def parse(text: str) -> dict[str, Computation]:
    """Computations by name."""
    found: dict[str, Computation] = {}
    name = None
    for line in text.splitlines():
        if name is None:
            if header := HEADER.match(line):
                name = header[2]
                found[name] = Computation(name, bool(header[1]), {})
        elif line.startswith("}"):
            name = None
        elif instruction := _instruction(line):
            found[name].instructions[instruction.name] = instruction
    return found


def _instruction(line: str) -> Instruction | None:
    head, equals, rest = line.strip().partition(" = ")
    if not equals:
        return None
    end = _closing(rest) if rest.startswith("(") else rest.find(" ")
    shape, rest = rest[:end], rest[end:].strip()
    opcode, _, rest = rest.partition("(")
    end = _closing("(" + rest) - 1
    arguments = rest[: end - 1]
    shapes = tuple(
        Shape(
            dtype, tuple(int(n.strip("<=")) for n in dims.split(",") if n), "S(1)" in (layout or "")
        )
        for dtype, dims, layout in SHAPE.findall(shape)
    )
    operands = tuple((NAME if "%" in arguments else BARE).findall(arguments))
    name = head.removeprefix("ROOT ").lstrip("%")
    return Instruction(
        name, shapes, opcode, operands, arguments, rest[end:], head.startswith("ROOT ")
    )


def _closing(text: str) -> int:
    """Where the parenthesis that the text starts with is closed, one behind it."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place + 1
    return len(text)


def _called(instruction: Instruction) -> Iterator[str]:
    yield from CALLED.findall(instruction.rest)
    for names in BRANCHES.findall(instruction.rest):
        yield from (name.strip().lstrip("%") for name in names.split(",") if name.strip())


def _times(computations: Mapping[str, Computation]) -> tuple[dict[str, float], set[str], int]:
    """How often each computation runs, which are inside of fusions (or of reductions), and how many
    loops are endless."""
    times, fused, endless = dict.fromkeys(computations, 0.0), set(), 0
    waiting = [(c.name, 1.0, False) for c in computations.values() if c.entry]
    while waiting:
        name, count, inside = waiting.pop()
        times[name] += count
        if inside:
            fused.add(name)
        for one in computations[name].instructions.values():
            turns = 1.0
            if one.opcode == "while":
                known = _turns(one, computations[name], computations)
                turns, endless = known or 1.0, endless + (known is None)
            within = inside or one.opcode not in ("while", "call", "conditional", "async-start")
            waiting += [
                (called, count * turns, within) for called in _called(one) if called in computations
            ]
    return times, fused, endless


def _turns(
    loop: Instruction, around: Computation, computations: Mapping[str, Computation]
) -> float | None:
    """How often a loop's body runs: as the compiler says, else as its condition, a counter below a
    constant, does."""
    if known := re.search(r'known_trip_count"?:\{"?n"?:"?(\d+)', loop.rest):
        return float(known[1])
    name = re.findall(r"condition=%?([\w.\-]+)", loop.rest)[0]
    condition = computations[name]
    test = condition.root
    limit = [n for one in condition.instructions.values() if (n := _number(one)) is not None]
    if test.opcode == "fusion" and (called := computations.get(next(_called(test), ""))):
        test = called.root
        limit += [n for one in called.instructions.values() if (n := _number(one)) is not None]
    if test.opcode != "compare" or "direction=LT" not in test.rest or len(set(limit)) != 1:
        return None
    return max(0.0, float(limit[0]))


def _number(instruction: Instruction) -> int | None:
    whole = instruction.opcode == "constant" and instruction.shapes[0].dtype in (
        "s32",
        "u32",
        "s64",
    )
    return (
        int(instruction.arguments)
        if whole and re.fullmatch(r"-?\d+", instruction.arguments)
        else None
    )


def _shape(name: str, computation: Computation) -> tuple[Shape, ...]:
    return computation.instructions[name].shapes if name in computation.instructions else ()


def _flops(one: Instruction, computation: Computation) -> float:
    if one.opcode == "dot":
        left = _shape(one.operands[0], computation)[0].dims
        axes = re.findall(r"lhs_contracting_dims=\{([0-9,]*)\}", one.rest)[0]
        return (
            2.0
            * math.prod(one.shapes[0].dims)
            * math.prod(left[int(n)] for n in axes.split(",") if n)
        )
    if one.opcode == "convolution":
        return _convolution(one, computation)
    return 0.0


def _convolution(one: Instruction, computation: Computation) -> float:
    """Twice the products that fall on values and not on padding or on zeros between them, as XLA
    counts them."""
    left, right = (_shape(name, computation)[0].dims for name in one.operands[:2])
    label_l, label_r, label_o = re.findall(r"dim_labels=(\w+)_(\w+)->(\w+)", one.rest)[0]
    window = re.search(r"window=\{([^}]*)\}", one.rest)
    options = dict(part.split("=") for part in window[1].split()) if window else {}
    spatial = sorted(letter for letter in label_o if letter.isdigit())

    def value(name, place, default):
        return int(options[name].split("x")[place]) if name in options else default

    products = 1
    for place, letter in enumerate(spatial):
        into, out = left[label_l.index(letter)], one.shapes[0].dims[label_o.index(letter)]
        low = int(options["pad"].split("x")[place].split("_")[0]) if "pad" in options else 0
        size, stride = value("size", place, 1), value("stride", place, 1)
        apart, within = value("rhs_dilate", place, 1), value("lhs_dilate", place, 1)
        at = np.arange(out)[:, None] * stride + np.arange(size)[None] * apart - low
        products *= int(np.sum((at >= 0) & (at <= (into - 1) * within) & (at % within == 0)))
    groups = re.search(r"batch_group_count=(\d+)", one.rest)
    batch = left[label_l.index("b")] // (int(groups[1]) if groups else 1)
    in_features = right[label_r.index("i")]  # of one group
    out_features = one.shapes[0].dims[label_o.index("f")]
    return 2.0 * products * batch * out_features * in_features


def _moved(
    one: Instruction, computation: Computation, computations: Mapping[str, Computation]
) -> float:
    # Between memories: (to, from, …), or (from, to, …).
    if one.opcode in ("copy-start", "slice-start"):
        source = _shape(one.operands[0], computation)[0]
        target = one.shapes[0 if one.opcode == "copy-start" else 1]
        return target.bytes * ((not source.fast) + (not target.fast))
    if one.opcode in FREE or one.opcode.endswith("-start"):
        return 0.0
    inner = computations.get(next(_called(one), "")) if one.opcode == "fusion" else None
    read = sum(
        _read(one, place, name, computation, inner) for place, name in enumerate(one.operands)
    )
    return read + _written(one, computation, inner)


def _main(shapes: Sequence[Shape]) -> float:
    """Bytes of those in main memory."""
    return sum(shape.bytes for shape in shapes if not shape.fast)


def _read(
    one: Instruction, place: int, name: str, computation: Computation, inner: Computation | None
) -> float:
    """What is read of an operand: of one that is only sliced, the slices; of one that is updated in
    place, nothing."""
    whole = _main(_shape(name, computation))
    if not whole:
        return 0.0
    if inner is None:
        if one.opcode in ("dynamic-slice", "slice", "gather"):
            return min(whole, _main(one.shapes)) if place == 0 else whole
        return 0.0 if one.opcode == "dynamic-update-slice" and place == 0 else whole
    parameter = next(
        (
            p
            for p in inner.instructions.values()
            if p.opcode == "parameter" and p.arguments == str(place)
        ),
        None,
    )
    if parameter is None:
        return whole
    part, names = 0.0, [parameter.name]
    while names:
        used = names.pop()
        for user in inner.instructions.values():
            # What is handed on as it is.
            if used not in user.operands or user.opcode == "tuple" or _goes_on(user, inner):
                continue
            if user.opcode == "bitcast":
                names.append(user.name)
            elif user.opcode in ("dynamic-slice", "slice", "gather") and user.operands[0] == used:
                part += sum(shape.bytes for shape in user.shapes)
            elif not (user.opcode == "dynamic-update-slice" and user.operands[0] == used):
                return whole
    return min(whole, part)


def _written(one: Instruction, computation: Computation, inner: Computation | None) -> float:
    """What is written of a result: of one that is updated in place, the update."""
    if inner is None:
        return _main(
            _shape(one.operands[1], computation)
            if one.opcode == "dynamic-update-slice"
            else one.shapes
        )
    roots = [inner.root]
    if inner.root.opcode == "tuple":
        roots = [
            inner.instructions[name] for name in inner.root.operands if name in inner.instructions
        ]
    if len(roots) != len(one.shapes):
        return _main(one.shapes)
    total = 0.0
    for root, shape in zip(roots, one.shapes, strict=True):
        while root.opcode == "bitcast" and root.operands[0] in inner.instructions:
            root = inner.instructions[root.operands[0]]
        updated, kept = root.opcode == "dynamic-update-slice", root.opcode == "parameter"
        size = (
            sum(part.bytes for part in _shape(root.operands[1], inner)) if updated else shape.bytes
        )
        total += 0.0 if shape.fast or kept else size
    return total


def _collectives(
    computations: Mapping[str, Computation], times: Mapping[str, float], mesh: Mapping[str, int]
) -> tuple[Collective, ...]:
    """Added up by kind and axes."""
    added: dict[tuple[str, str, int], list[float]] = {}
    for computation in computations.values():
        for one in computation.instructions.values():
            kind, often = one.opcode.removesuffix("-start"), times[computation.name]
            if kind not in KINDS or not often or _goes_on(one, computation):
                continue
            # So a TPU's compiler writes a reduce-scatter.
            if "all-reduce-scatter" in computation.name:
                kind = "reduce-scatter"
            into = sum(shape.bytes for name in one.operands for shape in _shape(name, computation))
            out = sum(shape.bytes for shape in one.shapes)
            size = max(into, out - into) if one.opcode.endswith("-start") else max(into, out)
            axes, count = _axes(one, mesh)
            if count > 1:
                total = added.setdefault((kind, axes, count), [0.0, 0.0])
                total[0] += often
                total[1] += often * size
    found = [Collective(*key, int(often), size) for key, (often, size) in added.items()]
    return tuple(sorted(found, key=lambda one: -one.bytes))


def _goes_on(one: Instruction, computation: Computation) -> bool:
    """Whether this is a message that was started before: a TPU's compiler, to send while it
    computes, writes the same message once where it starts, in every fusion that it is under way in,
    and where it is done."""
    if one.opcode not in KINDS:
        return False
    done = any('"AsyncCollectiveDone"' in other.rest for other in computation.instructions.values())
    return done or computation.name.startswith("async_collective_fusion")


def _axes(one: Instruction, mesh: Mapping[str, int]) -> tuple[str, int]:
    """(axes, devices of a group) that a message goes over."""
    everything = math.prod(mesh.values())
    if pairs := re.search(r"source_target_pairs=\{([{}0-9,]*)\}", one.rest):
        linked = frozenset(
            frozenset(map(int, pair)) for pair in re.findall(r"\{?(\d+),(\d+)\}", pairs[1])
        )
        return _named(linked, mesh, exact=False)
    return _named(device_groups(one.rest, everything), mesh)


def _named(groups: Groups, mesh: Mapping[str, int], exact: bool = True) -> tuple[str, int]:
    """The smallest product of axes that the groups lie in; with "part of", where they are smaller
    than it."""
    ids = np.arange(math.prod(mesh.values())).reshape(tuple(mesh.values()))
    wide = [place for place, size in enumerate(mesh.values()) if size > 1]
    largest = max(map(len, groups), default=1)
    subsets = [
        [place for n, place in enumerate(wide) if number >> n & 1]
        for number in range(2 ** len(wide))
    ]
    for subset in sorted(
        subsets, key=lambda places: math.prod(ids.shape[place] for place in places)
    ):
        others = [place for place in range(ids.ndim) if place not in subset]
        rows = ids.transpose(others + subset).reshape(
            -1, math.prod(ids.shape[place] for place in subset)
        )
        home = {device: number for number, row in enumerate(rows.tolist()) for device in row}
        if all(len({home[device] for device in group}) <= 1 for group in groups):
            name = " × ".join(list(mesh)[place] for place in subset) or "none"
            part = exact and largest < rows.shape[1]
            return f"part of {name}" if part else name, largest if exact else rows.shape[1]
    raise ValueError(f"groups {groups} are not of mesh {mesh}")


def device_groups(text: str, everything: int) -> Groups:
    """Which devices talk, of `replica_groups` in each of its forms: lists, `[4,2]<=[2,4]T(1,0)`,
    and axes of a mesh of the compiler's own, whose devices are listed or an iota. Raises ValueError
    for another form."""
    if found := re.search(r"replica_groups=\{([{}0-9,]*)\}", text):
        listed = [
            frozenset(map(int, group.split(",")))
            for group in re.findall(r"\{([0-9,]+)\}", "{" + found[1] + "}")
        ]
        listed = (
            listed
            if "{" in found[1]
            else [frozenset(range(everything))]
            if not found[1]
            else listed
        )
        return frozenset(listed)
    if found := re.search(r"replica_groups=\[([0-9,]+)\]<=(\[[0-9,]+\](?:T\([0-9,]+\))?)", text):
        return frozenset(map(frozenset, _iota(found[2]).reshape(_ints(found[1])).tolist()))
    ids = r"device_ids=\((?:([0-9,]+)|(.*?\])?(T\([0-9,]+\))?)\)"  # one by one, or as an iota
    if found := re.search(rf"replica_groups=mesh\[([^\]]*)\](?:, {ids})? ?\{{([^}}]*)\}}", text):
        names, sizes = zip(*re.findall(r"'([^']+)'=(\d+)", found[1]), strict=True)
        sizes = tuple(map(int, sizes))
        listed = (
            np.array(_ints(found[2]))
            if found[2]
            else _iota((found[3] or f"[{math.prod(sizes)}]") + (found[4] or ""))
        )
        return _along(
            listed.reshape(sizes), names, re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", found[5])
        )
    raise ValueError(f"replica groups in a form that is not known: {text[:200]}")


def _along(ids: np.ndarray, names: Sequence[str], axes: Sequence[tuple[str, str, str]]) -> Groups:
    """Groups along axes, of which one may be a part: `'x':(2)4` is the 4 in a view of x as 2 × 4 ×
    the rest."""
    shape, chosen = [], []
    parts = {name: (int(before), int(size)) if size else None for name, before, size in axes}
    for name, size in zip(names, ids.shape, strict=True):
        if part := parts.get(name):
            before, own = part
            chosen.append(len(shape) + 1)
            shape += [before, own, size // (before * own)]
        else:
            if name in parts:
                chosen.append(len(shape))
            shape.append(size)
    others = [place for place in range(len(shape)) if place not in chosen]
    rows = ids.reshape(shape).transpose(others + chosen)
    return frozenset(
        map(frozenset, rows.reshape(-1, math.prod(shape[place] for place in chosen)).tolist())
    )


def _iota(text: str) -> np.ndarray:
    """`[2,4]T(1,0)`: 0 … 7 as 2 × 4, turned, flat."""
    dims, _, turned = text.partition("T")
    ids = np.arange(math.prod(_ints(dims.strip("[]")))).reshape(_ints(dims.strip("[]")))
    return (ids.transpose(_ints(turned.strip("()"))) if turned else ids).ravel()


def _ints(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(",") if n)
