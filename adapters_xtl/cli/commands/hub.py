"""`xtl hub`: bundles pushed, pulled, listed, shown, verified; foreign modules taken in."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl import tasks
from adapters_xtl.base.errors import MismatchError, RequestError, nearest
from adapters_xtl.base.files import local
from adapters_xtl.base.hub import offline
from adapters_xtl.base.untrusted import load_json, printable, safe_name
from adapters_xtl.pages import tables
from adapters_xtl.runs.store import Store
from adapters_xtl.sharing import (
    bundle,
    bundle_cache,
    folder_hub,
    hub,
    lineage,
    module_import,
    pack,
    repository,
)
from adapters_xtl.sharing.bundle import Bundle
from adapters_xtl.sharing.bundle_card import chain_of

__all__ = ["import_", "list_", "pull", "push", "show", "verify"]

Notify = Callable[[str], None]
Shown = list[Table | str]


def push(
    run: str,
    dest: str,
    *,
    runs: str,
    with_parents: bool,
    private: bool,
    licence: str,
    rows: str,
    notify: Notify,
) -> tuple[dict[str, Any], Shown]:
    """A finished run (or a bundle directory) to a hub or a folder hub."""
    pack.check_licence(licence)
    folder = _folder(run, Store(Path(runs)))
    above: list[dict[str, Any]] = []
    name = pack.default_name(folder)
    if with_parents:
        _push_parents(folder, _beside(dest, name), _Options(private, "", "", notify), above)
    done, found = _push(folder, dest, name, _Options(private, licence, rows, notify))
    if not with_parents:
        for record in found.parents:
            if not record["where"]:
                notify(
                    f"its parent {record['task']} is not known to lie anywhere: push it too, with"
                    " --with-parents"
                )
    payload = {**done, "parents": above}
    lines = [
        f"{'pushed' if each['new'] else 'already there'}: {each['place']}"
        for each in (*above, done)
    ]
    return payload, [*lines, f"bundle {found.digest[:12]}, {done['bytes']:,} bytes"]


def _folder(text: str, store: Store) -> Path:
    """The directory of what is to be shared: a bundle's, or a training run's."""
    path = local(text)
    if bundle.is_bundle(path):
        return path
    found = lineage.find(text, store)
    if found is None:
        known = [each.name for each in store.all()]
        raise RequestError(
            f"'{printable(text)}': no finished run directory, no run id and no"
            f" bundle{nearest(text, known)}"
        )
    return found if bundle.is_bundle(found) else pack.training_run(found)


class _Options:
    """What every push of one command shares."""

    def __init__(self, private: bool, licence: str, rows: str, notify: Notify) -> None:
        self.private, self.licence, self.rows, self.notify = private, licence, rows, notify


def _push(folder: Path, dest: str, name: str, options: _Options) -> tuple[dict[str, Any], Bundle]:
    """One bundle, made first where `folder` is a run."""
    with tempfile.TemporaryDirectory(prefix="xtl-bundle-") as aside:
        ready = folder
        given = [
            flag
            for flag, value in (("--licence", options.licence), ("--rows", options.rows))
            if value
        ]
        if bundle.is_bundle(folder) and given:
            raise RequestError(
                f"{' and '.join(given)}: {folder} is a bundle, shared as it is; push its run"
                " instead"
            )
        if not bundle.is_bundle(folder):
            ready = Path(aside)
            said = (
                hub.published_places(dest, name, options.notify)
                if pack.parent_records(folder)
                else {}
            )
            pack.pack(
                folder,
                ready,
                where=lambda sha256: said.get(sha256) or hub.known_places(sha256, dest),
                licence=pack.check_licence(options.licence),
                rows=options.rows,
            )
        found = bundle.read(ready)
        done = hub.push(ready, dest, name, options.notify, private=options.private)
        size = sum(path.stat().st_size for path in ready.rglob("*") if path.is_file())
    return {
        "place": done.place,
        "new": done.new,
        "task": found.task,
        "id": found.id,
        "digest": found.digest,
        "module_sha256": found.module_sha256,
        "bytes": size,
    }, found


def _beside(dest: str, name: str) -> str:
    """Where bundles beside `dest` go: the root of its folder hub as `file:DIR`, or its owner on the
    hub.
    """
    if dest.startswith(folder_hub.PREFIX):
        target, *_ = folder_hub.target(folder_hub.split(dest)[0], name, name.split("-")[0])
        return f"{folder_hub.PREFIX}{target}"
    return dest.split("/")[0]


def _push_parents(folder: Path, base: str, options: _Options, done: list[dict[str, Any]]) -> None:
    """Every parent that the destination lacks, the lowest first, each under its own name beside its
    child.
    """
    for entry, path in zip(pack.parent_records(folder), pack.parents_of(folder), strict=True):
        if path is None:
            raise MismatchError(
                f"{folder}: its parent {entry['task']} ({entry['id']}, module {entry['sha256']}) is"
                " neither beside it nor in the cache, so it cannot be pushed; `xtl hub pull` it"
                " first"
            )
        _push_parents(path, base, options, done)
        if entry["sha256"] in (each["module_sha256"] for each in done):
            continue
        name = f"{base}/{pack.default_name(path)}"
        known = [
            place
            for place in hub.known_places(entry["sha256"], name)
            if place.startswith(f"{base}/")
        ]
        if known and base.startswith(folder_hub.PREFIX):
            continue  # the folder has it
        done.append(
            _push(
                path, known[0].split("@")[0] if known else name, pack.default_name(path), options
            )[0]
        )


def pull(text: str, out: Path | None, *, notify: Notify) -> tuple[dict[str, Any], Shown]:
    """A bundle and everything it stands on, verified; with `out` a copy of the bundle itself."""
    path = hub.find(text, notify)
    found = bundle.read(path)
    above = hub.ancestors(found, notify)
    if out is not None:
        path = _copy(found, local(str(out)).absolute())
    payload = {
        "path": str(path),
        "task": found.task,
        "id": found.id,
        "digest": found.digest,
        "module_sha256": found.module_sha256,
        "parents": [
            {"task": each.task, "path": str(each.path), "module_sha256": each.module_sha256}
            for each in above
        ],
    }
    lines = [
        f"{chain_of(found.record)}: {path}",
        *(f"parent {each.task}: {each.path}" for each in above),
    ]
    return payload, [
        *lines,
        f"verified: bundle {found.digest[:12]}, module {found.module_sha256[:12]}",
    ]


def _copy(found: Bundle, out: Path) -> Path:
    """A bundle at `out`, whole or not at all."""
    if out.is_dir() and any(out.iterdir()):
        if bundle.is_bundle(out) and bundle.read(out).digest == found.digest:
            return out
        raise RequestError(f"-o {out}: not empty, and it does not hold this bundle")
    if out.exists() and not out.is_dir():
        raise RequestError(f"-o {out}: a file")
    if found.path.resolve() in out.resolve().parents:
        raise RequestError(f"-o {out}: inside of the bundle itself, which would be none with it")
    names = [*bundle.manifest_of(load_json(found.path / bundle.MANIFEST)), bundle.MANIFEST]
    aside = out.with_name(f".{out.name[:200]}.{os.getpid()}")
    with folder_hub.writable(f"-o {out}"):
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            folder_hub.copy_files(
                found.path.resolve(),
                aside,
                {name: (found.path / name).stat().st_size for name in names},
            )
            bundle.read(aside)
            if out.is_dir():
                out.rmdir()
            os.rename(aside, out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return out


def list_(place: str | None, *, notify: Notify) -> tuple[dict[str, Any], Shown]:
    """Bundles of the cache, of a folder hub (file:DIR), or of a user or organisation of the hub."""
    found: list[dict[str, Any]] = []
    if place is None:
        for name in bundle_cache.held():
            each = bundle_cache.cached(name, notify)
            if each is not None:
                known = [
                    note["place"]
                    for note in bundle_cache.notes(each.module_sha256)
                    if note["bundle"] == name
                ]
                found.append(
                    {
                        "place": known[-1] if known else str(each.path),
                        "digest": name,
                        **hub.facts(each),
                    }
                )
    elif place.startswith(folder_hub.PREFIX):
        there = folder_hub.find(folder_hub.split(place)[0])
        if there is None:
            raise RequestError(f"{place}: no folder hub (no {folder_hub.INDEX})")
        root, only = there
        for name, revisions in folder_hub.entries(root).items():
            for entry in revisions if only in ("", name) else ():
                where = f"{folder_hub.PREFIX}{root}/{name}@{entry['revision']}"
                newest = entry is revisions[-1]
                found.append(
                    {"place": where, "digest": entry["digest"], **entry["facts"], "newest": newest}
                )
    else:
        if not safe_name(place):
            meant = (
                f"; did you mean {folder_hub.PREFIX}{place}?"
                if place and local(place).is_dir()
                else ""
            )
            raise RequestError(
                f"'{printable(place)}': takes file:DIR, or a user or organisation of the hub{meant}"
            )
        if offline():
            raise RequestError(
                f"{printable(place)}: HF_HUB_OFFLINE is set; `xtl hub list` alone lists the cache"
            )
        found = [{"place": repo} for repo in repository.search(place)]
        return {"bundles": found}, [*(each["place"] for each in found)] or [
            f"{place}: nothing tagged {repository.TAG}"
        ]
    columns = ("bundle", "revision", "stack", "method", "backbone")
    rows = [
        (
            printable(each["place"].split("@")[0], 100),
            printable(each["place"].partition("@")[2][:12]),
            *(printable(each.get(key, "")) for key in ("stack", "method", "backbone")),
        )
        for each in found
    ]
    return {"bundles": found}, [tables.listed("bundles", columns, rows)]


def show(text: str, *, notify: Notify) -> tuple[dict[str, Any], Shown]:
    """What a bundle says of itself; nothing but its descriptions is fetched."""
    place, record, sizes = hub.describe(text, notify)
    backbone = record["backbone"]
    facts = [
        ("place", place),
        ("stack", chain_of(record)),
        ("method", record["method"]),
        ("run", record["id"]),
        (
            "backbone",
            (
                f"{backbone['name']}, fingerprint {backbone['fingerprint'][:12]},"
                f" {backbone['bits']} bits"
            ),
        ),
        ("module", record["module_sha256"]),
        ("licence", record["licence"]),
        ("data", record["data"]["source"]),
        ("bytes", f"{sum(sizes.values()):,}"),
        *(
            (f"parent {each['task']}", f"{each['sha256']} {' '.join(each['where'])}")
            for each in record["parents"]
        ),
        *(
            (
                f"{task}, {entry['split']}",
                (
                    f"{entry['metric']} {entry['score']:.2f}, {len(entry['languages'])} languages, "
                    f"protocol {entry['protocol']}"
                ),
            )
            for task, entry in record["metrics"].items()
        ),
    ]
    rows = [(name, printable(value, 200)) for name, value in facts]
    return {"place": place, "files": sizes, **record}, [
        tables.listed(printable(text), ("what", "value"), rows)
    ]


def verify(text: str, *, notify: Notify) -> tuple[dict[str, Any], Shown]:
    """Checks a bundle directory (or hub id): every name, file, tensor shape and digest."""
    path = local(text)
    located = path if path.exists() else hub.locate(text, notify)
    found = bundle.read(located or path, "" if located else f"'{printable(text)}'")
    files = len(list(found.path.rglob("*.*")))
    payload = {
        "path": str(found.path),
        "verified": True,
        "task": found.task,
        "id": found.id,
        "digest": found.digest,
        "module_sha256": found.module_sha256,
        "parents": [dict(each) for each in found.parents],
    }
    return payload, [
        f"{found.path}: {chain_of(found.record)}, {files} files as its manifest says; digest"
        f" {found.digest}"
    ]


def import_(
    source: Path, task: str, *, backbone: str | None, labels: str, runs: str
) -> tuple[dict[str, Any], Shown]:
    """Takes a module that `adapters` or `peft` saved into the store."""
    names = [name.strip() for name in labels.split(",") if name.strip()]
    tasks.load(task)
    store = Store(Path(runs))
    store.check_writable()
    found = module_import.take(source, task, store, backbone=backbone, labels=names)
    payload = {
        "id": found.id,
        "path": str(found.path),
        "reused": found.reused,
        "method": found.method,
        "head": found.head or None,
        "notes": found.notes,
    }
    head = f"with its head for {found.head}" if found.head else "without a head"
    return payload, [f"{task} ({found.method}), {head}: {found.path}", *found.notes]
