"""Networks that turn pictures into vectors, by name: the only place that knows them all.

What leaves this package is an :class:`Extractor`: a name, a hash, a length and a function. How
pictures reach the network's input is the protocol's business (:class:`Preparation`).
"""

from collections.abc import Callable
from pathlib import Path

from invdiff.errors import ModelError
from invdiff.model.vision.extractors import embedded, inception, lite, towers, vgg
from invdiff.model.vision.extractors.common import Extractor, Preparation

__all__ = ["DEFAULT", "NAMES", "Extractor", "Preparation", "load"]

DEFAULT = "efficientnet-lite0"

_OWN: dict[str, Callable[[Path], Extractor]] = {
    "efficientnet-lite0": lite.load,
    "faces": embedded.load,
    "inception": inception.load,
    "pixels": embedded.pixels,
    "vgg16": vgg.load,
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
