"""Several captions of one picture, prompts by a column, and pictures that are left out."""

import tarfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invdiff.data.checking import QUARANTINE_COLUMNS
from invdiff.data.samples import pick_caption, picture_id
from invdiff.data.sources import open_samples, read_labels
from invdiff.errors import DataError
from tests.data import tiny_sources as tiny
from tests.data.tiny_sources import HAT, PLAIN

SEVERAL = ["first caption", "second caption", "third caption"]


def folder(path: Path, suffix: str = "jsonl", names: tuple[str, ...] = ("a", "b", "c")) -> Path:
    path.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        (path / f"{name}.png").write_bytes(tiny.png(number))
    rows: list[dict[str, object]] = [
        {"file_name": f"{name}.png", "caption": SEVERAL, "job": job, "label": name}
        for name, job in zip(names, ("doctor", "nurse", " doctor "), strict=True)
    ]
    tiny.write_rows(path / f"metadata.{suffix}", rows)
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_each_picture_takes_one_of_its_captions(tmp_path: Path, suffix: str) -> None:
    samples = open_samples(folder(tmp_path, suffix), 8)
    assert samples.prompt == tuple(pick_caption(SEVERAL, tiny.png(number)) for number in range(3))
    assert len(set(samples.prompt)) > 1, "these three pictures do not all agree"
    assert samples.caption == samples.prompt


def test_the_choice_stays_with_the_picture_and_labels_find_it(tmp_path: Path) -> None:
    before = open_samples(folder(tmp_path / "x"), 8)
    after = open_samples(folder(tmp_path / "y", names=("z", "q", "k")), 8)
    assert sorted(after.sample_id) == sorted(before.sample_id)
    assert read_labels(tmp_path / "x", "label", before) == ("a", "b", "c")


@given(content=st.binary(max_size=9), captions=st.lists(st.sampled_from(["", "a", "b", "c"])))
def test_a_caption_without_text_is_never_taken(content: bytes, captions: list[str]) -> None:
    chosen = pick_caption(captions, content)
    assert chosen in captions if any(captions) else chosen == ""
    assert bool(chosen) == any(captions)


def test_every_caption_has_its_turn() -> None:
    chosen = [pick_caption(["a", "b", "c"], bytes([number])) for number in range(256)]
    assert min(chosen.count(text) for text in "abc") > 60


def test_a_column_gives_the_prompts_and_captions_stay(tmp_path: Path) -> None:
    plain = open_samples(folder(tmp_path), 8)
    grouped = open_samples(tmp_path, 8, group_column="job")
    assert grouped.prompt == ("doctor", "nurse", "doctor")
    assert grouped.caption == plain.caption
    assert grouped.sample_id == plain.sample_id


def test_a_picture_without_a_group_is_a_fault(tmp_path: Path) -> None:
    tiny.folder_with_metadata(tmp_path)
    rows = [{**row, "job": "" if at else "x"} for at, row in enumerate(tiny.ROWS)]
    tiny.write_rows(tmp_path / "metadata.csv", rows)
    with pytest.raises(DataError, match=r"2 of 3 pictures have no value in column 'job'"):
        open_samples(tmp_path, 8, group_column="job")
    with pytest.raises(DataError, match=r"no column 'jobb'; did you mean 'job'"):
        open_samples(tmp_path, 8, group_column="jobb")


# Quarantine


def quarantine(path: Path, *rows: tuple[str, str, str, str]) -> Path:
    tiny.write_rows(path, [dict(zip(QUARANTINE_COLUMNS, row, strict=True)) for row in rows])
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_listed_pictures_are_left_out_and_are_not_damage(tmp_path: Path, suffix: str) -> None:
    source = tiny.folder_with_captions(tmp_path / "x")
    (source / "gone.png").write_bytes(b"broken")
    listed = quarantine(
        tmp_path / f"bad.{suffix}",
        ("b.png", "tiny", "8 x 8 pixels", picture_id(tiny.png(1))),
        ("gone.png", "unreadable", "not a picture", picture_id(b"broken")),
    )
    samples = open_samples(source, 8, max_bad_share=0, quarantine=listed)
    assert samples.prompt == (HAT, HAT)
    assert samples.quarantined == (
        ("b.png", "tiny: 8 x 8 pixels"),
        ("gone.png", "unreadable: not a picture"),
    )


def test_a_picture_that_was_mended_comes_back(tmp_path: Path) -> None:
    source = tiny.folder_with_captions(tmp_path / "x")
    listed = quarantine(
        tmp_path / "bad.csv",
        ("b.png", "unreadable", "not a picture", picture_id(b"broken")),
        ("a.png", "missing", "the file is missing", ""),
    )
    assert open_samples(source, 8, quarantine=listed).prompt == (HAT, PLAIN, HAT)


def test_a_missing_picture_that_is_listed_is_no_damage(tmp_path: Path) -> None:
    source = tiny.folder_with_metadata(tmp_path / "x")
    (source / "b.png").unlink()
    listed = quarantine(tmp_path / "bad.csv", ("b.png", "missing", "the file is missing", ""))
    assert len(open_samples(source, 8, max_bad_share=0, quarantine=listed)) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bad.txt", "bad.txt is not a .csv or .parquet file; `invdiff data check --quarantine bad"),
        ("bad.csv", "bad.csv does not exist; `invdiff data check --quarantine"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, name: str, message: str) -> None:
    source = tiny.folder_with_captions(tmp_path / "x")
    with pytest.raises(DataError) as caught:
        open_samples(source, 8, quarantine=tmp_path / name)
    assert message in str(caught.value)


def test_a_list_without_the_columns(tmp_path: Path) -> None:
    source = tiny.folder_with_captions(tmp_path / "x")
    tiny.write_rows(tmp_path / "bad.csv", [{"file": "b.png"}])
    with pytest.raises(DataError, match=r"bad.csv has no column 'name'"):
        open_samples(source, 8, quarantine=tmp_path / "bad.csv")


def test_prompts_that_look_the_same_to_the_last_accent_are_one(tmp_path: Path) -> None:
    """macOS often writes é as two characters, other systems as one."""
    forms = [unicodedata.normalize(form, "a café owner") for form in ("NFC", "NFD")]
    assert forms[0] != forms[1]
    rows: list[dict[str, object]] = []
    for number, caption in enumerate(forms):
        (tmp_path / f"{number}.png").write_bytes(tiny.png(number))
        rows.append({"file_name": f"{number}.png", "caption": caption, "g": str(number)})
    tiny.write_rows(tmp_path / "metadata.csv", rows)
    samples = open_samples(tmp_path, 8)
    assert samples.prompts() == (forms[0],)
    assert read_labels(tmp_path, "g", samples) == ("0", "1")


@pytest.mark.parametrize("packed", [False, True])
def test_a_caption_in_utf_16_is_none(tmp_path: Path, packed: bool) -> None:
    """Without its mark it is UTF-8 as well, with a null after each letter."""
    for number, name in enumerate("ab"):
        (tmp_path / f"{name}.png").write_bytes(tiny.png(number))
    (tmp_path / "a.txt").write_text("a person", encoding="utf-16-le")
    (tmp_path / "b.txt").write_text("a person", encoding="utf-8")
    source = tmp_path
    if packed:
        source = tmp_path / "x.tar"
        with tarfile.open(source, "w") as tar:
            for file in ("a.png", "a.txt", "b.png", "b.txt"):
                tar.add(tmp_path / file, file)
    samples = open_samples(source, 8, max_bad_share=0.5)
    assert samples.prompt == ("a person",)
    assert "not UTF-8 text" in samples.quarantined[0][1]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_caption_with_null_characters_is_none(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A table of captions that were UTF-16, as a caption file above."""
    captions = {"a.png": "\0".join("a person") + "\0", "b.png": "a person", "c.png": "a person"}
    tiny.write_pictures(tmp_path, list(captions))
    rows: list[dict[str, object]] = [{"file_name": k, "caption": v} for k, v in captions.items()]
    tiny.write_rows(tmp_path / f"metadata.{suffix}", rows)
    samples = open_samples(tmp_path, 8, max_bad_share=0.5)
    assert samples.prompt == ("a person",) * 2
    assert [name for name, *_ in samples.quarantined] == ["a.png"]
    assert "left out 1 text with null characters in caption" in caplog.text


def test_labels_of_a_row_of_which_one_caption_is_none(tmp_path: Path) -> None:
    """The one that is left is its prompt for the labels as well."""
    tiny.write_pictures(tmp_path, ["a.png", "b.png"])
    none: list[object] = ["n/a", "none", "\0p\0e"]
    rows: list[dict[str, object]] = [
        {"file_name": name, "caption": [*none, "a person"], "label": name} for name in "ab"
    ]
    for row in rows:
        row["file_name"] = f"{row['file_name']}.png"
    tiny.write_rows(tmp_path / "metadata.jsonl", rows)
    samples = open_samples(tmp_path, 8)
    assert samples.prompt == ("a person",) * 2
    assert read_labels(tmp_path, "label", samples) == ("a", "b")
