"""The captions' part of discovery: their conditions, and what they mean to the text encoder."""

from collections.abc import Sequence

import numpy as np

from invdiff.data.samples import Samples
from invdiff.engine.models import ModelRef, source_of
from invdiff.engine.passes import Conditions, Meaning
from invdiff.engine.passing import SHARD, digest, processes_of, weights_key
from invdiff.engine.processes import run_shards
from invdiff.engine.prompts import BATCH
from invdiff.engine.run import RunFolder
from invdiff.engine.shards import cached


def encode_captions(run: RunFolder, samples: Samples) -> None:
    """Put the conditions of all captions and the null prompt where every later pass finds them."""
    source = source_of(run)
    if isinstance(source, ModelRef):
        work = Conditions(source)
        captions = sorted(set(samples.caption) - {""})
        shards = [*(captions[k : k + BATCH] for k in range(0, len(captions), BATCH)), [""]]
        for _ in run_shards(work, work.left(shards), processes=1, title="encoding captions"):
            pass


def meanings(run: RunFolder, samples: Samples, texts: Sequence[str]) -> np.ndarray:
    """What each text means to the model's text encoder: (n, width) float32."""
    return cached(
        Meaning(source_of(run), run.config.discover.batch),
        [list(texts[start : start + SHARD]) for start in range(0, len(texts), SHARD)],
        run.path / "cache",
        "meanings",
        {"model": weights_key(run, "prompts"), "texts": digest(texts)},
        processes=processes_of(run),
        title="reading captions",
    )["meaning"].numpy()
