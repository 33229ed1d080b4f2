"""Word vectors as GloVe's files hold them: what is read, what is left, and lines that are wrong."""

import numpy as np
import pytest

from advdl import weights
from advdl.errors import UserError

GOOD = "the 0.5 -1e-2 3\n. . . 1 2 3\nfilm 4 5 6\nThe 7 8 9\nfilm 0 0 0\n\N{NO-BREAK SPACE} 1 1 1\n"


@pytest.fixture
def file(tmp_path):
    def written(content):
        path = tmp_path / "vectors.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


def test_words_get_their_own_vectors_and_others_none(file):
    """In another order than the file's; a word with spaces, one that is there twice, and one that
    differs by its case."""
    words = ["film", "nothing", ". . .", "the"]
    for ends in ("\n", "\r\n", " \n"):
        path = file(GOOD.replace("\n", ends))
        assert weights.vector_size(path) == 3
        vectors, known = weights.read_vectors(path, words)
        wanted = [[4, 5, 6], [0, 0, 0], [1, 2, 3], [0.5, -0.01, 3]]
        np.testing.assert_array_equal(vectors, np.array(wanted, np.float32))
        np.testing.assert_array_equal(known, [True, False, True, True])


def test_a_network_starts_from_vectors_and_unknown_words_from_what_they_had(file):
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    kernel = np.ones((2, 2))
    variables = {"params": {"table": {"embedding": table}, "answer": {"kernel": kernel}}}
    start = weights.vectors_start(str(file(GOOD)), ["<pad>", "film", "nothing", "the"], "table")
    new = start["model"](variables)(variables)["params"]
    wanted = [[0, 1, 2], [4, 5, 6], [6, 7, 8], [0.5, -0.01, 3]]
    np.testing.assert_array_equal(new["table"]["embedding"], np.array(wanted, np.float32))
    assert new["table"]["embedding"].dtype == np.float32 and new["answer"]["kernel"] is kernel
    assert weights.vectors_start("", ["film"], "table") == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (GOOD + "plot 1 2\n", "line 7: it has 2 numbers, not 3"),
        (GOOD + "\n", "line 7: it has 0 numbers, not 3"),
        (GOOD.replace("4 5 6", "4 five 6"), "line 3: the numbers of 'film' are not all numbers"),
        (GOOD.replace("4 5 6", "4 nan 6"), "line 3: the numbers of 'film' are not all finite"),
        (GOOD.replace("4 5 6", "4 1e99 6"), "line 3: the numbers of 'film' are not all finite"),
        (GOOD.encode() + b"caf\xe9 1 2 3\n", "line 7: it is not UTF-8"),
        ("the\n", "line 1: it has 0 numbers, not 1"),
        ("", "is empty"),
    ],
)
def test_a_line_that_is_wrong_is_named(file, content, told):
    with pytest.raises(UserError) as found:
        weights.read_vectors(file(content), ["film"])
    assert told in str(found.value) and "\n" not in str(found.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*gone.txt: No such file"):
        weights.vector_size(tmp_path / "gone.txt")
