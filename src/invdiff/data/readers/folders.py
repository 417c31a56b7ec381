"""A folder of pictures with a metadata file or caption files, or of files that hold many."""

import os
import re
from pathlib import Path

from invdiff.data.pictures import SUFFIXES, BadPicture
from invdiff.data.readers.columnar import is_saved, open_parquet_pictures, open_saved
from invdiff.data.readers.listing import Listing, SourceTable, hint
from invdiff.data.readers.tables import open_table
from invdiff.data.readers.tars import open_tars
from invdiff.errors import DataError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
NAME_COLUMN = "file_name"
CAPTION_COLUMN = "caption"
SHARD = re.compile(r"(?P<split>.+?)-\d+-of-\d+")  # train-00000-of-00002-0123abcd.parquet


def open_folder(folder: Path, bare: bool = False) -> Listing:
    """List a folder. A metadata file decides; without one, pictures need `name.txt` beside them.

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
    pictures = find_pictures(folder)
    if not pictures:
        return open_shards(folder)
    if any((folder / name).with_suffix(".txt").is_file() for name in pictures):
        return list_captions(folder, pictures)
    if not bare:
        raise no_captions(folder, pictures)
    return of_files(folder, pictures, SourceTable(folder, (), lambda _: []), {})


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
        if not name:
            reason = f"row {row + 1} of {table.path.name} has no {NAME_COLUMN}"
            faults[row] = BadPicture(reason, "missing")
            names[row] = f"{table.path.name}, row {row + 1}"
        elif not is_file(folder / name):
            reason = f"the file is missing, but {table.path.name} lists it"
            faults[row] = BadPicture(reason, "missing")
    return of_files(folder, names, table, faults)


def list_captions(folder: Path, pictures: list[str]) -> Listing:
    """One row for each picture, sorted by path."""
    captions: list[object] = []
    faults = {}
    for row, name in enumerate(pictures):
        path = (folder / name).with_suffix(".txt")
        try:
            captions.append(path.read_text(encoding="utf-8-sig"))
            continue
        except FileNotFoundError:
            reason = f"no caption file {path.name} beside it"
        except UnicodeDecodeError:
            reason = f"its caption file {path.name} is not UTF-8 text"
        except OSError as error:
            reason = f"its caption file {path.name} cannot be read: {error.strerror}"
        captions.append("")
        faults[row] = BadPicture(reason, "no caption")
    table = SourceTable(folder, (CAPTION_COLUMN,), lambda _: list(captions))
    return of_files(folder, pictures, table, faults)


def of_files(
    folder: Path, names: list[str], table: SourceTable, faults: dict[int, BadPicture]
) -> Listing:
    """A listing whose rows are files of a folder."""
    return Listing(names, table, lambda row: (folder / names[row]).read_bytes(), faults=faults)


def find_pictures(folder: Path) -> list[str]:
    """Paths of all pictures in a folder and its subfolders, sorted; hidden ones do not count."""
    found = []
    for parent, subfolders, files in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        here = Path(parent).relative_to(folder)
        for name in files:
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                found.append((here / name).as_posix())
    return sorted(found)


def is_file(path: Path) -> bool:
    """Whether there is a file; False as well for names that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def open_shards(folder: Path) -> Listing:
    """The .tar or .parquet files of a folder without pictures, also of its subfolder `data`."""
    for place in (folder, folder / "data"):
        tars, tables = sorted(place.glob("*.tar")), sorted(place.glob("*.parquet"))
        if tars and tables:
            raise DataError(
                f"{place} has .tar and .parquet files; say which: {place}/*.tar or "
                f"{place}/*.parquet"
            )
        if tars:
            return open_tars(tars)
        if tables:
            return open_parquet_pictures(one_split(tables))
    packed = sorted(folder.glob("*.npz"))
    if packed:
        raise DataError(f"{folder} holds no pictures but {packed[0].name}; give {packed[0]}")
    raise DataError(
        f"{folder} holds no pictures, nor do its subfolders; "
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
        f"{folder} has {len(pictures)} pictures and no captions; "
        f"add {example(pictures[0])}, or write each caption to a file such as {beside}"
    )


def example(name: str = "a.png") -> str:
    """What a metadata file looks like, on one line."""
    return (
        f'a metadata.csv whose first line is "{NAME_COLUMN},{CAPTION_COLUMN}" '
        f'and whose rows look like "{name},a person wearing a hat"'
    )
