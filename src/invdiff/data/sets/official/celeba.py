"""CelebA: faces of celebrities with 40 attributes (Liu et al., 2015), here hair colour x gender.

Read from `list_attr_celeba.txt`, `list_eval_partition.txt` and `img_align_celeba/`, side by side
or in the publisher's folders Anno, Eval and Img. Gender is the annotators' label `Male`.
"""

from collections.abc import Iterator
from pathlib import Path

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
    files, (male, blond, black) = read_attributes(labels)
    archive.check_distinct(labels, files)
    splits = read_partition(partition, files)
    genders = ["male" if one == "yes" else "female" for one in male]
    counted = [
        f"{gender}, {'blond' if one == 'yes' else 'not blond'}"
        for gender, one in zip(genders, blond, strict=True)
    ]
    archive.check_counts(labels, zip(splits, counted, strict=True), published.counts)
    readable = archive.check_pictures(pictures, files, published.size)
    entries = tuple(describe_rows(files, splits, genders, blond, black))
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


def describe_rows(
    files: list[str], splits: list[str], genders: list[str], blond: list[str], black: list[str]
) -> Iterator[ArchivePicture]:
    """The pictures with exactly one of the two hair colours."""
    rows = zip(files, splits, genders, blond, black, strict=True)
    for file, split, gender, is_blond, is_black in rows:
        if is_blond == is_black:
            continue
        colour = "blond" if is_blond == "yes" else "black"
        yield ArchivePicture(
            file=file,
            split=split,
            caption=f"a photo of a person with {colour} hair",
            group=f"{gender}, {colour}",
            attributes={"gender": gender, "hair": colour},
        )


def words_of_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The words of each line, with its number; empty lines do not count."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); take it from the official archive again"
        ) from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line.split()


def read_attributes(path: Path) -> tuple[list[str], list[list[str]]]:
    """File names, and for each of USED "yes" or "no".

    Line 1 is the number of pictures, line 2 the names of the attributes, the rest one picture each.
    """
    rows = list(words_of_lines(path))
    if len(rows) < 2 or rows[0][1] != [str(len(rows) - 2)]:
        said = " ".join(rows[0][1]) if rows else "nothing"
        raise DataError(
            f"{path} says {said} in its first line, where the number of the pictures that follow "
            f"belongs ({max(len(rows) - 2, 0)}); take it from the official archive again"
        )
    names = rows[1][1]
    if absent := [name for name in USED if name not in names]:
        raise DataError(f"{path} has no attribute {absent[0]}; take the official file again")
    for number, words in rows[2:]:
        if len(words) != len(names) + 1:
            raise DataError(
                f"{path}, line {number} has {len(words)} words, not a file name and {len(names)} "
                "attributes; take it from the official archive again"
            )
    columns = [[words[names.index(name) + 1] for _, words in rows[2:]] for name in USED]
    return (
        [words[0] for _, words in rows[2:]],
        [
            archive.names_of_codes(path, name, column, SIGNS)
            for name, column in zip(USED, columns, strict=True)
        ],
    )


def read_partition(path: Path, files: list[str]) -> list[str]:
    """The split of each of `files`."""
    rows = [words for _, words in words_of_lines(path)]
    if bad := next((words for words in rows if len(words) != 2), None):
        raise DataError(f"{path}: {' '.join(bad)!r} is not a file name and a split; take it again")
    code = dict(rows)
    if len(code) != len(files) or any(file not in code for file in files):
        odd = next((file for file in files if file not in code), None)
        which = f"has no split for {odd}" if odd else "lists more pictures than the attributes"
        raise DataError(f"{path} {which}; take both label files from the same archive")
    return archive.names_of_codes(path, "the split", [code[file] for file in files], archive.SPLITS)
