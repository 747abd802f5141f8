"""What the machine decides of a plan: device, defaults, precisions, memory budget."""

from __future__ import annotations

import math
from dataclasses import dataclass

from adapters_xtl import methods
from adapters_xtl.backbones import BITS
from adapters_xtl.base.errors import Problems, clipped
from adapters_xtl.base.machine import default_device, gpu, native_dtype
from adapters_xtl.base.numbers import parse_whole
from adapters_xtl.memory import peak
from adapters_xtl.runs.request import Request

__all__ = ["Machine", "allowed_precisions", "choose_machine", "check_memory", "memory_budget"]

# device → why it decides the backbone and the data that a request does not name
WHY = {"cpu": "no CUDA device", "cuda": "a CUDA device is here", "mps": "no CUDA device"}
MPS_BITS = (32, 16)  # bitsandbytes has no kernels for Apple's GPUs


@dataclass(frozen=True)
class Machine:
    """Where a request runs, and what it takes because of that where the request names nothing.

    device    "cuda", "mps" (an Apple GPU) or "cpu"
    backbone  name of the backbone, asked for or by default
    data      name of the source, asked for or by default
    note      one line that says all three and which were defaults
    """

    device: str
    backbone: str
    data: str
    note: str


def choose_machine(request: Request, problems: Problems, *, absent_ok: bool = False) -> Machine:
    """The device of a request, with the defaults that hang on it.

    `absent_ok`: `--device cuda` may name a device that is not here (a plan of its memory).
    """
    here, device = default_device(), request.device
    if device not in ("auto", *WHY):
        problems.add(f"--device {clipped(device)}: takes auto, {', '.join(WHY)}")
    elif device == "cuda" and gpu() is None and not absent_ok:
        problems.add("--device cuda: no CUDA device is here (nvidia-smi shows none)")
        device = here
    elif device == "mps" and here != "mps" and not absent_ok:
        problems.add("--device mps: this is no Apple computer with a chip of Apple's")
        device = here
    if device not in WHY:
        device = here
    backbone = request.backbone or ("xlmr-large" if device == "cuda" else "mini")
    data = request.data or ("hub" if device == "cuda" else "embedded")
    own = "own files" if request.own_rows is not None else None
    defaulted = [
        name
        for name, value in (("backbone", request.backbone), ("data", request.data or own))
        if value is None
    ]
    note = f"backbone {backbone} · data {own or data} · method {request.method} · device {device}"
    if defaulted:
        note += f" ({' and '.join(defaulted)} by default: {WHY[device]})"
    return Machine(device, backbone, data, note)


def allowed_precisions(request: Request, device: str, problems: Problems) -> dict[int, str]:
    """Bits that the frozen weights may have → compute type, the best first."""
    native = native_dtype(device)
    if request.bits != "auto" and parse_whole(request.bits) not in BITS:
        problems.add(f"--bits {clipped(request.bits)}: takes auto, {', '.join(map(str, BITS))}")
        return {32: native}
    if request.method not in methods.names():
        return {32: native}
    allowed = methods.load(request.method).bits
    if device == "mps":
        allowed = tuple(bits for bits in allowed if bits in MPS_BITS)
        if request.bits != "auto" and parse_whole(request.bits) not in MPS_BITS:
            problems.add(f"--bits {request.bits}: on an Apple GPU weights have 32 or 16 bits")
            return {32: native}
    if request.bits != "auto" and parse_whole(request.bits) not in allowed:
        problems.add(
            f"--bits {request.bits}: the backbone's weights have"
            f" {' or '.join(map(str, allowed))} bits while method {request.method} trains"
        )
        return {allowed[0]: native}
    return peak.precisions(request.bits, allowed, device, native)


def memory_budget(request: Request, device: str) -> tuple[int | None, str]:
    """(bytes that training may take, None for no limit; the flag that set them, "" for none)."""
    if request.memory is not None and 0 < request.memory < math.inf:
        return peak.in_bytes(request.memory), f"--memory {request.memory:g}"
    device_gpu = gpu() if device == "cuda" else None
    return (device_gpu.memory_bytes - peak.CONTEXT, "") if device_gpu else (None, "")


def check_memory(request: Request, problems: Problems) -> None:
    """A budget has to be a number above 0."""
    if request.memory is not None and not 0 < request.memory < math.inf:
        problems.add(f"--memory {request.memory:g}: takes a number of GiB above 0")
