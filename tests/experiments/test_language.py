"""Language: a run whose state goes on from window to window, resumed bit for bit, asked without its
text."""

import json
import shutil

import jax
import numpy as np
import pytest

from advdl import train

TINY = [
    "--steps",
    6,
    "--evaluate-every",
    3,
    "--log-every",
    3,
    "--save-every",
    3,
    "--batch",
    8,
    "--window",
    5,
    "--embedding",
    4,
    "--features",
    6,
    "--schedule",
    "constant",
]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A file of a few hundred lines."""
    path = tmp_path_factory.mktemp("text") / "one.txt"
    path.write_text(
        "".join(f'the "{n}" of {n % 7} loops is here\n' for n in range(300)), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="module")
def finished(load, text, tmp_path_factory):
    """The folder of a finished run."""
    from advdl import cli

    module, folder = load("language"), tmp_path_factory.mktemp("language") / "run"
    flags = ["train", "--run", folder, "--data", f"folder:{text}", *TINY]
    cli.main(module.load, module.build, module.PRESETS, module.Predict, list(map(str, flags)))
    return folder


@pytest.mark.experiments
def test_a_run_is_reported(finished):
    report = finished / "report"
    assert all(
        (report / f"{name}.png").exists()
        for name in ("curves", "free_running", "surprise", "units")
    )
    assert [file.name for file in sorted(report.glob("written_*"))] == [
        f"written_00000{n}.txt" for n in (0, 3, 6)
    ]
    verdict = json.loads((finished / "verdict.json").read_text())
    found = verdict["test"]
    assert found["perplexity"] == pytest.approx(np.exp(found["nats_per_token"]))
    assert found["bits_per_character"] < np.log2(60) and verdict["bz2"]["bits_per_character"] < 3
    assert (
        verdict["counts of pairs"]["bits_per_character"]
        < verdict["counts of single tokens"]["bits_per_character"]
    )


@pytest.mark.experiments
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    verb, finished, unreported, text, tmp_path
):
    """The hidden state is in the checkpoint, or the windows after it would start from nothing."""
    flags = ["--run", tmp_path / "run", "--data", f"folder:{text}"]
    status, _, err = verb("language", "train", *flags, "--steps", 3, *TINY[2:])
    assert status == 0, err
    status, _, err = verb("language", "train", *flags, *TINY)
    assert status == 0 and "resuming" in err, err
    digests = [
        json.loads((folder / "summary.json").read_text())["digest"]
        for folder in (finished, tmp_path / "run")
    ]
    assert digests[0] == digests[1]


@pytest.mark.experiments
def test_replicas_carry_the_same_state_as_one_device(load, opened, text):
    module, found = load("language"), []
    config = module.Config(
        data=f"folder:{text}",
        batch=16,
        window=5,
        embedding=4,
        features=6,
        dropout=0.3,
        accumulate=2,
    )
    splits, experiment = opened("language", config)
    key = jax.random.key(1)
    for name in ("jit", "pmap"):
        placed = train.place(name)(experiment.learner)
        state = placed.init(key, placed.put(splits.train(0)))
        for t in range(4):
            state, _ = placed.step(state, placed.put(splits.train(t)), key)
        found.append(
            (
                jax.device_get((state.carried, state["model"].params)),
                train.evaluate(placed, state, splits.evaluations["val"]),
            )
        )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), found[0][0], found[1][0])
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)


@pytest.mark.experiments
@pytest.mark.parametrize("tokens", ["words", "subwords"])
def test_texts_of_other_tokens_go_on_in_free_running(verb, text, tmp_path, tokens):
    run, flags = (
        tmp_path / "run",
        ["--tokens", tokens, "--subwords", 280, "--sampling", 0.5, "--layers", 2, "--dropout", 0.2],
    )
    status, _, err = verb(
        "language", "train", "--run", run, "--data", f"folder:{text}", *flags, *TINY
    )
    assert (
        status == 0
        and ("perplexity on the test part" in err) == (tokens == "words")
        and ("bits per character on the test part" in err) == (tokens == "subwords")
    ), err
    status, out, err = verb(
        "language", "predict", "the zebra", "--run", run, "--length", 5, "--json"
    )
    assert status == 0 and ("zebra" in err) == (tokens == "words"), err
    assert list(json.loads(out)) == ["the zebra"]


@pytest.mark.experiments
def test_a_run_is_asked_where_its_text_is_gone(verb, finished, tmp_path):
    run = tmp_path / "moved"
    shutil.copytree(finished, run)
    stored = json.loads((run / "config.json").read_text())
    stored["config"]["data"] = "folder:/nowhere"
    (run / "config.json").write_text(json.dumps(stored))
    asked = ["predict", "the ", "é", "--run", run, "--length", 20, "--json"]
    status, out, err = verb("language", *asked, "--seed", 1)
    assert status == 0 and "not known, and read as <unk>: é" in err, err
    answer = json.loads(out)
    assert (
        list(answer) == ["the ", "é"] and len(answer["the "]) >= 20
    )  # an untrained network writes "<unk>" too
    _, again, _ = verb("language", *asked, "--seed", 1)
    _, other, _ = verb("language", *asked, "--seed", 2)
    assert again == out != other
    stored = json.loads((run / "spec.json").read_text())
    for change, line in (
        ({"unit": "letters"}, "its unit is 'letters'"),
        ({"tokens": 3}, "text.tokens is 3"),
    ):
        broken = {**stored["spec"], "text": stored["spec"]["text"] | change}
        (run / "spec.json").write_text(json.dumps(stored | {"spec": broken}))
        status, _, err = verb("language", "predict", "--run", run)
        assert status == 2 and "spec.json describes no data" in err and line in err, err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--data", "pydocs"], "nearest: pydoc"),
        (["--data", "folder:/nowhere"], "cannot read /nowhere"),
        (["--dropout", 1], "--dropout is 1"),
        (["--window", 0], "--window is 0"),
        (["--tied", "--features", 8], "--tied needs --embedding 64 equal to --features 8"),
        (["--batch", 100_000], "windows of 64 need"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(verb, tmp_path, flags, line):
    status, _, err = verb("language", "train", "--run", tmp_path / "run", *flags)
    assert status == 2 and line in err and err.count("\n") == 1, err
    assert not (tmp_path / "run").exists()


@pytest.mark.experiments
def test_predict_refuses_what_cannot_be_drawn(verb, finished):
    for flags, line in (
        (["--length", 0], "--length is 0"),
        (["--top-p", 0], "--top-p is 0"),
        (["--top-k", -1], "--top-k is -1"),
    ):
        status, _, err = verb("language", "predict", *flags, "--run", finished)
        assert status == 2 and line in err and err.count("\n") == 1, err
