"""Losses against their formulas in float64, their closed-form gradients, and the theory they come
from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from advdl import losses
from advdl.metrics import Mean
from advdl.nn import replica

REAL_B, FAKE_B = 3 * jax.random.normal(jax.random.key(0), (2, 16))
LOGITS_BK = 3 * jax.random.normal(jax.random.key(1), (16, 5))
LABEL_B = jax.random.randint(jax.random.key(2), (16,), 0, 5)
HUGE = jnp.array([-1e30, -1e4, -200.0, 0.0, 200.0, 1e4, 1e30])


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_is_its_formula(smoothing):
    p = np.exp(np.asarray(LOGITS_BK, np.float64))
    p /= p.sum(1, keepdims=True)
    q = (1 - smoothing) * np.eye(5)[np.asarray(LABEL_B)] + smoothing / 5
    loss_B = jax.jit(losses.cross_entropy, static_argnums=2)(LOGITS_BK, LABEL_B, smoothing)
    assert loss_B.shape == (16,)
    np.testing.assert_allclose(loss_B, -(q * np.log(p)).sum(1), rtol=2e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradient_of_cross_entropy_is_softmax_less_target(smoothing):
    gradient = jax.grad(lambda x: losses.cross_entropy(x, LABEL_B, smoothing).sum())(LOGITS_BK)
    q = (1 - smoothing) * np.eye(5)[np.asarray(LABEL_B)] + smoothing / 5
    np.testing.assert_allclose(gradient, jax.nn.softmax(LOGITS_BK) - q, atol=1e-6)


def test_cross_entropy_of_extreme_logits_is_finite_and_exact():
    logits_BK = jnp.array([[1e4, -1e4, 0.0], [1e30, -1e30, 0.0]])
    np.testing.assert_allclose(
        losses.cross_entropy(logits_BK, jnp.array([1, 1])), [2e4, 2e30], rtol=1e-6
    )
    np.testing.assert_array_equal(losses.cross_entropy(logits_BK, jnp.array([0, 0])), [0, 0])


def test_cross_entropy_takes_any_leading_axes():
    loss_BT = losses.cross_entropy(LOGITS_BK.reshape(4, 4, 5), LABEL_B.reshape(4, 4))
    np.testing.assert_array_equal(loss_BT.ravel(), losses.cross_entropy(LOGITS_BK, LABEL_B))


def test_tokens_behind_a_length_count_for_nothing_whatever_they_are():
    """The mean is over three tokens, and their gradients are those of the three alone."""
    logits, target, length = (
        LOGITS_BK.reshape(4, 4, 5),
        LABEL_B.reshape(4, 4),
        jnp.array([2, 0, 1, 0]),
    )

    def mean(logits, target):
        found = Mean.of(*losses.token_cross_entropy(logits, target, length))
        return found.total / found.count

    counted = np.arange(4)[None] < np.asarray(length)[:, None]
    alone = np.asarray(losses.cross_entropy(logits, target))[counted]
    value, gradient = jax.value_and_grad(mean)(logits, target)
    np.testing.assert_allclose(value, alone.sum() / 3, rtol=1e-6)
    dirty = jax.value_and_grad(mean)(
        jnp.where(counted[..., None], logits, jnp.nan), jnp.where(counted, target, 99)
    )
    np.testing.assert_allclose(dirty[0], value, rtol=1e-6)
    np.testing.assert_allclose(
        np.asarray(gradient)[counted], np.asarray(dirty[1])[counted], rtol=1e-6
    )
    assert not np.asarray(gradient)[~counted].any()


def test_smoothing_of_tokens_is_that_of_labels():
    logits, target = LOGITS_BK.reshape(4, 4, 5), LABEL_B.reshape(4, 4)
    length = jnp.array([2, 0, 1, 4])
    loss, counted = losses.token_cross_entropy(logits, target, length, label_smoothing=0.3)
    wanted = losses.cross_entropy(logits, target, label_smoothing=0.3)
    np.testing.assert_allclose(loss * counted, wanted * counted, rtol=1e-6)
    assert float(abs(loss - losses.cross_entropy(logits, target)).max()) > 0.01


def test_a_label_that_is_no_class_has_no_loss_and_no_gradient():
    label_B = LABEL_B.at[0].set(-1).at[1].set(5)
    np.testing.assert_array_equal(
        jnp.isnan(losses.cross_entropy(LOGITS_BK, label_B)), jnp.arange(16) < 2
    )
    masked = jax.grad(
        lambda x: jnp.where(jnp.arange(16) < 2, 0, losses.cross_entropy(x, label_B)).sum()
    )(LOGITS_BK)
    assert jnp.isfinite(masked).all() and (masked[:2] == 0).all() and (masked[2:] != 0).all()


def test_adversarial_losses_are_their_formulas():
    d_real, d_fake = sigmoid(REAL_B), sigmoid(FAKE_B)
    v = np.log(d_real) + np.log(1 - d_fake)
    np.testing.assert_allclose(losses.value(REAL_B, FAKE_B), v, rtol=1e-5)
    np.testing.assert_allclose(losses.minimax_discriminator(REAL_B, FAKE_B), -v, rtol=1e-5)
    np.testing.assert_allclose(losses.minimax_generator(FAKE_B), np.log(1 - d_fake), rtol=1e-5)
    np.testing.assert_allclose(losses.nonsaturating_generator(FAKE_B), -np.log(d_fake), rtol=1e-5)


def test_adversarial_gradients_are_their_closed_forms():
    d_real, d_fake = sigmoid(REAL_B), sigmoid(FAKE_B)
    wrt = jax.grad(lambda real, fake: losses.minimax_discriminator(real, fake).sum(), (0, 1))(
        REAL_B, FAKE_B
    )
    np.testing.assert_allclose(wrt, (d_real - 1, d_fake), atol=1e-6)

    def slope(loss):
        return jax.vmap(jax.grad(loss))(FAKE_B)

    np.testing.assert_allclose(slope(losses.minimax_generator), -d_fake, atol=1e-6)
    np.testing.assert_allclose(slope(losses.nonsaturating_generator), -(1 - d_fake), atol=1e-6)


def test_the_generators_gradient_saturates_only_as_printed():
    seen_through = -20.0
    assert abs(jax.grad(losses.minimax_generator)(seen_through)) < 1e-8
    assert jax.grad(losses.nonsaturating_generator)(seen_through) == pytest.approx(-1)


@pytest.mark.parametrize(
    "loss",
    [losses.minimax_generator, losses.nonsaturating_generator, lambda x: losses.value(-x, x)],
)
def test_extreme_logits_are_finite_with_finite_gradients(loss):
    assert jnp.isfinite(loss(HUGE)).all()
    assert jnp.isfinite(jax.vmap(jax.grad(loss))(HUGE)).all()


def test_low_precision_logits_are_taken_to_float32():
    assert losses.nonsaturating_generator(FAKE_B.astype(jnp.bfloat16)).dtype == jnp.float32
    assert losses.cross_entropy(LOGITS_BK.astype(jnp.bfloat16), LABEL_B).dtype == jnp.float32


def test_value_of_a_discriminator_that_cannot_tell_is_minus_log_four():
    np.testing.assert_allclose(losses.value(jnp.zeros(3), jnp.zeros(3)), -np.log(4), rtol=1e-6)


def test_the_value_is_highest_at_the_optimal_discriminator_and_there_tells_the_divergence():
    """Proposition 1 and equation 6 on a discrete example, by gradient ascent."""
    p, q = jnp.array([0.5, 0.3, 0.2]), jnp.array([0.1, 0.3, 0.6])

    def v(logit):  # E_p log D + E_q log(1 - D), from the losses of either side
        return (
            -p * losses.nonsaturating_generator(logit) + q * losses.minimax_generator(logit)
        ).sum()

    climb = jax.jit(
        lambda logit: jax.lax.fori_loop(0, 500, lambda _, x: x + 5 * jax.grad(v)(x), logit)
    )
    best = climb(jnp.array([2.0, -1.0, 1.0]))
    np.testing.assert_allclose(jax.nn.sigmoid(best), p / (p + q), atol=1e-4)
    middle = (p + q) / 2
    jsd = (p * jnp.log(p / middle) + q * jnp.log(q / middle)).sum() / 2
    assert float(v(best)) == pytest.approx(float(-jnp.log(4.0) + 2 * jsd), abs=1e-6)


def test_logits_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        losses.minimax_discriminator(REAL_B, FAKE_B[:, None])


PIXELS_BHWK = 3 * jax.random.normal(jax.random.key(3), (2, 4, 5, 6))
MASK_BHW = jax.random.randint(jax.random.key(4), (2, 4, 5), 0, 8).astype(
    jnp.uint8
)  # 6 classes; 6 and 7 are none
WEIGHTS_K = jnp.array([0.2, 1.0, 4.0, 0.5, 8.0, 2.0])


@pytest.mark.parametrize("over", ["pixels", "weights"])
@pytest.mark.parametrize("void", [None, 2, 6])
def test_pixel_cross_entropy_is_its_weighted_sum_over_what_counts(void, over):
    p = np.exp(np.asarray(PIXELS_BHWK, np.float64))
    p /= p.sum(-1, keepdims=True)
    total = count = 0.0
    for place in np.ndindex(2, 4, 5):
        label = int(MASK_BHW[place])
        if label < 6 and label != void:
            weight = float(WEIGHTS_K[label])
            total -= weight * np.log(p[place][label])
            count += 1.0 if over == "pixels" else weight
    loss, weight = losses.pixel_cross_entropy(PIXELS_BHWK, MASK_BHW, void, WEIGHTS_K, over)
    assert loss.shape == weight.shape == (2, 4, 5) and loss.dtype == weight.dtype == jnp.float32
    assert Mean.of(loss, weight).compute() == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("over", ["pixels", "weights"])
def test_without_class_weights_pixels_weigh_the_same(over):
    plain = Mean.of(*losses.pixel_cross_entropy(PIXELS_BHWK, MASK_BHW, over=over)).compute()
    ones = Mean.of(
        *losses.pixel_cross_entropy(PIXELS_BHWK, MASK_BHW, None, jnp.ones(6), over)
    ).compute()
    kept = MASK_BHW < 6
    assert (
        plain
        == pytest.approx(ones)
        == pytest.approx(float(losses.cross_entropy(PIXELS_BHWK[kept], MASK_BHW[kept]).mean()))
    )


@pytest.mark.parametrize("weights", [None, WEIGHTS_K])
@pytest.mark.parametrize("over", ["pixels", "weights"])
def test_void_pixels_change_neither_loss_nor_gradient_whatever_their_logits(over, weights):
    def mean(logits):
        found = Mean.of(*losses.pixel_cross_entropy(logits, MASK_BHW, 2, weights, over))
        return found.total / found.count

    void_BHW = (MASK_BHW >= 6) | (MASK_BHW == 2)
    loss, gradient = jax.value_and_grad(mean)(PIXELS_BHWK)
    assert (
        0 < void_BHW.sum() < void_BHW.size
        and (gradient[void_BHW] == 0).all()
        and (gradient[~void_BHW] != 0).all()
    )
    for value in (jnp.nan, jnp.inf, -jnp.inf, 1e30):
        other, same = jax.value_and_grad(mean)(jnp.where(void_BHW[..., None], value, PIXELS_BHWK))
        assert other == loss
        np.testing.assert_array_equal(same, gradient)


def test_an_image_of_void_has_no_loss_and_no_gradient():
    def total(logits):
        return Mean.of(*losses.pixel_cross_entropy(logits, jnp.full((2, 4, 5), 11), 11)).total

    assert Mean.of(*losses.pixel_cross_entropy(PIXELS_BHWK, jnp.full((2, 4, 5), 11), 11)).count == 0
    assert not jax.grad(total)(PIXELS_BHWK).any()


def test_scores_that_say_the_same_of_every_class_lose_the_logarithm_of_their_number():
    loss, weight = losses.pixel_cross_entropy(
        jnp.zeros((1, 3, 3, 21)), jnp.arange(9).reshape(1, 3, 3)
    )
    np.testing.assert_allclose(loss, np.full((1, 3, 3), np.log(21)), rtol=1e-6)
    assert (weight == 1).all()


def test_masks_and_weights_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit a mask"):
        losses.pixel_cross_entropy(PIXELS_BHWK, MASK_BHW[:, :3])
    with pytest.raises(ValueError, match="class weights"):
        losses.pixel_cross_entropy(PIXELS_BHWK, MASK_BHW, None, jnp.ones(7))
    with pytest.raises(ValueError, match="over is 'mean'"):
        losses.pixel_cross_entropy(PIXELS_BHWK, MASK_BHW, None, None, "mean")


def test_reconstruction_losses_are_their_formulas_per_example():
    x, t = np.random.default_rng(0).random((2, 6, 4, 3, 2))
    logits = jnp.asarray(8 * x - 4)
    p = sigmoid(logits)
    np.testing.assert_allclose(losses.squared_error(x, t), ((x - t) ** 2).sum((1, 2, 3)), rtol=1e-5)
    entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p)).sum((1, 2, 3))
    np.testing.assert_allclose(losses.binary_cross_entropy(logits, t), entropy, rtol=1e-5)
    np.testing.assert_allclose(
        jax.grad(lambda a: losses.binary_cross_entropy(a, t).sum())(logits), p - t, atol=1e-6
    )  # p = t is the minimum


def test_binary_cross_entropy_of_two_pixels_is_cross_entropy_of_two_classes():
    two = jnp.stack([jnp.zeros(16), REAL_B], -1)
    for label in (0, 1):
        one = losses.binary_cross_entropy(REAL_B, jnp.full(16, label, jnp.float32))
        np.testing.assert_allclose(
            one, losses.cross_entropy(two, jnp.full(16, label)), rtol=1e-5, atol=1e-6
        )
    np.testing.assert_array_equal(
        losses.binary_cross_entropy(HUGE, jnp.where(HUGE > 0, 1.0, 0.0))[jnp.array([0, -1])], 0
    )


def test_gaussian_kl_is_the_expected_log_ratio():
    """By SciPy's entropy and densities: KL(q ‖ p) = -H(q) - E_q log p, the expectation by
    Gauss-Hermite quadrature."""
    mean, log_variance = np.random.default_rng(0).normal(size=(2, 5, 3))
    at, weight = np.polynomial.hermite_e.hermegauss(20)
    z = mean[..., None] + np.exp(log_variance / 2)[..., None] * at
    expected = (stats.norm.logpdf(z) * weight).sum(-1) / weight.sum()
    kl = (-stats.norm.entropy(scale=np.exp(log_variance / 2)) - expected).sum(-1)
    np.testing.assert_allclose(losses.gaussian_kl(mean, log_variance), kl, rtol=1e-5)


def test_gaussian_kl_is_zero_at_the_prior_only_and_exact_near_it():
    assert losses.gaussian_kl(jnp.zeros((1, 4)), jnp.zeros((1, 4)))[0] == 0
    near = losses.gaussian_kl(jnp.zeros((1, 1)), jnp.full((1, 1), 1e-2))[0]
    assert near == pytest.approx((np.expm1(1e-2) - 1e-2) / 2, rel=1e-4)
    slope = jax.grad(lambda m, s: losses.gaussian_kl(m, s).sum(), (0, 1))(
        jnp.full((1, 1), 0.3), jnp.full((1, 1), 0.5)
    )
    np.testing.assert_allclose(
        [slope[0][0, 0], slope[1][0, 0]], [0.3, (np.exp(0.5) - 1) / 2], rtol=1e-6
    )


@pytest.mark.parametrize(
    "loss", [losses.squared_error, losses.binary_cross_entropy, losses.gaussian_kl]
)
def test_shapes_that_would_broadcast_are_refused(loss):
    with pytest.raises(ValueError, match="differ in shape"):
        loss(jnp.zeros((4, 3)), jnp.zeros((4, 1)))


def square(x):
    return np.asarray(x, np.float64) ** 2


# name -> (discriminator, generator), of logits in float64; independent of the code
FORMULAS = {
    "nonsaturating": (
        lambda r, f: -np.log(sigmoid(r)) - np.log(1 - sigmoid(f)),
        lambda r, f: -np.log(sigmoid(f)),
    ),
    "minimax": (
        lambda r, f: -np.log(sigmoid(r)) - np.log(1 - sigmoid(f)),
        lambda r, f: np.log(1 - sigmoid(f)),
    ),
    "least_squares": (lambda r, f: (square(r - 1) + square(f)) / 2, lambda r, f: square(f - 1) / 2),
    "hinge": (lambda r, f: np.maximum(0, 1 - r) + np.maximum(0, 1 + f), lambda r, f: -f),
    "wasserstein": (lambda r, f: f - r, lambda r, f: -f),
    "relativistic": (lambda r, f: -np.log(sigmoid(r - f)), lambda r, f: -np.log(sigmoid(f - r))),
}


@pytest.mark.parametrize("name", sorted(losses.ADVERSARIAL))
def test_every_game_is_its_formula_and_its_gradient_the_formulas_slope(name):
    real, fake = np.asarray(REAL_B, np.float64), np.asarray(FAKE_B, np.float64)
    game = losses.ADVERSARIAL[name]
    for ours, formula in zip((game.discriminator, game.generator), FORMULAS[name], strict=True):
        np.testing.assert_allclose(ours(REAL_B, FAKE_B), formula(real, fake), rtol=1e-5, atol=1e-6)
        slopes = jax.grad(lambda r, f, ours=ours: ours(r, f).sum(), (0, 1))(REAL_B, FAKE_B)
        h = 1e-6
        expected = (
            (formula(real + h, fake) - formula(real - h, fake)) / (2 * h),
            (formula(real, fake + h) - formula(real, fake - h)) / (2 * h),
        )
        np.testing.assert_allclose(slopes, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(losses.ADVERSARIAL))
def test_no_game_pairs_each_example_with_all(name):
    with pytest.raises(ValueError, match="differ in shape"):
        losses.ADVERSARIAL[name].discriminator(REAL_B, FAKE_B[:, None])


@pytest.mark.parametrize("t", [0.6, 0.9, 1.0])
def test_smoothed_labels_rest_at_half_of_the_label(t):
    """Data and samples alike: the loss is least where D = t/2."""
    logit = jnp.log(t / (2 - t))

    def loss(logit):
        return losses.minimax_discriminator(logit, logit, t)

    assert jax.grad(loss)(logit) == pytest.approx(0, abs=1e-6)
    assert jax.grad(jax.grad(loss))(logit) > 0
    assert jax.nn.sigmoid(logit) == pytest.approx(t / 2)
    assert losses.minimax_discriminator(1.0, -1.0, t) == pytest.approx(
        -(t * np.log(sigmoid(1)) + (1 - t) * np.log(sigmoid(-1)) + np.log(1 - sigmoid(-1))),
        rel=1e-6,
    )
    # least squares: (D - t)² + D² is least at t/2 too
    assert jax.grad(lambda d: losses.least_squares_discriminator(d, d, t))(t / 2) == pytest.approx(
        0, abs=1e-6
    )


def test_penalties_of_a_quadratic_score_are_their_closed_forms():
    a, x, y = jax.random.normal(jax.random.key(5), (3, 6, 6))
    a = (a + a.T) / 2

    def score(x):
        return jnp.einsum("bi,ij,bj->b", x, a, x) / 2

    np.testing.assert_allclose(losses.r1(score, x), square(x @ a).sum(1), rtol=1e-5)
    key = jax.random.key(6)
    share = replica.sample(jax.random.uniform, key, 6)[:, None]
    norm = np.sqrt(square((share * x + (1 - share) * y) @ a).sum(1))
    np.testing.assert_allclose(
        losses.gradient_penalty(score, x, y, key), square(norm - 1), rtol=1e-4
    )
    assert (
        len(set(np.asarray(share[:, 0]).tolist())) == 6 and (share > 0).all() and (share < 1).all()
    )


def test_penalties_of_a_linear_score_do_not_depend_on_where():
    w = jnp.array([3.0, 4.0])
    x, y = jax.random.normal(jax.random.key(7), (2, 5, 2))
    np.testing.assert_allclose(losses.r1(lambda x: x @ w, x), np.full(5, 25.0), rtol=1e-6)
    np.testing.assert_allclose(
        losses.gradient_penalty(lambda x: x @ w, x, y, jax.random.key(0)),
        np.full(5, 16.0),
        rtol=1e-6,
    )


def test_the_penalty_of_a_flat_score_has_a_gradient():
    """|∇| is not differentiable at 0; there its gradient is taken to be 0 and not NaN."""
    x, y = jax.random.normal(jax.random.key(8), (2, 5, 2))

    def penalty(w):
        return losses.gradient_penalty(lambda x: x @ w, x, y, jax.random.key(0)).sum()

    value, slope = jax.value_and_grad(penalty)(jnp.zeros(2))
    assert value == 5 and (slope == 0).all()


def test_penalties_are_added_by_their_weights_and_cost_nothing_at_0():
    def score(x):
        return jnp.square(x).sum((1, 2, 3)) / 2

    x, fake = jax.random.normal(jax.random.key(0), (2, 3, 2, 2, 1))
    key = jax.random.key(1)
    expected = 0.5 * losses.r1(score, x) + 10 * losses.gradient_penalty(score, x, fake, key)
    expected += 1.5 * losses.r1(score, fake)
    found = losses.penalties(
        score, x, fake, key, r1_weight=1.0, gradient_weight=10.0, r2_weight=3.0
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)

    def never(x):
        raise AssertionError

    np.testing.assert_array_equal(losses.penalties(never, x, fake, key), np.zeros(3))


@pytest.mark.slow
def test_feature_matching_compares_means_over_the_batch_layer_by_layer():
    """As written out; 0 for another batch of the same means; its gradient moves the means alone."""
    real = {"a": jax.random.normal(jax.random.key(3), (4, 3, 2)), "b": LOGITS_BK[:4]}
    fake = {"a": real["a"] * 2 + 1, "b": LOGITS_BK[4:8], "c": REAL_B}
    means = [{name: np.asarray(x[name], np.float64).mean(0) for name in real} for x in (real, fake)]
    expected = sum(np.square(means[0][name] - means[1][name]).mean() for name in real)
    assert losses.feature_matching(real, fake) == pytest.approx(expected, rel=1e-5)
    turned = {name: x[::-1] for name, x in real.items()}
    assert losses.feature_matching(real, turned) == pytest.approx(0, abs=1e-12)
    gradient = jax.grad(lambda x: losses.feature_matching({"a": real["a"]}, {"a": x}))(fake["a"])
    np.testing.assert_allclose(gradient, jnp.broadcast_to(gradient[:1], gradient.shape), atol=1e-7)
    assert float(jnp.abs(gradient).max()) > 1e-3
    with pytest.raises(ValueError, match="differ in shape"):
        losses.feature_matching({"a": real["a"]}, {"a": fake["b"]})
