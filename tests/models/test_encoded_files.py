"""Encoded rows on disk: read as they were written or made again, within a budget, whatever happens
to the files.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters_xtl import formats
from adapters_xtl.backbones import embedded, loading
from adapters_xtl.backbones.registry import NAMED
from adapters_xtl.base.cache_budget import GIB, TOKENIZED
from adapters_xtl.base.errors import RequestError
from adapters_xtl.cli.commands import cache as cache_command
from adapters_xtl.formats import Item, Lengths
from adapters_xtl.models import encoded_files
from adapters_xtl.models.encoded_files import EncodedFiles, folder, stored_files
from adapters_xtl.models.encoded_rows import EncodedRows
from tests.formats.test_examples import GOOD, LABELS

LONG = "one two three four five six seven eight nine ten " * 4
MORE: dict[str, list[dict[str, Any]]] = {
    "classify": [{"text": LONG, "pair": "b"}],
    "choice": [{"context": LONG, "choices": ["a", "b", LONG]}],
    "span": [
        {
            "id": "2",
            "context": LONG,
            "question": "which?",
            "answers": {"text": ["ten"], "answer_start": [LONG.rindex("ten")]},
        }
    ],
    "tag": [{"words": LONG.split(), "tags": ["B"] * len(LONG.split())}],
    "retrieve": [{"source": LONG, "target": "b"}],
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    mini = embedded.prepare(lambda text: None)
    monkeypatch.setenv("XTL_CACHE", str(tmp_path))
    (tmp_path / "mini").symlink_to(mini.parent)
    yield


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    embedded.prepare(lambda text: None)
    return loading.tokenizer(NAMED["tiny"])


def plain(items: Sequence[Item]) -> list[Any]:
    """Items as values that can be compared, with the types of their arrays."""

    def value(part: Any) -> Any:
        return (part.dtype.str, part.tolist()) if isinstance(part, np.ndarray) else part

    return [
        (
            *(item.owner, item.cut, [value(ids) for ids in item.ids]),
            item.types and [value(kind) for kind in item.types],
            *(
                {name: value(part) for name, part in held.items()}
                for held in (item.gold, item.extra)
            ),
        )
        for item in items
    ]


def rows_of(lines: list[str]) -> EncodedRows:
    """What another process would have: an empty memory and the files."""
    rows = EncodedRows()
    rows.files = EncodedFiles(lines.append, least=1)
    return rows


def encode(
    rows: EncodedRows, tokenizer: Any, format: str = "classify", count: int = 3, **changed: Any
) -> list[Item]:
    examples = [*[{**GOOD[format], **changed}] * count, *MORE[format]]
    return rows.encode(
        format, examples, LABELS.get(format, ()), tokenizer, Lengths(24, 8), train=False
    )


@pytest.mark.parametrize("format", sorted(GOOD))
def test_items_are_read_as_they_were_written(
    format: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    first = encode(rows_of(lines), tokenizer, format)
    assert len(stored_files()) == 1 and (any(item.cut for item in first) or len(first) > 4)

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("encoded again")

    with monkeypatch.context() as patch:
        patch.setattr(formats.load(format), "encode", refuse)
        again = encode(rows_of(lines), tokenizer, format)
    assert plain(again) == plain(first) and not lines
    collated = [formats.load(format).collate(items, tokenizer) for items in (first, again)]
    assert collated[0].keys() == collated[1].keys()
    assert all(np.array_equal(collated[0][name], collated[1][name]) for name in collated[0])
    encode(rows_of(lines), tokenizer, format, count=2)
    assert len(stored_files()) == 2, "other rows are another file"


def test_damage_is_refused_in_a_line_and_mended(tokenizer: Any) -> None:
    expected = plain(encode(rows_of([]), tokenizer))
    ((_, size, path),) = stored_files()
    whole = path.read_bytes()
    for number, damaged in enumerate(
        (
            b"",
            whole[: size // 2],
            whole[:-1] + bytes([whole[-1] ^ 1]),
            whole.replace(b"[", b"{", 1),
            b"[" * 10**5,
            whole.replace(b'"items": 4', b'"items": 3'),
            whole.partition(b"\n")[0] + b"\n",
        )
    ):
        path.write_bytes(damaged)
        lines: list[str] = []
        assert plain(encode(rows_of(lines), tokenizer)) == expected, number
        assert len(lines) == 1 and str(path) in lines[0] and "made again" in lines[0], number
        assert path.read_bytes() == whole


def test_the_key_is_everything_that_decides(tokenizer: Any, tmp_path: Path) -> None:
    files = EncodedFiles(print, least=1)
    usual: dict[str, Any] = {"labels": ("a", "b"), "lengths": Lengths(24, 8), "train": False}

    def key(rows: str = "r", format: str = "tag", known: Any = tokenizer, **changed: Any) -> str:
        options = {**usual, **changed}
        labels, lengths = options["labels"], options["lengths"]
        return files.key(rows, format, labels, known, lengths, train=options["train"])

    source, copy = Path(tokenizer.name_or_path), tmp_path / "copy"
    copy.mkdir()
    for path in source.iterdir():
        if path.name != "model.safetensors":
            (copy / path.name).write_bytes(path.read_bytes())

    class Copied:
        name_or_path = str(copy)

    assert key() == key(known=Copied), "the files decide, not where they lie"
    same = key(known=Copied)
    with (copy / "tokenizer.json").open("a") as file:
        file.write(" ")
    keys = [same, key(known=Copied), key("s"), key(format="span"), key(labels=("b", "a"))]
    keys += [key(lengths=Lengths(25, 8)), key(lengths=Lengths(24, 9)), key(train=True)]
    assert len(set(keys)) == len(keys)
    assert (
        files.key("r", "tag", (), type("None", (), {"name_or_path": ""}), Lengths(), train=True)
        == ""
    )


def test_what_was_used_longest_ago_gives_way(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget of three files; a file that is read is used; a set beyond the budget is not kept."""
    encode(rows_of([]), tokenizer, text="0")
    size = stored_files()[0][1]
    monkeypatch.setenv(TOKENIZED, str(3.5 * size / GIB))
    for number in "12":
        encode(rows_of([]), tokenizer, text=number)
    for age, (_, _, path) in enumerate(sorted(stored_files())):
        os.utime(path, (age, age))
    ages = {age: path for age, _, path in stored_files()}  # ns
    encode(rows_of([]), tokenizer, text="0")
    aside = folder() / f".left.rows.{os.getpid()}-0"
    aside.write_bytes(b"begun by a process that was killed")
    encode(rows_of([]), tokenizer, text="3")
    assert not ages[10**9].exists() and ages[0].exists() and len(stored_files()) == 3
    assert not aside.exists()
    before = stored_files()
    encode(rows_of([]), tokenizer, count=400)
    assert stored_files() == before
    monkeypatch.setenv(TOKENIZED, "0")
    encode(rows_of([]), tokenizer, text="4")
    assert stored_files() == before
    shown, lines = cache_command.show()
    total = sum(size for _, size, _ in before)
    assert shown["tokenized"] == {
        **{"folder": str(folder()), "sets": 3, "bytes": total, "budget_bytes": 0}
    }
    assert f"{folder()}" in str(lines[-1])
    assert cache_command.clear()[0] == {"bytes": 0, "tokenized_bytes": total} and not stored_files()
    monkeypatch.setenv(TOKENIZED, "much")
    with pytest.raises(RequestError, match="XTL_TOKENIZED_GIB=much"):
        EncodedFiles(print)


def test_a_disk_that_takes_nothing_costs_a_line(tokenizer: Any) -> None:
    expected = plain(encode(rows_of([]), tokenizer))
    encoded_files.clear()
    lines: list[str] = []
    rows = rows_of(lines)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))  # as on a disk with so much room
    try:
        assert plain(encode(rows, tokenizer)) == expected
        encode(rows, tokenizer, text="another")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(lines) == 1 and "not kept" in lines[0]
    assert [path.name for path in folder().iterdir()] == [".lock"]
    (folder() / ".lock").unlink()
    folder().rmdir()
    folder().write_text("a file where the folder is to be")
    assert plain(encode(rows_of(lines), tokenizer)) == expected
    assert len(lines) == 2 and "not kept" in lines[1]


def _work(number: int, key: str, items: list[Item], wrong: Any) -> None:
    files = EncodedFiles(wrong.put, least=1)
    for turn in range(30):
        for name in (key, f"{number}-{turn % 3}"):
            if plain(files.read_or_write(name, lambda: items)) != plain(items):
                wrong.put("other items")


def test_processes_share_files_and_a_tight_budget(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = encode(rows_of([]), tokenizer)
    monkeypatch.setenv(TOKENIZED, str(3.5 * stored_files()[0][1] / GIB))
    fork = multiprocessing.get_context("fork")
    wrong = fork.SimpleQueue()
    workers = [fork.Process(target=_work, args=(number, "shared", items, wrong)) for number in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert wrong.empty() and 1 <= len(stored_files()) <= 3
