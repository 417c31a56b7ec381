"""Each file in examples/ does what it says, in its quick mode and in a process of its own."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests import witness

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(name, where, *options):
    """What an example prints; it sees this source and works in ``where``."""
    command = [sys.executable, str(EXAMPLES / name), "--quick", *map(str, options)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_named_and_tested():
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    told = (EXAMPLES / "README.md").read_text()
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert len(scripts) == 4
    for name in [*scripts, "embedded_faces.ipynb"]:
        assert f"`{name}`" in told or f"[{name}]" in told
        assert f'"{name}"' in tests


def test_a_folder_of_ones_own(tmp_path):
    told = run("02_own_folder.py", tmp_path)
    assert "groups of 240 pictures" in told
    assert re.search(r"done: +discover, train, sample, evaluate, report", told)
    assert len(list((tmp_path / "runs/own-pictures").glob("*.png"))) == 240
    assert (tmp_path / "runs/own/adapter").is_dir()


def test_two_folders(tmp_path):
    told = run("03_two_folders.py", tmp_path)
    figures = dict(re.findall(r"^Bias, (.+): (-?[\d.]+) ", told, re.M))
    record = json.loads((tmp_path / "runs/compared/metrics.json").read_text())
    known = {
        one["of"]: f"{one['value']:.3f}" for one in record["figures"] if one["figure"] == "bias"
    }
    assert figures == known
    assert float(figures["a"]) > 0.5 > 0.2 > float(figures["b"])


def test_two_folders_of_ones_own(tmp_path):
    """The options are read: the given folders are measured, and none are made."""
    for name, grey in (("one", 40), ("two", 200)):
        for number in range(12):
            place = tmp_path / name / f"{number:02d}.png"
            place.parent.mkdir(exist_ok=True)
            Image.new("RGB", (32, 32), (grey, number * 9, grey)).save(place)
    run(
        "03_two_folders.py",
        tmp_path,
        *("--first", "one", "--second", "two", "--out", "seen"),
    )
    record = json.loads((tmp_path / "seen/metrics.json").read_text())
    assert not (tmp_path / "seen-pictures").exists()
    assert "12" in json.dumps(record)


# The method on arrays


@pytest.fixture(scope="module")
def arrays():
    """The example as a module."""
    spec = importlib.util.spec_from_file_location(
        "method_on_arrays", EXAMPLES / "04_method_on_arrays.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_method_on_arrays_arrives_near_the_known_answer(tmp_path):
    told = run("04_method_on_arrays.py", tmp_path)
    right = float(re.search(r"planted: ([\d.]+)%", told)[1])
    before, after = map(float, re.search(r"score: (\S+) before, (\S+) after", told).groups())
    first, second = (float(value) for value in re.findall(r"Bias (\S+) \[", told))
    assert right > 98
    assert "read from what each picture costs under every prompt" in told
    assert after < 0.3 * before  # measured: 0.20
    assert second < 0.3 < 0.7 < first


def test_its_exact_score_is_that_of_the_witness(arrays):
    """Two formulas written apart, at every noise level and for any shares."""
    random = torch.Generator().manual_seed(0)
    noisy, timestep = torch.randn((300, 2), generator=random), torch.randint(1, 1000, (300,))
    told = torch.eye(2)[torch.randint(2, (300,))] * (torch.rand(300) > 0.3)[:, None]
    for shares in (witness.SKEWED, witness.EVEN, {"a": 0.3, "b": 0.6}):
        ours = arrays.Exact(shares)(noisy, timestep, told)
        theirs = witness.Exact(shares)(noisy, timestep, told[:, None])
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_its_min_step_needs_the_groups(arrays):
    """Groups that are chance leave the skew where it is: what mends it is who is in which."""
    random = np.random.default_rng(0)
    data = arrays.draw(arrays.SKEWED, 300, random)
    unusual = data.attribute == (np.array(data.prompts) == "a")
    reached = {}
    for name, member in (("true", unusual), ("chance", random.permutation(unusual))):
        guided = arrays.min_step(
            arrays.Exact(arrays.SKEWED), data, np.stack([~member, member], 1) * 1.0, steps=120
        )
        reached[name] = arrays.distance(guided, 500)
    base = arrays.distance(arrays.Exact(arrays.SKEWED), 500)
    assert reached["true"] < 0.4 * base
    assert reached["chance"] > 0.7 * base
