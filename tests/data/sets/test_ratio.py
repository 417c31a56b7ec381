"""Splits by group ratio: which pictures stay."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invdiff.data.sets.official.archive import ArchivePicture, by_ratio, parse_ratio
from invdiff.errors import ConfigError, DataError

GROUPS = ("a", "b", "c")


def entries(*counts):
    return [
        ArchivePicture(f"{group}{number}.jpg", "train", "a prompt", group, {})
        for group, count in zip(GROUPS, counts, strict=True)
        for number in range(count)
    ]


def held(kept):
    found = Counter(entry.group for entry in kept)
    return tuple(found[group] for group in GROUPS)


@pytest.mark.parametrize(
    ("counts", "ratio", "left"),
    [
        ((10, 10, 10), (3, 2, 1), (9, 6, 3)),  # 10 / 3 leaves one over
        ((10, 4, 10), (3, 2, 1), (6, 4, 2)),  # the scarcest is not the one of the largest part
        ((10, 4, 10), (1, 1, 0), (4, 4, 0)),
        ((10, 0, 5), (1, 0, 1), (5, 0, 5)),
    ],
)
def test_the_scarcest_group_decides(counts, ratio, left):
    assert held(by_ratio(entries(*counts), GROUPS, ratio, seed=0)) == left


@given(
    counts=st.tuples(*[st.integers(20, 60)] * 3),
    ratio=st.tuples(*[st.integers(1, 9)] * 3),
    seed=st.integers(0, 3),
)
def test_the_ratio_is_exact_and_as_large_as_can_be(counts, ratio, seed):
    left = held(by_ratio(entries(*counts), GROUPS, ratio, seed))
    unit = left[0] // ratio[0]
    assert left == tuple(part * unit for part in ratio)
    assert any(count < part * (unit + 1) for count, part in zip(counts, ratio, strict=True))


def test_the_choice_depends_on_the_seed_and_not_on_the_order():
    rows = entries(40, 40, 40)
    first = by_ratio(rows, GROUPS, (4, 2, 1), seed=0)
    assert by_ratio(rows, GROUPS, (4, 2, 1), seed=0) == first
    turned = by_ratio(rows[::-1], GROUPS, (4, 2, 1), seed=0)
    assert turned == first[::-1]
    assert by_ratio(rows, GROUPS, (4, 2, 1), seed=1) != first


def test_a_smaller_split_is_part_of_a_larger_one():
    rows = entries(40, 40, 40)
    small, large = (
        {entry.file for entry in by_ratio(rows, GROUPS, ratio, seed=0)}
        for ratio in ((4, 2, 1), (1, 1, 1))
    )
    assert small < large


def test_no_picture_of_a_group_is_favoured():
    """Over seeds each picture stays as often as the ratio says: 1 in 4, in 400 draws."""
    rows = entries(20, 20, 20)
    stayed = Counter(
        entry.file
        for seed in range(400)
        for entry in by_ratio(rows, GROUPS, (4, 1, 4), seed)
        if entry.group == "b"
    )
    assert sum(stayed.values()) == 400 * 5
    # 100 expected, standard deviation 8.7: five of them is one in a million
    assert all(abs(count - 100) < 45 for count in stayed.values())
    assert len(stayed) == 20


def test_a_group_without_enough_pictures_is_named():
    with pytest.raises(DataError, match="'b' has 2 pictures, too few for its part of 3"):
        by_ratio(entries(9, 2, 9), GROUPS, (1, 3, 1), seed=0)


def test_ratios_are_read():
    assert parse_ratio("3:0:12", GROUPS) == (3, 0, 12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3:2", r"has 2 parts, there are 3 groups \(a; b; c\)"),
        ("3:2:1:1", "has 4 parts"),
        ("3:two:1", "must be whole numbers"),
        ("3:-2:1", "must be whole numbers"),
        ("3:1.5:1", "must be whole numbers"),
        ("3::1", "must be whole numbers"),
        ("0:0:0", "must be whole numbers with colons between them, not all 0, as in 1:1:1"),
    ],
)
def test_ratios_that_do_not_fit_are_refused(text, said):
    with pytest.raises(ConfigError, match=f"--ratio {text}: {said}"):
        parse_ratio(text, GROUPS)
