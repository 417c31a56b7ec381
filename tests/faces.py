"""The embedded set: cartoon faces with a planted bias (assets/faces/README.md)."""

from invdiff.data.sets.stored import open_set

_STORED = open_set("faces")
pictures, prompts, attributes = _STORED.pictures, _STORED.prompts, _STORED.attributes
