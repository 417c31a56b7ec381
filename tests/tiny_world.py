"""A world of one tiny pipeline and one small folder of pictures, and settings that take seconds."""

import csv
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from invdiff.app.api import Run
from invdiff.engine.base_model import loading
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.stages import FILES, STAGES
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings import schema
from invdiff.engine.storage.files import read_json, read_parquet
from invdiff.engine.storage.seals import SEAL, Seals
from invdiff.studies import comparison
from tests.model import tiny

comparison.register()

HAT, COAT = "a hat", "a coat"
WARM, COLD = (200, 60, 40), (40, 60, 200)

SETTINGS = {
    "processes": 1,
    "data": {"min_images": 40},
    "discover": {
        "images_per_prompt": 45, "levels": [0.95, 0.9], "batch_size": 32,
    },
    "train": {
        "steps": 4, "batch_size": 4, "rank": 2, "checkpointing_steps": 2, "share_feedback": [],
    },
    "calibrate": {"images_per_prompt": 4, "strengths": [0.0, 1.0]},
    "sample": {"images_per_prompt": 3, "guidance_scales": [1.0, 2.5], "steps": 2, "batch_size": 2},
    "study": {
        "estimator": "top_loss",  # random weights have learnt no shares to contrast
        "feature_levels": [0.3],
    },
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """A pipeline on the disk and pictures that it is asked about."""

    model: Path
    data: Path

    def config(self, *overrides: str) -> schema.Config:
        return settings(self.model, self.data, *overrides)

    def open(self, out: Path, *overrides: str) -> RunFolder:
        return RunFolder.open(out, self.config(*overrides))


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    root = tmp_path_factory.mktemp("world")
    return World(save_pipeline(root / "model"), pictures(root / "data"))


@pytest.fixture(scope="session")
def finished(world, tmp_path_factory) -> Path:
    """A run with every stage done; look, don't touch (`copy_of` is yours)."""
    run = Run(tmp_path_factory.mktemp("finished") / "run", world.config())
    run.run_all()
    return run.path


def copy_of(run: Path, to: Path, first: str = "") -> Path:
    """A copy of a run to work on, without stage ``first`` and those that follow it."""
    shutil.copytree(run, to)
    for stage in STAGES[STAGES.index(first) :] if first else ():
        (to / "stages" / f"{stage}.json").unlink()
        for path in (to / name for name in FILES[stage]):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return to


def resealed(run: Path) -> Path:
    """The run whose files were changed on purpose, as if its stages had left them so."""
    seals = Seals(run)
    for mark in run.glob("stages/*.json"):
        record = read_json(mark)
        record.pop(SEAL, None)
        seals.write(f"stages/{mark.name}", record | {"files": seals.of(FILES[mark.stem])})
    return run


def table(path: Path) -> dict[str, np.ndarray]:
    """The columns of a parquet file as arrays."""
    return {name: np.array(values) for name, values in read_parquet(path).items()}


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file."""
    return load_file(path)


def save_tensors(path: Path, values: dict[str, torch.Tensor]) -> None:
    """Write them as diffusers does."""
    save_file(values, path, metadata={"format": "pt"})


def save_pipeline(folder: Path, seed: int = 0) -> Path:
    tiny.pipeline(seed).save_pretrained(folder)
    return folder


def denoiser(world: World):
    """The tiny model as a run of this process sees it: loaded once."""
    return loading.resolve(loading.ModelRef(str(world.model), "cpu", "float32"))


def contents(folder: Path, pattern: str = "*") -> dict[str, bytes]:
    """Every file below ``folder`` with its bytes."""
    files = sorted(path for path in folder.rglob(pattern) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def stamps(folder: Path) -> dict[str, int]:
    """When each file below ``folder`` was last written, but for the lock."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}


def pictures(folder: Path, share: float = 0.9, count: int = 45, size: int = 16) -> Path:
    """``count`` pictures of each of two prompts, ``share`` of them warm, the rest cold."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    rows = []
    for prompt in (HAT, COAT):
        warm = draw.permutation(count) < round(share * count)
        for index, is_warm in enumerate(warm):
            name = f"{prompt.replace(' ', '-')}-{index:03d}.png"
            base = np.array(WARM if is_warm else COLD, float)
            picture = base + draw.normal(0, 12, (size, size, 3))
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / name)
            colour = "warm" if is_warm else "cold"
            rows.append({"file_name": name, "caption": prompt, "colour": colour})
    write_metadata(folder, rows)
    return folder


def write_metadata(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def settings(model: Path | str, data: Path | str, *overrides: str) -> schema.Config:
    nested = SETTINGS | {
        "model": {"path": str(model)},
        "data": SETTINGS["data"] | {"path": str(data)},
    }
    return configuration.load(nested, overrides)


def interruptible() -> None:
    """For a child process: SIGINT as usual, even if whoever runs the tests ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
