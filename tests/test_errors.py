"""Errors carry what their reader needs, and importing the package stays light."""

import pickle
import subprocess
import sys

import pytest

import invdiff
from invdiff import errors

HEAVY = ("torch", "diffusers", "transformers", "peft", "pydantic", "matplotlib", "pyarrow")


def loaded_after(statement: str) -> list[str]:
    """Heavy modules that a fresh interpreter holds after ``statement``."""
    code = f"import sys\n{statement}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return list(eval(done.stdout.splitlines()[-1]))


def test_config_error_carries_every_problem():
    error = errors.ConfigError(["seed: must be at least 0", "train.step: no such setting"])
    assert error.problems == ("seed: must be at least 0", "train.step: no such setting")
    assert str(error) == "seed: must be at least 0\ntrain.step: no such setting"


def test_config_error_takes_a_single_problem():
    assert errors.ConfigError("one").problems == ("one",)


@pytest.mark.parametrize(
    "error",
    [
        errors.ArgumentError("risks", "must be two or more", 1, "add the others"),
        errors.ConfigError(["a", "b"]),
        errors.Interrupted(),
        errors.MissingExtra("lpips", "eval", "pixels need nothing"),
    ],
)
def test_errors_survive_the_way_between_processes(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


def test_interrupted_says_how_to_go_on():
    assert "run the same command again" in str(errors.Interrupted())


def test_missing_extra_names_the_extra():
    assert "pip install 'invdiff[eval]'" in str(errors.MissingExtra("lpips", "eval"))


def test_importing_invdiff_loads_nothing_heavy():
    assert loaded_after("import invdiff") == []


def test_configuration_and_run_folder_load_no_torch():
    loaded = loaded_after("import invdiff; invdiff.Config; invdiff.Run")
    assert set(loaded) <= {"pydantic"}


def test_help_loads_nothing_heavy():
    statement = "from invdiff.app.cli.parser import build; build().format_help()"
    assert loaded_after(statement) == []
    assert loaded_after("import invdiff.app.cli") == []


def test_public_names():
    assert invdiff.__version__ == "0.1.0"
    names = {"Config", "Run", "__version__", "attach", "detach", "evaluate_folders", "export"}
    arrays = {"balanced_weights", "bias", "certificate", "find_groups"}
    assert set(dir(invdiff)) == names | arrays
    for name in sorted(arrays):
        assert getattr(invdiff, name).__name__ == name
    assert invdiff.Config().train.steps > 0
    with pytest.raises(AttributeError, match="no attribute 'Rum'"):
        _ = invdiff.Rum
