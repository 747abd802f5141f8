"""A mirror made by a stranger: its READMEs, and files that are none. Whatever is wrong is one line
that names the file, soon.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError
from adapters_xtl.data.locate import locate
from adapters_xtl.data.patterns import matches
from adapters_xtl.data.reading import Reader
from adapters_xtl.data.readme import read_metadata
from adapters_xtl.data.repository import MissingRows, local_repository
from adapters_xtl.data.sources import Mirror


def with_block(folder: Path, block: str | bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    data = block.encode("utf-8", "surrogatepass") if isinstance(block, str) else block
    (folder / "README.md").write_bytes(b"---\n" + data + b"\n---\n# rows\n")
    (folder / "train.csv").write_text("a,b\n")
    return folder


def refused(folder: Path) -> str:
    """What is said of a repository's train split; nothing takes long."""
    started = time.monotonic()
    with pytest.raises(DataError) as caught:
        repository = local_repository("a/b", folder, "")
        repository.split_paths("default", "train")
        repository.class_names("default")
    assert time.monotonic() - started < 20
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600 and "README.md" in message
    return message


NAMES = (
    "dataset_info:\n  features:\n  - name: label\n    dtype:\n      class_label:\n        names:"
)
FILES = "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: "


@pytest.mark.parametrize(
    ("block", "token"),
    [
        (f"{NAMES}\n          a: x\n          b: y", "no index"),
        (f"{NAMES}\n          '0': x\n          '2': y", "0 to 1"),
        (f"{NAMES}\n          '-1': x\n          '0': y", "no index"),
        (f"{NAMES}\n          '٠': x", "no index"),
        (f"{NAMES}\n          true: x", "no index"),
        (f"{NAMES} text", "list or a mapping"),
        (f"{NAMES}\n        - [x]", "class name"),
        (f"{NAMES}\n          0: [x]", "class name"),
        (f"{FILES}'[z-a]*'", "ends before it begins"),
        (f"{FILES}'{'*' * 2000}'", "2,000"),
        (f"{FILES}[[x]]", "data_files"),
        ("configs:\n- config_name: [x]\n  data_files: a.csv", "config_name"),
        ("configs:\n- config_name: x\n  data_dir: {a: b}", "data_dir"),
        ("configs: [unclosed", "no YAML"),
        ("a: *nobody", "no YAML"),
        ("a: 2020-13-45", "no YAML"),
        ("? [a]\n: b", "no YAML"),
        ("a: !!python/object:os.system x", "no YAML"),
        ("- a\n- b", "no mapping"),
        ("just text", "no mapping"),
        ("[" * 5000, "deep"),
        (b"a: \xff", "UTF-8"),
        ("a: \x01", "no YAML"),
    ],
    ids=lambda value: str(value)[-30:],
)
def test_blocks_that_are_wrong_are_one_line(tmp_path: Path, block: str | bytes, token: str) -> None:
    message = refused(with_block(tmp_path, block))
    assert token in message or (token == "deep" and "no YAML" in message)


def test_a_block_of_aliases_is_no_bomb(tmp_path: Path) -> None:
    levels = ["a0: &a0 {class: x}"]
    for n in range(1, 30):
        levels.append(f"a{n}: &a{n} {{" + ", ".join(f"k{k}: *a{n - 1}" for k in range(9)) + "}")
    features = "dataset_info:\n  features:\n  - name: label\n    dtype: *a29\n"
    named = "configs:\n- config_name: *a29\n  data_files: x.csv"
    folder = with_block(tmp_path / "one", "\n".join([*levels, features]))
    repository = local_repository("a/b", folder, "")
    assert repository.class_names("default") == {}
    assert "config_name" in refused(with_block(tmp_path / "two", "\n".join([*levels, named])))
    circle = "dataset_info:\n  features:\n  - &f {name: label, dtype: {inner: *f}}"
    folder = with_block(tmp_path / "three", circle)
    assert local_repository("a/b", folder, "").class_names("default") == {}


def test_blocks_are_read_as_the_hub_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    for content, wanted in (
        (b"# no block\n---\na: 1\n---\n", {}),
        (b"", {}),
        (b"\xff\xfe not text", {}),
        (b"---\n---\n", {}),
        (b"---\r\na: 1\r\n---\r\n# x", {"a": 1}),
        (b"\xef\xbb\xbf---\na: 1\n---", {"a": 1}),
        (b"---\na: '---'\n---\n\xff body in another encoding", {"a": "---"}),
    ):
        path.write_bytes(content)
        assert read_metadata(path) == wanted
    path.write_bytes(b"---\na: 1\n")
    with pytest.raises(DataError, match="does not end"):
        read_metadata(path)
    path.write_bytes(b"---\na: 1\n" + b"#" * (5 << 20) + b"\n---\n")
    with pytest.raises(DataError, match="does not end within"):
        read_metadata(path)


def test_a_readme_that_is_no_file(tmp_path: Path) -> None:
    folder = with_block(tmp_path, "a: 1")
    readme = folder / "README.md"
    readme.unlink()
    readme.mkdir()
    assert "not a regular file" in refused(folder)
    readme.rmdir()
    os.mkfifo(readme)
    assert "not a regular file" in refused(folder)
    readme.unlink()
    readme.symlink_to("/dev/zero")
    assert "not a regular file" in refused(folder)
    readme.unlink()
    readme.symlink_to(readme)
    assert "cannot be read" in refused(folder)
    readme.unlink()
    readme.symlink_to(folder / "nowhere")
    assert "cannot be read" in refused(folder)


def test_data_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "default" / "train.jsonl"
    path.parent.mkdir()

    def said() -> str:
        repository = local_repository("a/b", tmp_path, "")
        assert repository.split_paths("default", "train") == ["default/train.jsonl"]
        messages = []
        for call in (repository.digest, repository.fetch):
            with pytest.raises(DataError, match=r"train\.jsonl") as caught:
                call("default/train.jsonl")
            messages.append(str(caught.value))
        assert len(set(messages)) == 1
        return messages[0]

    os.mkfifo(path)
    assert "not a regular file" in said()
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "not a regular file" in said()
    path.unlink()
    path.symlink_to("train.jsonl")
    assert "cannot be read" in said()
    path.unlink()
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # the path of a socket is short
        try:
            server.bind("train.jsonl")
        finally:
            os.chdir(here)
        assert "not a regular file" in said()


def test_names_that_are_no_text_are_shown_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "google/xtreme/PAWS-X.en"
    folder.mkdir(parents=True)
    name = os.fsencode(folder) + b"/train-\xff\n.tsv"
    with open(name, "wb") as file:
        file.write(b"sentence1\tsentence2\tlabel\na\tb\n")
    files = locate(Mirror(tmp_path), tasks.load("pawsx").train[0], "en")
    with pytest.raises(DataError, match="row 0") as caught:
        Reader().read(tasks.load("pawsx"), [files], split="train", language="en", scoring=False)
    assert str(caught.value).isprintable() and files.digests


def test_directories_in_circles_are_walked_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a/train.csv").write_text("x")
    for n in range(4):
        (tmp_path / f"a/up{n}").symlink_to(tmp_path)
        (tmp_path / f"b/a{n}").symlink_to(tmp_path / "a")
    (tmp_path / "a/self").symlink_to("self")
    started = time.monotonic()
    repository = local_repository("x/y", tmp_path, "")
    assert repository.split_paths("a", "train") == ["a/train.csv"]
    assert len(repository.paths) < 50 and time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("data/train-*", "data/train-0.parquet", True),
        ("data/train-*", "data/train-0/x.parquet", False),
        ("**/x.csv", "x.csv", True),
        ("**/x.csv", "a/b/x.csv", True),
        ("**/x.csv", "a/bx.csv", False),
        ("a/**", "a/b/c.csv", True),
        ("a/**/c.csv", "a/c.csv", True),
        ("./a.csv", "a.csv", True),
        ("[ac].csv", "c.csv", True),
        ("[!ac].csv", "c.csv", False),
        ("[!ac].csv", "/.csv", False),
        ("[a-c]?.csv", "bz.csv", True),
        ("[a-c]?.csv", "b/.csv", False),
        ("a.csv", "a_csv", False),
        ("[x.csv", "[x.csv", True),
        ("(a|b)+.csv", "(a|b)+.csv", True),
        ("*", "", True),
        ("é*", "éa", True),
    ],
)
def test_patterns(pattern: str, path: str, fits: bool) -> None:
    assert matches(pattern, path) is fits


@settings(max_examples=200, deadline=None)
@given(pattern=st.text("ab*?/[]!-", max_size=12), path=st.text("ab/", max_size=12))
def test_any_pattern_answers(pattern: str, path: str) -> None:
    try:
        matches(pattern, path)
    except DataError as error:
        assert "pattern" in str(error)
    assert matches(path, path)


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    started = time.monotonic()
    assert not matches("*a" * 40 + "**/" * 20 + "x", "a" * 300)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("paths", "block", "token"),
    [
        (["default/train.jsonl.gz"], "", "train.jsonl.gz lies there and is not read"),
        (["data/train.zip"], "", "train.zip lies there"),
        (["default/train/deep/a.csv"], "", "lies deeper"),
        (["x/train.csv"], f"{FILES}y/*.csv", "no data file fits"),
        (["default/dev.csv"], "", "known: dev"),
        (
            ["default/train.csv"],
            "configs:\n- config_name: default\n  data_files:\n  - split: dev\n    path: a.csv",
            "does not give",
        ),
    ],
)
def test_a_split_that_is_not_found_never_offers_itself(
    tmp_path: Path, paths: list[str], block: str, token: str
) -> None:
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    if block:
        (tmp_path / "README.md").write_text(f"---\n{block}\n---\n")
    repository = local_repository("a/b", tmp_path, "")
    with pytest.raises(MissingRows) as caught:
        repository.split_paths("default", "train")
    message = str(caught.value)
    assert token in message and "did you mean 'train'" not in message
