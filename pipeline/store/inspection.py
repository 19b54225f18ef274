"""What a store holds, told from its tables and its listing alone: no array is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.store.documents import text
from pipeline.store.form import Form
from pipeline.store.paths import HEAD, VERSIONS
from pipeline.store.reader import Store, open_store
from pipeline.store.remote.objects import is_url
from pipeline.store.schema import TABLES
from pipeline.store.table_reading import coded as coded_column
from pipeline.store.versions import list_versions
from pipeline.types import Array, Verdict

FIGURES = {column.name for column in TABLES["manifest"] if column.type == "double"} | {
    "flipped_triangles"
}
"""Quality columns of the manifest whose medians `inspect_store` gives."""
SOURCE_FIGURES = ("scan_to_mesh_median_mm", "scan_to_mesh_p95_mm", "coverage")
"""Those it gives of each source, too."""
CLASSES = ("source", "split", "verdict", "licence", "benchmark", "expression")
"""Columns whose values it counts."""
USES = ("commercial", "redistribution")
"""What a licence allows or not."""
FACTS = (*USES, "neutral")
VERDICTS = tuple(verdict for verdict in get_args(Verdict) if verdict != "reject")
"""Of rows: what is rejected has none."""
FEW = 5
"""As many people it names of those with most and with fewest scans."""
STEPS = (1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Numbers of scans a person at which a bar of the histogram begins."""


class Coded(NamedTuple):
    """A column of few values: rows without one count as "none"."""

    codes: Array  # (rows,) place in `names`
    names: list[str]

    def counts(self) -> dict[str, int]:
        """Rows by value."""
        rows = np.bincount(self.codes, minlength=len(self.names)).tolist()
        counts = dict(zip(self.names, rows, strict=True))
        return {name: counts[name] for name in sorted(counts) if counts[name]}


def inspect_store(store: Path | str) -> dict[str, Any]:
    """What a store, or one version's folder, holds, as JSON has it; figures are medians over rows.

    Only the columns it needs are read: of a million rows in about a second. Raises StoreError
    where there is no published store, or a file of it is missing or cut short.
    """
    opened = open_store(store)
    written_by = opened.attributes.get("written_by")
    sizes: Counter[str] = Counter()
    for entry in opened.listing["files"].values():
        sizes[entry.get("field", "tables and metadata")] += entry["bytes"]
    return {
        "store": str(store if is_url(store) else opened.path),
        "version": opened.version,
        "schema_version": opened.form.schema,
        "written_by": None if written_by is None else text("written_by", written_by),
        "profile": opened.form.profile,
        "model": opened.model,
        "labelled_identities": opened.form.identities,
        **_rows(opened),
        "views": _views(opened),
        "quarantined": _coded(opened.table("quarantine")["source"]).counts(),
        "excluded": _coded(opened.table("excluded")["source"]).counts(),
        "fields": _fields(opened.form, sizes),
        "bytes": {**dict(sorted(sizes.items())), "all": sum(sizes.values())},
        "versions": _versions(opened.path),
    }


def _rows(store: Store) -> dict[str, Any]:
    """What the manifest's rows have in common, and how they differ."""
    figures = [name for name in store.column_names if name in FIGURES]
    rows = store.columns("identity", *CLASSES, *FACTS, *figures)
    coded = {name: _coded(rows[name]) for name in ("identity", *CLASSES)}
    held = {name: _held(rows[name]) for name in FACTS}
    held |= {name: _held(pc.equal(rows["verdict"], name)) for name in VERDICTS}
    people = coded["identity"].counts()
    medians = {name: pc.quantile(rows[name], 0.5)[0].as_py() for name in figures}
    return {
        "rows": len(store),
        "identities": len(people),
        **{name: coded[name].counts() for name in CLASSES},
        "neutral": int(held["neutral"].sum()),
        "rows_by_identity": people,
        "scans_per_identity": _spread(people),
        "by_source": _by_source(rows, coded, held),
        "by_split": _by(coded["split"], coded["identity"], held, VERDICTS),
        "licences": _by(coded["licence"], coded["identity"], held, USES),
        "use": {name: int(held[name].sum()) for name in USES}
        | {"both": int((held["commercial"] & held["redistribution"]).sum())},
        "medians": {name: median for name, median in medians.items() if median is not None},
    }


def _views(store: Store) -> dict[str, Any]:
    """How many there are, of which kinds and sources, and why some are not."""
    views = store.view_columns("kind", "source", "camera")
    refused = store.table("refused_views")
    return {
        "rows": len(views),
        **{name: _coded(views[name]).counts() for name in views.column_names},
        "scans": len(np.unique(store.scan_row_of_view)),
        "refused": _coded(refused["code"]).counts(),
    }


def _coded(column: pa.ChunkedArray) -> Coded:
    codes, names = coded_column(column)
    none = names.index("none") if "none" in names else len(names)
    return Coded(np.where(codes < 0, none, codes), names if none < len(names) else [*names, "none"])


def _held(column: pa.ChunkedArray) -> Array:
    """(rows,) bool; not where it is unknown."""
    return np.asarray(pc.fill_null(column, False).to_numpy())


def _by(
    groups: Coded, people: Coded, held: Mapping[str, Array], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Group -> rows, identities, and the rows for which each of `names` holds."""
    n = len(groups.names)
    seen = np.zeros((n, len(people.names)), dtype=bool)
    seen[groups.codes, people.codes] = True
    columns = {
        "rows": np.bincount(groups.codes, minlength=n),
        "identities": seen.sum(axis=1),
        **{name: np.bincount(groups.codes[held[name]], minlength=n) for name in names},
    }
    return {
        group: {name: int(values[i]) for name, values in columns.items()}
        for group, i in sorted(zip(groups.names, range(n), strict=True))
        if columns["rows"][i]
    }


def _by_source(
    rows: pa.Table, coded: Mapping[str, Coded], held: Mapping[str, Array]
) -> dict[str, dict[str, Any]]:
    """As `_by`, with each source's licences and the medians of its figures."""
    sources, licences = coded["source"], coded["licence"]
    found = _by(sources, coded["identity"], held, (*VERDICTS, *USES))
    pairs = np.unique(sources.codes.astype(np.int64) * len(licences.names) + licences.codes)
    for source, licence in zip(*np.divmod(pairs, len(licences.names)), strict=True):
        held_by = found[sources.names[source]].setdefault("licences", [])
        held_by.append(licences.names[licence])
        held_by.sort()
    order = np.argsort(sources.codes, kind="stable")
    ends = np.bincount(sources.codes, minlength=len(sources.names)).cumsum()[:-1]
    for figure in SOURCE_FIGURES:
        values = np.asarray(rows[figure].cast(pa.float64()).to_numpy())[order]
        for source, part in zip(sources.names, np.split(values, ends), strict=True):
            known = part[~np.isnan(part)]
            if source in found:
                found[source][figure] = float(np.median(known)) if len(known) else None
    return found


def _spread(people: Mapping[str, int]) -> dict[str, Any]:
    """How many scans a person has: extremes, median, people by number of scans, and who."""
    names, counts = list(people), np.fromiter(people.values(), np.int64, len(people))
    order = np.argsort(counts, kind="stable")
    few, many = order[:FEW], np.argsort(-counts, kind="stable")[:FEW]
    place = np.searchsorted(STEPS, counts, side="right") - 1
    return {
        "min": int(counts.min()),
        "median": float(np.median(counts)),
        "max": int(counts.max()),
        "histogram": {
            _label(STEPS, step): int(n) for step, n in enumerate(np.bincount(place)) if n
        },
        "most": {names[i]: int(counts[i]) for i in many},
        "fewest": {names[i]: int(counts[i]) for i in few},
    }


def _label(steps: Sequence[int], step: int) -> str:
    """ "4", "5-9", "1000+"."""
    if step + 1 == len(steps):
        return f"{steps[step]}+"
    last = steps[step + 1] - 1
    return f"{steps[step]}-{last}" if last > steps[step] else str(last)


def _fields(form: Form, sizes: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Each array: the shape of one row, which is a scan's, a person's, a view's, or one of a scan's
    points."""
    attached = {field.name: field for field in form.attached}
    return {
        name: {
            "row_of": field.group or field.row_of,
            "type": np.dtype(form.holding(name).stored(name).dtype).name,
            "shape": list(field.shape),
            "unit": field.unit,
            "bytes": sizes[name],
            "attached": name in attached,
            "model": asdict(tag) if name in attached and (tag := attached[name].model) else None,
        }
        for name, field in form.all_fields.items()
    }


def _versions(version: Path) -> list[dict[str, Any]]:
    """Those of the store it is in, the latest first; of a copied version none are known."""
    if version.parent.name != VERSIONS or not (version.parent.parent / HEAD).exists():
        return []
    return [
        {
            "version": other.name,
            "published": other.published.isoformat(timespec="seconds"),
            "bytes": other.bytes,
            "current": other.is_current,
        }
        for other in list_versions(version.parent.parent)
    ]
