"""Files that are either there in full or not there at all.

Every helper writes beside the target, forces the bytes to the disk and renames. A reader never sees
half a file, whenever the writer is killed.
"""

import csv
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from invdiff.errors import RunError

try:
    import fcntl
except ImportError:  # no such locks on this system: nothing is guarded
    fcntl = None  # type: ignore[assignment]


def write_with(path: Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` make a file beside ``path``, then move it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: some writers choose the format by it.
    beside = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        write(beside)
        give_default_mode(beside)
        with beside.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def canonical(values: Mapping[str, Any]) -> str:
    """One text for equal values."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False)


def give_default_mode(path: Path) -> None:
    """Give a file, or the files of a folder, the mode that the umask gives to any new file.

    safetensors keeps what it writes to its owner (0600), which nobody meant who shares a folder.
    Links, and files that others may read already, are left as they are. No file is made to find the
    mode out: a killed process would leave it.
    """
    umask = os.umask(0o077)
    os.umask(umask)
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file() and not file.is_symlink() and not file.stat().st_mode & 0o077:
            file.chmod(0o666 & ~umask)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``path`` at the end of the block, or vanishes on an error.

    Raises:
        RunError: there is something at ``path`` already.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(f"{path} is there already and is not empty: give --out a new folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}-{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        yield beside
        give_default_mode(beside)
        os.replace(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_text(path: Path, text: str) -> Path:
    """Write ``text`` as UTF-8."""
    return write_with(path, lambda beside: beside.write_text(text, encoding="utf-8", newline="\n"))


def write_json(path: Path, value: Any) -> Path:
    """Write JSON; numbers that are not finite become null, numpy values plain ones."""
    return write_text(path, json.dumps(plain(value), indent=1, ensure_ascii=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write these columns of all rows; a cell is empty where its row has no value."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, "", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write_text(path, text.getvalue())


def write_parquet(path: Path, table: Any) -> Path:
    """Write a pyarrow table, or a mapping from column names to equally long columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = table if isinstance(table, pa.Table) else pa.table(dict(table))
    return write_with(path, lambda beside: pq.write_table(rows, beside))


@contextmanager
def _to_be_read(path: Path) -> Iterator[None]:
    """RunError with the way to repair it for a file of a run that is missing or damaged."""
    try:
        yield
    except FileNotFoundError:
        raise RunError(f"{path} is missing: redo the stage that writes it (--redo)") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}): redo its stage (--redo)") from None


def read_parquet(path: Path) -> dict[str, list[Any]]:
    """The columns of a parquet file as lists."""
    import pyarrow.parquet as pq

    with _to_be_read(path):
        columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    return columns


def read_json(path: Path) -> Any:
    """The value of a JSON file of the run."""
    with _to_be_read(path):
        return json.loads(path.read_text(encoding="utf-8"))


def plain(value: Any) -> Any:
    """``value`` made of dicts, lists, text, finite numbers, booleans and None only."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays, torch tensors
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of ``folder``; RunError if another process holds it.

    The system lets go of the lock when its holder ends, however it ends.
    """
    if fcntl is None:
        yield
        return
    with (folder / ".lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise RunError(
                f"another invdiff process (pid {holder}) is working in {folder}: wait for it, "
                "or take another --out"
            ) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
        handle.truncate(0)
