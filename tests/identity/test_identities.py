"""Identities within and across sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import FacefoldError
from pipeline.identity import identities
from pipeline.types import ScanRecord


def record(source: str, subject: str, scan: str) -> ScanRecord:
    return ScanRecord(
        source=source,
        scan_id=f"{source}:{scan}",
        subject=subject,
        session="1",
        expression="neutral",
        neutral=True,
        path=Path(scan),
        format="obj",
        unit="mm",
        landmark_path=None,
        image_paths=(),
        content_hash="",
    )


def test_subjects_are_namespaced_by_their_source() -> None:
    found = identities([record("a", "001", "x"), record("b", "001", "y")], {})
    assert found == {"a:x": "a:001", "b:y": "b:001"}


def test_the_same_person_in_three_sources_is_one_identity() -> None:
    records = [record("a", "7", "x"), record("b", "k", "y"), record("c", "3", "z")]
    found = identities([*records, record("c", "4", "w")], {"a:7": "b:k", "b:k": "c:3"})
    assert found == {"a:x": "c:3", "b:y": "c:3", "c:z": "c:3", "c:w": "c:4"}


def test_circles_are_refused() -> None:
    with pytest.raises(FacefoldError, match="a:7 -> b:k -> a:7"):
        identities([record("a", "7", "x")], {"a:7": "b:k", "b:k": "a:7"})
