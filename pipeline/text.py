"""Text from outside, such as names of files, people and models: made safe to print and to write.

A terminal obeys control sequences, a log takes a line break for the next entry, and bidirectional
controls show a name as another one.
"""

from __future__ import annotations

import hashlib
import re

MOST_SHOWN = 300
"""Letters of a value that a message repeats."""
NAME_BYTES = 200
"""Of a file's name: file systems take 255, suffixes and temporary names included."""
URL = re.compile(r"""\b([A-Za-z][A-Za-z0-9+.-]*)://([^\s'"]+)""")
PORT = re.compile(r"(\[[0-9a-fA-F:]*\]|[^:]*):[0-9]*[,.;:)]*")
"""A host with the number of a port, as it stands in a sentence."""


def printable(text: object) -> str:
    """As it may be printed: what is no letter, mark, figure, sign or blank as an escape, such as
    `\\x1b`, and `…` in place of a name and password in a URL."""
    shown = redacted(str(text))
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else _escape(c) for c in shown)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def redacted(text: str) -> str:
    """With `…` for the names, passwords and queries in its URLs."""
    return URL.sub(_without_secrets, text) if "://" in text else text


def _without_secrets(url: re.Match[str]) -> str:
    scheme, rest = url.groups()
    before, at, after = rest.rpartition("@")  # secret keys may hold a `/`
    host = rest.partition("/")[0]
    container = scheme.startswith("abfs") and ":" not in before  # abfs://CONTAINER@ACCOUNT
    if at and not container and ("/" not in before or ":" in host):
        rest = f"…@{after}"
    elif ":" in host and not at and not PORT.fullmatch(host):
        rest = f"…{rest[len(host) :]}"
    path, query, _ = rest.partition("?")
    return f"{scheme}://{path}{query and '?…'}"


def shortened(text: str, most: int = MOST_SHOWN) -> str:
    """The text, or its beginning and how long it is."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} letters)"


def file_name(text: str) -> str:
    """One name of a file or folder for a text: never empty, `.`, `..` or a path.

    `/` and `:` become `_`, as on file systems that keep them for themselves. `%` and what is not
    printable are percent-encoded, and so is a dot at the beginning, which hides files. A name that
    is too long ends in a hash of the whole.
    """
    plain = text.replace(":", "_").replace("/", "_")
    safe = "".join(c if c.isprintable() and c not in "%\\" else _percent(c) for c in plain)
    if safe.startswith("."):
        safe = _percent(".") + safe[1:]
    if len(safe.encode()) > NAME_BYTES:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        safe = safe.encode()[: NAME_BYTES - 17].decode("utf-8", "ignore") + "~" + digest
    return safe or "%"


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
