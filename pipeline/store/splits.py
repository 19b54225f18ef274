"""The split of a store, read from its tables, as a split file holds it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import StoreError
from pipeline.identity.split_file import Person, Split
from pipeline.store.documents import content_of, fault_of, parsed
from pipeline.store.paths import PROVENANCE
from pipeline.store.reader import Store, open_store
from pipeline.store.schema import NON_METRIC

RULES = ("seed", "splits", "profile", "subset_of", "where")
"""What provenance says of how the split was made."""
_REASONS = TypeAdapter(list[dict[str, str]])


def store_split(store: Path | str) -> Split:
    """Who is in which split of a store, or of one version's folder, with the rules it was made by.

    Raises StoreError where there is no published store, or a table of it is damaged.
    """
    opened = open_store(store)
    path = opened.path / PROVENANCE
    provenance = parsed(content_of(path), path)
    rules = {name: provenance[name] for name in RULES if name in provenance}
    benchmarks = _benchmarks(provenance)
    return Split(
        store=opened.version,
        facefold=str(provenance.get("facefold", "unknown")),
        rules=rules | ({"benchmarks": benchmarks} if "sources" in provenance else {}),
        people=_people(opened),
    )


def _people(store: Store) -> dict[str, Person]:
    wanted = ("identity", "split", "source", "subject", "scan_id", "content_hash")
    rows = store.columns(*(name for name in wanted if name in store.column_names))
    columns = {name: rows[name].to_pylist() for name in rows.column_names}
    hashes = columns.get("content_hash") or [None] * len(store)
    scans: dict[str, set[tuple[bool, str]]] = defaultdict(set)
    names: dict[str, set[str]] = defaultdict(set)
    splits: dict[str, str] = {}
    for i, identity in enumerate(columns["identity"]):
        split = columns["split"][i]
        scans[identity].add((split.endswith(NON_METRIC), hashes[i] or columns["scan_id"][i]))
        names[identity].add(f"{columns['source'][i]}:{columns['subject'][i]}")
        splits[identity] = split.removesuffix(NON_METRIC)
    held = _held_back(store)
    return {
        identity: Person(
            split=splits[identity],
            names=sorted(names[identity]),
            scans=sorted(scan for other, scan in own if not other),
            non_metric=sorted(scan for other, scan in own if other),
            held_back=held.get(identity, []),
        )
        for identity, own in scans.items()
    }


def _held_back(store: Store) -> dict[str, list[dict[str, str]]]:
    """Of the identities that are; stores before 0.5 do not say it."""
    table = store.table("identities")
    if "held_back" not in table.column_names:
        return {}
    told = zip(table["identity"].to_pylist(), table["held_back"].to_pylist(), strict=True)
    try:
        return {identity: _REASONS.validate_json(reasons) for identity, reasons in told if reasons}
    except ValidationError as error:
        raise StoreError(
            f"{store.path}: identities: column 'held_back' is damaged ({fault_of(error)}); "
            "restore it or publish again"
        ) from error


def _benchmarks(provenance: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Source -> field -> what it says of benchmarks, as the build's registries had it."""
    found: dict[str, dict[str, str]] = {}
    for source in provenance.get("sources", []):
        registry = source.get("registry", {})
        fields = {"benchmark": registry.get("benchmark")}
        for i, rule in enumerate(registry.get("rules", [])):
            fields[f"rules.{i}.benchmark"] = rule.get("benchmark")
        told = {field: value for field, value in fields.items() if value is not None}
        if told:
            found[source["id"]] = told
    return found
