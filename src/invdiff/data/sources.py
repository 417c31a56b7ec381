"""Open a source of captioned pictures, check every picture, keep the good ones."""

from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from invdiff.data.checking import Checked, check_listing, read_quarantine, to_samples
from invdiff.data.pictures import SUFFIXES, BadPicture
from invdiff.data.readers.columnar import open_parquet_pictures
from invdiff.data.readers.folders import METADATA, open_folder
from invdiff.data.readers.listing import MISSING, Listing, first_few, look, warn_once
from invdiff.data.readers.tables import open_npz
from invdiff.data.readers.tars import open_tars
from invdiff.data.samples import Samples, clean_prompt, pick_caption, plural, sample_id
from invdiff.data.sets import builtin
from invdiff.data.sets.stored import open_set
from invdiff.errors import DataError

EMBEDDED = tuple(builtin.SETS)
PROMPT_COLUMNS = ("caption", "text", "prompt")
KINDS = (
    "a folder of pictures, a saved Hugging Face data set, .tar, .parquet or .npz files, "
    f"or a built-in set: {', '.join(builtin.SETS)}"
)


def open_samples(
    path: str | Path,
    image_size: int,
    prompt_column: str = "",
    max_bad_share: float = 0.05,
    group_column: str = "",
    quarantine: str | Path = "",
) -> Samples:
    """Open a source and decode every picture once.

    Args:
        path: a built-in set such as "faces", a folder, a file, or a pattern such as "shards/*.tar",
            as `builtin.resolve_name` gives it.
        image_size: side of the square pictures in pixels.
        prompt_column: column with the captions; "" finds caption, text or prompt, in this order.
        max_bad_share: more unusable pictures than this share (0..1) are an error.
        group_column: column whose values are the prompts of the samples; "" takes the captions.
        quarantine: a list of pictures to leave out, as `invdiff data check` writes it.

    Unusable pictures and exact duplicates (same file, same prompt) are left out and listed in
    `quarantined`, with those of `quarantine`; only the first count as unusable. Raises DataError.
    """
    if image_size < 1:
        raise DataError(f"the image size must be at least 1 pixel, got {image_size}")
    left_out = read_quarantine(quarantine) if str(quarantine) else {}
    listing = open_listing(path)
    captions = read_captions(path, listing, prompt_column)
    checked = check_listing(listing, captions, image_size, left_out)
    require_usable(path, checked, len(listing), max_bad_share)
    prompts: Sequence[str] = checked.captions
    if group_column:
        values = listing.table.labels(group_column)
        prompts = listing.table.filled(group_column, [values[row] for row in checked.rows])
    return to_samples(listing, prompts, checked, image_size)


def read_captions(path: str | Path, listing: Listing, column: str) -> list[tuple[str, ...]]:
    """The captions of each row, cleaned; a row may have several. Raises DataError."""
    known = listing.table.columns
    column = column or next((name for name in PROMPT_COLUMNS if name in known), "")
    if not column:
        raise DataError(
            f"{listing.table.path} has none of the columns {', '.join(PROMPT_COLUMNS)}; name the "
            f"one with the prompts as data.prompt_column (columns: {', '.join(known) or 'none'})"
        )
    texts = listing.table.texts(column)
    captions = list(map(clean_captions, texts))
    nulls = [row for row, several in enumerate(texts) for text in several if "\0" in text]
    if nulls:
        warn_once(
            f"{path}: left out {plural(len(nulls), 'text')} with null characters in {column}, as "
            f"UTF-16 that was read as UTF-8 has them; the first is of {listing.names[nulls[0]]}"
        )
    if not any(map(any, captions)):
        raise DataError(
            f"every {column} in {path} is empty; fill them in, "
            f"or name another column as data.prompt_column (columns: {', '.join(known)})"
        )
    return captions


def clean_captions(texts: Sequence[str]) -> tuple[str, ...]:
    """The texts, "" for what is no caption: a word for none, or not read in its own encoding."""
    none = (*MISSING, "none")
    return tuple("" if look(text) in none or "\0" in text else clean_prompt(text) for text in texts)


def read_labels(path: str | Path, column: str, samples: Samples) -> tuple[str, ...]:
    """The values of an attribute column, one for each sample: the only way to attributes.

    A row belongs to the sample whose id its picture and one of its columns give (the prompt may be
    in any), so neither the order of the rows nor file names matter. A built-in set has a column of
    its own by default. Raises DataError when a sample has no row or no value, or two values.
    """
    if str(path) in EMBEDDED:
        column = column or builtin.SETS[str(path)].attribute
    if not column:
        raise DataError("no label column was named; set data.label_column to a column of the data")
    listing = open_listing(path, attributes=True)
    values = listing.table.labels(column)
    labels: dict[str, str] = {}
    wanted = set(samples.sample_id)
    columns = []
    for name in listing.table.columns:
        with suppress(DataError):  # not a column of text, so not the prompts
            texts = listing.table.texts(name)
            plain = [
                tuple(map(clean_prompt, row)) for row in texts
            ]  # as a column of groups is read
            several = [clean_captions(row) for row in texts]
            columns += [plain] if plain == several else [plain, several]
    for row in listing.rows("matching labels"):
        with suppress(BadPicture):
            content = listing.content(row)
            for captions in columns:
                identity = sample_id(content, pick_caption(captions[row], content))
                # another column may hold one text for all: those are no samples, and may differ
                if identity not in wanted:
                    continue
                labels[identity] = labels.get(identity) or values[row]
                if values[row] not in ("", labels[identity]):
                    raise DataError(
                        f"{listing.names[row]} is in {path} twice, as {labels[identity]!r} and as "
                        f"{values[row]!r} in column {column!r}: mend or remove one"
                    )
    unknown = sum(one not in labels for one in samples.sample_id)
    if unknown:
        raise DataError(
            f"{unknown} of {len(samples)} samples have no row in {path}; "
            "the data changed, or the samples come from elsewhere: open them again"
        )
    return listing.table.filled(column, [labels[one] for one in samples.sample_id])


def open_listing(path: str | Path, *, bare: bool = False, attributes: bool = False) -> Listing:
    """List a source by what it is, and tell what in it is left out. Raises DataError.

    ``bare`` takes folders of pictures without any captions, too. ``attributes`` opens how the
    pictures of a built-in set were drawn, whose file stays closed otherwise.
    """
    listing = _listing(path, bare, attributes)
    for line in listing.told:
        warn_once(f"{path}: {line}")
    return listing


def _listing(path: str | Path, bare: bool, attributes: bool) -> Listing:
    if not str(path):
        raise DataError(f"data.path is empty; give {KINDS}")
    if str(path) in EMBEDDED:
        return open_set(str(path)).listing(attributes)
    place = Path(path).expanduser()
    try:
        if place.is_dir():
            return open_folder(place, bare)
        exists, is_file = place.exists(), place.is_file()
        files = [place] if is_file else sorted(place.parent.glob(place.name or "*"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be opened: {error}; give {KINDS}") from error
    if not exists and not files:
        raise missing_path(place)
    if place.name in METADATA or (is_file and place.suffix.lower() in SUFFIXES):
        raise DataError(f"{place} is a single file of a data set; give its folder, {place.parent}")
    suffixes = {one.suffix.lower() for one in files}
    if suffixes == {".npz"} and len(files) == 1:
        return open_npz(files[0])
    if suffixes == {".parquet"}:
        return open_parquet_pictures(files)
    if suffixes == {".tar"}:
        return open_tars(files)
    raise DataError(f"{place} is not a kind of data that can be read; give {KINDS}")


def missing_path(place: Path) -> DataError:
    """The error for a path that is not there, with the nearest one that is."""
    parent = place.parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    if parent != place.parent:
        child = place.relative_to(parent).parts[0]
        return DataError(f"{place} does not exist: {parent} has no {child}; give {KINDS}")
    try:
        siblings = [one.name for one in parent.iterdir()]
    except OSError:
        siblings = []
    near = get_close_matches(place.name, [*EMBEDDED, *siblings], n=1)
    if not near:
        return DataError(f"{place} does not exist; give {KINDS}")
    guess = f'the built-in set "{near[0]}"' if near[0] in EMBEDDED else str(parent / near[0])
    return DataError(f"{place} does not exist; did you mean {guess}?")


def require_usable(path: str | Path, checked: Checked, total: int, max_bad_share: float) -> None:
    """DataError when too much is unusable; a warning line when anything is left out."""
    bad, repeated = len(checked.faults), len(checked.duplicates)
    if not checked.rows:
        raise DataError(
            f"none of the {total} pictures in {path} can be used: {first_few(checked.faults)}. "
            "Mend or replace them"
        )
    if bad > max_bad_share * total:
        raise DataError(
            f"{bad} of {total} pictures in {path} cannot be used, more than the "
            f"{max_bad_share:.1%} allowed: {first_few(checked.faults)}. "
            "Mend or remove them, or raise data.max_bad_share"
        )
    if bad or repeated:
        warn_once(
            f"{path}: left out {bad + repeated} of {plural(total, 'picture')} ({bad} unusable, "
            f"{plural(repeated, 'duplicate')}): {first_few(checked.faults + checked.duplicates)}"
        )
