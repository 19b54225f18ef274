"""The split file: who is in which split, by the contents of scans, for others to compare with.

It is JSON, with a line a person, and so YAML as well. Its last lines hold a checksum of each line
above, by which a changed line is found, the SHA-256 of all that stands above, and the signature.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import FacefoldError
from pipeline.identity.signatures import Signature, check_signature, sign
from pipeline.text import printable, shortened

FORM = 1
"""Raised when an older reader would misread a file."""
TAIL = ("seals", "sha256", "signature")
"""The last lines, in this order, before the bracket that ends the file."""
GET_IT_AGAIN = "get the file again from whoever wrote it, as it is"


class Person(BaseModel):
    """One person of a split."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    split: str
    names: list[str]
    """`source:subject`, sorted: all under which there are scans."""
    scans: list[str]
    """Content hashes, sorted, of the scans in this split; the id of a scan without a hash."""
    non_metric: list[str] = Field(default_factory=list)
    """The same of scans that have no true size, and are in a split of their own."""
    held_back: list[dict[str, str]] = Field(default_factory=list)
    """Benchmarks that keep the person out of training: which, how and by which rule."""


class Split(BaseModel):
    """The split of a store."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    store: str
    """The store's version."""
    facefold: str
    """The version of facefold that made the store."""
    rules: dict[str, Any]
    """What the split was made by: seed, shares, profile, benchmarks of the sources."""
    people: dict[str, Person]
    """By identity."""


class Read(NamedTuple):
    """A split file that is as it was written."""

    split: Split
    sha256: str
    signed_by: str | None
    """The public key, as OpenSSH writes it; None where it is not signed."""


def written(split: Split, key: Path | str | None = None) -> bytes:
    """The file's content, signed with the private key in the file `key`.

    Equal splits give equal bytes. Raises FacefoldError where the key cannot be used.
    """
    head = {"facefold_split": FORM, **split.model_dump(exclude={"people"})}
    lines = ["{", *(f"{_json(name)}: {_json(value)}," for name, value in head.items())]
    people = [f"{_json(who)}: {_person(split.people[who])}" for who in sorted(split.people)]
    lines += ['"people": {', *(f"{line}," for line in people[:-1]), *people[-1:], "},"]
    lines.append(f'"seals": {_json(_seals(lines))},')
    sha256 = _sha256(lines)
    signature = None if key is None else sign(_message(sha256), key)._asdict()
    lines += [f'"sha256": {_json(sha256)},', f'"signature": {_json(signature)}', "}", ""]
    return "\n".join(lines).encode()


def read_split(content: bytes, owner: Path | str, signed_by: Path | str | None = None) -> Read:
    """The split in the content of a file called `owner`.

    Raises FacefoldError with the number of the line where the file is not as it was written, and
    where it is not signed with the private key of the public key in the file `signed_by`.
    """
    try:
        lines = content.decode().replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise FacefoldError(f"{owner}: is no text ({error.reason}); {GET_IT_AGAIN}") from error
    above, tail = lines[:-5], lines[-5:-2]
    if len(lines) < 8 or lines[-2:] != ["}", ""]:
        raise FacefoldError(f"{owner}: is no whole split file; {GET_IT_AGAIN}")
    seals, sha256, signature = (
        _tail(owner, len(above) + 1 + i, name, line)
        for i, (name, line) in enumerate(zip(TAIL, tail, strict=True))
    )
    if _sha256([*above, tail[0]]) != sha256:
        raise _first_changed(owner, above, str(seals))
    signer = _check_signer(owner, len(above) + 3, str(sha256), signature, signed_by)
    return Read(_parsed("\n".join(lines), owner), str(sha256), signer)


def _parsed(text: str, owner: Path | str) -> Split:
    try:
        document = json.loads(text, object_pairs_hook=_once)
        form = document.pop("facefold_split", None)
        if form != FORM:
            raise FacefoldError(f"{owner}: of form {form!r}, expected {FORM}; update facefold")
        return Split.model_validate({k: v for k, v in document.items() if k not in TAIL})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise FacefoldError(f"{owner}: {where}: {first['msg']}; {GET_IT_AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise FacefoldError(f"{owner}: is no JSON ({error}); {GET_IT_AGAIN}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """One of two equal keys would be dropped in silence."""
    if len(document := dict(pairs)) < len(pairs):
        raise ValueError("a key comes twice")
    return document


def _tail(owner: Path | str, number: int, name: str, line: str) -> Any:
    """The value of one of the last lines."""
    begin = f"{_json(name)}: "
    try:
        if line.startswith(begin):
            return json.loads(line[len(begin) :].removesuffix(","))
    except (ValueError, RecursionError):
        pass
    raise _changed(owner, number, f"got {shortened(printable(line), 60)!r}, expected {begin}…")


def _first_changed(owner: Path | str, lines: Sequence[str], seals: str) -> FacefoldError:
    """The first line that is not the one that was written there: one that its seal does not fit,
    the line of the seals, or the one with the SHA-256."""
    size = len(_seal(""))
    own, last = seals[:-size], seals[-size:]
    if _seal(own) != last:
        return _changed(owner, len(lines) + 1, "the seals are not those that were written")
    found = [own[i : i + size] for i in range(0, len(own), size)]
    for number, (line, seal) in enumerate(zip(lines, found, strict=False), start=1):
        if _seal(line) != seal:
            return _changed(owner, number, f"got {shortened(printable(line), 60)}")
    if len(lines) != len(found):
        fault = f"got {len(lines)} lines above the seals, expected {len(found)}"
        return _changed(owner, min(len(lines), len(found)) + 1, fault)
    return _changed(owner, len(lines) + 2, "the SHA-256 is not that of the lines above it")


def _check_signer(
    owner: Path | str, number: int, sha256: str, signature: Any, signed_by: Path | str | None
) -> str | None:
    if signature is None:
        if signed_by is not None:
            raise FacefoldError(f"{owner}: is not signed; have it written with --key")
        return None
    try:
        made = Signature(**signature)
        if check_signature(_message(sha256), made, signed_by):
            return made.public_key
    except (TypeError, ValueError) as error:
        raise _changed(owner, number, f"no signature ({error})") from error
    if signed_by is None:
        raise _changed(owner, number, "the signature is not of what stands above it")
    raise FacefoldError(
        f"{owner}: line {number}: is not signed with the key of {signed_by}; "
        f"it says it is signed with that of {shortened(printable(made.public_key), 100)}"
    )


def _changed(owner: Path | str, number: int, fault: str) -> FacefoldError:
    return FacefoldError(
        f"{owner}: line {number}: is not as it was written: {fault}; {GET_IT_AGAIN}"
    )


def _person(person: Person) -> str:
    """Without what there is none of."""
    return _json(person.model_dump(exclude_defaults=True))


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _seals(lines: Sequence[str]) -> str:
    """Those of all lines, and then that of all of them."""
    seals = "".join(map(_seal, lines))
    return seals + _seal(seals)


def _seal(line: str) -> str:
    """A checksum that finds a changed line; it is the SHA-256 that proves there is none."""
    return f"{zlib.crc32(line.encode()):08x}"


def _sha256(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join([*lines, ""]).encode()).hexdigest()


def _message(sha256: str) -> bytes:
    """What is signed: nothing else that a key signs looks like it."""
    return f"facefold split file {FORM}\n{sha256}\n".encode()
