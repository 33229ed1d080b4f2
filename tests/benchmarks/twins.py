"""The networks of `versus_torch.py` in PyTorch, as its users write them: torchvision's where it has
one.

Axes: B batch, C channels, H height, W width; S source tokens, T target tokens, V vocabulary.
"""

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

Prepare = Callable[[nn.Module], nn.Module]
Put = Callable[[np.ndarray], torch.Tensor]


class Twin(NamedTuple):
    """networks: all that is trained. step, infer: one training step and one inference, of one
    batch."""

    networks: list[nn.Module]
    step: Callable[[], Any]
    infer: Callable[[], Any]


def torchvision_network(name: str) -> nn.Module:
    """torchvision's wheels for CUDA may not find their operators on a machine without; its networks
    need none of them. Where they do, to have declared them before aborts the process: so another
    process tries first."""
    if subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True).returncode:
        for operator in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{operator}",
                "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchvision import models

        return getattr(models, name)(
            weights=None, **({"init_weights": True} if name == "googlenet" else {})
        )


def descend(
    network: nn.Module,
    rule: torch.optim.Optimizer,
    loss: Callable[[], torch.Tensor],
    clip: float = 0.0,
):
    """One step of an optimizer."""

    def step():
        network.train()
        rule.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        if clip:
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        rule.step()
        return value

    return step


def evaluate(network: nn.Module, *inputs: torch.Tensor):
    """The network's output without gradients."""

    def infer():
        network.eval()
        with torch.inference_mode():
            return network(*inputs)

    return infer


def classifier(name: str, batch: dict[str, np.ndarray], prepare: Prepare, put: Put) -> Twin:
    """torchvision's; SGD with momentum, auxiliary heads with weight 0.3."""
    network = prepare(torchvision_network(name))
    x, label = put(batch["image"]), put(batch["label"])
    rule = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9)

    def loss():
        out = network(x)
        if isinstance(out, torch.Tensor):
            return F.cross_entropy(out, label)
        heads = F.cross_entropy(out.aux_logits1, label) + F.cross_entropy(out.aux_logits2, label)
        return F.cross_entropy(out.logits, label) + 0.3 * heads

    return Twin([network], descend(network, rule, loss), evaluate(network, x))


def segmenter(network: nn.Module, batch: dict[str, np.ndarray], prepare: Prepare, put: Put) -> Twin:
    """SGD with momentum, cross-entropy of every pixel."""
    network = prepare(network)
    x, mask = put(batch["image"]), put(batch["mask"])
    rule = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9)
    return Twin(
        [network],
        descend(network, rule, lambda: F.cross_entropy(network(x), mask)),
        evaluate(network, x),
    )


def unit(inputs: int, outputs: int) -> nn.Sequential:
    """3×3 convolution, normalization, rectifier."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class SegNet(nn.Module):
    """VGG-16's convolutions and their mirror image, values put back where the maxima were."""

    def __init__(self, classes: int = 11):
        super().__init__()
        widths, before = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3), 3
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for stage in widths:
            self.down.append(
                nn.Sequential(*[unit(a, b) for a, b in zip((before, *stage), stage, strict=False)])
            )
            before = stage[-1]
        for number in range(len(widths) - 1, -1, -1):
            width, last = widths[number][0], widths[number - 1][0] if number else classes
            units = [unit(width, width) for _ in widths[number][1:]]
            units.append(unit(width, last) if number else nn.Conv2d(width, last, 3, padding=1))
            self.up.append(nn.Sequential(*units))

    def forward(self, x):
        places = []
        for stage in self.down:
            x = stage(x)
            size = x.shape[-2:]
            x, index = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
            places.append((index, size))
        for stage in self.up:
            index, size = places.pop()
            x = stage(F.max_unpool2d(x, index, 2, 2, output_size=size))
        return x


class UNet(nn.Module):
    """With normalization, and maps that keep their size."""

    def __init__(self, classes: int = 2, features: int = 64, levels: int = 4):
        super().__init__()

        def twice(a, b):
            return nn.Sequential(unit(a, b), unit(b, b))

        widths = [features << level for level in range(levels + 1)]
        self.down = nn.ModuleList(twice(a, b) for a, b in zip((3, *widths), widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * b, b, 2, 2) for b in widths[-2::-1])
        self.join = nn.ModuleList(twice(2 * b, b) for b in widths[-2::-1])
        self.score = nn.Conv2d(features, classes, 1)

    def forward(self, x):
        skips = []
        for stage in self.down[:-1]:
            x = stage(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.down[-1](x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([skips.pop(), up(x)], 1))
        return self.score(x)


class Generator(nn.Module):
    """DCGAN's, from noise to 32×32."""

    def __init__(self, width: int = 64, levels: int = 3, z: int = 100):
        super().__init__()
        channels = [width << level for level in range(levels - 1, -1, -1)]
        self.project = nn.Linear(z, channels[0] * 16, bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(channels[0]), nn.ReLU(inplace=True)]
        for a, b in zip(channels, channels[1:], strict=False):
            layers += [
                nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False),
                nn.BatchNorm2d(b),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(
            *layers, nn.ConvTranspose2d(channels[-1], 3, 4, 2, 1, bias=False), nn.Tanh()
        )

    def forward(self, z):
        return self.layers(self.project(z).reshape(len(z), -1, 4, 4))


class Discriminator(nn.Module):
    """DCGAN's, of 32×32."""

    def __init__(self, width: int = 64, levels: int = 3):
        super().__init__()
        channels = [width << level for level in range(levels)]
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for a, b in zip(channels, channels[1:], strict=False):
            layers += [
                nn.Conv2d(a, b, 4, 2, 1, bias=False),
                nn.BatchNorm2d(b),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.layers = nn.Sequential(*layers)
        self.logit = nn.Linear(channels[-1] * 16, 1, bias=False)

    def forward(self, x):
        return self.logit(self.layers(x).flatten(1))[:, 0]


def gan(batch: dict[str, np.ndarray], prepare: Prepare, put: Put) -> Twin:
    """The discriminator's update, then the generator's, Adam; inference is of the generator."""
    generator, discriminator, x = (
        prepare(Generator()),
        prepare(Discriminator()),
        put(batch["image"]),
    )
    rules = [
        torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999))
        for network in (discriminator, generator)
    ]

    def noise():
        return torch.randn(len(x), 100, device=x.device)

    def of_discriminator():
        with torch.no_grad():
            fake = generator(noise())
        return (F.softplus(-discriminator(x)) + F.softplus(discriminator(fake))).mean()

    def of_generator():
        return F.softplus(-discriminator(generator(noise()))).mean()

    def step():
        generator.train()
        discriminator.train()
        for rule, loss in zip(rules, (of_discriminator, of_generator), strict=True):
            rule.zero_grad(set_to_none=True)
            loss().backward()
            rule.step()

    return Twin([generator, discriminator], step, evaluate(generator, noise()))


class LanguageModel(nn.Module):
    """Embedding, LSTM layers, logits."""

    def __init__(self, size: int, features: int, layers: int = 2):
        super().__init__()
        self.words = nn.Embedding(size, features)
        self.stack = nn.LSTM(features, features, layers, batch_first=True)
        self.answer = nn.Linear(features, size)

    def forward(self, token, carry=None):
        x, carry = self.stack(self.words(token), carry)
        return self.answer(x), carry


def language(
    size: int, features: int, batch: dict[str, np.ndarray], prepare: Prepare, put: Put
) -> Twin:
    """SGD, gradients clipped at 5, the state carried on."""
    network = prepare(LanguageModel(size, features))
    given, target = put(batch["inputs"]), put(batch["targets"])
    rule, carry = torch.optim.SGD(network.parameters(), 1.0), [None]

    def loss():
        logits, after = network(given, carry[0])
        carry[0] = tuple(x.detach() for x in after)
        return F.cross_entropy(logits.flatten(0, 1), target.flatten())

    return Twin([network], descend(network, rule, loss, clip=5.0), evaluate(network, given))


class Translator(nn.Module):
    """Bidirectional encoder, and a decoder with additive attention that is fed the given words."""

    def __init__(self, source_size: int, target_size: int, embedding: int, features: int):
        super().__init__()
        linear = nn.Linear
        self.source_words, self.target_words = (
            nn.Embedding(source_size, embedding),
            nn.Embedding(target_size, embedding),
        )
        self.encoder = nn.LSTM(embedding, features, batch_first=True, bidirectional=True)
        self.bridge_cell, self.bridge_hidden = (
            linear(2 * features, features),
            linear(2 * features, features),
        )
        self.keys, self.query = (
            linear(2 * features, features, bias=False),
            linear(features, features),
        )
        self.score = linear(features, 1, bias=False)
        self.decoder = nn.LSTMCell(embedding + 2 * features, features)
        self.joined, self.answer = (
            linear(3 * features + embedding, features),
            linear(features // 2, target_size),
        )

    def forward(self, source, length, target):
        packed = nn.utils.rnn.pack_padded_sequence(
            self.source_words(source), length.cpu(), True, enforce_sorted=False
        )
        packed, (hidden, cell) = self.encoder(packed)
        values, _ = nn.utils.rnn.pad_packed_sequence(packed, True, total_length=source.shape[1])

        def together(x):
            return x.transpose(0, 1).flatten(1)

        hidden, cell = (
            torch.tanh(self.bridge_hidden(together(hidden))),
            torch.tanh(self.bridge_cell(together(cell))),
        )
        keys = self.keys(values)
        behind = torch.arange(source.shape[1], device=source.device)[None] >= length[:, None]
        words, said = self.target_words(target), []
        for word in words.unbind(1):
            score = self.score(torch.tanh(self.query(hidden)[:, None] + keys))[..., 0].masked_fill(
                behind, -torch.inf
            )
            context = (score.softmax(1)[:, None] @ values)[:, 0]
            said.append(torch.cat([hidden, word, context], 1))
            hidden, cell = self.decoder(torch.cat([word, context], 1), (hidden, cell))
        return self.answer(self.joined(torch.stack(said, 1)).unflatten(-1, (-1, 2)).amax(-1))


def translator(
    sizes: tuple[int, int, int, int], batch: dict[str, np.ndarray], prepare: Prepare, put: Put
) -> Twin:
    """Adam, gradients clipped at 1, cross-entropy of the words that are there."""
    network = prepare(Translator(*sizes))
    source, length, target = (put(batch[name]) for name in ("source", "source_length", "target"))
    counted = (
        torch.arange(target.shape[1] - 1, device=target.device)[None]
        < put(batch["target_length"])[:, None]
    )
    label = target[:, 1:].masked_fill(~counted, -100)
    rule, given = torch.optim.Adam(network.parameters(), 1e-3), target[:, :-1]

    def loss():
        return F.cross_entropy(network(source, length, given).flatten(0, 1), label.flatten())

    return Twin(
        [network], descend(network, rule, loss, clip=1.0), evaluate(network, source, length, given)
    )
