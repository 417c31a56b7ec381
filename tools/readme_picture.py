"""The picture of the README: the same seeds before and after, from the folder of a finished run.

    python tools/readme_picture.py invdiff-demo --out docs/assets/before-after.webp

A row for each prompt. The pictures are those of its first seeds, nobody chose them. The shares
above a row are of all pictures of that prompt and guidance scale in the run's `metrics.json`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
from PIL import Image, ImageDraw, ImageFont

ARMS = {"base": "before", "guided": "after"}
SIDE, GAP, MARGIN, LINE = 56, 24, 16, 26
INK, PALE, PAPER = "#1f2933", "#5b6770", "#ffffff"


def main() -> None:
    """Draw the picture of one run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, required=True, help="a .webp or .png file")
    parser.add_argument("--scale", type=float, default=2.5, help="guidance scale (2.5)")
    parser.add_argument("--columns", type=int, default=9, help="seeds of each prompt (9)")
    asked = parser.parse_args()
    picture = draw(asked.run, asked.scale, asked.columns)
    picture.save(asked.out, quality=88, method=6)
    print(f"{asked.out}: {picture.width} x {picture.height}, {asked.out.stat().st_size:,} bytes")


def draw(run: Path, scale: float, columns: int) -> Image.Image:
    """The rows of all prompts on one sheet."""
    arms = json.loads((run / "metrics.json").read_text())["arms"]
    rows = pictures_of(run, scale, columns)
    prompts = list(dict.fromkeys(row["prompt"] for row in rows))
    half, row_height = columns * SIDE, LINE + SIDE + 10
    size = (2 * half + GAP + 2 * MARGIN, LINE + len(prompts) * row_height + MARGIN)
    sheet = Image.new("RGB", size, PAPER)
    for side, (arm, word) in enumerate(ARMS.items()):
        left = MARGIN + side * (half + GAP)
        count = arms[arm][str(scale)]["images"] // len(prompts)
        _write(
            sheet,
            (left, 8),
            f"{word}, guidance scale {scale:g}, {count} pictures a prompt",
            INK,
            16,
        )
        for number, prompt in enumerate(prompts):
            top = LINE + number * row_height
            _write(sheet, (left, top + 8), title(prompt, arms, arm, scale), PALE, 13)
            for row in (one for one in rows if (one["arm"], one["prompt"]) == (arm, prompt)):
                with Image.open(run / row["path"]) as file:
                    face = file.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
                sheet.paste(face, (left + row["index"] * SIDE, top + LINE))
    return sheet


def pictures_of(run: Path, scale: float, columns: int) -> list[dict[str, Any]]:
    """The rows of `samples.parquet` about the first seeds at one guidance scale."""
    rows: list[dict[str, Any]] = parquet.read_table(run / "samples.parquet").to_pylist()
    return [row for row in rows if row["scale"] == scale and row["index"] < columns]


def title(prompt: str, arms: dict[str, Any], arm: str, scale: float) -> str:
    """The prompt and, if there was a classifier, the share of what is more frequent before."""
    shares = arms["base"][str(scale)].get("shares")
    if not shares:
        return prompt
    name = max(shares[prompt], key=lambda one: shares[prompt][one]["share"])
    share = arms[arm][str(scale)]["shares"][prompt][name]
    return f"{prompt}: {name} {share['share']:.2f} [{share['low']:.2f}, {share['high']:.2f}]"


def _write(sheet: Image.Image, at: tuple[int, int], text: str, colour: str, size: int) -> None:
    ImageDraw.Draw(sheet).text(at, text, fill=colour, font=ImageFont.load_default(size))


if __name__ == "__main__":
    main()
