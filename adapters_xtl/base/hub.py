"""A hub, through `huggingface_hub`: its client's errors in our words, and what a repository holds.

Endpoint, token, proxies and offline mode are the client's own affair (HF_ENDPOINT, HF_TOKEN,
HF_HUB_OFFLINE …).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from adapters_xtl.base.errors import RequestError, RunError, XtlError
from adapters_xtl.base.untrusted import printable

__all__ = [
    "LOGIN",
    "HubFile",
    "HubListing",
    "NotOnHub",
    "endpoint",
    "hub_errors",
    "listing",
    "offline",
]

LOGIN = "log in with `hf auth login` or set HF_TOKEN"
FILES = 100_000  # of one repository; more are not listed
_KINDS = {"model": "model repository", "dataset": "data set"}
# what the client says of a failed connection → what it means
_CONNECTION = {
    "ProxyError": "the proxy does not let it through",
    "NameResolution": "no such host",
    "refused": "connection refused",
    "timed out": "no answer in time",
    "SSLError": "its certificate is not accepted",
    "Max retries exceeded": "no connection",
}


class NotOnHub(RequestError):
    """The hub has no such repository or revision, or shows it only to others.

    `reason`: "repository", "revision" or "gated".
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class HubFile:
    """One file of a repository.

    size    bytes
    blob    git's sha1 of the file or, where the hub keeps it in LFS, of its pointer
    sha256  of the content, for files in LFS; None for others
    """

    size: int
    blob: str
    sha256: str | None


@dataclass(frozen=True)
class HubListing:
    """The files of one repository at one commit (40 hex digits), by path."""

    repo: str
    commit: str
    files: Mapping[str, HubFile]

    def __str__(self) -> str:
        return f"{self.repo}@{self.commit[:12]}"


def endpoint() -> str:
    """The address of the hub that the client speaks to."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def offline() -> bool:
    """Whether HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


@contextlib.contextmanager
def hub_errors(
    repo: str,
    doing: str,
    *,
    kind: str = "model",
    advice: str = "",
    unreachable: type[XtlError] = RunError,
) -> Iterator[None]:
    """Turns what the hub's client raises into one line that names the repository.

    NotOnHub        no such repository or revision, a gated one, or no access
    RequestError    the hub refuses (400 to 499)
    `unreachable`   no connection, a server's failure, too many requests

    `doing`: what was tried, as in "listing". `kind`: "model" or "dataset". `advice`: what the user
    may do instead; it ends every message.
    """
    from huggingface_hub import errors

    more = f"; {advice}" if advice else ""
    shown = printable(repo)
    try:
        yield
    except errors.GatedRepoError as error:
        text = f"the hub: '{shown}' is gated: accept its terms on its page and {LOGIN}{more}"
        raise NotOnHub(text, "gated") from error
    except errors.RevisionNotFoundError as error:
        raise NotOnHub(f"the hub: '{shown}' has no such revision{more}", "revision") from error
    except errors.RepositoryNotFoundError as error:
        text = (
            f"the hub: no {_KINDS[kind]} '{shown}', or no access to it; for a private one {LOGIN}"
        )
        raise NotOnHub(f"{text}{more}", "repository") from error
    except errors.HFValidationError as error:
        raise RequestError(f"the hub: '{shown}' is no repository id{more}") from error
    except (OSError, RuntimeError, ValueError) as error:
        answer = _answer(error)
        if answer is None:
            if isinstance(error, OSError) and error.errno in (28, 122):  # ENOSPC, EDQUOT
                raise
            text = str(error).strip() or type(error).__name__
            meaning = next((words for sign, words in _CONNECTION.items() if sign in text), "")
            reason = meaning or printable(text.splitlines()[0], 200)
            message = f"the hub could not be reached {doing} '{shown}': {reason}{more}"
            raise unreachable(message) from error
        response, detail = answer
        status = int(response.status_code)
        text = f"it answered {status} {printable(response.reason or '', 60)}".strip()
        text += f" ({printable(detail, 200)})" if detail else ""
        if status in (401, 403):
            raise RequestError(
                f"the hub refuses {doing} '{shown}': {text}; {LOGIN}, with a token that allows it"
            ) from error
        later = "; it limits requests, so try again later" if status == 429 else ""
        refused = 400 <= status < 500 and status != 429
        message = f"the hub failed {doing} '{shown}': {text}{later}{more}"
        raise (RequestError if refused else unreachable)(message) from error


def _answer(error: BaseException) -> tuple[Any, str | None] | None:
    """(the hub's response, its own message) behind an error; None where no answer came."""
    cause: BaseException | None = error
    while cause is not None:
        response = getattr(cause, "response", None)
        if response is not None:
            return response, getattr(cause, "server_message", None)
        cause = cause.__cause__
    return None


def listing(
    repo: str,
    revision: str = "",
    *,
    kind: str = "model",
    advice: str = "",
    unreachable: type[XtlError] = RunError,
) -> HubListing:
    """The files of a repository at a revision (a branch, a tag, a commit; "": main), asked anew.

    Errors as in `hub_errors`.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    with hub_errors(repo, "listing", kind=kind, advice=advice, unreachable=unreachable):
        api: Any = HfApi()
        information = api.repo_info(repo, repo_type=kind, revision=revision or None)
        commit = str(information.sha or revision or "main")
        entries = islice(
            api.list_repo_tree(repo, recursive=True, revision=commit, repo_type=kind), FILES
        )
        files = {
            entry.path: HubFile(entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None)
            for entry in entries
            if isinstance(entry, RepoFile)
        }
    return HubListing(repo, commit, files)
