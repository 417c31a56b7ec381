"""VGG16 up to the first layer of its classifier head that the authors' code takes: 4,096 features.

The file is torchvision's ``vgg16-397923af.pth``; `invdiff weights fetch vgg16` gets it.
"""

from pathlib import Path

from torch import Tensor, nn

from invdiff.model.vision.extractors.common import IMAGENET, Extractor, trusted_state

FILE = "vgg16-397923af.pth"
SHA256 = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"
SIDE = 224
FEATURES = 4096
POOL = 0
LAYERS = (64, 64, POOL, 128, 128, POOL, *(256,) * 3, POOL, *(512,) * 3, POOL, *(512,) * 3, POOL)


class Vgg16(nn.Module):
    """Pictures (n, 3, 224, 224) to the second fully connected layer (n, 4096), before its ReLU."""

    def __init__(self, widths: tuple[int, ...] = LAYERS, features: int = FEATURES) -> None:
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


def load(weights: Path) -> Extractor:
    """The authors' features for precision and recall."""
    hint = "get it with `invdiff weights fetch vgg16`"
    state = trusted_state(weights / FILE, SHA256, hint)
    model = Vgg16()
    known = model.state_dict()
    model.load_state_dict({name: value for name, value in state.items() if name in known})
    model.requires_grad_(False).eval()
    limits = "trained on ImageNet photographs"
    return Extractor("vgg16", SHA256, FEATURES, SIDE, model, IMAGENET, limits)
