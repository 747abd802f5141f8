"""Importing bitsandbytes fetches no kernel, whatever packages are installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# What bitsandbytes 0.50 does at import on a CPU with AVX512-BF16, which not every machine has; on
# one that has it, tests/backbones/test_config.py imports the real one.
FETCHES = """
try:
    from kernels import get_kernel
    kernel = get_kernel("kernels-community/quantization-bitsandbytes", version=1)
except Exception as error:
    kernel = repr(error)
"""
SCRIPT = """
import sys
if "before" in sys.argv:
    import kernels
import adapters_xtl
from bitsandbytes.backends.cpu import ops
assert "No module" in ops.kernel or "halted" in ops.kernel, ops.kernel
import kernels  # others of the process still have it
assert kernels.get_kernel("x", version=1) == "foreign code"
assert ops.__file__.endswith("ops.py") and ops.__spec__.loader is not None
"""


@pytest.mark.parametrize("words", [(), ("before",)], ids=["first", "after kernels"])
def test_bitsandbytes_fetches_no_kernel(words: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "bitsandbytes" / "backends" / "cpu"
    folder.mkdir(parents=True)
    for each in (folder, folder.parent, folder.parent.parent):
        (each / "__init__.py").write_text("")
    (folder / "ops.py").write_text(FETCHES)
    (tmp_path / "kernels.py").write_text("def get_kernel(name, version): return 'foreign code'\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", ""), os.getcwd()])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
