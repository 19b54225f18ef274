"""People who withdrew consent, as a store keeps them: marks, and what in its tables is theirs.

The records are in each later version's provenance under `withdrawn` (`types.Withdrawal`): by them
`verify` proves that nothing of these people is there (`checks/withdrawn.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import StoreError
from pipeline.store.documents import shown
from pipeline.types import Array, Withdrawal

TEXTS = ("reasons", "held_back")
"""Columns with texts about a row that may name other people."""
WITHDRAWN = "withdrawn"
"""Key of the records in a version's provenance."""


def as_document(withdrawal: Withdrawal) -> dict[str, Any]:
    """JSON-able, as provenance and the build's own record have it."""
    values = {field.name: getattr(withdrawal, field.name) for field in fields(Withdrawal)}
    return {name: sorted(v) if isinstance(v, frozenset) else v for name, v in values.items()}


def withdrawals_in(provenance: Mapping[str, Any], owner: Path | str) -> tuple[Withdrawal, ...]:
    """The records that a version carries. Raises StoreError where they are none."""
    found = provenance.get(WITHDRAWN, [])
    names = {field.name for field in fields(Withdrawal)}
    if not isinstance(found, list) or any(
        not isinstance(one, dict) or names - one.keys() for one in found
    ):
        raise StoreError(f"{owner}: {WITHDRAWN}: got {shown(found)}, expected records; build again")
    return tuple(
        Withdrawal(
            str(one["salt"]),
            str(one["date"]),
            *(frozenset(map(str, one[name])) for name in ("people", "scans", "contents", "rows")),
        )
        for one in found
    )


def theirs(manifest: pa.Table, gone: Withdrawal) -> Array:
    """(rows,) bool: the rows of a manifest that are of the person, by name, scan or content."""
    columns: dict[str, Any] = {
        "identity": gone.of_person,
        "scan_id": gone.of_scan,
        "content_hash": gone.of_content,
    }
    found = np.zeros(len(manifest), bool)
    for name, is_theirs in columns.items():
        if name in manifest.column_names:
            found |= _marked(manifest[name], is_theirs)
    subjects = pc.binary_join_element_wise(manifest["source"], manifest["subject"], ":")
    return found | _marked(subjects, gone.of_person)


def _marked(column: pa.ChunkedArray, is_theirs: Any) -> Array:
    """(rows,) bool; each value is asked once."""
    coded = column.combine_chunks().dictionary_encode()
    known = [value is not None and is_theirs(value) for value in coded.dictionary.to_pylist()]
    codes: Array = coded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
    return np.array([*known, False])[codes]


def texts_naming(table: pa.Table, gone: Withdrawal) -> list[str]:
    """The columns of a table's texts for people that name the person, or a scan of theirs."""
    return [
        name
        for name in TEXTS
        if name in table.column_names
        and any(t and gone.without_names(t) != t for t in table[name].unique().to_pylist())
    ]


def is_file_of(gone: Withdrawal, row: Mapping[str, Any]) -> bool:
    """Whether a row of a table of files, or of views, is of a file recorded as the person's."""
    return gone.of_scan(row.get("scan_id") or f"{row['source']}:{row['path']}")


def sources_without(provenance: Mapping[str, Any], gone: Withdrawal) -> list[dict[str, Any]]:
    """What provenance says of the sources, without the names of a person and their scans."""
    return [
        {
            **source,
            "registry": registry_without(source["registry"], [gone]),
            "landmark_calibrations": [
                calibration_without(found, gone) for found in source["landmark_calibrations"]
            ],
        }
        for source in provenance.get("sources", [])
    ]


def calibration_without(summary: Mapping[str, Any], gone: Withdrawal) -> dict[str, Any]:
    """A calibration's summary, which names the scans of its sample, without those of a person. The
    mean of all of them stays."""
    sample = [scan_id for scan_id in summary.get("sample", ()) if not gone.of_scan(scan_id)]
    return {**summary, "sample": sample}


def registry_without(said: Mapping[str, Any], gone: Sequence[Withdrawal]) -> dict[str, Any]:
    """What provenance says of a registry, without links, examples, exclusions and rules that name
    people who withdrew."""
    source = str(said["id"])

    def stays(*texts: str) -> bool:
        return not any(one.of_path(source, text) for one in gone for text in texts)

    def unlinked(*people: str) -> bool:
        return not any(one.of_person(person) for one in gone for person in people)

    scans, subjects = dict(said["scans"]), dict(said["subjects"])
    scans["examples"] = {k: v for k, v in scans["examples"].items() if stays(k)}
    scans["exclude"] = [e for e in scans["exclude"] if stays(e["pattern"], e["reason"])]
    subjects["same_as"] = {
        subject: other
        for subject, other in subjects["same_as"].items()
        if unlinked(f"{source}:{subject}", other)
    }
    rules = [
        rule
        for rule in said["rules"]
        if stays(rule["reason"], rule["path"] or "", *rule["where"].values())
        and unlinked(rule["same_as"] or "")
    ]
    return {**said, "scans": scans, "subjects": subjects, "rules": rules}
