"""The list of pictures to leave out: what `invdiff data check --quarantine` writes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from invdiff.data.pictures import BadPicture
from invdiff.data.readers.tables import open_table
from invdiff.data.samples import picture_id
from invdiff.errors import DataError

SUFFIXES = (".csv", ".parquet")
COLUMNS = ("name", "kind", "reason", "picture")
"""`name` is that of the source; `picture` the picture's id, "" where it could not be read."""


@dataclass(frozen=True)
class LeftOut:
    """One entry: which picture, and why it is left out."""

    picture: str
    reason: str

    def means(self, read: Callable[[], bytes]) -> bool:
        """Whether the file is still the one that was listed; one that was mended is not."""
        try:
            return picture_id(read()) == self.picture
        except BadPicture:
            return not self.picture


def read_quarantine(path: str | Path) -> dict[str, LeftOut]:
    """The entries of a list by name. Raises DataError when there is no such list."""
    place = Path(path).expanduser()
    if place.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"data.quarantine {place} is not a {' or '.join(SUFFIXES)} file; "
            f"`invdiff data check --quarantine {place.stem}.csv` writes one"
        )
    if not place.is_file():
        raise DataError(
            f"data.quarantine {place} does not exist; `invdiff data check --quarantine {place}` "
            "writes it"
        )
    table = open_table(place)
    columns = [table.text(name) for name in COLUMNS]
    return {
        name: LeftOut(picture, f"{kind}: {reason}")
        for name, kind, reason, picture in zip(*columns, strict=True)
    }
