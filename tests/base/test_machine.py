"""Which GPU is said to be here, by a stand-in for the driver's own tool, and what a run says when
torch cannot use it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adapters_xtl.backbones import loading
from adapters_xtl.base import machine
from adapters_xtl.base.errors import Problems, RequestError
from adapters_xtl.planning import hardware
from adapters_xtl.runs.request import Request
from tests.command_line import complaints, xtl

# like nvidia-smi: without --id it lists all devices
SMI = """#!/bin/sh
case "$1" in --id=1|--id=GPU-8f6a*) ;; *) echo "NVIDIA H200, 143771, 9.0" ;; esac
case "$1" in --id=0) ;; *) echo "Tesla T4, 15360, 7.5" ;; esac
"""


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize(
    ("visible", "name", "dtype"),
    [
        (None, "NVIDIA H200", "bfloat16"),
        ("0", "NVIDIA H200", "bfloat16"),
        ("1,0", "Tesla T4", "float16"),
        ("GPU-8f6a3c", "Tesla T4", "float16"),
        ("", None, None),
        ("-1", None, None),
    ],
)
def test_the_first_visible_device_is_described(
    visible: str | None,
    name: str | None,
    dtype: str | None,
    smi: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    machine.gpu.cache_clear()
    try:
        found = machine.gpu()
        assert (found and found.name) == name
        assert dtype is None or machine.native_dtype("cuda") == dtype
    finally:
        machine.gpu.cache_clear()


def test_a_gpu_without_memory_of_its_own_has_the_machines(smi: Path) -> None:
    (smi / "nvidia-smi").write_text('#!/bin/sh\necho "NVIDIA GB10, [N/A], 12.1"\n')
    machine.gpu.cache_clear()
    try:
        found = machine.gpu()
        assert found is not None and found.memory_bytes == os.sysconf("SC_PAGE_SIZE") * os.sysconf(
            "SC_PHYS_PAGES"
        )
    finally:
        machine.gpu.cache_clear()


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use the GPU that is here")
def test_a_gpu_that_torch_cannot_use_costs_one_line(smi: Path, runs: Path) -> None:
    done = xtl(
        "recipe",
        "mnli",
        "--backbone",
        "tiny",
        "--data",
        "embedded",
        "--set",
        "train.max_steps=1",
        "--runs",
        runs,
        code=2,
    )
    assert len(complaints(done)) == 1 and "finds no CUDA device" in complaints(done)[0]
    assert "--device cpu" in complaints(done)[0] and not list(runs.rglob("spec.json"))


def test_an_apple_computer_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was ever run on one: what is planned for it is held here, and that torch is asked."""
    monkeypatch.setattr(machine, "gpu", lambda: None)
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(machine.platform, "machine", lambda: "arm64")
    assert machine.default_device() == "mps" and machine.native_dtype("mps") == "float32"
    asked = Request("mnli", method="lora", runs="runs")
    problems = Problems()
    chosen = hardware.choose_machine(asked, problems)
    assert (chosen.device, chosen.backbone, chosen.data) == ("mps", "mini", "embedded")
    assert hardware.allowed_precisions(asked, "mps", problems) == {32: "float32", 16: "bfloat16"}
    assert not problems.messages
    assert hardware.choose_machine(replace(asked, device="cpu"), problems).device == "cpu"
    hardware.allowed_precisions(replace(asked, bits="8"), "mps", problems)
    assert problems.messages == ["--bits 8: on an Apple GPU weights have 32 or 16 bits"]
    with pytest.raises(RequestError, match=r"--device mps: torch .* finds no Apple GPU"):
        loading.usable("mps")
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    assert machine.default_device() == "cpu"
    hardware.choose_machine(replace(asked, device="mps"), problems)
    assert "--device mps: this is no Apple computer" in problems.messages[-1]
