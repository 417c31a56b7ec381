"""InvDiff: balance what a text-to-image diffusion model makes of a prompt, without group labels.

The public names are resolved when they are first used, so that ``import invdiff`` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invdiff.app.api import Run as Run
    from invdiff.app.arrays.balance import balanced_weights as balanced_weights
    from invdiff.app.arrays.balance import certificate as certificate
    from invdiff.app.arrays.find_groups import find_groups as find_groups
    from invdiff.app.arrays.skew import bias as bias
    from invdiff.app.comparison.evaluate_folders import evaluate_folders as evaluate_folders
    from invdiff.app.export import export as export
    from invdiff.engine.settings.schema import Config as Config
    from invdiff.model.guidance.attach import attach as attach
    from invdiff.model.guidance.attach import detach as detach

__version__ = "0.1.0"
_HOMES = {
    "Config": "invdiff.engine.settings.schema",
    "Run": "invdiff.app.api",
    "attach": "invdiff.model.guidance.attach",
    "balanced_weights": "invdiff.app.arrays.balance",
    "bias": "invdiff.app.arrays.skew",
    "certificate": "invdiff.app.arrays.balance",
    "detach": "invdiff.model.guidance.attach",
    "evaluate_folders": "invdiff.app.comparison.evaluate_folders",
    "export": "invdiff.app.export",
    "find_groups": "invdiff.app.arrays.find_groups",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'invdiff' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
