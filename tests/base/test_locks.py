"""Locks: one holder at a time, also where a holder removes the file that others wait for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from adapters_xtl.base.locks import available, locked, try_locked


def test_a_lock_that_is_held_is_told(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with try_locked(path) as first, try_locked(path) as second:
        assert first and not second and not available(path)
    assert available(path)


@pytest.mark.parametrize("waits", [True, False])
def test_a_lock_is_not_held_on_a_file_that_was_removed(
    waits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder before removed the file between the opening and the locking of it."""
    path, acquire, times = tmp_path / "lock", FileLock.acquire, []

    def after_a_removal(lock: FileLock, **options: Any) -> Any:
        held = acquire(lock, **options)
        times.append(path)
        if len(times) == 1:
            path.unlink()
        return held

    monkeypatch.setattr(FileLock, "acquire", after_a_removal)
    with locked(path) if waits else try_locked(path) as free:
        assert len(times) == 2 and free in (None, True)
        assert not available(path), "whoever comes next finds it held"
