"""`xtl hub`: bundles pushed, pulled, listed, shown, verified; foreign modules taken in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl import tasks
from adapters_xtl.base.errors import MismatchError, RequestError, clipped
from adapters_xtl.base.files import digest, local
from adapters_xtl.base.hub import offline
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.base.untrusted import Refusal, load_json, printable, safe_name
from adapters_xtl.pages import tables
from adapters_xtl.runs.store import Store
from adapters_xtl.sharing import (
    addresses,
    bundle,
    bundle_cache,
    hub_repository,
    module_import,
    pack,
    publish,
    shared_folder,
)
from adapters_xtl.sharing.bundle import Bundle
from adapters_xtl.sharing.bundle_record import BundleRecord, record_of
from adapters_xtl.sharing.parents import ancestors
from adapters_xtl.sharing.shared_folder import PREFIX

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
    """A finished run (or a bundle directory) to a hub or a folder."""
    pack.check_licence(licence)
    *parents, last = publish.share(
        publish.find_shareable(run, Store(Path(runs)), notify),
        dest,
        with_parents=with_parents,
        private=private,
        licence=licence,
        rows=rows,
        notify=notify,
    )
    payload = {**_pushed(last), "parents": [_pushed(parent) for parent in parents]}
    lines = [
        f"{'pushed' if pushed.new else 'already there'}: {pushed.place}"
        for pushed in (*parents, last)
    ]
    return payload, [*lines, f"bundle {last.bundle.digest[:12]}, {last.bytes:,} bytes"]


def _pushed(pushed: publish.Pushed) -> dict[str, Any]:
    return {
        "place": pushed.place,
        "new": pushed.new,
        **_named(pushed.bundle),
        "bytes": pushed.bytes,
    }


def _named(received: Bundle) -> dict[str, Any]:
    """By what a bundle is known, for `--json`."""
    return {
        "task": received.task,
        "id": received.record.id,
        "digest": received.digest,
        "module_sha256": received.module_sha256,
    }


def pull(text: str, out: Path | None, *, notify: Notify) -> tuple[dict[str, Any], Shown]:
    """A bundle and everything it stands on, verified; with `out` a copy of the bundle itself."""
    path = addresses.find(text, notify)
    pulled = bundle.read(path)
    above = ancestors(pulled, notify)
    if out is not None:
        path = _copy(pulled, local(str(out)).absolute())
    parents = [
        {
            "task": parent.task,
            "path": str(parent.path),
            "module_sha256": parent.module_sha256,
        }
        for parent in above
    ]
    payload = {"path": str(path), **_named(pulled), "parents": parents}
    return payload, [
        f"{pulled.record.chain}: {path}",
        *(f"parent {parent.task}: {parent.path}" for parent in above),
        f"verified: bundle {pulled.digest[:12]}, module {pulled.module_sha256[:12]}",
    ]


def _copy(pulled: Bundle, out: Path) -> Path:
    """A bundle at `out`, whole or not at all."""
    if out.is_dir() and any(out.iterdir()):
        if bundle.is_bundle(out) and bundle.read(out).digest == pulled.digest:
            return out
        raise RequestError(f"-o {out}: not empty, and it does not hold this bundle")
    if out.exists() and not out.is_dir():
        raise RequestError(f"-o {out}: a file")
    if pulled.path.resolve() in out.resolve().parents:
        raise RequestError(f"-o {out}: inside of the bundle itself, which would be none with it")
    names = [*bundle.manifest_of(load_json(pulled.path / bundle.MANIFEST)), bundle.MANIFEST]
    unfinished = out.with_name(f".{out.name[:200]}.{os.getpid()}")
    with shared_folder.writable(f"-o {out}"):
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            shared_folder.copy_files(
                pulled.path.resolve(),
                unfinished,
                {name: (pulled.path / name).stat().st_size for name in names},
            )
            bundle.read(unfinished)
            if out.is_dir():
                out.rmdir()
            os.rename(unfinished, out)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return out


def list_(place: str | None, *, notify: Notify) -> tuple[dict[str, Any], Shown]:
    """Bundles of the cache, of a folder (file:DIR), or of a user or organisation of the hub."""
    if place is None:
        listed = _in_cache(notify)
    elif place.startswith(PREFIX):
        listed = _in_folder(place, notify)
    else:
        return _of_owner(place)
    columns = ("bundle", "revision", "stack", "method", "backbone")
    rows = [
        (
            printable(entry["place"].split("@")[0], 100),
            printable(entry["place"].partition("@")[2][:12]),
            *(printable(entry.get(key, "")) for key in ("stack", "method", "backbone")),
        )
        for entry in listed
    ]
    return {"bundles": listed}, [tables.listed("bundles", columns, rows)]


def _facts(record: BundleRecord) -> dict[str, Any]:
    """What a listing shows of a bundle."""
    return {
        "task": record.task,
        "id": record.id,
        "stack": record.chain,
        "method": record.method,
        "backbone": record.backbone.name,
        "fingerprint": record.backbone.fingerprint,
    }


def _in_cache(notify: Notify) -> list[dict[str, Any]]:
    listed = []
    for name in bundle_cache.cached_digests():
        cached = bundle_cache.cached(name, notify)
        if cached is not None:
            notes = bundle_cache.notes(cached.module_sha256)
            places = [note["place"] for note in notes if note["bundle"] == name]
            place = places[-1] if places else str(cached.path)
            listed.append({"place": place, "digest": name, **_facts(cached.record)})
    return listed


def _in_folder(text: str, notify: Notify) -> list[dict[str, Any]]:
    """Every bundle at or below a folder; a damaged one is said by its place and left out."""
    path, revision = shared_folder.address(text)
    names = shared_folder.named_folders(path)
    if not names:
        raise shared_folder.no_bundle_error(path)
    listed = []
    for named in names:
        try:
            pushed = shared_folder.revisions(named)
        except MismatchError as error:
            notify(str(error))
            continue
        for shared in pushed:
            if not shared.revision.startswith(revision):
                continue
            try:
                manifest = load_json(shared.path / bundle.MANIFEST)
                entry = {"digest": digest(bundle.manifest_of(manifest))}
                entry |= _facts(record_of(shared.path, shared.place))
            except (MismatchError, Refusal) as error:
                notify(f"{shared.place}: damaged: {str(error).splitlines()[0]}")
                continue
            listed.append({"place": shared.place, **entry, "newest": shared == pushed[-1]})
    return listed


def _of_owner(owner: str) -> tuple[dict[str, Any], Shown]:
    """Repositories of a user or organisation of the hub that carry our tag."""
    if not safe_name(owner):
        suggestion = f"; did you mean {PREFIX}{owner}?" if owner and local(owner).is_dir() else ""
        raise RequestError(
            f"'{printable(owner)}': takes {PREFIX}DIR, or a user or organisation of the hub"
            f"{suggestion}"
        )
    if offline():
        raise RequestError(
            f"{printable(owner)}: HF_HUB_OFFLINE is set; `xtl hub list` alone lists the cache"
        )
    repositories = hub_repository.search(owner)
    lines = repositories or [f"{owner}: nothing tagged {hub_repository.TAG}"]
    return {"bundles": [{"place": repo} for repo in repositories]}, [*lines]


def show(text: str, *, notify: Notify) -> tuple[dict[str, Any], Shown]:
    """What a bundle says of itself; nothing but its descriptions is fetched."""
    place, record, sizes = addresses.describe(text, notify)
    backbone = record.backbone
    facts = [
        ("place", place),
        ("stack", record.chain),
        ("method", record.method),
        ("run", record.id),
        (
            "backbone",
            f"{backbone.name}, fingerprint {backbone.fingerprint[:12]}, {backbone.bits} bits",
        ),
        ("module", record.module_sha256),
        ("licence", record.licence),
        ("data", record.data.source),
        ("bytes", f"{sum(sizes.values()):,}"),
    ]
    facts += [
        (f"parent {parent.task}", f"{parent.sha256} {' '.join(parent.where)}")
        for parent in record.parents
    ]
    facts += [
        (
            f"{task}, {scores.split}",
            f"{scores.metric} {scores.score:.2f}, {len(scores.languages)} languages, protocol"
            f" {scores.protocol}",
        )
        for task, scores in record.metrics.items()
    ]
    rows = [(name, printable(value, 200)) for name, value in facts]
    return {"place": place, "files": sizes, **record.to_json()}, [
        tables.listed(printable(text), ("what", "value"), rows)
    ]


def verify(text: str, *, notify: Notify) -> tuple[dict[str, Any], Shown]:
    """Checks a bundle directory (or address): every name, file, tensor shape and digest."""
    path = local(text)
    located = path if path.exists() else addresses.locate(text, notify)
    verified = bundle.read(located or path, "" if located else f"'{printable(text)}'")
    files = sum(1 for file in verified.path.rglob("*") if file.is_file())
    parents = [to_json(parent) for parent in verified.record.parents]
    payload = {"path": str(verified.path), "verified": True, **_named(verified), "parents": parents}
    return payload, [
        f"{verified.path}: {verified.record.chain}, {files} files as its manifest says; digest"
        f" {verified.digest}"
    ]


def import_(
    source: Path, task: str, *, backbone: str | None, labels: str, runs: str
) -> tuple[dict[str, Any], Shown]:
    """Takes a module that `adapters` or `peft` saved into the store."""
    names = [name.strip() for name in labels.split(",")] if labels else []
    if not all(names):
        raise RequestError(
            f"--labels {clipped(labels)}: expected names separated by commas, e.g. a,b,c"
        )
    tasks.load(task)
    store = Store(Path(runs))
    store.check_writable()
    imported = module_import.take(source, task, store, backbone=backbone, labels=names)
    payload = {
        "id": imported.id,
        "path": str(imported.path),
        "reused": imported.reused,
        "method": imported.method,
        "head": imported.head or None,
        "notes": imported.notes,
    }
    head = f"with its head for {imported.head}" if imported.head else "without a head"
    return payload, [f"{task} ({imported.method}), {head}: {imported.path}", *imported.notes]
