"""The parts of the report: numbers in words, findings, sections."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invdiff.app.report import (
    changed,
    closing,
    found,
    limits,
    measured,
    summary,
    words,
)
from invdiff.app.report.inputs import Inputs
from invdiff.app.report.words import Estimate
from tests.app.report_fixture import HAT, HEADBAND, MALE, metrics

# numbers


@given(st.floats(-1e6, 1e6), st.integers(0, 4))
def test_a_number_reads_back_within_rounding(value: float, digits: int) -> None:
    text = words.number(value, digits)
    assert abs(float(text.replace(",", "")) - value) <= 0.5 * 10**-digits + 1e-9
    assert not text.startswith("-0.0") or float(text) != 0


@given(st.floats(1e-12, 1e12))
def test_significant_digits_keep_their_precision(value: float) -> None:
    assert float(words.significant(value, 4).replace(",", "")) == pytest.approx(value, rel=6e-4)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_not_defined_is_never_a_number(value: float | None) -> None:
    for write in (words.number, words.percent, words.count, words.significant):
        assert write(value) == "not defined"
    assert Estimate.of({"value": value, "low": 0.0, "high": 1.0}).value is None


def test_lists_read_as_english() -> None:
    assert words.listed([]) == ""
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
    assert words.listed(list("abcdefgh"), most=2) == "a, b and 6 more"


# findings


def texts(known: Inputs) -> dict[str, str]:
    return {finding.lead: finding.text for finding in summary.findings(known)}


def test_findings_carry_intervals_counts_and_the_value_at_parity(known: Inputs) -> None:
    told = texts(known)
    assert told["Bias at guidance scale 2.5"] == (
        "Reduced from 0.78 (95% interval 0.74 to 0.82) to 0.14 (95% interval 0.10 to 0.18); "
        "paired by seed, the difference is 0.63 (0.58 to 0.68). Measured on 1,600 images by each "
        "model; a balanced sampler would show 0.04 with as many."
    )
    assert not [lead for lead in told if lead.startswith("Estimated gap")]
    assert told["Found"].startswith("In 3 of 4 prompts")
    assert told["Found"].endswith(f"Nothing to balance in {words.quoted(HEADBAND)}.")


def test_an_interval_around_zero_is_no_change(known: Inputs) -> None:
    changed_metrics = metrics(MALE)
    changed_metrics["paired"]["1.0"]["bias_reduction"] = {"value": 0.01, "low": -0.02, "high": 0.04}
    told = texts(replace(known, metrics=changed_metrics))
    assert "so no change is shown" in told["Bias at guidance scale 1"]
    assert "so no change is shown" not in told["Bias at guidance scale 2.5"]


def test_a_rise_is_not_called_a_reduction(known: Inputs) -> None:
    swapped = {("guided" if arm == "base" else "base", s): m for (arm, s), m in MALE.items()}
    told = texts(replace(known, metrics=metrics(swapped)))
    assert told["Bias at guidance scale 1"].startswith("Went from 0.08")


def test_a_group_that_is_absent_from_the_images_is_not_zero(known: Inputs) -> None:
    empty = metrics(MALE)
    nothing = {"share": None, "count": 0, "low": None, "high": None}
    empty["arms"]["guided"]["1.0"]["shares"][HAT] = {"male": nothing, "female": nothing}
    told = replace(known, metrics=empty)
    table = next(t for t in measured.tables(told) if t.title.startswith("Share of the images"))
    row = next(row for row in table.rows if row[0].text == HAT)
    assert row[2].text == "\N{EN DASH}"
    assert len(changed.section(told).shares) == 2


# sections


def test_the_class_that_the_base_model_favours_is_shown(known: Inputs) -> None:
    assert measured.shown_classes(known) == ("male",)
    inverse = {key: {p: 1 - share for p, share in m.items()} for key, m in MALE.items()}
    assert measured.shown_classes(replace(known, metrics=metrics(inverse))) == ("female",)


def test_more_than_two_classes_are_all_shown_with_their_parity(known: Inputs) -> None:
    three = metrics(MALE)
    for arms in three["arms"].values():
        for arm in arms.values():
            for shares in arm["shares"].values():
                shares["other"] = dict(shares["male"])
    told = replace(known, metrics=three)
    assert measured.shown_classes(told) == ("female", "male", "other")
    assert all(f"{HAT}: other" in plot.drawing for plot in changed.section(told).shares)


def test_the_certificate_names_risks_counts_and_the_worst_mixture(known: Inputs) -> None:
    told = closing.certificate(known)
    assert told is not None
    assert told.count == len(told.groups.rows) == 8
    bounds = {row[0].text: [cell.text for cell in row[1:]] for row in told.bounds.rows}
    assert bounds["Bound for any mixture"] == [told.before, told.after]
    assert sum(float(row[-1].text) for row in told.groups.rows) == 1
    skipped = replace(known, training={"skipped": True, "certificate": None})
    assert closing.certificate(skipped) is None


def test_limits_follow_from_the_run(known: Inputs) -> None:
    told = " ".join(limits.limits(known))
    assert "99.2% of 2,000 held-out" in told
    assert "Only gender was measured" in told
    assert "these guidance scales (1 and 2.5)" in told
    assert "unsteady" not in told
    shaky = dict(known.discovery) | {"stability": {"agreement": 0.6, "runs": 2}}
    shaky["reliability"] = [0.1, 0.2, 0.3, 0.2, 0.1]
    told = " ".join(limits.limits(replace(known, discovery=shaky)))
    assert "unsteady: disjoint noise draws agree to 0.60" in told
    assert "reliability reaches 0.30" in told


def test_what_could_not_be_measured_is_said(known: Inputs) -> None:
    told = metrics(MALE) | {"not_measured": ["Bias leaves out prompts: a cat."]}
    found_limits = " ".join(
        limits.limits(replace(known, metrics=told, quarantined=[["a.png", "empty"]] * 3))
    )
    assert "Bias leaves out prompts: a cat." in found_limits
    assert "3 training pictures could not be used" in found_limits
    assert "At no strength" not in found_limits
    strict = dict(known.calibration or {}) | {"tolerance": 0.05}
    assert "At no strength was the estimated gap within the tolerance: it is 0.09" in " ".join(
        limits.limits(replace(known, calibration=strict))
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
    metrics = dict(known.metrics or {}) | {"strength_curve": points}
    shown = changed.section(replace(known, metrics=metrics))
    (table,) = [t for t in shown.tables if t.title == "Gap by strength at guidance scale 2.5"]
    assert [[c.text for c in row] for row in table.rows] == [
        ["Strength 0", "0.80", "0.90", "0.10", "256"],
        ["Strength 1", "0.30", "0.40", "0.10", "256"],
    ]
    assert len(shown.plots) == len(changed.section(known).plots) + 1


def test_a_calibration_without_a_curve_leaves_its_plot_out(known: Inputs) -> None:
    bare = dict(known.calibration or {}) | {"curve": []}
    captions = [plot.caption for plot in changed.section(replace(known, calibration=bare)).plots]
    assert [caption[:8] for caption in captions] == ["Training"]


def test_shares_estimated_without_a_classifier_are_those_of_the_chosen_strength(
    known: Inputs,
) -> None:
    (plot,) = changed.section(replace(known, metrics=None)).shares
    assert f"{HAT} 11% and 46%" in plot.drawing
    assert plot.caption == "Guidance scale 2.5"


def test_the_oracle_does_not_claim_to_have_read_no_label(known: Inputs) -> None:
    oracle = replace(known, discovery=dict(known.discovery) | {"estimator": "labels"})
    assert "read no label" in found.section(known, None).how
    assert "read no label" not in found.section(oracle, None).how


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
    told = replace(known, metrics=figures)
    text = {one.lead: one.text for one in summary.findings(told)}["Prompts that name the attribute"]
    assert "98.5% (95% interval 91.0 to 99.8%), 195 of 198, at guidance scale 1" in text
    table = next(t for t in measured.tables(told) if t.title == "Prompts that name the attribute")
    assert [row[0].text for row in table.rows] == ["a woman", "all of them"]
    assert table.rows[0][-1].detail == "91.0 to 99.8%; 195 of 198"
    assert not any(t.title == table.title for t in measured.tables(known))
