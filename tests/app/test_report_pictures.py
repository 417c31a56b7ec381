"""The pictures of the report: grids of samples, and drawings."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from invdiff.app.report import montage, plots
from invdiff.app.report.inputs import Inputs
from invdiff.app.report.quantities import Quantity
from invdiff.data.sources import open_samples
from tests.app.html_page import svg_text
from tests.app.report_fixture import GLASSES, HAT

# pictures


def tiles(grid: montage.InlinePicture) -> list[tuple[int, ...]]:
    """The colour in the middle of every tile, row by row."""
    sheet = Image.open(io.BytesIO(base64.b64decode(grid.uri.partition(",")[2]))).convert("RGBA")
    assert sheet.size == (grid.width, grid.height)
    edge = (grid.width + montage.GAP) // montage.COLUMNS
    rows = range(edge // 2, grid.height, edge)
    return [sheet.getpixel((x, y)) for y in rows for x in range(edge // 2, grid.width, edge)]


def plain(colour: int) -> np.ndarray:
    return np.full((8, 8, 3), colour, dtype=np.uint8)


def test_a_grid_is_filled_row_by_row_and_clear_where_it_ends() -> None:
    grid = montage.grid([plain(20 * k) for k in range(10)])
    shown = tiles(grid)
    assert [colour[0] for colour in shown[:10]] == [20 * k for k in range(10)]
    assert all(colour[3] == 0 for colour in shown[10:])


def test_large_pictures_become_small_ones() -> None:
    grid = montage.grid([np.zeros((512, 512, 3), dtype=np.uint8)] * 2)
    assert (grid.width, grid.height) == (2 * montage.TILE + montage.GAP, montage.TILE)


def test_the_file_stays_small_even_when_every_picture_is_noise() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (24, 96, 96, 3)).astype(np.uint8)
    smooth = [
        np.asarray(Image.fromarray(n[:24, :24]).resize((96, 96), Image.Resampling.BICUBIC))
        for n in noise
    ]
    each = len(montage.grid(smooth).uri) / 24
    scales = 2
    generated = montage.PICTURED_PROMPTS * scales * 2
    most = generated * montage.seeds_shown(generated)
    most += montage.PICTURED_PROMPTS * 2 * montage.MOST_CERTAIN
    assert each * most < 5_500_000


@given(st.integers(0, 10_000))
def test_many_grids_show_fewer_seeds_in_full_rows(grids: int) -> None:
    seeds = montage.seeds_shown(grids)
    assert montage.COLUMNS <= seeds <= montage.SEEDS_SHOWN
    assert seeds % montage.COLUMNS == 0
    assert grids * seeds <= montage.PICTURES or seeds == montage.COLUMNS


def test_the_same_position_is_the_same_seed(known: Inputs, tmp_path: Path) -> None:
    rows = [("base", k) for k in range(12)] + [("guided", k) for k in reversed(range(12))]
    table = {"arm": [arm for arm, _ in rows], "index": [k for _, k in rows]}
    table |= {"prompt": [HAT] * 24, "scale": [1.0] * 24, "strength": [1.0] * 24}
    table |= {"seed": [100 + k for _, k in rows], "path": [f"{arm}{k}.png" for arm, k in rows]}
    for arm, k in rows:
        Image.fromarray(plain(10 * k + (5 if arm == "guided" else 0))).save(
            tmp_path / f"{arm}{k}.png"
        )
    (tmp_path / "guided3.png").unlink()
    grids = montage.generated(replace(known, path=tmp_path, samples=table), HAT, 1.0, 24)
    base, guided = ([c[0] for c in tiles(grids[arm]) if c[3]] for arm in ("base", "guided"))
    assert base == [10 * k for k in range(12) if k != 3]
    assert guided == [colour + 5 for colour in base]


def test_the_most_certain_images_come_first(known: Inputs, tmp_path: Path) -> None:
    images = np.stack([plain(10 * k) for k in range(20)])
    np.savez(tmp_path / "data.npz", images=images, prompt=np.array([GLASSES] * 20))
    samples = open_samples(tmp_path / "data.npz", 8)
    q_1 = [((7 * k) % 20) / 20 for k in range(20)]
    table = {"sample_id": list(samples.sample_id), "prompt": [GLASSES] * 20, "q_1": q_1}
    table |= {"q_0": [1 - q for q in q_1], "group": [int(q > 0.5) for q in q_1]}
    grid = montage.most_certain(replace(known, groups=table), samples, GLASSES, 1)
    assert grid is not None
    expected = sorted((k for k in range(20) if q_1[k] > 0.5), key=lambda k: -q_1[k])
    assert [c[0] for c in tiles(grid) if c[3]] == [10 * k for k in expected]
    assert grid.shows == len(expected)


# drawings


def test_a_drawing_is_the_same_every_time_and_loads_nothing() -> None:
    rows = [("prompt", Quantity(0.9, 0.8, 1.0, reference=0.05), Quantity(0.1, 0.0, 0.2))]
    first, second = (plots.dumbbell(rows, "axis", (0.0, 1.0), (0.5, "parity")) for _ in range(2))
    assert first == second
    drawing = svg_text(first.uri)
    for colour in (plots.BASE, plots.GUIDED, plots.INK, plots.MUTED, plots.LINE):
        assert colour in drawing
    for unwanted in ("<image", "<script", "@import", "url(http", "<dc:date"):
        assert unwanted not in drawing


def test_prompts_in_a_drawing_are_escaped_and_no_formulas() -> None:
    label = '<b>$5 & $6</b> "'
    drawing = svg_text(plots.dumbbell([(label, Quantity(0.9), Quantity(0.1))], "axis").uri)
    assert "<b>" not in drawing
    assert '>&lt;b&gt;$5 &amp; $6&lt;/b&gt; "</text>' in drawing


@pytest.mark.parametrize(
    "name", ["\u4e00\u4e2a\u6234\u5e3d\u5b50\u7684\u4eba", "\u0928\u092e\u0938\u094d\u0924\u0947"]
)
def test_names_in_any_script_are_text_and_warn_of_nothing(name: str) -> None:
    """Warnings are errors here; the fonts are those of who opens the page."""
    drawing = svg_text(plots.dumbbell([(name, Quantity(0.9), Quantity(0.1))], "axis").uri)
    assert f">{name}</text>" in drawing


@pytest.mark.parametrize(("letter", "kept"), [("a", 40), ("\u4eba", 20)])
def test_a_long_name_without_spaces_keeps_its_beginning(letter: str, kept: int) -> None:
    drawing = svg_text(plots.dumbbell([(letter * 70, Quantity(0.9), Quantity(0.1))], "axis").uri)
    assert f">{letter * kept} ...</text>" in drawing


def test_a_name_with_control_characters_leaves_the_drawing_well_formed() -> None:
    label = "a \x1b[31mred\x1b[0m \u202eeman"
    drawing = svg_text(plots.dumbbell([(label, Quantity(0.9), Quantity(0.1))], "axis").uri)
    shown = [element.text for element in ElementTree.fromstring(drawing).iter()]
    assert "a \\u001b[31mred\\u001b[0m \\u202eeman" in shown


def test_a_profile_leaves_out_levels_without_a_value() -> None:
    entry = {"levels": [0.5, 0.9], "with": [0.1, 0.2], "against": [None, 0.3]}
    entry |= {"with_error": [0.01, 0.01], "against_error": [None, 0.01]}
    drawing = svg_text(plots.plot_profile(entry).uri)
    marks = re.findall(rf"<use [^>]*fill: ({plots.OVER}|{plots.UNDER})", drawing)
    assert marks.count(plots.OVER) - marks.count(plots.UNDER) == 1


def test_a_dumbbell_leaves_out_what_is_not_defined() -> None:
    rows = [("nothing", Quantity(), Quantity()), ("half", Quantity(0.4), Quantity())]
    drawing = svg_text(plots.dumbbell(rows, "axis").uri)
    assert ">0.40<" in drawing
    assert plots.GUIDED not in drawing
    assert "nan" not in drawing.lower()


def test_the_tick_of_a_balanced_sampler_is_drawn_where_it_is_known() -> None:
    known, unknown = (
        svg_text(
            plots.dumbbell([("prompt", Quantity(0.9, reference=level), Quantity(0.1))], "x").uri
        )
        for level in (0.05, None)
    )
    assert known.count("<use ") == unknown.count("<use ") + 1
