"""One file a model family; this table says which pipeline class goes to which."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from invdiff.errors import ModelError
from invdiff.model.denoiser import Denoiser
from invdiff.model.families.flux import FluxDenoiser
from invdiff.model.families.pixart import PixArtDenoiser
from invdiff.model.families.sana import SanaDenoiser
from invdiff.model.families.sd3 import SD3Denoiser
from invdiff.model.families.sdxl import SDXLDenoiser
from invdiff.model.families.stable_diffusion import StableDiffusionDenoiser


@dataclass(frozen=True)
class Family:
    """Pipelines that share a denoiser.

    ``pipeline`` is the text-to-image class, the one to discover and to train with. An adapter also
    attaches to the ``variants``: the same network, asked for more. ``guidance`` is how they all
    call it for classifier-free guidance:

    - "batch": [unconditional, conditional], if their ``do_classifier_free_guidance`` says so;
    - "encoder": the same, but what says so is an argument of their ``encode_prompt``;
    - "announced": a call for each branch, within a ``cache_context`` of its name.
    """

    pipeline: str
    denoiser: Callable[[Any], Denoiser]
    guidance: Literal["batch", "encoder", "announced"]
    variants: frozenset[str]


def family_of(pipeline: Any) -> Family | None:
    """The family of a loaded pipeline, be it the text-to-image class or a variant."""
    name = type(pipeline).__name__
    return next((f for f in FAMILIES if name == f.pipeline or name in f.variants), None)


def _named(stem: str, *kinds: str) -> frozenset[str]:
    return frozenset(f"{stem}{kind}Pipeline" for kind in kinds)


UNET_KINDS = ("Img2Img", "Inpaint", "ControlNet", "ControlNetImg2Img", "ControlNetInpaint")
SD3_KINDS = ("Img2Img", "Inpaint", "ControlNet", "ControlNetInpainting")
FLUX_KINDS = ("Img2Img", "Inpaint", "ControlNet")

FAMILIES = (
    Family(
        "StableDiffusionPipeline",
        StableDiffusionDenoiser,
        "batch",
        _named("StableDiffusion", *UNET_KINDS),
    ),
    Family(
        "StableDiffusionXLPipeline", SDXLDenoiser, "batch", _named("StableDiffusionXL", *UNET_KINDS)
    ),
    Family(
        "StableDiffusion3Pipeline", SD3Denoiser, "batch", _named("StableDiffusion3", *SD3_KINDS)
    ),
    Family("FluxPipeline", FluxDenoiser, "announced", _named("Flux", *FLUX_KINDS)),
    Family("PixArtSigmaPipeline", PixArtDenoiser, "encoder", frozenset()),
    Family("SanaPipeline", SanaDenoiser, "batch", _named("Sana", "ControlNet")),
)


def from_pipeline(pipeline: Any) -> Denoiser:
    """The denoiser of a loaded text-to-image pipeline of diffusers.

    Raises ModelError for any other; the error names what is supported.
    """
    name, family = type(pipeline).__name__, family_of(pipeline)
    if family is None:
        supported = ", ".join(each.pipeline for each in FAMILIES)
        raise ModelError(f"{name} is not supported; load the model as one of: {supported}")
    if name in family.variants:
        raise ModelError(
            f"{name} needs more than a prompt: discover and train with "
            f"{family.pipeline}.from_pipe(pipe), then attach the adapter to the {name}"
        )
    return family.denoiser(pipeline)
