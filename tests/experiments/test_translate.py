"""Translation: a run that is whole, what it is scored by, and what it says to words it does not
know."""

import dataclasses
import io
import json
import sys

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
def test_a_run_on_subwords_is_scored_and_asked_words_that_it_has_not_seen(verb, tmp_path, corpus):
    run, given = tmp_path / "run", [*SMALL, *corpus, "--subwords", 270, "--longest", 12]
    status, _, err = verb("translate", "train", "--run", run, *given)
    assert status == 0, err
    judged = json.loads((run / "verdict.json").read_text())
    assert {"bleu", "chrf", "exact_match"} == judged["greedy"].keys()
    assert (run / "report" / "attention.png").exists()
    status, out, err = verb("translate", "predict", "--run", run, "four zebras", "--json")
    assert status == 0 and list(json.loads(out)) == ["four zebras"] and "<unk>" not in err


@pytest.mark.experiments
@pytest.mark.parametrize(
    "flags",
    [
        ["--attention", "additive", "--sampling", 0.5, "--dropout", 0.2, "--label-smoothing", 0.1],
        ["--attention", "none", "--layers", 3, "--cell", "gru", "--reading", "backward"],
    ],
)
def test_a_run_is_trained_scored_drawn_and_goes_on(verb, tmp_path, corpus, flags, monkeypatch):
    run = tmp_path / "run"
    status, _, err = verb("translate", "train", "--run", run, *SMALL, *corpus, *flags)
    assert status == 0, err
    judged = json.loads((run / "verdict.json").read_text())
    assert {"greedy", "beam of 5", "the source as it is", "the commonest sentence"} <= set(judged)
    assert "version:" in judged["signature"] and 0 <= judged["greedy"]["bleu"] <= 100
    assert (run / "report" / "attention.png").exists() == ("none" not in flags)
    longer = [6 if n == 7 else flag for n, flag in enumerate(SMALL)]
    status, _, err = verb("translate", "train", "--run", run, *longer, *corpus, *flags)
    assert status == 0 and "resuming" in err, err
    for file in tmp_path.glob("*.[ab]"):
        file.unlink()
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    monkeypatch.setitem(sys.modules, "num2words", None)
    status, out, err = verb("translate", "predict", "one two", "four one", "--run", run, "--json")
    assert status == 0 and list(json.loads(out)) == ["one two", "four one"], err
    assert "read as <unk>: four" in err
    monkeypatch.setattr("sys.stdin", io.StringIO("three\none one one one one one one\n"))
    status, out, err = verb("translate", "predict", "--run", run, "--width", 1, "--json")
    assert status == 0 and "only 4 are read" in err and "three" in json.loads(out), err
    status, _, err = verb("translate", "predict", "", "--run", run)
    assert status == 2 and "is empty" in err
    stored = json.loads((run / "spec.json").read_text())
    for change, line in (
        ({"longest": 10**9}, "1000000000 tokens"),
        ({"tokens": ["a"]}, "begins with"),
    ):
        broken = stored | {"spec": stored["spec"] | {"target": stored["spec"]["target"] | change}}
        (run / "spec.json").write_text(json.dumps(broken))
        status, _, err = verb("translate", "predict", "one", "--run", run)
        assert status == 2 and line in err and err.count("\n") == 1, err


@pytest.fixture
def learner(load, opened, corpus):
    """`learner(sampling=0.5)` -> (a learner, a batch, its first state)."""

    def learner(**changes):
        sizes = dict(data=corpus[1], source="a", target="b", embedding=8, features=8, batch=4)
        config = dataclasses.replace(load("translate").PRESETS["laptop"], **sizes, **changes)
        splits, experiment = opened("translate", config)
        batch = splits.train(0)
        state = jax.jit(experiment.learner.init)(jax.random.key(0), batch)
        return experiment.learner, batch, state

    return learner


@pytest.mark.experiments
def test_scheduled_sampling_that_is_not_due_is_teacher_forcing(learner):
    """Before the first update the probability is 0, and the numbers are the same."""
    states = {}
    for sampling in (0.0, 0.9):
        own, batch, state = learner(sampling=sampling)
        state, metrics = jax.jit(own.step)(state, batch, jax.random.key(1))
        states[sampling] = jax.device_get((state["model"].params, metrics["loss"].compute()))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), states[0.0], states[0.9])


@pytest.mark.experiments
def test_the_share_of_its_own_words_grows_with_the_updates(learner):
    """At the last update it is what was asked for, and the loss is another than with the truth."""
    losses = {}
    for sampling in (0.0, 1.0):
        own, batch, state = learner(sampling=sampling, steps=10)
        step = jax.jit(own.step)
        for number in (0, 10):
            _, metrics = step(state.replace(step=np.int32(number)), batch, jax.random.key(1))
            losses[sampling, number] = float(metrics["loss"].compute())
    assert losses[1.0, 0] == pytest.approx(losses[0.0, 0], abs=1e-6)
    assert abs(losses[1.0, 10] - losses[0.0, 10]) > 1e-4


@pytest.mark.slow
def test_the_loss_is_a_mean_over_words_and_not_over_padding(learner):
    own, batch, state = learner()
    _, metrics = jax.jit(own.step)(state, batch, jax.random.key(1))
    words = sum(len(sentence.split()) + 1 for sentence in SENTENCES["b"])
    assert float(metrics["loss"].count) == (batch["target_length"] - 1).sum() == words


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
