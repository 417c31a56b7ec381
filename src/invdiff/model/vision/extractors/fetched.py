"""Networks whose files `invdiff weights fetch` gets: Inception v3 and VGG16."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

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
