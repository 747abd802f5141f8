"""The energy counter, against a library that stands in for NVML where there is no GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adapters_xtl.base import energy

NVML = """
static unsigned chosen;
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    chosen = index;
    *device = &chosen;
    return index > 2 ? 2 : 0;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    chosen = uuid[0] == 'G' ? 7 : 9;
    *device = &chosen;
    return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *energy) {
    if (*(unsigned *)device == 2) return 3;  /* not supported */
    *energy = 5000000000ULL + *(unsigned *)device;
    return 0;
}
"""


def test_without_a_driver_there_is_no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "LIBRARY", "libnothing-of-this-name.so.1")
    assert energy.joules() is None


@pytest.mark.parametrize(
    ("visible", "value"),
    [
        (None, "5000000.0"),
        ("1,0", "5000000.001"),
        ("GPU-8f6a", "5000000.007"),
        ("2", "None"),
        ("5", "None"),
        ("-1", "None"),
        ("", "None"),
    ],
)
def test_the_first_visible_device_is_read_in_joules(
    visible: str | None, value: str, tmp_path: Path
) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: the stand-in for NVML cannot be built")
    (tmp_path / "nvml.c").write_text(NVML)
    built = str(tmp_path / energy.LIBRARY)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", built, str(tmp_path / "nvml.c")], check=True
    )
    environment = {key: text for key, text in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    environment |= {"LD_LIBRARY_PATH": str(tmp_path)} | (
        {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    )
    done = subprocess.run(
        [sys.executable, "-c", "from adapters_xtl.base.energy import joules; print(joules())"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert done.stdout.strip() == value
