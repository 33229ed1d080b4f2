"""Classic methods of classification beside a network: scikit-learn's, on the same pixels or words
and the same split.

Axes: N examples, D pixels of an image, flattened.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np

Labeled = tuple[Sequence[str], np.ndarray]
"""Texts, N of them, and their labels (N,)."""


def classic_methods(
    train_ND: np.ndarray,
    train_N: np.ndarray,
    test_ND: np.ndarray,
    test_N: np.ndarray,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Accuracy on the test part, and seconds to fit and to predict, of each method by name.

    The most frequent class; a support vector machine (Cortes & Vapnik 1995) with a radial kernel, C
    = 1 and scikit-learn's default width; a random forest (Breiman 2001) of 100 trees. Pixels are
    brought to [0, 1] by 255 and not otherwise made.
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.svm import SVC

    methods = {
        "most frequent class": DummyClassifier(),
        "SVM, radial kernel": SVC(),
        "random forest, 100 trees": RandomForestClassifier(random_state=seed, n_jobs=-1),
    }
    train, test = (x.reshape(len(x), -1).astype(np.float32) / 255 for x in (train_ND, test_ND))
    figures = {}
    for name, method in methods.items():
        start = time.perf_counter()
        method.fit(train, train_N)
        fitted = time.perf_counter()
        accuracy = float(np.mean(method.predict(test) == test_N))
        figures[name] = {
            "accuracy": accuracy,
            "fit seconds": fitted - start,
            "predict seconds": time.perf_counter() - fitted,
        }
    return figures


def classic_text_methods(
    train: Labeled, val: Labeled, test: Labeled, split: Callable[[str], list[str]]
) -> dict[str, dict[str, float]]:
    """Accuracy on the test part of each method by name, and of those that choose something by the
    validation part the accuracy there and what they chose.

    The most frequent class; and sums of words' weights, of words alone and with pairs of neighbors:
    logistic regression on which words occur, whose penalty is chosen. split: a text's words.
    """
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression

    label, often = train[1], np.bincount(train[1]).argmax()

    def share(said, part):
        return float(np.mean(said == part[1]))

    def occurring(part, longest):
        return [dict.fromkeys(grams(split(text), longest), 1) for text in part[0]]

    figures = {"most frequent class": {"accuracy": share(often, test)}}
    for name, longest in (("bag of words", 1), ("bag of words and pairs", 2)):
        columns, tried = DictVectorizer(), []
        counts = columns.fit_transform(occurring(train, longest))
        val_counts, test_counts = (
            columns.transform(occurring(part, longest)) for part in (val, test)
        )
        for strength in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0):
            method = LogisticRegression(C=strength, max_iter=2000).fit(counts, label)
            tried.append((share(method.predict(val_counts), val), -strength, method))
        accuracy, strength, method = max(tried, key=lambda one: one[:2])
        figures[name] = {
            "accuracy": share(method.predict(test_counts), test),
            "val_accuracy": accuracy,
            "C": -strength,
        }
    return figures


def grams(words: Sequence[str], longest: int) -> list[str]:
    """Stretches of one to `longest` words."""
    return [
        " ".join(words[first : first + n])
        for n in range(1, longest + 1)
        for first in range(len(words) - n + 1)
    ]
