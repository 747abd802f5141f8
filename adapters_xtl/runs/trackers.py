"""Experiment trackers that may follow a training (`--report-to`): their names and packages.

`training/tracking.py` speaks to them, through the classes of `accelerate.tracking`.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

from adapters_xtl.base.errors import Problems, clipped, nearest

__all__ = ["TRACKERS", "parse_trackers"]

# tracker → distributions of which one has to be installed, the usual one first
TRACKERS = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
    "mlflow": ("mlflow", "mlflow-skinny"),
}
FLAG = "--report-to"


def parse_trackers(text: str, problems: Problems) -> tuple[str, ...]:
    """`"tensorboard,wandb"` → ("tensorboard", "wandb"), each once; "" → ().

    An unknown name, and a tracker whose package is not installed, are added to `problems`.
    """
    names = dict.fromkeys(name.strip() for name in text.split(",")) if text.strip() else {}
    for name in names:
        if name not in TRACKERS:
            problems.add(f"{FLAG} '{clipped(name)}': no such tracker{nearest(name, TRACKERS)}")
        elif not any(map(_is_installed, TRACKERS[name])):
            package = TRACKERS[name][0]
            problems.add(
                f"{FLAG} {name}: the package {package} is not installed (pip install {package})"
            )
    return tuple(names)


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
