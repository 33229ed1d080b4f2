"""What is kept when something is translated. Axes: N examples, F factors, D dimensions, K modes."""

import numpy as np


def correlation(a_N: np.ndarray, b_N: np.ndarray) -> float:
    """Pearson's; 0 where one does not vary."""
    return float(np.corrcoef(a_N, b_N)[0, 1]) if a_N.std() > 1e-6 and b_N.std() > 1e-6 else 0.0


def factor_correlations(
    own_NF: np.ndarray, translated_NF: np.ndarray, factors: tuple[str, ...]
) -> dict[str, float]:
    """How the factors in [0, 1] of what was translated go with those of what it was made of.

    Of the first factor, a circle such as the hue, `hue_kept` is the correlation of the angles as
    they are, and `hue_turned_or_mirrored` the best of any turning or mirroring of the circle. Of
    the others each goes with each, `size_with_height`.
    """
    angle = [np.exp(2j * np.pi * factor[:, 0]) for factor in (own_NF, translated_NF)]
    straight, turned = (np.mean(angle[1] * other) for other in (angle[0].conj(), angle[0]))
    found = {
        f"{factors[0]}_kept": float(straight.real),
        f"{factors[0]}_turned_or_mirrored": float(max(abs(straight), abs(turned))),
    }
    for i, name in enumerate(factors[1:], 1):
        for j, other in enumerate(factors[1:], 1):
            found[f"{name}_with_{other}"] = correlation(own_NF[:, i], translated_NF[:, j])
    return found


def mode_targets(
    own_ND: np.ndarray, translated_ND: np.ndarray, from_KD: np.ndarray, to_KD: np.ndarray
) -> int:
    """How many modes at `to_KD` are the one to which most examples of some mode at `from_KD` were
    translated."""

    def mode(points, centers):
        return np.square(points[:, None] - centers).sum(-1).argmin(1)

    own, target = mode(own_ND, from_KD), mode(translated_ND, to_KD)
    return len({int(np.bincount(target[own == k]).argmax()) for k in np.unique(own)})
