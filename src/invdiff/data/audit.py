"""What is wrong with a source of pictures, row by row: `invdiff data check`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from invdiff.data.checks.checking import caption_of, content_of, progress
from invdiff.data.checks.near_duplicates import SIDE, Likeness
from invdiff.data.pictures import BadPicture
from invdiff.data.readers.listing import Listing
from invdiff.data.samples import Pictures, pick_caption, picture_id
from invdiff.data.sources import open_listing, read_captions

UNUSABLE = ("missing", "unreadable", "truncated", "oversized", "no caption")
LESSER = ("tiny", "duplicate", "near-duplicate")
KINDS = UNUSABLE + LESSER


@dataclass(frozen=True)
class AuditFinding:
    """One thing that is wrong with one picture; `picture` is its id, "" if it cannot be read."""

    name: str
    kind: str
    reason: str
    picture: str


@dataclass
class Audit:
    """Everything that was found in a source, in its order."""

    pictures: int
    findings: list[AuditFinding] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """How many findings of each kind, the kinds without any included."""
        found = [finding.kind for finding in self.findings]
        return {kind: found.count(kind) for kind in KINDS}

    def usable(self) -> int:
        """Pictures that a run would take."""
        return self.pictures - len({f.name for f in self.findings if f.kind in UNUSABLE})


def audit(path: str | Path, prompt_column: str = "", least_side: int = 32) -> Audit:
    """Decode every picture of a source and look for everything that could be wrong with it.

    Args:
        path: as for `open_samples`, but for the embedded set.
        prompt_column: column with the captions; "" finds it.
        least_side: pictures whose shorter side has fewer pixels are tiny.

    Raises DataError for a source that cannot be opened.
    """
    listing = open_listing(path)
    captions = read_captions(path, listing, prompt_column)
    looked, found = _Looked(), Audit(len(listing))
    for row in progress(listing, "checking pictures"):
        found.findings += _look(listing, row, captions[row], least_side, looked)
    return found


@dataclass
class _Looked:
    """The pictures seen so far, by content and by look."""

    first: dict[str, tuple[str, str]] = field(default_factory=dict)
    likeness: Likeness = field(default_factory=Likeness)


def _look(
    listing: Listing, row: int, captions: Sequence[str], least_side: int, looked: _Looked
) -> list[AuditFinding]:
    """The findings of one row. A picture without a caption is looked at all the same."""
    name, identity, content = listing.names[row], "", b""
    found: list[AuditFinding] = []

    def note(kind: str, reason: str) -> None:
        found.append(AuditFinding(name, kind, reason, identity))

    try:
        content = content_of(listing, row)
        identity = picture_id(content)
        picture = listing.decode(content, SIDE)
    except BadPicture as fault:
        note(fault.kind, str(fault))
        if fault.kind == "missing":
            return found
    else:
        width, height = listing.size_of(content)
        if min(width, height) < least_side:
            note("tiny", f"{width} x {height} pixels: the shorter side has less than {least_side}")
        if repeated := _repeated(name, identity, pick_caption(captions, content), picture, looked):
            note(*repeated)
    try:
        caption_of(listing, row, captions, content)
    except BadPicture as fault:
        note(fault.kind, str(fault))
    return found


def _repeated(
    name: str, identity: str, caption: str, picture: Pictures, looked: _Looked
) -> tuple[str, str] | None:
    """Which earlier picture this one repeats, if it does."""
    if identity in looked.first:
        other, its_caption = looked.first[identity]
        if its_caption == caption:
            return "duplicate", f"duplicate of {other}"
        return "near-duplicate", f"the picture of {other} with another caption"
    looked.first[identity] = (name, caption)
    other_name = looked.likeness.find_or_add(name, picture)
    return ("near-duplicate", f"looks like {other_name}") if other_name else None
