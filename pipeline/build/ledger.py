"""What was computed from what: an embedded database of results by the hash of all they depend on.

A scan has a result a stage: `read` (file to clean scan), `register` (scan to a row's arrays),
`judge` (arrays to verdict and figures). The key of a stage's result covers the key of the stage
before, the registry's fields and the options that shape it, the face model and the stage's own
code. What has a key in the ledger is reused, whoever computed it.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.catalogue.digests import scrub
from pipeline.errors import FacefoldError, database_error
from pipeline.refusals import Code
from pipeline.types import Refusal


class Keys(NamedTuple):
    """What a scan's results are called, by stage; these are the stages, in their order."""

    read: str
    register: str
    judge: str


STAGES = Keys._fields

LAYOUT = 1
"""Number of the tables' layout; results in another one are computed again."""

WAL_PAGES = 16384
"""Pages of 4 kB in the log before they are written to their places, which waits for the disk: keys
are random, so that nearly each result is on a page of its own."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY,
    scan_id TEXT NOT NULL,
    stage TEXT NOT NULL,   -- '' if the scan was kept, else the stage that refused it
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    figures TEXT NOT NULL, -- JSON: the measured values behind the reason
    summary TEXT NOT NULL  -- JSON: the figures that the manifest shows
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS timings (
    source TEXT NOT NULL,
    stage TEXT NOT NULL,
    scans INTEGER NOT NULL,
    seconds REAL NOT NULL, -- of a worker, all scans together
    PRIMARY KEY (source, stage)
) WITHOUT ROWID;
"""


_SORTED = json.JSONEncoder(sort_keys=True)


@dataclass(frozen=True)
class Result:
    """What a stage made of one scan; what is large lies in files (`result_files`)."""

    key: str
    scan_id: str
    refusal: Refusal | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        return self.refusal is None

    @property
    def stage(self) -> str:
        """The stage that refused the scan, "" if it was kept."""
        return "" if self.refusal is None else self.refusal.stage

    @property
    def reason(self) -> str:
        return "" if self.refusal is None else self.refusal.reason


@contextmanager
def open_ledger(path: Path | str) -> Iterator[sqlite3.Connection]:
    """The ledger at `path`, made where it is missing; closed at the end of the block.

    Raises FacefoldError where the file is no ledger or is damaged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        ledger = sqlite3.connect(path, timeout=60)
    except sqlite3.DatabaseError as error:
        raise _unusable(path, error) from error
    try:
        ledger.execute("PRAGMA journal_mode=WAL")
        # a loss of power may take the last results, which are then computed again
        ledger.execute("PRAGMA synchronous=NORMAL")
        ledger.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
        [layout] = ledger.execute("PRAGMA user_version").fetchone()
        if layout != LAYOUT:  # no key of another facefold's results would be found
            ledger.executescript("DROP TABLE IF EXISTS results")
            ledger.execute(f"PRAGMA user_version={LAYOUT}")
        ledger.executescript(_SCHEMA)
        yield ledger
    except sqlite3.DatabaseError as error:
        raise _unusable(path, error) from error
    finally:
        ledger.close()


def _unusable(path: Path, error: sqlite3.DatabaseError) -> FacefoldError:
    return database_error(path, "ledger", error, "delete it, and results are computed anew")


def record(ledger: sqlite3.Connection, results: Iterable[Result]) -> None:
    """Write results in one transaction; a key computed again replaces its row."""
    rows = [
        (r.key, r.scan_id, *_refusal_columns(r.refusal), _SORTED.encode(dict(r.summary)))
        for r in results
    ]
    with ledger:
        ledger.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def _refusal_columns(refusal: Refusal | None) -> tuple[str, str, str, str]:
    if refusal is None:
        return "", "", "", "{}"
    return refusal.stage, refusal.code, refusal.reason, _SORTED.encode(dict(refusal.figures))


def recorded(ledger: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Result]:
    """The results the ledger holds for `keys`, by key."""
    found = {}
    for rows in _rows(ledger, "key, scan_id, stage, code, reason, figures, summary", keys):
        summaries = json.loads(f"[{','.join(row[-1] for row in rows)}]")  # faster than one by one
        for (key, scan_id, stage, code, reason, figures, _), summary in zip(
            rows, summaries, strict=True
        ):
            refusal = Refusal(stage, Code(code), reason, json.loads(figures)) if stage else None
            found[key] = Result(key, scan_id, refusal, summary)
    return found


def outcomes(ledger: sqlite3.Connection, keys: Sequence[str]) -> dict[str, str]:
    """Key -> the stage that refused the scan, "" where none did, of those `keys` that are there."""
    return dict(chain.from_iterable(_rows(ledger, "key, stage", keys)))


def _rows(ledger: sqlite3.Connection, columns: str, keys: Sequence[str]) -> Iterator[list[Any]]:
    """The rows of `keys` that are there, some at a time."""
    keys = sorted(keys)  # as they lie in the file
    for start in range(0, len(keys), 500):
        part = keys[start : start + 500]
        marks = ",".join("?" * len(part))
        found = ledger.execute(f"SELECT {columns} FROM results WHERE key IN ({marks})", part)
        yield found.fetchall()


def forget(ledger: sqlite3.Connection, is_theirs: Callable[[str], bool]) -> int:
    """Removes the results of the scans for whose id `is_theirs`, and these ids in samples of
    calibrations, so that no byte of them is left in the files; returns how many scans they were."""
    gone = [(scan_id,) for scan_id in scan_ids_held(ledger) if is_theirs(scan_id)]
    changed = []
    rows = ledger.execute("SELECT key, summary FROM results WHERE summary LIKE '%\"sample\"%'")
    for key, text in rows.fetchall():
        summary = json.loads(text)
        sample = summary.get("sample")
        if isinstance(sample, list) and any(map(is_theirs, sample)):
            summary["sample"] = [scan_id for scan_id in sample if not is_theirs(scan_id)]
            changed.append((_SORTED.encode(summary), key))
    with ledger:
        ledger.executemany("DELETE FROM results WHERE scan_id = ?", gone)
        ledger.executemany("UPDATE results SET summary = ? WHERE key = ?", changed)
    scrub(ledger)
    return len(gone)


def keys_held(ledger: sqlite3.Connection) -> set[str]:
    """Of all results."""
    return {key for (key,) in ledger.execute("SELECT key FROM results")}


def scan_ids_held(ledger: sqlite3.Connection) -> list[str]:
    """Of all scans that have a result."""
    return [name for (name,) in ledger.execute("SELECT DISTINCT scan_id FROM results")]


def record_seconds(
    ledger: sqlite3.Connection, source: str, scans: int, seconds: Mapping[str, float]
) -> None:
    """Add what `scans` scans of a source took, all together, by stage."""
    with ledger:
        ledger.executemany(
            "INSERT INTO timings VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "scans = scans + excluded.scans, seconds = seconds + excluded.seconds",
            [(source, stage, scans, spent) for stage, spent in seconds.items()],
        )


def mean_seconds(ledger: sqlite3.Connection) -> dict[tuple[str, str], float]:
    """(source, stage) -> seconds of a worker a scan, over all builds of this ledger."""
    rows = ledger.execute("SELECT source, stage, seconds / scans FROM timings WHERE scans > 0")
    return {(source, stage): seconds for source, stage, seconds in rows}


def digest_of(*parts: Any) -> str:
    """SHA-256 of JSON-able values, independent of the order of mappings' keys."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
