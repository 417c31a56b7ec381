"""The embedded set is what was drawn, and its attributes stay closed unless asked for."""

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from invdiff.data.sets.drawn import faces
from invdiff.data.sets.stored import Split, StoredSet
from invdiff.data.sources import open_samples

# sha256 of the array `images` in the train.npz and balanced.npz that tools/pack_faces.py read
# (facesjs 5.0.3, rasterised once; the npz files are too large for the repository).
PIXELS: dict[Split, str] = {
    "train": "6e67011585a3050076aa205497f510da8123dabdeaf27dfd64dec7240e40be5c",
    "balanced": "cb34ef094c043c177b95c8775ce7f5b5612d9459aa751bcf90c517b2b34428df",
}
COUNTS: dict[Split, int] = {"train": 8000, "balanced": 4000}
SPLITS: Sequence[Split] = tuple(COUNTS)


@pytest.mark.parametrize("split", SPLITS)
def test_atlas_decodes_to_the_pixels_it_was_made_from(split: Split) -> None:
    pixels = faces.pictures(split)
    assert pixels.shape == (COUNTS[split], 32, 32, 3)
    assert pixels.dtype == np.uint8
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == PIXELS[split]


@pytest.mark.parametrize("split", SPLITS)
def test_every_prompt_has_a_quarter_of_the_pictures(split: Split) -> None:
    assert Counter(faces.prompts(split)) == {
        "a person wearing a hat": COUNTS[split] // 4,
        "a person wearing glasses": COUNTS[split] // 4,
        "a person wearing a headband": COUNTS[split] // 4,
        "a person": COUNTS[split] // 4,
    }


def test_planted_shares_are_those_of_the_documentation() -> None:
    gender = faces.attributes("train")["gender"]
    males = Counter(
        prompt for prompt, one in zip(faces.prompts("train"), gender, strict=True) if one == "male"
    )
    assert males == {
        "a person wearing a hat": 1800,
        "a person wearing glasses": 200,
        "a person wearing a headband": 1000,
        "a person": 1600,
    }


def test_balanced_split_is_balanced_in_gender_and_race() -> None:
    attributes = faces.attributes("balanced")
    rows = Counter(
        zip(faces.prompts("balanced"), attributes["gender"], attributes["race"], strict=True)
    )
    assert len(rows) == 4 * 2 * 4
    assert set(rows.values()) == {125}


@pytest.mark.parametrize("split", SPLITS)
def test_prompts_and_attributes_belong_to_their_pictures(split: Split) -> None:
    """Hats and glasses are drawn for their prompts only, and each attribute has one value a row."""
    attributes = faces.attributes(split)
    assert set(attributes) == {"gender", "race", "hair", "facial_hair", "accessory", "glasses"}
    for prompt, accessory, glasses in zip(
        faces.prompts(split), attributes["accessory"], attributes["glasses"], strict=True
    ):
        assert ("hat" in accessory) == (prompt == "a person wearing a hat")
        assert (glasses != "none") == (prompt == "a person wearing glasses")


def test_samples_open_no_file_of_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    really_open = StoredSet.open

    def record(stored: StoredSet, name: str) -> object:
        opened.append(name)
        return really_open(stored, name)

    monkeypatch.setattr(StoredSet, "open", record)
    samples = open_samples("faces", 32)
    samples.pictures([0, 1])
    assert sorted(opened) == ["train.parquet", "train.webp"]


def test_samples_are_the_training_split_in_its_order() -> None:
    samples = open_samples("faces", 32)
    pixels = faces.pictures("train")
    chosen = [7999, 0, 4000]
    assert len(samples) == 8000
    assert len(set(samples.sample_id)) == 8000
    assert samples.prompt == faces.prompts("train")
    assert samples.quarantined == ()
    assert np.array_equal(samples.pictures(chosen), pixels[chosen])


def test_another_size_changes_the_pictures_and_not_the_ids() -> None:
    small, stored = open_samples("faces", 16), open_samples("faces", 32)
    assert small.sample_id == stored.sample_id
    assert small.pictures([5]).shape == (1, 16, 16, 3)
    # halving with area means is the mean of 2 x 2 pixels, rounded in each direction
    blocks = stored.pictures([5]).reshape(1, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    assert np.abs(small.pictures([5]) - blocks).max() <= 1
