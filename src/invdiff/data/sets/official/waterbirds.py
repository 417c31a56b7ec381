"""Waterbirds: birds of CUB-200-2011 pasted onto places (Sagawa et al., 2020, arXiv:1911.08731).

The archive is `waterbird_complete95_forest2water2`: a `metadata.csv` and one folder of pictures for
each of the 200 species. In the training split 95 % of the landbirds are on land and 95 % of the
waterbirds on water; in the others every bird has both backgrounds equally often.
"""

import re
from pathlib import Path

from invdiff.data.readers.tables import open_table
from invdiff.data.sets.official import archive
from invdiff.data.sets.official.archive import Archive, ArchivePicture, Published

FOLDER = "waterbird_complete95_forest2water2"
BIRDS = {"0": "landbird", "1": "waterbird"}
PLACES = {"0": "land", "1": "water"}
GROUPS = ("landbird on land", "landbird on water", "waterbird on land", "waterbird on water")
SPECIES = re.compile(r"\d{3}\.([A-Za-z_]+)/")

PUBLISHED = Published(  # no digest of metadata.csv is published
    counts={
        archive.TRAIN: dict(zip(GROUPS, (3498, 184, 56, 1057), strict=True)),
        archive.VALIDATION: dict(zip(GROUPS, (467, 466, 133, 133), strict=True)),
        archive.TEST: dict(zip(GROUPS, (2255, 2255, 642, 642), strict=True)),
    }
)


def read(folder: Path, published: Published) -> Archive:
    """Read and check the archive in or below `folder`. Raises DataError.

    The caption is the species, as in the paper's setting; the column `class_caption` has the class
    alone. Both name the bird and not the background, which is what is tied to them.
    """
    path = archive.find_file(folder, "metadata.csv", f"{FOLDER}/metadata.csv")
    archive.check_md5(path, published)
    table = open_table(path)
    files = table.text("img_filename")
    names = [species(path, file) for file in files]
    birds = archive.coded(table, "y", BIRDS)
    splits = archive.coded(table, "split", archive.SPLITS)
    places = archive.coded(table, "place", PLACES)
    groups = [f"{bird} on {place}" for bird, place in zip(birds, places, strict=True)]
    archive.check_counts(path, files, zip(splits, groups, strict=True), published.counts)
    readable = archive.check_pictures(path.parent, files, published.size)
    entries = ArchivePicture.of_columns(
        files,
        splits,
        [f"{'an' if n[0] in 'aeiou' and not n.startswith('eu') else 'a'} {n}" for n in names],
        groups,
        class_caption=[f"a {bird}" for bird in birds],
        species=names,
        bird=birds,
        background=places,
        place_filename=table.text("place_filename"),
    )
    checked = (f"{path.name}: the number of pictures of each group in each split", readable)
    return Archive(path.parent, entries, checked)


def species(path: Path, file: str) -> str:
    """`044.Frigatebird/...` is a frigatebird: the name in words, lower case."""
    found = SPECIES.match(file)
    if not found:
        raise archive.altered(
            f"{path}: {file!r} does not begin with a species folder such as 044.Frigatebird/"
        )
    return found[1].replace("_", " ").lower()
