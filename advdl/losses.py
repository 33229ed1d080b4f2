"""Pure losses, one value an example (or pixel); averaging is `Mean.of`, which knows the mask.

Everything takes logits, and log-probabilities come from log-softmax and softplus: the logarithm of a computed softmax
or sigmoid is -inf as soon as a network is sure. Computed in float32 at least. Axes: B batch, H height, W width, K classes.

Adversarial losses are those of Goodfellow et al. 2014 (arXiv:1406.2661), D = sigmoid(logit):

    log D = -softplus(-logit)        log(1 - D) = -softplus(logit)
"""

import jax
import jax.numpy as jnp


def cross_entropy(logits_BK: jax.Array, label_B: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """-Σ_k q_k log softmax(logits)_k, (B,), for q = (1 - ε) onehot(label) + ε / K.

    ε = label_smoothing, section 7 of Szegedy et al. 2016 (arXiv:1512.00567); a Python float. Any leading axes in place
    of B. A label outside 0..K-1 gives NaN rather than some other class's loss; mask it.
    """
    log_p_BK = jax.nn.log_softmax(_float(logits_BK))
    classes = log_p_BK.shape[-1]
    index_B = jnp.where(label_B < 0, classes, label_B)  # a negative index would count from the end
    loss_B = -jnp.take_along_axis(log_p_BK, index_B[..., None], axis=-1, mode="fill", fill_value=jnp.nan)[..., 0]
    if label_smoothing:
        loss_B = (1 - label_smoothing) * loss_B - label_smoothing * log_p_BK.mean(-1)
    return loss_B


def pixel_cross_entropy(
    logits_BHWK: jax.Array,
    mask_BHW: jax.Array,
    void: int | None = None,
    class_weights: jax.Array | None = None,
    over: str = "pixels",
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of every pixel and its weight, (B, H, W) each, float32, for `Mean.of(*pixel_cross_entropy(…))`.

    mask_BHW: ids, integers. A pixel counts unless it is void or no class (outside 0..K-1, as void mostly is): its loss and
    weight are then 0, and so is the gradient of its logits, whatever they are. class_weights: w (K,). over: what their
    weighted sum is divided by:
      "pixels": Σ w·loss / number of counted pixels (Caffe's, by which SegNet was trained): the loss given is w·loss, its
        weight 1;
      "weights": Σ w·loss / Σ w over counted pixels (torch's `cross_entropy(weight=w)`): the loss is plain, its weight w.
    Without class weights the two are one. Raises ValueError where shapes do not fit or for another `over`.
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
    # Logits that do not count are replaced before the logarithm, since a gradient of 0 times NaN would be NaN.
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
    """log D(x) + log(1 - D(G(z))), per pair of examples: what equation 1, V(D, G), takes the mean of.

    At its optimum, D = p_data / (p_data + p_g) (proposition 1), V = -log 4 + 2 JSD(p_data ‖ p_g) (equation 6); with
    p_g = p_data that is D = 1/2 everywhere and V = -log 4 = -1.386. V near 0 means a discriminator that is sure and
    right.

    Raises ValueError where the shapes differ (a (B,) and a (B, 1) would make B² pairs).
    """
    real, fake = jnp.shape(real_logit), jnp.shape(fake_logit)
    if real != fake:
        raise ValueError(f"logits of data {real} and of samples {fake} differ in shape")
    return -jax.nn.softplus(-_float(real_logit)) - jax.nn.softplus(_float(fake_logit))


def minimax_discriminator(real_logit: jax.Array, fake_logit: jax.Array) -> jax.Array:
    """-[log D(x) + log(1 - D(G(z)))], per pair of examples: descending it ascends the discriminator's gradient of
    algorithm 1. Twice the mean of the two binary cross-entropies. Raises ValueError where the shapes differ."""
    return -value(real_logit, fake_logit)


def minimax_generator(fake_logit: jax.Array) -> jax.Array:
    """log(1 - D(G(z))), per example: what the generator descends in algorithm 1, as printed.

    Its derivative by the logit is -D(G(z)), which vanishes where the discriminator sees through the samples
    (section 3).
    """
    return -jax.nn.softplus(_float(fake_logit))


def nonsaturating_generator(fake_logit: jax.Array) -> jax.Array:
    """-log D(G(z)), per example: what the generator descends in practice, the second objective of section 3.

    Its derivative by the logit is -(1 - D(G(z))): the same fixed point, and strongest where the discriminator sees
    through the samples.
    """
    return jax.nn.softplus(-_float(fake_logit))


def squared_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Σ (prediction - target)² over all axes but the first, (B,). Raises ValueError where the shapes differ."""
    _same("prediction", prediction, "target", target)
    return _per_example(jnp.square(_float(prediction) - _float(target)))


def binary_cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
    """-Σ t log p + (1 - t) log(1 - p), p = sigmoid(logits), over all axes but the first, (B,).

    With t in [0, 1]; with t in {0, 1} it is the negative log-likelihood of a Bernoulli decoder (Kingma & Welling 2013,
    appendix C.1). Raises ValueError where the shapes differ.
    """
    _same("logits", logits, "target", target)
    logits = _float(logits)
    return _per_example(jax.nn.softplus(logits) - _float(target) * logits)


def gaussian_kl(mean_BZ: jax.Array, log_variance_BZ: jax.Array) -> jax.Array:
    """KL(N(mean, diag exp(log_variance)) ‖ N(0, I)) = 1/2 Σ_z (mean² + variance - 1 - log variance), (B,).

    Kingma & Welling 2013 (arXiv:1312.6114), appendix B. Raises ValueError where the shapes differ.
    """
    _same("mean", mean_BZ, "log variance", log_variance_BZ)
    mean, log_variance = _float(mean_BZ), _float(log_variance_BZ)
    # expm1: near the prior, exp(l) - 1 - l would be the difference of nearly equal terms
    return _per_example(jnp.square(mean) + jnp.expm1(log_variance) - log_variance) / 2


def _same(one: str, a: jax.Array, other: str, b: jax.Array) -> None:
    if jnp.shape(a) != jnp.shape(b):
        raise ValueError(f"{one} {jnp.shape(a)} and {other} {jnp.shape(b)} differ in shape")


def _per_example(x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1).sum(1)


def _float(x: jax.Array) -> jax.Array:
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
