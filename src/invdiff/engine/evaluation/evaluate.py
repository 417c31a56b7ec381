"""Stage 4: what the pictures show, before and after, with its uncertainty: ``metrics.json``.

Everything that needs an attribute is estimated by a classifier, whose errors stand beside it. What
cannot be measured is left out and said in ``not_measured``. Labels of the data, if it has any, are
opened last and change nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.core.measurement.explicit_prompts import named_prompts
from invdiff.data.samples import Samples
from invdiff.data.sets.stored import open_set
from invdiff.engine.classifiers.choose import Chosen, choose
from invdiff.engine.classifiers.classify import (
    ClassifiedPictures,
    classified_rows,
    classify_pictures,
    features_of,
    written_labels,
)
from invdiff.engine.classifiers.error_table import ABSTAINED, claims_of, warning
from invdiff.engine.distributed import randomness
from invdiff.engine.distributed.pool import kept_workers
from invdiff.engine.distributed.randomness import halves
from invdiff.engine.encoding.session import Session, open_data
from invdiff.engine.evaluation import metrics
from invdiff.engine.evaluation.confounders import files_of
from invdiff.engine.evaluation.label_agreement import compare_with_labels, has_labels
from invdiff.engine.evaluation.metrics import MetricProtocol
from invdiff.engine.evaluation.strength_curve import strength_curve
from invdiff.engine.run.environment import environment
from invdiff.engine.run.records import Metrics
from invdiff.engine.sampling.sample import one_colour_told
from invdiff.engine.settings.common import EMBEDDED_SETS
from invdiff.engine.settings.schema import Config
from invdiff.engine.storage.files import plain
from invdiff.model.vision.attribute_classifier import SIZE
from invdiff.model.vision.classifiers import Classifier

Columns = dict[str, NDArray[Any]]
REFERENCE = 2000
NO_CLASSIFIER = (
    "Shares, Bias, fidelity, Fréchet distance, precision and recall were not measured: no "
    "attribute classifier was used."
)


def evaluate(session: Session) -> dict[str, Any]:
    """Measure the samples of the run; no facts for the stage's record.

    Raises:
        RunError: pictures of the sample stage are missing or damaged.
        ModelError: the classifier does not read pictures of this size.
    """
    config, samples = session.config, session.results.samples
    kind, _, column = config.evaluate.classifier.partition(":")
    chosen, labelled = choose(config), has_labels(config)
    side = chosen.classifier.side if chosen else SIZE
    data = open_data(config.data, side) if chosen or labelled else None
    if chosen and data:
        measured = with_classifier(session, samples, data, chosen)
    elif kind == "column":
        measured = with_labels(session, samples, column)
    else:
        measured = without_classifier(session, samples)
    told = [*filter(None, [one_colour_told(samples)]), *files_of(session, samples)]
    measured["warnings"] = [*measured.get("warnings", ()), *told]
    agreement = compare_with_labels(session, data) if data and labelled else None
    session.results.write(Metrics(**plain(measured | {"groups_vs_labels": agreement})))
    return {}


def without_classifier(session: Session, samples: Columns) -> dict[str, Any]:
    """How many pictures there are at which strength, and that nothing else was measured."""
    arms: dict[str, dict[str, Any]] = {}
    for arm, scale, rows in arms_of(samples):
        strength = float(samples["strength"][rows][0])
        arms.setdefault(arm, {})[str(scale)] = {"images": len(rows), "strength": strength}
    return {
        "protocol": common_facts(session, samples),
        "classifier": None,
        "arms": arms,
        "paired": {},
        "not_measured": [NO_CLASSIFIER],
    }


def with_classifier(
    session: Session, samples: Columns, data: Samples, chosen: Chosen
) -> dict[str, Any]:
    """Every arm at every scale as the classifier sees it."""
    threshold = session.config.evaluate.abstain_below
    seen = {
        (arm, scale): classify_pictures(session.path, samples, rows, chosen.classifier, threshold)
        for arm, scale, rows in arms_of(samples)
    }
    protocol, notes = protocol_of(session.config, samples, data, chosen)
    facts = chosen.classifier.facts
    names = [name for name in (protocol.attribute, "prompt") if name in protocol.claims]
    curve: dict[str, Any] = {}
    if session.config.evaluate.strength_curve:
        with kept_workers():
            curve["strength_curve"], why = strength_curve(session, chosen, protocol)
        notes += why
    warned = warning(chosen.name, protocol.attribute, protocol.claims[protocol.attribute])
    return {
        "protocol": common_facts(session, samples)
        | {
            "name": chosen.name,
            "attribute": protocol.attribute,
            "abstain_below": threshold,
            "extractor": chosen.classifier.extractor,
            "extractor_sha256": chosen.sha256,
            "references": {name: len(rows) for name, rows in protocol.references.items()},
        },
        "classifier": {
            "name": chosen.name,
            "trained_on": facts["trained_on"],
            "attributes": {name: protocol.claims[name] for name in names},
        }
        | {key: facts[key] for key in ("texts", "labels", "backbone") if key in facts},
        "warnings": [warned] if warned else [],
        **curve,
    } | measured_arms(seen, protocol, notes)


def with_labels(session: Session, samples: Columns, column: str) -> dict[str, Any]:
    """Every arm at every scale by labels that somebody wrote beside the pictures."""
    labels = written_labels(session.path, samples, column)
    seen = {
        (arm, scale): classified_rows(samples, rows, None, {column: labels[rows]})
        for arm, scale, rows in arms_of(samples)
    }
    classes = sorted(set(labels.tolist()) - {ABSTAINED})
    sampled = sorted(set(samples["prompt"].tolist()))
    prompts, explicit, notes = free_prompts(sampled, classes)
    protocol = MetricProtocol(
        attribute=column,
        prompts=prompts,
        claims={column: {"classes": classes}},
        references={},
        seed=randomness.derive(session.config.seed, "evaluate"),
        abstains=ABSTAINED in labels,
        named=explicit,
    )
    name = f"labels in column {column}"
    return {
        "protocol": common_facts(session, samples) | {"name": name, "attribute": column},
        "classifier": {"name": name, "trained_on": None, "attributes": dict(protocol.claims)},
        "warnings": [],
    } | measured_arms(seen, protocol, notes)


def measured_arms(
    seen: Mapping[tuple[str, float], ClassifiedPictures], protocol: MetricProtocol, notes: list[str]
) -> dict[str, Any]:
    """The figures of each arm, and of the pairs of arms that share their seeds."""
    arms: dict[str, dict[str, Any]] = {}
    paired: dict[str, Any] = {}
    for (arm, scale), pictures in seen.items():
        arms.setdefault(arm, {})[str(scale)], missing = metrics.measure_samples(pictures, protocol)
        notes += [note for note in missing if note not in notes]
        if arm == "guided" and ("base", scale) in seen:
            change = metrics.reduction_of_bias(seen["base", scale], pictures, protocol)
            paired[str(scale)] = {"bias_reduction": change}
            if protocol.named:
                kept = metrics.explicit_kept(seen["base", scale], pictures, protocol)
                paired[str(scale)]["explicit_kept"] = kept
    return {"arms": arms, "paired": paired, "not_measured": notes}


def common_facts(session: Session, samples: Columns) -> dict[str, Any]:
    """What every figure of the run depends on."""
    suffix = session.config.sample.prompt_suffix
    return {
        "name": "no classifier",
        "resamples": metrics.RESAMPLES,
        "confidence": metrics.CONFIDENCE,
        "versions": environment()["versions"],
        "seed": session.config.seed,
        "images_per_prompt": int(samples["index"].max()) + 1,
    } | ({"prompt_suffix": suffix} if suffix else {})


def protocol_of(
    config: Config, samples: Columns, data: Samples, chosen: Chosen
) -> tuple[MetricProtocol, list[str]]:
    """What is measured against what, and a sentence on each prompt that has no part in it."""
    in_data = data.prompts()
    sampled = sorted(set(samples["prompt"].tolist()))
    claims = claims_of(config, data, chosen, REFERENCE)
    free, explicit, notes = free_prompts(sampled, claims[chosen.attribute]["classes"])
    known = tuple(prompt for prompt in free if prompt in in_data)
    others = [prompt for prompt in free if prompt not in in_data]
    if known and others:
        notes.append(f"Bias leaves out prompts that are not in the data: {', '.join(others)}.")
    protocol = MetricProtocol(
        attribute=chosen.attribute,
        prompts=known or free,
        claims=claims,
        references=real_pictures(config, data, chosen.classifier),
        seed=randomness.derive(config.seed, "evaluate"),
        abstains=config.evaluate.abstain_below > 0,
        named=explicit,
    )
    return protocol, notes


def free_prompts(
    sampled: Sequence[str], classes: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, str], list[str]]:
    """The prompts that Bias is about, those that name a class with that class, and notes.

    Where every prompt names one, Bias is about these, which is said.
    """
    explicit = named_prompts(sampled, classes)
    free = tuple(prompt for prompt in sampled if prompt not in explicit)
    if explicit and not free:
        return tuple(sampled), explicit, ["Bias: every prompt names a class, which it is to keep."]
    return free, explicit, []


def real_pictures(
    config: Config, data: Samples, classifier: Classifier
) -> dict[str, NDArray[np.float32]]:
    """Features of the real pictures to compare with.

    ``balanced``, for a built-in set, is the half of the balanced set that its classifier was
    not trained on, ``training`` a random part of the data of the same size, since figures with
    references of different sizes don't compare.
    """
    some = randomness.epoch_order(len(data), config.seed, "evaluate reference")[:REFERENCE].tolist()
    found = {}
    if config.data.path in EMBEDDED_SETS:
        pictures = open_set(config.data.path).pictures("balanced")
        unseen = halves(len(pictures), classifier.facts.get("split_seed", 0))[1][:REFERENCE]
        found["balanced"] = features_of(
            classifier, lambda part: pictures[unseen[part]], len(unseen), "real pictures, balanced"
        )
    found["training"] = features_of(
        classifier, lambda part: data.pictures(some[part]), len(some), "real pictures, training"
    )
    return found


def arms_of(samples: Columns) -> list[tuple[str, float, NDArray[np.int64]]]:
    """Arm, guidance scale and rows of each set of pictures, in the order of the table."""
    pairs = dict.fromkeys(zip(samples["arm"].tolist(), samples["scale"].tolist(), strict=True))
    return [
        (arm, scale, np.flatnonzero((samples["arm"] == arm) & (samples["scale"] == scale)))
        for arm, scale in pairs
    ]
