"""Pictures in the rows of parquet files, or of a Hugging Face data set as `save_to_disk` writes it.

Both are one or more files with the same columns, the pictures in one of them: the bytes of picture
files, or structures with `bytes` or `path`. No row is unpacked before it is asked for.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from invdiff.data.pictures import BadPicture, one_line
from invdiff.data.readers.listing import Listing, SourceTable, hint
from invdiff.errors import DataError

PICTURES = "image"
STATE, SPLITS = "state.json", "dataset_dict.json"


@dataclass(frozen=True)
class TableFile:
    """One file: its columns, and its chunks as numbers of rows and ways to read a column."""

    path: Path
    schema: pa.Schema
    chunks: Sequence[tuple[int, Callable[[str], pa.ChunkedArray]]]

    def column(self, name: str) -> list[Any]:
        """All values of a column, classes by their names. Raises DataError."""
        names = class_names(self.schema, name)
        with damage_as_line(f"column {name!r} of {self.path} cannot be read"):
            cells = [cell for _, read in self.chunks for cell in read(name).to_pylist()]
        try:
            return [class_of(cell, names) for cell in cells]
        except IndexError as error:
            raise DataError(f"column {name!r} of {self.path}: {error}") from error


def open_parquet_pictures(paths: Sequence[Path]) -> Listing:
    """The rows of parquet files, one after the other. Raises DataError."""
    return list_rows([open_parquet(path) for path in paths])


def open_saved(folder: Path) -> Listing:
    """A data set that `Dataset.save_to_disk` wrote, or a `DatasetDict` with a single split."""
    if (folder / SPLITS).is_file():
        splits = read_json_object(folder / SPLITS).get("splits") or []
        if len(splits) != 1:
            raise DataError(
                f"{folder} has the splits {', '.join(splits) or '(none)'}; "
                f"give one of them, as in {folder / str((splits or ['train'])[0])}"
            )
        return open_saved(folder / splits[0])
    files = [one["filename"] for one in read_json_object(folder / STATE).get("_data_files") or []]
    if not files:
        raise DataError(f"{folder / STATE} names no data files; save the data set again")
    return list_rows([arrow_shard(folder / name) for name in files])


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return (folder / STATE).is_file() or (folder / SPLITS).is_file()


@contextmanager
def damage_as_line(what: str) -> Iterator[None]:
    """What libraries say of a damaged file, as DataError."""
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{what}: {one_line(error)}; is it complete?") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON object. Raises DataError."""
    with damage_as_line(f"{path} cannot be read"):
        found = json.loads(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def open_parquet(path: Path) -> TableFile:
    """A parquet file; a chunk is a row group. It is opened again for each read: files are many."""

    def read(group: int, name: str) -> pa.ChunkedArray:
        return pq.ParquetFile(path).read_row_group(group, columns=[name])[name]

    with damage_as_line(f"{path} cannot be read as parquet"):
        file = pq.ParquetFile(path)
    groups = range(file.num_row_groups)
    sizes = [file.metadata.row_group(group).num_rows for group in groups]
    reads = [partial(read, group) for group in groups]
    return TableFile(path, file.schema_arrow, list(zip(sizes, reads, strict=True)))


def arrow_shard(path: Path) -> TableFile:
    """A file in Arrow's stream format, mapped into memory; the whole of it is one chunk."""
    with damage_as_line(f"{path} cannot be read"):
        table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    return TableFile(path, table.schema, [(table.num_rows, table.column)])


def list_rows(shards: Sequence[TableFile]) -> Listing:
    """One row for each row of all shards, in their order."""
    first = shards[0]
    for other in shards[1:]:
        if set(other.schema.names) != set(first.schema.names):
            raise DataError(
                f"{other.path} has other columns ({', '.join(other.schema.names)}) than "
                f"{first.path.name} ({', '.join(first.schema.names)}); "
                "give files of one data set and split"
            )
    pictures = picture_column(first.path, first.schema)
    rows = ((one.path.name, row) for one in shards for row in range(sum(n for n, _ in one.chunks)))
    names = [f"{name}, row {row}" for name, row in rows]
    return Listing(names, table_of(shards, but=pictures), RowReader(shards, pictures).content)


def table_of(shards: Sequence[TableFile], but: str = "") -> SourceTable:
    """The columns of files that hold text, numbers or lists of these, all but one."""
    path, schema = shards[0].path, shards[0].schema
    columns = (field.name for field in schema if field.name != but and is_plain(field.type))
    return SourceTable(
        path if len(shards) == 1 else path.parent,
        tuple(columns),
        lambda name: [cell for shard in shards for cell in shard.column(name)],
    )


def is_plain(kind: pa.DataType) -> bool:
    """Whether values of a type are text, numbers or lists of these."""
    if hasattr(kind, "value_type") and not pa.types.is_dictionary(kind):  # lists of every make
        kind = kind.value_type
    nested = pa.types.is_nested(kind) or pa.types.is_fixed_size_binary(kind)
    return not nested and not is_bytes(kind)


def is_bytes(kind: pa.DataType) -> bool:
    """Whether values of a type are bytes of any length."""
    return (
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )


def class_names(schema: pa.Schema, column: str) -> Sequence[str]:
    """The names of class numbers, as Hugging Face data sets keep them (``ClassLabel``)."""
    try:
        known = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        feature = known["info"]["features"][column]
        return tuple(map(str, feature.get("feature", feature)["names"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()


def class_of(cell: Any, names: Sequence[str]) -> Any:
    """A class by its name, where classes have names; -1 stands for none.

    IndexError for a number without a name: the names are not those of this column.
    """
    if isinstance(cell, list):
        return [class_of(one, names) for one in cell]
    if not names or not isinstance(cell, int):
        return cell
    if not -1 <= cell < len(names):
        raise IndexError(
            f"class {cell} has no name, there are {len(names)} (0 to {len(names) - 1})"
        )
    return None if cell == -1 else names[cell]


def picture_column(path: Path, schema: pa.Schema) -> str:
    """The column with the pictures: `image`, or else the only one that can hold any."""
    able = [field.name for field in schema if holds_pictures(field.type)]
    if PICTURES in able or (PICTURES not in schema.names and len(able) == 1):
        return PICTURES if PICTURES in able else able[0]
    if PICTURES in schema.names:
        kind = schema.field(PICTURES).type
        raise DataError(
            f"column {PICTURES!r} of {path} has type {kind}; "
            "it must hold the bytes of picture files"
        )
    raise DataError(
        f"{path} has no column {PICTURES!r} with pictures{hint(PICTURES, schema.names)}"
    )


def holds_pictures(kind: pa.DataType) -> bool:
    """Whether a type is bytes, or a structure with bytes or a path."""
    if pa.types.is_struct(kind):
        return bool({kind.field(at).name for at in range(kind.num_fields)} & {"bytes", "path"})
    return is_bytes(kind)


class RowReader:
    """Single pictures of all shards; the chunk read last stays in memory."""

    def __init__(self, shards: Sequence[TableFile], column: str) -> None:
        self.chunks = [(one.path.parent, *chunk) for one in shards for chunk in one.chunks]
        self.starts = list(accumulate((count for _, count, _ in self.chunks), initial=0))
        self.read = lru_cache(maxsize=1)(lambda number: self.chunks[number][2](column))

    def content(self, row: int) -> bytes:
        """The bytes of the picture file in a row. Raises BadPicture."""
        number = bisect_right(self.starts, row) - 1
        try:
            value = self.read(number)[row - self.starts[number]].as_py()
        except pa.ArrowException as error:
            raise BadPicture(f"cannot be read: {one_line(error)}") from error
        if isinstance(value, dict):
            inside, beside = value.get("bytes"), value.get("path")
            if inside is None and beside:
                return (self.chunks[number][0] / beside).read_bytes()
            value = inside
        if value is None:
            raise BadPicture("there is no picture in this row", "missing")
        return value
