"""The examples run: the notebook in a kernel, the script in this process, on the tiny backbone."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from adapters_xtl.backbones import embedded

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "stack_in_five_minutes.ipynb"


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and environment variables for a short run on `tiny`."""
    embedded.prepare(lambda text: None)
    monkeypatch.setenv("XTL_EXAMPLE_BACKBONE", "tiny")
    monkeypatch.setenv("XTL_EXAMPLE_STEPS", "2")
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter" / name))
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent), prepend=":")
    (tmp_path / "jupyter").mkdir()
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def outputs(notebook: Any, start: str) -> list[Any]:
    """What the cell that begins so has put out."""
    (cell,) = [cell for cell in notebook.cells if cell.source.startswith(start)]
    return list(cell.outputs)


# of the kernel's own libraries: nothing that the notebook does
@pytest.mark.filterwarnings("default")
@pytest.mark.slow
def test_the_notebook_runs_from_a_module_to_a_shared_stack(workshop: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(workshop)}},
    ).execute()
    shown = outputs(notebook, "nli = xtl.recipe")
    html = [output.data["text/html"] for output in shown if "data" in output]
    assert len(html) == 1 and "accuracy" in html[0], "a run shows its scores"
    text = "".join(output.text for output in shown if output.output_type == "stream")
    assert "training mnli" in text
    red = [output.text for output in shown if output.get("name") == "stderr"]
    assert not red, "what is no error is not shown as one"
    assert len(text.splitlines()) < 40, "progress is one line that is rewritten"
    (plot,) = [output for output in outputs(notebook, "stack.plot()") if "data" in output]
    assert "image/png" in plot.data
    (answers,) = outputs(notebook, "model = xtl.load")[-1:]
    assert "prediction" in answers.data["text/plain"]
    assert (workshop / "hub").is_dir() and (workshop / "pulled" / "bundle.json").is_file()


def test_the_notebook_as_it_is_published_names_nothing_of_a_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    for private in ("/tmp", "/home", "/root", "/work", str(Path.home()), ".cache"):
        assert private not in text, private
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    errors = [
        o for cell in notebook.cells for o in cell.get("outputs", ()) if o.output_type == "error"
    ]
    assert not errors


def test_the_script_trains_on_own_rows(
    workshop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["own_rows.py"])
    runpy.run_path(str(EXAMPLES / "own_rows.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert "sw" in shown and "file:" in shown and ("good" in shown or "bad" in shown)
    (card,) = (workshop / "hub").rglob("README.md")
    assert "license: cc-by-4.0" in card.read_text() and "made-up reviews" in card.read_text()
