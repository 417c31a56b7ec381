"""The adapter on a stock pipeline: exact strength, a window of noise levels, proof of application.

    attach(pipe, "runs/faces/adapter", strength=0.8, window=(0.5, 1.0))
    pipe("a person wearing a hat")
    detach(pipe)                        # the pipeline is the base again, bit for bit

A strength s scales the *weights* of the LoRA, as its weight does in any program, or the
*prediction*: f = f_base + s g(level) (f_adapted - f_base), see `diffusion.guidance`. The two agree
at 0 and 1. An adapter says in its header which of them its strength was calibrated with. s may be
negative, which mirrors the guidance, and may follow the noise level.
Cost: one pass, two where the prediction is scaled by another strength than 0 and 1.

Attach before `enable_model_cpu_offload`: whatever wraps the denoiser later must wrap this too. A
pipeline that calls the denoiser past the guidance is stopped with a ModelError; `verify_applied`
also finds the run that never reached it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from invdiff.core.diffusion.guidance import Strength, strength_at
from invdiff.errors import ModelError
from invdiff.model.denoiser import denoiser_module
from invdiff.model.families.registry import FAMILIES, family_of
from invdiff.model.guidance.hook import (
    FULL,
    Branch,
    Branches,
    Guided,
    Scaled,
    add_guidance,
    guidance_of,
    remove_guidance,
)
from invdiff.model.lora import adapter, adapter_file
from invdiff.model.lora.adapter_file import SCALED_KEY
from invdiff.model.networks import NETWORKS

Window = tuple[float, float]


def attach(
    pipe: Any,
    adapter_folder: str | Path,
    strength: Strength | None = None,
    window: Window | None = None,
    apply_to: Literal["both", "cond"] = "both",
    scaled: Scaled | None = None,
) -> None:
    """Load an adapter into a diffusers pipeline and guide every denoiser call with it.

    Args:
        pipe: A pipeline with a `unet` or a `transformer`.
        adapter_folder: Folder with `pytorch_lora_weights.safetensors`.
        strength: 0 = the base, 1 = as trained, above extrapolates, below 0 mirrors; None = the
            strength that calibration recommends in the file's header, or 1. To follow the noise
            level: a function of it, or a sequence of strengths at levels evenly spaced from 0
            (clean) to 1 (pure noise), linear between them.
        window: Noise levels [start, stop] at which the guidance applies, 0 = clean, 1 = pure noise;
            None = the one that the strength was calibrated with, or all of them.
        apply_to: "both" guides both branches of classifier-free guidance, as in training; "cond"
            the conditional one only. Without classifier-free guidance (scale 1) everything is
            conditional and the two are the same.
        scaled: What the strength scales, "weights" or "prediction"; None = as it was calibrated,
            which for adapters of earlier versions and of other origin is "prediction".

    Raises:
        ModelError: The adapter is for another network, one is attached already, or a value is out
            of range. The pipeline is then as it was.
    """
    module, folder = denoiser_module(pipe), Path(adapter_folder)
    _require_not_offloaded(module, "attach")
    if guidance_of(module) is not None:
        raise ModelError("this pipeline already has an adapter attached; call detach(pipe) first")
    told = adapter_file.read_settings(folder)
    strength = told.get("recommended_strength", 1.0) if strength is None else strength
    _require_strength(strength)
    start, stop = window = told.get("window", FULL) if window is None else window
    if not 0 <= start <= stop <= 1:
        raise ModelError(
            f"the window is [{start}, {stop}]; it must be two noise levels with "
            "0 <= start <= stop <= 1 (0 = clean, 1 = pure noise)"
        )
    highest = _highest_timestep(pipe, module, window, strength)
    _require_apply_to(pipe, apply_to)
    scaled = told.get(SCALED_KEY, "prediction") if scaled is None else scaled
    if scaled not in get_args(Scaled):
        raise ModelError(f"scaled is {scaled!r}; it must be 'weights' or 'prediction'")
    adapter_file.load(module, folder, pipe)
    guidance = add_guidance(module, strength, window, highest)
    guidance.scaled = scaled
    if apply_to == "cond":
        _guide_conditional_only(pipe, guidance)


def detach(pipe: Any) -> None:
    """Take the adapter out; the pipeline computes what it did before, bit for bit.

    Raises ModelError when nothing is attached.
    """
    module = denoiser_module(pipe)
    _guidance(module)
    _require_not_offloaded(module, "detach")
    remove_guidance(module)
    adapter.remove(module)


def set_strength(pipe: Any, strength: Strength) -> None:
    """Change the strength, also between the steps of a run (`callback_on_step_end`)."""
    _require_strength(strength)
    module = denoiser_module(pipe)
    guidance = _guidance(module)
    guidance.highest = _highest_timestep(pipe, module, guidance.window, strength)
    guidance.strength = strength


def applied(pipe: Any) -> int:
    """In how many denoiser calls since `attach` the adapter had a part."""
    return _guidance(denoiser_module(pipe)).applied


def verify_applied(pipe: Any) -> None:
    """Raise ModelError unless the adapter had a part in what the pipeline drew since `attach`.

    At strength 0 the denoiser must have been called through the guidance all the same.
    """
    guidance = _guidance(denoiser_module(pipe))
    if guidance.calls == 0:
        raise ModelError(
            "the denoiser was never called through the guidance, the pictures are the base's; "
            "attach to the pipeline that draws them, after its denoiser was last replaced"
        )
    if guidance.applied == 0 and guidance.strength != 0:
        start, stop = guidance.window
        raise ModelError(
            f"none of the {guidance.calls} denoising steps has a noise level within [{start:g}, "
            f"{stop:g}] where the strength is not 0, the pictures are the base's; widen the window "
            "or take more steps"
        )


@contextmanager
def attached(pipe: Any, adapter_folder: str | Path, **options: Any) -> Iterator[Any]:
    """`attach` for the length of a `with` block, `verify_applied` at its end, then `detach`."""
    attach(pipe, adapter_folder, **options)
    try:
        yield pipe
        verify_applied(pipe)
    finally:
        detach(pipe)


@contextmanager
def within_window(pipe: Any, strength: float, window: Window) -> Iterator[Any]:
    """`attached`, with the adapter that the denoiser carries already."""
    module = denoiser_module(pipe)
    add_guidance(module, strength, window, _highest_timestep(pipe, module, window, strength))
    try:
        yield pipe
        verify_applied(pipe)
    finally:
        remove_guidance(module)


def _guidance(module: nn.Module) -> Guided:
    guidance = guidance_of(module)
    if guidance is None:
        raise ModelError("no adapter is attached to this pipeline; call attach(pipe, folder) first")
    return guidance


def _require_strength(strength: Strength) -> None:
    if isinstance(strength, Sequence) and len(strength) < 2:
        raise ModelError(
            f"strength is {strength}; a sequence needs two numbers at least, for level 0 and 1"
        )
    try:
        values = strength_at(torch.tensor([0.0, 0.5, 1.0]), strength)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ModelError(
            f"strength is {strength!r} ({error}); it must be a number, a sequence of numbers, or a "
            "function of the noise level that gives one"
        ) from error
    if not bool(values.isfinite().all()):
        raise ModelError(f"strength is {strength}; it must be finite at every noise level")


def _require_apply_to(pipe: Any, apply_to: str) -> None:
    if apply_to not in ("both", "cond"):
        raise ModelError(f"apply_to is {apply_to!r}; it must be 'both' or 'cond'")
    told = [family for family in FAMILIES if family.guidance != "unsaid"]
    if apply_to == "cond" and family_of(pipe) not in told:
        name, known = type(pipe).__name__, ", ".join(family.pipeline for family in told)
        raise ModelError(
            f"how {name} tells the branches of guidance apart is not known; use apply_to='both' "
            f"with {name}, or apply_to='cond' with one of: {known}"
        )


def _require_not_offloaded(module: nn.Module, verb: str) -> None:
    """The wrapper of accelerate and ours must come off in the opposite order they went on."""
    if hasattr(module, "_hf_hook"):
        raise ModelError(
            f"CPU offloading is on; call pipe.remove_all_hooks(), then {verb}, then enable it again"
        )


def _guide_conditional_only(pipe: Any, guidance: Guided) -> None:
    """Let the guidance tell the branches of this pipeline apart, and spare the unconditional."""
    family = family_of(pipe)
    assert family is not None
    if family.guidance == "announced":
        guidance.branches = _announced
    elif family.guidance == "encoder":
        guidance.branches = _listen(pipe)
        guidance.cleanup.append(lambda: delattr(pipe, "encode_prompt"))
    elif family.guidance == "none":
        guidance.branches = lambda _: "cond"
    else:
        halves: Branch = "own first" if family.guidance == "own first" else "both"
        guidance.branches = lambda _: halves if pipe.do_classifier_free_guidance else "cond"


def _announced(name: str | None) -> Branch:
    if name not in ("cond", "uncond"):
        raise ModelError(
            f"the pipeline announces its denoiser call as {name!r}, neither as 'cond' nor as "
            "'uncond': the branches cannot be told apart; use apply_to='both' with it"
        )
    return "cond" if name == "cond" else "uncond"


def _listen(pipe: Any) -> Branches:
    """Note what the pipeline tells its own `encode_prompt`, for it tells nobody else."""
    original, guided = pipe.encode_prompt, [False]

    def encode_prompt(prompt: Any, do_classifier_free_guidance: bool = True, **rest: Any) -> Any:
        guided[0] = do_classifier_free_guidance
        return original(prompt, do_classifier_free_guidance, **rest)

    pipe.encode_prompt = encode_prompt
    return lambda _: "both" if guided[0] else "cond"


def _highest_timestep(pipe: Any, module: nn.Module, window: Window, strength: Strength) -> float:
    """What the denoiser is told at noise level 1, if the guidance depends on the level at all."""
    name, steps = type(module).__name__, pipe.scheduler.config.num_train_timesteps
    known = NETWORKS.get(name)
    if known and known.told == "one":
        return 1.0
    if known and known.told == "steps":
        return float(steps * getattr(module.config, "timestep_scale", 1.0))
    needed = tuple(window) != FULL or not isinstance(strength, int | float)
    if known is None and needed:
        raise ModelError(
            f"the noise level that {name} works at is not known; leave the window out and give one "
            "number as the strength"
        )
    return float(steps - 1)
