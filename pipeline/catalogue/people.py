"""What file names and tables say of people, and of scans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.catalogue.companions import Companions
from pipeline.errors import FormatError
from pipeline.registry import SourceRegistry
from pipeline.registry.naming import filled
from pipeline.registry.tables import subject_rows


class SubjectTables:
    """The rows of `subjects.table`; each file is opened once, and unreadable ones are kept."""

    def __init__(self, registry: SourceRegistry, root: Path, beside: Companions) -> None:
        self._table, self._root, self._beside = registry.subjects.table, root, beside
        self._known: dict[str, Mapping[str, Mapping[str, str]]] = {}
        self.unreadable: dict[str, str] = {}
        """Relative path -> why."""

    def row(self, path: str, groups: Mapping[str, str]) -> Mapping[str, str]:
        """The table's fields for the scan at `path`; empty if nothing is said of it."""
        table = self._table
        if table is None:
            return {}
        for template in (table.file, *table.else_file):
            for file in self._beside.matching(template, path, groups)[:1]:
                whose = groups["subject"] if table.subject else ""
                return self._rows(file).get(filled("{stem}", path, {}) if table.scan else whose, {})
        return {}

    def _rows(self, file: str) -> Mapping[str, Mapping[str, str]]:
        if file not in self._known:
            try:
                assert self._table is not None
                self._known[file] = subject_rows(self._table, self._root / file)
            except FormatError as error:
                self._known[file], self.unreadable[file] = {}, str(error)
        return self._known[file]


def subjects_of(
    registry: SourceRegistry, scans: Iterable[tuple[str, str, str]], tables: SubjectTables
) -> dict[str, dict[str, str]]:
    """Subject -> metadata as its first scan's name and the tables give it.

    `scans` are subject, scan id and path.
    """
    table, metadata = registry.subjects.table, registry.subjects.metadata
    names = [*metadata, *(n for n in (table.fields if table else ()) if n not in metadata)]
    if registry.expression_by_table:
        names.remove("expression")  # that of a scan
    first: dict[str, tuple[str, str]] = {}
    for subject, scan_id, path in scans:
        if subject not in first or scan_id < first[subject][0]:
            first[subject] = scan_id, path
    found = {}
    for subject, (_, path) in sorted(first.items()):
        groups = registry.groups(path) or {}
        told = groups | dict(tables.row(path, groups))
        found[subject] = {
            name: metadata.get(name, {}).get(told.get(name, ""), told.get(name, ""))
            for name in names
        }
    return found
