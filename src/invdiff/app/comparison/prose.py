"""The methods section and the model-card section, made of what was really done."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from invdiff.app.comparison.sheets import Sheet
from invdiff.app.comparison.writing import as_markdown
from invdiff.app.report.words import count, listed, plural

METHODS = {
    "distances": "The Fréchet distance is that between Gaussians fitted to the features (Heusel et "
    "al. 2017), the kernel distance (KID) the unbiased squared maximum mean discrepancy under the "
    "cubic polynomial kernel over all pictures (Bińkowski et al. 2018).",
    "manifolds": "Precision and recall are those of Kynkäänniemi et al. (2019), density and "
    "coverage those of Naeem et al. (2020), with k = {neighbours}.",
    "diversity": "Diversity is the mean Euclidean distance of the unit feature vectors of two "
    "pictures of one prompt, mean over prompts{self_pairs}.",
}
BIAS = (
    "Bias is the mean over prompts of the mean absolute difference between the shares of two "
    "classes (Hou et al. 2025); prompts that name a class are left out of it and measured by the "
    "share of pictures that show the class. Its intervals invert a test by simulation, those of "
    "shares are Wilson's."
)


def methods(record: Mapping[str, Any]) -> str:
    """Plain paragraphs to paste into a paper."""
    return "\n\n".join(" ".join(lines) for lines in _paragraphs(record))


def _paragraphs(record: Mapping[str, Any]) -> Iterator[list[str]]:
    yield list(_data(record))
    if record["extractors"]:
        yield list(_features(record))
    if record["attributes"]:
        yield [*_labels(record), BIAS]
    yield [_uncertainty(record), *_versions(record)]


def _data(record: Mapping[str, Any]) -> Iterator[str]:
    for of, facts in record["sets"].items():
        what = {"a": "The first set", "b": "The second set"}.get(of, "The reference")
        each = sorted(set(facts["prompts"].values()))
        span = " to ".join(dict.fromkeys([count(each[0]), count(each[-1])]))
        told = f"{plural(len(facts['prompts']), 'prompt')}, {span} pictures of each"
        if facts["prompts_from"] == "none":
            told = "prompts are not known"
        yield (
            f"{what}, {facts['name']!r}, has {count(facts['images'])} pictures of "
            f"{facts['width']} x {facts['height']} pixels ({told}; SHA-256 of names, prompts and "
            f"contents {facts['sha256']})."
        )
    if record["paired"]:
        yield "Pictures of one name in both sets were taken as pairs."


def _features(record: Mapping[str, Any]) -> Iterator[str]:
    protocol = record["protocol"]
    yield f"Protocol {protocol['name']!r}: {protocol['words']}"
    if protocol["side"]:
        yield f"All pictures were first brought to {protocol['side']} x {protocol['side']} pixels."
    families: list[str] = []
    for name, facts in record["extractors"].items():
        families += facts["for"]
        digest = f"; SHA-256 of the weights {facts['sha256']}" if facts["sha256"] else ""
        yield f"Features: {name} ({facts['features']:,} numbers{digest})."
    words = {
        "neighbours": protocol["neighbours"],
        "self_pairs": ", a picture with itself included" if protocol["self_pairs"] else "",
    }
    for family, text in METHODS.items():
        if family in families:
            yield text.format(**words)
    if clip := record["clip"]:
        yield (
            f"CLIP-T is 100 times the cosine of picture and prompt under {clip['name']} (SHA-256 "
            f"{clip['sha256']}), negative values as 0."
        )


def _labels(record: Mapping[str, Any]) -> Iterator[str]:
    for name, facts in record["attributes"].items():
        text = f"The attribute {name!r} ({', '.join(facts['classes'])}): {facts['made_by']}"
        if "accuracy" in facts:
            held_out = count(facts["held_out"])
            text += f", right on {facts['accuracy']:.1%} of {held_out} held-out pictures"
        yield f"{text}."


def _uncertainty(record: Mapping[str, Any]) -> str:
    return (
        f"Intervals are at {record['confidence']:.0%}. Those of distances, diversity and CLIP-T "
        f"are bootstrap percentiles ({record['resamples']:,} resamples of images within prompts, "
        "and of whole prompts where that is said) of the figures to first order in the images; "
        "they hold sampling noise, not the upward error of the Fréchet distance. All random draws "
        f"come from seed {record['seed']}."
    )


def _versions(record: Mapping[str, Any]) -> Iterator[str]:
    known = [f"{name} {version}" for name, version in record["versions"].items() if version]
    yield f"Made with {listed(known, most=20)}, Python {record['python']}, {record['platform']}."


def card_section(record: Mapping[str, Any], tables: Sequence[Sheet]) -> str:
    """A section for the model card of what made the second set, as Markdown."""
    blocks = ["## Evaluation"]
    sets = record["sets"]
    against = sets.get("reference", sets["a"])
    blocks.append(
        f"{count(sets['b']['images'])} pictures ({sets['b']['name']}) beside "
        f"{count(sets['a']['images'])} ({sets['a']['name']}), compared with {against['name']}; "
        f"protocol {record['protocol']['name']}, seed {record['seed']}, 95% intervals in brackets."
    )
    for sheet in tables:
        if not sheet.key.startswith("shares"):
            blocks += [f"**{sheet.title}**", as_markdown(sheet), sheet.note]
    blocks.append("What to know before reading these figures:")
    blocks.append("\n".join(f"- {one}" for one in record["warnings"] + record["not_measured"]))
    return "\n\n".join(blocks) + "\n"
