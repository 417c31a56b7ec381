"""What a pipeline is made of, read from its configuration files; no weight is opened."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from invdiff.errors import ModelError

ARCHITECTURES = files("invdiff").joinpath("assets", "architectures")
INDEX = "model_index.json"
CONFIGS = ("config.json", "scheduler_config.json")
WEIGHTS = re.compile(r"[a-z_]+?(?:-\d+-of-\d+)?(?:\.(\w+))?(?:-\d+-of-\d+)?\.(?:safetensors|bin)")
SHARD = re.compile(r'"([^"/]+\.(?:safetensors|bin))"')
VOCABULARIES = (
    {"tokenizer.json"}, {"vocab.json", "merges.txt"}, {"spiece.model"}, {"tokenizer.model"},
    {"sentencepiece.bpe.model"}, {"vocab.txt"},
)  # fmt: skip
# How a configuration names what quantised it -> its module and its package, where they differ.
QUANTISERS = {
    "quanto": ("optimum.quanto", "optimum-quanto"),
    "modelopt": ("modelopt", "nvidia-modelopt"),
}
LATENT_PIXELS = 8  # the autoencoders of all families but Sana, where their config is not known
PACKED = 4  # 2 x 2 cells of the latent may be one piece
CELLS = 128  # latent cells on a side, where neither the pipeline nor its network says it


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
        halved = config.get("temperal_downsample")  # as diffusers spells it
        if halved is not None:
            return int(2 ** len(halved))
        return int(2 ** (len(widths) - 1)) if widths else LATENT_PIXELS

    def require_latents(self) -> None:
        """ModelError if the denoiser takes more than a latent: for inpainting, depth or editing."""
        vae = self.parts["vae"].config if "vae" in self.parts else {}
        latent = vae.get("latent_channels", vae.get("z_dim"))
        taken = self.denoiser.config.get("in_channels")
        if None not in (latent, taken) and taken not in (latent, PACKED * latent):
            raise ModelError(
                f"the {self.component} ({self.denoiser.kind}) of {self.source} takes {taken} "
                f"channels and a latent has {latent}: it is made for inpainting or editing, or "
                "belongs to another autoencoder; a model that draws from a prompt alone is needed"
            )

    @property
    def image_size(self) -> int:
        """Pixels on the side of the pictures that the model was made for."""
        size = self.denoiser.config.get("sample_size")
        return square(size or CELLS, self.denoiser.kind) * self.latent_pixels


def square(sample_size: Any, network: str) -> int:
    """Latent cells on a side by a network's configuration, which may name both sides."""
    rows, columns = sample_size if isinstance(sample_size, list | tuple) else (sample_size,) * 2
    if rows != columns:
        raise ModelError(
            f"{network} has a sample_size of {rows} x {columns}, and InvDiff works on square "
            "pictures: take a model that was made for them, or set the size it also knows"
        )
    return int(rows)


def shipped(name: str) -> Description:
    """The published description of that name in ``assets/architectures``."""
    facts = json.loads(ARCHITECTURES.joinpath(f"{name}.json").read_text(encoding="utf-8"))
    parts = {part: Component(**told) for part, told in facts["parts"].items()}
    return Description(facts["pipeline"], parts, facts["source"])


def variant_of(inside: Path) -> str | None:
    """The variant, such as "fp16", of a component that has no weights without one; else None."""
    known = {found[1] for path in inside.glob("*") if (found := WEIGHTS.fullmatch(path.name))}
    return None if None in known else min(known, default=None)


def of_folder(folder: Path, source: str = "") -> Description:
    """The pipeline saved in ``folder`` (diffusers format); ModelError if there is none."""
    index = _json(folder / INDEX)
    named = {k: v for k, v in index.items() if isinstance(v, list) and len(v) == 2 and v[1]}
    parts = {
        name: Component(library, kind, _config(folder / name))
        for name, (library, kind) in named.items()
    }
    return Description(index.get("_class_name", "a pipeline"), parts, source or str(folder))


def missing_parts(folder: Path) -> list[str]:
    """Components of the pipeline in ``folder`` whose files are not all there."""
    lost = []
    for name, part in of_folder(folder).parts.items():
        inside = folder / name
        files = {path.name for path in inside.iterdir()} if inside.is_dir() else set()
        needs_weights = part.library in ("diffusers", "transformers") and "config.json" in files
        # there is a single file of weights, or every shard of an index
        shards = [
            set(SHARD.findall((inside / file).read_text("utf-8")))
            for file in files
            if needs_weights and ".index." in file
        ]
        whole = any(WEIGHTS.fullmatch(file) and "-of-" not in file for file in files)
        whole = whole or any(names and names <= files for names in shards)
        needs_words = "Tokenizer" in part.kind  # without them every prompt reads alike
        if (
            not files
            or (needs_weights and not whole)
            or (needs_words and not any(names <= files for names in VOCABULARIES))
        ):
            lost.append(name)
    return lost


def require_libraries(folder: Path) -> None:
    """ModelError if a component is quantised by a library that is not installed."""
    for name, part in of_folder(folder).parts.items():
        method = (part.config.get("quantization_config") or {}).get("quant_method", "")
        module, package = QUANTISERS.get(method, (method, method))
        if method and not find_spec(module.partition(".")[0]):
            raise ModelError(
                f"{folder / name} is quantised with {method}, which is not installed: pip install "
                f"{package}, or give a copy of the model that is not quantised"
            )


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
        if not isinstance(values, dict):
            raise ValueError("it holds no table")
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"{path.parent} has no {path.name}: give a folder in diffusers format"
        ) from None
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error}): give a whole copy of the model") from None
    return values
