"""The image front of OFA: ResNet v1.5 without its last stage (stride 16, 16 · width channels)."""

from __future__ import annotations

from torch import Tensor, nn

EXPANSION = 4  # a bottleneck block gives four times its inner width


class Bottleneck(nn.Module):
    """1×1 down, 3×3 (which carries the stride, hence "v1.5"), 1×1 up, added to the shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, eps: float) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=eps)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps=eps)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs, eps=eps)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs, eps=eps))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return self.relu(x + shortcut)  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """Stem and three stages.

    ``layers``: bottleneck blocks per stage; (3, 4, 6) is the front of ResNet-50, (3, 4, 23) of 101, (3, 8, 36) of 152.
    ``width``: channels of the stem; 64 in all published checkpoints.
    """

    def __init__(self, layers: tuple[int, int, int], width: int, eps: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=eps)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(width, width, layers[0], 1, eps)
        self.layer2 = _stage(width * EXPANSION, width * 2, layers[1], 2, eps)
        self.layer3 = _stage(width * 2 * EXPANSION, width * 4, layers[2], 2, eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # (B, 3, H, W) -> (B, width, H/4, W/4)
        x = self.layer1(x)  # (B, 4·width, H/4, W/4)
        x = self.layer2(x)  # (B, 8·width, H/8, W/8)
        return self.layer3(x)  # type: ignore[no-any-return]  # (B, 16·width, H/16, W/16)


def _stage(inputs: int, width: int, blocks: int, stride: int, eps: float) -> nn.Sequential:
    first = Bottleneck(inputs, width, stride, eps)
    return nn.Sequential(first, *(Bottleneck(width * EXPANSION, width, 1, eps) for _ in range(blocks - 1)))
