"""The embedded set: cartoon faces with a planted bias (assets/faces/README.md)."""

from invdiff.data.sets.stored import SIZE, Split, open_set

__all__ = ["SIZE", "Split", "attributes", "pictures", "prompts"]

_STORED = open_set("faces")
pictures, prompts, attributes = _STORED.pictures, _STORED.prompts, _STORED.attributes
