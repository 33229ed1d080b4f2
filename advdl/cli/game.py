"""Settings of every experiment in which a generator learns against a discriminator."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import jax
import optax

from advdl import losses, models, train
from advdl.cli.config import Config
from advdl.errors import UserError
from advdl.ranges import LARGE, Count, Few, Natural, NonNegative, Range, Rate


@dataclasses.dataclass(frozen=True)
class GameConfig(Config):
    """Settings of a game of two players, and what they stand for."""

    loss: Literal[
        "nonsaturating", "minimax", "least_squares", "hinge", "wasserstein", "relativistic"
    ] = "nonsaturating"
    """Losses of the two players, see advdl.losses."""
    real_label: Annotated[float, Range(0.5, 1, "(]")] = 1.0
    """Label of data; less than 1 is one-sided label smoothing (Salimans et al. 2016)."""
    r1: NonNegative = 0.0
    """Weight γ of the penalty γ/2·|∇D(x)|² at the data (Mescheder et al. 2018). With this one or
    one of the next two, dcgan's discriminator has layer normalization instead of batch
    normalization."""
    r2: NonNegative = 0.0
    """Weight γ of the penalty γ/2·|∇D(G(z))|² at samples (Mescheder et al. 2018); with r1 and the
    relativistic loss, the objective of R3GAN (Huang et al. 2024, arXiv:2501.05441)."""
    gradient_penalty: NonNegative = 0.0
    """Weight λ of the penalty λ·(|∇D(x̂)| - 1)² between data and samples (Gulrajani et al. 2017;
    theirs: 10)."""
    critic_clip: NonNegative = 0.0
    """Bound to which the discriminator's parameters are clipped after each of its updates (Arjovsky
    et al. 2017; theirs: 0.01; 0: no bound)."""
    discriminator_steps: Few = 1
    """Number of discriminator updates in a step, k of Algorithm 1."""
    discriminator_learning_rate: NonNegative = 0.0
    """Step size of the discriminator (0: the same as the generator's)."""
    optimizer: Literal["adam", "momentum"] = "adam"
    """Adam, or SGD with momentum (Goodfellow et al. 2014)."""
    betas: tuple[Rate, Rate] = (0.5, 0.999)
    """Decays of Adam: these are Radford et al.'s; Miyato et al. have 0 and 0.9."""
    momentum: tuple[Rate, Rate] = (0.5, 0.5)
    """Momentum of SGD in the first step and after --momentum-steps, between which it changes
    linearly."""
    momentum_steps: Natural = 0
    """Number of steps over which the momentum changes (0: it keeps its first value)."""
    rate_divisor: Annotated[float, Range(1, LARGE)] = 1.0
    """Divisor of both learning rates after every step, beside what --schedule does, down to 1e-6
    (1: none)."""
    weight_decay: NonNegative = 0.0
    """L2 penalty on the parameters of both players, added to their gradients."""
    z: Count = 64
    """Number of dimensions of the noise."""
    noise: Literal["normal", "uniform", "unit-uniform"] = "normal"
    """Prior of the noise in each dimension: N(0, 1), U(-√3, √3) of the same variance, or U(-1, 1)
    (Radford et al. 2015)."""

    @property
    def prior(self) -> models.Noise:
        """The prior of the noise."""
        return models.Noise(self.noise, self.z)

    def adversarial(self, lipschitz: bool = False) -> losses.Adversarial:
        """The losses of both players. lipschitz: whether the discriminator is by its layers. Raises
        UserError for losses that do not go with the other settings."""
        if self.loss == "wasserstein" and not (
            self.gradient_penalty or self.critic_clip or lipschitz
        ):
            raise UserError(
                "--loss wasserstein needs a Lipschitz critic; add --gradient-penalty 10,"
                " --critic-clip 0.01 or --spectral"
            )
        return losses.adversarial(self.loss, self.real_label)

    def penalties(
        self, score: losses.Score, real: jax.Array, fake: jax.Array, rng: train.Rng
    ) -> jax.Array:
        """The penalties on the discriminator's gradient, (B,), see `losses.penalties`."""
        places = rng("gradient penalty")
        weights = self.r1, self.gradient_penalty, self.r2
        return losses.penalties(score, real, fake, places, *weights)

    def alternate(
        self,
        game: models.Game,
        discriminator_loss: Callable[..., train.Loss],
        generator_loss: Callable[..., train.Loss],
        evaluate: Callable[..., dict[str, Any]],
        functions: Mapping[str, Callable[..., Any]],
    ) -> train.Learner:
        """The learner of both players, by these losses, see `train.alternate`. The moving average
        is the generator's."""
        return train.alternate(
            self.player(
                game.init_discriminator, discriminator_loss, self.rule("discriminator"), ema=0
            ),
            self.player(game.init_generator, generator_loss, self.rule("generator")),
            evaluate,
            self.discriminator_steps,
            functions,
        )

    def rule(self, player: Literal["discriminator", "generator"]) -> optax.GradientTransformation:
        """The update rule of a player. Its schedules are those of the step, however often the
        player is updated in one."""
        rate, updates, bound = self.scheduled(), 1, 0.0
        if player == "discriminator":
            rate = self.scheduled(self.discriminator_learning_rate)
            updates, bound = self.discriminator_steps, self.critic_clip
        rate = train.by_step(train.divided(rate, self.rate_divisor), updates)
        if self.optimizer == "adam":
            rule = optax.adam(rate, *self.betas)
        else:
            share = optax.linear_schedule(*self.momentum, self.momentum_steps)
            rule = train.momentum(rate, train.by_step(share, updates))
        return train.bounded(train.chain(rule, self.clip, self.weight_decay), bound)
