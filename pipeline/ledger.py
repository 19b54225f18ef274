"""What was computed from what: an embedded database of results by the hash of all they depend on.

A result's key covers the scan's bytes, the parts of the registry that shape it, the options, the
face model and the code of the stages. What has a key in the ledger is reused, whoever computed it.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

STAGE_CODE = (
    "errors",
    "types",
    "units",
    "geometry",
    "formats",
    "landmarks",
    "normalise",
    "flame",
    "registration",
    "quality",
    "store/rows",
    "stages",
)
"""Modules and packages of `pipeline/` that a scan's result depends on."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY,
    scan_id TEXT NOT NULL,
    stage TEXT NOT NULL,   -- '' where the scan was kept, else the stage that refused it
    reason TEXT NOT NULL,
    summary TEXT NOT NULL  -- JSON: the figures that the manifest shows
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Result:
    """What became of one scan. Kept scans have their arrays in `<key>.npz` beside the ledger."""

    key: str
    scan_id: str
    stage: str = ""
    reason: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        return not self.stage


@contextmanager
def open_ledger(path: Path) -> Iterator[sqlite3.Connection]:
    """The ledger at `path`, made where it is missing; closed at the end of the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ledger = sqlite3.connect(path)
    try:
        ledger.execute("PRAGMA journal_mode=WAL")
        ledger.execute(_SCHEMA)
        yield ledger
    finally:
        ledger.close()


def record(ledger: sqlite3.Connection, results: Iterable[Result]) -> None:
    """Write results in one transaction; a key computed again replaces its row."""
    rows = [
        (r.key, r.scan_id, r.stage, r.reason, json.dumps(dict(r.summary), sort_keys=True))
        for r in results
    ]
    with ledger:
        ledger.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", rows)


def recorded(ledger: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Result]:
    """The results the ledger holds for `keys`, by key."""
    found: dict[str, Result] = {}
    for start in range(0, len(keys), 500):
        part = keys[start : start + 500]
        marks = ",".join("?" * len(part))
        rows = ledger.execute(
            f"SELECT key, scan_id, stage, reason, summary FROM results WHERE key IN ({marks})",
            list(part),
        )
        for key, scan_id, stage, reason, summary in rows:
            found[key] = Result(key, scan_id, stage, reason, json.loads(summary))
    return found


def result_path(results: Path, key: str) -> Path:
    """Where a kept scan's arrays lie: a folder for each first byte keeps folders small."""
    return results / key[:2] / f"{key}.npz"


def digest_of(*parts: Any) -> str:
    """SHA-256 of JSON-able values, independent of the order of mappings' keys."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def code_digest() -> str:
    """SHA-256 over the source of every stage that shapes a scan's result."""
    root = Path(__file__).parent
    sha = hashlib.sha256()
    for part in STAGE_CODE:
        sources = [*root.glob(f"{part}.py"), *sorted(root.glob(f"{part}/**/*.py"))]
        if not sources:
            raise FileNotFoundError(f"{root / part} is listed in STAGE_CODE but does not exist")
        for source in sources:
            sha.update(source.relative_to(root).as_posix().encode())
            sha.update(source.read_bytes())
    return sha.hexdigest()
