"""Each mistake in a source is one line that says what to do."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from invdiff.data.sources import open_samples
from invdiff.errors import DataError
from tests.data import tiny_sources as tiny


def fault(path: str | Path, size: int = 8, **settings: object) -> str:
    """The text of the DataError that opening raises; always one line."""
    with pytest.raises(DataError) as caught:
        open_samples(path, size, **settings)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("size", [0, -3])
def test_image_size(size: int) -> None:
    assert fault("faces", size) == f"the image size must be at least 1 pixel, got {size}"


def test_path_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "portraits").mkdir()
    text = fault(tmp_path / "portrait")
    assert text.endswith(f"does not exist; did you mean {tmp_path / 'portraits'}?")
    assert fault(tmp_path / "xyzw").endswith(
        "or a built-in set: faces, faces-balanced, faces-marginal, faces-named, faces-race, "
        "scenes, digits"
    )
    text = fault(tmp_path / "nothing" / "here")
    assert f"{tmp_path} has no nothing;" in text


def test_misspelt_embedded_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fault("face") == 'face does not exist; did you mean the built-in set "faces"?'


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 300])
def test_paths_that_no_file_can_have(path: str) -> None:
    assert "or a built-in set: faces, faces-balanced" in fault(path)


@pytest.mark.parametrize("name", ["faces.zip", "faces", "faces.npy"])
def test_files_of_unknown_kinds(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert "is not a kind of data that can be read; give a folder" in fault(tmp_path / name)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.parquet", "a.png"])
def test_a_single_file_of_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert fault(tmp_path / name).endswith(f"give its folder, {tmp_path}")


def test_prompt_column_of_the_embedded_set() -> None:
    assert "faces has no column 'caption'; It has: prompt" in fault(
        "faces", prompt_column="caption"
    )


def test_folder_without_pictures(tmp_path: Path) -> None:
    text = fault(tmp_path)
    assert "holds no pictures, nor do its subfolders; put pictures there (.avif" in text
    assert 'first line is "file_name,caption"' in text
    (tmp_path / "part.npz").write_bytes(b"x")
    assert fault(tmp_path).endswith(f"no pictures but part.npz; give {tmp_path}/part.npz")


def test_folder_without_captions(tmp_path: Path) -> None:
    tiny.write_pictures(tmp_path, ["x/a.png", "x/b.png"])
    text = fault(tmp_path)
    assert "has 2 pictures and no captions; add a metadata.csv" in text
    assert 'rows look like "x/a.png,a person wearing a hat"' in text
    assert text.endswith(f"such as {tmp_path}/x/a.txt")


def test_metadata_further_down(tmp_path: Path) -> None:
    tiny.folder_with_metadata(tmp_path / "train")
    assert fault(tmp_path).endswith(f"train/metadata.csv is there; give {tmp_path}/train")


def test_two_metadata_files(tmp_path: Path) -> None:
    tiny.folder_with_metadata(tmp_path)
    (tmp_path / "metadata.jsonl").write_text("{}")
    assert fault(tmp_path).endswith(
        "metadata.csv and metadata.jsonl; keep the one that should count"
    )


def test_metadata_rows_for_files_that_are_not_there(tmp_path: Path) -> None:
    tiny.folder_with_metadata(tmp_path)
    (tmp_path / "b.png").unlink()
    text = fault(tmp_path)
    assert "1 of 3 pictures in" in text
    assert "cannot be used, more than the 5.0% allowed: b.png: the file is missing, but" in text
    assert text.endswith("Mend or remove them, or raise data.max_bad_share")
    samples = open_samples(tmp_path, 8, max_bad_share=1 / 3)
    assert samples.quarantined == (("b.png", "the file is missing, but metadata.csv lists it"),)


def test_metadata_row_without_a_name(tmp_path: Path) -> None:
    tiny.write_pictures(tmp_path, ["a.png"])
    rows = [{"file_name": "a.png", "text": "x"}, {"file_name": None, "text": "x"}]
    tiny.write_rows(tmp_path / "metadata.jsonl", rows)
    samples = open_samples(tmp_path, 8, max_bad_share=0.5)
    assert samples.quarantined == (
        ("metadata.jsonl, row 2", "row 2 of metadata.jsonl has no file_name"),
    )


def test_nothing_is_left(tmp_path: Path) -> None:
    tiny.folder_with_captions(tmp_path)
    for name in tiny.NAMES:
        (tmp_path / name).write_bytes(tiny.bomb(12000, 12000))
    text = fault(tmp_path, max_bad_share=1.0)
    assert "none of the 3 pictures in" in text
    assert "a.png: 12000 x 12000 pixels are more than 64 megapixels" in text


def test_every_prompt_is_empty(tmp_path: Path) -> None:
    tiny.folder_with_captions(tmp_path)
    for name in tiny.NAMES:
        (tmp_path / name).with_suffix(".txt").write_text("\n")
    assert f"every caption in {tmp_path} is empty; fill them in" in fault(tmp_path)


METADATA: dict[str, tuple[str, bytes, str]] = {
    "no file_name": (
        "csv",
        b"filename,text\na.png,x\n",
        "did you mean 'filename'? It has: filename",
    ),
    "no prompt": ("csv", b"file_name,description\na.png,x\n", "(columns: file_name, description)"),
    "no rows": ("csv", b"file_name,text\n", "has no rows; add one for each picture"),
    "empty": ("csv", b"", "has no column 'file_name'"),
    "comma": (
        "csv",
        b"file_name,text\na.png,a man, smiling\n",
        "row 1 has 3 values for 2 columns; put",
    ),
    "twice": (
        "csv",
        b"file_name,text,text\na.png,x,y\n",
        "names a column twice: file_name, text, text",
    ),
    "quote": ("csv", b'file_name,text\na.png,"x\n', "is not valid CSV: "),
    "latin": (
        "csv",
        "file_name,text\na.png,caf\u00e9\n".encode("latin-1"),
        "is not UTF-8 text (byte",
    ),
    "json": (
        "jsonl",
        b'{"file_name": "a.png", "text": "x"}\n{oops\n',
        "line 2 is not valid JSON: ",
    ),
    "object": ("jsonl", b"[1, 2]\n", 'line 1 must be an object such as {"file_name"'),
    "nested": (
        "jsonl",
        b'{"file_name": "a.png", "text": [{"en": "x"}]}\n',
        "holds values of type dict",
    ),
    "parquet": ("parquet", b"PAR1 not really", "cannot be read as parquet: "),
}


@pytest.mark.parametrize("case", METADATA)
def test_metadata_files(tmp_path: Path, case: str) -> None:
    suffix, content, message = METADATA[case]
    tiny.write_pictures(tmp_path, ["a.png"])
    (tmp_path / f"metadata.{suffix}").write_bytes(content)
    text = fault(tmp_path)
    assert str(tmp_path) in text
    assert message in text


def test_a_prompt_column_that_is_not_there(tmp_path: Path) -> None:
    text = fault(tiny.folder_with_metadata(tmp_path), prompt_column="captoin")
    assert "has no column 'captoin'; did you mean 'caption'? It has: file_name, caption" in text


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
