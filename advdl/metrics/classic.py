"""The classic methods of image classification beside a network: scikit-learn's, on the same pixels
and the same split.

Axes: N examples, D pixels of an image, flattened.
"""

import time

import numpy as np


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
