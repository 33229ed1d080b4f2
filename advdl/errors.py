"""The errors that a person can correct, each reported in one line."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class UserError(Exception):
    """A mistake that the person at the keyboard can mend.

    Its text is one line: what was given, what was expected, what to do. The command line prints it
    and exits with status 2; nothing is written over. A traceback is for our own defects.
    """

    def __init__(self, text: str):
        super().__init__(" ".join(str(text).split()))


def nearest(word: str, known: Iterable[str], count: int = 3) -> str:
    """`" (nearest: a, b)"`, the known words closest to `word`, or `""` where none is close; for the
    end of an error."""
    close = difflib.get_close_matches(word, list(known), n=count, cutoff=0.4)
    return f" (nearest: {', '.join(close)})" if close else ""


@contextlib.contextmanager
def as_user_error(advice: str) -> Iterator[None]:
    """Turns a ValueError from inside into a UserError that ends with what to do."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{error}; {advice}") from error
