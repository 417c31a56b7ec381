"""What the code asks about a network by the name of its class: one row for each family."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Network:
    """What is known of a network.

    - ``told``: what it is told at pure noise, the last of the scheduler's steps (counted from 0),
      their number, or 1;
    - ``width``: what its configuration calls the width of a prompt's tokens, and ``tokens`` how
      many there are as the stock pipelines pad them, at most where they don't;
    - ``places``: of how many numbers the place of a token is where the pipeline packs two by two
      cells into one; 0 if it counts them itself, None if nothing is packed;
    - ``names``: of the architecture in ModelSpec, and of the base in sd-scripts, if one of each is
      enough;
    - ``comfyui``: whether ComfyUI reads a LoRA of it under diffusers' names.
    """

    told: Literal["last step", "steps", "one"]
    width: str
    tokens: int
    places: int | None = None
    names: tuple[str, str] | None = None
    comfyui: bool = True


JOINT = "joint_attention_dim"
TRANSFORMERS = {
    "SD3": Network("steps", JOINT, 77 + 256, names=("stable-diffusion-3", "sd3")),
    "Flux": Network("one", JOINT, 512, 3),
    "Chroma": Network("one", JOINT, 512, 3, ("chroma", "chroma")),
    "Flux2": Network("one", JOINT, 512, 4, ("Flux.2-klein", "flux2")),
    "QwenImage": Network("one", JOINT, 512, 0, ("Qwen-Image", "qwen_image")),
    "ZImage": Network("one", "cap_feat_dim", 512, names=("Z-Image", "zimage")),
    "PixArt": Network("last step", "caption_channels", 300, names=("pixart-sigma", "pixart_sigma")),
    "Sana": Network("steps", "caption_channels", 300, names=("sana", "sana"), comfyui=False),
}
UNET = "UNet2DConditionModel"
NETWORKS = {
    UNET: Network("last step", "cross_attention_dim", 77, comfyui=False),
    **{f"{name}Transformer2DModel": known for name, known in TRANSFORMERS.items()},
}
