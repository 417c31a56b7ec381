"""How much of a text at the end of every prompt a model's tokenizer can read."""

import re
from collections.abc import Iterable
from typing import Any

from invdiff.engine.base_model.offloading import tokenizers
from invdiff.model.denoiser import Denoiser


def reading(denoiser: Denoiser, captions: Iterable[str], suffix: str) -> dict[str, Any]:
    """The record of ``prompt_suffix`` in ``stages/sample.json``.

    ``captions`` have the suffix already. ``known`` of the ``words`` are tokens of their own; the
    tokenizer spells the others in pieces. ``cut`` of the ``prompts`` are longer than the longest
    input of the model's text encoders, which leaves their ends out. The last three are not there
    for a model without a tokenizer.
    """
    words = re.findall(r"\w+", suffix)
    found: dict[str, Any] = {"text": suffix, "words": len(words)}
    readers = tokenizers(denoiser)
    if not readers:
        return found
    longest = max(readers, key=lambda tokenizer: tokenizer.model_max_length)
    pieces = longest(words, add_special_tokens=False).input_ids if words else []
    prompts = longest(list(captions), truncation=False, verbose=False).input_ids
    return found | {
        "known": sum(len(one) == 1 for one in pieces),
        "prompts": len(prompts),
        "cut": sum(len(one) > longest.model_max_length for one in prompts),
    }
