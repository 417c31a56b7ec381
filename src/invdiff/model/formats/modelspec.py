"""What the header of an exported LoRA says: ModelSpec 1.0.1, and kohya's ``ss_`` keys.

User interfaces show the title, the usage hint and the architecture; without the architecture some
offer the file for the wrong base model. Names of architectures are those of ModelSpec and, where it
has none, of sd-scripts, or for the newest of musubi-tuner.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safetensors.torch import save
from torch import Tensor

from invdiff.model.networks import NETWORKS, UNET
from invdiff.model.sizing.description import Description

Header = dict[str, str]

VERSION = "1.0.1"
TIMESTEPS = 1000

# What Forge tells Flux by, whichever it is; what sd-scripts writes for the names of SDXL's authors.
FLUX_CODE = "https://github.com/black-forest-labs/flux"
SAI_CODE = "https://github.com/Stability-AI/generative-models"
FLUX2 = {24: "klein-4b", 32: "klein-9b", 48: "dev"}  # by the heads of their attention


@dataclass(frozen=True)
class Facts:
    """What the header tells: how to use the adapter, and where its audit is.

    ``strength`` is in the file: loaders that know no InvDiff draw with it at weight 1.
    """

    title: str
    description: str
    strength: float
    window: tuple[float, float]
    scale: float | None
    audit: str
    date: str = ""

    @property
    def usage_hint(self) -> str:
        """One sentence on strength, window and scale, then where the audit is."""
        start, stop = self.window
        where = "all noise levels" if (start, stop) == (0, 1) else (
            f"noise levels {start:g} to {stop:g} (0 = clean, 1 = pure noise)"
        )  # fmt: skip
        at = f", calibrated at guidance scale {self.scale:g}" if self.scale else ""
        return (
            f"Recommended weight 1 (adapter strength {self.strength:g}) at {where}{at}. "
            f"Bias audit: {self.audit}"
        )


def header(facts: Facts, base: Description, weights: Mapping[str, Tensor], rank: int) -> Header:
    """The keys and their values, all text, as safetensors wants them."""
    architecture, version = architecture_of(base)
    start, stop = (round(level * TIMESTEPS) for level in facts.window)
    renamed = architecture.startswith("stable-diffusion-xl") and "lora_unet_" in min(weights)
    code = FLUX_CODE if version == "flux1" else SAI_CODE if renamed else "diffusers"
    found = {
        "modelspec.sai_model_spec": VERSION,
        "modelspec.architecture": f"{architecture}/lora",
        "modelspec.implementation": code,
        "modelspec.title": facts.title,
        "modelspec.description": facts.description,
        "modelspec.usage_hint": facts.usage_hint,
        "modelspec.timestep_range": f"{start},{stop}",
        "modelspec.resolution": f"{base.image_size}x{base.image_size}",
        "modelspec.tags": "invdiff, bias mitigation",
        "modelspec.hash_sha256": f"0x{content_hash(weights)}",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(float(rank)),
        "ss_base_model_version": version,
        "ss_v2": str(version.startswith("sd_v2")),  # A1111 and Forge take all others for SD 1
    }
    if facts.date:
        found["modelspec.date"] = facts.date
    if kind := _prediction(base):
        found["modelspec.prediction_type"] = kind
    return found


def architecture_of(base: Description) -> tuple[str, str]:
    """ModelSpec's name of the base architecture, and kohya's."""
    denoiser, config = base.denoiser.kind, base.denoiser.config
    if denoiser == "FluxTransformer2DModel":
        return ("flux-1-dev" if config.get("guidance_embeds") else "flux-1-schnell"), "flux1"
    if denoiser == "Flux2Transformer2DModel" and (heads := config["num_attention_heads"]) in FLUX2:
        return f"Flux.2-{FLUX2[heads]}", "flux2"
    if denoiser != UNET:
        known = NETWORKS.get(denoiser)
        return (known and known.names) or (denoiser, denoiser)
    if base.pipeline.startswith("StableDiffusionXL"):
        return "stable-diffusion-xl-v1-base", "sdxl_base_v1-0"
    if config.get("cross_attention_dim") == 1024:
        is_v = _prediction(base) == "v"
        return ("stable-diffusion-v2-768-v", "sd_v2_v") if is_v else (
            "stable-diffusion-v2-512", "sd_v2"
        )  # fmt: skip
    return "stable-diffusion-v1", "sd_v1"


def content_hash(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over the bytes of the file after its header, where wider types come first."""
    file = save(dict(weights))
    return hashlib.sha256(file[8 + int.from_bytes(file[:8], "little") :]).hexdigest()


def _prediction(base: Description) -> str | None:
    names: Mapping[Any, str] = {"epsilon": "epsilon", "v_prediction": "v"}
    return names.get(base.scheduler.get("prediction_type"))
