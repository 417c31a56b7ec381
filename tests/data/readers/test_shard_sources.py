"""Data sets that other libraries wrote, `datasets` and `webdataset` themselves (make_golden.py)."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from invdiff.data.readers.columnar import RowReader, open_parquet
from invdiff.data.samples import sample_id
from invdiff.data.sources import open_samples, read_labels
from invdiff.errors import DataError
from tests.data import tiny_sources as tiny
from tests.data.tiny_sources import HAT, PLAIN

GOLDEN = Path(__file__).parents[1] / "golden"
KINDS = ("saved", "split", "split/train", "hub", "hub/data", "hub/data/train-*.parquet", "tars")


@pytest.mark.parametrize("kind", [*KINDS, "tars/*.tar"])
def test_golden_files_are_the_same_samples(kind: str) -> None:
    samples = open_samples(GOLDEN / kind, 8)
    assert samples.prompt == (HAT, PLAIN, HAT)
    texts = (HAT, PLAIN, HAT)
    ids = [sample_id(tiny.png(number), text) for number, text in enumerate(texts)]
    assert list(samples.sample_id) == ids
    expected = np.stack([np.asarray(tiny.picture(number)) for number in (2, 0)])
    assert np.array_equal(samples.pictures([2, 0]), expected)
    assert read_labels(GOLDEN / kind, "gender", samples) == ("male", "female", "female")


def fault(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_samples(path, 8)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Saved data sets


def test_several_splits_are_a_question(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "split", tmp_path / "x")
    (tmp_path / "x" / "dataset_dict.json").write_text('{"splits": ["test", "train"]}')
    assert fault(tmp_path / "x").endswith(
        f"has the splits test, train; give one of them, as in {tmp_path}/x/test"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data-00001-of-00002.arrow", b"cut", "data-00001-of-00002.arrow cannot be read: "),
        ("data-00001-of-00002.arrow", None, "data-00001-of-00002.arrow cannot be read: "),
        ("state.json", b"{", "state.json cannot be read: "),
        ("state.json", b"{}", "state.json names no data files; save the data set again"),
    ],
)
def test_incomplete_saved_data_sets(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    shutil.copytree(GOLDEN / "saved", tmp_path / "x")
    if content is None:
        (tmp_path / "x" / name).unlink()
    else:
        (tmp_path / "x" / name).write_bytes(content)
    assert message in fault(tmp_path / "x")


# Parquet shards


def test_shards_of_two_splits_are_a_question(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "hub", tmp_path / "x")
    shard = tmp_path / "x" / "data" / "train-00000-of-00002.parquet"
    shutil.copy(shard, shard.with_name("test-00000-of-00001.parquet"))
    text = fault(tmp_path / "x")
    assert "has the splits test, train; give one of them, as in" in text
    assert text.endswith("data/train-*.parquet")
    assert len(open_samples(shard.with_name("train-*.parquet"), 8)) == 3


def test_shards_with_other_columns_are_refused(tmp_path: Path) -> None:
    tiny.parquet(tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": [b"x"], "text": ["x"]}), tmp_path / "b.parquet")
    assert "b.parquet has other columns (image, text) than a.parquet (image, t" in fault(tmp_path)


def test_a_row_is_found_in_its_shard_and_row_group(tmp_path: Path) -> None:
    tiny.parquet(tmp_path / "a.parquet", group=2)
    tiny.parquet(tmp_path / "b.parquet", group=1)
    shards = [open_parquet(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    reader = RowReader(shards, "image")
    assert [reader.content(row) for row in (5, 0, 3, 2, 4, 1)] == [
        tiny.png(number) for number in (2, 0, 0, 2, 1, 1)
    ]
    assert len(reader.chunks) == 2 + 3


# Web data sets


def tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def test_a_caption_file_goes_before_json(tmp_path: Path) -> None:
    facts = json.dumps({"caption": "from json", "caption2": 1}).encode()
    for order in (("a.txt", "a.json"), ("a.json", "a.txt")):
        texts = {"a.txt": HAT.encode(), "a.json": facts}
        members = {"a.png": tiny.png(0), **{name: texts[name] for name in order}}
        assert open_samples(tar(tmp_path / "x.tar", members), 8).prompt == (HAT,)


def test_keys_end_at_the_first_dot_of_the_name(tmp_path: Path) -> None:
    members = {
        "v1.0/a.seg.png": b"a mask, not the picture",
        "v1.0/a.png": tiny.png(0),
        "v1.0/a.txt": HAT.encode(),
        "v1.0/b.PNG": tiny.png(1),
        "v1.0/b.caption": PLAIN.encode(),
        "v1.0/.hidden.png": tiny.png(2),
    }
    samples = open_samples(tar(tmp_path / "x.tar", members), 8)
    assert samples.prompt == (HAT, PLAIN)
    assert samples.quarantined == ()


def test_what_is_wrong_with_members(tmp_path: Path) -> None:
    members = {
        "good.png": tiny.png(0),
        "good.txt": HAT.encode(),
        "two.png": tiny.png(1),
        "two.jpg": tiny.png(1),
        "two.txt": b"x",
        "alone.txt": b"x",
        "list.png": tiny.png(2),
        "list.json": b"[1]",
        "mute.png": tiny.png(3),
    }
    path = tar(tmp_path / "x.tar", members)
    samples = open_samples(path, 8, max_bad_share=0.9)
    assert samples.prompt == (HAT,)
    assert dict(samples.quarantined) == {
        "x.tar/two.png": "more than one picture of one key: two.png and two.jpg",
        "x.tar/alone": "no picture beside its other members (alone)",
        "x.tar/list.png": "its member .json cannot be read: it is not a JSON object",
        "x.tar/mute.png": "its prompt is empty",
    }


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_compressed_files_are_refused(tmp_path: Path, mode: str) -> None:
    path = tar(tmp_path / "x.tar", {"a.png": tiny.png(0)}, mode)
    assert "without compression? (gunzip a .tar.gz)" in fault(path)


def test_a_cut_file_is_refused_as_a_whole(tmp_path: Path) -> None:
    members = {"a.txt": HAT.encode(), "a.png": tiny.png(0), "b.png": tiny.png(1) + bytes(2000)}
    path = tar(tmp_path / "x.tar", members)
    path.write_bytes(path.read_bytes()[:3500])
    assert "x.tar cannot be read as .tar: unexpected end of data; is it complete" in fault(path)


def test_a_file_cut_after_it_was_opened_is_named(tmp_path: Path) -> None:
    from invdiff.data.pictures import BadPicture
    from invdiff.data.readers.tars import open_tars

    path = tar(tmp_path / "x.tar", {"a.txt": HAT.encode(), "a.png": tiny.png(0)})
    listing = open_tars([path])
    path.write_bytes(path.read_bytes()[:1550])
    with pytest.raises(BadPicture, match=r"^x\.tar ends within a\.png$") as caught:
        listing.content(0)
    assert caught.value.kind == "truncated"


def test_a_tar_without_pictures(tmp_path: Path) -> None:
    assert "holds no pictures" in fault(tar(tmp_path / "x.tar", {"a.txt": b"x"}))


def test_mixed_shards_are_a_question(tmp_path: Path) -> None:
    tar(tmp_path / "x.tar", {"a.png": tiny.png(0)})
    tiny.parquet(tmp_path / "x.parquet")
    assert "has .tar and .parquet files; say which: " in fault(tmp_path)
    assert len(open_samples(tmp_path / "*.parquet", 8)) == 3
