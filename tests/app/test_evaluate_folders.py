"""Two folders measured as their user sees it: files, figures, warnings, mistakes."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import invdiff
from invdiff.app.cli import main
from invdiff.data.sets.drawn import faces
from invdiff.engine.comparison import features
from invdiff.errors import MissingExtra
from invdiff.model.vision.extractors import networks
from tests.app.html_page import Page

EACH = 48


def lay_out(root, split, seed, prompts=True, each=EACH):
    """Faces of a split, a sub-folder for each prompt, with their gender in a table or not."""
    pictures, texts = faces.pictures(split), faces.prompts(split)
    gender = faces.attributes(split)["gender"]
    random, rows = np.random.default_rng(seed), [["file_name", "caption", "gender"]]
    for text in sorted(set(texts)):
        own = [row for row, one in enumerate(texts) if one == text]
        for number, row in enumerate(random.permutation(own)[:each]):
            name = f"{text.replace(' ', '_')}/{number:03d}.png"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pictures[row]).save(root / name)
            rows.append([name, text, gender[row]])
    if prompts:
        with (root / "metadata.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
    return root


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("folders")
    return lay_out(root / "before", "train", 0), lay_out(root / "after", "balanced", 1)


@pytest.fixture(scope="module")
def measured(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    words = ["evaluate", *map(str, folders), "--classifier", "faces"]
    options = ["--extractor", "faces", "--resamples", "200", "--target", "female=0.5,male=0.5"]
    assert main([*words, *options, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def record(measured):
    return json.loads((measured / "metrics.json").read_text())


def figure(record, name, of, **where):
    (found,) = [
        one
        for one in record["figures"]
        if (one["figure"], one["of"]) == (name, of) and where.items() <= one.items()
    ]
    return found


def test_the_folders_mend_a_bias_and_the_figures_say_so(record):
    before, after = (figure(record, "bias", of, attribute="gender") for of in ("a", "b"))
    assert before["low"] > after["value"]
    more = figure(record, "bias", "b - a", attribute="gender")
    assert more["high"] < 0
    assert more["value"] == pytest.approx(after["value"] - before["value"])
    assert figure(record, "prompt_fidelity", "b")["value"] > 0.95
    off = figure(record, "off_target", "a", attribute="gender")
    assert off["target"] == {"female": 0.5, "male": 0.5}


def test_every_figure_names_what_it_depends_on(record):
    for one in record["figures"]:
        assert one["protocol"] == "standard"
        assert one["seed"] == 0
        assert "torch 2" in one["versions"]
        assert one["images"] > 0
        if one["figure"] in ("frechet", "kid", "precision", "diversity"):
            assert one["extractor"] == "faces"
            assert re.fullmatch("[0-9a-f]{64}", one["extractor_sha256"])
    names = {one["figure"] for one in record["figures"]}
    assert {"kid", "recall", "density", "coverage", "worst_prompt", "share"} <= names


def test_few_pictures_are_warned_about(record):
    told = " ".join(record["warnings"])
    assert f"Few pictures ({4 * EACH})" in told
    assert f"Few pictures of some prompts (down to {EACH})" in told
    assert "it knows the package's cartoon faces and nothing else" in told
    assert "CLIP-T was not measured" in record["not_measured"][0]


def test_the_report_opens_offline(measured, record):
    html = (measured / "report.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", html)
    page = Page(html)
    assert page.open == []
    assert len(page.pictures) == 8
    assert len(page.drawings) == 2  # Bias and shares
    bias = figure(record, "bias", "b", attribute="gender")
    shown = f"{bias['value']:.2f} {bias['low']:.2f} to {bias['high']:.2f}"
    assert page.tables["Bias of gender"]["Bias"][1] == shown
    assert set(page.tables["Bias of gender"]) >= {"Bias-corrected", "Classifier-corrected"}
    share = figure(record, "share", "a", prompt="a person", **{"class": "male"})
    cell = page.tables["Shares of gender"]["a person: male"][0]
    assert cell.startswith(f"{share['value']:.0%} ")
    assert cell.endswith(f"; {share['count']} of {EACH}")
    assert {"Bias of gender", "Diversity within prompts"} <= set(page.findings)


def test_tables_are_csv_and_latex(measured, record):
    with (measured / "table-bias-gender.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[0]["after"]) == figure(record, "bias", "b", attribute="gender")["value"]
    latex = (measured / "table-distances.tex").read_text()
    assert latex.count(r"\\") == 7
    assert r"95\% intervals" in latex
    with (measured / "figures.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(record["figures"])


def test_the_methods_section_has_counts_hashes_seeds_and_versions(measured, record):
    text = (measured / "methods.md").read_text()
    for wanted in (f"has {4 * EACH} pictures of 32 x 32", "k = 5", "seed 0", "torch 2", "99.6% of"):
        assert wanted in text
    assert record["sets"]["a"]["sha256"] in text
    assert record["extractors"]["faces"]["sha256"] in text


def test_features_are_computed_once_for_a_content(folders, measured, monkeypatch):
    def never(*_):
        raise AssertionError("features were in the cache")

    monkeypatch.setattr(features.Look, "__call__", never)
    again = invdiff.evaluate_folders(*folders, measured, extractors=["faces"], resamples=200)
    assert figure(again, "kid", "b")["images"] == 4 * EACH


def test_with_a_reference_both_are_measured_and_their_difference(folders, tmp_path):
    first, second = folders
    found = invdiff.evaluate_folders(
        first, second, tmp_path, reference=second, extractors=["faces"], resamples=200
    )
    kid = {of: figure(found, "kid", of, against="reference") for of in ("a", "b", "b - a")}
    assert kid["a"]["value"] > kid["b"]["value"]
    assert kid["b - a"]["note"] == "paired by name"
    assert figure(found, "coverage", "b")["value"] == 1


def test_flat_folders_without_prompts_have_distances(tmp_path, folders):
    for name, folder in zip(("one", "two"), folders, strict=True):
        (tmp_path / name).mkdir()
        for number, path in enumerate(sorted(folder.rglob("*.png"))):
            (tmp_path / name / f"{number}.png").write_bytes(path.read_bytes())
    found = invdiff.evaluate_folders(
        tmp_path / "one", tmp_path / "two", tmp_path / "out", extractors=["pixels"], resamples=200
    )
    assert found["sets"]["a"]["prompts"] == {"all pictures": 4 * EACH}
    assert figure(found, "kid", "b")["low_over_prompts"] != figure(found, "kid", "b")["low"]
    assert "pixel means on an 8 x 8 grid" in " ".join(found["warnings"])
    assert f"192 features and the smallest set {4 * EACH}" in " ".join(found["warnings"])


def test_without_its_extra_the_default_extractor_is_refused_by_name(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "PACKAGE", "no_such_package")
    with pytest.raises(MissingExtra, match=r"invdiff\[eval\].*'pixels' needs nothing"):
        invdiff.evaluate_folders(*folders, tmp_path / "out")
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_the_official_protocol_has_its_choices(folders, tmp_path):
    found = invdiff.evaluate_folders(
        *folders, tmp_path, protocol="official", extractors=["pixels"], resamples=200
    )
    assert found["protocol"]["resized_to"] == 255
    assert found["protocol"]["neighbours"] == 2
    assert "1024 draws with replacement" in figure(found, "frechet", "b")["note"]
    assert "asks for the features of inception and vgg16" in " ".join(found["warnings"])
    assert not [one for one in found["figures"] if one["figure"] == "kid"]


def test_prompts_that_name_a_class_are_held_to_it(tmp_path):
    random = np.random.default_rng(0)
    for name in ("one", "two"):
        rows = [["file_name", "caption", "gender", "age"]]
        (tmp_path / name).mkdir()
        for number in range(40):
            named = number % 2
            gender = "male" if named or random.random() < 0.5 else "female"
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
            prompt = "a male nurse" if named else "a <b>nurse</b>"
            rows.append([f"{number}.png", prompt, gender, random.choice(["old", "young"])])
        with (tmp_path / name / "metadata.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
    found = invdiff.evaluate_folders(
        tmp_path / "one", tmp_path / "two", tmp_path / "out", extractors=["pixels"],
        labels=["gender", "age"], resamples=200,
    )  # fmt: skip
    explicit = figure(found, "explicit_fidelity", "a", attribute="gender")
    assert (explicit["value"], explicit["images"]) == (1, 20)
    kept = figure(found, "explicit_kept", "b", attribute="gender")
    assert (kept["value"], kept["count"], kept["images"]) == (1, 20, 20)
    assert figure(found, "bias", "a", attribute="gender")["images"] == 20
    assert figure(found, "bias", "a", attribute="age")["images"] == 40
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert page.all("b") == []
    assert "a <b>nurse</b>: female" in page.tables["Shares of gender"]
    crossed = figure(found, "bias", "a", attribute="gender x age")
    assert 0 < crossed["value"] < 0.5


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["A"], 2, "evaluate takes two folders, not 1"),
        (["A", "B", "--preset", "faces"], 2, "two folders have options of their own"),
        (["A", "B", "--train.steps", "5"], 2, "two folders have options of their own"),
        (["--reference", "R"], 2, "--reference: for two folders, as in `invdiff evaluate A B"),
        (["A", "B", "--target", "male"], 2, "'male' is not CLASS=SHARE"),
        (["A", "B", "--target", "m=0.5,f=0.4"], 2, "add up to 1"),
        (["A", "B", "--size", "2"], 2, "--size: must be a whole number of at least 8"),
        (["A", "B", "--protocol", "mine"], 2, "there is no protocol 'mine': take standard or"),
        (["nowhere", "nothing"], 1, "nowhere does not exist"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, words, code, message):
    assert main(["evaluate", *words, "--out", str(tmp_path / "out")]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_sets_of_two_sizes_are_refused(folders, tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    with pytest.raises(invdiff.errors.DataError, match="differ in size"):
        invdiff.evaluate_folders(folders[0], tmp_path, tmp_path / "out")


def test_a_plain_script_needs_no_guard_around_its_main_part(tmp_path):
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(260):  # enough for workers, which would import the script again
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    script = tmp_path / "script.py"
    script.write_text(
        "import invdiff\n"
        "found = invdiff.evaluate_folders('a', 'b', 'out', extractors=['pixels'], resamples=100)\n"
        "print(found['sets']['a']['images'])\n"
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["260"]), done.stderr


def test_a_column_named_twice_is_told(folders, tmp_path, capsys):
    words = ["evaluate", *map(str, folders), "--labels", "gender,gender"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    assert "labels: must name each column once" in capsys.readouterr().err


def test_a_folder_of_one_picture_is_not_told_to_sample(tmp_path, capsys):
    for name, count in (("one", 1), ("many", 8)):
        (tmp_path / name).mkdir()
        for k in range(count):
            pixels = np.random.default_rng(k).integers(0, 255, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{k}.png")
    words = ["evaluate", str(tmp_path / "one"), str(tmp_path / "many"), "--extractor", "pixels"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "is 1, and 2 are needed" in told
    assert "sample" not in told
