"""CelebA: faces of celebrities with 40 attributes (Liu et al., 2015), here hair colour x gender.

Read from `list_attr_celeba.txt`, `list_eval_partition.txt` and `img_align_celeba/`, side by side
or in the publisher's folders Anno, Eval and Img. Gender is the annotators' label `Male`.
"""

from pathlib import Path

from invdiff.data.readers.listing import SourceTable
from invdiff.data.sets.official import archive
from invdiff.data.sets.official.archive import Archive, ArchivePicture, Published
from invdiff.errors import DataError

ATTRIBUTES, PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"
SIGNS = {"-1": "no", "1": "yes"}
USED = ("Male", "Blond_Hair", "Black_Hair")
GROUPS = ("male, blond", "female, blond", "male, black", "female, black")
COUNTED = ("female, not blond", "male, not blond", "female, blond", "male, blond")

PUBLISHED = Published(
    counts={
        archive.TRAIN: dict(zip(COUNTED, (71629, 66874, 22880, 1387), strict=True)),
        archive.VALIDATION: dict(zip(COUNTED, (8535, 8276, 2874, 182), strict=True)),
        archive.TEST: dict(zip(COUNTED, (9767, 7535, 2480, 180), strict=True)),
    },
    md5={  # those that torchvision.datasets.CelebA checks
        ATTRIBUTES: "75e246fa4810816ffd6ee81facbd244c",
        PARTITION: "d32c9cbf5e040fd4025c592c306e6668",
    },
    size=(178, 218),
)


def read(folder: Path, published: Published) -> Archive:
    """Read and check the archive in `folder`. Raises DataError.

    The prompts are two hair colours. Pictures with another colour, with none or with both are
    checked and then left out: no prompt of the setting describes them.
    """
    labels = archive.find_file(folder, ATTRIBUTES, f"Anno/{ATTRIBUTES}")
    partition = archive.find_file(folder, PARTITION, f"Eval/{PARTITION}")
    pictures = archive.find_file(folder, "img_align_celeba", "Img/img_align_celeba")
    for path in (labels, partition):
        archive.check_md5(path, published)
    table = read_attributes(labels)
    files = table.text("file")
    male, blond, black = (archive.coded(table, name, SIGNS) for name in USED)
    splits = archive.coded(read_partition(partition, files), "the split", archive.SPLITS)
    genders = ["male" if one == "yes" else "female" for one in male]
    counted = [
        f"{gender}, {'blond' if one == 'yes' else 'not blond'}"
        for gender, one in zip(genders, blond, strict=True)
    ]
    archive.check_counts(labels, files, zip(splits, counted, strict=True), published.counts)
    readable = archive.check_pictures(pictures, files, published.size)
    chosen = [row for row in range(len(files)) if blond[row] != black[row]]
    colours = ["blond" if blond[row] == "yes" else "black" for row in chosen]
    genders = [genders[row] for row in chosen]
    entries = ArchivePicture.of_columns(
        [files[row] for row in chosen],
        [splits[row] for row in chosen],
        [f"a photo of a person with {colour} hair" for colour in colours],
        [f"{gender}, {colour}" for gender, colour in zip(genders, colours, strict=True)],
        gender=genders,
        hair=colours,
    )
    left = len(files) - len(entries)
    return Archive(
        pictures=pictures,
        entries=entries,
        checked=(
            *(f"{name}: MD5" for name in published.md5),
            f"{labels.name}: the number of pictures of each gender x blond hair in each split",
            readable,
        ),
        notes=(f"{left} of {len(files)} pictures have neither or both hair colours: left out",),
    )


def words_of_lines(path: Path) -> list[tuple[int, list[str]]]:
    """The words of each line, with its number; empty lines do not count."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise archive.altered(f"{path} cannot be read ({error})") from error
    return [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]


def read_attributes(path: Path) -> SourceTable:
    """The column `file`, and one of "1" and "-1" for each attribute.

    Line 1 is the number of pictures, line 2 the names of the attributes, the rest one picture each.
    """
    rows = words_of_lines(path)
    if len(rows) < 2 or rows[0][1] != [str(len(rows) - 2)]:
        said = " ".join(rows[0][1]) if rows else "nothing"
        raise archive.altered(
            f"{path} says {said} in its first line, where the number of the pictures that follow "
            f"belongs ({max(len(rows) - 2, 0)})"
        )
    names = rows[1][1]
    if absent := [name for name in USED if name not in names]:
        raise DataError(f"{path} has no attribute {absent[0]}; take the official file again")
    for number, words in rows[2:]:
        if len(words) != len(names) + 1:
            raise archive.altered(
                f"{path}, line {number} has {len(words)} words, not a file name and {len(names)} "
                "attributes"
            )
    columns = ("file", *names)
    return SourceTable(
        path, columns, lambda name: [words[columns.index(name)] for _, words in rows[2:]]
    )


def read_partition(path: Path, files: list[str]) -> SourceTable:
    """The column "the split" for `files`."""
    rows = [words for _, words in words_of_lines(path)]
    if bad := next((words for words in rows if len(words) != 2), None):
        raise DataError(f"{path}: {' '.join(bad)!r} is not a file name and a split; take it again")
    code = dict(rows)
    if len(code) != len(files) or any(file not in code for file in files):
        odd = next((file for file in files if file not in code), None)
        which = f"has no split for {odd}" if odd else "lists more pictures than the attributes"
        raise DataError(f"{path} {which}; take both label files from the same archive")
    return SourceTable(path, ("the split",), lambda _: [code[file] for file in files])
