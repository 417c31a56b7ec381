"""README.md of an exported adapter: what it is, what was found and measured, how to load it.

The first lines are what the model hub reads; ``template:sd-lora`` gives the page its gallery.
"""

from collections.abc import Sequence

from invdiff.app.report.inputs import Inputs
from invdiff.app.report.rendering import render, render_lines
from invdiff.engine.export.formats import MERGED, AdapterSource, public_name
from invdiff.model.formats import kohya
from invdiff.model.formats.modelspec import Facts
from invdiff.model.formats.verify import Check
from invdiff.model.lora import adapter_file
from invdiff.model.sizing.description import Description


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
    context = {
        "run": inputs,
        "confidence": inputs.confidence if inputs else None,
        "limits": render_lines("run_limits.txt.j2", {"run": inputs}) if inputs else [],
        "base": public_name(source.base),
        "pipeline": base.pipeline,
        "component": base.component,
        "facts": facts,
        "written": written,
        "checks": checks,
        "repo": repo,
        "diffusers_file": adapter_file.FILE,
        "kohya_file": kohya.FILE,
        "merged_folder": MERGED,
    }
    return render("model_card.md.j2", context)
