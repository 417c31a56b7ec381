"""The file of an adapter: written, read, and loaded into a network.

At strength 1 it is a LoRA for every tool that reads one. `alpha == rank` always: a file whose alpha
differs reloads at another strength wherever the header is not read (kohya, ComfyUI), silently.
"""

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY, LORA_WEIGHT_NAME_SAFE
from safetensors.torch import save_file
from torch import Tensor, nn

from invdiff.model.lora import adapter
from invdiff.model.lora.loading import opened, require_fit

FILE = LORA_WEIGHT_NAME_SAFE
SETTINGS_KEY = "invdiff"


def save(module: nn.Module, folder: Path, settings: Mapping[str, Any]) -> Path:
    """Write `<folder>/pytorch_lora_weights.safetensors` for the stock `pipe.load_lora_weights`.

    `settings` (JSON) goes to the header under "invdiff"; its `recommended_strength` is what
    `attach` uses when no strength is given. The LoRA's own metadata holds only rank, alpha and
    layer names: PEFT's full config would be refused by every PEFT that doesn't know its newest
    field. The file appears complete or not at all. Returns its path.
    """
    prefix, layers = adapter.component(module), adapter.adapted_layers(module)
    rank = next(iter(layers.values())).r[adapter.NAME]
    config = {"r": rank, "lora_alpha": rank, "target_modules": list(layers)}
    header = {
        "format": "pt",
        LORA_ADAPTER_METADATA_KEY: json.dumps({f"{prefix}.{key}": config[key] for key in config}),
        SETTINGS_KEY: json.dumps(dict(settings), sort_keys=True),
    }
    weights = {f"{prefix}.{name}": tensor for name, tensor in adapter.state(module).items()}
    folder.mkdir(parents=True, exist_ok=True)
    return _write(weights, header, folder)


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings in an adapter's header; {} for a LoRA that InvDiff did not write."""
    with opened(folder / FILE) as file:
        settings: dict[str, Any] = json.loads((file.metadata() or {}).get(SETTINGS_KEY, "{}"))
    return settings


def write_settings(folder: Path, **settings: Any) -> None:
    """Add settings to the header of a saved adapter; the weights stay as they are."""
    with opened(Path(folder) / FILE) as file:
        header = dict(file.metadata())
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    header[SETTINGS_KEY] = json.dumps(read_settings(folder) | settings, sort_keys=True)
    _write(weights, header, Path(folder))


def _write(weights: Mapping[str, Tensor], header: Mapping[str, str], folder: Path) -> Path:
    """The file beside, then in its place."""
    with tempfile.TemporaryDirectory(prefix=".adapter-", dir=folder) as stage:
        save_file(weights, private := Path(stage) / "private", metadata=header)
        # A new file may be read by whom its folder's owner lets read; one of safetensors by nobody.
        shutil.copyfile(private, public := Path(stage) / str(FILE))
        os.replace(public, path := folder / str(FILE))
    return path


def load(module: nn.Module, folder: Path, pipeline: object = None) -> None:
    """Load a saved adapter beside whatever LoRA the network has, and switch it on.

    The file is compared with the network first: a layer of another name or shape is a ModelError,
    where the stock loader warns and goes on. `pipeline` lets the loader re-apply CPU offloading.
    """
    adapter.require_free(module)
    prefix = adapter.component(module)
    with opened(folder / FILE) as file:
        found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    require_fit(module, {key.removeprefix(f"{prefix}."): found[key] for key in found}, folder)
    others = adapter.active(module)
    with warnings.catch_warnings():  # a second LoRA is what was asked for
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        adapter.with_methods(module).load_lora_adapter(
            str(folder),
            weight_name=FILE,
            prefix=prefix,
            adapter_name=adapter.NAME,
            _pipeline=pipeline,
        )
    for name, layer in adapter.adapted_layers(module).items():  # loading has switched others off
        layer.set_adapter([*others.get(name, ()), adapter.NAME])
    _restore_precision(module, folder, prefix)


def _restore_precision(module: nn.Module, folder: Path, prefix: str) -> None:
    """Load again what PEFT rounded to a layer's storage type (layerwise casting, 8 bits).

    The casting covers the layer, not the adapter that came later: nothing would lift it for use.
    """
    with opened(folder / FILE) as file:
        for name, weight in adapter.named_parameters(module):
            if weight.element_size() == 1:
                exact = file.get_tensor(f"{prefix}.{name}")
                weight.data = exact.to(weight.device, torch.float32)
