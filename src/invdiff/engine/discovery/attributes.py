"""What discovery says of each attribute, in ``attributes.json`` and ``attributes.parquet``."""

import numpy as np

from invdiff.core.discovery.attributes import InferredAttribute
from invdiff.core.discovery.grouping import CROSSED, Grouping
from invdiff.core.uncertainty.intervals import wilson
from invdiff.data.samples import Samples
from invdiff.engine.encoding.session import Session
from invdiff.engine.run.records import Attributes, FoundAttribute, ValueShare
from invdiff.engine.storage.files import write_parquet

SHOWN = 12
"""Pictures of each value, and between them, that are named."""


def write_attributes(session: Session, samples: Samples, grouping: Grouping) -> None:
    """Both files; without attributes the table has the pictures alone."""
    rate = session.config.discover.false_positive_rate
    found = [_record(one, samples, rate, grouping.chosen) for one in grouping.attributes]
    session.results.write(Attributes(attributes=tuple(found), read_from=grouping.score))
    columns = {"sample_id": list(samples.sample_id), "prompt": list(samples.prompt)}
    memberships = {f"q_{one.id}": one.q for one in grouping.attributes}
    write_parquet(session.path / "attributes.parquet", {**columns, **memberships})


def _record(
    attribute: InferredAttribute, samples: Samples, rate: float, chosen: str
) -> FoundAttribute:
    prompt, measures = np.array(samples.prompt), attribute.measures
    inside = np.flatnonzero(np.isin(prompt, attribute.prompts))
    q = attribute.q[inside]
    near = np.argsort(abs(q - 0.5), kind="stable")
    rank = _ranks(q, prompt[inside])
    orders = {
        "value_0": np.argsort(rank + (q > 0.5), kind="stable"),
        "value_1": np.argsort((1 - rank) + (q < 0.5), kind="stable"),
    }
    shown = {
        name: tuple(samples.sample_id[inside[k]] for k in order[:SHOWN])
        for name, order in {**orders, "border": near}.items()
    }
    return FoundAttribute(
        id=attribute.id,
        verdict=attribute.verdict(rate),
        tied=attribute.tied,
        chosen=attribute.id in chosen.split(CROSSED),
        explained=measures.explained,
        information=measures.information,
        alignment=measures.alignment,
        gap=attribute.gap,
        negentropy=attribute.negentropy,
        stability=attribute.stability,
        p_value=attribute.p_value,
        origin=attribute.origin,
        prompts={
            name: _share(float(share), int((prompt == name).sum()))
            for name, share in zip(attribute.prompts, attribute.share, strict=True)
        },
        **shown,
    )


def _ranks(q: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """Places within the pictures of one prompt, 0 to 1: the surest of all would be of few."""
    rank = np.empty(len(q))
    for name in np.unique(prompt):
        rows = prompt == name
        rank[rows] = q[rows].argsort(kind="stable").argsort() / rows.sum()
    return rank


def _share(share: float, count: int) -> ValueShare:
    low, high = wilson(np.array(round(share * count)), np.array(count))
    return ValueShare(share=share, low=float(low), high=float(high))
