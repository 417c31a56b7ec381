"""Tables of any length: the same groups as in memory, row by row, whatever the batches are."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import large_tables
from invdiff.core.discovery.candidates import exact_split
from invdiff.engine.storage.files import write_parquet
from invdiff.errors import DataError


def table(path, count=3000, prompts=3, **changes):
    draw = np.random.default_rng(0)
    code = draw.integers(0, prompts, count)
    score = code + np.where(draw.random(count) < 0.2, 5, 0) + draw.normal(size=count)
    columns = {"sample_id": [f"{k:016x}" for k in range(count)], "prompt": code.astype(str)}
    columns |= {"excess": score} | changes
    return write_parquet(path, columns), code, score


@pytest.mark.parametrize("rows", [100, 1 << 17])
def test_every_row_is_split_within_its_prompt(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(large_tables, "ROWS", rows)
    source, code, score = table(tmp_path / "scores.parquet")
    found = pq.read_table(large_tables.group_parquet(source, tmp_path / "groups.parquet"))
    assert found.column_names == ["sample_id", "prompt", "excess", "q_1"]
    assert found.drop(["q_1"]).equals(pq.read_table(source))
    q = found["q_1"].to_numpy()
    for k in range(3):
        assert np.array_equal(q[code == k] > 0.5, exact_split(score[code == k], 0.02))


def test_the_mixture_gives_the_side_that_costs_more(tmp_path):
    source, code, score = table(tmp_path / "scores.parquet")
    found = large_tables.group_parquet(source, tmp_path / "groups.parquet", rule="mixture")
    q = pq.read_table(found)["q_1"].to_numpy()
    assert ((q > 0.5) == (score - code > 2.5)).mean() > 0.98
    assert ((q > 0) & (q < 1)).any()


def test_nothing_else_is_left_behind(tmp_path):
    large_tables.group_parquet(table(tmp_path / "scores.parquet")[0], tmp_path / "groups.parquet")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["groups.parquet", "scores.parquet"]


def test_a_column_that_is_missing_is_named(tmp_path):
    source, _, _ = table(tmp_path / "scores.parquet")
    with pytest.raises(DataError, match="no column 'loss'; there are: sample_id, prompt, excess"):
        large_tables.group_parquet(source, tmp_path / "groups.parquet", score="loss")


def test_scores_that_are_no_numbers_are_refused(tmp_path):
    source, _, score = table(tmp_path / "scores.parquet")
    score[7] = np.nan
    table(tmp_path / "scores.parquet", excess=score)
    with pytest.raises(DataError, match="'excess' has scores that are not finite"):
        large_tables.group_parquet(source, tmp_path / "groups.parquet")
    assert not (tmp_path / "groups.parquet").exists()
