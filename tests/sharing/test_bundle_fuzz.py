"""Every value of a bundle's JSON files is replaced by values that it cannot have."""

from __future__ import annotations

import copy
import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl.base.errors import MismatchError
from adapters_xtl.base.files import digest, folder_digest, read_json
from adapters_xtl.base.untrusted import Refusal
from adapters_xtl.planning.finished_modules import serve
from adapters_xtl.runs.request import Request
from adapters_xtl.runs.store import Store
from adapters_xtl.sharing import bundle
from adapters_xtl.sharing.bundle_record import parse_record
from tests.bundles import pack_run, reseal, stack

DEEP: Any = []
for _ in range(60):
    DEEP = [DEEP]
WRONG: list[Any] = [
    None,
    True,
    -1,
    1.5,
    10**30,
    "",
    "x" * 5000,
    "a\nb\x1b[2J",
    "../../x",
    "\ud800",
    [],
    {},
    [1, 1],
    {"a": 1},
    DEEP,
]
# what a record may say freely: options are the method's, and these hold what people are told
FREE = ("options", "run.options", "backbone.identity.config")


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of PAWS-X above MNLI."""
    run = stack(tmp_path_factory, "pawsx", on="mnli")
    return pack_run(run, tmp_path_factory.mktemp("fuzz") / "bundle")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to every value in a JSON value."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if isinstance(inner, (dict, list)):
            yield from places(inner, (*path, key))
        else:
            yield (*path, key)


def replaced(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    made = copy.deepcopy(value)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = other
    return made


def digests_made_right(record: Any) -> Any:
    """Whoever tampers can compute digests, too."""
    try:
        identity = digest(record["backbone"]["identity"])
        record["backbone"]["fingerprint"] = record["run"]["backbone"] = identity
        record["id"] = digest(record["run"])[:12]
        for name in ("method", "compose", "seed", "options", "protocol"):
            record[name] = record["run"][name]
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    return record


def test_no_value_of_another_kind_is_read(child: Path) -> None:
    """Refused in one line or, where it is a value that may stand there, read as it is."""
    record = read_json(child / "bundle.json")
    accepted = []
    for path in places(record):
        before = record
        for key in path:
            before = before[key]
        for other in WRONG:
            made = digests_made_right(replaced(record, path, other))
            try:
                parsed = parse_record(json.dumps(made).encode())
            except Refusal as refusal:
                assert "\n" not in str(refusal) and len(str(refusal)) < 1000
                continue
            assert parsed.to_json()["task"] == made["task"]
            name = ".".join(map(str, path))
            kept = made
            for key in path:
                kept = kept[key]
            # by the digests that were made right
            undone = type(kept) is not type(other) or kept != other
            number = isinstance(other, (int, float)) and not isinstance(other, bool)
            same = type(other) is type(before) or (number and isinstance(before, (int, float)))
            if not undone and not same and not name.startswith(FREE):
                accepted.append((name, other))
    assert accepted == [("trained", None)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_attn_implementation_internal", "somebody/kernels"),
        ("_attn_implementation", "somebody/kernels"),
        ("auto_map", {"AutoModel": "evil.Model"}),
        ("quantization_config", {"quant_method": "x"}),
        ("chunk_size_feed_forward", 4),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", True),
        ("hidden_size", 0),
        ("hidden_size", None),
        ("model_type", "evil"),
    ],
)
def test_a_backbone_that_is_not_to_be_loaded(key: str, value: Any, child: Path) -> None:
    record = read_json(child / "bundle.json")
    record["backbone"]["identity"]["config"][key] = value
    with pytest.raises(Refusal, match=key):
        parse_record(json.dumps(digests_made_right(record)).encode())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_attn_implementation_internal", "somebody/kernels"),
        ("auto_map", {"AutoModel": "kernels.Model"}),
    ],
)
def test_no_code_is_imported_for_a_bundles_backbone(
    key: str, value: Any, child: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a package `kernels` installed, which the library would ask for the code: reading and
    scoring such a bundle are refused, and nobody imports it.
    """
    package, imported = tmp_path / "site" / "kernels", tmp_path / "imported"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"open({str(imported)!r}, 'w').close()")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "kernels", raising=False)
    folder = Path(shutil.copytree(child, tmp_path / "bundle"))
    record = read_json(folder / "bundle.json")
    record["backbone"]["identity"]["config"][key] = value
    (folder / "bundle.json").write_text(json.dumps(digests_made_right(record)))
    reseal(folder)
    request = Request(task="", runs=str(tmp_path / "runs"), device="cpu")
    for use in (
        lambda: bundle.read(folder),
        lambda: serve(request, str(folder), Store(tmp_path / "runs")),
    ):
        with pytest.raises(MismatchError, match=key):
            use()
    assert not imported.exists()
    importlib.import_module("kernels")
    assert imported.exists(), "the package stands where it would be found"
    monkeypatch.delitem(sys.modules, "kernels")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), True),
        (("run", "seed"), 10**30),
        (("run", "seed"), -1),
        (("run", "seed"), True),
        (("run", "hyper", "lr"), True),
        (("run", "hyper", "batch_size"), 10**30),
        (("run", "from_layer"), True),
        (("run", "bits"), 32.0),
        (("trained", "steps"), -1),
        (("trained", "steps"), True),
    ],
)
def test_numbers_that_are_none(path: tuple[str, ...], value: Any, child: Path) -> None:
    record = replaced(read_json(child / "bundle.json"), path, value)
    with pytest.raises(Refusal, match=path[-1]):
        parse_record(json.dumps(digests_made_right(record)).encode())


@pytest.mark.parametrize("name", ["manifest.json", "module/adapter_config.json", "head"])
def test_files_beside_the_record(name: str, child: Path, tmp_path: Path) -> None:
    """Refused, or harmless: whatever is put in place of a value, reading ends without a traceback."""
    name = "head/pawsx/config.json" if name == "head" else name
    value = read_json(child / name)
    folder = Path(shutil.copytree(child, tmp_path / "bundle"))
    for path in places(value):
        for other in WRONG:
            (folder / name).write_text(json.dumps(replaced(value, path, other)))
            if name != "manifest.json":
                record = read_json(child / "bundle.json")
                record["module_sha256"] = folder_digest(folder / "module")
                (folder / "bundle.json").write_text(json.dumps(record))
                reseal(folder)
            try:
                bundle.read(folder)
            except MismatchError as error:
                assert all(len(line) < 1000 for line in str(error).splitlines())


def test_a_directory_in_place_of_the_card(child: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(child, tmp_path / "bundle"))
    (folder / "README.md").unlink()
    (folder / "README.md").mkdir()
    reseal(folder)
    with pytest.raises(MismatchError, match=r"README\.md"):
        bundle.read(folder)
