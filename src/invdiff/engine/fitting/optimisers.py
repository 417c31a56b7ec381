"""Optimisers by name."""

from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from typing import Any

import torch

from invdiff.errors import MissingExtra

WEIGHT_DECAY = 1e-2

# Library, its class, and what it is given beside parameters, learning rate and weight decay.
# Adafactor would otherwise set a learning rate of its own, and Prodigy starts slowly without the
# correction of Adam's first steps.
_TABLE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "adamw": ("torch.optim", "AdamW", {"fused": True}),
    "adamw8bit": ("bitsandbytes.optim", "AdamW8bit", {}),
    "prodigy": ("prodigyopt", "Prodigy", {"use_bias_correction": True, "safeguard_warmup": True}),
    "adafactor": (
        "transformers",
        "Adafactor",
        {"scale_parameter": False, "relative_step": False, "warmup_init": False},
    ),
}
NAMES = tuple(_TABLE)


def make(
    name: str, parameters: Sequence[torch.nn.Parameter], learning_rate: float
) -> torch.optim.Optimizer:
    """The optimiser ``name`` of these parameters.

    Raises:
        MissingExtra: its library is not installed.
    """
    library, kind, options = _TABLE[name]
    try:
        found: Callable[..., torch.optim.Optimizer] = getattr(import_module(library), kind)
    except ImportError:
        raise MissingExtra(library.partition(".")[0], "optimisers") from None
    with redirect_stdout(StringIO()):  # Prodigy prints a remark
        return found(parameters, lr=learning_rate, weight_decay=WEIGHT_DECAY, **options)
