"""A verdict over seeds: figures against bounds that were fixed before."""

from collections.abc import Mapping, Sequence


def verdict(
    name: str,
    figures: Mapping[str, Sequence[float]],
    at_least: Mapping[str, float],
    at_most: Mapping[str, float],
) -> str:
    """Whether the worst of every figure, which has a number for each seed, keeps its bound, in a
    sentence; a bound of a figure that is not there does not count."""
    said, holds, seeds = [], True, 0
    for bounds, worst_of, words in ((at_least, min, "at least"), (at_most, max, "at most")):
        for figure, bound in bounds.items():
            if figure in figures:
                worst, seeds = worst_of(figures[figure]), len(figures[figure])
                kept = worst >= bound if worst_of is min else worst <= bound
                holds &= kept
                said.append(f"{figure} {worst:.3g} ({words} {bound:g}{'' if kept else ', missed'})")
    return f"{name} {'passes' if holds else 'fails'}; worst of {seeds}: {', '.join(said)}."
