"""Every value of a recipe that carries a paper's name, beside its source. Values without a source
(how often a run is saved, or evaluated) are not here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advdl.models import goodfellow

# github.com/Newmu/dcgan_code, faces/train_uncond_dcgan.py
DCGAN = dict(
    validation=0.0,  # none
    network="dcgan",
    image_size=64,  # npx
    width=128,  # ngf, ndf
    z=100,  # nz
    noise="unit-uniform",  # np_rng.uniform(-1., 1.)
    loss="nonsaturating",  # bce of (p_real, 1), (p_gen, 0); for G of (p_gen, 1)
    real_label=1.0,
    joint=False,  # discrim(X) and discrim(gX) apart
    batch=128,  # nbatch
    optimizer="adam",  # updates.Adam
    betas=(0.5, 0.999),  # b1; the default b2
    learning_rate=2e-4,  # lr, of both
    discriminator_learning_rate=0.0,  # the same
    schedule="constant",  # niter_decay = 0
    weight_decay=1e-5,  # l2
    clip=0.0,  # clipnorm
    discriminator_steps=1,  # k
    # niter passes over ntrain; every second batch is D's
    steps=round(25 * 350_000 / 128 / 2 / 10) * 10,
    ema=0.0,  # none
    r1=0.0,
    gradient_penalty=0.0,
    critic_clip=0.0,
    spectral=False,
    augment="",  # none
)

# github.com/pfnet-research/sngan_projection: configs/sn_cifar10_unconditional.yml, updater.py,
# train.py
SNGAN = dict(
    data="tfds:cifar10",  # dataset_name: CIFAR10Dataset
    validation=0.0,  # none
    network="resnet",  # gen_models/resnet_32.py, dis_models/snresnet_32.py
    width=64,  # ch: 256 of G is four of these, ch: 128 of D two
    z=128,  # dim_z
    noise="normal",  # distribution="normal"
    conditional=False,  # conditional: False
    spectral=True,  # SNConvolution2D, SNLinear
    loss="hinge",  # loss_type: hinge
    batch=64,  # batchsize
    generator_batches=2,  # n_gen_samples: 128
    discriminator_steps=5,  # n_dis
    optimizer="adam",
    betas=(0.0, 0.9),  # beta1, beta2
    learning_rate=2e-4,  # alpha, of both
    discriminator_learning_rate=0.0,  # the same
    schedule="poly",
    power=1.0,
    warmup=0,  # LinearShift from iteration_decay_start: 0
    steps=50_000,  # iteration
    weight_decay=0.0,
    clip=0.0,
    ema=0.0,
    r1=0.0,
    gradient_penalty=0.0,
    critic_clip=0.0,
    augment="",
    joint=False,  # none
)

# github.com/goodfeli/adversarial: mnist.yaml and AdversaryCost2 of __init__.py
GOODFELLOW = dict(
    data="tfds:mnist",
    validation=1 / 6,  # 10,000 of 60,000
    network="mlp",
    width=1200,  # dim of h0 and h1
    z=100,  # nvis of the generator
    noise="uniform",  # noise: 'uniform'
    loss="nonsaturating",  # g_obj = cost(y1, y_hat0)
    real_label=1.0,  # y1 = 1
    batch=100,  # batch_size
    optimizer="momentum",  # learning_rule.Momentum
    learning_rate=0.1,  # learning_rate
    discriminator_learning_rate=0.05,  # d_obj = 0.5 * (cost + cost)
    momentum=(0.5, 0.7),  # init_momentum, final_momentum
    momentum_steps=125_000,  # saturate: 250 epochs of 50,000 / 100 updates
    rate_divisor=1.000004,  # ExponentialDecay: decay_factor
    schedule="constant",
    warmup=0,  # no other
    discriminator_steps=1,  # one SGD
    conditional=False,
    weight_decay=0.0,
    clip=0.0,
    ema=0.0,
    r1=0.0,
    gradient_penalty=0.0,
    critic_clip=0.0,
    augment="",  # none
)

# github.com/SKTBrain/DiscoGAN: discogan/image_translation.py, script.sh
DISCOGAN = dict(
    image_size=64,  # image_size
    width=64,  # model.py
    norm="batch",  # BatchNorm2d
    batch=500,  # script.sh
    learning_rate=2e-4,  # learning_rate, of both
    discriminator_learning_rate=0.0,  # the same
    schedule="constant",
    weight_decay=1e-5,  # of optim_gen and optim_dis
    reconstruction=0.25,  # weight 1 of the mean square error of pixels in [0, 1]
    r1=0.0,
    clip=0.0,
    ema=0.0,  # none
)

# Huang et al. 2024 (arXiv:2501.05441): the objective, and what their title calls tricks, left out
R3GAN = dict(
    loss="relativistic",
    r1=1.0,
    r2=1.0,
    normalization=False,
    spectral=False,
    augment="",
    gradient_penalty=0.0,
    critic_clip=0.0,
    discriminator_steps=1,
    real_label=1.0,
)

# github.com/junyanz/iGAN: train_dcgan/train_predict_z.py, shoes_64 of train_dcgan_config.py
IGAN = dict(
    width=128,  # n_f
    batch=128,  # batch_size
    learning_rate=2e-4,  # lr
    weight_decay=1e-5,  # weight_decay
    steps=(25 + 25) * (50_000 // 128),  # niter + niter_decay passes over 50,000 shoes
    clip=0.0,
    ema=0.0,  # none
)

# Ma et al. 2017, section 4.2, Market-1501; λ: the released code
PG2 = dict(
    image_size=(128, 64),
    width=128,  # features of the first block
    levels=5,  # N
    radius=4.0,  # of a keypoint
    discriminator_width=64,  # of D's first convolution
    reconstruction=10.0,  # λ
    batch=16,
    learning_rate=2e-5,
    schedule="constant",
    clip=0.0,
    ema=0.0,
)

RECIPES = {
    ("gan", "dcgan"): DCGAN,
    ("gan", "sngan"): SNGAN,
    ("gan", "paper"): GOODFELLOW,
    ("gan", "r3gan"): R3GAN,
    ("gan_translate", "paper"): DISCOGAN,
    ("gan_edit", "paper"): IGAN,
    ("gan_pose", "paper"): PG2 | dict(coarse="", steps=22_000),
    ("gan_pose", "paper-refine"): PG2 | dict(coarse="runs/gan_pose", steps=14_000),
}


@pytest.mark.parametrize(("experiment", "preset"), RECIPES)
def test_a_recipe_with_a_papers_name_has_the_values_of_its_source(load, experiment, preset):
    config = load(experiment).PRESETS[preset]
    recipe = RECIPES[experiment, preset]
    assert {name: getattr(config, name) for name in recipe} == recipe


def test_every_recipe_with_a_papers_name_is_pinned(load):
    """A preset is without a paper's name where what it is for is the machine or the data."""
    own = {"laptop", "digits", "stacked", "fashion", "modes", "refine"}
    for experiment in ("gan", "gan_translate", "gan_edit", "gan_pose"):
        pinned = {preset for name, preset in RECIPES if name == experiment}
        assert set(load(experiment).PRESETS) - own == pinned, experiment


def changes(rule, updates):
    """What a gradient of 1 changes a parameter of 1 by, update after update."""
    one, found = jnp.float32(1), []
    state, update = rule.init(one), jax.jit(rule.update)
    for _ in range(updates):
        change, state = update(one, state, one)
        found.append(float(change))
    return np.array(found)


@pytest.mark.parametrize(("player", "peak"), [("discriminator", 0.05), ("generator", 0.1)])
def test_the_rate_of_the_paper_is_divided_after_every_step_and_its_momentum_rises(
    load, player, peak
):
    """Against pylearn2's rule in float64: v = m·v - η·g, of both players."""
    config = load("gan").PRESETS["paper"].but(rate_divisor=1.004, momentum_steps=50)
    expected, v = [], 0.0
    for t in range(80):
        v = (0.5 + 0.2 * min(t / 50, 1)) * v - peak / 1.004**t
        expected.append(v)
    np.testing.assert_allclose(changes(config.rule(player), 80), expected, rtol=1e-5)


def test_the_rate_of_the_paper_stays_above_the_least(load):
    config = load("gan").PRESETS["paper"].but(rate_divisor=1e3, momentum=(0.0, 0.0))
    expected = [-1e-1, -1e-4, -1e-6, -1e-6]
    np.testing.assert_allclose(changes(config.rule("generator"), 4), expected, rtol=1e-5)


def test_after_its_steps_the_papers_rate_is_what_its_divisor_says(load):
    """1.000004 has no exact float32; what that costs over 125,000 steps must not show."""
    config = load("gan").PRESETS["paper"].but(momentum=(0.0, 0.0))
    rule = config.rule("generator")
    state = jax.tree.map(
        lambda x: jnp.full_like(x, 125_000) if jnp.issubdtype(x.dtype, jnp.integer) else x,
        rule.init(1.0),
    )
    change, _ = rule.update(jnp.float32(1.0), state, 1.0)
    assert float(change) == pytest.approx(-0.1 / 1.000004**125_000, rel=1e-6)


def test_both_rates_of_sngan_reach_0_with_the_last_step(load):
    """Though D is updated five times a step."""
    config = load("gan").PRESETS["sngan"].but(steps=4, betas=(0.0, 0.0), learning_rate=1.0)
    expected = np.array([-1, -0.75, -0.5, -0.25])
    np.testing.assert_allclose(changes(config.rule("generator"), 4), expected, rtol=1e-4)
    found = changes(config.rule("discriminator"), 20)
    np.testing.assert_allclose(found, np.repeat(expected, 5), rtol=1e-4)


def test_the_l2_penalty_of_dcgan_pulls_both_players(load):
    config = load("gan").PRESETS["dcgan"].but(optimizer="momentum", momentum=(0.0, 0.0))
    config = config.but(learning_rate=1.0, weight_decay=0.25)
    for player in ("discriminator", "generator"):
        assert changes(config.rule(player), 1) == pytest.approx(-(1 + 0.25 * 1))


def test_the_papers_generator_starts_from_the_mean_of_all_training_images(load, opened):
    """init_sigmoid_bias_from_marginals: the output's bias is the logit of every pixel's mean, kept
    from 0 and 1."""
    config = load("gan").PRESETS["digits"].but(network="mlp", width=8, batch=8)
    splits, experiment = opened("gan", config)
    batch = {name: jnp.asarray(x) for name, x in splits.train(0).items()}
    params = jax.jit(experiment.learner.init)(jax.random.key(0), batch)["generator"].params
    source = splits.train.source
    pixels = source.read(np.arange(len(source)))["image"] / 255
    mean = pixels.mean(0).ravel().clip(1e-7, 1 - 1e-7)
    expected = np.log(mean / (1 - mean))
    np.testing.assert_allclose(params["pixels"]["bias"], expected, rtol=1e-5, atol=1e-5)


def test_the_papers_discriminator_keeps_as_much_as_released():
    """discriminator_input_include_probs: .8 of the pixels, and .5 of the hidden units."""
    network = goodfellow.Discriminator()
    assert (1 - network.input_dropout, 1 - network.hidden_dropout) == (0.8, 0.5)
    assert network.hidden == (240, 240) and network.pieces == 5
