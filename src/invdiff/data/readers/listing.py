"""What a source of pictures holds, before anything is decoded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from invdiff.data.pictures import BadPicture, decode, one_line, size_of
from invdiff.data.readers.tables import SourceTable
from invdiff.data.samples import Pictures


@dataclass(frozen=True)
class Listing:
    """Rows of a source: where each picture is, its columns, and how to get at it.

    `content(row)` returns the bytes that identify the picture and `decode(bytes, size)` its pixels
    (size, size, 3); both raise BadPicture. `size_of(bytes)` is the width and height it is stored
    with. `faults` holds rows known to be unusable from the start.
    """

    names: Sequence[str]
    table: SourceTable
    content: Callable[[int], bytes]
    decode: Callable[[bytes, int], Pictures] = decode
    size_of: Callable[[bytes], tuple[int, int]] = size_of
    faults: Mapping[int, BadPicture] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)


def read_content(read: Callable[[], bytes]) -> bytes:
    """Call `read` and turn its errors into the reason of a BadPicture."""
    try:
        return read()
    except FileNotFoundError:
        raise BadPicture("the file is missing", "missing") from None
    except OSError as error:
        raise BadPicture(f"cannot be read: {error.strerror or one_line(error)}") from error
