"""Sentiment: a run that is whole, asked without its data, and what is told of what cannot be."""

import json
import shutil

import pytest
from PIL import Image

TINY = [
    "--steps",
    4,
    "--evaluate-every",
    2,
    "--log-every",
    2,
    "--save-every",
    2,
    "--batch",
    8,
    "--embedding",
    4,
    "--features",
    3,
    "--longest",
    8,
]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder of two files."""
    folder = tmp_path_factory.mktemp("texts")
    for name, word in (("pos", "good"), ("neg", "bad")):
        lines = [f"a {word} film , number {n} , of $ {n}_{n} \u4e2d" for n in range(40)]
        (folder / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def finished(load, texts, tmp_path_factory):
    """The folder of a finished run."""
    from advdl import cli

    module, folder = load("sentiment"), tmp_path_factory.mktemp("sentiment") / "run"
    flags = ["train", "--run", folder, "--data", f"folder:{texts}", *TINY]
    cli.main(module.load, module.build, module.PRESETS, module.Predict, list(map(str, flags)))
    return folder


@pytest.mark.experiments
def test_opinions_are_trained_on_resumed_and_reported(verb, tmp_path):
    run = tmp_path / "run"
    flags = ["--pool", "last", "--dropout", 0.5, "--word-dropout", 0.1, "--buckets", 2]
    status, _, err = verb("sentiment", "train", "--run", run, *flags, *TINY)
    assert status == 0 and "cut to 8" in err, err
    assert all(
        (run / "report" / name).exists()
        for name in ("confusion.png", "curves.png", "right.png", "words.png")
    )
    longer = [*TINY[:1], 6, *TINY[2:]]
    status, _, err = verb("sentiment", "train", "--run", run, *flags, *longer)
    assert status == 0 and "resuming" in err, err


@pytest.mark.experiments
def test_evaluation_has_both_parts_and_baselines_beside_them(verb, finished):
    status, out, err = verb("sentiment", "evaluate", "--run", finished, "--baselines", "--json")
    assert status == 0, err
    found, summary = json.loads(out), json.loads((finished / "summary.json").read_text())
    assert found["test/accuracy"] == pytest.approx(summary["test"]["accuracy"])
    assert 0 <= found["val/accuracy"] <= 1
    assert sum(map(sum, found["test/confusion"])) == sum(map(sum, found["val/confusion"])) == 8
    assert found["bag of words"]["accuracy"] == 1 and found["most frequent class"]["accuracy"] < 0.9


@pytest.mark.experiments
def test_a_run_is_asked_where_its_data_is_gone(verb, finished, texts, tmp_path):
    run = tmp_path / "moved"
    shutil.copytree(finished, run)
    stored = json.loads((run / "config.json").read_text())
    stored["config"]["data"] = "folder:/nowhere"
    (run / "config.json").write_text(json.dumps(stored))
    lines = tmp_path / "lines.txt"
    lines.write_text("a bad film\n\na very very very very very very very long one\n")
    asked = ["a good zebra, $ 中", "bad"]
    status, out, err = verb(
        "sentiment",
        "predict",
        *asked,
        "--file",
        lines,
        "--run",
        run,
        "--out",
        tmp_path / "out",
        "--json",
    )
    assert status == 0, err
    answer = json.loads(out)
    assert list(answer) == [*asked, "a bad film", "a very very very very very very very long one"]
    first = answer[asked[0]]
    assert (
        first["class"] in ("neg", "pos")
        and 0.5 <= first["probability"] <= 1
        and first["unknown_words"] == ["zebra"]
    )
    assert "good" in first["word_weights"] and list(answer.values())[-1]["words_not_read"] == 2
    with Image.open(tmp_path / "out" / "words.png") as image:
        assert image.width > 500
    spec = json.loads((run / "spec.json").read_text())
    for damage, line in (
        ("{", "is not JSON"),
        (json.dumps({"spec": spec["spec"] | {"label_names": ["a"]}}), "it names no two classes"),
        (json.dumps({"spec": spec["spec"] | {"text": {}}}), "text.unit is missing"),
    ):
        (run / "spec.json").write_text(damage)
        status, _, err = verb("sentiment", "predict", "x", "--run", run)
        assert status == 2 and line in err and err.count("\n") == 1, err


@pytest.mark.experiments
def test_a_run_does_not_go_on_with_other_words(verb, finished, texts, tmp_path):
    run, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(finished, run)
    shutil.copytree(texts, other)
    with (other / "pos.txt").open("a", encoding="utf-8") as file:
        file.writelines(f"\nnever heard of {n}" for n in range(20))
    stored = json.loads((run / "config.json").read_text())
    stored["config"]["data"] = f"folder:{other}"
    (run / "config.json").write_text(json.dumps(stored))
    status, _, err = verb("sentiment", "train", "--run", run, "--steps", 6)
    assert status == 2 and "data of another text than --data gives" in err, err
    assert err.count("\n") == 1
    assert verb("sentiment", "evaluate", "--run", run)[0] == 0  # on texts that it does not know
    (other / "third.txt").write_text("\n".join(f"neither {n}" for n in range(40)))
    status, _, err = verb("sentiment", "evaluate", "--run", run)
    assert status == 2 and "the run's classes are neg, pos, not neg, pos, third" in err, err


@pytest.mark.experiments
def test_what_cannot_be_asked_is_told_in_one_line(verb, finished, tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    for flags, line in (([], "give sentences"), (["--file", tmp_path / "empty.txt"], "no text")):
        status, _, err = verb("sentiment", "predict", *flags, "--run", finished)
        assert status == 2 and line in err and err.count("\n") == 1, err
    status, _, err = verb("sentiment", "predict", "x", "--run", tmp_path / "none")
    assert status == 2 and "sentiment.py train --run" in err and "first: python" in err


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--data", "opinion"], "nearest: opinions"),
        (["--data", "folder:/nowhere"], "no folder /nowhere"),
        (["--dropout", 1], "--dropout is 1"),
        (["--longest", 0], "--longest is 0"),
        (["--texts", 5000], "texts to train on, fewer than 5000"),
        (["--vectors", "nowhere.txt"], "cannot read nowhere.txt"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(verb, tmp_path, flags, line):
    status, _, err = verb("sentiment", "train", "--run", tmp_path / "run", *flags)
    assert status == 2 and line in err and err.count("\n") == 1, err
    assert not (tmp_path / "run").exists()
