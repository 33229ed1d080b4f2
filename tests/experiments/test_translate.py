"""Translation: a run that is whole, what it is scored by, and what it says to words it does not
know."""

import dataclasses
import io
import json

import jax
import numpy as np
import pytest

SMALL = [
    "--embedding",
    8,
    "--features",
    8,
    "--batch",
    8,
    "--steps",
    4,
    "--evaluate-every",
    2,
    "--log-every",
    2,
    "--save-every",
    2,
]
SENTENCES = {
    "a": ["one two three", "two two", "three one", "one one two two"],
    "b": ["eins zwei", "zwei", "drei", "eins eins zwei"],
}


@pytest.fixture
def corpus(tmp_path):
    """A small one in two languages, each part the same."""
    for part in ("train", "val", "test"):
        for language, lines in SENTENCES.items():
            (tmp_path / f"{part}.{language}").write_text("\n".join(lines) + "\n")
    return ["--data", f"folder:{tmp_path}", "--source", "a", "--target", "b"]


@pytest.mark.experiments
@pytest.mark.parametrize(
    "flags",
    [["--attention", "additive", "--sampling", 0.5, "--dropout", 0.2], ["--attention", "none"]],
)
def test_a_run_is_trained_scored_drawn_and_goes_on(verb, tmp_path, corpus, flags, monkeypatch):
    run = tmp_path / "run"
    status, _, err = verb("translate", "train", "--run", run, *SMALL, *corpus, *flags)
    assert status == 0, err
    judged = json.loads((run / "verdict.json").read_text())
    assert {"greedy", "beam of 5", "the source as it is", "the commonest sentence"} <= set(judged)
    assert "version:" in judged["greedy"]["signature"] and 0 <= judged["greedy"]["BLEU"] <= 100
    assert (run / "report" / "attention.png").exists() == ("none" not in flags)
    longer = [6 if n == 7 else flag for n, flag in enumerate(SMALL)]
    status, _, err = verb("translate", "train", "--run", run, *longer, *corpus, *flags)
    assert status == 0 and "resuming" in err, err
    status, out, err = verb("translate", "predict", "one two", "four one", "--run", run, "--json")
    assert (
        status == 0 and list(json.loads(out)) == ["one two", "four one"] and "unknown: four" in err
    ), err
    monkeypatch.setattr("sys.stdin", io.StringIO("three\none one one one one one one\n"))
    status, out, err = verb("translate", "predict", "--run", run, "--width", 1, "--json")
    assert status == 0 and "only 4 are read" in err and "three" in json.loads(out), err
    status, _, err = verb("translate", "predict", "", "--run", run)
    assert status == 2 and "is empty" in err


def learner_of(load, corpus, **changes):
    module = load("translate")
    config = dataclasses.replace(
        module.PRESETS["laptop"],
        data=corpus[1],
        source="a",
        target="b",
        embedding=8,
        features=8,
        batch=4,
        **changes,
    )
    return module.build(config)


@pytest.mark.experiments
def test_scheduled_sampling_that_is_not_due_is_teacher_forcing(load, corpus):
    """Before the first update the probability is 0, and the numbers are the same."""
    states = {}
    for sampling in (0.0, 0.9):
        experiment = learner_of(load, corpus, sampling=sampling)
        batch = experiment.train(0)
        state = jax.jit(experiment.learner.init)(jax.random.key(0), batch)
        state, metrics = jax.jit(experiment.learner.step)(state, batch, jax.random.key(1))
        states[sampling] = jax.device_get((state["model"].params, metrics["loss"].compute()))
        assert float(state["model"].collections["progress"]["updates"]) == 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), states[0.0], states[0.9])


def test_the_loss_is_a_mean_over_words_and_not_over_padding(load, corpus):
    experiment = learner_of(load, corpus)
    batch = experiment.train(0)
    state = jax.jit(experiment.learner.init)(jax.random.key(0), batch)
    _, metrics = jax.jit(experiment.learner.step)(state, batch, jax.random.key(1))
    assert (
        float(metrics["loss"].count)
        == (batch["target_length"] - 1).sum()
        == sum(len(s.split()) + 1 for s in SENTENCES["b"])
    )


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--data", "folder:nowhere"], "nowhere"),
        (["--target", "xx"], "no language 'xx'"),
        (["--sampling", 2], "--sampling is 2"),
        (["--data", "words"], "no pairs of sentences 'words'"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(verb, tmp_path, flags, line):
    status, _, err = verb("translate", "train", "--run", tmp_path / "run", *flags)
    assert status == 2 and line in err and err.count("\n") == 1, err


def test_unequal_corpora_are_told_with_the_line(verb, tmp_path, corpus):
    (tmp_path / "train.b").write_text("eins\n")
    status, _, err = verb("translate", "train", "--run", tmp_path / "run", *corpus)
    assert status == 2 and "train.b" in err and "2" in err and err.count("\n") == 1, err
