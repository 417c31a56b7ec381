"""Prompts that name a class."""

import pytest

from invdiff.core.named import named_class


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a photo of a male nurse", "male"),
        ("A Female nurse", "female"),
        ("a nurse", None),
        ("a male and a female nurse", None),
        ("a malefactor", None),
    ],
)
def test_one_class_as_a_whole_word(prompt, expected):
    assert named_class(prompt, ["female", "male"]) == expected


def test_a_name_of_several_words_and_signs():
    assert named_class("a person (with hat), smiling", ["(with hat)", "bare"]) == "(with hat)"
