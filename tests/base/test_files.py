"""Files are written whole or not at all, and what prevents it is one line that names the place."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from adapters_xtl.base.errors import RequestError, RunError
from adapters_xtl.base.files import (
    apply_umask,
    atomic_write,
    explain_denied,
    explained_os_errors,
)
from adapters_xtl.base.locks import locked


@pytest.mark.parametrize("umask", [0o002, 0o077], ids=oct)
def test_the_umask_decides_on_a_written_file(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        atomic_write(tmp_path / "folder" / "a.json", "{}")
        secret = tmp_path / "folder" / "b.safetensors"
        secret.write_text("")
        secret.chmod(0o600)
        apply_umask(tmp_path / "folder")
    finally:
        os.umask(before)
    for path in (tmp_path / "folder").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~umask


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    atomic_write(path, "old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=rf"disk is full.*{path}"):
        atomic_write(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_refused_permission_names_the_place_and_its_owner(tmp_path: Path) -> None:
    place = tmp_path / "runs" / "mnli"
    with pytest.raises(RequestError) as refused, explained_os_errors(place):
        raise PermissionError(errno.EACCES, "Permission denied", str(place))
    message = str(refused.value)
    assert message == explain_denied(place) and "\n" not in message
    assert str(place) in message and tmp_path.owner() in message and "chmod" in message


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), explained_os_errors(tmp_path):
        tmp_path.read_text()


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    holders: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        with locked(tmp_path / ".lock", waiting.set):
            holders.append("second")

    with locked(tmp_path / ".lock"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30) and holders == []
    thread.join(30)
    assert holders == ["second"]
