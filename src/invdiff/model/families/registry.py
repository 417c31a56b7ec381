"""One file a model family; this table says which pipeline class goes to which."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from invdiff.errors import ModelError
from invdiff.model.denoiser import Denoiser

Opened = Callable[[Any], Denoiser]


@dataclass(frozen=True)
class Family:
    """Pipelines that share a denoiser.

    ``pipeline`` is the text-to-image class, the one to discover and to train with, and ``opener``
    imports its denoiser. An adapter also attaches to the ``variants``: the same network, asked for
    more. ``guidance`` is how they all call it for classifier-free guidance:

    - "batch": [unconditional, conditional], if their ``do_classifier_free_guidance`` says so;
    - "encoder": the same, but what says so is an argument of their ``encode_prompt``;
    - "announced": a call for each branch, within a ``cache_context`` of its name.
    """

    pipeline: str
    opener: Callable[[], Opened]
    guidance: Literal["batch", "encoder", "announced"]
    variants: frozenset[str]


def family_of(pipeline: Any) -> Family | None:
    """The family of a loaded pipeline, be it the text-to-image class or a variant."""
    name = type(pipeline).__name__
    return next((f for f in FAMILIES if name == f.pipeline or name in f.variants), None)


def _stable_diffusion() -> Opened:
    from invdiff.model.families.stable_diffusion import StableDiffusionDenoiser

    return StableDiffusionDenoiser


def _sdxl() -> Opened:
    from invdiff.model.families.sdxl import SDXLDenoiser

    return SDXLDenoiser


def _sd3() -> Opened:
    from invdiff.model.families.sd3 import SD3Denoiser

    return SD3Denoiser


def _flux() -> Opened:
    from invdiff.model.families.flux import FluxDenoiser

    return FluxDenoiser


def _pixart() -> Opened:
    from invdiff.model.families.pixart import PixArtDenoiser

    return PixArtDenoiser


def _sana() -> Opened:
    from invdiff.model.families.sana import SanaDenoiser

    return SanaDenoiser


def _named(stem: str, *kinds: str) -> frozenset[str]:
    return frozenset(f"{stem}{kind}Pipeline" for kind in kinds)


UNET_KINDS = ("Img2Img", "Inpaint", "ControlNet", "ControlNetImg2Img", "ControlNetInpaint")
SD3_KINDS = ("Img2Img", "Inpaint", "ControlNet", "ControlNetInpainting")
FLUX_KINDS = ("Img2Img", "Inpaint", "ControlNet")

FAMILIES = (
    Family(
        "StableDiffusionPipeline",
        _stable_diffusion,
        "batch",
        _named("StableDiffusion", *UNET_KINDS),
    ),
    Family("StableDiffusionXLPipeline", _sdxl, "batch", _named("StableDiffusionXL", *UNET_KINDS)),
    Family("StableDiffusion3Pipeline", _sd3, "batch", _named("StableDiffusion3", *SD3_KINDS)),
    Family("FluxPipeline", _flux, "announced", _named("Flux", *FLUX_KINDS)),
    Family("PixArtSigmaPipeline", _pixart, "encoder", frozenset()),
    Family("SanaPipeline", _sana, "batch", _named("Sana", "ControlNet")),
)


def from_pipeline(pipeline: Any) -> Denoiser:
    """The denoiser of a loaded text-to-image pipeline of diffusers.

    Raises ModelError for any other; the error names what is supported.
    """
    from invdiff.model.families.registry import FAMILIES, family_of

    name, family = type(pipeline).__name__, family_of(pipeline)
    if family is None:
        supported = ", ".join(each.pipeline for each in FAMILIES)
        raise ModelError(f"{name} is not supported; load the model as one of: {supported}")
    if name in family.variants:
        raise ModelError(
            f"{name} needs more than a prompt: discover and train with "
            f"{family.pipeline}.from_pipe(pipe), then attach the adapter to the {name}"
        )
    return family.opener()(pipeline)
