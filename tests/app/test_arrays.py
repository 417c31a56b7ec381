"""The method on arrays: what a run finds, whatever holds the numbers, and mistakes by name."""

import doctest
import importlib
import inspect
import typing

import numpy as np
import pytest
import torch

import invdiff
from invdiff.core.discovery.evidence import Contrasts
from invdiff.engine.discovery.estimators import Evidence, estimate_groups
from invdiff.engine.settings.schema import Config
from invdiff.errors import ArgumentError, InvDiffError
from tests.core.planted import contrast, plant

SHARES = {"few": 0.1, "most": 0.9}
DRAWS = 2
LEVELS = (0.98, 0.94, 0.5)


@pytest.mark.parametrize("name", ["balance", "find_groups", "skew"])
def test_the_examples_in_the_docstrings_are_true(name):
    found = doctest.testmod(importlib.import_module(f"invdiff.app.arrays.{name}"))
    assert found.attempted > 1
    assert found.failed == 0


def test_signatures_are_told_as_they_are_written():
    for name in ("find_groups", "balanced_weights", "bias", "certificate"):
        function = getattr(invdiff, name)
        told = str(inspect.signature(function))
        assert "Union" not in told
        assert "jaxtyping" not in told
        assert typing.get_type_hints(function)  # for whoever wants the types themselves


def made(seed=0, shares=SHARES, count=120):
    """Planted pictures and what they cost: arguments of find_groups, and the attribute."""
    planted = plant(shares, count, seed)
    random = np.random.default_rng(seed)
    losses = contrast(planted, shares, seed=seed).losses[..., None]
    losses = losses + random.normal(0, 0.3, size=(*losses.shape[:3], DRAWS))
    names = sorted(shares)
    own = losses[np.arange(len(losses)), [names.index(name) for name in planted.prompt]]
    evidence = {
        "prompts": planted.prompt.tolist(),
        "features": planted.features,
        "own_loss": own,
        "null_loss": losses.mean(1) + random.normal(0, 0.3, size=own.shape),
        "prompt_losses": losses,
        "levels": LEVELS,
    }
    return evidence, planted


def as_run(evidence, seed, rows=None):
    """The groups that the stage infers from the same evidence."""
    high, prompt = [0, 1], np.array(evidence["prompts"])
    rows = np.arange(len(prompt)) if rows is None else rows
    own, null = (evidence[name][rows][:, high] for name in ("own_loss", "null_loss"))
    names = tuple(sorted(set(evidence["prompts"])))
    contrasts = Contrasts(evidence["prompt_losses"][rows][:, :, high].mean(3), names, rows)
    known = Evidence(
        prompt=prompt,
        features=evidence["features"],
        scored=rows,
        score=(own - null).mean((1, 2)),
        loss_score=own.mean((1, 2)),
        loss=np.zeros(len(rows)),
        contrasts=lambda: contrasts,
        passes=None,
        labels=None,
    )
    return estimate_groups(known, Config(seed=seed))


@pytest.mark.parametrize("shares", [SHARES, {"one": 0.1}, {"a": 0.5, "b": 0.5}])
def test_arrays_give_the_groups_of_a_run(shares):
    evidence, _ = made(3, shares)
    groups, run = invdiff.find_groups(**evidence, seed=5), as_run(evidence, 5)
    np.testing.assert_allclose(groups.memberships[:, 1], run.against, atol=1e-9)
    for name, verdict in run.verdicts.items():
        ours = groups.verdicts[name]
        assert (ours.found, ours.note) == (verdict.found, verdict.note)
        told = (ours.share, ours.explained, ours.p_value)
        wanted = (verdict.share, verdict.explained, verdict.p_value)
        assert told == pytest.approx(wanted, rel=1e-6)


def test_pictures_that_were_not_measured_get_their_groups_from_the_others():
    evidence, planted = made()
    rows = np.sort(np.random.default_rng(1).permutation(240)[:180])
    part = {
        k: evidence[k][rows] if k.endswith(("loss", "losses")) else v for k, v in evidence.items()
    }
    groups = invdiff.find_groups(**part, measured=rows)
    np.testing.assert_array_equal(groups.memberships[:, 1], as_run(evidence, 0, rows).against)
    few = {**part, "prompt_losses": evidence["prompt_losses"][rows[::2]]}
    groups = invdiff.find_groups(**few, measured=rows, compared=rows[::2])
    unusual = planted.attribute == (planted.prompt == "few")
    assert groups.found == ("few", "most")
    assert ((groups.memberships[:, 1] > 0.5) == unusual).mean() > 0.97


def test_tensors_and_lists_are_as_good_as_arrays():
    evidence, _ = made()
    tensors = {
        k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in evidence.items()
    }
    lists = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in evidence.items()}
    plain = invdiff.find_groups(**evidence)
    for other in (tensors, lists):
        found = invdiff.find_groups(**other)
        np.testing.assert_array_equal(found.memberships, plain.memberships)
    q = torch.from_numpy(plain.memberships).bfloat16().requires_grad_()
    weights = invdiff.balanced_weights(q, plain.prompts)
    np.testing.assert_allclose(
        weights, invdiff.balanced_weights(plain.memberships, plain.prompts), atol=0.1
    )


def test_the_groups_tell_what_was_found():
    evidence, _ = made()
    groups = invdiff.find_groups(**evidence)
    verdict = groups.verdicts["few"]
    assert verdict.low < 0.1 < verdict.high
    assert verdict.pictures == 120
    assert f"under-represented group {verdict.share:.0%}" in repr(groups)
    assert "every prompt" in repr(groups)
    even = invdiff.find_groups(**made(shares={"a": 0.5, "b": 0.5})[0])
    assert even.found == ()
    assert "nothing to balance" in repr(even)


def test_other_pictures_get_memberships_and_shares():
    evidence, planted = made(count=400)
    groups = invdiff.find_groups(**evidence)
    np.testing.assert_allclose(
        groups.predict(torch.from_numpy(evidence["features"]), evidence["prompts"]),
        groups.memberships,
        atol=1e-9,
    )
    rare, usual = (np.flatnonzero((planted.prompt == "few") & side)[:40] for side in sides(planted))
    shares = groups.shares(evidence["features"][np.append(rare, usual)], ["few"] * 80)
    assert list(shares) == ["few"]
    assert shares["few"] == pytest.approx([0.5, 0.5], abs=0.05)


def sides(planted):
    return planted.attribute, ~planted.attribute


def test_without_losses_under_every_prompt_the_excess_is_asked():
    evidence, planted = made()
    effect = 2 * (planted.attribute == (planted.prompt == "few"))
    evidence["own_loss"] = evidence["null_loss"] + effect[:, None, None]
    evidence["own_loss"] += np.random.default_rng(2).normal(0, 0.5, evidence["own_loss"].shape)
    del evidence["prompt_losses"]
    groups = invdiff.find_groups(**evidence)
    assert groups.read_from == "what each picture costs more under its prompt than under none"
    assert groups.found == ("few", "most")


def test_levels_below_high_noise_are_left_out():
    evidence, _ = made()
    spoilt = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in evidence.items()}
    for name in ("own_loss", "null_loss", "prompt_losses"):
        spoilt[name][..., 2, :] = np.random.default_rng(3).normal(
            size=spoilt[name][..., 2, :].shape
        )
    plain, other = invdiff.find_groups(**evidence), invdiff.find_groups(**spoilt)
    np.testing.assert_array_equal(plain.memberships, other.memberships)
    every = invdiff.find_groups(**{**spoilt, "levels": ()})
    assert not np.array_equal(every.memberships, plain.memberships)


def broken(values, at=(0, 0, 0), to=np.nan):
    values = values.copy()
    values[at] = to
    return values


@pytest.mark.parametrize(
    ("change", "argument", "told"),
    [
        ({"prompts": "few"}, "prompts", "list of texts, not 'few'"),
        ({"prompts": [1, 2]}, "prompts", "list of texts"),
        ({"prompts": []}, "prompts", "empty"),
        ({"prompts": lambda e: e["prompts"][1:]}, "features", "must have 239 rows"),
        ({"features": lambda e: e["features"][:, 0]}, "features", r"axes \[picture, feature\]"),
        ({"features": [[1.0], [1.0, 2.0]]}, "features", "rows of one length"),
        ({"features": lambda e: broken(e["features"], (3, 1), np.inf)}, "features", "1 of 2880"),
        ({"own_loss": lambda e: e["own_loss"].mean(2)}, "own_loss", "picture, level, draw"),
        ({"own_loss": lambda e: broken(e["own_loss"])}, "own_loss", "finite, not 1 of 1440"),
        ({"null_loss": lambda e: broken(e["null_loss"])}, "null_loss", "finite"),
        ({"null_loss": lambda e: e["null_loss"][:, :, :1]}, "null_loss", "own_loss's shape"),
        ({"null_loss": lambda e: e["own_loss"]}, "null_loss", "differ from own_loss"),
        ({"own_loss": lambda e: e["own_loss"][:100]}, "own_loss", "must have 240 rows"),
        ({"prompt_losses": lambda e: e["own_loss"]}, "prompt_losses", "prompt, level, draw"),
        ({"prompt_losses": lambda e: e["prompt_losses"][:7]}, "prompt_losses", "240 rows"),
        ({"prompt_names": ["few"]}, "prompt_names", "2 unlike texts"),
        ({"prompt_names": ["few", "few"]}, "prompt_names", "2 unlike texts"),
        (
            {"prompt_losses": lambda e: e["prompt_losses"][:, :1], "prompt_names": ["few"]},
            "prompt_losses",
            "2 prompts or more",
        ),
        ({"levels": (0.9,)}, "levels", "3 numbers"),
        ({"levels": (0.9, 0.95, 98)}, "levels", r"\(0, 1\]"),
        ({"measured": [0, 0, 1]}, "measured", "ascending whole numbers from 0 to 239"),
        ({"measured": [0, 240]}, "measured", "ascending"),
        ({"measured": [0.5]}, "measured", "whole"),
        ({"min_images": 500}, "prompts", "at most 120 pictures of 'few'"),
        ({"min_images": 5}, "min_images", "fewer than 10"),
        ({"min_share": 0.5}, "min_share", "between"),
        ({"false_positive_rate": 0.0}, "false_positive_rate", "between 0 and 1"),
        ({"target_share": 1.0}, "target_share", "0.5 is even"),
    ],
)
def test_mistakes_about_the_evidence_are_named(change, argument, told):
    evidence, _ = made()
    evidence |= {k: v(evidence) if callable(v) else v for k, v in change.items()}
    with pytest.raises(ArgumentError, match=told) as caught:
        invdiff.find_groups(**evidence)
    assert caught.value.argument == argument
    assert str(caught.value).startswith(f"{argument}: must")
    assert "; " in str(caught.value)  # what to do
    assert isinstance(caught.value, InvDiffError)


def test_compared_pictures_have_to_be_searched():
    evidence, _ = made(shares={**SHARES, "rest": 0.5}, count=60)
    rows = np.array(
        [row for row in range(180) if evidence["prompts"][row] != "rest" or row % 9 == 0]
    )
    part = {k: evidence[k][rows] if k.endswith("_loss") else v for k, v in evidence.items()}
    rest = rows[np.array(evidence["prompts"])[rows] == "rest"]
    part["prompt_losses"] = evidence["prompt_losses"][rest]
    with pytest.raises(ArgumentError, match="compared: must name pictures"):
        invdiff.find_groups(**part, measured=rows, compared=rest)


@pytest.mark.parametrize(
    ("features", "prompts", "told"),
    [
        (np.zeros((2, 12)), ["few"], "must have 2 rows"),
        (np.zeros((1, 12)), ["other"], "among 'few', 'most', not 'other'"),
        (np.zeros((1, 3)), ["few"], "12 columns"),
        (np.full((1, 12), np.nan), ["few"], "finite"),
    ],
)
def test_mistakes_about_other_pictures_are_named(features, prompts, told):
    groups = invdiff.find_groups(**made()[0])
    for ask in (groups.predict, groups.shares):
        with pytest.raises(ArgumentError, match=told):
            ask(features, prompts)
