"""Describes the machine that a run is made on: versions, git, hardware. Torch is not imported."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = [
    "Cpu",
    "Git",
    "Gpu",
    "Hardware",
    "Machine",
    "cpu_name",
    "default_device",
    "describe",
    "gpu",
    "native_dtype",
    "usable_cores",
    "usable_memory",
]

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container; "max" where there is none

PACKAGES = (
    "adapters-xtl",
    "adapters",
    "peft",
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "accelerate",
    "bitsandbytes",
    "evaluate",
    "huggingface-hub",
    "faiss-cpu",
    "numpy",
    "pyarrow",
)


@dataclass(frozen=True)
class Gpu:
    """A CUDA device as its driver describes it."""

    name: str
    memory_bytes: int
    compute_capability: float


@dataclass(frozen=True)
class Cpu:
    """The processor. `cores`: those that this process may use; `bfloat16`: multiplied natively."""

    name: str
    cores: int
    bfloat16: bool


@dataclass(frozen=True)
class Hardware:
    """What a run was computed on. `memory_bytes`: of the machine, None where it is not known."""

    cpu: Cpu
    memory_bytes: int | None
    gpu: Gpu | None
    system: str


@dataclass(frozen=True)
class Git:
    """State of the package's own checkout. `changed`: files differ from the commit."""

    commit: str
    changed: bool


@dataclass(frozen=True)
class Machine:
    """Versions by package, git state of the package's checkout (None: no checkout), hardware."""

    versions: Mapping[str, str]
    git: Git | None
    hardware: Hardware


def _output(*command: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@cache
def gpu() -> Gpu | None:
    """The first visible CUDA device, as the driver shows it, or None.

    Torch, whose import takes seconds, is not asked whether it can use the device. The driver counts
    devices in PCI order: with unlike GPUs set CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    if first in ("", "-1") or not shutil.which("nvidia-smi"):
        return None
    which = (
        [f"--id={first}"]
        if (first.isascii() and first.isdecimal()) or first.startswith("GPU-")
        else []
    )
    listed = _output(
        "nvidia-smi",
        *which,
        "--query-gpu=name,memory.total,compute_cap",
        "--format=csv,noheader,nounits",
    )
    if not listed:
        return None
    name, memory, capability = (part.strip() for part in listed.splitlines()[0].split(","))
    # a GPU without memory of its own uses the machine's
    size = int(float(memory) * 2**20) if memory[:1].isdigit() else (_memory() or 0)
    return Gpu(name, size, float(capability))


def default_device() -> str:
    """The device of `--device auto`: "cuda", on an Apple computer with its own chip "mps", else
    "cpu".
    """
    if gpu() is not None:
        return "cuda"
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return "mps" if apple else "cpu"


@cache
def _cpu() -> Cpu:
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            fields[key.strip()] = value.strip()
    except OSError:
        pass
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return Cpu(
        name=fields.get("model name", platform.processor() or platform.machine()),
        cores=len(allowed) or os.cpu_count() or 1,
        bfloat16=bool(flags & {"avx512_bf16", "amx_bf16", "bf16"}),
    )


def cpu_name() -> str:
    """The processor's name, as the system has it."""
    return _cpu().name


def native_dtype(device: str) -> str:
    """The 16-bit type that the hardware multiplies natively: bfloat16 where it can, float16 on
    older GPUs, else float32.

    GPUs: bfloat16 from compute capability 8.0 on. CPUs: AVX512-BF16, AMX or Arm's bf16; without
    them float32 is faster. Apple's GPUs: float32, since which types are native is not asked.
    """
    if device == "cuda":
        first_gpu = gpu()
        return "bfloat16" if first_gpu and first_gpu.compute_capability >= 8 else "float16"
    if device == "mps":
        return "float32"
    return "bfloat16" if _cpu().bfloat16 else "float32"


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def usable_memory() -> int | None:
    """Bytes of memory that processes here may take in all: the machine's, or the container's limit.

    None where neither is known.
    """
    try:
        limit = int(_CGROUP_LIMIT.read_text())
    except (OSError, ValueError):
        return _memory()
    return min(limit, _memory() or limit)


def usable_cores() -> int:
    """Cores that this process may use."""
    return _cpu().cores


def describe() -> Machine:
    """Versions, git state of the package's checkout, and hardware."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    root = Path(__file__).parents[2]
    git = None
    if (root / ".git").exists():
        commit = _output("git", "rev-parse", "HEAD", cwd=root)
        changed = bool(commit) and bool(_output("git", "status", "--porcelain", cwd=root))
        git = Git(commit, changed) if commit else None
    return Machine(versions, git, Hardware(_cpu(), _memory(), gpu(), platform.system()))
