"""Pure losses, one value an example (or pixel); averaging is `Mean.of`, which knows the mask.

Everything takes logits, and log-probabilities come from log-softmax and softplus: the logarithm of
a computed softmax or sigmoid is -inf as soon as a network is sure. Computed in float32 at least.
Axes: B batch, H height, W width, K classes.

Adversarial losses are those of Goodfellow et al. 2014 (arXiv:1406.2661), D = sigmoid(logit):

    log D = -softplus(-logit)        log(1 - D) = -softplus(logit)

and those that came after, whose D is the logit itself. `ADVERSARIAL` has the pairs by name.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from advdl.errors import UserError
from advdl.nn import replica, softmax_cross_entropy

Score = Callable[[jax.Array], jax.Array]


def cross_entropy(
    logits_BK: jax.Array, label_B: jax.Array, label_smoothing: float = 0.0
) -> jax.Array:
    """-Σ_k q_k log softmax(logits)_k, (B,), for q = (1 - ε) onehot(label) + ε / K.

    ε = label_smoothing, section 7 of Szegedy et al. 2016 (arXiv:1512.00567); a Python float. Any
    leading axes in place of B. A label outside 0..K-1 gives NaN rather than some other class's
    loss; mask it.
    """
    return softmax_cross_entropy(_float(logits_BK), jnp.asarray(label_B), label_smoothing)


def token_cross_entropy(
    logits_BTV: jax.Array,
    target_BT: jax.Array,
    length_B: jax.Array,
    label_smoothing: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of every token of sequences and whether it counts, (B, T) each, float32, for
    `Mean.of(*token_cross_entropy(…))`, which is a mean over the first `length` tokens of each,
    whatever the padding holds. B may be several axes. label_smoothing: see `cross_entropy`."""
    place_BT = jax.lax.broadcasted_iota(length_B.dtype, target_BT.shape, target_BT.ndim - 1)
    counted_BT = (place_BT < length_B[..., None]).astype(jnp.float32)
    target_BT = jnp.where(counted_BT > 0, target_BT, 0)
    return cross_entropy(logits_BTV, target_BT, label_smoothing), counted_BT


def pixel_cross_entropy(
    logits_BHWK: jax.Array,
    mask_BHW: jax.Array,
    void: int | None = None,
    class_weights: jax.Array | Sequence[float] | None = None,
    over: str = "pixels",
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of every pixel and its weight, (B, H, W) each, float32, for
    `Mean.of(*pixel_cross_entropy(…))`.

    mask_BHW: ids, integers. A pixel counts unless it is void or no class (outside 0..K-1, as void
    mostly is): its loss and weight are then 0, and so is the gradient of its logits, whatever they
    are. class_weights: w (K,). over: what their weighted sum is divided by:
      "pixels": Σ w·loss / number of counted pixels (Caffe's, by which SegNet was trained): the loss
        given is w·loss, its weight 1;
      "weights": Σ w·loss / Σ w over counted pixels (torch's `cross_entropy(weight=w)`): the loss is
      plain, its weight w.
    Without class weights the two are one. Raises ValueError where shapes do not fit or for another
    `over`.
    """
    classes = logits_BHWK.shape[-1]
    if logits_BHWK.shape[:-1] != mask_BHW.shape:
        raise ValueError(f"logits {logits_BHWK.shape} do not fit a mask {mask_BHW.shape}")
    if over not in ("pixels", "weights"):
        raise ValueError(f"over is {over!r}; expected 'pixels' or 'weights'")
    mask_BHW = mask_BHW.astype(jnp.int32)
    counted_BHW = (mask_BHW >= 0) & (mask_BHW < classes)
    if void is not None:
        counted_BHW &= mask_BHW != void
    class_BHW = jnp.where(counted_BHW, mask_BHW, 0)
    # Logits that do not count are replaced before the logarithm, since a gradient of 0 times NaN
    # would be NaN.
    loss_BHW = cross_entropy(jnp.where(counted_BHW[..., None], logits_BHWK, 0), class_BHW)
    weight_BHW = counted_BHW.astype(loss_BHW.dtype)
    if class_weights is None:
        return loss_BHW * weight_BHW, weight_BHW
    class_weights = jnp.asarray(class_weights, loss_BHW.dtype)
    if class_weights.shape != (classes,):
        raise ValueError(f"class weights {class_weights.shape} for {classes} classes")
    weighted_BHW = weight_BHW * class_weights[class_BHW]
    if over == "weights":
        return loss_BHW * weight_BHW, weighted_BHW
    return loss_BHW * weighted_BHW, weight_BHW


def value(real_logit: jax.Array, fake_logit: jax.Array) -> jax.Array:
    """log D(x) + log(1 - D(G(z))), per pair of examples: what equation 1, V(D, G), takes the mean
    of.

    At its optimum, D = p_data / (p_data + p_g) (proposition 1), V = -log 4 + 2 JSD(p_data ‖ p_g)
    (equation 6); with p_g = p_data that is D = 1/2 everywhere and V = -log 4 = -1.386. V near 0
    means a discriminator that is sure and right.

    Raises ValueError where the shapes differ (a (B,) and a (B, 1) would make B² pairs).
    """
    _same("logits of data", real_logit, "of samples", fake_logit)
    return -jax.nn.softplus(-_float(real_logit)) - jax.nn.softplus(_float(fake_logit))


def minimax_discriminator(
    real_logit: jax.Array, fake_logit: jax.Array, real_label: float = 1.0
) -> jax.Array:
    """-[t log D(x) + (1 - t) log(1 - D(x)) + log(1 - D(G(z)))], t = real_label, per pair of
    examples.

    With t = 1 descending it ascends the discriminator's gradient of algorithm 1. Twice the mean of
    the two binary cross-entropies. t < 1 is one-sided label smoothing (section 3.4 of Salimans et
    al. 2016, arXiv:1606.03498): the optimum moves to D = t·p_data / (p_data + p_g), so to t/2 where
    p_g = p_data. Raises ValueError where the shapes differ.
    """
    # -t log D - (1 - t) log(1 - D) = -log D + (1 - t)·logit
    return -value(real_logit, fake_logit) + (1 - real_label) * _float(real_logit)


def minimax_generator(fake_logit: jax.Array) -> jax.Array:
    """log(1 - D(G(z))), per example: what the generator descends in algorithm 1, as printed.

    Its derivative by the logit is -D(G(z)), which vanishes where the discriminator sees through the
    samples (section 3).
    """
    return -jax.nn.softplus(_float(fake_logit))


def nonsaturating_generator(fake_logit: jax.Array) -> jax.Array:
    """-log D(G(z)), per example: what the generator descends in practice, the second objective of
    section 3.

    Its derivative by the logit is -(1 - D(G(z))): the same fixed point, and strongest where the
    discriminator sees through the samples.
    """
    return jax.nn.softplus(-_float(fake_logit))


def least_squares_discriminator(
    real_logit: jax.Array, fake_logit: jax.Array, real_label: float = 1.0
) -> jax.Array:
    """1/2 (D(x) - t)² + 1/2 D(G(z))², t = real_label, per pair of examples; D is the logit itself.

    Equation 9 of Mao et al. 2017 (arXiv:1611.04076): labels 0 and 1. Raises ValueError where the
    shapes differ.
    """
    _same("logits of data", real_logit, "of samples", fake_logit)
    return (jnp.square(_float(real_logit) - real_label) + jnp.square(_float(fake_logit))) / 2


def least_squares_generator(fake_logit: jax.Array) -> jax.Array:
    """1/2 (D(G(z)) - 1)², per example (Mao et al. 2017, equation 9)."""
    return jnp.square(_float(fake_logit) - 1) / 2


def hinge_discriminator(real_logit: jax.Array, fake_logit: jax.Array) -> jax.Array:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))), per pair of examples; D is the logit itself.

    Equation 16 of Miyato et al. 2018 (arXiv:1802.05957), after Lim and Ye 2017. Raises ValueError
    where the shapes differ.
    """
    _same("logits of data", real_logit, "of samples", fake_logit)
    return jax.nn.relu(1 - _float(real_logit)) + jax.nn.relu(1 + _float(fake_logit))


def wasserstein_discriminator(real_logit: jax.Array, fake_logit: jax.Array) -> jax.Array:
    """D(G(z)) - D(x), per pair of examples; D is the logit itself, a critic that has to be
    Lipschitz: add `gradient_penalty` (Gulrajani et al. 2017, arXiv:1704.00028, equation 3), or clip
    its parameters (Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1). Raises ValueError where
    the shapes differ."""
    _same("logits of data", real_logit, "of samples", fake_logit)
    return _float(fake_logit) - _float(real_logit)


def wasserstein_generator(fake_logit: jax.Array) -> jax.Array:
    """-D(G(z)), per example: of the Wasserstein and of the hinge loss."""
    return -_float(fake_logit)


def relativistic_discriminator(real_logit: jax.Array, fake_logit: jax.Array) -> jax.Array:
    """-log sigmoid(C(x) - C(G(z))), per pair of examples: is the data more real than the sample it
    is paired with?

    RSGAN, section 4.1 of Jolicoeur-Martineau 2018 (arXiv:1807.00734). Raises ValueError where the
    shapes differ.
    """
    _same("logits of data", real_logit, "of samples", fake_logit)
    return jax.nn.softplus(_float(fake_logit) - _float(real_logit))


def feature_matching(real: Mapping[str, jax.Array], fake: Mapping[str, jax.Array]) -> jax.Array:
    """Σ_l mean (E f_l(x) - E f_l(G(z)))², a number: how far the means over the batch of a
    discriminator's features of samples, (B, …) by name, are from those of data (Salimans et al.
    2016, arXiv:1606.03498, section 3.1, there of one layer). Raises KeyError where a name is
    missing, ValueError where shapes differ."""

    def apart(name):
        _same("features of data", real[name], "of samples", fake[name])
        means = (replica.mean(_float(x[name]).mean(0)) for x in (real, fake))
        return jnp.square(jnp.subtract(*means)).mean()

    return jnp.float32(0) + sum(map(apart, real))


class Adversarial(NamedTuple):
    """The two sides of a game, each called with the logits of data and of samples, (B,) each; (B,)
    values come back.

    smooth: whether `discriminator` takes `real_label` too.
    """

    discriminator: Callable[..., jax.Array]
    generator: Callable[[jax.Array, jax.Array], jax.Array]
    smooth: bool = False


def _of_samples(
    loss: Callable[[jax.Array], jax.Array],
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return lambda real_logit, fake_logit: loss(fake_logit)


ADVERSARIAL: dict[str, Adversarial] = {
    "nonsaturating": Adversarial(
        minimax_discriminator, _of_samples(nonsaturating_generator), smooth=True
    ),
    "minimax": Adversarial(minimax_discriminator, _of_samples(minimax_generator), smooth=True),
    "least_squares": Adversarial(
        least_squares_discriminator, _of_samples(least_squares_generator), smooth=True
    ),
    "hinge": Adversarial(hinge_discriminator, _of_samples(wasserstein_generator)),
    "wasserstein": Adversarial(wasserstein_discriminator, _of_samples(wasserstein_generator)),
    "relativistic": Adversarial(
        relativistic_discriminator, lambda real, fake: relativistic_discriminator(fake, real)
    ),
}


def adversarial(name: str, real_label: float = 1.0) -> Adversarial:
    """The pair of this name in `ADVERSARIAL`, with `real_label` as the label of data.

    Raises UserError for a label other than 1 where the discriminator's loss has no labels.
    """
    game = ADVERSARIAL[name]
    if real_label == 1:
        return game
    if not game.smooth:
        raise UserError(f"--real-label is for the losses that have labels; --loss {name} has none")
    return game._replace(discriminator=functools.partial(game.discriminator, real_label=real_label))


def r1(score: Score, x: jax.Array) -> jax.Array:
    """|∇_x score(x)|², (B,): the penalty R1 of Mescheder et al. 2018 (arXiv:1801.04406, equation 9)
    at weight γ = 2.

    score: (B, …) -> (B,), the score of each example a function of that example alone. What is taken
    is the gradient of the sum of all scores; under batch normalization, where every score depends
    on all examples, that is no example's own gradient and not this penalty.
    """
    gradient = jax.grad(lambda x: score(x).astype(jnp.float32).sum())(x)
    return _per_example(jnp.square(_float(gradient)))


def gradient_penalty(score: Score, real: jax.Array, fake: jax.Array, key: jax.Array) -> jax.Array:
    """(|∇ score(x̂)| - 1)², (B,), for x̂ at an even random place between each example and its
    sample: the penalty of equation 3 of Gulrajani et al. 2017 (arXiv:1704.00028). score: as for
    `r1`, hence without batch normalization (section 4, "No critic batch normalization"). Raises
    ValueError where the shapes differ."""
    _same("data", real, "samples", fake)
    share_B = replica.sample(jax.random.uniform, key, len(real))
    share = share_B.reshape(-1, *[1] * (real.ndim - 1)).astype(real.dtype)
    square_B = r1(score, share * real + (1 - share) * fake)
    # The norm's derivative at 0 is taken to be 0 (not NaN).
    norm_B = jnp.where(square_B > 0, jnp.sqrt(jnp.where(square_B > 0, square_B, 1)), 0)
    return jnp.square(norm_B - 1)


def penalties(
    score: Score,
    real: jax.Array,
    fake: jax.Array,
    key: jax.Array,
    r1_weight: float = 0.0,
    gradient_weight: float = 0.0,
    r2_weight: float = 0.0,
) -> jax.Array:
    """γ₁/2·|∇ score(x)|² + γ₂/2·|∇ score(G(z))|² + λ·(|∇ score(x̂)| - 1)², (B,): `r1` of data at
    weight γ₁ = r1_weight, the same of samples (R2 of Mescheder et al. 2018) at γ₂ = r2_weight, and
    `gradient_penalty` between both at λ = gradient_weight, of which one whose weight is 0 is not
    computed. key: of the places x̂."""
    total = jnp.zeros(len(real))
    if r1_weight:
        total += r1_weight / 2 * r1(score, real)
    if r2_weight:
        total += r2_weight / 2 * r1(score, fake)
    if gradient_weight:
        total += gradient_weight * gradient_penalty(score, real, fake, key)
    return total


def squared_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Σ (prediction - target)² over all axes but the first, (B,). Raises ValueError where the
    shapes differ."""
    _same("prediction", prediction, "target", target)
    return _per_example(jnp.square(_float(prediction) - _float(target)))


def mean_squared_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """The mean of (prediction - target)² over all axes but the first, (B,). Raises ValueError where
    the shapes differ."""
    return squared_error(prediction, target) / prediction[0].size


def binary_cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
    """-Σ t log p + (1 - t) log(1 - p), p = sigmoid(logits), over all axes but the first, (B,).

    With t in [0, 1]; with t in {0, 1} it is the negative log-likelihood of a Bernoulli decoder
    (Kingma & Welling 2013, appendix C.1). Raises ValueError where the shapes differ.
    """
    _same("logits", logits, "target", target)
    logits = _float(logits)
    return _per_example(jax.nn.softplus(logits) - _float(target) * logits)


def gaussian_kl(mean_BZ: jax.Array, log_variance_BZ: jax.Array) -> jax.Array:
    """KL(N(mean, diag exp(log_variance)) ‖ N(0, I)) = 1/2 Σ_z (mean² + variance - 1 - log
    variance), (B,).

    Kingma & Welling 2013 (arXiv:1312.6114), appendix B. Raises ValueError where the shapes differ.
    """
    _same("mean", mean_BZ, "log variance", log_variance_BZ)
    mean, log_variance = _float(mean_BZ), _float(log_variance_BZ)
    # expm1: near the prior, exp(l) - 1 - l would be the difference of nearly equal terms
    return _per_example(jnp.square(mean) + jnp.expm1(log_variance) - log_variance) / 2


def masked_l1(made_BHWC: jax.Array, target_BHWC: jax.Array, mask_BHW: jax.Array) -> jax.Array:
    """Mean over pixels and channels of |made - target|·(1 + mask), (B,): the pose mask loss of
    Ma et al. 2017 (arXiv:1705.09368, equation 1)."""
    error = jnp.abs(made_BHWC.astype(jnp.float32) - target_BHWC) * (1 + mask_BHW[..., None])
    return error.mean((1, 2, 3))


def ctc(
    logits_BTK: jax.Array,
    frames_B: jax.Array,
    label_BL: jax.Array,
    label_length_B: jax.Array,
    zero_infinity: bool = False,
) -> jax.Array:
    """-log of the probability of the labels, over all paths that say them, (B,), in nats; at least
    0. Graves et al. 2006 (ICML), section 4.1; by Optax. Behind its frames, what the logits hold has
    no effect. Label 0 is the blank.

    A string that needs more frames than there are (`ctc_frames`) has probability 0 and a loss of
    1e5, which stands for infinity and swamps a mean. zero_infinity: its loss and gradient are 0
    instead, as by PyTorch's flag; count such strings.
    """

    def behind(length, size):
        return (jnp.arange(size)[None] >= length[:, None]).astype(jnp.float32)

    paddings = behind(frames_B, logits_BTK.shape[1]), behind(label_length_B, label_BL.shape[1])
    logits = jnp.where(paddings[0][..., None] > 0, 0, _float(logits_BTK))
    loss_B = jnp.maximum(optax.ctc_loss(logits, paddings[0], label_BL, paddings[1]), 0)
    return (
        jnp.where(ctc_frames(label_BL, label_length_B) <= frames_B, loss_B, 0)
        if zero_infinity
        else loss_B
    )


def ctc_frames(label_BL: jax.Array, label_length_B: jax.Array) -> jax.Array:
    """The fewest frames in which CTC can say the labels, int32 (B,): one for each, and one for the
    blank between equal neighbors."""
    label_BL, length_B = jnp.asarray(label_BL), jnp.asarray(label_length_B, jnp.int32)
    inside = jnp.arange(1, label_BL.shape[1])[None] < length_B[:, None]
    return length_B + ((label_BL[:, 1:] == label_BL[:, :-1]) & inside).sum(1, dtype=jnp.int32)


def _same(one: str, a: jax.Array, other: str, b: jax.Array) -> None:
    if jnp.shape(a) != jnp.shape(b):
        raise ValueError(f"{one} {jnp.shape(a)} and {other} {jnp.shape(b)} differ in shape")


def _per_example(x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1).sum(1)


def _float(x: jax.Array) -> jax.Array:
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
