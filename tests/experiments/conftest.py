"""Experiments are run to see what they do, not how well: evaluations are short."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def evaluations(few_examples):
    """See `few_examples`; a test takes `all_examples` where it is about them."""
