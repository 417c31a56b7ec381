"""The embedded faces end to end, as a script and as a notebook, which is kept without outputs.

Both name one run: what the script has done the notebook finds done.
"""

import re

import nbformat
import pytest
from nbclient import NotebookClient

from tests.examples.test_examples import EXAMPLES, ROOT, run

NOTEBOOK = EXAMPLES / "embedded_faces.ipynb"

# tornado and pyzmq, of versions that the kernel's client has not caught up with
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def test_the_notebook_is_kept_without_outputs():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_the_script_and_then_the_notebook_run(tmp_path, monkeypatch):
    told = run("01_embedded_faces.py", tmp_path)
    assert "groups of 8000 pictures" in told
    assert re.search(r"guidance scale 2\.5: Bias [01]\.\d\d \[.*before, .* of 16 pictures", told)
    assert (tmp_path / "runs/faces/report.html").is_file()
    stages = {path: path.read_bytes() for path in (tmp_path / "runs/faces/stages").iterdir()}
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
    assert len(stages) == 5
    assert all(path.read_bytes() == before for path, before in stages.items())
