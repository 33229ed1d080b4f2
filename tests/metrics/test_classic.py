"""Classic methods on texts."""

import numpy as np

from advdl import metrics


def test_sums_of_words_know_words_and_pairs_know_their_order():
    """Where "not" turns the next word over, single words say nothing."""
    rng = np.random.default_rng(0)
    texts, label = [], []
    for _ in range(400):
        first, second = rng.integers(0, 2, 2)
        words = ["not"] * first + ["good"] + ["not"] * (1 - first) + ["film"]
        texts.append(" ".join(words) + f" {second}")
        label.append(1 - first)
    label = np.array(label)
    parts = [(texts[n : n + 100], label[n : n + 100]) for n in (0, 100, 200)]
    found = metrics.classic_text_methods(*parts, split=str.split)
    assert list(found) == ["most frequent class", "bag of words", "bag of words and pairs"]
    assert (
        found["bag of words"]["accuracy"] < 0.65 < 1 == found["bag of words and pairs"]["accuracy"]
    )
    often = np.bincount(parts[0][1]).argmax()
    assert found["most frequent class"] == {"accuracy": float(np.mean(parts[2][1] == often))}
    assert 0 <= found["bag of words"]["val_accuracy"] <= 1 and found["bag of words"]["C"] > 0
