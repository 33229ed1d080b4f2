"""Bad numbers, choices, files, folders and runs on the command line: each is refused in one line.

An attack is a line of attacks.txt: EXPERIMENT VERB FLAGS -> WORDS THAT THE MESSAGE HAS. A name in
braces is a path that the fixture `paths` makes; `{runs/classify}` is a copy of a finished run, and
`{runs/classify:metrics.jsonl=cut}` one whose file is damaged as `DAMAGE` says. `*` stands for each
of the experiments.
"""

import contextlib
import hashlib
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.scale
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXPERIMENTS = sorted(path.stem for path in (ROOT / "experiments").glob("*.py"))
SECONDS = 120  # after which an attack has made a command hang

# One example and few steps of each, to have a run that can be damaged.
TRAINED = {
    "classify": "--model resnet8 --steps 2 --batch 8 --evaluate-every 0",
    "autoencode": "--hidden 8 --steps 2 --batch 8 --evaluate-every 0 --validation 0",
    "parity": "--features 4 --seeds 1 --networks window --longest 8 --scored 9 --steps 20 --batch 8"
    " --log-every 20 --evaluate-every 0 --save-every 0",
    "sentiment": "--features 4 --embedding 4 --steps 2 --batch 8 --evaluate-every 0",
}
DAMAGE = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "list": lambda path: path.write_text("[1, 2]\n"),
    "number": lambda path: path.write_text("7\n"),
    "null": lambda path: path.write_text("null\n"),
    "nan": lambda path: path.write_text('{"step": NaN}\n'),
    "huge": lambda path: path.write_text('{"step": 1' + 400 * "0" + "}\n"),
    "digits": lambda path: path.write_text('{"step": 1' + 9000 * "0" + "}\n"),
    "deep": lambda path: path.write_text(100_000 * "[" + "\n"),
    "surrogate": lambda path: path.write_text('{"step": "\\ud800"}\n'),
    "latin1": lambda path: path.write_bytes('{"step": "ä"}\n'.encode("latin-1")),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "fifo": lambda path: (path.unlink(), os.mkfifo(path)),
    "loop": lambda path: (path.unlink(), path.symlink_to(path)),
    "words": lambda path: path.write_text(path.read_text().replace(": 2,", ': "two",')),
    "negative": lambda path: path.write_text(path.read_text().replace('"batch": 8', '"batch": -8')),
    "float": lambda path: path.write_text(path.read_text().replace('"batch": 8', '"batch": 8.5')),
    "true": lambda path: path.write_text(path.read_text().replace('"batch": 8', '"batch": true')),
    "nested": lambda path: path.write_text(path.read_text().replace('"batch": 8', '"batch": [8]')),
    "unknown": lambda path: path.write_text(path.read_text().replace('"batch"', '"badge"')),
    "stranger": lambda path: path.write_text(path.read_text().replace('"classify"', '"other"')),
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Files and folders that are not what a command wants, by name."""
    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8))
    image.save(folder / "image.png")
    whole = (folder / "image.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[:60])
    (folder / "flipped.png").write_bytes(whole[:50] + bytes(b ^ 255 for b in whole[50:]))
    (folder / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\nshowpage\n")
    (folder / "claims.png").write_bytes(whole[:16] + b"\x00\x10\x00\x00" * 2 + whole[24:])
    (folder / "empty").write_bytes(b"")
    (folder / "text").write_text("not what you think\n")
    (folder / "latin1").write_bytes("größe\n".encode("latin-1"))
    (folder / "zeros").write_bytes(bytes(4096))
    (folder / "deep.json").write_text(100_000 * "[")
    (folder / "huge.json").write_text('{"people": 1' + 9000 * "0" + "}")
    (folder / "bad.csv").write_text("time,value\n1,2\n2,many\n")
    (folder / "nan.csv").write_text("time,value\n1,nan\n2,3\n")
    (folder / "large.csv").write_text("time,value\n1,2\n2,1e308\n")
    (folder / "short.csv").write_text("value\n1\n2\n")
    (folder / "pickle.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    (folder / "weights.safetensors").write_bytes(b"\xff" * 8 + b"{}")
    (folder / "wide.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    (folder / "sound.wav").write_bytes(b"RIFF\xff\xff\xff\xffWAVEfmt ")
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "dangling").symlink_to(folder / "nowhere")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        os.chdir(folder)  # the name of a socket has to be short
        server.bind("socket")
    (folder / "folder" / "train").mkdir(parents=True)
    (folder / "classless" / "train" / "cat").mkdir(parents=True)
    for split in ("train", "test"):
        for name, content in (("cat", whole), ("dog", whole[:60])):
            (folder / "broken" / split / name).mkdir(parents=True)
            (folder / "broken" / split / name / "1.png").write_bytes(content)
    for split in ("train", "test"):
        for place in ("single/{}/cat", "few/{}/cat", "few/{}/dog"):
            (folder / place.format(split)).mkdir(parents=True)
            for name in "abc":
                image.save(folder / place.format(split) / f"{name}.png")
        for kind in ("images", "masks"):
            (folder / "twice" / split / kind).mkdir(parents=True)
            image.save(folder / "twice" / split / kind / "a.png")
    (folder / "twice" / "classes.txt").write_text("cat\ndog\ncat\n")
    (folder / "things").mkdir()
    (folder / "things" / "thesis.txt").write_text("do not touch")
    return folder


@pytest.fixture(scope="module")
def runs(load, tmp_path_factory):
    """`runs("classify")` -> the folder of a finished run of it, made once."""
    made, folder = {}, tmp_path_factory.mktemp("runs")

    def run(name):
        from advdl import cli

        if name not in made:
            made[name], module = folder / name, load(name)
            words = ["train", "--run", str(made[name]), *TRAINED[name].split()]
            predict = getattr(module, "Predict", cli.Predict)
            cli.main(module.load, module.build, module.PRESETS, predict, words)
        return made[name]

    return run


def prepared(word, paths, runs, tmp_path):
    """A word of an attack with the path that its name in braces stands for."""

    def path(match):
        run, _, damage = match[1].partition(":")
        if not run.startswith("runs/"):
            return str(paths / match[1])
        copy = tmp_path / "prepared" / run
        if not copy.exists():
            shutil.copytree(runs(run.removeprefix("runs/")), copy)
        if damage:
            name, kind = damage.split("=")
            for file in sorted(copy.glob(name)):
                DAMAGE[kind](file)
        return str(copy)

    return re.sub(r"\{(.*?)\}", path, word)


def tree(folder):
    """The digest of every file in a folder, by name; of others their kind."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file() and not path.is_symlink()
        else path.lstat().st_mode
        for path in folder.rglob("*")
    }


def attacks():
    """Every line of the table, with `*` for each experiment."""
    for line in (HERE / "attacks.txt").read_text().splitlines():
        line = line.partition(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        command, _, words = line.partition("->")
        name, rest = command.split(maxsplit=1)
        for each in EXPERIMENTS if name == "*" else [name]:
            yield pytest.param(each, rest.strip(), words.split(), id=f"{each} {rest.strip()}")


@pytest.mark.parametrize(("name", "command", "words"), list(attacks()))
def test_an_attack_is_refused_in_one_line(verb, paths, runs, tmp_path, name, command, words):
    given = [prepared(word, paths, runs, tmp_path) for word in shlex.split(command)]
    before = tree(tmp_path) | tree(paths)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(SECONDS)
    try:
        status, out, err = verb(name, *given)
    finally:
        signal.alarm(0)
    lines = err.strip().splitlines()
    assert (status, out, len(lines)) == (2, "", 1), (status, out, err)
    assert lines[0].startswith(f"{name}.py: "), err
    assert all(word in lines[0] for word in words), err
    assert tree(tmp_path) | tree(paths) == before


def test_there_are_at_least_300_attacks_on_every_verb_and_experiment():
    found = [attack.values for attack in attacks()]
    verbs = {command.split()[0] for _, command, _ in found}
    assert len(found) >= 300 and {name for name, *_ in found} == set(EXPERIMENTS)
    assert verbs >= {"train", "evaluate", "predict", "bench", "plan"}
