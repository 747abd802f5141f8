"""Systems without POSIX's modules: nothing but what starts processes there is tried here."""

from __future__ import annotations

import subprocess
import sys

WITHOUT_POSIX = """
import importlib, os, pkgutil, signal, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
del signal.SIGHUP, os.geteuid, os.getuid
import adapters_xtl
heavy = ("models", "training", "evaluation", "export", "experiment", "predictor", "__main__")
for found in pkgutil.walk_packages(adapters_xtl.__path__, "adapters_xtl."):
    if found.name.split(".")[1] not in heavy:
        importlib.import_module(found.name)
print(len(sys.modules))
"""


def test_everything_light_is_imported_without_posix() -> None:
    """`pwd`, `resource`, `fcntl`, SIGHUP and user ids are missing on Windows."""
    # filelock says that it falls back to files that only mark a lock
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_POSIX]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
