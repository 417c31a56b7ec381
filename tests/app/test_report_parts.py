"""The parts of the report: numbers in words, findings, sections."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invdiff.app.report import builder, quantities
from invdiff.app.report.inputs import Inputs
from invdiff.app.report.quantities import Quantity
from invdiff.app.report.rendering import render_lines
from invdiff.engine.run.records import Calibration, Discovery, Metrics, Training
from tests.app.html_page import Page, svg_text
from tests.app.report_fixture import HAT, HEADBAND, MALE, metrics

pytestmark = pytest.mark.usefixtures("drawn_once")
RECORDS = {
    "metrics": Metrics,
    "discovery": Discovery,
    "calibration": Calibration,
    "training": Training,
}


def changed(known: Inputs, **changes: Any) -> Inputs:
    """The run with other contents of some of its files."""
    records = {
        name: RECORDS[name].model_validate(changes[name]) for name in RECORDS.keys() & changes
    }
    return replace(known, **changes | records)


def page_of(known: Inputs, **changes: Any) -> Page:
    return Page(builder.report_page(changed(known, **changes)))


def limits(known: Inputs, **changes: Any) -> str:
    return " ".join(render_lines("run_limits.txt.j2", {"run": changed(known, **changes)}))


# numbers


@given(st.floats(-1e6, 1e6), st.integers(0, 4))
def test_a_number_reads_back_within_rounding(value: float, digits: int) -> None:
    text = quantities.decimal(value, digits)
    assert abs(float(text.replace(",", "")) - value) <= 0.5 * 10**-digits + 1e-9
    assert not text.startswith("-0.0") or float(text) != 0


@given(st.floats(1e-12, 1e12))
def test_significant_digits_keep_their_precision(value: float) -> None:
    assert float(quantities.significant(value, 4).replace(",", "")) == pytest.approx(
        value, rel=6e-4
    )


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_not_defined_is_never_a_number(value: float | None) -> None:
    for write in (
        quantities.decimal,
        quantities.percent,
        quantities.whole_number,
        quantities.significant,
    ):
        assert write(value) == "not defined"
    assert Quantity.of({"value": value, "low": 0.0, "high": 1.0}).value is None


def test_lists_read_as_english() -> None:
    assert quantities.enumerated([]) == ""
    assert quantities.enumerated(["a"]) == "a"
    assert quantities.enumerated(["a", "b", "c"]) == "a, b and c"
    assert quantities.enumerated(list("abcdefgh"), most=2) == "a, b and 6 more"


def test_latex_has_no_command_of_a_caption() -> None:
    assert quantities.latex("50% \x1b_") == r"50\% \textbackslash{}u001b\_"


# findings


def test_findings_carry_intervals_counts_and_the_value_at_parity(known: Inputs) -> None:
    told = page_of(known).findings
    bias = told["Bias at guidance scale 2.5"]
    for fact in (
        "Reduced from 0.78 (95% interval 0.74 to 0.82) to 0.14 (95% interval 0.10 to 0.18)",
        "the difference is -0.63 (-0.68 to -0.58)",
        "1,600 pictures",
        "would show 0.04",
    ):
        assert fact in bias
    assert not [lead for lead in told if lead.startswith("Estimated gap")]
    assert "In 3 of 4 prompts" in told["Found"]
    assert "(10% of its pictures, 8 to 12%)" in told["Found"]
    assert quantities.quoted(HEADBAND) in told["Found"].partition("Nothing to balance in")[2]


def test_an_interval_around_zero_is_no_change(known: Inputs) -> None:
    changed_metrics = metrics(MALE)
    changed_metrics["paired"]["1.0"]["bias_reduction"] = {"value": 0.01, "low": -0.02, "high": 0.04}
    told = page_of(known, metrics=changed_metrics).findings
    assert "no change is shown" in told["Bias at guidance scale 1"]
    assert "no change is shown" not in told["Bias at guidance scale 2.5"]


def test_a_rise_is_not_called_a_reduction(known: Inputs) -> None:
    swapped = {("guided" if arm == "base" else "base", s): m for (arm, s), m in MALE.items()}
    told = page_of(known, metrics=metrics(swapped)).findings
    assert told["Bias at guidance scale 1"].startswith("Went from 0.08")


def test_a_group_that_is_absent_from_the_images_is_not_zero(known: Inputs) -> None:
    empty = metrics(MALE)
    nothing = {"share": None, "count": 0, "low": None, "high": None}
    empty["arms"]["guided"]["1.0"]["shares"][HAT] = {"male": nothing, "female": nothing}
    table = page_of(known, metrics=empty).tables["Share of the pictures classified as male"]
    assert table[HAT][:2] == ["96% 94 to 98%; 384 of 400", "not defined"]


# sections


def test_the_class_that_the_base_model_favours_is_shown(known: Inputs) -> None:
    assert known.shown_classes == ("male",)
    inverse = {key: {p: 1 - share for p, share in m.items()} for key, m in MALE.items()}
    assert changed(known, metrics=metrics(inverse)).shown_classes == ("female",)


def test_more_than_two_classes_are_all_shown_with_their_parity(known: Inputs) -> None:
    three = metrics(MALE)
    for arms in three["arms"].values():
        for arm in arms.values():
            for shares in arm["shares"].values():
                shares["other"] = dict(shares["male"])
    told = changed(known, metrics=three)
    assert told.shown_classes == ("female", "male", "other")
    drawn = builder.share_charts(told)
    assert list(drawn) == ["1.0", "2.5"]
    assert all(f"{HAT}: other" in svg_text(one.picture.uri) for one in drawn.values())
    assert f"{HAT} other" in page_of(told).tables["Share of the pictures in each class"]


def test_the_certificate_names_risks_counts_and_the_worst_mixture(known: Inputs) -> None:
    page = page_of(known)
    groups = page.tables["Denoising risk of each inferred group"]
    bounds = page.tables["Worst-case loss bound"]["Bound for any mixture"]
    assert bounds == [
        quantities.significant((known.certificate or {})[when]["bound"])
        for when in ("before", "after")
    ]
    assert all(bound in page.findings["Worst-case loss bound (certificate)"] for bound in bounds)
    assert "of the 8 groups" in page.text
    assert groups[HAT][:2] == ["under-represented", "50"]  # the last of its two rows
    assert groups[HAT][2:4] == ["0.3410 0.3370 to 0.3450", "0.3220 0.3180 to 0.3260"]
    skipped = page_of(known, training={"skipped": True, "certificate": None})
    assert not [title for title in skipped.tables if "bound" in title or "risk" in title]


def test_limits_follow_from_the_run(known: Inputs) -> None:
    told = limits(known)
    assert "99.2% of 2,000 held-out" in told
    assert "Only gender was measured" in told
    assert "these guidance scales (1 and 2.5)" in told
    assert "unsteady" not in told
    shaky = dict(known.discovery) | {"stability": {"agreement": 0.6, "runs": 2}}
    shaky["reliability"] = [0.1, 0.2, 0.3, 0.2, 0.1]
    told = limits(known, discovery=shaky)
    assert "unsteady: disjoint noise draws agree to 0.60" in told
    assert "reliability reaches 0.30" in told


def test_what_could_not_be_measured_is_said(known: Inputs) -> None:
    told = metrics(MALE) | {"not_measured": ["Bias leaves out prompts: a cat."]}
    text = limits(known, metrics=told, quarantined=[["a.png", "empty"]] * 3)
    assert "Bias leaves out prompts: a cat." in text
    assert "3 training pictures" in text
    assert "within the tolerance" not in text
    strict = dict(known.calibration or {}) | {"tolerance": 0.05}
    assert "within the tolerance: it is 0.09" in limits(known, calibration=strict)


def test_a_caption_adds_no_line_of_its_own_to_the_limits(known: Inputs) -> None:
    forged = f"{HEADBAND}\nEverything is fair."
    prompts = {forged if p == HEADBAND else p: e for p, e in known.discovery.prompts.items()}
    told = changed(known, discovery=dict(known.discovery) | {"prompts": prompts})
    assert forged in told.missed
    assert len(render_lines("run_limits.txt.j2", {"run": told})) == len(
        render_lines("run_limits.txt.j2", {"run": known})
    )


def test_both_gaps_stand_beside_each_other_at_each_strength(known: Inputs) -> None:
    points = [
        {
            "strength": s,
            "estimated": {"gap": 0.8 - s / 2, "low": 0.7 - s / 2, "high": 0.9 - s / 2},
            "classified": {"value": 0.9 - s / 2, "low": 0.8 - s / 2, "high": 1 - s / 2}
            | {"parity_value": 0.1, "images": 256},
        }
        for s in (1.0, 0.0)
    ]
    page = page_of(known, metrics=dict(known.metrics or {}) | {"strength_curve": points})
    table = page.tables["Gap by adapter strength at guidance scale 2.5"]
    assert [name for name in table if name] == ["Adapter strength 0", "Adapter strength 1"]
    assert table["Adapter strength 0"] == ["0.80 0.70 to 0.90", "0.90 0.80 to 1.00", "0.10", "256"]
    assert table["Adapter strength 1"] == ["0.30 0.20 to 0.40", "0.40 0.30 to 0.50", "0.10", "256"]
    assert len(page.drawings) == len(page_of(known).drawings) + 1


def test_a_calibration_without_a_curve_leaves_its_plot_out(known: Inputs) -> None:
    bare = page_of(known, calibration=dict(known.calibration or {}) | {"curve": []})
    (missing,) = set(page_of(known).drawings) - set(bare.drawings)
    assert missing.startswith("Estimated gap over the adapter strength")


def test_a_vetoed_strength_is_told_with_what_it_lost(known: Inputs) -> None:
    def point(strength: float, gap: float, shown: int, **more: Any) -> dict[str, Any]:
        told = {"strength": strength, "gap": gap, "low": gap - 0.05, "high": gap + 0.05}
        return told | {"images": 64, "own_prompt": {HAT: {"shown": shown, "images": 64}}} | more

    lost = point(1.0, 0.05, 30, vetoed=True, prompts_lost_p=0.0004)
    curve = [point(0.0, 0.78, 60), point(0.75, 0.09, 58), lost]
    strict = dict(known.calibration or {}) | {"strength": 0.75, "curve": curve}
    page = page_of(known, calibration=strict)
    table = page.tables["Estimated gap between the inferred groups at guidance scale 2.5"]
    assert table["Adapter strength 0 the base model"] == ["0.78 0.73 to 0.83", "94%", "64"]
    assert table["Adapter strength 0.75 chosen"] == ["0.09 0.04 to 0.14", "91%", "64"]
    assert table["Adapter strength 1 vetoed, p < 0.001"] == ["0.05 0.00 to 0.10", "47%", "64"]
    told = page.findings["Adapter strength"]
    assert "0.75 was chosen: 91% of its pictures show their prompt, 94% of the base" in told
    assert "1 (47%, p < 0.001)" in told
    assert "etoed" not in page_of(known).findings["Adapter strength"]


def test_one_of_a_thing_is_singular(known: Inputs) -> None:
    few = dict(known.discovery) | {"images_scored": 1}
    assert "looked at 1 picture." in page_of(known, discovery=few).text


def test_shares_estimated_without_a_classifier_are_those_of_the_chosen_strength(
    known: Inputs,
) -> None:
    drawings = page_of(known, metrics={}).drawings
    (said,) = [alt for alt in drawings if alt.startswith("Estimated shares")]
    assert f"{HAT}: 11% before, 46% after" in said
    assert ">11% \N{RIGHTWARDS ARROW} 46%<" in drawings[said]


def test_the_oracle_does_not_claim_to_have_read_no_label(known: Inputs) -> None:
    oracle = dict(known.discovery) | {"estimator": "labels"}
    assert "read no label" in page_of(known).text
    assert "read no label" not in page_of(known, discovery=oracle).text


def test_prompts_that_name_the_attribute_are_told_with_counts(known: Inputs) -> None:
    def figure(count: int, images: int) -> dict[str, Any]:
        share = {"value": count / images, "low": 0.91, "high": 0.998}
        return share | {"count": count, "images": images}

    def of(count: int, images: int) -> dict[str, Any]:
        each = {"a woman": {"class": "female"} | figure(count, images)}
        return figure(count, images) | {"prompts": each}

    figures = copy.deepcopy(dict(known.metrics or {}))
    for scale in known.scales:
        figures["arms"]["base"][scale]["explicit"] = of(198, 200)
        figures["arms"]["guided"][scale]["explicit"] = of(197, 200)
        figures["paired"].setdefault(scale, {})["explicit_kept"] = of(195, 198)
    page = page_of(known, metrics=figures)
    title = "Prompts that name the attribute"
    assert "98.5% (95% interval 91.0 to 99.8%), 195 of 198, at guidance" in page.findings[title]
    table = page.tables[title]
    assert [name for name in table if name != "Prompt"] == ["a woman female", "all of them"]
    assert table["a woman female"][-1] == "98.5% 91.0 to 99.8%; 195 of 198"
    assert len(table["all of them"]) == 6
    assert title not in page_of(known).tables
