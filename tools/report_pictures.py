"""Pictures of a report for docs/guides/reading-a-report.md, taken with headless Chromium.

    python tools/report_pictures.py invdiff-demo/report.html --out docs/assets

One file for each of the sections below, `report-<section>.webp`; long ones are cut at the bottom.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

# Section of the report, and the height at which its picture ends in pixels.
SECTIONS = {"summary": 1400, "found": 1172, "changed": 900, "certificate": 1400, "limits": 1400}
WIDTH, PADDING = 1100, 16
ALONE = (
    "<style>header, section:not(#{name}) {{ display: none !important }} "
    "nav {{ visibility: hidden }}</style></head>"
)


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("report", type=Path, help="report.html of a run")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--browser", default="chromium", help="program (chromium)")
    asked = parser.parse_args()
    page = asked.report.read_text()
    for name, height in SECTIONS.items():
        if f'<section id="{name}"' not in page:
            raise SystemExit(f"{asked.report} has no section {name!r}")
        alone = page.replace("</head>", ALONE.format(name=name), 1)
        picture = trimmed(screenshot(alone, height, asked.browser))
        to = asked.out / f"report-{name}.webp"
        picture.save(to, quality=80, method=6)
        print(f"{to}: {picture.width} x {picture.height}, {to.stat().st_size:,} bytes")


def screenshot(page: str, height: int, browser: str) -> Image.Image:
    """What the browser shows of ``page``, WIDTH x ``height`` pixels."""
    with tempfile.TemporaryDirectory() as folder:
        html, png = Path(folder, "page.html"), Path(folder, "page.png")
        html.write_text(page)
        subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             f"--window-size={WIDTH},{height}", f"--screenshot={png}", html.as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        with Image.open(png) as file:
            return file.convert("RGB")


def trimmed(picture: Image.Image) -> Image.Image:
    """The picture without the empty margin around it."""
    paper = Image.new("RGB", picture.size, picture.getpixel((0, 0)))
    box = ImageChops.difference(picture, paper).getbbox()
    if box is None:
        raise SystemExit("the browser shows an empty page")
    left, top, right, bottom = box
    wide = max(0, left - PADDING), max(0, top - PADDING)
    return picture.crop((*wide, min(WIDTH, right + PADDING), min(picture.height, bottom + PADDING)))


if __name__ == "__main__":
    main()
