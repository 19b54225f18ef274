"""The JSON of a store, which may be a stranger's: read strictly, sealed with its own digest."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError
from pipeline.text import printable, shortened

LARGEST = 64 << 20
"""Bytes of a document: the listing of some 200,000 files."""
_SHA256 = re.compile("[0-9a-f]{64}")


def as_json(document: Any) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def parsed(content: bytes, owner: Path | str, keys_once: bool = True) -> dict[str, Any]:
    """A JSON object. Raises StoreError for all else, for numbers that are not finite and, unless
    the caller looks at the keys, for one that comes twice, of which readers might see either."""
    hook = _once if keys_once else None
    try:
        document = json.loads(content, object_pairs_hook=hook, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise StoreError(
            f"{owner}: damaged ({fault_of(error)}); restore it or publish again"
        ) from error
    if not isinstance(document, dict):
        raise StoreError(
            f"{owner}: holds {shown(document)}, expected a JSON object; restore it or publish again"
        )
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key comes twice")
    return document


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def content_of(path: Path, most: int = LARGEST) -> bytes:
    """A small regular file. Raises StoreError, saying what is wrong, where it is none."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{path}: is no regular file; restore it or publish again")
        if status.st_size > most:
            raise StoreError(f"{path}: {status.st_size:,} bytes, expected at most {most:,}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise StoreError(f"{path}: missing; this is no published version of a store") from error
    except OSError as error:
        raise StoreError(f"{path}: unreadable ({fault_of(error)})") from error


def sealed(document: dict[str, Any]) -> bytes:
    """JSON that holds the SHA-256 of its own content as "digest"."""
    return as_json({**document, "digest": hashlib.sha256(as_json(document)).hexdigest()})


def unsealed(path: Path) -> dict[str, Any]:
    """The document `sealed` made. Raises StoreError where one bit of it differs."""
    return unsealed_content(content_of(path), path)


def unsealed_content(content: bytes, owner: Path | str, keys_once: bool = True) -> dict[str, Any]:
    """`unsealed` of a file that has been read."""
    document = parsed(content, owner, keys_once)
    digest = document.get("digest")
    if not is_sha256(digest):
        raise StoreError(
            f"{owner}: damaged (digest: got {shown(digest)}, expected a SHA-256); "
            "restore it or publish again"
        )
    # all but the digest's line was sealed; writing the document anew would take 30 times as long
    line = f' "digest": "{digest}"'.encode()
    before, line_found, after = content.partition(line + b",\n")
    if not line_found:  # the last of its lines
        before, line_found, after = content.partition(b",\n" + line)
    if not line_found or hashlib.sha256(before + after).hexdigest() != digest:
        raise StoreError(f"{owner}: does not match its own digest; restore it or publish again")
    return document


def is_sha256(value: Any) -> bool:
    return isinstance(value, str) and bool(_SHA256.fullmatch(value))


def whole(name: str, value: Any, least: int, most: int) -> int:
    """`value`. Raises StoreError unless it is a whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise StoreError(
            f"{name}: got {shown(value)}, expected a whole number from {least:,} to {most:,}"
        )
    return value


def text(name: str, value: Any) -> str:
    """`value`. Raises StoreError unless it is a text of one line and of at most 1,000 letters."""
    if not isinstance(value, str) or len(value) > 1000 or not (value.isprintable()):
        raise StoreError(f"{name}: got {shown(value)}, expected a text of one line")
    return value


def fault_of(error: BaseException) -> str:
    """What an error says, in one line and short: libraries quote what they could not read."""
    said = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    return printable(shortened(said, 200)) or type(error).__name__


def shown(value: Any) -> str:
    """A value for a message: short, and without control characters."""
    said = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return said if len(said) <= 60 else said[:57] + "…"
