"""Objects of an S3-compatible store (or Google's, or Azure's) below a URL, through obstore.

Credentials and endpoint come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_REGION, AWS_ENDPOINT_URL, AWS_ALLOW_HTTP, AWS_TIMEOUT and so on, as obstore documents them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError
from pipeline.store.remote import proxy
from pipeline.store.remote.requests import MISSING, Seen, answer, client_of
from pipeline.text import redacted

SCHEMES = ("s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss")
PIECE = 4 << 20
"""Bytes of one request: few enough to be tried again whole."""


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
            raise StoreError(f"{self}/{name}: there is no such object; {MISSING}")
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

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; those that are not there are none."""
        if names:
            self._ask("delete", list(names))

    def swap(self, name: str, content: bytes, seen: Seen) -> bool:
        """Put an object where it still is what `look` saw; False where it is something else."""
        return bool(self._ask("swap", name, content, seen))

    def _ask(self, request: str, *arguments: Any) -> Any:
        if proxy.is_needed():
            return proxy.ask(self.url, request, *arguments)
        return answer(self._client, self.url, request, *arguments)

    @cached_property
    def _client(self) -> Any:
        return client_of(self.url)


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
