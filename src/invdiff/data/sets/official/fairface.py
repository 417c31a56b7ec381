"""FairFace: faces labelled with gender, race and age (Karkkainen and Joo, 2021, arXiv:1908.04913).

Read from `fairface_label_train.csv`, `fairface_label_val.csv` and the picture folders `train/` and
`val/`, beside the label files or in `fairface-img-margin025-trainval` (or margin125). The labels
are those of annotators who saw the picture: what a face looks like to them.
"""

from pathlib import Path

from invdiff.data.readers.tables import open_table
from invdiff.data.sets.official import archive
from invdiff.data.sets.official.archive import Archive, ArchivePicture, Published

LABELS = {archive.TRAIN: "fairface_label_train.csv", archive.VALIDATION: "fairface_label_val.csv"}
FOLDERS = {archive.TRAIN: "train", archive.VALIDATION: "val"}
MARGINS = ("fairface-img-margin025-trainval", "fairface-img-margin125-trainval")
GENDERS = {"Male": "male", "Female": "female"}
RACE4 = {  # the four classes of the paper's setting
    "White": "WMELH",  # White, Middle Eastern, Latino or Hispanic
    "Middle Eastern": "WMELH",
    "Latino_Hispanic": "WMELH",
    "East Asian": "Asian",
    "Southeast Asian": "Asian",
    "Indian": "Indian",
    "Black": "Black",
}
RACES = ("WMELH", "Asian", "Indian", "Black")
GROUPS = tuple(f"{gender}, {race}" for gender in GENDERS.values() for race in RACES)

PUBLISHED = Published(  # no digests; the two archives differ in the size of the pictures
    counts={archive.TRAIN: {"face": 86744}, archive.VALIDATION: {"face": 10954}}
)


def read(folder: Path, published: Published) -> Archive:
    """Read and check the archive in `folder`. Raises DataError.

    The caption names the gender, so that race is what can be tied to a prompt.
    """
    labels = {split: archive.find_file(folder, name) for split, name in LABELS.items()}
    pictures = archive.find_file(folder, "train", *(f"{margin}/train" for margin in MARGINS)).parent
    entries: list[ArchivePicture] = []
    for split, path in labels.items():
        archive.check_md5(path, published)
        found = read_split(path, split)
        kinds = [(split, "face")] * len(found)
        counts = {split: published.counts[split]}
        archive.check_counts(path, [entry.file for entry in found], kinds, counts)
        entries += found
    readable = archive.check_pictures(pictures, [entry.file for entry in entries], published.size)
    return Archive(
        pictures=pictures,
        entries=tuple(entries),
        checked=("both label files: the number of pictures, every gender and race known", readable),
        notes=(f"pictures from {pictures}",),
    )


def read_split(path: Path, split: str) -> tuple[ArchivePicture, ...]:
    """The pictures of one label file."""
    table = open_table(path)
    files = table.text("file")
    if odd := next((file for file in files if not file.startswith(f"{FOLDERS[split]}/")), None):
        raise archive.altered(f"{path} lists {odd!r}, which is not in {FOLDERS[split]}/")
    genders = archive.coded(table, "gender", GENDERS)
    fours = archive.coded(table, "race", RACE4)
    return ArchivePicture.of_columns(
        files,
        [split] * len(files),
        [f"a photo of a {gender} face" for gender in genders],
        [f"{gender}, {four}" for gender, four in zip(genders, fours, strict=True)],
        gender=genders,
        race4=fours,
        **{name: table.text(name) for name in ("race", "age", "service_test")},
    )
