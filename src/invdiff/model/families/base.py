"""What all families do alike."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from invdiff.core.diffusion.schedule import Prediction, Schedule, flow_schedule
from invdiff.errors import ModelError, refused
from invdiff.model.denoiser import Condition
from invdiff.model.sizing.description import CELLS, of_pipeline, square
from invdiff.model.texts import longest_reader

PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}
WHOLE = "give a whole copy of the model"


class PipelineDenoiser(ABC):
    """A :class:`~invdiff.model.denoiser.Denoiser` but for what each family has of its own.

    ``flow_only`` says that a family knows nothing but flows, ``encoded`` what its pipeline's
    ``encode_prompt`` gives, by name ("" is left out), with ``encoding`` as further arguments;
    ``arguments`` are the names of the parts of a condition in the pipeline's own call.
    """

    component: ClassVar[str]
    flow_only: ClassVar[bool] = False
    encoded: ClassVar[tuple[str, ...]]
    encoding: ClassVar[Mapping[str, Any]] = {"do_classifier_free_guidance": False}
    arguments: ClassVar[Mapping[str, str]] = {
        "hidden": "prompt_embeds",
        "pooled": "pooled_prompt_embeds",
        "mask": "prompt_attention_mask",
    }
    latents_by_autoencoder: ClassVar[bool] = False
    frames: ClassVar[bool] = False  # the autoencoder's pictures are films of one

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.reader = longest_reader(pipeline)
        self.module: Any = getattr(pipeline, self.component)
        of_pipeline(pipeline).require_latents()
        self.schedule = self._schedule()
        cells = getattr(pipeline, "default_sample_size", None)
        cells = cells or self.module.config.get("sample_size", CELLS)
        self.image_size: int = square(cells, type(self.module).__name__) * pipeline.vae_scale_factor

    def _schedule(self) -> Schedule:
        """The noise schedule that the pipeline's scheduler says its denoiser was trained on.

        Raises ModelError for a prediction that is not known, or not to this family.
        """
        scheduler = self.pipeline.scheduler
        name, kind = type(scheduler).__name__, scheduler.config.get("prediction_type", "none")
        if kind == "flow_prediction" or name.startswith("FlowMatch"):
            return flow_schedule(scheduler.config.num_train_timesteps)
        if kind not in PREDICTIONS:
            raise ModelError(
                f"the scheduler {name} predicts {kind!r}; one of {', '.join(PREDICTIONS)}, "
                "flow_prediction is needed"
            )
        if self.flow_only:
            raise ModelError(
                f"{type(self.pipeline).__name__} denoises a flow, its scheduler {name} does not; "
                "load the model with its own scheduler"
            )
        if not hasattr(scheduler, "alphas_cumprod"):
            raise ModelError(
                f"the scheduler {name} does not tell its noise levels (alphas_cumprod); load the "
                "model with the scheduler that it was trained with, such as DDPM or DDIM"
            )
        if scheduler.config.get("timestep_type", "discrete") != "discrete":
            raise ModelError(
                f"the scheduler {name} asks its denoiser at continuous timesteps, as models of the "
                "EDM kind (CosXL) are trained; only models with counted timesteps are known"
            )
        if kind == "epsilon" and scheduler.config.get("rescale_betas_zero_snr", False):
            raise ModelError(
                f"the scheduler {name} ends in nothing but noise (rescale_betas_zero_snr), where a "
                "prediction of the noise (epsilon) says nothing of the picture; set it to false, "
                "or prediction_type to v_prediction if the network was trained so"
            )
        return Schedule(scheduler.alphas_cumprod.float(), PREDICTIONS[kind])

    @torch.no_grad()
    @refused("the autoencoder of the model cannot read pictures", WHOLE)
    def encode_images(self, pictures: np.ndarray) -> Tensor:
        """Latents of uint8 pictures (n, height, width, 3), scaled as the denoiser knows them.

        Posterior means: the same picture has the same latent. An autoencoder that overflows in
        float16 says so in its config and is lifted to float32, as diffusers does to decode.
        """
        vae = self.pipeline.vae
        dtype, config = vae.dtype, vae.config
        lifted = dtype == torch.float16 and config.get("force_upcast", False)
        if lifted:
            vae.to(torch.float32)
        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(vae.device, vae.dtype)
        pixels = pixels[:, :, None] if self.frames else pixels
        encoded = vae.encode(pixels / 127.5 - 1)
        if lifted:
            vae.to(dtype)
        latent = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded[0]
        return self.scaled(latent[:, :, 0] if self.frames else latent)

    def scaled(self, latent: Tensor) -> Tensor:
        """Latents of the autoencoder as the denoiser knows them."""
        config = self.pipeline.vae.config
        mean, spread = config.get("latents_mean"), config.get("latents_std")
        if mean is not None and spread is not None:
            mean, spread = (latent.new_tensor(each)[:, None, None] for each in (mean, spread))
            latent = (latent - mean) / spread
        return (latent - (config.get("shift_factor") or 0.0)) * config.get("scaling_factor", 1.0)

    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """Conditions through the pipeline's own code."""
        return self._encode(prompts)

    @torch.no_grad()
    @refused("the tokenizers and text encoders of the model cannot read prompts", WHOLE)
    def _encode(self, prompts: Sequence[str], **options: Any) -> Condition:
        found = self.pipeline.encode_prompt(
            list(prompts), device=self.pipeline.device, **self.encoding, **options
        )
        return self._named(found)

    def _named(self, found: Sequence[Any]) -> Condition:
        """What the pipeline's ``encode_prompt`` gave."""
        named = zip(self.encoded, found, strict=True)
        return Condition({name: tensor for name, tensor in named if name})

    def text_embedding(self, prompts: Sequence[str]) -> Tensor:
        """What the encoders say of the whole prompt; else the mean over its own tokens."""
        return whole_prompts(self.encode_prompts(prompts))

    def predict(self, noisy_latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """One pass of the network, given the latent in its own precision; float32 comes back.

        Everything around the network counts in float32: differences between losses are far below
        the rounding of half precision. Variances that some denoisers append along the channels are
        left out.
        """
        prediction = self._pass(noisy_latent.to(self.module.dtype), timestep, condition)
        return prediction[:, : noisy_latent.shape[1]].float()

    @abstractmethod
    def _pass(self, latent: Tensor, timestep: Tensor, condition: Condition) -> Tensor: ...

    @contextmanager
    def bottleneck(self) -> Iterator[list[Tensor]]:
        """Output of the block in the middle, averaged within quarters of the picture: (n, 4 width).

        Quarters, because where something is (hair beside a face or below it) tells attributes
        apart that a mean over all positions confuses.
        """
        seen: list[Tensor] = []
        handle = self.middle().register_forward_hook(
            lambda _module, _inputs, output: seen.append(
                adaptive_avg_pool2d(self.as_map(output).detach().float(), 2).flatten(1)
            )
        )
        try:
            yield seen
        finally:
            handle.remove()

    @abstractmethod
    def middle(self) -> nn.Module:
        """The block in the middle of the network."""

    def as_map(self, output: Any) -> Tensor:
        """What that block gives, as a map (n, width, rows, columns)."""
        found: Tensor = output
        return found

    def guidance_kwargs(self, scale: float) -> dict[str, Any]:
        """Arguments of the pipeline's own call: the network's size, and what it calls ``scale``.

        The scale w is that of null + w (own - null), 1 is without guidance, whatever a pipeline
        counts from; of a network that is told its guidance, what it is told.
        """
        return {"height": self.image_size, "width": self.image_size, "guidance_scale": scale}

    def compares(self, scale: float) -> bool:
        """Whether the pipeline takes another prompt to compare with at this scale."""
        return True

    def embeddings(self, condition: Condition) -> dict[str, Any]:
        """A condition as the call of the pipeline takes it."""
        return {self.arguments[name]: tensor for name, tensor in condition.tensors.items()}

    def conditioned_kwargs(self, own: Condition, null: Condition, scale: float) -> dict[str, Any]:
        """Embeddings instead of texts."""
        options = self.guidance_kwargs(scale) | self.embeddings(own)
        options.pop("negative_prompt", None)
        if "mask" in own.tensors:
            options["negative_prompt"] = None  # "" is their default, and they take one of both
        if self.compares(scale):
            options |= {f"negative_{name}": given for name, given in self.embeddings(null).items()}
        return options

    def unpack_latents(self, drawn: Tensor) -> Tensor:
        """They are that already."""
        return drawn


def whole_prompts(condition: Condition) -> Tensor:
    """The pooled embedding (n, width), else the mean of hidden states the mask keeps; float32."""
    tensors = condition.tensors
    if "pooled" in tensors:
        return tensors["pooled"].float()
    weight = tensors["mask"].to(tensors["hidden"].device, torch.float32)[..., None]
    return (tensors["hidden"].float() * weight).sum(1) / weight.sum(1).clamp_min(1)
