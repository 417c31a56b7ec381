"""Miniatures of the official archives: the same layout, a few pictures."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.tiny_sources import encode
from invdiff.data.sets.official import archive, celeba, fairface, waterbirds
from invdiff.data.sets.official.archive import TEST, TRAIN, VALIDATION, Archive, Published
from invdiff.studies.official_sets import BENCHMARKS
from tests.data.tiny_sources import encode

CELEBA_ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose "
    "Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee "
    "Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard "
    "Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair "
    "Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"
)
SPECIES = {"0": "048.European_Goldfinch", "1": "007.Parakeet_Auklet"}


@dataclass(frozen=True)
class Tiny:
    """An archive on the disk, and what its publisher would say of it."""

    name: str
    folder: Path
    published: Published

    def read(self) -> Archive:
        return BENCHMARKS[self.name].read(self.folder, self.published)


def jpeg(number: int, size: tuple[int, int]) -> bytes:
    """Noise that no two numbers share."""
    noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return encode(Image.fromarray(noise), "JPEG")


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def spread(counts: dict[str, dict[str, int]]) -> Iterator[tuple[int, str, str]]:
    """Number, split and class of each picture."""
    number = 0
    for split, classes in counts.items():
        for name, count in classes.items():
            for _ in range(count):
                number += 1
                yield number, split, name


def tiny_waterbirds(folder: Path) -> Tiny:
    counts = {
        TRAIN: dict(zip(waterbirds.GROUPS, (7, 3, 2, 4), strict=True)),
        VALIDATION: dict(zip(waterbirds.GROUPS, (2, 2, 1, 1), strict=True)),
        TEST: dict(zip(waterbirds.GROUPS, (1, 1, 1, 1), strict=True)),
    }
    codes = {split: code for code, split in archive.SPLITS.items()}
    lines = ["img_id,img_filename,y,split,place,place_filename"]
    for number, split, group in spread(counts):
        bird, place = divmod(waterbirds.GROUPS.index(group), 2)
        file = f"{SPECIES[str(bird)]}/{SPECIES[str(bird)][4:]}_{number:04}_{number * 7}.jpg"
        scene = ("/b/bamboo_forest/00001.jpg", "/o/ocean/00001.jpg")[place]
        lines.append(f"{number},{file},{bird},{codes[split]},{place},{scene}")
        write(folder / waterbirds.FOLDER / file, jpeg(number, (24, 16)))
    write(folder / waterbirds.FOLDER / "metadata.csv", "\n".join(lines) + "\n")
    return Tiny("waterbirds", folder, Published(counts))


def tiny_celeba(folder: Path) -> Tiny:
    """The first picture that is not blond is brown, and the first blond one is black as well."""
    counts = {
        TRAIN: dict(zip(celeba.COUNTED, (4, 6, 8, 3), strict=True)),
        VALIDATION: dict(zip(celeba.COUNTED, (2, 2, 2, 2), strict=True)),
        TEST: dict(zip(celeba.COUNTED, (1, 1, 1, 1), strict=True)),
    }
    codes = {split: code for code, split in archive.SPLITS.items()}
    labels, partition, odd = [], [], {"blond", "not blond"}
    for number, split, name in spread(counts):
        gender, hair = name.split(", ")
        is_odd = hair in odd
        odd.discard(hair)
        yes = {"Male"} if gender == "male" else set()
        yes |= {"Blond_Hair"} if hair == "blond" else set()
        yes |= {"Black_Hair"} if (hair == "blond") == is_odd else set()
        signs = " ".join(f"{1 if one in yes else -1:2}" for one in CELEBA_ATTRIBUTES.split())
        labels.append(f"{number:06}.jpg {signs}\n")
        partition.append(f"{number:06}.jpg {codes[split]}\n")
        write(folder / "img_align_celeba" / f"{number:06}.jpg", jpeg(number, (18, 22)))
    head = f"{len(labels)}\n{CELEBA_ATTRIBUTES} \n"
    files = {celeba.ATTRIBUTES: head + "".join(labels), celeba.PARTITION: "".join(partition)}
    for name, text in files.items():
        write(folder / name, text)
    md5 = {name: hashlib.md5(text.encode()).hexdigest() for name, text in files.items()}
    return Tiny("celeba", folder, Published(counts, md5, size=(18, 22)))


def tiny_fairface(folder: Path) -> Tiny:
    """In turn each race, first as male and then as female."""
    for split, count in ((TRAIN, 42), (VALIDATION, 7)):
        lines = ["file,age,gender,race,service_test"]
        for number in range(1, count + 1):
            race = list(fairface.RACE4)[number % 7]
            gender = ("Male", "Female")[number > count // 2]
            file = f"{fairface.FOLDERS[split]}/{number}.jpg"
            lines.append(f"{file},20-29,{gender},{race},{number % 2 == 0}")
            write(folder / file, jpeg(1000 * count + number, (14, 14)))
        write(folder / fairface.LABELS[split], "\n".join(lines) + "\n")
    return Tiny("fairface", folder, Published({TRAIN: {"face": 42}, VALIDATION: {"face": 7}}))


MAKE = {"waterbirds": tiny_waterbirds, "celeba": tiny_celeba, "fairface": tiny_fairface}


def make(name: str, folder: Path) -> Tiny:
    return MAKE[name](folder)


def without_digests(tiny: Tiny) -> Tiny:
    """The same, but only what is in the files is checked."""
    return replace(tiny, published=replace(tiny.published, md5={}))
