"""Is everything there that a run needs: libraries, device, model, data, memory?"""

import importlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from invdiff.engine.base_model.architecture import describe, model_folder, way_to
from invdiff.engine.preflight.memory import MemoryEstimate, estimate_memory
from invdiff.engine.preflight.plan import data_size
from invdiff.engine.run.environment import environment
from invdiff.engine.settings.schema import Config
from invdiff.errors import DataError, ModelError
from invdiff.model.sizing import description
from invdiff.model.sizing.single_file import is_single

# Import names of what InvDiff cannot do without, and of what its extras bring.
NEEDED = {
    name: name for name in ("torch", "diffusers", "transformers", "peft", "numpy", "scipy",
                            "safetensors", "pyarrow", "jinja2", "matplotlib", "tokenizers")
} | {"scikit-learn": "sklearn", "pillow": "PIL"}  # fmt: skip
EXTRAS = {"hub": {"huggingface_hub": "huggingface_hub"}}


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
    data: str = ""
    estimate: MemoryEstimate | None = None
    problems: list[str] = field(default_factory=list)


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


def _examine_run(found: Checkup, config: Config) -> None:
    found.model = _model(config.model.path)
    if problem := found.model["problem"]:
        found.problems.append(problem)
    try:
        found.data = f"{config.data.path}, {data_size(config.data)}"
    except DataError as error:
        found.problems.append(str(error))
    wanted = config.model.device
    device = next((d for d in found.devices if wanted in ("auto", d.name.partition(":")[0])), None)
    if device is None:
        found.problems.append(f"model.device is {wanted!r}, which is not here: use auto")
    try:
        found.estimate = estimate_memory(config)
    except ModelError as error:
        if str(error) not in found.problems:
            found.problems.append(str(error))
    if device and device.memory and found.estimate and found.estimate.peak > device.memory:
        found.problems.append(
            f"about {found.estimate.peak / 1e9:.0f} GB are needed and {device.name} has "
            f"{device.memory / 1e9:.0f} GB: {', or '.join(_savings(config, found.estimate))}"
        )


def _savings(config: Config, estimate: MemoryEstimate) -> list[str]:
    """What would need less memory and is not set yet, for the stage that needs most."""
    stage = max(estimate.memory, key=lambda name: estimate.memory[name])
    batch, ways = getattr(config, stage).batch_size, []
    if stage == "train":
        batch //= config.train.gradient_accumulation_steps
        if not config.train.gradient_checkpointing:
            ways.append("set train.gradient_checkpointing")
        if batch > 1:
            ways.append("raise train.gradient_accumulation_steps")
    if batch > 1:
        ways.append(f"lower {stage}.batch_size")
    if config.model.dtype == "float32":
        ways.append("take model.dtype bfloat16")
    return [*ways, "lower data.image_size"]


def _model(name: str) -> dict[str, Any]:
    """Where the model is, and what has to be done for it to be there."""
    folder, problem = model_folder(name), None
    try:
        if is_single(name):
            describe(name)
            return {"name": name, "folder": name, "problem": None}
        if folder is None:
            raise ModelError(f"the model {name} is not on this computer: {way_to(name)}")
        if lost := description.missing_parts(folder):
            own = Path(name).expanduser().is_dir()
            way_out = "give a whole copy" if own else f"hf download {name}"
            raise ModelError(f"the model {name} lacks files of {', '.join(lost)}: {way_out}")
        description.require_libraries(folder)
    except ModelError as error:
        problem = str(error)
    return {"name": name, "folder": folder and str(folder), "problem": problem}


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
