"""What a start imports: counted in modules, which a busy machine does not change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
