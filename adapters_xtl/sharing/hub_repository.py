"""A bundle's repository on a hub: searched for, fetched within what it announced, pushed.

Files are streamed with the client's session rather than its download function, which writes as
many bytes as a server sends and loses up to 10 MB of a broken connection. Here no byte beyond the
announced size is written, and an interrupted file goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from adapters_xtl.base.errors import MismatchError, RunError
from adapters_xtl.base.files import explained_os_errors, file_digest
from adapters_xtl.base.hub import HubFile, HubListing, hub_errors, listing
from adapters_xtl.base.untrusted import not_ours

__all__ = ["TAG", "fetch", "module_tag", "search", "upload"]

TRIES = 5  # attempts in a row that bring less than PROGRESS bytes
PAUSE = 0.2  # seconds before the second of them, doubled before each further one
PROGRESS = 1 << 20
CHUNK = 1 << 16
TAG = "adapters_xtl"


class _Cut(Exception):
    """The connection ended before the file did."""


def module_tag(module_sha256: str) -> str:
    """The tag by which a module is found on a hub."""
    return f"xtl-module-{module_sha256[:16]}"


def search(owner: str, tag: str = "") -> list[str]:
    """Repositories of a user or organisation that carry our tag and, where given, another one."""
    from huggingface_hub import HfApi

    with hub_errors(owner, "searching"):
        repositories = islice(
            HfApi().list_models(author=owner, filter=[TAG, *([tag] if tag else [])]), 200
        )
        return [model.id for model in repositories]


def fetch(remote: HubListing, name: str, target: Path, sha256: str | None = None) -> None:
    """One file into `target`, whole and verified; what is interrupted lies beside it and is gone on
    with.

    RunError where the connection keeps breaking. MismatchError where more comes than was announced,
    or other bytes.
    """
    size = remote.files[name].size
    sha256 = sha256 or remote.files[name].sha256
    if (
        target.is_file()
        and target.stat().st_size == size
        and sha256
        and file_digest(target) == sha256
    ):
        return
    part = target.with_name(f"{target.name}.part")
    failures = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            with hub_errors(remote.repo, f"fetching {name} of"), explained_os_errors(part):
                part.parent.mkdir(parents=True, exist_ok=True)
                _stream(remote, name, part, size)
            break
        except _Cut as cut:
            now = part.stat().st_size if part.is_file() else 0
            failures = 0 if now - before >= PROGRESS else failures + 1
            if failures == TRIES:
                mismatch = (
                    f"the connection broke at {now:,} of {size:,} bytes ({cut}); they are kept for"
                    " the next try"
                )
                raise RunError(f"{remote}: {name}: {mismatch}") from cut
            time.sleep(PAUSE * 2**failures)
    if sha256 and (actual_sha256 := file_digest(part)) != sha256:
        part.unlink()
        raise MismatchError(
            f"{remote}: {name}: its sha256 is {actual_sha256}, not the announced {sha256}"
        )
    os.replace(part, target)


def _stream(remote: HubListing, name: str, part: Path, size: int) -> None:
    """Appends what `part` lacks of a file. _Cut when the connection ends before it, MismatchError
    when it goes on.
    """
    import requests
    import urllib3
    from huggingface_hub import constants, hf_hub_url, utils

    client: Any = utils
    have = part.stat().st_size if part.is_file() else 0
    if have > size:
        part.unlink()
        have = 0
    if have == size and part.is_file():
        return
    headers = {
        **client.build_hf_headers(),
        "Accept-Encoding": "identity",
        **({"Range": f"bytes={have}-"} if have else {}),
    }
    url = hf_hub_url(remote.repo, name, revision=remote.commit, endpoint=constants.ENDPOINT)
    seconds = constants.HF_HUB_DOWNLOAD_TIMEOUT
    try:
        with client.get_session().get(url, headers=headers, stream=True, timeout=seconds) as answer:
            if answer.status_code in (500, 502, 503, 504):
                raise _Cut(f"the hub answered {answer.status_code}")
            if answer.status_code == 416:
                part.unlink(missing_ok=True)
                raise _Cut("the hub does not know these bytes")
            client.hf_raise_for_status(answer)
            resumed = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            have = have if answer.status_code == 206 and resumed else 0
            with part.open("ab") as file:
                file.truncate(have)
                while chunk := answer.raw.read1(
                    CHUNK
                ):  # what has come: of a broken connection nothing is lost
                    have += len(chunk)
                    if have > size:
                        raise MismatchError(
                            f"{remote}: {name}: more bytes than the {size:,} that were announced"
                        )
                    file.write(chunk)
    except MismatchError:
        part.unlink(missing_ok=True)
        raise
    except requests.HTTPError:
        raise
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _Cut(type(error).__name__) from error
    if have < size:
        raise _Cut("the hub closed it")


def upload(
    repo: str, folder: Path, names: Mapping[str, str], *, private: bool, message: str
) -> tuple[str, bool]:
    """(commit, whether it is new) of a repository that holds exactly these files; `names`: name →
    sha256.

    Files that are there already are not sent again; nothing is committed where nothing differs.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    with hub_errors(repo, "creating"):
        api.create_repo(repo, exist_ok=True, private=private or None)
    for attempt in range(TRIES):
        existing = listing(repo)
        changed = [
            name
            for name, sha256 in names.items()
            if not _same(folder / name, sha256, existing.files.get(name))
        ]
        stale = [name for name in existing.files if name not in names and not not_ours(name)]
        if not changed and not stale:
            return existing.commit, False
        operations: list[Any] = [
            *(CommitOperationAdd(name, str(folder / name)) for name in changed),
            *(CommitOperationDelete(name) for name in stale),
        ]
        with hub_errors(repo, "pushing to"):
            try:
                commit = api.create_commit(
                    repo, operations, commit_message=message, parent_commit=existing.commit
                )
                return str(commit.oid), True
            except HfHubHTTPError as error:
                # somebody else pushed between the listing and the commit: look again
                if (
                    error.response is None
                    or error.response.status_code != 412
                    or attempt == TRIES - 1
                ):
                    raise
    raise RunError(f"the hub: '{repo}' keeps changing while it is pushed to")


def _same(path: Path, sha256: str, listed: HubFile | None) -> bool:
    if listed is None or listed.size != path.stat().st_size:
        return False
    if listed.sha256 is not None:
        return listed.sha256 == sha256
    data = path.read_bytes()
    return (
        listed.blob
        == hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    )
