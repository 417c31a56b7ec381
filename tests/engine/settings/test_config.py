"""The configuration: everything wrong is found at once, and nothing in it is idle."""

import ast
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import invdiff
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings import schema
from invdiff.errors import ConfigError

PACKAGE = Path(invdiff.__file__).parent
FIELDS = [key for key, _ in configuration.fields()]


def problems_of(values=None, overrides=()):
    with pytest.raises(ConfigError) as caught:
        configuration.load(values or {}, overrides)
    return caught.value.problems


def section_names_in(tree):
    """Names and attributes of a module that hold a section, as {"asked": {"train"}}."""
    types = {f"{name.capitalize()}Section": name for name in schema.Config.model_fields}
    held = defaultdict(set)

    def note(target, value):
        name = getattr(target, "id", None) or getattr(target, "attr", None)
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, other in zip(target.elts, value.elts, strict=True):
                note(one, other)
        elif name and isinstance(value, ast.Attribute):
            held[name].add(value.attr)

    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                note(target, node.value)
        annotation = getattr(node, "annotation", None)
        kind = getattr(annotation, "id", None) or getattr(annotation, "attr", None)
        if kind in types:
            name = getattr(node, "arg", None) or getattr(node.target, "id", None)
            held[name].add(types[kind])
    return held


def settings_read():
    """Every ``section.field`` that a module of the package reads, settings and plan aside."""
    read = set()
    own = {*(PACKAGE / "engine/settings").glob("*.py"), PACKAGE / "engine/preflight/plan.py"}
    for path in set(PACKAGE.rglob("*.py")) - own:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        held = section_names_in(tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute):
                continue
            owner = getattr(node.value, "attr", None) or getattr(node.value, "id", "")
            read |= {f"{section}.{node.attr}" for section in {owner} | held[owner]}
            if owner in ("config", "folder"):
                read.add(node.attr)
    # Which of the two names the estimator is decided in one place, for all that ask.
    return read | ({"discover.estimator", "study.estimator"} if "estimator" in read else set())


READ = settings_read()


def test_a_user_has_sixty_settings_at_most():
    assert 50 < len(FIELDS) <= 60
    assert len(set(FIELDS)) == len(FIELDS)


@pytest.mark.parametrize("key", configuration.flatten(schema.Config()))
def test_every_setting_is_read_by_something(key):
    assert key in READ


@pytest.mark.parametrize("key", FIELDS)
def test_every_setting_says_what_it_is(key):
    description = dict(configuration.fields())[key].description
    assert description.endswith(".")
    assert len(description) > 15


def test_the_defaults_come_back_from_their_text():
    config = schema.Config()
    for comments in (False, True):
        text = configuration.dump(config, comments)
        assert configuration.load(tomllib.loads(text)) == config


@given(column=st.text(), prompts=st.lists(st.text(min_size=1)), rate=st.floats(1e-9, 1))
def test_any_text_and_number_comes_back(column, prompts, rate):
    try:
        column.encode(), "".join(prompts).encode()
    except UnicodeEncodeError:
        return  # lone surrogates are no text
    values = {"data": {"label_column": column}, "sample": {"prompts": prompts}}
    config = configuration.load(values | {"train": {"learning_rate": rate}})
    assert configuration.load(tomllib.loads(configuration.dump(config))) == config


def test_file_then_overrides(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[train]\nsteps = 7\nrank = 2\n")
    config = configuration.load(
        path, ["train.steps=9", "data.label_column=2024", "model.path=org/name"]
    )
    assert (config.train.steps, config.train.rank) == (9, 2)
    assert (config.data.label_column, config.model.path) == ("2024", "org/name")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("sample.strength=auto", "auto"),
        ("sample.strength=1.5", 1.5),
        ("sample.window=[0.2, 1]", [0.2, 1.0]),
        ('sample.prompts=["a cat"]', ["a cat"]),
        ("train.learning_rate=1e-4", 1e-4),
        ('data.label_column="quoted"', "quoted"),
        ("data.label_column=a = b", "a = b"),
        ("data.label_column=", ""),
    ],
)
def test_override_values(text, value):
    config = configuration.load({}, [text])
    assert configuration.flatten(config)[text.partition("=")[0]] == value


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("train.steps", "100", "must be a whole number"),
        ("train.steps", 1.0, "must be a whole number"),
        ("train.steps", True, "must be a whole number"),
        ("train.steps", -1, "must be at least 0"),
        ("train.rank", 0, "must be at least 1"),
        ("train.batch_size", 3, "must be even"),
        ("train.learning_rate", float("nan"), "must be a finite number"),
        ("train.learning_rate", 0, "must be greater than 0"),
        ("train.prompt_dropout", 1.0, "must be less than 1"),
        (
            "study.objective",
            "best",
            'must be one of "regret", "plain", "groupdro", "pooled", "reference"',
        ),
        ("data.path", "", "must not be empty"),
        ("data.max_bad_share", 1.5, "must be at most 1"),
        ("discover.levels", [0.9, 0.9], "name each noise level only once"),
        ("discover.levels", [0.0], "must be greater than 0"),
        ("discover.levels", [1.5], "must be at most 1"),
        ("discover.levels", [], "must have at least 1 item"),
        ("discover.levels", 0.9, "must be a list"),
        ("discover.draws", 1, "must be at least 2"),
        ("calibrate.strengths", [0.0, 0.5], "must be ascending and contain 1.0"),
        ("calibrate.strengths", [1.0, 0.5], "must be ascending and contain 1.0"),
        ("study.arms", [], "must have at least 1 item"),
        ("study.arms", ["base", "base"], "name each arm only once"),
        ("study.arms", ["both"], 'must be one of "base", "guided"'),
        ("sample.guidance_scales", [0.5], "must be at least 1"),
        ("sample.guidance_scales", [2.5, 2.5], "name each guidance scale only once"),
        ("sample.images_per_prompt", 0, "must be at least 1"),
        ("sample.strength", "full", 'must be a number of at least 0, or "auto"'),
        ("sample.strength", -1.0, 'must be a number of at least 0, or "auto"'),
        ("sample.window", [1.0, 0.0], "must be [start, stop] with start < stop"),
        ("sample.window", [0.5, 0.5], "must be [start, stop] with start < stop"),
        ("sample.window", [0.0, 0.5, 1.0], "must have at most 2 items"),
        ("sample.prompts", [1], "must be text"),
    ],
)
def test_one_wrong_value_is_one_line(key, value, rule):
    section, name = key.split(".")
    (problem,) = problems_of({section: {name: value}})
    assert problem.startswith(f"{key}: ")
    assert rule in problem
    assert ", but is " in problem


@pytest.mark.parametrize(
    ("other", "key"),
    [
        ("discover.target=[0.7,0.3]", "discover.target"),
        ("discover.estimator=labels", "discover.attributes"),
    ],
)
def test_what_several_attributes_cannot_be_balanced_with(other, key):
    with pytest.raises(ConfigError, match=key):
        configuration.load(None, ["discover.attributes=2", other, "data.path=faces"])
    assert configuration.load(None, ["discover.attributes=2"]).discover.attributes == 2


def test_all_problems_come_together(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('seed = "3"\n[train]\nstepps = 3\nbatch_size = 5\n')
    with pytest.raises(ConfigError) as caught:
        configuration.load(path, ["data.path=/x", "discover.estimator=labels", "sample.batches=2"])
    told = "\n".join(caught.value.problems)
    for part in (
        "seed:",
        "train.stepps",
        "train.batch_size:",
        "--sample.batches",
        "data.label_column:",
    ):
        assert part in told
    assert len(caught.value.problems) == 5


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("train.stepz", "train.steps"),
        ("sample.tolerance", "calibrate.tolerance"),
        ("learning_rate", "train.learning_rate"),
        ("evalute.attribute", "evaluate.attribute"),
    ],
)
def test_misspelt_settings_get_the_nearest_name(written, meant):
    (problem,) = problems_of({}, [f"{written}=1"])
    assert problem == f"--{written}: no such setting; did you mean --{meant}?"


def test_misspelt_sections_get_the_nearest_name():
    assert problems_of({"tran": {"steps": 1}}) == ("tran: no such setting; did you mean train?",)


def test_a_section_that_is_a_number():
    (problem,) = problems_of({"train": 3}, ["train.steps=4"])
    assert problem.startswith("train: must be a section of its own")


def test_labels_need_a_column_unless_the_set_is_embedded():
    labels = {"discover": {"estimator": "labels"}}
    (problem,) = problems_of(labels | {"data": {"path": "/pictures"}})
    assert problem.startswith("data.label_column: ")
    assert configuration.load(labels).discover.estimator == "labels"
    data = {"path": "/pictures", "label_column": "gender"}
    assert configuration.load(labels | {"data": data}).data.label_column == "gender"


def test_the_faces_classifier_knows_faces_only():
    values = {"data": {"path": "/pictures"}, "evaluate": {"classifier": "faces"}}
    assert problems_of(values)[0].startswith("evaluate.classifier: ")


def test_files_that_are_none(tmp_path):
    broken, binary = tmp_path / "broken.toml", tmp_path / "binary.toml"
    broken.write_text("seed = 1\n[train\n")
    binary.write_bytes(b"\xff\xfe\x00")
    for path, words in [
        (tmp_path / "nowhere.toml", "no such config file"),
        (tmp_path, "is a folder"),
        (broken, "line 2"),
        (binary, "not UTF-8"),
    ]:
        with pytest.raises(ConfigError, match=words) as caught:
            configuration.load(path)
        assert len(caught.value.problems) == 1


def test_a_broken_file_does_not_hide_wrong_overrides(tmp_path):
    with pytest.raises(ConfigError) as caught:
        configuration.load(tmp_path, ["train.stepz=3"])
    assert len(caught.value.problems) == 2


def test_unknown_presets_are_answered_with_the_known():
    with pytest.raises(ConfigError, match=r"there are: .*faces, .*faces-quick"):
        configuration.preset("face")


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="frozen"):
        schema.Config().train.steps = 3


def test_the_schema_knows_ranges():
    steps = configuration.schema()["$defs"]["TrainSection"]["properties"]["steps"]
    assert steps["minimum"] == 0
    assert steps["description"]
