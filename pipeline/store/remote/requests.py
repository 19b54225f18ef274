"""Requests to an object store, made through obstore; trouble is a StoreError with its remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pipeline.errors import StoreError

if TYPE_CHECKING:
    from obstore import UpdateVersion

PART, PARTS_AT_ONCE = 5 << 20, 2
"""Of an upload. S3 takes up to 10,000 parts: larger files are sent in larger ones."""


MAX_RETRIES = 8
"""Of each request, after 0.1 s, 0.2 s … up to 15 s."""


Seen: TypeAlias = "UpdateVersion | None"
"""What an object was when it was read: its etag and version; None where it was not there."""


def client_of(url: str) -> Any:
    """What makes requests below a URL. It does not survive a fork."""
    from obstore.store import from_url

    return from_url(url, retry_config={"max_retries": MAX_RETRIES})


def answer(client: Any, url: str, request: str, *arguments: Any) -> Any:
    """What a request of REQUESTS is answered. Raises StoreError that names the object."""
    import obstore.exceptions as trouble

    try:
        return REQUESTS[request](client, *arguments)
    except (trouble.BaseError, FileNotFoundError) as error:
        name = f"/{arguments[0]}" if arguments else ""
        raise StoreError(_told(f"{url}{name}", error)) from error


MISSING = "look at the bucket and the prefix in the URL, or push the store there"


def _told(where: str, error: Exception) -> str:
    """obstore's error in one line, without its debugging part, and what to do about it."""
    from obstore.exceptions import NotFoundError, PermissionDeniedError, UnauthenticatedError

    code = re.search(r"<Code>(\w+)</Code>", str(error))
    said = " ".join(str(error).partition("Debug source")[0].partition("<?xml")[0].split())
    fault = f"{said[:300]} {code[1] if code else ''}".strip()
    absent = isinstance(error, (FileNotFoundError, NotFoundError))
    if absent or (code and code[1] == "NoSuchBucket"):
        remedy = MISSING
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


def _delete(store: Any, names: list[str]) -> None:
    import obstore

    obstore.delete(store, names)


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


REQUESTS: dict[str, Callable[..., Any]] = {
    "sizes": _sizes,
    "look": _look,
    "read_range": _read_range,
    "send": _send,
    "copy": _copy,
    "delete": _delete,
    "swap": _swap,
}
