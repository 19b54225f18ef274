"""The views of a scan, as a stage after judging: their key, their files, what the ledger has.

The key covers the scan's registration, so that another camera renders again and registers nothing.
Whatever fails, a view is refused with its reason, and the scan stays.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.build.code_keys import read_code, stage_code
from pipeline.build.ledger import Result, digest_of, recorded
from pipeline.build.result_files import (
    ScanViews,
    load_row,
    result_path,
    save_views,
    views_path,
)
from pipeline.build.stages import Recipe, Work
from pipeline.catalogue.files import ImageFile
from pipeline.errors import FacefoldError
from pipeline.flame.model import FlameModel
from pipeline.formats import read_scan
from pipeline.registry import SourceRegistry
from pipeline.store.rows import view_fields
from pipeline.store.schema import view_id
from pipeline.types import PhotoFile, Refusal, ScanRecord
from pipeline.views.making import Refused, make_views, names_of
from pipeline.views.scene import RegisteredScan
from pipeline.views.view import View

Row = dict[str, Any]


def asked_for(record: ScanRecord, registry: SourceRegistry) -> list[str]:
    """The names of the views that the scan's registry wants of it."""
    return names_of(record.photos, registry.under(record.rule).views)


def views_keys(
    registry: SourceRegistry, images: Mapping[Path, ImageFile], seed: int
) -> Callable[[str, ScanRecord], str]:
    """What says for a scan of the registry, under its rule, which digest its views depend on
    besides the key of its registration, the first argument; "": none are asked for.

    `images` are those of the source's catalogue, textures among them, which renders show.
    """
    section = registry.views.model_dump(mode="json", exclude={"photos"})
    code = stage_code("views")
    marks = {p.landmarks for p in registry.views.photos if p.landmarks is not None}
    readers = sorted(read_code(registry.format, (m.format, m.scheme)) for m in marks)
    shared = digest_of("views", section, seed, code, readers)

    def key(register: str, record: ScanRecord) -> str:
        if not names_of(record.photos, registry.views):
            return ""
        painted = record.image_paths if registry.views.renders and registry.views.colours else ()
        textures = [images[path].sha256 for path in painted if path in images]
        return digest_of(register, shared, [_facts(photo) for photo in record.photos], textures)

    return key


def _facts(photo: PhotoFile) -> list[Any]:
    """What a view of a photo depends on: not where the files lie."""
    return [value for value in photo if not isinstance(value, Path)]


def views_of(work: Work, recipe: Recipe, model: FlameModel) -> Result:
    """Makes the views of a scan that is kept, and leaves their arrays in the work folder.

    Raises StoreError if the scan's registration is damaged.
    """
    record, registry = work.record, recipe.registry.under(work.record.rule)
    stored = load_row(result_path(recipe.folder, work.keys.register))
    try:
        scan = RegisteredScan(
            record.scan_id,
            read_scan(record.path, record.format, **registry.reader),
            *(stored[n] for n in ("source_to_canonical", "vertices_mm", "registered_landmarks_mm")),
        )
        views, refused = make_views(scan, record.photos, registry.views, model, recipe.seed)
    except FacefoldError as error:
        refusal = Refusal("views", error.code, str(error), error.figures)
        return refused_views(work, recipe.registry, refusal, recipe.root)
    if views:
        fields = [view_fields(view) for view in views]
        arrays = {name: np.stack([row[name] for row in fields]) for name in fields[0]}
        save_views(views_path(recipe.folder, work.views), record.scan_id, arrays)
    shown = _Shown(recipe.registry, record, recipe.root)
    rows = [shown.row(view) for view in views]
    return Result(
        work.views,
        record.scan_id,
        None,
        {"rows": rows, "refused": [shown.refused(one) for one in refused]},
    )


def refused_views(work: Work, registry: SourceRegistry, refusal: Refusal, root: Path) -> Result:
    """None of a scan's views could be made, for one reason."""
    shown = _Shown(registry, work.record, root)
    photos = {f"photo{i}": photo.path for i, photo in enumerate(work.record.photos)}
    lost = [Refused(n, photos.get(n), refusal) for n in asked_for(work.record, registry)]
    summary = {"rows": [], "refused": [shown.refused(one) for one in lost]}
    return Result(work.views, work.record.scan_id, registry.shown(refusal), summary)


class _Shown:
    """The views of a scan as tables show them: names of people hidden if the source's are."""

    def __init__(self, registry: SourceRegistry, record: ScanRecord, root: Path) -> None:
        self.registry, self.record, self.root = registry, record, root

    def path(self, path: Path) -> str:
        return self.registry.shown_path(path.relative_to(self.root).as_posix())

    def row(self, view: View) -> Row:
        facts = dict(view.facts)
        photo = facts.pop("image_path", None)
        return {
            "view_id": view_id(self.record.scan_id, view.name),
            "view": view.name,
            "image_file": None if photo is None else self.path(photo),
            **facts,
        }

    def refused(self, lost: Refused) -> Row:
        refusal = self.registry.shown(lost.refusal)
        return {
            "source": self.record.source,
            "scan_id": self.record.scan_id,
            "view": lost.name,
            "path": None if lost.path is None else self.path(lost.path),
            "stage": refusal.stage,
            "code": str(refusal.code),
            "reason": refusal.reason,
            "figures": json.dumps(dict(refusal.figures), sort_keys=True),
        }


def recorded_views(
    ledger: sqlite3.Connection, works: Iterable[Work], lying: Set[str], retry: bool = False
) -> dict[str, ScanViews]:
    """Scan id -> what its views came to, of the works whose views were tried and whose arrays are
    among the keys `lying` there; with `retry` without those that ended their worker."""
    asked = [work for work in works if work.views]
    known = recorded(ledger, [work.views for work in asked])
    return {
        work.record.scan_id: found
        for work in asked
        if (result := known.get(work.views)) and not (retry and result.stage == "worker")
        if (found := _from(result)).key in lying or not found.rows
    }


def without_views(works: Iterable[Work], known: Mapping[str, ScanViews]) -> list[Work]:
    """The works whose views have to be made; `known` is by scan id."""
    return [work for work in works if work.views and work.record.scan_id not in known]


def _from(result: Result) -> ScanViews:
    rows, refused = (tuple(result.summary[name]) for name in ("rows", "refused"))
    return ScanViews(result.key, rows, refused)


def digest_of_views(views: ScanViews | None) -> str:
    """Equal for views whose arrays and refusals are the same."""
    return "" if views is None else digest_of(views.result_key, len(views.rows), views.refused)


def counted(views: Iterable[ScanViews]) -> dict[str, Any]:
    """How many views there are, by kind, and how many were refused, by code."""
    kinds: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    for one in views:
        kinds.update(row["kind"] for row in one.rows)
        codes.update(f"{row['stage']}: {row['code']}" for row in one.refused)
    return {
        "made": kinds.total(),
        "kinds": dict(sorted(kinds.items())),
        "refused": dict(codes.most_common()),
    }
