"""Is what was written what was meant? Every exported file is loaded again and draws pictures.

The reference is the adapter as it was trained, at the recommended strength as the weight of a LoRA,
on the same pipeline from the same seeds. A file that is read at half its strength, or in which a
tool finds only some layers, differs from it by a large part of what the adapter changes at all, and
that is what the difference is measured in.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import safe_open

from invdiff.errors import ModelError
from invdiff.model.denoiser import as_drawn, denoiser_module, seeded
from invdiff.model.formats import kohya
from invdiff.model.guidance.attach import attached
from invdiff.model.guidance.hook import FULL
from invdiff.model.lora import adapter, adapter_file
from invdiff.model.lora.adapter_file import LoraFile

FULL_LIMIT = 1e-3
SMALL = 0.01  # a smaller effect counts as this much: rounding is a large share of next to nothing
HALF_LIMIT = 0.1  # in half precision: rounded weights; a wrong scale shows as several times that


@dataclass(frozen=True)
class Check:
    """What became of one file: ``difference`` is a share of ``effect`` (or of SMALL).

    ``effect`` is the mean absolute difference, in [0, 1], between pictures with the adapter and
    without. ``approximation`` is how far, as such a share, the weight of a LoRA is from what a
    report shows: 0 but for a window of noise levels, and for strengths of adapters of earlier
    versions, which scaled the prediction. ``comfyui`` counts the layers that ComfyUI would find,
    None where that says nothing.
    """

    file: str
    layers: int
    unmatched: tuple[str, ...]
    comfyui: int | None
    difference: float
    effect: float
    limit: float
    approximation: float

    @property
    def ok(self) -> bool:
        """Whether every layer was found and the pictures are those of the reference."""
        return not self.unmatched and self.difference <= self.limit

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"ok": self.ok}

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "WRONG"
        matched = self.layers - len(self.unmatched)
        text = (
            f"{self.file}: {verdict}, {matched} of {self.layers} layers matched, pictures differ "
            f"by {self.difference:.1e} of the adapter's effect (at most {self.limit:g})"
        )
        if self.unmatched:
            text += f"; not matched: {', '.join(self.unmatched[:3])}"
        if self.approximation:
            text += (
                f"; at weight 1 a LoRA is {self.approximation:.0%} of the effect off the pictures "
                "of the report (`invdiff.attach` is exact)"
            )
        if self.comfyui is not None:
            text += f"; ComfyUI finds {self.comfyui} of {self.layers} layers"
        return text


class Verifier:
    """Draws with one pipeline: first the reference, then each file that it is shown.

    The pictures of the reference are those of ``strength``, which is in the files.
    """

    def __init__(
        self,
        pipe: Any,
        source: Path,
        lora: LoraFile,
        prompts: Sequence[str],
        options: Mapping[str, Any],
        strength: float = 1.0,
        window: tuple[float, float] = FULL,
    ) -> None:
        self.pipe, self.module = pipe, denoiser_module(pipe)
        if getattr(self.module, "peft_config", None):
            raise ModelError(
                "the pipeline carries a LoRA already; call pipe.unload_lora_weights() or detach, "
                "or leave verification out"
            )
        self.source, self.lora = source, lora
        self.prompts, self.options = list(prompts), dict(options)
        self.base, self.strength = self._draw(pipe), strength
        adapter_file.load(self.module, self.source)
        try:
            adapter.with_methods(self.module).set_adapters([adapter.NAME], [strength])
            self.reference = self._draw(pipe)
        finally:
            adapter.remove(self.module)
        self.effect = float(np.abs(self.reference - self.base).mean())
        self.approximation = 0.0
        if strength != 1 or tuple(window) != FULL:
            with attached(pipe, self.source, strength=strength, window=window):
                share = self._share(self._draw(pipe))
            self.approximation = share if share > self._limit else 0.0

    def lora_file(self, file: Path) -> Check:
        """Check a LoRA file, through the stock loader of the pipeline."""
        with self._reloaded(file):
            found = adapter.adapted_layers(self.module) if adapter.has_adapter(self.module) else {}
            drawn = self._draw(self.pipe)
        unmatched = tuple(layer for layer in self.lora.layers if layer not in found)
        with safe_open(file, framework="pt") as opened:
            kind, keys = type(self.module).__name__, opened.keys()
        layers = getattr(self.module.config, "layers_per_block", 2)
        lost = kohya.unread_by_comfyui(self.lora.layers, keys, kind, layers)
        peft = file.name == SAFETENSORS_WEIGHTS_NAME
        comfyui = None if peft else len(self.lora.layers) - len(lost)
        return self._check(file.name, drawn, unmatched, comfyui)

    def folder(self, folder: Path) -> Check:
        """Check a merged pipeline, opened as anybody opens it."""
        from diffusers import DiffusionPipeline

        pipe = DiffusionPipeline.from_pretrained(folder, dtype=self.module.dtype)
        pipe.set_progress_bar_config(disable=True)
        drawn = self._draw(pipe.to(self.pipe.device))
        return self._check(f"{folder.name}/", drawn, (), None)

    def _check(
        self, name: str, drawn: np.ndarray, unmatched: tuple[str, ...], comfyui: int | None
    ) -> Check:
        share, layers = self._share(drawn), len(self.lora.layers)
        told = (layers, unmatched, comfyui, share, self.effect, self._limit, self.approximation)
        return Check(name, *told)

    @property
    def _limit(self) -> float:
        return FULL_LIMIT if self.module.dtype == torch.float32 else HALF_LIMIT

    def _share(self, drawn: np.ndarray) -> float:
        return float(np.abs(self.reference - drawn).mean()) / max(self.effect, SMALL)

    @contextmanager
    def _reloaded(self, file: Path) -> Iterator[None]:
        """The file in the network, put there by the pipeline's loader where it has one."""
        stock = getattr(self.pipe, "load_lora_weights", None)
        try:
            if file.name == SAFETENSORS_WEIGHTS_NAME:
                PeftModel.from_pretrained(self.module, file.parent, adapter_name=adapter.NAME)
            elif stock is None:
                adapter_file.load(self.module, file.parent)
                adapter.with_methods(self.module).set_adapters([adapter.NAME], [self.strength])
            else:
                stock(str(file.parent), weight_name=file.name, adapter_name=adapter.NAME)
        except Exception as error:  # whatever a loader has against the file
            reason = next(iter(str(error).strip().splitlines()), "no reason given")
            raise ModelError(
                f"{file.name} cannot be loaded again by {type(self.pipe).__name__} "
                f"({type(error).__name__}: {reason}); export another --format"
            ) from error
        try:
            yield
        finally:
            if adapter.has_adapter(self.module):
                adapter.remove(self.module)

    @torch.no_grad()
    def _draw(self, pipe: Any) -> np.ndarray:
        seeds = [torch.Generator().manual_seed(seed) for seed in range(len(self.prompts))]
        with as_drawn(pipe), seeded(pipe, seeds):
            prompts = list(self.prompts)  # Z-Image writes its template into the list it is given
            pictures = pipe(
                prompt=prompts, generator=seeds, output_type="np", **self.options
            ).images
        return np.asarray(pictures, dtype=np.float32)
