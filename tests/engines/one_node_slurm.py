"""A Slurm of one node on this machine, for the time of a test: no munge, no accounting."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CONF = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE DefMemPerCPU=500 State=UP
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def one_node_slurm() -> Iterator[None]:
    """A running Slurm that `sbatch` of this process's environment submits to."""
    missing = [name for name in ("slurmctld", "slurmd", "sbatch") if not shutil.which(name)]
    if missing:
        pytest.skip(f"{missing[0]} is not installed: apt-get install slurmctld slurmd slurm-client")
    if os.geteuid() != 0:
        pytest.skip("slurmd is started by root only")
    folder = Path(tempfile.mkdtemp(prefix="xtl-slurm-"))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    settings = {
        "host": socket.gethostname().partition(".")[0],
        "user": getpass.getuser(),
        "folder": folder,
        "controller_port": _free_port(),
        "node_port": _free_port(),
    }
    (folder / "slurm.conf").write_text(CONF.format(**settings))
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    daemons = []
    try:
        for command in (["slurmctld", "-D"], ["slurmd", "-D", "-N", settings["host"]]):
            daemons.append(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
        _wait_until_idle(folder)
        yield
    finally:
        _empty_the_queue()
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
            daemon.kill()
            daemon.wait()
        del os.environ["SLURM_CONF"]
        shutil.rmtree(folder, ignore_errors=True)


def _empty_the_queue() -> None:
    """Ends every job and waits until its processes are gone, which outlive the daemons."""
    subprocess.run(["scancel", f"--user={getpass.getuser()}"], capture_output=True, check=False)
    for _ in range(150):
        left = subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=False)
        if not left.stdout.strip():
            break
        time.sleep(0.2)
    time.sleep(0.5)  # a step's process says goodbye to slurmd after its job has ended


def _wait_until_idle(folder: Path) -> None:
    for _ in range(300):
        done = subprocess.run(
            ["sinfo", "-h", "-o", "%t"], capture_output=True, text=True, check=False
        )
        if done.stdout.strip() == "idle":
            return
        time.sleep(0.2)
    logs = "\n".join(path.read_text()[-2000:] for path in sorted(folder.glob("*.log")))
    raise AssertionError(f"the node is {done.stdout.strip()!r}: {done.stderr}\n{logs}")
