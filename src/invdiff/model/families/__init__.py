"""One file a model family; this table says which pipeline class goes to which."""

from collections.abc import Callable
from typing import Any


def _stable_diffusion() -> Callable[[Any], Any]:
    from invdiff.model.families.stable_diffusion import StableDiffusionDenoiser

    return StableDiffusionDenoiser


FAMILIES: tuple[tuple[frozenset[str], Callable[[], Callable[[Any], Any]]], ...] = (
    (
        frozenset({"StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"}),
        _stable_diffusion,
    ),
)
