"""README.md of an exported adapter: what it is, what was found and measured, how to load it.

The first lines are what the model hub reads; ``template:sd-lora`` gives the page its gallery.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from invdiff.app.report.inputs import Inputs
from invdiff.app.report.limits import limits
from invdiff.app.report.sides import against
from invdiff.app.report.words import (
    Estimate,
    count,
    listed,
    number,
    percent,
    plural,
    scale_name,
    span,
    with_interval,
)
from invdiff.engine.export.formats import MERGED, AdapterSource, public_name
from invdiff.model.formats import kohya
from invdiff.model.formats.modelspec import Facts
from invdiff.model.formats.verify import Check
from invdiff.model.lora import adapter_file
from invdiff.model.sizing.description import Description

TAGS = ("text-to-image", "diffusers", "lora", "template:sd-lora", "invdiff", "bias-mitigation")
UNKNOWN = (
    "The adapter was exported without its run folder: what it was trained on, what was found and "
    "what was measured is not known here."
)


def card(
    source: AdapterSource,
    inputs: Inputs | None,
    base: Description,
    facts: Facts,
    written: Sequence[str],
    checks: Sequence[Check],
    repo: str | None,
) -> str:
    """The card as Markdown. ``inputs`` is None for an adapter without its run."""
    blocks = [
        _front(source),
        f"# {facts.title}",
        facts.description,
        _use(facts),
        "## Load it",
        *_loading(source, facts, written, base, repo),
        *(_known(inputs) if inputs else [UNKNOWN]),
        "## Files",
        _files(written, checks),
        f"The audit: {facts.audit}",
    ]
    return "\n\n".join(blocks) + "\n"


def _front(source: AdapterSource) -> str:
    lines = ["---", "library_name: diffusers", "pipeline_tag: text-to-image"]
    if (name := public_name(source.base)) and "/" in name:
        lines += [f"base_model: {name}"]
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in TAGS), "---"])


def _use(facts: Facts) -> str:
    start, stop = facts.window
    text = (
        f"**Recommended strength {facts.strength:g}**, at noise levels {start:g} to {stop:g} "
        "(0 = clean, 1 = pure noise)"
    )
    if facts.scale:
        text += f", calibrated at guidance scale {facts.scale:g}"
    return text + (
        ". Strength scales the prediction; a LoRA weight scales the weights. At 1 both are the "
        "same, elsewhere the weight only approximates the strength."
    )


def _loading(
    source: AdapterSource, facts: Facts, written: Sequence[str], base: Description, repo: str | None
) -> Iterator[str]:
    place = repo or "path/to/this/folder"
    named = public_name(source.base) or ""
    name = named if "/" in named else "path/to/the/base-model"
    if adapter_file.FILE in written and not base.pipeline.startswith("PixArt"):  # it has no loader
        load = f'pipe.load_lora_weights("{place}", weight_name="{adapter_file.FILE}")'
        yield (
            "With diffusers:\n\n```python\nfrom diffusers import DiffusionPipeline\n\n"
            f'pipe = DiffusionPipeline.from_pretrained("{name}")\n{load}\n```'
        )
    if adapter_file.FILE in written:
        start, stop = facts.window
        yield (
            "With `invdiff`, for other strengths, windows, and proof that it was applied:\n\n"
            f'```python\nimport invdiff\n\ninvdiff.attach(pipe, "this-folder", '
            f"strength={facts.strength:g}, window=({start:g}, {stop:g}))\n```"
        )
    if kohya.FILE in written:
        yield (
            f"With ComfyUI: put `{kohya.FILE}` into `models/loras` and add *Load LoRA* with "
            f"`strength_model` {facts.strength:g}. A window needs *Create Hook LoRA (Model Only)* "
            "with *Create Hook Keyframe*. With A1111, Forge or SD.Next: put it into `models/Lora` "
            f"and write `<lora:{Path(kohya.FILE).stem}:{facts.strength:g}>` into the prompt."
        )
    elif adapter_file.FILE in written and base.component == "transformer":
        yield (
            f"With ComfyUI: put `{adapter_file.FILE}` into `models/loras` and add *Load LoRA*, if "
            "ComfyUI knows the base model."
        )
    if MERGED in written:
        get, folder = "", place
        if repo:  # stock from_pretrained opens no folder inside a repository
            folder = repo.split("/")[1]
            get = f"`hf download {repo} --local-dir {folder}`, then "
        yield (
            f"`{MERGED}/` is the whole pipeline with the adapter in its weights, at weight "
            f'{facts.strength:g}: {get}`DiffusionPipeline.from_pretrained("{folder}/{MERGED}")`.'
        )


def _known(inputs: Inputs) -> Iterator[str]:
    yield "## Data and groups found"
    yield _data(inputs)
    yield from _found(inputs)
    yield "## Before and after"
    yield from _measured(inputs)
    yield "## Limits"
    yield "\n".join(f"- {text}" for text in limits(inputs))


def _data(inputs: Inputs) -> str:
    images = sum(entry["images"] for entry in inputs.prompts.values())
    return (
        f"{plural(images, 'training picture')} of {plural(len(inputs.prompts), 'prompt')}; groups "
        "were inferred without labels, from how well the base model denoises each picture: an "
        "inferred group is a side of what the model learnt about a prompt, not an identity."
    )


def _found(inputs: Inputs) -> Iterator[str]:
    rows = []
    for prompt, entry in inputs.prompts.items():
        estimate = against(entry["groups"]) if entry["found"] else None
        share = (
            f"{percent(estimate.value)} ({span(estimate, digits=0, as_percent=True)})"
            if estimate
            else "none stood out"
        )
        rows.append((prompt, count(entry["images"]), share))
    head = ("prompt", "pictures", f"group against the model, {_confidence(inputs)}")
    yield _table(head, rows)


def _measured(inputs: Inputs) -> Iterator[str]:
    if not inputs.has_shares:
        yield from _estimated(inputs)
        return
    for scale in inputs.scales:
        before, after = inputs.arm("base", scale) or {}, inputs.arm("guided", scale) or {}
        rows = []
        shares = [arm.get("shares") or {} for arm in (before, after)]
        for prompt, classes in (shares[0] or shares[1]).items():
            name = max(classes, key=lambda one: classes[one]["share"] or 0.0)
            cells = [_share(one.get(prompt, {}), name) for one in shares]
            rows.append((f"{prompt}: {name}", cells[0], cells[1]))
        bias = [_bias(arm) for arm in (before, after)]
        rows.append(("Bias (0 = even, 1 = one class only)", bias[0], bias[1]))
        yield f"Guidance scale {scale_name(scale)}, classifier-estimated, {_confidence(inputs)}:"
        yield _table(("prompt: class", "before", "after"), rows)


def _estimated(inputs: Inputs) -> Iterator[str]:
    record = inputs.calibration or {}
    points = {point["strength"]: point for point in record.get("curve") or ()}
    chosen = record.get("strength")
    if 0.0 not in points or chosen not in points:
        yield "No shares were measured."
        return
    before, after = (
        f"{with_interval(Estimate.of(points[s], 'gap'), inputs.confidence)}, "
        f"{plural(points[s]['images'], 'image')}"
        for s in (0.0, chosen)
    )
    yield (
        "No attribute classifier was used. The gap between the shares of the inferred groups, "
        "estimated by the model that inferred them, at guidance scale "
        f"{record['guidance_scale']:g}: {before} before; {after} at strength {chosen:g}."
    )


def _share(classes: Mapping[str, Mapping[str, float]], name: str) -> str:
    """The share of one class with its interval, and its count of all images of the prompt."""
    entry = classes.get(name) or {}
    if entry.get("share") is None:
        return "not measured"
    estimate = Estimate.of(entry, "share")
    interval = f" ({span(estimate, digits=0, as_percent=True)})" if estimate.has_interval else ""
    images = sum(one["count"] for one in classes.values())
    return f"{percent(estimate.value)}{interval}, {count(entry['count'])} of {count(images)} images"


def _bias(arm: Mapping[str, Any]) -> str:
    if not arm.get("bias"):
        return "not measured"
    estimate = Estimate.of(arm["bias"])
    interval = f" ({span(estimate)})" if estimate.has_interval else ""
    return f"{number(estimate.value)}{interval}, {count(arm['images'])} images"


def _files(written: Sequence[str], checks: Sequence[Check]) -> str:
    if not checks:
        return f"{listed([f'`{name}`' for name in written])}; not loaded again for verification."
    lines = [
        f"- `{check.file}`: loaded again, {check.layers - len(check.unmatched)} of {check.layers} "
        f"layers matched; its pictures differ from the trained adapter's by {check.difference:.1e} "
        "of what the adapter changes"
        for check in checks
    ]
    return "\n".join(lines)


def _confidence(inputs: Inputs) -> str:
    return f"{percent(inputs.confidence)} intervals"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (cells[0], marks, *cells[1:]))
