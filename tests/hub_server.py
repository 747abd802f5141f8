"""A hub on loopback: serves a directory in mirror layout to the real `huggingface_hub` client over
HTTP.

A repository is a folder `<root>/<namespace>/<name>/`; its other revisions are given as `refs`.
Files that the real hub would keep in LFS have their sha256 in the tree and are served by redirect,
as from its CDN. Everything is logged. It takes uploads too: repositories are created, files go to
LFS or into the commit, older commits stay to be had.

    with HubServer(root) as hub:
        … HF_ENDPOINT=hub.url …
        hub.sent(".parquet")        # bytes of parquet that left
        hub.cuts.append(Cut("model.safetensors", after=1000))  # the connection ends there, once
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

LFS = (".parquet", ".safetensors", ".bin", ".arrow", ".zip")
REPO = r"(?P<repo>[^/]+/[^/]+)"
KINDS = {"": "model", "models": "model", "datasets": "dataset", "spaces": "space"}


class Sent(NamedTuple):
    """One answered request."""

    method: str
    path: str
    status: int
    bytes: int


@dataclass
class Failure:
    """What a repository's requests get instead of an answer."""

    status: int
    code: str = ""  # X-Error-Code
    message: str = ""
    when: str = ""  # only requests whose path matches this


@dataclass
class Cut:
    """A body whose path ends so stops `after` bytes, `times` times; with `extra`, so many bytes
    follow it instead.
    """

    suffix: str
    after: int = 0
    times: int = 1
    extra: int = 0


@dataclass
class HubServer:
    """`page`: entries of a tree in one answer. `token`: when set, requests without it are refused,
    reads too unless `public`. `cuts`: bodies that do not end where they should. `racing`: called
    once, before the next commit is made.
    """

    root: Path
    refs: Mapping[tuple[str, str], Path] = field(default_factory=dict)
    page: int = 1000
    token: str = ""
    fail: dict[str, Failure] = field(default_factory=dict)
    log: list[Sent] = field(default_factory=list)
    public: bool = False
    cuts: list[Cut] = field(default_factory=list)
    racing: Callable[[], None] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> HubServer:
        self._http = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self})
        )
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def environment(self, home: Path, **others: str) -> dict[str, str]:
        """Variables that point a client at this hub, with a cache of its own."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            "HF_TOKEN": "",
            **others,
        }

    def sent(self, suffix: str = "") -> int:
        """Bytes of bodies of files whose path ends so."""
        return sum(
            each.bytes
            for each in self.log
            if each.path.endswith(suffix) and "/api/" not in each.path
        )

    def kept(self, name: str) -> Path:
        """Where an LFS object or an older commit is kept."""
        path = self.root.parent / f"{self.root.name}.kept" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def folder(self, repo: str, revision: str) -> Path | None:
        """Where a repository's revision (a branch, a reference or a commit) lies; None when there
        is none.
        """
        older = self.kept(f"{repo}/{revision}")
        if older.is_dir() and revision:
            return older
        named = {
            "main": self.root / repo,
            **{ref: path for (of, ref), path in self.refs.items() if of == repo},
        }
        for name, path in named.items():
            if path.is_dir() and revision in (name, commit(path)):
                return path
        return None


def files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def blob(path: Path) -> str:
    """git's own digest of a file."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def commit(folder: Path) -> str:
    """40 hex digits that stand for a folder's content."""
    listing = [
        (name, (folder / name).stat().st_size, (folder / name).stat().st_mtime_ns)
        for name in files(folder)
    ]
    return hashlib.sha1(json.dumps(listing).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._route()

    def do_HEAD(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def do_PUT(self) -> None:
        self._route()

    def _route(self) -> None:
        url = urlsplit(self.path)
        path, self.query = unquote(url.path), parse_qs(url.query)
        self.data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for method, pattern, answer in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method.split():
                found = match.groupdict()
                failure = self.hub.fail.get(found.get("repo", "")) or self.hub.fail.get("")
                if failure and re.search(failure.when, path):
                    return self._refuse(failure.status, failure.code, failure.message)
                signed = path.startswith(
                    ("/lfs/", "/cdn/")
                )  # the real hub's storage goes by signed addresses
                open_ = signed or (self.hub.public and self.command in ("GET", "HEAD"))
                if (
                    self.hub.token
                    and not open_
                    and self.headers.get("Authorization") != f"Bearer {self.hub.token}"
                ):
                    return self._refuse(401, "RepoNotFound", "Invalid username or password.")
                return answer(self, **found)
        return self._refuse(404, "", f"no such route: {self.command} {path}")

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = b"" if self.command == "HEAD" else body
        path = unquote(urlsplit(self.path).path)
        cut = next(
            (each for each in self.hub.cuts if each.times and path.endswith(each.suffix)), None
        )
        if cut is not None and body and not cut.extra:
            cut.times -= 1
            body = body[: cut.after]
            self.close_connection = True
        # before the body, so that whoever has read it finds it in the log
        self.hub.log.append(
            Sent(self.command, unquote(urlsplit(self.path).path), status, len(body))
        )
        self.wfile.write(body)
        if self.close_connection and cut is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def _json(self, value: Any, **headers: str) -> None:
        self._send(200, json.dumps(value).encode(), Content_Type="application/json", **headers)

    def _refuse(self, status: int, code: str = "", message: str = "") -> None:
        headers = {"X_Error_Code": code} if code else {}
        if message:
            headers["X_Error_Message"] = message
        self._send(
            status,
            json.dumps({"error": message}).encode(),
            Content_Type="application/json",
            **headers,
        )

    def _folder(self, repo: str, revision: str) -> Path | None:
        """The revision's folder; answers with the hub's own error when there is none."""
        folder = self.hub.folder(repo, revision)
        if folder is None:
            known = self.hub.folder(repo, "main")
            self._refuse(
                404, "RevisionNotFound" if known else "RepoNotFound", f"no {repo} at {revision}"
            )
        return folder

    def whoami(self) -> None:
        self._json(
            {
                "type": "user",
                "name": "tester",
                "orgs": [],
                "auth": {"accessToken": {"role": "write"}},
            }
        )

    def info(self, kind: str, repo: str, revision: str | None = None) -> None:
        folder = self._folder(repo, revision or "main")
        if folder is not None:
            siblings = [{"rfilename": name} for name in files(folder)]
            self._json(
                {
                    "_id": "0",
                    "id": repo,
                    "sha": commit(folder),
                    "private": False,
                    "gated": False,
                    "disabled": False,
                    "downloads": 0,
                    "likes": 0,
                    "tags": [],
                    "siblings": siblings,
                }
            )

    def tree(self, kind: str, repo: str, revision: str, path: str = "") -> None:
        folder = self._folder(repo, revision)
        if folder is None:
            return
        entries = []
        for name in files(folder):
            if path and not name.startswith(f"{path}/"):
                continue
            file = folder / name
            entry: dict[str, Any] = {
                "type": "file",
                "oid": blob(file),
                "size": file.stat().st_size,
                "path": name,
            }
            if name.endswith(LFS):
                entry["lfs"] = {
                    "oid": sha256(file),
                    "size": file.stat().st_size,
                    "pointerSize": 130,
                }
            entries.append(entry)
        start = int(self.query.get("cursor", ["0"])[0])
        headers = {}
        if start + self.hub.page < len(entries):
            here = urlsplit(self.path).path
            headers["Link"] = (
                f'<{self.hub.url}{here}?recursive=True&cursor={start + self.hub.page}>; rel="next"'
            )
        self._json(entries[start : start + self.hub.page], **headers)

    def resolve(self, repo: str, revision: str, path: str, kind: str = "") -> None:
        folder = self._folder(repo, revision)
        if folder is None:
            return
        file, head = folder / path, {"X_Repo_Commit": commit(folder)}
        if not file.is_file():
            return self._send(404, b"", X_Error_Code="EntryNotFound", **head)
        size = str(file.stat().st_size)
        if path.endswith(LFS):
            head |= {"X_Linked_Size": size, "X_Linked_ETag": f'"{sha256(file)}"'}
            return self._send(
                302, b"", Location=f"{self.hub.url}/cdn/{quote(str(file.resolve()))}", **head
            )
        return self._bytes(file, ETag=f'"{blob(file)}"', **head)

    def cdn(self, path: str) -> None:
        file = Path(path)
        self._bytes(file, ETag=f'"{sha256(file)}"')

    def _bytes(self, file: Path, **headers: str) -> None:
        data = file.read_bytes()
        more = next(
            (each for each in self.hub.cuts if each.extra and str(file).endswith(each.suffix)), None
        )
        data += b"\0" * (more.extra if more else 0)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return self._send(200, data, Accept_Ranges="bytes", **headers)
        start, end = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
        if start > end:
            return self._send(416, b"", Content_Range=f"bytes */{len(data)}")
        return self._send(
            206, data[start : end + 1], Content_Range=f"bytes {start}-{end}/{len(data)}", **headers
        )

    def create(self) -> None:
        asked = json.loads(self.data)
        name = f"{asked.get('organization') or 'tester'}/{asked['name']}"
        folder = self.hub.root / name
        if folder.is_dir():
            known = {
                "error": "You already created this model repo",
                "url": f"{self.hub.url}/{name}",
            }
            return self._send(409, json.dumps(known).encode(), Content_Type="application/json")
        folder.mkdir(parents=True)
        (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
        self._json({"url": f"{self.hub.url}/{name}", "name": name})

    def validate(self) -> None:
        asked = json.loads(self.data)
        fine = asked["content"].startswith("---\n")
        self._json({"errors": [] if fine else [{"message": "no metadata"}], "warnings": []})

    def preupload(self, repo: str, revision: str) -> None:
        asked, folder = json.loads(self.data), self._folder(repo, revision)
        if folder is not None:
            self._json(
                {
                    "files": [
                        {
                            "path": each["path"],
                            "shouldIgnore": False,
                            "uploadMode": "lfs" if each["path"].endswith(LFS) else "regular",
                        }
                        for each in asked["files"]
                    ]
                }
            )

    def batch(self, repo: str) -> None:
        objects = []
        for each in json.loads(self.data)["objects"]:
            known = self.hub.kept(f"lfs/{each['oid']}").is_file()
            actions = {
                "upload": {"href": f"{self.hub.url}/lfs/{each['oid']}"},
                "verify": {"href": f"{self.hub.url}/verify"},
            }
            objects.append(
                {
                    "oid": each["oid"],
                    "size": each["size"],
                    **({} if known else {"actions": actions}),
                }
            )
        self._json({"transfer": "basic", "objects": objects})

    def put(self, oid: str) -> None:
        if hashlib.sha256(self.data).hexdigest() != oid:
            return self._refuse(400, "", "not these bytes")
        self.hub.kept(f"lfs/{oid}").write_bytes(self.data)
        self._send(200)

    def verify(self) -> None:
        asked = json.loads(self.data)
        self._send(
            200 if self.hub.kept(f"lfs/{asked['oid']}").stat().st_size == asked["size"] else 400
        )

    def commit(self, repo: str, revision: str) -> None:
        lines = [json.loads(line) for line in self.data.splitlines() if line]
        if self.hub.racing:
            racing, self.hub.racing = self.hub.racing, None
            racing()
        with self.hub.lock:
            folder = self._folder(repo, revision)
            if folder is None:
                return
            head = commit(folder)
            parent = next(
                line["value"].get("parentCommit") for line in lines if line["key"] == "header"
            )
            if parent and parent != head:
                return self._refuse(
                    412, "", "A commit has happened since. Please refresh and try again."
                )
            shutil.copytree(folder, self.hub.kept(f"{repo}/{head}"), dirs_exist_ok=True)
            for line in lines:
                if line["key"] == "header":
                    continue
                path = folder / line["value"]["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                if line["key"] == "file":
                    path.write_bytes(base64.b64decode(line["value"]["content"]))
                elif line["key"] == "lfsFile":
                    shutil.copyfile(self.hub.kept(f"lfs/{line['value']['oid']}"), path)
                else:
                    path.unlink()
            time.sleep(0.002)  # a commit is told by its files' times
            made = commit(folder)
        url = f"{self.hub.url}/{repo}/commit/{made}"
        self._json({"success": True, "commitOid": made, "commitUrl": url, "hookOutput": ""})

    def models(self) -> None:
        author, wanted = self.query.get("author", [""])[0], set(self.query.get("filter", []))
        found = []
        for path in sorted(self.hub.root.glob(f"{author or '*'}/*/README.md")):
            tags = re.findall(r"^- (.+)$", path.read_text().split("---")[1], re.MULTILINE)
            if wanted <= set(tags):
                found.append(
                    {
                        "_id": "0",
                        "id": f"{path.parent.parent.name}/{path.parent.name}",
                        "tags": tags,
                    }
                )
        self._json(found)


ROUTES: tuple[tuple[str, str, Callable[..., None]], ...] = (
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("GET", rf"/api/(?P<kind>models|datasets)/{REPO}", _Handler.info),
    ("GET", rf"/api/(?P<kind>models|datasets)/{REPO}/revision/(?P<revision>.+)", _Handler.info),
    (
        "GET",
        rf"/api/(?P<kind>models|datasets)/{REPO}/tree/(?P<revision>refs/convert/parquet|[^/]+)(?:/(?P<path>.+))?",
        _Handler.tree,
    ),
    (
        "GET HEAD",
        rf"/(?:(?P<kind>datasets|spaces)/)?{REPO}/resolve/(?P<revision>refs/convert/parquet|[^/]+)/(?P<path>.+)",
        _Handler.resolve,
    ),
    ("GET HEAD", r"/cdn/(?P<path>.+)", _Handler.cdn),
    ("GET", r"/api/models", _Handler.models),
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.validate),
    ("POST", rf"/api/models/{REPO}/preupload/(?P<revision>[^/]+)", _Handler.preupload),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", _Handler.put),
    ("POST", r"/verify", _Handler.verify),
    ("POST", rf"/api/models/{REPO}/commit/(?P<revision>[^/]+)", _Handler.commit),
)
