"""Executes the example notebook as a reader would, on `mini`, and keeps what it shows and its time.

    .venv/bin/python benchmarks/notebook.py

The notebook runs in an empty directory, with the embedded encoder prepared before the clock starts
(its download is not the notebook's). Its outputs go back into examples/stack_in_five_minutes.ipynb,
so that it can be read without running it; the seconds of every cell go to
benchmarks/results/notebook-mini.json.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from adapters_xtl.backbones import embedded
from adapters_xtl.base.machine import usable_cores

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples" / "stack_in_five_minutes.ipynb"
RESULT = ROOT / "benchmarks" / "results" / "notebook-mini.json"
KEPT = ("name", "display_name", "language")  # of the kernel's description: nothing of this machine


def main() -> None:
    embedded.prepare(print)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as empty:
        client = NotebookClient(
            notebook, timeout=1800, kernel_name="python3", resources={"metadata": {"path": empty}}
        )
        started = time.perf_counter()
        with client.setup_kernel():
            for number, cell in enumerate(notebook.cells):
                before = time.perf_counter()
                client.execute_cell(cell, number)
                if cell.cell_type == "code":
                    first = cell.source.splitlines()[0]
                    seconds = round(time.perf_counter() - before, 1)
                    cells.append({"cell": first, "seconds": seconds})
                    print(f"{seconds:7.1f} s  {first}")
        total = round(time.perf_counter() - started, 1)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell ran
    kernel = notebook.metadata.get("kernelspec", {})
    notebook.metadata = {
        "kernelspec": {key: kernel[key] for key in KEPT if key in kernel},
        "language_info": {"name": "python"},
    }
    # places of bundles are whole paths: what is kept names no directory of this machine
    text = nbformat.writes(notebook).replace(f"{empty}/", "")
    NOTEBOOK.write_text(text + "\n", encoding="utf-8")
    record = {
        "command": ".venv/bin/python benchmarks/notebook.py",
        "cores": usable_cores(),
        "wall_seconds": total,
        "cells": cells,
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{total:7.1f} s in all, on {usable_cores()} cores")


if __name__ == "__main__":
    main()
