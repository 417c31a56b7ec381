"""Networks that turn pictures into vectors, by name: the only place that knows them all.

What leaves this package is an :class:`Extractor`: a name, a hash, a length and a function. How
pictures reach the network's input is the protocol's business (:class:`Preparation`).
"""

from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path

from torch.nn.functional import adaptive_avg_pool2d

from invdiff.errors import ModelError
from invdiff.model.vision.attribute_classifier import FEATURES, SIZE, AttributeClassifier
from invdiff.model.vision.extractors import towers
from invdiff.model.vision.extractors.common import PLAIN, Extractor, Preparation, file_hash
from invdiff.model.vision.extractors.networks import load_inception, load_lite, load_vgg16

__all__ = ["DEFAULT", "NAMES", "Extractor", "Preparation", "load"]

DEFAULT = "efficientnet-lite0"
PIXEL_SIDE = 8


def faces(weights: Path) -> Extractor:
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
    """Pixel means on an 8 x 8 grid, 192 numbers: what needs nothing that is not here."""
    return Extractor(
        name="pixels",
        sha256="",
        dims=3 * PIXEL_SIDE**2,
        side=0,
        network=partial(adaptive_avg_pool2d, output_size=PIXEL_SIDE),
        statistics=PLAIN,
        limits="pixel means on an 8 x 8 grid see colours and coarse layout, no content",
    )


_OWN: dict[str, Callable[[Path], Extractor]] = {
    "efficientnet-lite0": load_lite,
    "faces": faces,
    "inception": load_inception,
    "pixels": pixels,
    "vgg16": load_vgg16,
}
NAMES = tuple(_OWN)


def load(name: str, weights: Path) -> Extractor:
    """The extractor of this name, or the vision model in a folder (or of a hub id in the cache).

    ``weights`` is the folder of `invdiff weights`. Nothing is downloaded.

    Raises:
        ModelError: no such extractor or model, or weights that are missing or not the known ones.
        MissingExtra: an optional library is not installed.
    """
    if name in _OWN:
        return _OWN[name](weights)
    if not (Path(name).is_dir() or "/" in name or (weights / name).is_dir()):
        raise ModelError(
            f"{name!r} is no extractor: take {', '.join(NAMES)}, or the folder or hub id of a "
            "vision model of transformers"
        )
    return towers.load(name, weights)
