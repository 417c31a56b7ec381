"""The table of families: which pipeline class goes to which denoiser."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from invdiff.errors import ModelError
from invdiff.model.denoiser import Denoiser
from invdiff.model.families.language_models import (
    Flux2Denoiser,
    Flux2KleinDenoiser,
    QwenImageDenoiser,
    ZImageDenoiser,
)
from invdiff.model.families.stable_diffusion import (
    SD3Denoiser,
    SDXLDenoiser,
    StableDiffusionDenoiser,
)
from invdiff.model.families.transformers import (
    ChromaDenoiser,
    FluxDenoiser,
    PixArtDenoiser,
    SanaDenoiser,
)


@dataclass(frozen=True)
class Family:
    """Pipelines that share a denoiser.

    ``pipeline`` is the text-to-image class, the one to discover and to train with. An adapter also
    attaches to the ``variants``: the same network, asked for more. ``guidance`` is how they all
    call it for classifier-free guidance:

    - "batch": [unconditional, conditional], if their ``do_classifier_free_guidance`` says so;
    - "encoder": the same, but what says so is an argument of their ``encode_prompt``;
    - "own first": [conditional, unconditional], if they say so;
    - "announced": a call for each branch, within a ``cache_context`` of its name;
    - "none": the network is told the scale;
    - "unsaid": a call for each branch, and nothing that tells them apart.
    """

    stem: str
    denoiser: Callable[[Any], Denoiser]
    guidance: Literal["batch", "encoder", "own first", "announced", "none", "unsaid"]
    kinds: tuple[str, ...] = ()

    @property
    def pipeline(self) -> str:
        """Name of the text-to-image class."""
        return f"{self.stem}Pipeline"

    @property
    def variants(self) -> frozenset[str]:
        """Names of the classes that need more than a prompt."""
        return frozenset(f"{self.stem}{kind}Pipeline" for kind in self.kinds)


UNET_KINDS = ("Img2Img", "Inpaint", "ControlNet", "ControlNetImg2Img", "ControlNetInpaint")
SD3_KINDS = ("Img2Img", "Inpaint", "ControlNet", "ControlNetInpainting")

FAMILIES = (
    Family("StableDiffusion", StableDiffusionDenoiser, "batch", UNET_KINDS),
    Family("StableDiffusionXL", SDXLDenoiser, "batch", UNET_KINDS),
    Family("StableDiffusion3", SD3Denoiser, "batch", SD3_KINDS),
    Family("Flux", FluxDenoiser, "announced", ("Img2Img", "Inpaint", "ControlNet")),
    Family("PixArtSigma", PixArtDenoiser, "encoder"),
    Family("Sana", SanaDenoiser, "batch", ("ControlNet",)),
    Family("QwenImage", QwenImageDenoiser, "announced", ("Img2Img", "Inpaint", "ControlNet")),
    Family("ZImage", ZImageDenoiser, "own first", ("Img2Img", "Inpaint", "ControlNet")),
    Family("Flux2Klein", Flux2KleinDenoiser, "announced", ("Inpaint",)),
    Family("Flux2", Flux2Denoiser, "none"),
    Family("Chroma", ChromaDenoiser, "unsaid", ("Img2Img", "Inpaint")),
)


def family_of(pipeline: Any) -> Family | None:
    """The family of a loaded pipeline, be it the text-to-image class or a variant."""
    name = type(pipeline).__name__
    return next((f for f in FAMILIES if name == f.pipeline or name in f.variants), None)


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
