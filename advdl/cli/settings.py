"""Settings that several experiments share, as configurations to inherit, each with what is made of
them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import flax.linen as nn
import optax

from advdl import data, models, train, weights
from advdl.cli.config import Config, parse_factors, parse_size
from advdl.cli.other_run import OtherRun
from advdl.data import Splits, Transform
from advdl.errors import UserError
from advdl.ranges import Natural, NonNegative, Positive, Range, Rate, Side


@dataclasses.dataclass(frozen=True)
class OptimizerSettings(Config):
    """Settings of an optimizer whose decay holds for the kernels alone."""

    optimizer: train.Optimizer = "momentum"
    """Update rule; sgd is the one without momentum."""
    momentum: Rate = 0.9
    """Momentum, or decay of the first moment of Adam."""
    weight_decay: NonNegative = 5e-4
    """Decay of the kernels: an L2 penalty, but for adamw and lamb."""
    bias_rate: NonNegative = 1.0
    """Factor on the learning rate of biases beside a kernel (2 in Caffe's recipes)."""

    def rule(self) -> optax.GradientTransformation:
        """The update rule, see `train.optimizer`."""
        return train.optimizer(
            self.optimizer,
            self.scheduled(),
            self.momentum,
            clip=self.clip,
            decay=self.weight_decay,
            decayed="kernels",
            bias_rate=self.bias_rate,
        )


@dataclasses.dataclass(frozen=True)
class EncoderSettings(OptimizerSettings):
    """Settings of networks whose encoder may start from a classifier's weights, and that may be
    trained in stages."""

    backbone: str = ""
    """File of published weights of VGG-16 or a ResNet to start from."""
    pretrain: Natural = 0
    """Number of updates in which the encoder (of VGG-16, or a ResNet) first learns single digits;
    published networks started from ImageNet's."""
    encoder_rate: NonNegative = 1.0
    """Factor on the learning rate of the layers that --backbone or --pretrain gives; with --start,
    0 leaves the front end of a context module as it is, dropout too."""
    start: str = ""
    """Folder of another run of this experiment to begin with, such as that of FCN-32s for FCN-16s:
    all that its network has; new layers stay as they are initialized."""
    start_checkpoint: str = "latest"
    """Checkpoint of --start: latest, best or a step."""

    def encoder_start(self, network: nn.Module, experiment: str) -> Mapping[str, train.WarmStart]:
        """The `warm_start` of an experiment. Raises UserError for settings that do not fit the
        network or each other."""
        earlier = OtherRun("--start", self.start, self.start_checkpoint, experiment)
        begun = earlier.begun("model", same={"backbone": self.backbone})  # it says the pixels
        if begun and self.pretrain:
            raise UserError("--pretrain is for the first stage; leave it out where --start is")
        singles = data.singles_of(self.data)
        digits = weights.digits_start(network, self.pretrain, singles, self.seed)
        start = weights.encoder_start(self.backbone, network) or digits
        if self.backbone and digits:
            raise UserError(
                "--pretrain is for an encoder without --backbone; leave one of them out"
            )
        if self.encoder_rate != 1 and not (begun or start):
            raise UserError(
                "--encoder-rate is for an encoder that has learned; give --backbone, --pretrain or"
                " --start too"
            )
        return begun or start

    def encoder_rule(self, network: nn.Module) -> optax.GradientTransformation:
        """The update rule, with the rate of the encoder."""
        return train.scaled(self.rule(), self.encoder_rate, weights.encoder_mask(network))

    def pixels(self, network: nn.Module) -> Transform:
        """From bytes to the pixels of the network, or of the published one that it starts from."""
        return data.scaled((weights.backbone(network) if self.backbone else network).pixels)


@dataclasses.dataclass(frozen=True)
class SceneSettings(Config):
    """Settings of experiments on images of which each pixel has a class."""

    data: str = "digit_scenes"
    """Data set: digit_scenes or mnist_scenes[:DIAMETER], folder:PATH with train/images, train/masks
    and classes.txt, camvid:PATH, or tfds:NAME with masks."""
    size: str = ""
    """HEIGHTxWIDTH to which images are resized (default: the size they have)."""
    void: Annotated[int, Range(-1, 255, "[]")] = -1
    """Id of the pixels that have no class and do not count (default: what the data says)."""
    validation: Rate = 0.1
    """Share of the training images held out to choose the best checkpoint by, where the data have
    no val part (0: none is held out, nor chosen)."""
    flip: bool = False
    """Mirror half of the training images, with their masks."""
    crop: bool = False
    """Scale training images by 0.5 to 2 and cut out their size."""
    elastic: Annotated[float, Range(0, 1000, "[]")] = 0.0
    """Standard deviation in pixels of displacements that deform training images with their masks
    (U-Net, section 3.1: 10)."""
    border_weight: NonNegative = 0.0
    """Additional weight, at most, of pixels between two objects, which are the connected parts of
    each class but the first (U-Net, equation 2: 10)."""
    border_sigma: Positive = 5.0
    """Distance in pixels at which that weight falls off."""
    balance: bool = False
    """Weight classes by median frequency: the median of the frequencies of all classes, divided by
    the frequency of the class (SegNet, section 4)."""
    balance_void: bool = False
    """With --balance, take the median over the classes and void, as in SegNet's released
    weights."""
    balance_power: Positive = 1.0
    """Exponent of the weights of --balance; 0.5 takes their square roots, which lie between the
    weights and none."""
    scales: str = "1"
    """Scales at which images are evaluated, as 0.75,1,1.25."""
    mirror: bool = False
    """Evaluate images mirrored too."""
    window: Side = 0
    """Side of the windows that cover an image in an evaluation (0: whole images); of unet_valid,
    side of the tiles (U-Net, figure 2)."""
    samples: Annotated[int, Range(0, 1000, "[]")] = 0
    """Number of draws of dropout over whose probabilities a Bayesian network is evaluated (0:
    without dropout, as other networks)."""

    def scenes(self, transform: Transform) -> Splits:
        """Training batches, augmented, and evaluations. transform: from bytes to what the network
        gets."""
        size, void = parse_size(self.size), None if self.void < 0 else self.void

        def opened(split):
            return data.open_scenes(self.data, split, self.data_dir, size, void)

        names = data.scene_parts(self.data)
        parts = data.open_parts(opened, self.validation, self.seed, names)
        training: Callable[[], Any] = parts.pop("train")

        def spec():
            for part in parts.values():
                data.same_classes(training(), part())
            scenes, power = training(), self.balance_power
            return data.SceneSpec.of(scenes, self.balance, self.balance_void, power)

        def batches(spec):
            steps = [data.joint_flip()] if self.flip else []
            if self.crop:
                steps.append(data.joint_scale_crop(spec.shape[:2], void=spec.void))
            if self.elastic:
                steps.append(data.joint_elastic(self.elastic))
            if self.border_weight:
                border = data.border_weights(self.border_weight, self.border_sigma, spec.void)
                steps.append(border)
            whole = data.compose(*steps, transform)
            return data.TrainBatches(spec.accept(training()), self.batch, self.seed, whole)

        def evaluation(part):
            return lambda spec: data.EvalBatches(spec.accept(part()), self.batch, transform)

        evaluations = {split: evaluation(part) for split, part in parts.items()}
        return data.Splits(spec, batches, evaluations)

    def monitor(self, metric: str) -> tuple[str, str] | None:
        """The figure whose largest value makes the best checkpoint; None without a part to choose
        by."""
        known = self.validation or "val" in data.scene_parts(self.data)
        return (f"val/{metric}", "max") if known else None

    def mask_predictor(self, network: nn.Module) -> Callable[[train.Variables, Any], Any]:
        """See `models.mask_predictor`."""
        scales = parse_factors(self.scales, "--scales")
        return models.mask_predictor(network, self.samples, scales, self.mirror, self.window)
