"""The record of who withdrew consent: `withdrawn.yaml` beside the build file, without their data.

It is not in the work folder: whoever deletes that must not bring anybody back. All build files of a
folder share it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError

from pipeline.errors import RegistryError
from pipeline.registry.load import field_fault
from pipeline.store.durable_files import write_file
from pipeline.store.withdrawn import as_document
from pipeline.types import MARK, Withdrawal

log = logging.getLogger("facefold")
FILE = "withdrawn.yaml"
HEAD = """\
# Who withdrew consent, without their names: `facefold withdraw` writes this file, and every build
# of this folder leaves them out. Keep it with the build file: without it, the next build brings
# back whoever is still in a source's folder.
"""
MOST_BYTES = 64 << 20

Mark = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{MARK}}}$")]


@dataclass(frozen=True)
class Recorded:
    """A withdrawal as the file has it."""

    withdrawal: Withdrawal
    reason: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    complete: bool = False
    """Everything that was theirs has been removed."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    date: str
    salt: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    complete: StrictBool
    reason: str = ""
    counts: dict[str, StrictInt] = {}
    people: tuple[Mark, ...]
    scans: tuple[Mark, ...] = ()
    contents: tuple[Mark, ...] = ()
    rows: tuple[Mark, ...] = ()


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    withdrawn: tuple[_Entry, ...]


def load_withdrawn(folder: Path | None) -> tuple[Recorded, ...]:
    """The records beside a build file, in their order; none where there is no file, or no folder.

    Raises RegistryError where the file is not one: a build without it would bring people back.
    """
    path = None if folder is None else folder / FILE
    if path is None or not path.exists():
        return ()
    if path.stat().st_size > MOST_BYTES:
        raise RegistryError([f"{path}: got {path.stat().st_size:,} bytes, expected some thousand"])
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
        found = _File.model_validate(data)
    except ValidationError as error:
        faults = [field_fault(item, _File) for item in error.errors()]
        raise RegistryError(
            [f"{path}: {f.field}: got {f.got}, expected {f.expected}" for f in faults]
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RegistryError(
            [f"{path}: unreadable ({' '.join(str(error).split())}); restore it from a backup"]
        ) from error
    return tuple(map(_recorded, found.withdrawn))


def standing(folder: Path | None) -> tuple[Withdrawal, ...]:
    """Who is to be left out; says it where the removal of somebody was broken off."""
    records = load_withdrawn(folder)
    for record in records:
        if not record.complete:
            log.warning(
                f"a withdrawal of {record.withdrawal.date} was broken off: the person is in no new "
                "version, but old ones or results may hold them; run `facefold withdraw` again "
                "with any of their names"
            )
    return tuple(record.withdrawal for record in records)


def _recorded(entry: _Entry) -> Recorded:
    marks = {
        f.name: frozenset(getattr(entry, f.name))
        for f in fields(Withdrawal)
        if f.name not in ("salt", "date")
    }
    withdrawal = Withdrawal(entry.salt, entry.date, **marks)
    return Recorded(withdrawal, entry.reason, entry.counts, entry.complete)


def save_withdrawn(folder: Path, records: Sequence[Recorded]) -> Path:
    """Writes the file whole or not at all; returns its path."""
    entries = [
        {
            **as_document(record.withdrawal),
            "complete": record.complete,
            "reason": record.reason,
            "counts": dict(record.counts),
        }
        for record in records
    ]
    text = yaml.safe_dump({"withdrawn": entries}, sort_keys=True, allow_unicode=True)
    write_file(folder / FILE, (HEAD + text).encode())
    return folder / FILE
