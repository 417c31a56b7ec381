"""How much of a text at the end of every prompt a model's tokenizer can read."""

import re
from collections.abc import Iterable
from typing import Any

from invdiff.model.denoiser import Denoiser
from invdiff.model.texts import longest


def reading(denoiser: Denoiser, captions: Iterable[str], suffix: str) -> dict[str, Any]:
    """The record of ``prompt_suffix`` in ``stages/sample.json``.

    ``captions`` have the suffix already. ``known`` of the ``words`` are tokens of their own; the
    tokenizer spells the others in pieces. ``cut`` of the ``prompts`` are longer than the longest
    input of the model's text encoders, which leaves their ends out. The last three are not there
    for a model without a tokenizer.
    """
    words = re.findall(r"\w+", suffix)
    found: dict[str, Any] = {"text": suffix, "words": len(words)}
    if not denoiser.readers:
        return found
    reader, prompts = longest(denoiser.readers), list(captions)
    pieces = reader.tokenizer(words, add_special_tokens=False).input_ids if words else []
    known = sum(len(one) == 1 for one in pieces)
    return found | {"known": known, "prompts": len(prompts), "cut": len(reader.cut(prompts))}
