"""Texts that are cut off are told of, by the limit that the model really has."""

import pytest

from invdiff.model.families.registry import from_pipeline
from invdiff.model.texts import reader_of, warn_of_cut
from tests.model import tiny, tiny_families

LIMITS = {"sd-v": 16, "sdxl": 16, "sd3": 256, "flux": 512, "pixart": 300, "sana": 300}


@pytest.mark.parametrize("family", LIMITS)
def test_the_limit_is_what_the_pipeline_asks_of_its_encoder(family):
    pipe = tiny_families.pipeline(family)
    assert from_pipeline(pipe).reader.limit == LIMITS[family]


def test_texts_that_are_too_long_are_told_once_and_shortly(caplog):
    reader = from_pipeline(tiny.pipeline()).reader
    assert warn_of_cut(reader, ["a hat", "b" * 14], "captions") == 0
    assert caplog.text == ""
    assert warn_of_cut(reader, ["a hat", "b" * 15, "c" * 400], "captions") == 2
    (record,) = caplog.records
    told = record.getMessage()
    assert "2 of 3 captions are longer than the 16 tokens" in told
    assert "'bbbbbbbbbbbbbbb'" in told
    assert warn_of_cut(None, ["c" * 400], "captions") == 0


def test_a_tokenizer_that_says_nothing_learns_the_places_of_its_network():
    tokenizer = tiny.tokenizer()
    tokenizer.model_max_length = int(1e30)
    found = reader_of(tokenizer, tiny.text_encoder(len(tokenizer)).config)
    assert (found.limit, tokenizer.model_max_length) == (16, 16)
