"""How much of a text a model reads: its tokenizers, where they stop, and who is told."""

import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

logger = logging.getLogger(__name__)

UNSAID = 10**20  # tokenizers of transformers say 1e30 where nothing says where they stop
ENCODERS = {
    "tokenizer": "text_encoder",
    "tokenizer_2": "text_encoder_2",
    "tokenizer_3": "text_encoder_3",
}


@dataclass(frozen=True)
class Reader:
    """A tokenizer, and the number of tokens that the network behind it is given."""

    tokenizer: Any
    limit: int

    def cut(self, texts: Sequence[str]) -> list[str]:
        """Those of ``texts`` that lose their end."""
        tokens = self.tokenizer(list(texts), truncation=False, verbose=False).input_ids
        return [text for text, one in zip(texts, tokens, strict=True) if len(one) > self.limit]


def reader_of(tokenizer: Any, config: Any, most: int = UNSAID) -> Reader:
    """The reader of a network with this ``config``, of which the caller asks ``most`` tokens.

    A tokenizer that does not say where it stops, or says more than the network has places for, is
    told: padding to its length fails otherwise.
    """
    places = getattr(config, "max_position_embeddings", None) or UNSAID
    limit = min(tokenizer.model_max_length, places, most)
    if tokenizer.model_max_length > places:
        tokenizer.model_max_length = limit
    return Reader(tokenizer, limit)


def readers_of(pipeline: Any) -> tuple[Reader, ...]:
    """The reader of each text encoder of a pipeline of diffusers, as its own call uses them."""
    found = []
    for name, encoder in ENCODERS.items():
        tokenizer, network = getattr(pipeline, name, None), getattr(pipeline, encoder, None)
        if tokenizer is not None and network is not None:
            asked = inspect.signature(pipeline.encode_prompt).parameters.get("max_sequence_length")
            found.append(reader_of(tokenizer, network.config, asked.default if asked else UNSAID))
    if getattr(pipeline, "tokenizer_max_length", 0) > UNSAID:  # noted when the pipeline was made
        pipeline.tokenizer_max_length = pipeline.tokenizer.model_max_length
    return tuple(found)


def longest(readers: Sequence[Reader]) -> Reader:
    """The one with the longest input: a text that it reads whole is read whole by the model."""
    return max(readers, key=lambda reader: reader.limit)


def warn_of_cut(readers: Sequence[Reader], texts: Sequence[str], what: str) -> int:
    """Say how many texts the model reads only in part; returns their number."""
    if not readers:
        return 0
    reader = longest(readers)
    if cut := reader.cut(texts):
        logger.warning(
            "%d of %d %s are longer than the %d tokens that the text encoder reads; it leaves out "
            "their ends, first that of %r",
            *(len(cut), len(texts), what, reader.limit, shorten(cut[0], 60, placeholder="...")),
        )
    return len(cut)
