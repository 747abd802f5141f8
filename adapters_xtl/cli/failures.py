"""How a failed command ends: one line for each thing that is wrong, and its exit code."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from adapters_xtl.base.errors import RequestError, XtlError, out_of_memory
from adapters_xtl.base.files import cache_dir, explain_denied
from adapters_xtl.base.signals import acknowledge_interrupt

__all__ = ["report"]

LONGEST_LINE = 2000
LONGEST_WORD = 200
# commands that keep what they finished, and go on from it when they are called again
RESUMING = ("recipe", "compare", "study", "evaluate", "hub")
OUT_OF_MEMORY = {
    "recipe": "a smaller train.batch_size or train.max_length, or fewer --bits, need less",
    "compare": "a smaller train.batch_size or train.max_length, or fewer --bits, need less",
    "evaluate": "fewer --languages, or eval.max_examples, need less",
    "predict": "fewer lines at once need less",
}
NEARLY_FULL = 2**20  # bytes


def report(error: BaseException, command: str, say: Callable[[str], None]) -> int:
    """Says what went wrong in `xtl COMMAND` and returns the exit code.

    Raises the error again where it is none that a user's request, files or machine can cause.
    """
    if isinstance(error, XtlError):
        for line in str(error).split("\n"):
            say(f"xtl: {shortened(line)}")
        return error.exit_code
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        kept = "; what was finished is kept, and the same command goes on from there"
        say(f"xtl: interrupted{kept if command in RESUMING else ''}")
        return acknowledge_interrupt()
    if out_of_memory(error):
        advice = OUT_OF_MEMORY.get(command, "other processes of this machine hold the rest")
        say(f"xtl: out of memory; {advice}")
        return 1
    if isinstance(error, PermissionError) and error.filename:
        say(f"xtl: {shortened(explain_denied(Path(os.fsdecode(error.filename))))}")
        return RequestError.exit_code
    if isinstance(error, OSError):
        say(f"xtl: {shortened(_system_error(error, command))}")
        return 1
    raise error


def _system_error(error: OSError, command: str) -> str:
    """The system's words with the file or, where the system names none, the likely place."""
    text = error.strerror or str(error) or type(error).__name__
    names = " → ".join(str(name) for name in (error.filename, error.filename2) if name)
    if names:
        return f"{names}: {text}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{text}: {_full_places()}"
    return f"xtl {command}: {text}"


def _full_places() -> str:
    """The directories written to whose disk has no room left; all of them where none shows it."""
    places = [Path.cwd(), cache_dir(), Path(tempfile.gettempdir())]
    named = list(dict.fromkeys(str(place) for place in places))
    full = [name for name in named if _free(Path(name)) < NEARLY_FULL]
    return f"the disk of {' and '.join(full)}" if full else f"one of {', '.join(named)}, or --runs"


def _free(place: Path) -> int:
    while not os.path.exists(place) and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def shortened(line: str) -> str:
    """A line that fits a terminal: what is too long is cut, and its length given."""

    def cut(match: re.Match[str]) -> str:
        word = match[0].rstrip(":;,.'\")")
        return f"{word[:80]}… ({len(word):,} characters){match[0][len(word) :]}"

    line = re.sub(rf"\S{{{LONGEST_WORD + 1},}}", cut, line)
    return (
        line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}… ({len(line):,} characters)"
    )
