"""`invdiff augment`: pictures of the guided sampler as a training set, or to even out the data.

Writes pictures, ``metadata.csv`` and ``augmentation.json`` (docs/reference/files.md). Until the
last of these is there, the same call goes on; it draws no picture twice.
"""

import hashlib
import io
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.special import expit, softmax

from invdiff.data.pictures import SUFFIXES, BadPicture, is_one_colour
from invdiff.data.readers.listing import Listing
from invdiff.data.samples import sample_id
from invdiff.data.sources import open_listing, read_captions
from invdiff.engine.augmentation.drawing import (
    Artist,
    Quota,
    against_zero,
    draw_all,
    even_set,
    groups_of_drawn,
    kept_pictures,
    read_ratios,
    top_up,
)
from invdiff.engine.discovery.passes import Features
from invdiff.engine.encoding.session import Session
from invdiff.engine.run.environment import environment
from invdiff.engine.sampling.sample import strength_of
from invdiff.engine.sampling.sampler import Sampler
from invdiff.engine.storage.files import locked, read_json, write_csv, write_json, write_with
from invdiff.errors import RunError

WORK = ".drawn"
COLUMNS = ("file_name", "caption", "prompt", "synthetic", "group")  # then q_1, q_2, ...
MORE_COLUMNS = ("seed", "sample_id", "run")
Row = dict[str, Any]


@dataclass(frozen=True)
class AugmentRequest:
    """What a folder was asked for; None for ``images_per_prompt`` tops the run's data up."""

    images_per_prompt: int | None
    guidance_scale: float
    strength: float
    run: str
    seed: int


def augment(
    session: Session,
    out: Path,
    images: int | None = None,
    scale: float | None = None,
    strength: float | None = None,
) -> dict[str, Any]:
    """Make the set in ``out`` and return the record of ``augmentation.json``.

    With ``images`` it is a set of its own, so many pictures of each prompt; without, the pictures
    of the run's data and what its smaller inferred groups lack. ``scale`` is the one of the
    calibration and ``strength`` the calibrated one unless they are given.

    Raises:
        RunError: the run has no guidance, ``out`` holds something else, a group hardly ever comes.
    """
    if session.results.training.skipped:
        raise RunError(f"{session.path} trained nothing, so it has no guidance to draw with")
    request = AugmentRequest(
        images,
        session.config.calibrate.guidance_scale if scale is None else scale,
        strength_of(session, strength),
        identity(session),
        session.config.seed,
    )
    if (done := begin(out, request)) is not None:
        return done
    with locked(out):
        quotas = top_up(session) if images is None else even_set(session, images)
        artist = artist_of(session, out / WORK, request)
        ratios = draw_all(artist, quotas, session.config.sample.batch_size, session.processes)
        rows = [] if images is not None else keep_real(session, out)
        for quota in quotas:
            rows += keep_drawn(artist, quota, ratios[quota.prompt], out, request.run)
        told = sorted({key for row in rows for key in row if key.startswith("q_")} | {"q_1"})
        write_csv(out / "metadata.csv", (*COLUMNS, *told, *MORE_COLUMNS), rows)
        drawn = [row["file_name"] for row in rows if row["synthetic"] == "true"]
        record = asdict(request) | {
            "base_model": session.base_model,
            "prompts": augmentation_summary(rows, ratios),
            "one_colour": [name for name in drawn if is_one_colour(read_ratios(out / name))],
            "versions": environment()["versions"],
        }
        write_json(out / "augmentation.json", record)
        shutil.rmtree(out / WORK, ignore_errors=True)
    return record


def identity(session: Session) -> str:
    """12 hexadecimal digits of the run's adapter and groups."""
    found = hashlib.sha256()
    for name in ("adapter/pytorch_lora_weights.safetensors", "groups.parquet"):
        found.update(hashlib.sha256((session.path / name).read_bytes()).digest())
    return found.hexdigest()[:12]


def begin(out: Path, request: AugmentRequest) -> dict[str, Any] | None:
    """Make or check the folder; the record, if everything is there already.

    Raises:
        RunError: it holds other files, or was begun with another request.
    """
    asked, done = out / WORK / "request.json", out / "augmentation.json"
    for path in (done, asked):
        if path.is_file():
            before: dict[str, Any] = read_json(path)
            if not asdict(request).items() <= before.items():
                raise RunError(
                    f"{out} was begun with other settings or another run: give --out a new folder"
                )
            return before if path == done else None
    if out.exists() and (not out.is_dir() or any(p.name != ".lock" for p in out.iterdir())):
        raise RunError(f"{out} is not empty: give --out a new folder")
    write_json(asked, asdict(request))
    return None


def artist_of(session: Session, folder: Path, request: AugmentRequest) -> Artist:
    """Who draws for this run: its guided sampler, and the features that its groups are told by."""
    config, source = session.config, session.source
    window = (config.sample.window[0], config.sample.window[1])
    steps, levels = config.sample.steps, tuple(config.study.feature_levels)
    return Artist(
        Sampler(source, session.adapter, request.strength, window, request.guidance_scale, steps),
        Features(source, config.seed, levels, 1, config.discover.batch_size),
        folder,
        config.seed,
        "augment",
    )


def keep_drawn(artist: Artist, quota: Quota, ratios: np.ndarray, out: Path, run: str) -> list[Row]:
    """Put the chosen pictures of a quota into their places; their rows."""
    rows, group = [], groups_of_drawn(quota, ratios)
    q = expit(ratios) if ratios.ndim == 1 else softmax(against_zero(ratios), axis=1)
    for k in kept_pictures(quota, ratios):
        path = artist.path(quota, k)
        place = out / "synthetic" / path.parent.name / path.name
        if not place.is_file():
            write_with(place, partial(shutil.copyfile, path))
        row = {
            "file_name": place.relative_to(out).as_posix(),
            "caption": quota.captions[k % len(quota.captions)],
            "prompt": quota.prompt,
            "synthetic": "true",
            "seed": artist.seed_at(quota, k),
            "run": run,
        }
        rows.append(row | (_told(group[k], q[k]) if quota.model else {}))
    return rows


def keep_real(session: Session, out: Path) -> list[Row]:
    """Copy the files of the run's data into their places, under their own names; their rows.

    Pictures that are no files, such as those of built-in sets, become PNG files.
    """
    section, samples, groups = session.config.data, session.samples, session.results.groups
    entries = zip(groups.prompt, groups.group.tolist(), groups.membership, strict=True)
    found = dict(zip(groups.sample_id, entries, strict=True))
    if unknown := set(samples.sample_id) - set(found):
        raise RunError(
            f"{len(unknown)} of {len(samples)} pictures of {section.path} were not "
            "there when the groups were inferred: give a run on the data as it is now"
        )
    listing = open_listing(section.path)
    captions = read_captions(section.path, listing, section.prompt_column)
    caption_of = dict(zip(samples.sample_id, samples.caption, strict=True))
    rows: list[Row] = []
    for at in listing.rows(f"copying {section.path}"):
        try:
            content = listing.content(at)
            name = sample_id(content, listing.caption(at, captions[at], content))
        except BadPicture:
            continue  # it is in the run's quarantine.json
        if name not in caption_of:
            continue  # left out as well, or a copy
        own, file = _file_of(listing, at, content, name)
        place = out / "real" / own
        if not place.is_file():
            write_with(place, partial(Path.write_bytes, data=file))
        prompt, group, q = found[name]
        row = {
            "file_name": place.relative_to(out).as_posix(),
            "caption": caption_of.pop(name),
            "prompt": prompt,
            "synthetic": "false",
            "sample_id": name,
        }
        rows.append(row | _told(group, q))
    return rows


def _file_of(listing: Listing, row: int, content: bytes, name: str) -> tuple[str, bytes]:
    """The name of a picture's file below ``real``, as in its source, and the bytes of it."""
    kind = listing.stored_as(content).format.split()[0].lower()
    if kind == "array":
        file = io.BytesIO()
        Image.fromarray(listing.decode(content, 0)).save(file, "png")
        return f"{name}.png", file.getvalue()
    own = "/".join(part for part in Path(listing.names[row]).parts if part not in ("..", "/"))
    return own if Path(own).suffix.lower() in SUFFIXES else f"{own}.{kind}", content


def _told(group: int, q: np.ndarray) -> Row:
    """A picture's group and its membership in all groups but group 0, which has the rest."""
    others = [q] if np.ndim(q) == 0 else q[1:]
    return {"group": group} | {f"q_{k}": f"{one:.4f}" for k, one in enumerate(others, 1)}


def augmentation_summary(
    rows: Sequence[Row], ratios: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Any]]:
    """For each prompt: real and synthetic pictures, each by inferred group, and how many drawn."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        drawn = len(ratios.get(row["prompt"], ()))
        entry: dict[str, Any] = {"real": Counter(), "synthetic": Counter(), "drawn": drawn}
        kind = "synthetic" if row["synthetic"] == "true" else "real"
        found.setdefault(row["prompt"], entry)[kind][str(row.get("group", "none"))] += 1
    return found
