"""How much of a text a model reads: its tokenizer, where that stops, and who is told."""

import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

logger = logging.getLogger(__name__)

UNSAID = 10**20  # tokenizers of transformers say 1e30 where nothing says where they stop


@dataclass(frozen=True)
class Reader:
    """A tokenizer, and the number of tokens that the network behind it is given.

    ``around`` of them are the template in which every text stands.
    """

    tokenizer: Any
    limit: int
    around: int = 0

    def cut(self, texts: Sequence[str]) -> list[str]:
        """Those of ``texts`` that lose their end."""
        tokens = self.tokenizer(list(texts), truncation=False, verbose=False).input_ids
        return [
            text
            for text, one in zip(texts, tokens, strict=True)
            if len(one) + self.around > self.limit
        ]


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


def call_default(pipeline: Any, name: str) -> Any:
    """What the pipeline's own call takes for an argument that it isn't given; None without it."""
    found = inspect.signature(pipeline.__call__).parameters.get(name)
    return found.default if found else None


def longest_reader(pipeline: Any) -> Reader | None:
    """The reader with the longest input in a pipeline of diffusers, as its own call uses it.

    A text that it reads whole is read by the model. None for a pipeline without text encoders.
    """
    found = []
    for which in ("", "_2", "_3"):
        tokenizer = getattr(pipeline, f"tokenizer{which}", None)
        network = getattr(pipeline, f"text_encoder{which}", None)
        if tokenizer is not None and network is not None:
            asked = call_default(pipeline, "max_sequence_length")
            words = getattr(tokenizer, "tokenizer", tokenizer)  # some have a processor's
            found.append(reader_of(words, network.config, asked or UNSAID))
    if getattr(pipeline, "tokenizer_max_length", 0) > UNSAID:  # noted when the pipeline was made
        pipeline.tokenizer_max_length = pipeline.tokenizer.model_max_length
    return max(found, key=lambda reader: reader.limit, default=None)


def warn_of_cut(reader: Reader | None, texts: Sequence[str], what: str) -> int:
    """Say how many texts are read only in part; returns their number."""
    if reader is None or not (cut := reader.cut(texts)):
        return 0
    logger.warning(
        "%d of %d %s are longer than the %d tokens that the text encoder reads; it leaves out "
        "their ends, first that of %r",
        *(len(cut), len(texts), what, reader.limit, shorten(cut[0], 60, placeholder="...")),
    )
    return len(cut)
