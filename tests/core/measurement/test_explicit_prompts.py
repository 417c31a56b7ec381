"""Prompts that name a class."""

import pytest

from invdiff.core.measurement.explicit_prompts import keeping, named_class, named_prompts, showing


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


def test_a_word_for_the_same_class_names_it():
    classes = ["female", "male"]
    assert named_class("a woman wearing a hat", classes) == "female"
    assert named_class("Two men", classes) == "male"
    assert named_class("a man and a woman", classes) is None
    assert named_class("a female woman", classes) == "female"
    assert named_class("a human", classes) is None
    assert named_class("a male nurse", ["woman", "man"]) == "man"


NAMED = {"a man": "male", "a woman": "female"}


def test_shown_and_kept_are_about_prompts_that_name_a_class():
    prompts = ["a man", "a man", "a woman", "a woman", "a person"]
    first = ["male", "female", "female", "female", "male"]
    second = ["male", "male", "male", "unclear", "female"]
    assert named_prompts(prompts, ["female", "male"]) == NAMED
    assert showing(prompts, first, NAMED) == (3, 4)
    assert showing(prompts, second, NAMED) == (2, 4)
    assert keeping(prompts, first, second, NAMED) == (1, 3)
    assert keeping(prompts, first, second, {"a man": "male"}) == (1, 1)
    assert keeping(["a man"], ["female"], ["male"], NAMED) == (0, 0)
