"""A finished run → a bundle directory: its module and heads as they are, bundle.json, the card, the
manifest.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters_xtl import tasks
from adapters_xtl.backbones import Backbone, registry
from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import digest, file_digest, folder_digest, read_json, write_json
from adapters_xtl.base.untrusted import safe_name
from adapters_xtl.data.repository import is_data
from adapters_xtl.runs.store import verify
from adapters_xtl.sharing import bundle, bundle_cache
from adapters_xtl.sharing.bundle_card import bundle_card, claimed, repo_of

__all__ = ["check_licence", "default_name", "pack", "parent_records", "parents_of", "training_run"]

# licences as the tasks' files state them → the hub's names
LICENCES = {
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
    "CC BY 4.0": "cc-by-4.0",
    "CC BY-SA 3.0": "cc-by-sa-3.0",
    "CC BY-SA 4.0": "cc-by-sa-4.0",
    "CC BY-NC 4.0": "cc-by-nc-4.0",
}
COST = ("steps", "examples", "trainable_parameters", "head_parameters", "total_parameters")
SCORED = ("split", "metric", "score", "languages", "selected_on", "layer")


def training_run(path: Path) -> Path:
    """The run that holds the module of a run: itself or, for an evaluation, the one
    that it scored.
    """
    spec = read_json(path / "spec.json")
    if spec["kind"] == "training":
        return path
    if spec["module"] is None:
        raise RequestError(f"{path}: scored the bare backbone; there is no module to share")
    beside = path.parent.parent / spec["module"]["task"] / spec["module"]["id"]
    if not (beside / bundle.MANIFEST).is_file():
        raise RequestError(
            f"{path}: an evaluation, and the run whose module it scored is not at {beside}"
        )
    return Path(beside)


def _lineage(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """(compose, parents with the digests of their modules) of a run or a bundle."""
    if bundle.is_bundle(folder):
        record = read_json(folder / bundle.RECORD)
        return str(record["compose"]), list(record["parents"])
    parents = read_json(folder / "provenance.json")["lineage"]["parents"]
    return str(read_json(folder / "spec.json")["run"]["compose"]), list(parents)


def parent_records(folder: Path) -> list[dict[str, Any]]:
    """[{"task", "id", "sha256"}] of the parents of a run or a bundle."""
    return _lineage(folder)[1]


def parents_of(folder: Path) -> list[Path | None]:
    """Directories of the parents of a run or a bundle, by the digests of its lineage: runs beside
    it, or bundles of the cache; None where neither is.
    """
    found: list[Path | None] = []
    for entry in _lineage(folder)[1]:
        beside = folder.parent.parent / entry["task"] / entry["id"]
        pulled = (
            bundle_cache.cached(note["bundle"], lambda text: None)
            for note in bundle_cache.notes(entry["sha256"])
        )
        known = [beside, *(each.path for each in pulled if each is not None)]
        fits = (
            path
            for path in known
            if (path / "module").is_dir() and folder_digest(path / "module") == entry["sha256"]
        )
        found.append(next(fits, None))
    return found


def default_name(folder: Path) -> str:
    """`xnli-on-mnli-lora-xlmr-large`: what a run or a bundle is called where nobody names it."""
    if bundle.is_bundle(folder):
        record = read_json(folder / bundle.RECORD)
        method = record["method"]
    else:
        record = read_json(folder / "spec.json")
        method = record["run"]["method"]
    below = "-".join(parent["task"] for parent in record["parents"])
    stack = f"{record['task']}-on-{below}" if below else record["task"]
    backbone = re.sub(
        r"[^A-Za-z0-9._-]+", "-", record["backbone"]["name"].rstrip("/").split("/")[-1]
    ).strip("-.")
    return f"{stack}-{method}-{backbone or 'backbone'}"[:96]


def pack(
    run: Path,
    into: Path,
    *,
    where: Callable[[str], Sequence[str]],
    licence: str = "",
    rows: str = "",
) -> None:
    """Writes the bundle of a run into the empty directory `into`.

    `where`: sha256 of a parent's module → places where it is known to lie. `licence`: the hub's
    name of one, else what the training data allows to say. `rows`: what the rows of a mirror are,
    in words. MismatchError where the run's files are not those of its manifest.
    """
    verify(run)
    spec, provenance, metrics = (
        read_json(run / f"{name}.json") for name in ("spec", "provenance", "metrics")
    )
    for part in ("module", "head"):
        for source in sorted((run / part).rglob("*")) if (run / part).is_dir() else ():
            if source.is_file():
                target = into / source.relative_to(run)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(
                    source, target
                )  # without its mode: libraries write weights for the owner only
    data = _data(spec, provenance, check_rows(rows, provenance["data"]["source"]))
    record = {
        "format": bundle.FORMAT,
        "task": spec["task"],
        "id": spec["id"],
        "method": spec["run"]["method"],
        "options": spec["run"]["options"],
        "labels": {
            path.parent.name: read_json(path)["labels"]
            for path in sorted(into.glob("head/*/config.json"))
        },
        "compose": spec["run"]["compose"],
        "composition": provenance.get("composition", ""),
        "seed": spec["run"]["seed"],
        "protocol": spec["run"]["protocol"],
        "run": spec["run"],
        "backbone": _backbone(spec),
        "module_sha256": folder_digest(into / "module"),
        "parents": [
            {
                **{key: entry[key] for key in ("task", "id", "sha256")},
                "where": list(where(entry["sha256"])),
            }
            for entry in provenance["lineage"]["parents"]
        ],
        "metrics": (
            {}
            if data["source"] == "embedded"
            else {
                task: {
                    **{key: entry[key] for key in SCORED if key in entry},
                    "protocol": spec["run"]["protocol"],
                }
                for task, entry in metrics["tasks"].items()
            }
        ),
        "trained": {key: metrics["train"][key] for key in COST} if metrics["train"] else None,
        "data": data,
        "versions": provenance["versions"],
        "licence": licence or _licence(data),
    }
    write_json(into / bundle.RECORD, record)
    fused = into / "module" / "adapter_fusion_config.json"
    names = read_json(fused)["name"].split(",") if fused.is_file() else ()
    (into / "README.md").write_text(
        bundle_card(record, [*_below(run), spec["task"]], names), encoding="utf-8"
    )
    bundle.seal(into)
    bundle.read(into, str(run))  # what a reader would refuse is not shared


def _below(folder: Path) -> list[str]:
    """Tasks of the modules that are loaded below a module: its parents or, for a copy, what its
    parent stands on.
    """
    compose, parents = _lineage(folder)
    if compose != "init":
        return [str(parent["task"]) for parent in parents]
    start = next(iter(parents_of(folder)[-1:]), None)
    if start is None:
        raise MismatchError(f"{folder}: its parent is neither beside it nor in the cache")
    return _below(start)


def _backbone(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The backbone's record, with what its fingerprint is the digest of; a local path is nobody
    else's affair.
    """
    record = spec["backbone"]
    if record["name"] in registry.NAMED:
        named: Backbone = registry.NAMED[record["name"]]
    else:
        named = registry.resolve(
            record["location"] + (f"@{record['revision']}" if record["revision"] else "")
        )
    identity = registry.identity(named)
    if digest(identity) != record["fingerprint"]:
        raise MismatchError(
            f"backbone {record['name']}: its fingerprint is {digest(identity)[:12]} now, and the"
            f" run was trained on {record['fingerprint'][:12]}"
        )
    local = named.source == "directory"
    name, location = (
        (Path(record["location"]).name,) * 2 if local else (record["name"], record["location"])
    )
    return {
        "name": name,
        "location": location,
        "fingerprint": record["fingerprint"],
        "revision": record["revision"],
        "bits": spec["bits"],
        "dtype": spec["run"]["dtype"],
        "identity": identity,
    }


def _data(spec: Mapping[str, Any], provenance: Mapping[str, Any], rows: str) -> dict[str, Any]:
    """What the rows were: counts and forms by task, revisions, a mirror's words on its own rows."""
    data = provenance["data"]
    kept = ("rows", "examples", "forms", "left_out")
    found: dict[str, Any] = {
        part: {task: {key: entry[key] for key in kept} for task, entry in data[part].items()}
        for part in ("train", "select")
    }
    limit = spec["run"]["hyper"]["max_examples"]
    for entry in found["train"].values():
        entry["examples"] = min(entry["examples"], limit or entry["examples"])
    report = {
        task: list(dict.fromkeys(form for entry in by.values() for form in entry["forms"]))
        for task, by in data["report"].items()
    }
    forms = {form for part in found.values() for entry in part.values() for form in entry["forms"]}
    forms |= {form for each in report.values() for form in each}
    notes = _mirror_notes(spec, forms) if data["source"] == "mirror" else {}
    found |= {"report": report, "notes": notes, "rows": rows}
    return {"source": data["source"], "revisions": data["revisions"], **found}


def _mirror_notes(spec: Mapping[str, Any], forms: set[str]) -> dict[str, str]:
    """Form → what the mirror's CONTENTS.tsv says of it (columns repo, config, split, note).

    {} unless the mirror still holds every file that was trained on: it may be another one by now.
    (The select files are not asked for: those are counted in that only keep rows out, and which no
    form names.)
    """
    root = Path(spec["request"]["data"] or "").expanduser()
    contents = root / "CONTENTS.tsv"
    if not contents.is_file():
        return {}
    header, *rows = (
        line.split("\t") for line in contents.read_text(encoding="utf-8").splitlines() if line
    )
    if not {"repo", "config", "split", "note"} <= set(header):
        return {}
    listed = [dict(zip(header, row, strict=False)) for row in rows]
    notes = {
        f"{row['repo']} [{row['config']}] {row['split']}": row.get("note", "") for row in listed
    }
    files = (
        path
        for repo in {repo_of(form) for form in forms}
        for path in (root / repo).rglob("*")
        if is_data(path.name)
    )
    held = {file_digest(path, remember=True) for path in files if path.is_file()}
    trained = set(spec["run"]["data"]["train"])
    return {form: notes[form] for form in sorted(forms & set(notes))} if trained <= held else {}


def _licence(data: Mapping[str, Any]) -> str:
    """A licence that follows from the training data alone, by the hub's names, else "other"."""
    if data["source"] == "embedded":
        return "apache-2.0"  # the package's own rows
    forms = [form for part in data["train"].values() for form in part["forms"]]
    stated = {tasks.load(task).licence for task in data["train"] if task in tasks.names()}
    if forms and set(claimed(data)) == set(forms) and len(stated) == 1:
        return LICENCES.get(next(iter(stated)), "other")
    return "other"


def check_rows(text: str, source: str) -> str:
    """What rows are, in words for a card. RequestError where that is known already, or for what is
    no line of text.
    """
    if text and source != "mirror":
        raise RequestError(
            f"--rows: says what a mirror's rows are, and this run's data is {source}"
        )
    if not text.isprintable() or len(text) > 300:
        raise RequestError("--rows: takes one line of at most 300 characters")
    return text


def check_licence(text: str) -> str:
    """A licence as the hub names it (`apache-2.0`, `cc-by-4.0`). RequestError for what cannot be
    one.
    """
    if text and not safe_name(text):
        raise RequestError(
            f"--licence {text}: the hub's name of a licence, e.g. apache-2.0 or cc-by-4.0"
        )
    return text.lower()
