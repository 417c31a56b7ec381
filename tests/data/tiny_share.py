"""What scenes is made of, invented: a folder laid out like /usr/share, and scenes."""

import gzip
from pathlib import Path

import numpy as np
from PIL import Image

from invdiff.data.sets.drawn import scenes


def idx(path: Path, values: np.ndarray) -> None:
    head = np.array([0x800 + values.ndim, *values.shape], dtype=">u4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(head + values.tobytes(), 1))


def make(root: Path, garments: int, monkeypatch) -> Path:
    """Garment k of each kind is a square of grey level 50 + k; photographs are noise."""
    labels = np.tile(np.array(list(scenes.GARMENTS), dtype=np.uint8), garments)
    images = np.zeros((len(labels), 28, 28), dtype=np.uint8)
    for k, image in enumerate(images):
        image[6:22, 8:20] = 50 + k // len(scenes.GARMENTS)
    idx(root / "datasets/fashion-mnist/train-images-idx3-ubyte.gz", images)
    idx(root / "datasets/fashion-mnist/train-labels-idx1-ubyte.gz", labels)
    places = {name: root / name for name in ("mate", "sklearn", "skimage")}
    monkeypatch.setattr(scenes, "folders", lambda _: places)
    noise = np.random.default_rng(0)
    for kind, tint in (("plants", (60, 200, 60)), ("places", (120, 120, 190))):
        for one in scenes.FAMILIES[kind]:
            places[one.source].mkdir(exist_ok=True)
            pixels = np.clip(noise.normal(tint, 15, (40, 50, 3)), 0, 255).astype(np.uint8)
            grey = one.source == "skimage" and one.name.endswith(".png")
            Image.fromarray(pixels).convert("L" if grey else "RGB").save(
                places[one.source] / one.name
            )
    return root
