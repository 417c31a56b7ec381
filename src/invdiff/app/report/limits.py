"""Section 7: what the run did not measure, worked out from what it did."""

from collections.abc import Iterator

from invdiff.app.report.changed import sampled_prompts
from invdiff.app.report.inputs import Inputs
from invdiff.app.report.measured import attribute, classes
from invdiff.app.report.summary import estimated_gap
from invdiff.app.report.words import (
    count,
    finite,
    listed,
    number,
    percent,
    plural,
    quoted,
    scale_name,
)

STEADY = 0.9  # agreement of the groups below which they are called unsteady
RELIABLE = 0.5  # reliability that at least one noise level should reach


def limits(inputs: Inputs) -> list[str]:
    """One paragraph for each limit."""
    return [*_groups(inputs), *_attribute(inputs), *_scope(inputs), *_figures(inputs)]


def _groups(inputs: Inputs) -> Iterator[str]:
    yield (
        "Inferred groups are not identities. They say what the model has learnt for a prompt and "
        "what goes against it; what they mean to people is for people to judge, with the pictures."
    )
    agreement = finite((inputs.discovery.get("stability") or {}).get("agreement"))
    if agreement is not None and agreement < STEADY:
        yield (
            f"The inferred groups are unsteady: disjoint noise draws agree to {number(agreement)} "
            f"only. More draws (discover.draws) or more images would show whether they hold."
        )
    values = [v for v in inputs.discovery.get("reliability") or () if finite(v) is not None]
    if values and max(values) < RELIABLE:
        yield (
            f"The score is noisy: its reliability reaches {number(max(values))} at the best noise "
            "level. A group that was not found may still be there."
        )
    missed = [quoted(prompt) for prompt in inputs.prompts if prompt not in inputs.found]
    if missed:
        yield (
            f"For {listed(missed)}, nothing to balance means that no groups stood out from chance "
            "with the images that were scored, or that they were even already. It does not mean "
            "that there is no skew of any kind."
        )


def _attribute(inputs: Inputs) -> Iterator[str]:
    classifier = (inputs.metrics or {}).get("classifier") or {}
    if not inputs.has_shares:
        if inputs.samples:
            yield (
                "No attribute classifier was used. Any gap is estimated by the model that inferred "
                "the groups, and shares its mistakes."
            )
        return
    name = attribute(inputs)
    yield (
        f"The classifier puts every image into one of {len(classes(inputs))} classes "
        f"({listed(classes(inputs))}). It estimates how an image reads, not who anybody is, and "
        "whoever fits none of the classes is counted in one of them."
    )
    known = (classifier.get("attributes") or {}).get(name)
    if known and known.get("accuracy") is not None:
        trained = classifier.get("trained_on")
        yield (
            f"The classifier {f'was trained on {count(trained)} images and ' if trained else ''}is "
            f"right on {percent(known['accuracy'], 1)} of {count(known['held_out'])} held-out real "
            "images. What it gets wrong in generated images was not measured."
        )
    yield (
        f"Only {name} was measured. Other attributes, and combinations of attributes, were not; "
        "balancing one can move another."
    )


def _scope(inputs: Inputs) -> Iterator[str]:
    if left_out := len(inputs.quarantined):
        yield f"{plural(left_out, 'training picture')} could not be used and had no part in this."
    gap = estimated_gap(inputs)
    if inputs.trained and gap and gap[1]["gap"] > (inputs.calibration or {})["tolerance"]:
        yield (
            f"At no strength was the estimated gap within the tolerance: it is "
            f"{number(gap[1]['gap'])} at the chosen one. Longer training may do more."
        )
    if prompts := sampled_prompts(inputs):
        yield (
            f"The figures hold for {plural(len(prompts), 'prompt')}: "
            f"{listed([quoted(prompt) for prompt in prompts])}. Other wordings, other subjects and "
            "prompts that name the attribute themselves were not sampled."
        )
    if suffix := inputs.config.sample.prompt_suffix:
        yield f"Every prompt was drawn with {quoted(suffix)} at its end and measured without it."
    if inputs.scales:
        at = "this guidance scale" if len(inputs.scales) == 1 else "these guidance scales"
        sample = inputs.config.sample
        yield (
            f"The figures hold for {at} ({listed([scale_name(s) for s in inputs.scales])}), with "
            f"{sample.steps} denoising steps and the guidance applied at noise levels "
            f"{sample.window[0]:g} to {sample.window[1]:g}. "
            "A higher scale amplifies what imbalance is left."
        )


def _figures(inputs: Inputs) -> Iterator[str]:
    yield from (inputs.metrics or {}).get("warnings") or ()
    yield from (inputs.metrics or {}).get("not_measured") or ()
    protocol = (inputs.metrics or {}).get("protocol") or {}
    if protocol:
        yield (
            "The intervals come from resampling the images within prompts "
            f"({count(protocol.get('resamples'))} times). They leave out what another training "
            f"seed would change: this is one run, with seed {inputs.config.seed}."
        )
    if any((inputs.arm("guided", scale) or {}).get("frechet") for scale in inputs.scales):
        yield (
            "Fréchet distance, recall and precision depend on the feature extractor "
            f"({protocol.get('extractor', 'not named')}) and on the number of images: compare them "
            "within this report only."
        )
    if inputs.trained:
        yield (
            "The certificate speaks of the inferred groups and of the denoising risk, as measured "
            "on training images. It promises nothing about attributes that do not follow these "
            "groups, nor about shares in generated images."
        )
