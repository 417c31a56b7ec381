"""Each mistake in a source is one line that says what to do."""

from pathlib import Path

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
        "faces-several, scenes, digits"
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
