"""What a pipeline is made of, read from its configuration files; no weight is opened."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invdiff.errors import ModelError

INDEX = "model_index.json"
CONFIGS = ("config.json", "scheduler_config.json")
LATENT_PIXELS = 8  # the autoencoders of all families but Sana, where their config is not known
FLUX_SIZE = 1024  # no config of Flux names a size; this is the stock pipeline's own


@dataclass(frozen=True)
class Component:
    """One component of a pipeline: its library, its class name and its configuration."""

    library: str
    kind: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Description:
    """Class name of the pipeline and its components by name; ``source`` says where from."""

    pipeline: str
    parts: Mapping[str, Component]
    source: str

    @property
    def denoiser(self) -> Component:
        """The network that the adapter is for."""
        return self.parts[self.component]

    @property
    def component(self) -> str:
        """What the pipeline calls it: "unet" or "transformer"."""
        for name in ("unet", "transformer"):
            if name in self.parts:
                return name
        raise ModelError(f"{self.pipeline} ({self.source}) has no unet and no transformer")

    @property
    def scheduler(self) -> Mapping[str, Any]:
        """The scheduler's configuration, empty if there is none."""
        return self.parts["scheduler"].config if "scheduler" in self.parts else {}

    @property
    def latent_pixels(self) -> int:
        """Pixels on the side of one latent cell."""
        config = self.parts["vae"].config if "vae" in self.parts else {}
        widths = config.get("block_out_channels") or config.get("encoder_block_out_channels")
        return int(2 ** (len(widths) - 1)) if widths else LATENT_PIXELS

    @property
    def image_size(self) -> int:
        """Pixels on the side of the pictures that the model was made for."""
        size = self.denoiser.config.get("sample_size")
        return int(size) * self.latent_pixels if size else FLUX_SIZE


def of_folder(folder: Path, source: str = "") -> Description:
    """The pipeline saved in ``folder`` (diffusers format); ModelError if there is none."""
    index = _json(folder / INDEX)
    named = {k: v for k, v in index.items() if isinstance(v, list) and len(v) == 2 and v[1]}
    parts = {
        name: Component(library, kind, _config(folder / name))
        for name, (library, kind) in named.items()
    }
    return Description(index.get("_class_name", "a pipeline"), parts, source or str(folder))


def of_pipeline(pipeline: Any) -> Description:
    """The pipeline that is loaded."""
    parts = {}
    for name, component in pipeline.components.items():
        if component is None or not hasattr(component, "config"):
            continue
        config = component.config
        known = config.to_dict() if hasattr(config, "to_dict") else dict(config)
        library = type(component).__module__.partition(".")[0]
        parts[name] = Component(library, type(component).__name__, known)
    return Description(type(pipeline).__name__, parts, "the pipeline that was passed")


def _config(folder: Path) -> Mapping[str, Any]:
    found = next((folder / name for name in CONFIGS if (folder / name).is_file()), None)
    return _json(found) if found else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent} has no {path.name}: give a diffusers folder") from None
    except ValueError as error:
        raise ModelError(f"{path} is damaged ({error}): give a whole copy of the model") from None
    return values
