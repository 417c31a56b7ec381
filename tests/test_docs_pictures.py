"""The picture of the README shows what its row says: the same seeds, left before, right after."""

import numpy as np
from PIL import Image, ImageOps

from tests.tiny_world import copy_of, finished, world
from tools import readme_picture as tool

__all__ = ["finished", "world"]


def face(sheet: Image.Image, column: int, row: int, half: int) -> np.ndarray:
    left = tool.MARGIN + half + column * tool.SIDE
    top = tool.LINE + row * (tool.LINE + tool.SIDE + 10) + tool.LINE
    return np.asarray(sheet.crop((left, top, left + tool.SIDE, top + tool.SIDE)))


def test_left_is_before_and_right_is_after(finished, tmp_path):
    run = copy_of(finished, tmp_path / "run")
    for path in run.glob("samples/*/*-guided-*.png"):  # an adapter this small may change nothing
        with Image.open(path) as file:
            ImageOps.invert(file.convert("RGB")).save(path)
    sheet = tool.draw(run, scale=2.5, columns=2)
    right = 2 * tool.SIDE + tool.GAP
    rows = [row for row in tool.pictures_of(run, 2.5, 2) if row["index"] == 1]
    prompts = list(dict.fromkeys(row["prompt"] for row in rows))
    assert len(rows) == 2 * len(prompts) == 4
    for row in rows:
        with Image.open(run / row["path"]) as file:
            own = file.convert("RGB").resize((tool.SIDE, tool.SIDE), Image.Resampling.LANCZOS)
        half = right if row["arm"] == "guided" else 0
        assert np.array_equal(face(sheet, 1, prompts.index(row["prompt"]), half), np.asarray(own))


def test_a_share_stands_with_its_interval():
    shares = {"a hat": {"f": {"share": 0.1, "low": 0.0, "high": 0.2}}}
    shares["a hat"]["m"] = {"share": 0.9, "low": 0.8, "high": 1.0}
    arms = {"base": {"2.5": {"shares": shares}}}
    assert tool.title("a hat", arms, "base", 2.5) == "a hat: m 0.90 [0.80, 1.00]"
    assert tool.title("a hat", {"base": {"2.5": {}}}, "base", 2.5) == "a hat"
