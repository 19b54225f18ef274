"""Objects of an S3-compatible store (or Google's, or Azure's) below a URL, through obstore.

Credentials and endpoint come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_REGION, AWS_ENDPOINT_URL, AWS_ALLOW_HTTP, AWS_TIMEOUT and so on, as obstore documents them.
"""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pipeline.errors import StoreError
from pipeline.store.paths import FILES, HEAD, VERSIONS, version_name
from pipeline.text import redacted

if TYPE_CHECKING:
    from obstore import UpdateVersion

SCHEMES = ("s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss")
PIECE = 4 << 20
"""Bytes of one request: few enough to be tried again whole."""
PART, PARTS_AT_ONCE = 5 << 20, 2
"""Of an upload. S3 takes up to 10,000 parts: larger files are sent in larger ones."""
MAX_RETRIES = 8
"""Of each request, after 0.1 s, 0.2 s … up to 15 s."""

Seen: TypeAlias = "UpdateVersion | None"
"""What an object was when it was read: its etag and version; None where it was not there."""


def is_url(place: Path | str) -> bool:
    return "://" in str(place)


@dataclass(frozen=True)
class Place:
    """Objects below a URL such as s3://bucket/prefix. Requests are tried again for some time; what
    remains of trouble is a StoreError that names the object and the remedy."""

    url: str

    def __post_init__(self) -> None:
        scheme, _, rest = self.url.partition("://")
        if scheme not in SCHEMES or not rest.strip("/"):
            raise StoreError(
                f"{redacted(self.url.partition('?')[0])}: no URL of an object store; expected one "
                f"such as s3://bucket/prefix ({', '.join(SCHEMES)})"
            )
        _refuse_secrets(scheme, rest)
        object.__setattr__(self, "url", self.url.rstrip("/"))

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.url}/{name}")

    def sizes(self) -> dict[str, int]:
        """Bytes of every object, by its name below the URL."""
        return dict(self._ask("sizes"))

    def read(self, name: str) -> bytes:
        """Raises StoreError where there is no such object."""
        content = self.look(name)[0]
        if content is None:
            raise StoreError(f"{self}/{name}: there is no such object; {_MISSING}")
        return content

    def look(self, name: str) -> tuple[bytes | None, Seen]:
        """The content, None where there is none, and what `swap` has to find again."""
        content, seen = self._ask("look", name)
        return content, seen

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Raises StoreError where the object is shorter."""
        content: bytes = self._ask("read_range", name, start, length)
        if len(content) != length:
            raise StoreError(
                f"{self}/{name}: got {len(content)} of {length} bytes from byte {start} on; "
                "verify the store, then push it again"
            )
        return content

    def pieces(self, name: str, size: int) -> Iterator[bytes]:
        """The first `size` bytes, in order. Raises StoreError where the object is shorter."""
        for start in range(0, size, PIECE):
            yield self.read_range(name, start, min(PIECE, size - start))

    def send(self, name: str, path: Path) -> None:
        """Upload a file, which replaces the object at once when all of it is there.

        Raises OSError where the file cannot be read.
        """
        with path.open("rb"):
            self._ask("send", name, path)

    def copy(self, name: str, new: str) -> None:
        """Copy an object below another name; nothing of it comes here."""
        self._ask("copy", name, new)

    def swap(self, name: str, content: bytes, seen: Seen) -> bool:
        """Put an object where it still is what `look` saw; False where it is something else."""
        return bool(self._ask("swap", name, content, seen))

    def _ask(self, request: str, *arguments: Any) -> Any:
        """obstore's threads do not survive a fork: there, another process makes the request."""
        if _forked:
            return _this_proxy().ask(self.url, request, *arguments)
        return self._answer(request, *arguments)

    def _answer(self, request: str, *arguments: Any) -> Any:
        import obstore.exceptions as trouble

        try:
            return _REQUESTS[request](self._store, *arguments)
        except (trouble.BaseError, FileNotFoundError) as error:
            name = f"/{arguments[0]}" if arguments else ""
            raise StoreError(_told(f"{self}{name}", error)) from error

    @cached_property
    def _store(self) -> Any:
        from obstore.store import from_url

        return from_url(self.url, retry_config={"max_retries": MAX_RETRIES})


def _refuse_secrets(scheme: str, rest: str) -> None:
    """A URL is printed, and kept in summaries and provenance. Raises StoreError, which does not
    repeat them, where it holds credentials, before the host or as a query."""
    host = rest.partition("/")[0]
    user = "@" in host and not scheme.startswith("abfs")  # abfs://CONTAINER@ACCOUNT
    if user or ":" in host or "?" in rest:
        raise StoreError(
            f"{scheme}://…: a URL is printed and kept, and must hold no key, password or query; "
            "name s3://bucket/prefix alone, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
            "(GOOGLE_APPLICATION_CREDENTIALS; AZURE_STORAGE_ACCOUNT_NAME and "
            "AZURE_STORAGE_ACCOUNT_KEY) in the environment"
        )


def published_version(place: Place) -> Place:
    """The version that a store's HEAD names, or `place` itself where it is a version.

    Raises StoreError where there is neither.
    """
    content = place.look(HEAD)[0]
    if content is None:
        if place.look(FILES)[0] is not None:
            return place
        raise StoreError(f"{place}: holds no published store (no {HEAD} object); {_MISSING}")
    return place / VERSIONS / version_name(f"{place}/{HEAD}", content)


_MISSING = "look at the bucket and the prefix in the URL, or push the store there"


def _told(where: str, error: Exception) -> str:
    """obstore's error in one line, without its debugging part, and what to do about it."""
    from obstore.exceptions import NotFoundError, PermissionDeniedError, UnauthenticatedError

    code = re.search(r"<Code>(\w+)</Code>", str(error))
    said = " ".join(str(error).partition("Debug source")[0].partition("<?xml")[0].split())
    fault = f"{said[:300]} {code[1] if code else ''}".strip()
    absent = isinstance(error, (FileNotFoundError, NotFoundError))
    if absent or (code and code[1] == "NoSuchBucket"):
        remedy = _MISSING
    elif code and code[1] == "InvalidRange":  # the object is shorter than it was
        remedy = "verify the store, then push it again"
    elif isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        remedy = "set credentials that may do this (AWS_ACCESS_KEY_ID …)"
    else:
        remedy = "check endpoint, network and credentials (AWS_ENDPOINT_URL …), then try again"
    return f"{where}: {fault}; {remedy}"


def _sizes(store: Any) -> dict[str, int]:
    import obstore

    return {meta["path"]: meta["size"] for some in obstore.list(store) for meta in some}


def _look(store: Any, name: str) -> tuple[bytes | None, Seen]:
    import obstore
    from obstore.exceptions import NotFoundError

    try:
        found = obstore.get(store, name)
    except (FileNotFoundError, NotFoundError) as error:
        if "NoSuchBucket" in str(error):
            raise
        return None, None
    known = {key: found.meta[key] for key in ("e_tag", "version")}
    seen: Any = {key: value for key, value in known.items() if value is not None}
    return bytes(found.bytes()), seen


def _read_range(store: Any, name: str, start: int, length: int) -> bytes:
    import obstore

    return bytes(obstore.get_range(store, name, start=start, length=length))


def _send(store: Any, name: str, path: Path) -> None:
    import obstore

    part = max(PART, path.stat().st_size // 9_000)
    obstore.put(store, name, path, chunk_size=part, max_concurrency=PARTS_AT_ONCE)


def _copy(store: Any, name: str, new: str) -> None:
    import obstore

    obstore.copy(store, name, new)


def _swap(store: Any, name: str, content: bytes, seen: Seen) -> bool:
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    try:
        obstore.put(store, name, content, mode="create" if seen is None else seen)
    except BaseError as error:
        # a request that was answered too late may have done its work all the same
        if _look(store, name)[0] == content:
            return True
        if isinstance(error, (AlreadyExistsError, PreconditionError)):
            return False
        raise
    return True


_REQUESTS: dict[str, Callable[..., Any]] = {
    "sizes": _sizes,
    "look": _look,
    "read_range": _read_range,
    "send": _send,
    "copy": _copy,
    "swap": _swap,
}
_forked = False
"""This process is a fork of one that has made requests, perhaps."""
_proxy: _Proxy | None = None
_making_proxy = threading.Lock()


def _note_fork() -> None:
    global _forked, _proxy, _making_proxy
    _forked = _forked or "obstore" in sys.modules
    _proxy, _making_proxy = None, threading.Lock()  # the parent's are its own


os.register_at_fork(after_in_child=_note_fork)


def _this_proxy() -> _Proxy:
    global _proxy
    with _making_proxy:
        _proxy = _proxy or _Proxy()
        return _proxy


class _Proxy:
    """A process that makes requests for this one, one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from pipeline.store.remote import objects; objects.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
            start_new_session=True,  # an interrupt is for this process
        )

    def ask(self, *request: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        with self._lock:
            try:
                pickle.dump(request, self._process.stdin)
                self._process.stdin.flush()
                answer = pickle.load(self._process.stdout)
            except (EOFError, BrokenPipeError) as error:
                raise StoreError(
                    f"{request[0]}: the process that reads it has ended; start the worker again"
                ) from error
        if isinstance(answer, StoreError):
            raise answer
        return answer


def serve() -> None:
    """Answer the requests of a `_Proxy` until it closes the pipe."""
    place = lru_cache(Place)
    with suppress(EOFError, BrokenPipeError):
        while True:
            url, request, *arguments = pickle.load(sys.stdin.buffer)
            try:
                answer = place(url)._answer(request, *arguments)
            except StoreError as error:
                answer = error
            pickle.dump(answer, sys.stdout.buffer)
            sys.stdout.buffer.flush()
