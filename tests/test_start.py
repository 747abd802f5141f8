"""What a start imports: counted in modules, which a busy machine does not change."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.finished_runs import finished_run

# each costs a start a tenth of a second at least, or seconds
HEAVY = (
    "torch",
    "transformers",
    "peft",
    "adapters",
    "bitsandbytes",
    "datasets",
    "evaluate",
    "pandas",
)
PLAIN_HELP = ("numpy", "pyarrow", "rich", "jinja2", "matplotlib", "huggingface_hub", *HEAVY)


def _imported(*arguments: str | Path) -> set[str]:
    """Names of the modules that Python imports for a command, its own start left out."""

    def names(*command: str | Path) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-X", "importtime", *map(str, command)],
            capture_output=True,
            text=True,
            check=True,
        )
        lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
        return {line.rpartition("|")[2].strip() for line in lines}

    return names(*arguments) - names("-c", "pass")


def _tops(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_the_package_alone_imports_next_to_nothing() -> None:
    modules = _imported("-c", "import adapters_xtl")
    assert not _tops(modules) & {*PLAIN_HELP, "typer"}
    own = {name for name in modules if name.startswith("adapters_xtl.")}
    assert all(name.startswith("adapters_xtl.base") for name in own)
    assert len(modules) < 100


def test_help_imports_flags_and_no_library_but_typer() -> None:
    modules = _imported("-m", "adapters_xtl", "--help")
    assert not _tops(modules) & set(PLAIN_HELP)
    assert len(modules) < 230


def test_an_answer_from_the_store_imports_no_heavy_library(runs: Path) -> None:
    finished_run(runs, "pawsx", method="lora")
    flags = ["--method", "lora", "--backbone", "tiny", "--data", "embedded", "--device", "cpu"]
    flags += ["--set", "train.max_steps=3", "--set", "train.eval_every=2"]
    flags += ["--set", "train.select_examples=20", "--runs", str(runs)]
    modules = _imported("-m", "adapters_xtl", "recipe", "pawsx", *flags)
    assert not _tops(modules) & {*HEAVY, "matplotlib", "jinja2", "IPython"}
    assert len(modules) < 700


def test_no_compiler_is_imported_for_kernels_that_are_not_called() -> None:
    """bitsandbytes compiles two kernels when it is imported; torch's compiler takes two seconds."""
    code = (
        "import torch; compile = torch.compile;"
        " from adapters_xtl.backbones.quantised import import_bitsandbytes;"
        " import_bitsandbytes(); import peft, sys;"
        " from bitsandbytes.backends.default import ops;"
        " assert torch.compile is compile;"
        " assert 'bitsandbytes' in sys.modules and 'torch._inductor.compile_fx' not in sys.modules;"
        " bytes_, scales = torch.tensor([0, 255, 1, 2], dtype=torch.uint8), torch.tensor([2.0, 10.0]);"
        " codes = torch.arange(256.0);"
        " print(ops._dequantize_blockwise_compute(bytes_, scales, codes, 2, torch.float32).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TORCHDYNAMO_DISABLE": "1"},
    )
    assert done.stdout.strip() == "[0.0, 510.0, 10.0, 20.0]"
