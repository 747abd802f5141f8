"""A bundle: a module ready to share, and how it is read so that nothing in it needs to be believed.

    module/            what the library itself wrote: a description (JSON) and weights (safetensors)
    head/<task>/       config.json and model.safetensors of each head
    bundle.json        task, labels, method, run, backbone, parents by digest and where they are,
                       scores, data, versions
    README.md          the card: for people, never parsed here
    manifest.json      {"files": {name: sha256}} of every file but itself

Everything is checked before anything is used: names and kinds of files, JSON within limits, the
run's id and the backbone's fingerprint against what they are digests of, every tensor's shape
against the backbone's own sizes, every file's sha256. A bundle's digest is that of its manifest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from adapters_xtl import formats
from adapters_xtl.base import untrusted
from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import digest, file_digest, write_json
from adapters_xtl.base.untrusted import (
    JSON_BYTES,
    Refusal,
    Tensor,
    load_json,
    parse_json,
    printable,
    safe_name,
    scan,
    tensors,
    unfit_name,
    unfit_values,
)
from adapters_xtl.methods._tensor_shapes import (
    Sizes,
    check_shapes,
    module_files,
    module_shapes,
    sizes,
)

__all__ = [
    "FORMAT",
    "MANIFEST",
    "RECORD",
    "RECORD_BYTES",
    "SHOWN",
    "Bundle",
    "is_bundle",
    "manifest_of",
    "parse_record",
    "read",
    "seal",
    "unwanted",
]

FORMAT = 1
RECORD, MANIFEST = "bundle.json", "manifest.json"
RECORD_BYTES = 4 * JSON_BYTES
SHOWN = 12  # complaints about one bundle
WANTED = (
    r"bundle\.json",
    r"manifest\.json",
    r"README\.md",
    r"module/[^/]+\.(?:json|safetensors)",
    r"head/[^/]+/(?:config\.json|model\.safetensors)",
)
_HEX = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{12,64}")
_PLACE = re.compile(
    r"(?:file:[^\x00-\x1f\x7f]{1,400}|[\w.-]{1,96}/[\w.-]{1,96}(?:@[\w./-]{1,96})?)"
)
_NUMBERS = (int, float)


@dataclass(frozen=True)
class Bundle:
    """A verified bundle directory. `run` is `Run.identity()`, `record` all of bundle.json.

    parents        [{"task", "id", "sha256" of the parent's module, "where": places it is known to
                   lie}], as in the chain
    module_sha256  digest over the names and sha256 of module/'s files (`canon.folder_digest`)
    digest         64 hex digits that name this bundle: of its manifest
    """

    path: Path
    task: str
    id: str
    run: Mapping[str, Any]
    backbone: Mapping[str, Any]
    parents: tuple[Mapping[str, Any], ...]
    module_sha256: str
    digest: str
    record: Mapping[str, Any] = field(repr=False)


def is_bundle(path: Path) -> bool:
    """Whether a directory says that it is one; nothing is verified."""
    return (path / RECORD).is_file()


def read(path: Path, where: str = "") -> Bundle:
    """The bundle in a directory, verified. MismatchError with one line for everything that is wrong
    with it.

    `where`: what to call it in messages, where that is not its directory.
    """
    where = where or str(path)
    if not path.is_dir():
        raise RequestError(f"{where}: {'a file, not a' if path.exists() else 'no such'} directory")
    if not is_bundle(path):
        run = (
            "; it is a run directory, of which `xtl hub push` makes a bundle"
            if (path / "spec.json").is_file()
            else ""
        )
        raise RequestError(f"{where}: no {RECORD}, so no bundle{run}")
    complaints = _Complaints(where)
    held, problems = scan(path, WANTED)
    complaints.messages += problems
    shas = complaints.attempt(MANIFEST, lambda: manifest_of(load_json(path / MANIFEST))) or {}
    for name in sorted(set(shas) - set(held)):
        complaints.messages.append(f"{printable(name)}: missing, though the manifest names it")
    for name in sorted(set(held) - set(shas) - {MANIFEST}):
        complaints.messages.append(f"{printable(name)}: not in the manifest")
    record = complaints.attempt(
        RECORD, lambda: parse_record(load_json(path / RECORD, RECORD_BYTES))
    )
    if record is not None:
        _weights(path, record, held, complaints)
    fits = [
        name for name in sorted(set(shas) & set(held)) if not _endless(name, held[name], complaints)
    ]
    found = {name: file_digest(path / name) for name in fits}
    for name, sha in found.items():
        if sha != shas[name]:
            complaints.messages.append(
                f"{name}: its sha256 is {sha}, not the manifest's {shas[name]}"
            )
    module = digest(
        {
            name.removeprefix("module/"): sha
            for name, sha in found.items()
            if name.startswith("module/")
        }
    )
    if (
        record is not None
        and len(fits) == len(set(shas) & set(held))
        and module != record["module_sha256"]
    ):
        complaints.messages.append(
            f"module/: its digest is {module}, not the {record['module_sha256']} of {RECORD}"
        )
    complaints.raise_if_any()
    assert record is not None
    return Bundle(
        path,
        record["task"],
        record["id"],
        record["run"],
        record["backbone"],
        tuple(record["parents"]),
        module,
        digest(shas),
        record,
    )


def unwanted(name: str, size: int = 0) -> str:
    """Why a file has no place in a bundle, by its name and bytes; "" where it has one."""
    fits = any(re.fullmatch(pattern, name) for pattern in WANTED)
    long = size > RECORD_BYTES and not name.endswith(".safetensors")
    said = f"longer than {RECORD_BYTES:,} bytes" if long else ""
    return unfit_name(name) or (said if fits else untrusted.unwanted(name))


def _endless(name: str, size: int, complaints: _Complaints) -> bool:
    """Whether a file is not to be read to its end: a text that is too long, or big weights that are
    refused anyway.
    """
    if reason := unwanted(name, size):
        complaints.messages.append(f"{name}: {reason}")
    return bool(reason) or (
        size > 16 * RECORD_BYTES
        and any(said.startswith(f"{name}:") for said in complaints.messages)
    )


def seal(path: Path) -> None:
    """Writes the manifest of a finished bundle directory."""
    names = sorted(each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file())
    write_json(
        path / MANIFEST,
        {"files": {name: file_digest(path / name) for name in names if name != MANIFEST}},
    )


def manifest_of(value: Any) -> dict[str, str]:
    """A manifest's files: name → sha256. Refusal for one that is malformed, or names what lies
    outside.
    """
    files = value.get("files") if isinstance(value, dict) else None
    if not isinstance(files, dict) or set(value) != {"files"}:
        raise Refusal('expected {"files": {name: sha256}}')
    for name, sha in files.items():
        if reason := unfit_name(name):
            raise Refusal(f"names {printable(name)!r}: {reason}")
        if not isinstance(sha, str) or not _HEX.fullmatch(sha):
            raise Refusal(f"the sha256 of {printable(name)} is none")
    return dict(files)


class _Complaints:
    """What is wrong with one bundle, collected."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.messages: list[str] = []

    def attempt(self, name: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Refusal as refusal:
            self.messages.append(f"{name}: {refusal}")
            return None

    def raise_if_any(self) -> None:
        found = list(dict.fromkeys(self.messages))
        if found:
            more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
            raise MismatchError(
                "\n".join(f"{self.where}: {message}" for message in [*found[:SHOWN], *more])
            )


def _weights(
    path: Path, record: Mapping[str, Any], held: Mapping[str, int], complaints: _Complaints
) -> None:
    """Descriptions and headers of the module and the heads, held against the backbone's sizes."""
    backbone = record["backbone"]["identity"]["config"]
    size: Sizes = sizes(backbone)
    description, weights = (
        f"module/{name}" for name in module_files(record["method"], record["compose"])
    )
    for name in held:
        if name.startswith("module/") and name not in (description, weights):
            complaints.messages.append(
                f"{printable(name)}: unknown file; a {record['method']} module is {description} and"
                f" {weights}"
            )
    for name in {description, weights} - set(held):
        complaints.messages.append(f"{name}: missing")
    if description in held and weights in held:
        there = complaints.attempt(weights, lambda: tensors(path / weights))
        if there is not None:
            wanted = complaints.attempt(
                description,
                lambda: module_shapes(
                    record["method"],
                    record["compose"],
                    load_json(path / description),
                    backbone,
                    there,
                ),
            )
            if wanted is not None:
                complaints.attempt(weights, lambda: _check_weights(path / weights, there, wanted))
        else:
            complaints.attempt(description, lambda: load_json(path / description))
    heads = {name.split("/")[1] for name in held if name.startswith("head/")}
    for task in sorted(heads ^ set(record["labels"])):
        complaints.messages.append(
            f"head/{printable(task)}: {RECORD} and the directory differ on whether it is there"
        )
    for task in sorted(heads & set(record["labels"])):
        complaints.attempt(
            f"head/{task}", partial(_head, path / "head" / task, record["labels"][task], size)
        )


def _head(folder: Path, labels: list[str], size: Sizes) -> None:
    config = load_json(folder / "config.json")
    wanted = formats.head_shapes(config, size.hidden, size.longest)
    if config["labels"] != labels:
        raise Refusal(f"its labels are not those of {RECORD}")
    weights = folder / "model.safetensors"
    _check_weights(weights, tensors(weights), wanted)


def _check_weights(
    path: Path, held: Mapping[str, Tensor], wanted: dict[str, tuple[int, ...]]
) -> None:
    """Refusal unless a file holds exactly the tensors that are wanted, all of finite numbers."""
    check_shapes(held, wanted)
    if fault := unfit_values(path, held):
        raise Refusal(fault)


def parse_record(value: Any) -> dict[str, Any]:
    """bundle.json's value, checked. Refusal names the first key that is missing, malformed or at
    odds with another.
    """
    if isinstance(value, bytes):
        value = parse_json(value, RECORD_BYTES)
    if not isinstance(value, dict):
        raise Refusal("no JSON object")
    if value.get("format") != FORMAT:
        raise Refusal(f"format {printable(value.get('format'), 20)}; this version reads {FORMAT}")
    for name, check in _KEYS.items():
        if name not in value:
            raise Refusal(f"lacks the key {name!r}")
        if not check(value[name]):
            raise Refusal(
                f"the key {name!r} is malformed"
                f" ({printable(json.dumps(value[name], ensure_ascii=False), 60)})"
            )
    for name in value:
        if name not in _KEYS:
            raise Refusal(f"unknown key {printable(name, 40)!r}")
    run, backbone = value["run"], value["backbone"]
    if digest(run)[: len(value["id"])] != value["id"]:
        raise Refusal(f"the id {value['id']} is not the digest of its run, {digest(run)[:12]}")
    if not run["backbone"] == backbone["fingerprint"] == digest(backbone["identity"]):
        raise Refusal(
            "the backbone's fingerprint is not the digest of its identity, or not the run's"
        )
    for name, said in (
        (name, value[name]) for name in ("method", "compose", "seed", "options", "protocol")
    ):
        if run[name] != said:
            raise Refusal(f"the key {name!r} and its run differ")
    if (run["bits"], run["dtype"]) != (backbone["bits"], backbone["dtype"]):
        raise Refusal("its backbone's bits or dtype are not its run's")
    if value["compose"] == "fuse" and len(value["parents"]) < 2:
        raise Refusal("it is fused, and has fewer than two parents")
    if list(run["parents"]) != [parent["id"] for parent in value["parents"]]:
        raise Refusal("its parents are not those of its run")
    if not set(value["labels"]) <= {name for name, _ in run["tasks"]}:
        raise Refusal("it has a head for a task that its run was not trained on")
    if run["from_layer"] >= sizes(backbone["identity"]["config"]).layers:
        raise Refusal(
            f"its run begins at layer {run['from_layer']}, which its backbone does not have"
        )
    module_files(value["method"], value["compose"])
    return value


def _line(value: Any) -> bool:
    return isinstance(value, str) and len(value) < 500 and value.isprintable()


def _lines(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_line, value)) and all(map(_line, value.values()))


def _sha(value: Any) -> bool:
    return isinstance(value, str) and bool(_HEX.fullmatch(value))


def _run(value: Any) -> bool:
    """Whether a value can be `Run.identity()`: these keys, with values that can be made a `Run` of
    again.
    """
    return (
        isinstance(value, dict)
        and set(value) == set(_RUN)
        and all(check(value[name]) for name, check in _RUN.items())
    )


def _natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 40


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _all(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) <= 1000 and all(map(check, value))


def _named(checks: Mapping[str, Callable[[Any], bool]], value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) <= set(checks)
        and all(checks[name](value[name]) for name in value)
    )


_WHOLE = (
    "max_steps",
    "batch_size",
    "max_length",
    "stride",
    "max_examples",
    "eval_every",
    "patience",
    "select_examples",
    "cap",
)
_SHARES = ("lr", "epochs", "warmup", "weight_decay", "clip", "dropout")
HYPER: Mapping[str, Callable[[Any], bool]] = {  # the fields of `spec.Hyper`
    **dict.fromkeys(_WHOLE, _natural),
    **dict.fromkeys(_SHARES, _number),
    "optimizer": safe_name,
    "dtype": safe_name,
    "tasks": _all(safe_name),
}
_RUN: Mapping[str, Callable[[Any], bool]] = {
    "tasks": lambda value: (
        isinstance(value, list)
        and all(
            isinstance(each, list) and len(each) == 2 and safe_name(each[0]) and _natural(each[1])
            for each in value
        )
    ),
    "data": lambda value: (
        _named({"train": _all(_sha), "select": _all(_sha)}, value) and len(value) == 2
    ),
    "backbone": lambda value: _sha(value),
    "method": safe_name,
    "options": lambda value: (
        isinstance(value, dict) and len(value) < 100 and all(map(safe_name, value))
    ),
    "compose": lambda value: value in ("", "stack", "init", "fuse"),
    "bits": lambda value: _natural(value) and value in (32, 16, 8, 4),
    "dtype": lambda value: value in ("float32", "bfloat16", "float16"),
    "from_layer": _natural,
    "hyper": lambda value: _named(HYPER, value) and "tasks" in value,
    "seed": lambda value: type(value) is int,
    "protocol": lambda value: value in ("clean", "xtreme"),
    "parents": _all(lambda value: isinstance(value, str) and bool(_ID.fullmatch(value))),
}


def _backbone(value: Any) -> bool:
    names = {"name", "location", "fingerprint", "revision", "bits", "dtype", "identity"}
    if not isinstance(value, dict) or set(value) != names or not _sha(value["fingerprint"]):
        return False
    identity = value["identity"]
    texts = all(_line(value[name]) for name in ("name", "location", "revision", "dtype"))
    return (
        texts
        and value["bits"] in (32, 16, 8, 4)
        and isinstance(identity, dict)
        and isinstance(identity.get("config"), dict)
    )


def _parent(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"task", "id", "sha256", "where"}:
        return False
    places = value["where"]
    return (
        safe_name(value["task"])
        and safe_name(value["id"])
        and _sha(value["sha256"])
        and isinstance(places, list)
        and (
            len(places) <= 20
            and all(isinstance(place, str) and _PLACE.fullmatch(place) for place in places)
        )
    )


def _metrics(value: Any) -> bool:
    return isinstance(value, dict) and all(
        safe_name(task)
        and isinstance(entry, dict)
        and isinstance(entry.get("score"), _NUMBERS)
        and all(isinstance(entry.get(name), str) for name in ("split", "metric", "protocol"))
        and isinstance(entry.get("languages"), dict)
        and all(
            safe_name(code)
            and isinstance(scores, dict)
            and all(isinstance(each, _NUMBERS) for each in scores.values())
            for code, scores in entry["languages"].items()
        )
        for task, entry in value.items()
    )


def _labels(value: Any) -> bool:
    return isinstance(value, dict) and all(
        safe_name(task) and isinstance(each, list) for task, each in value.items()
    )


_KEYS: dict[str, Callable[[Any], bool]] = {
    "format": lambda value: value == FORMAT,
    "task": safe_name,
    "id": lambda value: isinstance(value, str) and bool(_ID.fullmatch(value)),
    "method": safe_name,
    "options": lambda value: isinstance(value, dict),
    "labels": _labels,
    "compose": lambda value: value in ("", "stack", "init", "fuse"),
    "composition": _line,
    "seed": lambda value: type(value) is int,
    "protocol": safe_name,
    "run": _run,
    "backbone": _backbone,
    "module_sha256": _sha,
    "parents": lambda value: (
        isinstance(value, list) and len(value) <= 16 and all(map(_parent, value))
    ),
    "metrics": _metrics,
    "trained": lambda value: value is None or isinstance(value, dict),
    "data": lambda value: isinstance(value, dict) and isinstance(value.get("source"), str),
    "versions": _lines,
    "licence": safe_name,
}
