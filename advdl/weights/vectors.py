"""Published word vectors: read into a network's embedding, word by word.

Axes: N words, D numbers of a vector.
"""

import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from advdl.errors import UserError
from advdl.reading import expand, open_file
from advdl.train import WarmStart, log


def vector_size(path: str | pathlib.Path) -> int:
    """D of a file of vectors. Raises UserError as `read_vectors` does, for the first line."""
    _, _, numbers = next(_lines(path))
    return len(numbers)


def read_vectors(path: str | pathlib.Path, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(vectors (N, D) float32 of these words, whether the file has each (N,)), of a text file as
    GloVe's are (Pennington et al. 2014): a word and its numbers on a line, between single spaces.

    The first line says how many numbers there are; a word may hold spaces, as in GloVe's largest
    file, and of one that is there twice the first counts. Other words have zeros, and their numbers
    are counted and not read; so a file of gigabytes needs no more memory than the words do. Raises
    UserError, naming the line, for a file that is something else.
    """
    places = {word: place for place, word in enumerate(words)}
    size = vector_size(path)
    vectors, known = np.zeros((len(words), size), np.float32), np.zeros(len(words), bool)
    for number, word, numbers in _lines(path, size):
        place = places.get(word)
        if place is None or known[place]:
            continue
        try:
            with np.errstate(over="ignore"):  # what is too large is infinite, and reported below
                vectors[place] = [float(text) for text in numbers]
        except ValueError:
            raise _fault(path, number, f"the numbers of {word!r} are not all numbers") from None
        if not np.isfinite(vectors[place]).all():
            raise _fault(path, number, f"the numbers of {word!r} are not all finite")
        known[place] = True
    return vectors, known


def vectors_start(path: str, words: Sequence[str], module: str) -> dict[str, WarmStart]:
    """What gives the player `model`, before the first update, the vectors of a file for its words;
    as `cli.Experiment` takes it, and nothing without a path. Words that the file lacks keep what
    they were born with.

    words: of the vocabulary, by id. module: name of the embedding.
    """

    def start(_):
        vectors, known = read_vectors(path, words)
        log(f"{path}: vectors of {known.sum()} of {len(words)} words")

        def place(variables):
            params = variables["params"]
            own = np.where(known[:, None], vectors, params[module]["embedding"])
            return {**variables, "params": {**params, module: {"embedding": own}}}

        return place

    return {"model": start} if path else {}


def _lines(path: str | pathlib.Path, size: int = 0) -> Iterator[tuple[int, str, list[str]]]:
    """(number of the line, word, its numbers as texts), all with `size` numbers (0: as many as the
    first line has)."""
    path, number = expand(path), 0
    try:
        with open_file(path, 2**40) as file:
            for number, line in enumerate(file, 1):
                try:
                    parts = line.decode("utf-8").rstrip("\r\n ").split(" ")
                except UnicodeDecodeError:
                    raise _fault(path, number, "it is not UTF-8") from None
                size = size or len(parts) - 1
                if len(parts) <= size or not size:
                    raise _fault(path, number, f"it has {len(parts) - 1} numbers, not {size or 1}")
                yield number, " ".join(parts[:-size]), parts[-size:]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if not number:
        raise UserError(f"{path} is empty; expected a word and its numbers on each line")


def _fault(path: str | pathlib.Path, number: int, what: str) -> UserError:
    return UserError(
        f"{path}, line {number}: {what}; expected a word and as many numbers as in the first line"
    )
