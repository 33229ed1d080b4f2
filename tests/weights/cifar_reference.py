"""The CIFAR residual network in PyTorch, under the names and in the file form of
pytorch_resnet_cifar10."""

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """Two 3×3 convolutions; where the shape changes, every second pixel and zeros before and after
    the channels (option A)."""

    def __init__(self, inputs: int, features: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, features, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.stride, self.new = stride, features - inputs

    def forward(self, x):
        """(B, C, H, W) -> (B, features, H / stride, W / stride)."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        around = functional.pad(
            x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.new // 2, self.new // 2)
        )
        return functional.relu(y + around)


class ResNet(nn.Module):
    """6n + 2 weighted layers for images (B, 3, H, W)."""

    def __init__(self, depth: int, classes: int = 10):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        inputs = 16
        for stage, features in enumerate((16, 32, 64), 1):
            blocks = []
            for number in range((depth - 2) // 6):
                blocks.append(Block(inputs, features, 2 if stage > 1 and number == 0 else 1))
                inputs = features
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        """Logits (B, K)."""
        x = functional.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def normalized(images):
    """uint8 (B, H, W, 3) -> what the repository's transforms give: [0, 1], less the mean, by the
    deviation (B, 3, H, W)."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (x - mean[:, None, None]) / std[:, None, None]


def save(network, path) -> None:
    """As the repository's trainer saves it: behind DataParallel, beside the best precision."""
    torch.save(
        {
            "state_dict": {f"module.{name}": x for name, x in network.state_dict().items()},
            "best_prec1": 50.0,
        },
        path,
    )
