"""The notebook, run as a reader would run it, as far as CartPole goes."""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.helpers.settings import ROOT

NOTEBOOK = ROOT / "examples" / "first_steps.ipynb"


def test_the_notebook_is_shown_with_what_it_printed_and_drew():
    assert NOTEBOOK.stat().st_size < 300_000
    cells = [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    shown = {kind for output in outputs for kind in output.get("data", {})}
    assert {"image/png", "image/webp"} <= shown
    assert "finished after 120 iterations" in str(outputs)


@pytest.mark.slow
def test_cartpole_is_trained_twice_and_drawn(tmp_path):
    notebook = nbformat.read(NOTEBOOK, 4)
    cows = next(n for n, cell in enumerate(notebook.cells) if cell.source.startswith("## A cow hunter"))
    notebook.cells = notebook.cells[:cows]
    folder = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=1200, coalesce_streams=True, resources=folder).execute()
    (run_dir,) = (tmp_path / "runs" / "first_steps").iterdir()
    assert {folder.name for folder in run_dir.iterdir()} == {"cartpole", "slow"}
    assert "finished after 60 iterations" in notebook.cells[3].outputs[0].text
    assert "image/png" in notebook.cells[-1].outputs[-1].data
