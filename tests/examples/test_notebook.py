"""The notebook in examples/ runs from its first cell to its last and is kept without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "embedded_faces.ipynb"

# tornado and pyzmq, of versions that the kernel's client has not caught up with
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def test_the_notebook_is_kept_without_outputs():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.delenv("MPLBACKEND")  # the kernel shows figures in the notebook
    book = nbformat.read(NOTEBOOK, as_version=4)
    (switch,) = [cell for cell in book.cells if cell.source == "quick = False"]
    switch.source = "quick = True"
    client = NotebookClient(book, timeout=280, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [
        output.get("data", {})
        for cell in book.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    texts = [data.get("text/plain", "") for data in outputs]
    assert any("groups of 8000 pictures" in text for text in texts)
    assert any("guidance scale 2.5: Bias" in text for text in texts)
    assert any("<table>" in data.get("text/html", "") for data in outputs)
    assert sum("image/png" in data for data in outputs) == 1
    assert (tmp_path / "runs/faces/report.html").is_file()
