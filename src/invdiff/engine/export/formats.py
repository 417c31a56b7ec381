"""An adapter in the formats that other tools read, each file written whole and checked.

Nothing here trains or samples anew; a run gives the adapter, the strength that was calibrated and
the settings that belong to it, a bare adapter folder gives what its header says.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import huggingface_hub
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import save_file

from invdiff.data.sets import builtin
from invdiff.engine.base_model.architecture import describe, model_folder, published
from invdiff.engine.base_model.loading import ModelRef, device_of, hushed, load_pipeline
from invdiff.engine.encoding.session import Session
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.stages import STAGES
from invdiff.engine.sampling.sample import strength_of
from invdiff.engine.settings.common import EMBEDDED_SETS
from invdiff.engine.storage.files import write_json, write_with
from invdiff.engine.storage.seals import Seals
from invdiff.engine.workflow import session_of
from invdiff.errors import ConfigError, RunError
from invdiff.model.formats import kohya, modelspec
from invdiff.model.formats.verify import Check, Verifier
from invdiff.model.guidance.hook import FULL
from invdiff.model.lora import adapter_file
from invdiff.model.lora.adapter_file import SETTINGS_KEY, LoraFile
from invdiff.model.lora.arithmetic import save_merged
from invdiff.model.sizing import description
from invdiff.model.sizing.description import Description

MERGED = "merged"
FORMATS = {
    "diffusers": adapter_file.FILE,
    "kohya": kohya.FILE,
    "peft": SAFETENSORS_WEIGHTS_NAME,
    MERGED: MERGED,
}
CONFIGS = [description.INDEX, *(f"*/{name}" for name in description.CONFIGS)]
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
VERIFY_STEPS = 2
VERIFY_PROMPTS = 2
ANY_PROMPT = "a portrait of a person"


@dataclass(frozen=True)
class AdapterSource:
    """An adapter with what is known about it; ``run`` is None for a bare adapter folder.

    ``strength`` is the one to deliver, ``reported`` that of the run's pictures and figures.
    """

    folder: Path
    run: Session | None
    lora: LoraFile
    base: str | None
    strength: float
    reported: float
    window: tuple[float, float]
    scale: float | None

    @property
    def exact(self) -> bool:
        """Whether a stock loader draws the pictures of a report at its strength, to rounding."""
        by_weight = self.lora.settings.get(adapter_file.SCALED_KEY) == "weights"
        return self.window == FULL and (by_weight or self.reported in (0, 1))


def locate_adapter(
    path: Path, model: str | None = None, strength: float | None = None
) -> AdapterSource:
    """The adapter at ``path``, a run folder or an adapter folder, on the base ``model``.

    ``strength`` is in place of the one that the run sampled with, which is the calibrated one
    unless its settings name another.

    Raises:
        RunError: there is none, the run found nothing to train for, or the strength is 0.
    """
    run, folder = None, path
    if RunFolder.is_run(path):
        opened = RunFolder.read(path)
        opened.require("train", by="export")
        opened.seals.verify(STAGES)  # the card shows, and the report beside it is, what others left
        run = session_of(opened)
        folder = run.adapter
        if run.results.training.skipped:
            raise RunError(f"{path} found nothing to balance: its adapter does nothing to export")
    elif not (path / adapter_file.FILE).is_file():
        raise RunError(f"{path} is neither a run folder nor a folder with {adapter_file.FILE}")
    elif path.name == "adapter":  # of a run, which has hashes
        Seals(path.parent).verify(["train"], only=f"adapter/{adapter_file.FILE}")
    lora = adapter_file.read(folder)
    told = lora.settings
    start, stop = run.config.sample.window if run else told.get("window", (0.0, 1.0))
    scale = run.config.calibrate.guidance_scale if run else told.get("guidance_scale")
    base = model or (run.base_model if run else None) or told.get("base_model")
    reported = strength_of(run) if run else float(told.get("recommended_strength", 1.0))
    strength = reported if strength is None else strength
    if strength == 0:
        raise RunError(
            f"adapter strength 0 is the base model, nothing of {path} would be in the files: give "
            "--strength, and see in the report what calibration found at others"
        )
    window = (float(start), float(stop))
    return AdapterSource(folder, run, lora, base, strength, reported, window, scale)


def require_formats(formats: Sequence[str], base: Description) -> list[str]:
    """The formats, each once; ConfigError or ModelError for what cannot be had."""
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ConfigError(f"there is no format {unknown[0]!r}; there are: {', '.join(FORMATS)}")
    if not formats:
        named = base.denoiser.kind in kohya.SUPPORTED
        return ["diffusers", *(["kohya"] if named else []), "peft"]
    if "kohya" in formats:
        kohya.require_supported(base.denoiser.kind)
    return list(dict.fromkeys(formats))


def base_of(source: AdapterSource, pipeline: Any | None) -> Description:
    """What the base model is made of: the pipeline's parts, or those of the model by name."""
    if pipeline is not None:
        return description.of_pipeline(pipeline)
    if source.base is None:
        raise RunError(
            f"{source.folder} does not say which model it was trained on: name it with --model"
        )
    if source.base in EMBEDDED_SETS:
        builtin.require_built(source.base)  # it is nothing of the hub's
    if known := describe(source.base) or published(source.base):
        return known
    try:  # names need the architecture alone, some kilobytes of the hub's gigabytes
        place = huggingface_hub.snapshot_download(source.base, allow_patterns=CONFIGS)
    except Exception as error:  # whatever the hub has against the name, the user can mend
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RunError(
            f"{source.base} is not on this computer, and the hub does not tell what it is "
            f"({reason}): name the folder of the base model with --model"
        ) from None
    return description.of_folder(Path(place), source.base)


def base_pipeline(source: AdapterSource) -> Any:
    """The base model, loaded as the run loads it."""
    assert source.base is not None, "base_of has refused a source without a base"
    section = source.run.config.model if source.run else None
    device = device_of(section.device if section else "auto")
    return load_pipeline(ModelRef(source.base, device, section.dtype if section else "float32"))


def write_formats(
    source: AdapterSource,
    folder: Path,
    formats: Sequence[str],
    base: Description,
    facts: modelspec.Facts,
    pipeline: Any | None = None,
    own_pipeline: bool = False,
) -> list[str]:
    """Write each format into ``folder``; the names of files and folders written.

    ``pipeline`` is needed for "merged" only. If the caller's own, its parts are saved as they are
    in memory; else they are copied from where the model lies.
    """
    for name in formats:
        if name == MERGED:
            with hushed(bars=False):
                place = None if own_pipeline else model_folder(str(source.base))
                save_merged(pipeline, source.lora, facts.strength, folder / MERGED, place)
        else:
            _write_lora(source, folder / FORMATS[name], name, base, facts)
    return [FORMATS[name] for name in formats]


def _write_lora(
    source: AdapterSource, file: Path, form: str, base: Description, facts: modelspec.Facts
) -> None:
    lora, network = source.lora.at(facts.strength), base.denoiser
    xl = base.pipeline.startswith("StableDiffusionXL")
    layers = network.config.get("layers_per_block", 2) if xl else 0
    if form == "kohya":
        weights = kohya.convert(lora, network.kind, layers)
    else:
        weights = lora.prefixed("base_model.model" if form == "peft" else lora.component)
    header = {"format": "pt"} | modelspec.header(facts, base, weights, max(lora.ranks.values()))
    settings = lora.settings | {
        "base_model": public_name(source.base),
        "recommended_strength": facts.strength,
        "window": list(facts.window),
        "guidance_scale": facts.scale,
    }
    told = replace(lora, settings=settings).header()
    header |= told if form == "diffusers" else {SETTINGS_KEY: told[SETTINGS_KEY]}
    if form == "peft":  # and no more: each PEFT refuses fields that a later one brought
        peft = {"peft_type": "LORA", "base_model_name_or_path": settings["base_model"]}
        write_json(file.with_name(CONFIG_NAME), peft | {"inference_mode": True} | lora.config())
    write_with(file, lambda beside: save_file(weights, beside, metadata=header))


def public_name(base: str | None) -> str | None:
    """The base model's name where others can use it: a hub id or built-in name, never a path."""
    if base is None or base in EMBEDDED_SETS:
        return base
    return base if HUB_ID.fullmatch(base) and not Path(base).exists() else None


def verify_files(
    source: AdapterSource,
    folder: Path,
    written: Sequence[str],
    facts: modelspec.Facts,
    pipeline: Any,
    options: Mapping[str, Any] | None = None,
) -> list[Check]:
    """Load every file again and compare pictures; RunError if one of them is not the adapter.

    ``options`` go to the pipeline's call; by default two denoising steps.
    """
    settings = {"num_inference_steps": VERIFY_STEPS} | dict(options or {})
    prompts = list(source.run.results.discovery.prompts) if source.run else [ANY_PROMPT]
    with hushed(bars=False):
        asked = prompts[:VERIFY_PROMPTS], settings, facts.strength, facts.window
        verifier = Verifier(pipeline, source.folder, source.lora, *asked)
        checks = [
            verifier.folder(folder / name) if name == MERGED else verifier.lora_file(folder / name)
            for name in written
        ]
    if wrong := [check for check in checks if not check.ok]:
        raise RunError(f"{wrong[0]}; nothing was exported")
    return checks
