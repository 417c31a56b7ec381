"""A folder of pictures with a metadata file or caption files, or of files that hold many."""

import os
import re
from dataclasses import replace
from pathlib import Path

from invdiff.data.pictures import NOT_READ, SUFFIXES, BadPicture
from invdiff.data.readers.columnar import is_saved, open_parquet_pictures, open_saved
from invdiff.data.readers.listing import Listing, SourceTable, first_few, hint, several, told_of
from invdiff.data.readers.tables import open_table
from invdiff.data.readers.tars import open_tars
from invdiff.data.samples import plural
from invdiff.errors import DataError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
NAME_COLUMN = "file_name"
CAPTION_COLUMN = "caption"
CAPTION_FILES = (".txt", ".caption")
PACKED = (".tar", ".parquet", ".zip", ".gz", ".tgz", ".7z", ".rar")
SHARD = re.compile(r"(?P<split>.+?)-\d+-of-\d+")  # train-00000-of-00002-0123abcd.parquet


def open_folder(folder: Path, bare: bool = False) -> Listing:
    """List a folder. A metadata file decides; without one, pictures need `name.txt` beside them.

    `name.caption` will do as well, and linked folders are part of it.
    A folder without pictures may be a saved Hugging Face data set, or hold .tar or .parquet files.
    With ``bare`` pictures may be without any captions; then there is no column.
    Raises DataError for a folder without pictures or captions, or with two metadata files.
    """
    metadata = [folder / name for name in METADATA if (folder / name).is_file()]
    if len(metadata) > 1:
        names = " and ".join(path.name for path in metadata)
        raise DataError(f"{folder} has {names}; keep the one that should count")
    if metadata:
        return list_metadata(folder, open_table(metadata[0]))
    if is_saved(folder):
        return open_saved(folder)
    pictures, others, left = find_files(folder)
    if not pictures:
        return open_shards(folder, others, left)
    left += [(name, "give its own path") for name in others if name.lower().endswith(PACKED)]
    captions = caption_files(pictures, others, left)
    if any(captions):
        return list_captions(folder, pictures, captions, left)
    if not bare:
        raise no_captions(folder, pictures)
    return of_files(folder, pictures, SourceTable(folder, (), lambda _: []), {}, told_of(left))


def list_metadata(folder: Path, table: SourceTable) -> Listing:
    """One row for each row of the metadata file, in its order."""
    if NAME_COLUMN not in table.columns:
        raise DataError(
            f"{table.path} has no column {NAME_COLUMN!r}, the path of each picture inside "
            f"{folder}{hint(NAME_COLUMN, table.columns)}"
        )
    names = table.text(NAME_COLUMN)
    if not names:
        raise DataError(f"{table.path} has no rows; add one for each picture, as in {example()}")
    faults = {}
    for row, name in enumerate(names):
        forms = (name, name.strip(), name.strip().replace("\\", "/"))  # spaces; made on Windows
        # isfile is False as well for what no file can be called
        names[row] = next((one for one in forms if one and os.path.isfile(folder / one)), "")
        if not names[row]:
            said = "the file is missing, but {0} lists it" if name else "row {1} of {0} has no {2}"
            reason = said.format(table.path.name, row + 1, NAME_COLUMN)
            faults[row] = BadPicture(reason, "missing")
            names[row] = name or f"{table.path.name}, row {row + 1}"
    pictures, others, left = find_files(folder, linked=False)
    listed = sorted(set(map(os.path.normpath, names)))
    unlisted = sorted(set(pictures) - set(listed))
    left += [(name, f"{table.path.name} does not list it") for name in unlisted]
    deeper = [name for name in others if "/" in name and os.path.basename(name) in METADATA]
    left += [(name, f"{table.path.name} above it counts") for name in deeper]
    texts = [name for name in caption_files(listed, others, []) if name]
    left += [(name, f"{table.path.name} has the captions") for name in texts]
    return of_files(folder, names, table, faults, told_of(left))


def caption_files(pictures: list[str], others: list[str], left: list[tuple[str, str]]) -> list[str]:
    """The caption file of each picture, "" without one: `a.txt`, `a.png.txt` or `a.caption`.

    Those that are not used go to ``left``.
    """
    texts: dict[str, list[str]] = {}
    for suffix in CAPTION_FILES:
        for name in others:
            if name.lower().endswith(suffix):
                texts.setdefault(name[: -len(suffix)], []).append(name)
    found, used = [], set()
    for name in pictures:
        stems = (os.path.splitext(name)[0], name)
        first, *more = [one for stem in stems for one in texts.get(stem, ())] or [""]
        found.append(first)
        used |= set(stems)
        left += [(other, f"{first} is the caption of {name}") for other in more]
    left += [(one, "no picture beside it") for stem in set(texts) - used for one in texts[stem]]
    left.sort()
    return found


def list_captions(
    folder: Path, pictures: list[str], files: list[str], left: list[tuple[str, str]]
) -> Listing:
    """One row for each picture, sorted by path."""
    captions: list[object] = []
    faults = {}
    for row, (name, file) in enumerate(zip(pictures, files, strict=True)):
        captions.append("")
        reason = f"no caption file {Path(name).with_suffix('.txt').name} beside it"
        if file:
            path = folder / file
            try:
                captions[row] = several(path.read_text(encoding="utf-8-sig"))
                continue
            except ValueError:  # also what several() refuses
                reason = f"its caption file {path.name} is not UTF-8 text"
            except OSError as error:
                reason = f"its caption file {path.name} cannot be read: {error.strerror}"
        faults[row] = BadPicture(reason, "no caption")
    table = SourceTable(folder, (CAPTION_COLUMN,), lambda _: list(captions))
    return of_files(folder, pictures, table, faults, told_of(left, captions))


def of_files(
    folder: Path,
    names: list[str],
    table: SourceTable,
    faults: dict[int, BadPicture],
    told: list[str],
) -> Listing:
    """A listing whose rows are files of a folder."""
    return Listing(
        names, table, lambda row: (folder / names[row]).read_bytes(), faults=faults, told=told
    )


def find_files(
    folder: Path, linked: bool = True
) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Paths of pictures and of other files in a folder and its subfolders, linked ones included.

    Sorted; hidden ones do not count. Third come pictures that cannot be read, with the reason.
    """
    pictures, others, left = [], [], []
    above = {str(folder): {os.path.realpath(folder)}}  # the ways down, against links in circles
    for parent, subfolders, files in os.walk(folder, followlinks=linked):
        down = {
            name: os.path.realpath(os.path.join(parent, name))
            for name in subfolders
            if not name.startswith(".")
        }
        subfolders[:] = sorted(name for name, real in down.items() if real not in above[parent])
        above |= {os.path.join(parent, one): {*above[parent], down[one]} for one in subfolders}
        here = Path(parent).relative_to(folder)
        for file in files:
            if file.startswith("."):
                continue
            name = (here / file).as_posix()
            if not file.lower().endswith(SUFFIXES):
                others.append(name)
                if file.lower().endswith(NOT_READ):
                    left.append((name, "pictures of this kind are not read; save it as PNG"))
            elif name.encode("utf-8", "replace").decode() == name:
                pictures.append(name)
            else:
                shown = name.encode("utf-8", "backslashreplace").decode()
                left.append((shown, "its name is not UTF-8 text; rename it"))
    return sorted(pictures), sorted(others), sorted(left)


def open_shards(folder: Path, others: list[str], left: list[tuple[str, str]]) -> Listing:
    """The .tar or .parquet files of a folder without pictures, also of its subfolder `data`."""
    for place in (folder, folder / "data"):
        tars, tables = sorted(place.glob("*.tar")), sorted(place.glob("*.parquet"))
        if tars and tables:
            raise DataError(
                f"{place} has .tar and .parquet files; say which: {place}/*.tar or "
                f"{place}/*.parquet"
            )
        if tars or tables:
            found = open_tars(tars) if tars else open_parquet_pictures(one_split(tables))
            more = [one for one in others if folder / one not in (*tars, *tables)]
            kinds = (*PACKED, ".npz")
            left += [(one, "give its own path") for one in more if one.lower().endswith(kinds)]
            return replace(found, told=[*told_of(left), *found.told])
    if arrays := sorted(folder.glob("*.npz")):
        raise DataError(f"{folder} holds no pictures but {arrays[0].name}; give {arrays[0]}")
    unread = f" ({first_few(left)})" if left else ""
    raise DataError(
        f"{folder} holds no pictures{unread}, nor do its subfolders; "
        f"put pictures there ({', '.join(SUFFIXES)}) with captions, as in {example()}"
    )


def one_split(paths: list[Path]) -> list[Path]:
    """The files as they are; DataError if their names tell of several splits."""
    found = {shard["split"] for path in paths if (shard := SHARD.match(path.name))}
    if len(found) > 1:
        folder = paths[0].parent
        raise DataError(
            f"{folder} has the splits {', '.join(sorted(found))}; give one of them, as in "
            f"{folder}/{'train' if 'train' in found else min(found)}-*.parquet"
        )
    return paths


def no_captions(folder: Path, pictures: list[str]) -> DataError:
    """The error for pictures alone, pointing at a metadata file further down when there is one."""
    for name in METADATA:
        deeper = sorted(folder.glob(f"*/{name}"))
        if deeper:
            return DataError(
                f"{folder} has no captions, but {deeper[0]} is there; give {deeper[0].parent}"
            )
    beside = (folder / pictures[0]).with_suffix(".txt")
    return DataError(
        f"{folder} has {plural(len(pictures), 'picture')} and no captions; "
        f"add {example(pictures[0])}, or write each caption to a file such as {beside}"
    )


def example(name: str = "a.png") -> str:
    """What a metadata file looks like, on one line."""
    return (
        f'a metadata.csv whose first line is "{NAME_COLUMN},{CAPTION_COLUMN}" '
        f'and whose rows look like "{name},a person wearing a hat"'
    )
