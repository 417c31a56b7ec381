"""What a run was made with."""

import hashlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

LIBRARIES = (
    "invdiff",
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "numpy",
    "scipy",
    "scikit-learn",
    "safetensors",
    "pyarrow",
    "pillow",
)


def environment() -> dict[str, Any]:
    """Python, platform, processors and library versions; imports none of the libraries."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "versions": {name: _version(name) for name in LIBRARIES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def pipeline_identity(pipeline: Any) -> str:
    """Class of a loaded pipeline and a digest of its denoiser's configuration.

    The weights are not looked at: they may be large and on another device.
    """
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    facts = dict(getattr(denoiser, "config", {}))
    text = json.dumps(facts, sort_keys=True, default=str)
    return f"{type(pipeline).__name__} {hashlib.sha256(text.encode()).hexdigest()[:12]}"
