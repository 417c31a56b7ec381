"""Extractors that need nothing from elsewhere: the cartoon faces' network, and plain pixels."""

from importlib.resources import files
from pathlib import Path

from torch import Tensor
from torch.nn import functional as F

from invdiff.model.vision.attribute_classifier import FEATURES, SIZE, AttributeClassifier
from invdiff.model.vision.extractors.common import PLAIN, Extractor, file_hash

PIXEL_SIDE = 8


def load(weights: Path) -> Extractor:
    """The 64 features of the embedded attribute classifier; for cartoon faces only."""
    path = Path(str(files("invdiff"))) / "assets" / "faces" / "classifier.safetensors"
    trunk = AttributeClassifier.load(path).trunk
    return Extractor(
        name="faces",
        sha256=file_hash(path),
        dims=FEATURES,
        side=SIZE,
        network=trunk,
        statistics=((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        limits="it knows the package's cartoon faces and nothing else",
        fixed=True,
    )


def pixels(weights: Path) -> Extractor:
    """Pixel means on an 8 x 8 grid, 192 numbers: what there is where nothing else is installed."""

    def means(pictures: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(pictures, PIXEL_SIDE)

    return Extractor(
        name="pixels",
        sha256="",
        dims=3 * PIXEL_SIDE**2,
        side=0,
        network=means,
        statistics=PLAIN,
        limits="pixel means on an 8 x 8 grid see colours and coarse layout, no content",
    )
