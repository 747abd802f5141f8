"""The peak of resident memory, since it was last reset."""

from __future__ import annotations

import sys

import pytest

from adapters_xtl.base.process_memory import peak_resident_bytes, reset_peak_resident


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_each_run_has_a_peak_of_its_own() -> None:
    reset_peak_resident()
    before = peak_resident_bytes()
    large = bytearray(200 << 20)
    first = peak_resident_bytes()
    assert first - before > 150 << 20
    del large
    reset_peak_resident()
    second = peak_resident_bytes()
    assert first - second > 150 << 20, "what was freed before is not counted again"
