"""What the calls of a pipeline to its denoiser mean: noise levels and branches of guidance."""

from typing import Any

from torch import nn

from invdiff.core.diffusion.guidance import Strength
from invdiff.errors import ModelError
from invdiff.model.families.registry import FAMILIES, family_of
from invdiff.model.guidance.hook import FULL, Branch, Branches, Guided

# What a denoiser is told at pure noise: the last of the scheduler's steps, 1000, or 1.
DISCRETE = frozenset({"UNet2DConditionModel", "PixArtTransformer2DModel"})
THOUSANDTHS = frozenset({"SD3Transformer2DModel", "SanaTransformer2DModel"})
LEVELS = frozenset({"FluxTransformer2DModel"})


def require_branches(pipe: Any) -> None:
    """Raise ModelError where the branches of guidance cannot be told apart."""
    if family_of(pipe) is None:
        name, known = type(pipe).__name__, ", ".join(family.pipeline for family in FAMILIES)
        raise ModelError(
            f"how {name} tells the branches of guidance apart is not known; use apply_to='both' "
            f"with {name}, or apply_to='cond' with one of: {known}"
        )


def guide_conditional_only(pipe: Any, guidance: Guided) -> None:
    """Let the guidance tell the branches of this pipeline apart, and spare the unconditional."""
    family = family_of(pipe)
    assert family is not None
    if family.guidance == "announced":
        guidance.branches = _announced
    elif family.guidance == "encoder":
        guidance.branches = _listen(pipe)
        guidance.cleanup.append(lambda: delattr(pipe, "encode_prompt"))
    else:
        guidance.branches = lambda _: "both" if pipe.do_classifier_free_guidance else "cond"


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


def highest_timestep(pipe: Any, module: nn.Module, window: Any, strength: Strength) -> float:
    """What the denoiser is told at noise level 1, if the guidance depends on the level at all.

    Raises ModelError for a network of which that is not known.
    """
    name = type(module).__name__
    if name in LEVELS:
        return 1.0
    if name in THOUSANDTHS:
        scale = getattr(module.config, "timestep_scale", 1.0)
        return float(pipe.scheduler.config.num_train_timesteps * scale)
    needed = tuple(window) != FULL or not isinstance(strength, int | float)
    if name not in DISCRETE and needed:
        raise ModelError(
            f"the noise level that {name} works at is not known; leave the window out and give one "
            "number as the strength"
        )
    return float(pipe.scheduler.config.num_train_timesteps - 1)
