"""How far one distribution is from another where both are known or can be sampled at will:
divergences, modes.

Logarithms are natural, so divergences are in nats. Axes: B batch, N cells or points, D dimensions,
K modes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

if TYPE_CHECKING:
    from advdl.data import Mixture


def js_divergence(p_N: ArrayLike, q_N: ArrayLike) -> float:
    """Jensen-Shannon divergence of two histograms, KL(p ‖ m)/2 + KL(q ‖ m)/2 with m = (p + q)/2, in
    [0, log 2].

    p_N, q_N: weights of the same cells, normalized here; of densities on an even grid it is the
    quadrature. NaN where one has no weight at all.
    """
    p, q = (np.asarray(weights, np.float64) for weights in (p_N, q_N))
    if not (p.sum() > 0 and q.sum() > 0):
        return float("nan")
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    return float(sum(x[x > 0] @ np.log(x[x > 0] / middle[x > 0]) for x in (p, q)) / 2)


def optimal_discriminator(p_N: np.ndarray, q_N: np.ndarray, real_label: float = 1.0) -> np.ndarray:
    """t·p/(p + q), the best D at points where the data has density p and the generator q
    (Goodfellow et al. 2014, proposition 1), with data labeled t, that is 1 but for one-sided label
    smoothing (Salimans et al. 2016, section 3.4)."""
    p, q = (np.asarray(density, np.float64) for density in (p_N, q_N))
    return real_label * p / (p + q)


def optimal_value(p_N: np.ndarray, q_N: np.ndarray) -> float:
    """V of that D, -log 4 + 2 JSD(p ‖ q) (equation 6), of densities on an even grid."""
    return -np.log(4) + 2 * js_divergence(p_N, q_N)


def discriminator_errors(
    d_N: np.ndarray, p_N: np.ndarray, q_N: np.ndarray, step: float, real_label: float = 1.0
) -> dict[str, float]:
    """How far a discriminator is from the best one, d at places `step` apart on the line.

    `d_error`: the mean |D - best| over points of both, see `optimal_discriminator`. `d_mean`: the
    mean D over them. `value_error`, of the label 1: how far V is off equation 6, by quadrature.
    """
    d = np.asarray(d_N, np.float64)
    weight, best = (p_N + q_N) / (p_N + q_N).sum(), optimal_discriminator(p_N, q_N, real_label)
    found = {"d_error": float(weight @ np.abs(d - best)), "d_mean": float(weight @ d)}
    if real_label == 1:
        value = (p_N @ np.log(d) + q_N @ np.log1p(-d)) * step
        found["value_error"] = float(abs(value - optimal_value(p_N, q_N)))
    return found


def wasserstein_1(a_N: np.ndarray, b_N: np.ndarray) -> float:
    """The Wasserstein-1 distance of two samples of numbers, as many in each: the mean distance in
    order. Raises ValueError where they are not as many, or not numbers."""
    a, b = (np.asarray(sample, np.float64) for sample in (a_N, b_N))
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(
            f"samples of shapes {a.shape} and {b.shape}; two of one shape (N,) are needed"
        )
    return float(np.abs(np.sort(a) - np.sort(b)).mean())


@flax.struct.dataclass
class Divergence:
    """Counts of data and of samples in the same cells, int32 (N,) each, that compute
    `js_divergence`. They merge."""

    data: jax.Array
    samples: jax.Array

    @classmethod
    def of(
        cls,
        data_B: jax.Array,
        samples_B: jax.Array,
        edges: Sequence[float],
        mask: jax.Array | None = None,
    ) -> "Divergence":
        """Of numbers, in cells between ascending edges; the outermost cells reach to infinity. mask
        (B,): 0 leaves a number of each out."""
        inner = jnp.asarray(edges)[1:-1]
        keep = 1 if mask is None else (mask != 0).astype(jnp.int32)

        def count(x_B):
            return (
                jnp.zeros(len(edges) - 1, jnp.int32)
                .at[jnp.searchsorted(inner, x_B, side="right")]
                .add(keep)
            )

        return cls(count(data_B), count(samples_B))

    def compute(self) -> float:
        """Nats, on the host."""
        return js_divergence(self.data, self.samples)


@flax.struct.dataclass
class Modes:
    """Samples by the mode they belong to, `counts` (K,), and all samples, `total` (), int32;
    `figure`, one of `mode_figures`, is what it computes. They merge."""

    counts: jax.Array
    total: jax.Array
    figure: str = flax.struct.field(pytree_node=False)

    def compute(self) -> float:
        """The figure of everything counted, on the host."""
        return mode_figures(self.counts, self.total)[self.figure]


def mode_metrics(
    samples_BD: jax.Array, centers_KD: Any, deviation: float, mask: jax.Array | None = None
) -> dict[str, Modes]:
    """Mergeable: `mode_figures` of samples, each belonging to the nearest center if that is within
    3 deviations, else to none. mask (B,): 0 leaves a sample out."""
    square_BK = jnp.square(
        samples_BD[:, None] - jnp.asarray(centers_KD, samples_BD.dtype)[None]
    ).sum(-1)
    keep_B = jnp.ones(len(samples_BD), bool) if mask is None else mask != 0
    near_B = keep_B & (square_BK.min(1) <= (3 * deviation) ** 2)
    counts = (
        jnp.zeros(len(centers_KD), jnp.int32).at[square_BK.argmin(1)].add(near_B.astype(jnp.int32))
    )
    total = keep_B.sum(dtype=jnp.int32)
    return {figure: Modes(counts, total, figure) for figure in MODE_FIGURES}


def distribution_metrics(
    mixture: "Mixture", real_BD: jax.Array, fake_BD: jax.Array, mask: jax.Array | None = None
) -> dict[str, Any]:
    """Mergeable: how near samples are to data of a known distribution. On the line `jsd`, by counts
    in 80 cells within 4 deviations of the mean; elsewhere `mode_metrics` of the samples."""
    if mixture.centers_KD.shape[1] > 1:
        return mode_metrics(fake_BD, mixture.centers_KD, mixture.deviation, mask)
    edges = tuple(mixture.places(4, 81))
    return {"jsd": Divergence.of(real_BD[:, 0], fake_BD[:, 0], edges, mask)}


MODE_FIGURES = ("modes", "high_quality", "reverse_kl")


def mode_figures(counts_K: Any, total: Any) -> dict[str, float]:
    """By the rule of Srivastava et al. 2017 (VEEGAN) and Lin et al. 2018 (PacGAN), who draw 2,500
    samples: `modes` that have a sample within 3 deviations; `high_quality`, the share of samples
    that are within 3 of some mode; `reverse_kl` of these samples' shares of the modes from equal
    ones, Σ s log(K s), at most log K, which it also is where there are none."""
    counts = np.asarray(counts_K, np.float64)
    total, inside = float(total), counts.sum()
    share = counts[counts > 0] / max(inside, 1)
    return {
        "modes": float((counts > 0).sum()),
        "high_quality": inside / total if total else float("nan"),
        "reverse_kl": float(share @ np.log(len(counts) * share))
        if inside
        else float(np.log(len(counts))),
    }
