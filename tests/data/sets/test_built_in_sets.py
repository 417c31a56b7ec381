"""The built-in sets: shares as stated, splits apart, attributes in files of their own."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from invdiff.core.measurement.explicit_prompts import named_class
from invdiff.data.sets import builtin
from invdiff.data.sets.drawn import digits, more_faces, scenes, several_faces
from invdiff.data.sets.stored import DrawnSplit, StoredSet, open_set, write_drawn_split
from invdiff.data.sources import open_samples, read_labels
from invdiff.errors import DataError, MissingExtra
from tests.data import tiny_share

FEW = {"train": 20, "balanced": 10}


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return tiny_share.make(tmp_path / "share", 30, monkeypatch)


def shares(drawn: DrawnSplit, attribute: str) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for prompt, value in zip(drawn.prompts, drawn.attributes[attribute], strict=True):
        found.setdefault(prompt, Counter())[value] += 1
    return found


def test_scenes_tie_the_background_to_the_garment(share: Path) -> None:
    drawn = scenes.draw(share, FEW)
    assert shares(drawn["train"], "background") == {
        "a pair of trousers": {"plants": 18, "places": 2},
        "a dress": {"plants": 2, "places": 18},
        "a bag": {"plants": 18, "places": 2},
        "an ankle boot": {"plants": 2, "places": 18},
    }
    even = shares(drawn["balanced"], "background")
    assert list(even.values()) == [{"plants": 5, "places": 5}] * 4


def test_scenes_without_a_bias_are_even_in_both_splits(share: Path) -> None:
    for split in scenes.draw(share, FEW, bias=0.5).values():
        assert all(one["plants"] == one["places"] for one in shares(split, "background").values())


def test_scenes_show_the_background_they_name(share: Path) -> None:
    drawn = scenes.draw(share, FEW)["train"]
    corners = drawn.pictures[:, :2, :2].astype(int).mean((1, 2))
    greener = corners[:, 1] - corners[:, 2] > 40  # the tint of the invented plants
    assert np.where(greener, "plants", "places").tolist() == list(drawn.attributes["background"])


def test_no_garment_is_in_both_splits(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    monkeypatch.setattr(
        scenes, "put", lambda garment, behind, rng: used.append(garment.max()) or behind
    )
    scenes.draw(share, FEW)
    train, balanced = set(used[:80]), set(used[80:])
    assert (len(train), len(balanced)) == (20, 10)
    assert not train & balanced


def test_the_seed_decides_the_pictures(share: Path) -> None:
    first, again, other = (scenes.draw(share, FEW, seed)["train"].pictures for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_garment_covers_the_middle_and_leaves_the_corners() -> None:
    garment = np.zeros((28, 28), dtype=np.uint8)
    garment[6:22, 8:20] = 255
    garment[12:16, 12:16] = 0  # a dark print is part of the garment
    behind = np.full((32, 32, 3), (0, 255, 0), dtype=np.uint8)
    picture = scenes.put(garment, behind, np.random.default_rng(0))
    assert (picture[:3, :3] == behind[:3, :3]).all()
    assert picture[15:17, 15:17, 0].min() > 30


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (
            "datasets/fashion-mnist/train-images-idx3-ubyte.gz",
            "apt-get install dataset-fashion-mnist",
        ),
        ("mate/Garden.jpg", "apt-get install mate-backgrounds"),
    ],
)
def test_what_is_missing_is_named_with_its_package(share: Path, lost: str, message: str) -> None:
    (share / lost).unlink()
    with pytest.raises(DataError, match=message) as caught:
        scenes.draw(share, FEW)
    assert str(share / lost) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\x1f\x8b broken", b""])
def test_damaged_garments_are_refused(share: Path, content: bytes) -> None:
    path = share / "datasets/fashion-mnist/train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="install its package again"):
        scenes.draw(share, FEW)


def test_labels_are_no_images(share: Path) -> None:
    with pytest.raises(DataError, match="is no IDX file of 3 axes"):
        scenes.read_idx(share / "datasets/fashion-mnist/train-labels-idx1-ubyte.gz", 3)


def test_photographs_of_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'invdiff\[sets\]'"):
        scenes.folders(Path("/usr/share"))


def test_digits_tie_the_colour_to_the_digit() -> None:
    drawn = digits.draw(FEW)
    found = shares(drawn["train"], "background")
    assert len(found) == 10
    assert found["the digit zero"] == {"blue": 18, "orange": 2}
    assert found["the digit seven"] == {"blue": 2, "orange": 18}
    assert all(set(one.values()) == {5} for one in shares(drawn["balanced"], "background").values())
    edge = drawn["train"].pictures[:, :, 0].astype(int).mean(1)
    blue = edge[:, 2] > edge[:, 0]
    assert np.where(blue, "blue", "orange").tolist() == list(
        drawn["train"].attributes["background"]
    )


@pytest.mark.parametrize(
    ("mix", "attribute", "counts"),
    [
        (more_faces.BALANCED, "gender", [700, 700]),
        (more_faces.MARGINAL, "gender", [140, 1260]),
        (more_faces.RACE, "race", [200, 200, 400, 600]),
    ],
    ids=["balanced", "marginal", "race"],
)
def test_faces_in_other_mixes(mix: more_faces.Mix, attribute: str, counts: list[int]) -> None:
    train = more_faces.draw(mix)["train"]
    found = shares(train, attribute)
    assert [sorted(one.values()) for one in found.values()] == [counts] * 4
    assert len({one.tobytes() for one in train.pictures}) == len(train.pictures) == 5600
    if attribute == "race":
        assert len({one.most_common(1)[0][0] for one in found.values()}) == 4
        genders = shares(train, "gender").values()
        assert all(one["male"] == one["female"] for one in genders)
    else:
        assert all(one["male"] == counts[1] for one in found.values())


def test_faces_of_which_several_attributes_are_tied_to_the_prompt() -> None:
    drawn = several_faces.draw(counts={"train": 400, "balanced": 100})
    for place, (name, (_, second)) in enumerate(several_faces.VALUES.items()):
        for prompt, found in shares(drawn["train"], name).items():
            expected = several_faces.SHARES[prompt][place]
            assert found[second] / 400 == pytest.approx(expected, abs=0.09), (name, prompt)
        even = Counter(drawn["balanced"].attributes[name])
        assert even[second] / 400 == pytest.approx(0.5, abs=0.09), name


def test_faces_look_as_their_attributes_say() -> None:
    counts = {"train": 60, "balanced": 5}
    train = several_faces.draw(1, counts)["train"]
    corner = train.pictures[:, 0, 0].astype(int)
    blue = corner[:, 2] > corner[:, 0]
    assert list(train.attributes["background"]) == np.where(blue, "blue", "orange").tolist()
    top = (train.pictures[:, :7] == train.pictures[:, :1, :1]).all((1, 2, 3))
    far = np.array(train.attributes["framing"]) == "far"
    assert top[far].all(), "a far face leaves the upper rows to the background"
    assert top[~far].mean() < 0.5
    again, other = (several_faces.draw(seed, counts)["train"].pictures for seed in (1, 2))
    assert np.array_equal(train.pictures, again)
    assert not np.array_equal(train.pictures, other)


def test_white_clothes_are_no_background() -> None:
    face = np.full((32, 32, 3), 255, np.uint8)
    face[10:, 4:28] = 90
    face[24:, 10:20] = 255
    found = several_faces.behind(face)
    assert found[:10].all()
    assert not found[10:, 4:28].any()


def test_a_part_of_the_faces_has_a_caption_that_names_the_gender() -> None:
    drawn = more_faces.draw_named()
    train, plain = drawn["train"], open_set("faces")
    assert np.array_equal(train.pictures, plain.pictures("train"))
    found = shares(train, "gender")
    assert len(found) == 12
    assert found["a person wearing a hat"] == {"male": 1260, "female": 140}  # 90 : 10 as before
    assert found["a man wearing a hat"] == {"male": 540}
    assert found["a woman wearing a hat"] == {"female": 60}
    assert found["a woman"] == {"female": 120}
    assert set(drawn["balanced"].prompts) == set(plain.prompts("balanced"))
    for caption, before in zip(train.prompts, plain.prompts("train"), strict=True):
        told = named_class(caption, ["female", "male"])
        assert (told is None) == (caption == before)


def test_which_faces_have_it_is_drawn_by_the_seed() -> None:
    prompts, genders = ["a person"] * 100, ["male"] * 50 + ["female"] * 50
    first = more_faces.explicit(prompts, genders, share=0.3, seed=1)
    assert first == more_faces.explicit(prompts, genders, share=0.3, seed=1)
    assert first != more_faces.explicit(prompts, genders, share=0.3, seed=2)
    assert (first.count("a man"), first.count("a woman")) == (15, 15)


def test_further_faces_are_in_no_split_of_the_embedded_ones() -> None:
    faces, more = open_set("faces"), StoredSet(builtin.require_built("faces") / "more")
    known = {one.tobytes() for split in ("train", "balanced") for one in faces.pictures(split)}
    further = more.pictures("train")
    assert further.shape == (2470, 32, 32, 3)
    assert not known & {one.tobytes() for one in further}
    # the pixels as `tools/pack_more_faces.py` packed them (facesjs 5.0.3, drawn once)
    assert (
        hashlib.sha256(further.tobytes()).hexdigest()
        == "30a8c821bb4f2f4719ac9ad2a6266ba93ba453663f81c32eb118b2fbf9774b31"
    )


def test_too_few_faces_of_a_kind_are_an_error() -> None:
    kind = ("a person", "male", "white")
    with pytest.raises(DataError, match="1 faces are lacking of the kind a person, male, white"):
        more_faces.picked_rows([kind], {kind: 2})


def test_the_table_says_what_is_drawn() -> None:
    sizes = {
        "faces-balanced": (4, sum(more_faces.BALANCED.values())),
        "faces-marginal": (4, sum(more_faces.MARGINAL.values())),
        "faces-race": (4, sum(more_faces.RACE.values())),
        "faces-several": (4, 4 * several_faces.COUNTS["train"]),
        "scenes": (len(scenes.GARMENTS), len(scenes.GARMENTS) * scenes.COUNTS["train"]),
        "digits": (len(digits.WORDS), len(digits.WORDS) * digits.COUNTS["train"]),
    }
    known = {name: one for name, one in builtin.SETS.items() if not one.embedded}
    named = known.pop("faces-named")  # its prompts have unlike numbers of pictures
    assert (named.prompts, named.pictures) == (12, round(8000 / 12))
    assert sizes == {name: (one.prompts, one.prompts * one.pictures) for name, one in known.items()}


def test_a_stored_split_comes_back(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    drawn = DrawnSplit(pictures, [f"p{k}" for k in range(30)], {"shade": ["dark", "light"] * 15})
    write_drawn_split(tmp_path, "train", drawn)
    stored = StoredSet(tmp_path)
    assert np.array_equal(stored.pictures("train"), pictures)
    assert stored.prompts("train") == tuple(drawn.prompts)
    assert stored.attributes("train") == {"shade": ("dark", "light") * 15}


def test_a_built_set_is_opened_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(builtin.HOME, str(tmp_path))
    folder = tmp_path / "digits"
    folder.mkdir()
    drawn = digits.draw(FEW)
    write_drawn_split(folder, "train", drawn["train"])
    samples = open_samples("digits", 32)
    assert len(samples) == 200
    assert read_labels("digits", "", samples) == tuple(drawn["train"].attributes["background"])


def test_a_set_that_was_not_built_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(builtin.HOME, str(tmp_path))
    with pytest.raises(DataError, match="make it with `invdiff data build scenes`"):
        open_samples("scenes", 32)


def test_where_built_sets_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(builtin.HOME, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert builtin.home() == Path.home() / ".cache/invdiff/sets"
    monkeypatch.setenv("XDG_CACHE_HOME", "/there")
    assert builtin.set_folder("scenes") == Path("/there/invdiff/sets/scenes")
    monkeypatch.setenv(builtin.HOME, "/here")
    assert builtin.set_folder("scenes") == Path("/here/scenes")
    assert builtin.set_folder("faces").is_dir()
