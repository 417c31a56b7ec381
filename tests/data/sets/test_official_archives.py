"""Official archives of the benchmarks, in miniature: what is read, and what is refused."""

import re
import shutil

import pytest

from invdiff.data.sets.official import celeba, fairface, waterbirds
from invdiff.data.sets.official.archive import TEST, TRAIN, VALIDATION
from invdiff.errors import DataError
from tests.data.tiny_archives import MAKE, make, without_digests

METADATA = f"{waterbirds.FOLDER}/metadata.csv"
BIRD = f"{waterbirds.FOLDER}/048.European_Goldfinch/European_Goldfinch_0003_21.jpg"


def total(counts, *classes):
    """Pictures of all splits, or of some classes."""
    return sum(
        count
        for split in counts.values()
        for name, count in split.items()
        if not classes or name in classes
    )


def test_the_published_table_of_waterbirds():
    counts = waterbirds.PUBLISHED.counts
    assert list(counts[TRAIN].values()) == [3498, 184, 56, 1057]
    sizes = {split: sum(classes.values()) for split, classes in counts.items()}
    assert sizes == {TRAIN: 4795, VALIDATION: 1199, TEST: 5794}
    assert total(counts) == 11788, "the pictures of CUB-200-2011, each once"
    # what the name of the archive says: 95 % of the training birds are where they belong
    share = (3498 + 1057) / 4795
    assert share == pytest.approx(0.95, abs=5e-4)


def test_the_published_table_of_celeba():
    counts = celeba.PUBLISHED.counts
    sizes = {split: sum(classes.values()) for split, classes in counts.items()}
    assert sizes == {TRAIN: 162770, VALIDATION: 19867, TEST: 19962}
    assert total(counts) == 202599
    # the sums of two of the 40 columns, as the data set's own statistics give them
    assert total(counts, "male, blond", "male, not blond") == 84434
    assert total(counts, "male, blond", "female, blond") == 29983
    assert all(re.fullmatch("[0-9a-f]{32}", digest) for digest in celeba.PUBLISHED.md5.values())


def test_the_published_table_of_fairface():
    assert fairface.PUBLISHED.counts == {TRAIN: {"face": 86744}, VALIDATION: {"face": 10954}}
    assert len(fairface.GROUPS) == 8
    assert set(fairface.RACE4.values()) == set(fairface.RACES)


@pytest.mark.parametrize("name", MAKE)
def test_a_whole_archive_passes(name, tmp_path):
    tiny = make(name, tmp_path)
    archive = tiny.read()
    found = {split: 0 for split in tiny.published.counts}
    for entry in archive.entries:
        assert (archive.pictures / entry.file).is_file()
        found[entry.split] += 1
    left_out = 2 if name == "celeba" else 0
    assert sum(found.values()) == total(tiny.published.counts) - left_out
    assert any("all there and readable" in line for line in archive.checked)


def test_waterbirds_are_prompted_by_species(tmp_path):
    entries = make("waterbirds", tmp_path).read().entries
    assert {(one.caption, one.attributes["class_caption"]) for one in entries} == {
        ("a european goldfinch", "a landbird"),
        ("a parakeet auklet", "a waterbird"),
    }
    odd = next(one for one in entries if one.group == "waterbird on land")
    assert odd.split == TRAIN
    assert odd.file == "007.Parakeet_Auklet/Parakeet_Auklet_0011_77.jpg"
    assert odd.attributes["bird"] == "waterbird"
    assert odd.attributes["background"] == "land"
    assert odd.attributes["place_filename"] == "/b/bamboo_forest/00001.jpg"


def test_celeba_is_prompted_by_hair(tmp_path):
    archive = make("celeba", tmp_path).read()
    entries = archive.entries
    groups = {(one.caption, one.group) for one in entries}
    assert groups == {
        (f"a photo of a person with {hair} hair", f"{gender}, {hair}")
        for hair in ("blond", "black")
        for gender in ("male", "female")
    }
    # brown hair, and hair that is blond and black at once
    assert not {"000001.jpg", "000011.jpg"} & {one.file for one in entries}
    assert "2 of 33" in archive.notes[0]
    train = [one.group for one in entries if one.split == TRAIN]
    assert [train.count(group) for group in celeba.GROUPS] == [3, 7, 6, 3]


def test_fairface_is_prompted_by_gender(tmp_path):
    entries = make("fairface", tmp_path).read().entries
    by_file = {one.file: one for one in entries}
    first = by_file["train/1.jpg"]
    assert first.attributes["race"] == "Middle Eastern"
    assert (first.caption, first.group) == ("a photo of a male face", "male, WMELH")
    seven = [by_file[f"train/{number}.jpg"].attributes["race4"] for number in range(7, 14)]
    assert seven == ["WMELH", "WMELH", "WMELH", "Asian", "Asian", "Indian", "Black"]
    assert by_file["val/7.jpg"].caption == "a photo of a female face"
    assert by_file["val/7.jpg"].split == VALIDATION


def test_the_metadata_folder_itself_may_be_given(tmp_path):
    tiny = make("waterbirds", tmp_path)
    inner = waterbirds.read(tmp_path / waterbirds.FOLDER, tiny.published)
    assert inner == tiny.read()


def test_the_publishers_folders_of_celeba_may_be_kept(tmp_path):
    tiny = make("celeba", tmp_path)
    flat = tiny.read().entries
    for folder, name in (
        ("Anno", celeba.ATTRIBUTES),
        ("Eval", celeba.PARTITION),
        ("Img", "img_align_celeba"),
    ):
        (tmp_path / folder).mkdir()
        shutil.move(tmp_path / name, tmp_path / folder / name)
    archive = tiny.read()
    assert archive.entries == flat
    assert archive.pictures == tmp_path / "Img" / "img_align_celeba"


@pytest.mark.parametrize("margin", fairface.MARGINS)
def test_the_archive_folder_of_fairface_may_be_kept(margin, tmp_path):
    tiny = make("fairface", tmp_path)
    (tmp_path / margin).mkdir()
    for name in ("train", "val"):
        shutil.move(tmp_path / name, tmp_path / margin / name)
    assert tiny.read().pictures == tmp_path / margin


def refusal(tiny) -> str:
    with pytest.raises(DataError) as caught:
        tiny.read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


REMOVED = [
    ("waterbirds", METADATA, "has no metadata.csv or waterbird_complete95_forest2water2/metadata"),
    ("waterbirds", BIRD, "is missing (1 of 26 pictures"),
    ("celeba", celeba.ATTRIBUTES, f"has no {celeba.ATTRIBUTES} or Anno/{celeba.ATTRIBUTES}"),
    ("celeba", celeba.PARTITION, f"has no {celeba.PARTITION} or Eval/{celeba.PARTITION}"),
    ("celeba", "img_align_celeba/000007.jpg", "is missing (1 of 33 pictures"),
    ("fairface", "fairface_label_val.csv", "has no fairface_label_val.csv"),
    ("fairface", "val/3.jpg", "is missing (1 of 49 pictures"),
]


@pytest.mark.parametrize(("name", "file", "said"), REMOVED)
def test_a_missing_file_is_named(name, file, said, tmp_path):
    tiny = make(name, tmp_path)
    (tmp_path / file).unlink()
    text = refusal(tiny)
    assert said in text
    assert file in text


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "said"),
    [
        ("waterbirds", METADATA, ",0,0,1,", ",0,0,0,",
         "lists 8 pictures of 'landbird on land' in the train split, the published set has 7"),
        ("waterbirds", METADATA, ",0,0,1,", ",0,0,7,",
         "row 8: place is '7', which is none of 0, 1"),
        ("waterbirds", METADATA, ",y,", ",label,", "has no column 'y'"),
        ("waterbirds", METADATA, ",048.European", ",European", "begin with a species folder"),
        ("waterbirds", METADATA, "_0002_14", "_0001_7", "_0001_7.jpg 2 times"),
        ("celeba", celeba.ATTRIBUTES, "33\n", "34\n", "says 34 in its first line"),
        ("celeba", celeba.ATTRIBUTES, " Male ", " Mal ", "has no attribute Male"),
        ("celeba", celeba.ATTRIBUTES, "000002.jpg -1", "000002.jpg", "line 4 has 40 words"),
        ("celeba", celeba.ATTRIBUTES, "000002.jpg", "000001.jpg",
         "lists 000001.jpg 2 times"),
        ("celeba", celeba.PARTITION, "000002.jpg 0", "000002.jpg 0\n999999.jpg 0",
         "lists more pictures than the attributes"),
        ("celeba", celeba.PARTITION, "000002.jpg", "999999.jpg", "has no split for 000002.jpg"),
        ("celeba", celeba.PARTITION, "000002.jpg 0", "000002.jpg 3", "the split is '3'"),
        ("celeba", celeba.PARTITION, "000002.jpg 0", "000002.jpg", "'000002.jpg' is not a file"),
        ("celeba", celeba.PARTITION, "000002.jpg 0", "000002.jpg 1",
         "(and 1 other numbers differ)"),
        ("fairface", "fairface_label_train.csv", "train/2.jpg,20-29,Male,Latino_Hispanic,True\n",
         "", "lists 41 pictures of 'face' in the train split, the published set has 42"),
        ("fairface", "fairface_label_train.csv", "train/2.jpg", "val/2.jpg", "not in train/"),
        ("fairface", "fairface_label_train.csv", "train/2.jpg", "train/1.jpg",
         "lists train/1.jpg 2 times"),
        ("fairface", "fairface_label_val.csv", "Latino_", "Latin_", "race is 'Latin_Hispanic'"),
        ("fairface", "fairface_label_val.csv", "Female", "female", "gender is 'female'"),
    ],
)  # fmt: skip
def test_altered_labels_are_named(name, file, old, new, said, tmp_path):
    tiny = without_digests(make(name, tmp_path))
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1))
    said_of_it = refusal(tiny)
    assert said in said_of_it
    assert file in said_of_it or celeba.ATTRIBUTES in said_of_it


@pytest.mark.parametrize("file", [celeba.ATTRIBUTES, celeba.PARTITION])
def test_a_label_file_with_another_digest_is_refused(file, tmp_path):
    tiny = make("celeba", tmp_path)
    with (tmp_path / file).open("a") as stream:
        stream.write("\n")
    text = refusal(tiny)
    assert f"{file} is not the published file: its MD5 is" in text
    assert tiny.published.md5[file] in text
    without_digests(tiny).read()  # nothing else would have noticed


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("waterbirds", BIRD),
        ("celeba", "img_align_celeba/000007.jpg"),
        ("fairface", "val/3.jpg"),
    ],
)
@pytest.mark.parametrize("kept", [0, 0.7])
def test_a_cut_picture_is_named(name, file, kept, tmp_path):
    tiny = make(name, tmp_path)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[: int(kept * len(content))])
    assert f"{file} cannot be read" in refusal(tiny)


def test_a_picture_of_another_size_is_named(tmp_path):
    tiny = make("celeba", tmp_path)
    shutil.copy(make("fairface", tmp_path / "x").folder / "val/1.jpg", tmp_path / "img.jpg")
    shutil.move(tmp_path / "img.jpg", tmp_path / "img_align_celeba/000007.jpg")
    assert "000007.jpg has 14 x 14 pixels, not 18 x 22" in refusal(tiny)


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("waterbirds", f"{waterbirds.FOLDER}.tar.gz"),
        ("celeba", "Img/img_align_celeba.zip"),
        ("fairface", "fairface-img-margin025-trainval.zip"),
    ],
)
def test_an_archive_that_is_still_packed_is_named(name, packed, tmp_path):
    tiny = make(name, tmp_path)
    for folder in (waterbirds.FOLDER, "img_align_celeba", "train"):
        shutil.rmtree(tmp_path / folder, ignore_errors=True)
    (tmp_path / packed).parent.mkdir(exist_ok=True)
    (tmp_path / packed).touch()
    assert f"{packed} is still packed" in refusal(tiny)


@pytest.mark.parametrize("name", MAKE)
def test_a_folder_that_is_not_there_is_named(name, tmp_path):
    tiny = make(name, tmp_path / "there")
    shutil.rmtree(tiny.folder)
    assert f"{tiny.folder} is no folder" in refusal(tiny)


def test_a_label_file_that_is_no_text_is_named(tmp_path):
    tiny = without_digests(make("celeba", tmp_path))
    (tmp_path / celeba.PARTITION).write_bytes(b"\xff\xfe\x00")
    assert f"{celeba.PARTITION} cannot be read" in refusal(tiny)
