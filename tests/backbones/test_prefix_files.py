"""Files of a frozen encoder's states: kept, shared, refused when damaged, evicted by age of use."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters_xtl.backbones import prefix_files
from adapters_xtl.backbones.prefix_files import PrefixFiles, budget_bytes, text_key
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.files import write_json

ROW = 64  # bytes of a token's state
MIB = 2**20
Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTL_CACHE", str(tmp_path / "cache"))


def opened(lines: list[str], space: str = "a", budget: int = MIB) -> PrefixFiles:
    return PrefixFiles({"layer": 6, "backbone": space}, ROW, budget, lines.append)


def made(seed: int, texts: int = 5) -> list[tuple[bytes, Array]]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 40, texts)
    return [
        (
            text_key(rng.integers(0, 9, length).astype(np.int32), np.array([seed], np.int32)),
            rng.integers(0, 256, (length, ROW)).astype(np.uint8),
        )
        for length in lengths
    ]


def keep(files: PrefixFiles, states: list[tuple[bytes, Array]]) -> bool:
    with files.writing():
        return files.add(states)


def written() -> list[Path]:
    return sorted((prefix_files.cache_dir() / "prefix").glob("*/*.states"))


def test_what_one_process_keeps_another_one_reads() -> None:
    """Another process: a fork, which shares nothing but the directory."""
    states = made(1)
    child = os.fork()
    if child == 0:
        os._exit(0 if keep(opened([]), states) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    lines: list[str] = []
    files = opened(lines)
    for key, array in states:
        found = files.get(key)
        assert found is not None and np.array_equal(found, array)
    assert files.get(made(2)[0][0]) is None and not lines
    assert made(1)[0][0] not in opened(lines, space="b"), "spaces are apart"
    (summary,) = prefix_files.spaces()
    assert (summary.texts, summary.identity["layer"]) == (5, 6)
    assert summary.bytes == sum(path.stat().st_size for path in written())


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def _flip(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def _flip_table(path: Path) -> None:
    _flip(path, path.read_bytes().index(b"\n") + 3)


def _of_another_space(path: Path) -> None:
    other = opened([], space="b")
    keep(other, made(1))
    (source,) = other.folder.glob("*.states")
    path.write_bytes(source.read_bytes())


def _nested(path: Path) -> None:
    path.write_bytes(b"[" * 4000 + b"\n")


@pytest.mark.parametrize(
    "damage", [_cut, _cut_short, _flip, _flip_table, _of_another_space, _nested]
)
def test_a_damaged_file_is_refused_in_one_line_and_replaced(damage: Callable[[Path], None]) -> None:
    states = made(1)
    keep(opened([]), states)
    (path,) = written()
    damage(path)
    lines: list[str] = []
    files = opened(lines)
    found = [files.get(key) for key, _ in states]
    assert any(array is None for array in found)
    for array, (_, right) in zip(found, states, strict=True):
        assert array is None or np.array_equal(array, right), "what is wrong is never given"
    assert len(lines) == 1 and str(path) in lines[0] and not path.exists()
    assert len(files.lacking(key for key, _ in states)) == len(states), "all that lay in it"
    assert keep(files, states)
    again = opened(lines)
    assert all(again.get(key) is not None for key, _ in states) and len(lines) == 1


def test_a_file_that_is_cut_after_it_was_checked_is_refused_too() -> None:
    states = made(1)
    keep(opened([]), states)
    lines: list[str] = []
    files = opened(lines)
    assert all(files.get(key) is not None for key, _ in states), "verified by now"
    (path,) = written()
    os.truncate(path, 200)
    assert files.get(states[-1][0]) is None and len(lines) == 1


def test_what_was_used_longest_ago_gives_way_and_what_this_process_uses_does_not() -> None:
    budget = 30_000
    first, second, third = (made(seed, texts=8) for seed in (1, 2, 3))
    for age, states in ((300, first), (200, second)):
        keep(opened([], budget=budget), states)
        newest = max(written(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (newest.stat().st_atime, newest.stat().st_mtime - age))
    size = sum(path.stat().st_size for path in written())
    assert size < budget < size * 3 / 2, "two fit, three do not"
    assert opened([], budget=budget).get(first[0][0]) is not None  # used: younger than the second
    files = opened([], budget=budget)
    assert keep(files, third)
    left = opened([], budget=budget)
    assert [left.get(states[0][0]) is not None for states in (first, second, third)] == [
        True,
        False,
        True,
    ]
    assert sum(path.stat().st_size for path in written()) <= budget
    assert all(files.get(key) is not None for key, _ in third)
    assert opened([], budget=budget).get(first[0][0]) is not None
    files.scan()
    assert files.get(first[0][0]) is not None
    assert not keep(files, made(4, texts=8)) and files.full, "all of it is in use here"
    assert len(written()) == 2


def test_a_budget_of_50_mb_is_kept_to() -> None:
    budget = 50 * 10**6
    rng = np.random.default_rng(0)
    seen = []
    for number in range(9):
        files = opened([], space=str(number % 2), budget=budget)
        states = [(text_key(np.array([number], np.int32), None), rng.bytes(8 * 10**6))]
        rows = np.frombuffer(states[0][1], np.uint8).reshape(-1, ROW)
        assert keep(files, [(states[0][0], rows)])
        total = sum(path.stat().st_size for path in written())
        assert total <= budget
        seen.append(total > 40 * 10**6)
    assert any(seen), "and made use of"
    assert files.file_bytes * 8 <= budget


def test_what_a_killed_process_had_begun_to_write_is_not_read_and_goes() -> None:
    states = made(1)
    child = os.fork()
    if child == 0:
        opened([]).folder.mkdir(parents=True)
        write_json(opened([]).folder / "space.json", {})
        os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        keep(opened([]), states)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    folder = opened([]).folder
    assert len([path for path in folder.iterdir() if ".states." in path.name]) == 1
    lines: list[str] = []
    files = opened(lines)
    assert len(files.lacking(key for key, _ in states)) == len(states)
    assert keep(files, states), "its locks are free"
    assert opened(lines).get(states[0][0]) is not None and not lines
    assert [path for path in folder.iterdir() if ".states" in path.name] == written()


def test_permissions_are_the_umasks(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o002)
    try:
        keep(opened([]), made(1))
    finally:
        os.umask(before)
    (path,) = written()
    for place, mode in ((path, 0o664), (path.parent, 0o775), (path.parent / "space.json", 0o664)):
        assert place.stat().st_mode & 0o777 == mode


def test_clearing_frees_everything_and_whoever_uses_it_goes_on() -> None:
    states = made(1)
    files = opened([])
    keep(files, states)
    assert prefix_files.clear() > 0 and not written() and not prefix_files.spaces()
    fresh = opened([])
    assert fresh.get(states[0][0]) is None and keep(fresh, states) and len(written()) == 1
    identity = json.loads((fresh.folder / "space.json").read_text())
    assert identity == {"layer": 6, "backbone": "a"}


@pytest.mark.parametrize("value", ["much", "-1", "nan", "inf"])
def test_a_budget_that_is_none_costs_one_line(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTL_PREFIX_GIB", value)
    with pytest.raises(RequestError, match="XTL_PREFIX_GIB"):
        budget_bytes()


def test_the_budget_is_in_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XTL_PREFIX_GIB", raising=False)
    assert budget_bytes() == 4 * 2**30
    monkeypatch.setenv("XTL_PREFIX_GIB", "0.05")
    assert budget_bytes() == int(0.05 * 2**30)
    monkeypatch.setenv("XTL_PREFIX_GIB", "0")
    assert opened([], budget=budget_bytes()).full and not keep(opened([], budget=0), made(1))
