"""What the machine decides of a plan: device, defaults, precisions, memory budget."""

from __future__ import annotations

import math
from dataclasses import dataclass

from adapters_xtl import methods
from adapters_xtl.backbones import BITS
from adapters_xtl.base.errors import Problems, clipped
from adapters_xtl.base.machine import gpu, native_dtype
from adapters_xtl.base.numbers import parse_whole
from adapters_xtl.memory import peak
from adapters_xtl.runs.request import Request

__all__ = ["Machine", "allowed_precisions", "choose_machine", "check_memory", "memory_budget"]


@dataclass(frozen=True)
class Machine:
    """Where a request runs, and what it takes because of that where the request names nothing.

    device    "cuda" or "cpu"
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
    has_gpu = request.device != "cpu" and gpu() is not None
    if request.device not in ("auto", "cpu", "cuda"):
        problems.add(f"--device {clipped(request.device)}: takes auto, cpu or cuda")
    elif request.device == "cuda" and not has_gpu and not absent_ok:
        problems.add("--device cuda: no CUDA device is here (nvidia-smi shows none)")
    cuda = has_gpu or (request.device == "cuda" and absent_ok)
    backbone = request.backbone or ("xlmr-large" if cuda else "mini")
    data = request.data or ("hub" if cuda else "embedded")
    own = "own files" if request.own_rows is not None else None
    defaulted = [
        name
        for name, value in (("backbone", request.backbone), ("data", request.data or own))
        if value is None
    ]
    device, why = ("cuda", "a CUDA device is here") if cuda else ("cpu", "no CUDA device")
    note = f"backbone {backbone} · data {own or data} · method {request.method} · device {device}"
    if defaulted:
        note += f" ({' and '.join(defaulted)} by default: {why})"
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
