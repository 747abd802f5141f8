"""Environment variables with which launchers (torchrun, accelerate, srun, mpirun) tell a process
that it is one of several.

Everything here runs in one process: nothing reads them. Cluster wrappers and notebooks leave them
behind, and a user who set them on purpose should know that they have no effect.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

__all__ = ["notify_ignored_launcher", "several_processes"]

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK")
_COUNTS = (
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "SLURM_NTASKS",
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "MV2_COMM_WORLD_SIZE",
)
_ADDRESSES = ("MASTER_ADDR", "MASTER_PORT")
_PREFIXES = ("ACCELERATE_", "FSDP_", "TORCHELASTIC_", "DEEPSPEED_")


def several_processes(environment: Mapping[str, str]) -> list[str]:
    """Names of the variables that speak of several processes or of how they share the work.

    A count of one says nothing: every batch job has it.
    """
    counts = [name for name in _COUNTS if environment.get(name, "").strip() not in ("", "1")]
    named = [name for name in (*_RANKS, *_ADDRESSES) if environment.get(name, "").strip()]
    prefixed = sorted(name for name in environment if name.startswith(_PREFIXES))
    return [*counts, *named, *prefixed]


def notify_ignored_launcher(notify: Callable[[str], None]) -> None:
    """One line that names such variables of this process, if there are any."""
    names = several_processes(os.environ)
    if names:
        notify(f"{', '.join(names)} ignored: a run takes one process and one device")
