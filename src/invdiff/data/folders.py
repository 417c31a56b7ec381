"""A folder of pictures, with a metadata file or with a caption file beside each picture."""

import os
from pathlib import Path

from invdiff.data.listing import Listing, read_content
from invdiff.data.pictures import SUFFIXES
from invdiff.data.tables import Table, hint, open_table
from invdiff.errors import DataError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
NAME_COLUMN = "file_name"
CAPTION_COLUMN = "caption"


def open_folder(folder: Path) -> Listing:
    """List a folder. A metadata file decides; without one, pictures need `name.txt` beside them.

    Raises DataError for a folder without pictures or captions, or with two metadata files.
    """
    metadata = [folder / name for name in METADATA if (folder / name).is_file()]
    if len(metadata) > 1:
        names = " and ".join(path.name for path in metadata)
        raise DataError(f"{folder} has {names}; keep the one that should count")
    if metadata:
        return list_metadata(folder, open_table(metadata[0]))
    pictures = find_pictures(folder)
    if not pictures:
        raise no_pictures(folder)
    if not any((folder / name).with_suffix(".txt").is_file() for name in pictures):
        raise no_captions(folder, pictures)
    return list_captions(folder, pictures)


def list_metadata(folder: Path, table: Table) -> Listing:
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
            faults[row] = f"row {row + 1} of {table.path.name} has no {NAME_COLUMN}"
        elif not is_file(folder / name):
            faults[row] = f"the file is missing, but {table.path.name} lists it"
    return Listing(
        names=[name or f"{table.path.name}, row {row + 1}" for row, name in enumerate(names)],
        table=table,
        content=lambda row: read_content((folder / names[row]).read_bytes),
        faults=faults,
    )


def list_captions(folder: Path, pictures: list[str]) -> Listing:
    """One row for each picture, sorted by path."""
    captions: list[object] = []
    faults = {}
    for row, name in enumerate(pictures):
        path = (folder / name).with_suffix(".txt")
        text = ""
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            faults[row] = f"no caption file {path.name} beside it"
        except UnicodeDecodeError:
            faults[row] = f"its caption file {path.name} is not UTF-8 text"
        except OSError as error:
            faults[row] = f"its caption file {path.name} cannot be read: {error.strerror}"
        captions.append(text)
    return Listing(
        names=pictures,
        table=Table(folder, (CAPTION_COLUMN,), lambda _: list(captions)),
        content=lambda row: read_content((folder / pictures[row]).read_bytes),
        faults=faults,
    )


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


def no_pictures(folder: Path) -> DataError:
    """The error for a folder that holds none, pointing at a packed file when there is one."""
    packed = sorted(path for suffix in ("npz", "parquet") for path in folder.glob(f"*.{suffix}"))
    if packed:
        return DataError(f"{folder} holds no pictures but {packed[0].name}; give {packed[0]}")
    return DataError(
        f"{folder} holds no pictures, nor do its subfolders; "
        f"put pictures there ({', '.join(SUFFIXES)}) with captions, as in {example()}"
    )


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
