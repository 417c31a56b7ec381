"""What is wrong with .npz and parquet files, in one line each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from invdiff.data.sources import open_samples
from tests.data import tiny_sources as tiny
from tests.data.readers.test_source_faults import fault

NPZ: dict[str, tuple[dict[str, object], str]] = {
    "objects": ({"prompt": np.array(["a", "b", None], dtype=object)}, "holds Python objects"),
    "object pictures": ({"images": np.array([{}, {}, {}])}, "'images' in"),
    "floats": (
        {"images": np.zeros((3, 8, 8, 3))},
        "has type float64 and shape (3, 8, 8, 3); it must",
    ),
    "grey": (
        {"images": np.zeros((3, 8, 8), np.uint8)},
        "has type uint8 and shape (3, 8, 8); it must",
    ),
    "channels": ({"images": np.zeros((3, 3, 8, 8), np.uint8)}, "shape (3, 3, 8, 8); it must"),
    "no pictures": ({"images": np.zeros((0, 8, 8, 3), np.uint8)}, "shape (0, 8, 8, 3); it must"),
    "other name": (
        {"images": None, "image": np.zeros(3)},
        "no array 'images'; did you mean 'image'?",
    ),
    "no prompt": (
        {"prompt": None},
        "name the one with the prompts as data.prompt_column (columns: gender)",
    ),
    "too few": ({"prompt": np.array(["a"])}, "has shape (1,); it must be (3,), one value for each"),
}


@pytest.mark.parametrize("case", NPZ)
def test_npz(tmp_path: Path, case: str) -> None:
    changes, message = NPZ[case]
    assert message in fault(tiny.npz(tmp_path / "x.npz", **changes))


def test_npz_never_unpickles(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

    for name in ("images", "prompt"):
        path = tiny.npz(tmp_path / "x.npz", **{name: np.array([Trap(), 1, 2], dtype=object)})
        assert "never read because they can run code" in fault(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_npz_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    assert "x.npz cannot be read as .npz: " in fault(tmp_path / "x.npz")


def test_npz_with_a_single_array(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    assert "holds a single array; save named arrays with np.savez" in fault(tmp_path / "x.npz")


def test_truncated_and_damaged_npz(tmp_path: Path) -> None:
    path = tiny.npz(tmp_path / "x.npz")
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: len(content) // 2])
    assert "cannot be read as .npz: " in fault(path)
    content[300] ^= 255  # inside the pixels: the checksum no longer fits
    path.write_bytes(content)
    assert "'images' in" in fault(path)


def test_npz_with_enormous_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invdiff.data.pictures.MAX_PIXELS", 63)
    assert "x.npz are too large: 8 x 8 pixels are more" in fault(tiny.npz(tmp_path / "x.npz"))


def test_parquet_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    assert "cannot be read as parquet: " in fault(tmp_path / "x.parquet")


def test_truncated_parquet(tmp_path: Path) -> None:
    path = tiny.parquet(tmp_path / "x.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    assert fault(path).endswith("is it complete?")


def test_parquet_without_pictures(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"img": ["x"], "text": ["x"]}), path)
    assert "no column 'image' with pictures; did you mean 'img'? It has: img, text" in fault(path)
    pq.write_table(pa.table({"before": [b"x"], "after": [b"x"], "text": ["x"]}), path)
    assert "no column 'image' with pictures; It has: before, after, text" in fault(path)
    pq.write_table(pa.table({"image": ["a.png"], "text": ["x"]}), path)
    assert "column 'image' of" in fault(path)
    assert "has type string; it must hold the bytes of picture files" in fault(path)


def test_parquet_rows_without_a_picture(tmp_path: Path) -> None:
    inner = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    cells = [
        {"bytes": tiny.png(0), "path": None},
        {"bytes": None, "path": "gone.png"},
        {"bytes": None, "path": None},
        None,
    ]
    table = pa.table({"image": pa.array(cells, inner), "text": ["x"] * 4})
    pq.write_table(table, tmp_path / "x.parquet")
    samples = open_samples(tmp_path / "x.parquet", 8, max_bad_share=0.9)
    assert samples.quarantined == (
        ("x.parquet, row 1", "the file is missing"),
        ("x.parquet, row 2", "there is no picture in this row"),
        ("x.parquet, row 3", "there is no picture in this row"),
    )


def test_parquet_prompts_must_be_text(tmp_path: Path) -> None:
    table = pa.table({"image": [b"x"], "text": [{"en": "one"}]})
    pq.write_table(table, tmp_path / "x.parquet")
    assert "has none of the columns caption, text, prompt" in fault(tmp_path / "x.parquet")
