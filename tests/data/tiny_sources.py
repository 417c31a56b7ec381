"""Tiny sources of pictures for the tests of invdiff.data."""

import csv
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HAT, PLAIN = "a person wearing a hat", "a person"


def colour(number: int) -> tuple[int, int, int]:
    return (40 * number % 256, 90, 255 - 40 * number % 256)


def picture(number: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("RGB", size, colour(number))


def encode(image: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


def png(number: int) -> bytes:
    return encode(picture(number))


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises a size that its data does not hold."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def write_pictures(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)


ROWS: list[dict[str, object]] = [
    {"file_name": "a.png", "caption": HAT, "gender": "male"},
    {"file_name": "b.png", "caption": PLAIN, "gender": "female"},
    {"file_name": "deep/c.png", "caption": HAT, "gender": "female"},
]
NAMES = [str(row["file_name"]) for row in ROWS]


def folder_with_metadata(folder: Path, suffix: str = "csv") -> Path:
    write_pictures(folder, NAMES)
    write_rows(folder / f"metadata.{suffix}", ROWS)
    return folder


def folder_with_captions(folder: Path) -> Path:
    write_pictures(folder, NAMES)
    for row in ROWS:
        caption = (folder / str(row["file_name"])).with_suffix(".txt")
        caption.write_text(f"{row['caption']}\n", encoding="utf-8")
    return folder


def npz(path: Path, **changes: object) -> Path:
    arrays: dict[str, object] = {
        "images": np.stack([np.asarray(picture(number)) for number in range(3)]),
        "prompt": np.array([row["caption"] for row in ROWS]),
        "gender": np.array([row["gender"] for row in ROWS]),
    }
    arrays.update(changes)
    kept = {name: value for name, value in arrays.items() if value is not None}
    np.savez(path, **kept)
    return path


def parquet(path: Path, struct_of: str = "", group: int = 2) -> Path:
    """Pictures in a parquet file, two in a row group; struct_of: "", "bytes" or "path"."""
    rows = []
    for number, row in enumerate(ROWS):
        content: object = png(number)
        if struct_of == "bytes":
            content = {"bytes": content, "path": None}
        elif struct_of == "path":
            (path.parent / f"{number}.png").write_bytes(png(number))
            content = {"bytes": None, "path": f"{number}.png"}
        rows.append({"image": content, "text": row["caption"], "gender": row["gender"]})
    inner = pa.struct({"bytes": pa.binary(), "path": pa.string()}) if struct_of else pa.binary()
    schema = pa.schema({"image": inner, "text": pa.string(), "gender": pa.string()})
    pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=group)
    return path
