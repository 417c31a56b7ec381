"""Pictures of prompts with a text at their end: drawn with it, counted without it."""

from types import SimpleNamespace

import pytest
from PIL import Image

from invdiff.engine.run.stages import STAGES
from invdiff.engine.sampling.sample import reading
from invdiff.engine.storage.files import read_json
from invdiff.engine.workflow import do_stage
from invdiff.model.texts import Reader
from tests import tiny_world

ROW = ("study.estimator='none'", "train.steps=0", "study.arms=['base']")
SUFFIX = ", of any colour"


@pytest.fixture(scope="module")
def suffixed(world, tmp_path_factory):
    """A run that trains nothing and asks for it in the prompt."""
    out = tmp_path_factory.mktemp("suffixed") / "run"
    run = world.open(out, *ROW, f"sample.prompt_suffix='{SUFFIX}'")
    for stage in STAGES[:-1]:
        do_stage(run, stage)
    return run.path


def test_the_prompt_is_drawn_with_the_suffix_and_counted_without(suffixed, finished):
    rows, plain = (tiny_world.table(path / "samples.parquet") for path in (suffixed, finished))
    assert set(rows["arm"]) == {"base"}
    assert set(rows["prompt"]) == {tiny_world.HAT, tiny_world.COAT}
    assert all(rows["caption"] == [f"{prompt}{SUFFIX}" for prompt in rows["prompt"]])
    own = plain["arm"] == "base"
    for name in ("prompt", "scale", "index", "seed", "path"):
        assert rows[name].tolist() == plain[name][own].tolist(), "pairs with the base's pictures"
    differ = [
        Image.open(suffixed / path).tobytes() != Image.open(finished / path).tobytes()
        for path in rows["path"]
    ]
    assert all(differ)


def test_nothing_was_trained(suffixed):
    record = read_json(suffixed / "training.json")
    assert (record["steps"], record["skipped"]) == (0, True)


def test_the_figures_name_the_suffix(suffixed, finished):
    assert read_json(suffixed / "metrics.json")["protocol"]["prompt_suffix"] == SUFFIX
    assert "prompt_suffix" not in read_json(finished / "metrics.json")["protocol"]
    assert read_json(suffixed / "stages" / "sample.json")["prompt_suffix"]["text"] == SUFFIX
    assert "prompt_suffix" not in read_json(finished / "stages" / "sample.json")


class Tokenizer:
    """Knows two words, spells all others; a sentence has a start and an end."""

    def __call__(self, texts, add_special_tokens=True, **_):
        known = {"a", "hat", "colour"}
        ids = [[w for word in text.split() for w in ([word] if word in known else word)]
               for text in texts]  # fmt: skip
        ends = ["", ""] if add_special_tokens else []
        return type("Read", (), {"input_ids": [[*one, *ends] for one in ids]})


def test_words_in_pieces_and_cut_prompts_are_counted():
    model = SimpleNamespace(reader=Reader(Tokenizer(), 9))
    captions = ["a hat any colour", "a hat hat hat any colour"]
    assert reading(model, captions, ", any colour") == {
        "text": ", any colour",
        "words": 2,
        "known": 1,
        "prompts": 2,
        "cut": 1,
    }


def test_a_model_without_a_tokenizer_is_only_quoted():
    assert reading(SimpleNamespace(reader=None), ["x, y"], ", y") == {"text": ", y", "words": 1}


def test_the_embedded_model_spells_its_suffix_and_cuts_nothing():
    from invdiff.engine.base_model.loading import ModelRef, resolve
    from invdiff.studies.benchmarking.jobs import ASKED

    model = resolve(ModelRef("faces", "cpu", "float32"))
    prompts = ["a person", "a person wearing a headband", "a person wearing glasses"]
    found = reading(model, [prompt + ASKED for prompt in prompts], ASKED)
    assert (found["known"], found["cut"]) == (0, 0)
    assert reading(model, ["a person wearing a hat, of any gender"], ", of any gender")["cut"] == 1
