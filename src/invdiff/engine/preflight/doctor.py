"""Is everything there that a run needs: libraries, device, model, data, memory?"""

import importlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from invdiff.data.sets import builtin
from invdiff.engine.base_model.architecture import model_folder
from invdiff.engine.preflight.memory import MemoryEstimate, estimate_memory
from invdiff.engine.run.environment import environment
from invdiff.engine.settings.common import EMBEDDED_SETS
from invdiff.engine.settings.config import Config
from invdiff.errors import ModelError
from invdiff.model.sizing import description

# Import names of what InvDiff cannot do without, and of what its extras bring.
NEEDED = {
    name: name for name in ("torch", "diffusers", "transformers", "peft", "numpy", "scipy",
                            "safetensors", "pyarrow", "jinja2", "matplotlib", "tokenizers")
} | {"scikit-learn": "sklearn", "pillow": "PIL"}  # fmt: skip
EXTRAS = {"hub": {"huggingface_hub": "huggingface_hub"}}
WEIGHTS = (".safetensors", ".bin")
SHARD = re.compile(r'"([^"/]+\.(?:safetensors|bin))"')


@dataclass(frozen=True)
class Device:
    """A device to compute on, with its memory in bytes (None where the system does not tell)."""

    name: str
    kind: str
    memory: int | None


@dataclass
class Checkup:
    """What was found; ``problems`` are what is missing, each with the way to mend it.

    ``estimate`` is None without a configuration, or where nothing is known of its model.
    """

    environment: Mapping[str, Any]
    devices: list[Device]
    extras: Mapping[str, bool]
    free_disk: int
    cached: list[dict[str, Any]]
    model: Mapping[str, Any] | None = None
    estimate: MemoryEstimate | None = None
    problems: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def summary(self) -> str:
        """One line for the end."""
        count = len(self.problems)
        return f"{count} {'thing' if count == 1 else 'things'} to mend, listed above"


def examine(config: Config | None = None) -> Checkup:
    """Look at this computer, and at what ``config`` needs of it."""
    found = Checkup(
        environment=environment(),
        devices=devices(),
        extras={extra: all(map(_importable, names.values())) for extra, names in EXTRAS.items()},
        free_disk=shutil.disk_usage(Path.cwd()).free,
        cached=cached_models(),
        problems=[
            f"{name} cannot be imported: pip install {name}"
            for name, module in NEEDED.items()
            if not _importable(module)
        ],
    )
    if config is not None:
        _examine_run(found, config)
    return found


def devices() -> list[Device]:
    """Every device that torch can compute on here, the one that "auto" takes first."""
    import torch

    known = []
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        known.append(Device(f"cuda:{index}", facts.name, facts.total_memory))
    if torch.backends.mps.is_available():
        known.append(Device("mps", "Apple GPU", _memory()))
    return [*known, Device("cpu", f"{os.cpu_count()} processors", _memory())]


def cached_models() -> list[dict[str, Any]]:
    """Pipelines in the hub's cache on this computer, with their size in bytes."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return []
    return [
        {"name": repo.repo_id, "bytes": repo.size_on_disk}
        for repo in sorted(repos, key=lambda one: one.repo_id)
        if repo.repo_type == "model"
    ]


def missing_parts(folder: Path) -> list[str]:
    """Components of the pipeline in ``folder`` whose files are not all there."""
    base = description.of_folder(folder)
    lost = []
    for name, part in base.parts.items():
        inside = folder / name
        files = [path.name for path in inside.iterdir()] if inside.is_dir() else []
        indexes = (inside / file for file in files if file.endswith(".index.json"))
        wanted = {s for index in indexes for s in SHARD.findall(index.read_text("utf-8"))}
        needs_weights = part.library in ("diffusers", "transformers") and "config.json" in files
        has_weights = any(file.endswith(WEIGHTS) for file in files)
        if not files or (needs_weights and not has_weights) or wanted - set(files):
            lost.append(name)
    return lost


def _examine_run(found: Checkup, config: Config) -> None:
    found.model = _model(config.model.path)
    if problem := found.model["problem"]:
        found.problems.append(problem)
    data = config.data.path
    place = builtin.set_folder(data) if data in EMBEDDED_SETS else Path(data).expanduser()
    if not place.exists():
        way_out = (
            f"invdiff data build {data}" if data in EMBEDDED_SETS else "give --data.path a folder"
        )
        found.problems.append(f"data.path {data} is not there: {way_out}")
    wanted = config.model.device
    device = next((d for d in found.devices if wanted in ("auto", d.name.partition(":")[0])), None)
    if device is None:
        found.problems.append(f"model.device is {wanted!r}, which is not here: use auto")
    try:
        found.estimate = estimate_memory(config)
    except ModelError as error:
        found.problems.append(str(error))
    if device and device.memory and found.estimate and found.estimate.peak > device.memory:
        found.problems.append(
            f"about {found.estimate.peak / 1e9:.0f} GB are needed and {device.name} has "
            f"{device.memory / 1e9:.0f} GB: lower train.batch_size, sample.batch_size, "
            "discover.batch_size or data.image_size, or take model.dtype bfloat16"
        )


def _model(name: str) -> dict[str, Any]:
    """Where the model is, and what has to be done for it to be there."""
    folder = model_folder(name)
    if folder is None:
        is_path = name.startswith((".", "/", "~")) or name.count("/") != 1
        way_out = "give --model.path a diffusers folder" if is_path else f"hf download {name}"
        if name in EMBEDDED_SETS:
            way_out = f"invdiff data build {name}"
        problem = f"the model {name} is not on this computer: {way_out}"
        return {"name": name, "folder": None, "problem": problem}
    try:
        lost = missing_parts(folder)
    except ModelError as error:
        return {"name": name, "folder": str(folder), "problem": str(error)}
    way_out = "give a whole copy" if Path(name).expanduser().is_dir() else f"hf download {name}"
    lacks = f"the model {name} lacks files of {', '.join(lost)}: {way_out}" if lost else None
    return {"name": name, "folder": str(folder), "problem": lacks}


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _memory() -> int | None:
    """Memory of the computer in bytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a system that tells
        return None
