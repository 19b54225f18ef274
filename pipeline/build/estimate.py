"""What a build will take, said before it starts: time of the workers, bytes to read and to write.

The defaults were measured on one core of a small machine, on the demo's sources, the miniatures of
the datasets and two real heads. A ledger that has timings of its own goes before them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from dataclasses import fields as dataclass_fields
from pathlib import Path

import numpy as np

from pipeline.build.assembly import assembly_digest, published_as
from pipeline.build.attached_rows import carried_fields
from pipeline.build.comparing import compared_by
from pipeline.build.config import BuildConfig
from pipeline.build.leak_guards import people_of
from pipeline.build.ledger import STAGES
from pipeline.build.plan import Plan, known_views
from pipeline.build.quarantine import quarantine_rows
from pipeline.build.result_files import ScanViews
from pipeline.build.row_placement import row_order, written_rows
from pipeline.build.stages import Work
from pipeline.build.views import asked_for, without_views
from pipeline.errors import FacefoldError
from pipeline.flame.model import FlameModel
from pipeline.store.rows import MOST_POINTS, POINTS
from pipeline.store.schema import EXTRA_FIELDS, IDENTITY, ROWS_PER_CHUNK, SCAN, ModelTag, fields
from pipeline.types import ScanRecord

Seconds = Mapping[tuple[str, str], float]
"""(source, stage) -> seconds of a worker a scan, as `ledger.mean_seconds` tells them."""
VERTEX_BYTES = 48
"""Of a kept scan: position and normal as float32, two triangles a vertex as uint32."""
KEPT_SHARE = {
    "obj": 0.7,
    "wrl": 0.6,
    "ply": 1.27,
    "stl": 0.5,
    "bnt": 0.75,
    "abs.gz": 3.0,
    "png": 32,
}
"""Format -> bytes of a kept scan over those of its file. OBJ is 0.69 of a real head, 0.35–0.41
with a texture, 1.0 with few digits; binary PLY 1.0–1.26; ABS 2.9–3.1. Of PNG the compression of
real depth is a guess: 1.5 bytes a pixel."""
OTHER_SHARE = 1.2
"""Of formats not measured: most are binary, as PLY is."""
READ_SECONDS = 20e-6
"""Of each vertex, with cleaning and normals: 10–31 µs, VRML 38."""
STAGE_SECONDS = {"register": 1.8, "judge": 0.2}
VIEW_SECONDS = 0.15
"""Of a view, cast and cropped twice, with its masks."""
VIEW_BYTES = 224 * 224 * 3 + 112 * 112 * 3 + 224 * 224 + 8 * 224 * 28 + 2_000
"""Of a view: images, its part masks, and the rest of it."""
START_SECONDS = 15.0
"""Until the first scan is at work: processes, imports, the model's basis."""
WRITE_BYTES = 100e6
"""Of a version a second: each byte is read from results, written, read back and summed."""
STATE_BYTES = 12_000_000
"""Prefect's database with its log: 5.6 MB after a first small build."""
RECIPE_BYTES = 100_000
"""What workers have to know of a source."""
LEDGER_BYTES, LOG_BYTES, MOST_LOG_BYTES = 2_500, 24_000, 2**26
"""What a scan takes in the ledger, and in its log, which is emptied at the last of these."""
FULL_BYTES = 100_000
"""A disk with less than that free is full: SQLite writes pages of 4 kB, and some at a time."""


@dataclass(frozen=True)
class SourceEstimate:
    """Of one source."""

    source: str
    scans: Mapping[str, int]
    """To put through each stage."""
    read_bytes: int
    kept_bytes: int
    """Of clean scans, kept in the work folder."""
    result_bytes: int
    seconds: float
    """Of one worker."""
    views: int = 0
    """To make, if all scans that have to be registered are kept."""


@dataclass(frozen=True)
class Estimate:
    """Of a whole build."""

    sources: tuple[SourceEstimate, ...]
    rows: int
    """Of the version that will be published, if all scans pass; 0 where none will be."""
    written_rows: int
    """Of these the ones in shards that the published version does not have."""
    store_bytes: int
    """Of the rows that are written."""
    shared_bytes: int
    """Size of model and recipes, which are files for workers while scans are registered."""
    state_bytes: int
    """Size of the ledger and of Prefect's database."""
    seconds: float
    """Of the clock, on the build's workers."""

    @property
    def read_bytes(self) -> int:
        return sum(source.read_bytes for source in self.sources)

    @property
    def kept_bytes(self) -> int:
        return sum(source.kept_bytes for source in self.sources)

    @property
    def result_bytes(self) -> int:
        return sum(source.result_bytes for source in self.sources)

    @property
    def views(self) -> int:
        return sum(source.views for source in self.sources)

    @property
    def view_bytes(self) -> int:
        """Of the files that views are in before they are rows of the store."""
        return self.views * VIEW_BYTES


@dataclass(frozen=True)
class Space:
    """What a build writes to one file system, by name, and what is free there."""

    mount: Path
    free_bytes: int
    needs: Mapping[str, int]

    @property
    def needed_bytes(self) -> int:
        return sum(self.needs.values())


def estimate(
    plan: Plan, config: BuildConfig, model: FlameModel, history: Seconds | None = None
) -> Estimate:
    """What remains to be done of a plan. `history` goes before the measured defaults."""
    row_bytes = sum(field.row_bytes for field in fields(len(model.template_mm)).values())
    todo: dict[str, list[Work]] = {source.registry.id: [] for source in plan.sources}
    for work in plan.todo:
        todo[work.record.source].append(work)
    sources = [
        _of_source(source, works, plan, config, row_bytes, history or {})
        for source, works in todo.items()
    ]
    views = known_views(config, plan.kept_so_far)
    unseen = without_views(plan.kept_so_far, views)
    sources = [_with_views(source, unseen, plan, history or {}) for source in sources]
    rows, written, store_bytes = _version(plan, config, model, views)
    staged = sum(source.seconds for source in sources) / config.workers
    start = START_SECONDS if plan.todo or rows else 0.0
    seconds = start + staged + store_bytes / WRITE_BYTES
    shared = model_bytes(model) + RECIPE_BYTES * len(sources) if plan.todo or unseen else 0
    state = STATE_BYTES + ledger_bytes(len(plan.todo)) if plan.todo or rows else 0
    return Estimate(tuple(sources), rows, written, store_bytes, shared, state, seconds)


def model_bytes(model: FlameModel) -> int:
    """Size of its arrays, which make the file that workers read it from."""
    arrays = (getattr(model, field.name) for field in dataclass_fields(model))
    return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))


def ledger_bytes(scans: int) -> int:
    return LEDGER_BYTES * scans + min(LOG_BYTES * scans, MOST_LOG_BYTES)


def spaces(config: BuildConfig, expected: Estimate) -> list[Space]:
    """What each file system has to hold besides what is there."""
    needs = (
        ("kept scans", config.work, expected.kept_bytes),
        ("results", config.work, expected.result_bytes),
        ("views", config.work, expected.view_bytes),
        ("model and recipes for workers", config.work, expected.shared_bytes),
        ("ledger and Prefect's state", config.work, expected.state_bytes),
        ("store", config.store_folder, expected.store_bytes),
    )
    by_mount: dict[Path, dict[str, int]] = {}
    for what, folder, n_bytes in needs:
        by_mount.setdefault(mount_of(folder), {})[what] = n_bytes
    return [Space(at, shutil.disk_usage(at).free, found) for at, found in by_mount.items()]


def check_space(
    plan: Plan, config: BuildConfig, model: FlameModel, history: Seconds | None = None
) -> Estimate:
    """What remains to be done, once there is room for it.

    Raises FacefoldError where a file system has less room than the build will take.
    """
    expected = estimate(plan, config, model, history)
    if faults := faults_of_space(spaces(config, expected)):
        raise FacefoldError("; ".join(faults))
    return expected


def faults_of_space(found: Sequence[Space]) -> list[str]:
    """What is too full, what would fill it and what to do, a file system each."""
    faults = []
    for space in found:
        if space.needed_bytes <= space.free_bytes:
            continue
        parts = ", ".join(f"{what} {size(n)}" for what, n in space.needs.items() if n)
        remedies = ["make room", "give `work:` or `store:` another place"]
        if space.needs.get("store"):
            remedies.append("remove old versions with `facefold prune`")
        if space.needs.get("kept scans"):
            remedies.append("set keep_scans: false")
        faults.append(
            f"the build needs about {size(space.needed_bytes)} on {space.mount} ({parts}), "
            f"{size(space.free_bytes)} are free: {', '.join(remedies[:-1])} or {remedies[-1]}"
        )
    return faults


def check_room(folder: Path | str, n_bytes: int, what: str) -> None:
    """Raises FacefoldError if the file system of `folder` has no room for `what`."""
    at = mount_of(folder)
    if faults := faults_of_space([Space(at, shutil.disk_usage(at).free, {what: n_bytes})]):
        raise FacefoldError("; ".join(faults))


@contextmanager
def full_disk_named(*folders: Path | str) -> Iterator[None]:
    """Whatever breaks the block while a disk of these folders is full is a FacefoldError that names
    the disk: databases, servers and libraries fail on it in ways of their own."""
    try:
        yield
    except FacefoldError:
        raise
    except Exception as error:
        full = {at for at in map(mount_of, folders) if shutil.disk_usage(at).free < FULL_BYTES}
        if not full:
            raise
        raise FacefoldError(
            f"the disk is full: {size(shutil.disk_usage(min(full)).free)} are free on {min(full)} "
            f"({first_line(error)}); make room and build again, which goes on from what is finished"
        ) from error


def first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def size(n_bytes: float) -> str:
    """12 kB, 3.4 GB: decimal units, as disks are sold."""
    value, unit = n_bytes / 1e3, "kB"
    for unit in ("kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1e3
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:,.0f} {unit}"


def mount_of(folder: Path | str) -> Path:
    """Where the file system begins that holds `folder`, or will hold it."""
    folder = Path(folder)
    place = folder.resolve()
    while not os.access(place, os.F_OK):
        place = place.parent
    device = place.stat().st_dev
    while place != place.parent and place.parent.stat().st_dev == device:
        place = place.parent
    return place


def _of_source(
    source: str,
    todo: Sequence[Work],
    plan: Plan,
    config: BuildConfig,
    row_bytes: int,
    history: Seconds,
) -> SourceEstimate:
    # a scan that is only judged is looked at, too: from the work folder, or else from its file
    through = {
        stage: [work.record for work in todo if work.keys[i] not in plan.started]
        for i, stage in enumerate(STAGES)
    }
    each = STAGE_SECONDS | {"read": _mean_read_seconds(through["read"])}
    point_bytes = sum(EXTRA_FIELDS[name].row_bytes for name in POINTS)
    register = through["register"]
    return SourceEstimate(
        source,
        {stage: len(records) for stage, records in through.items()},
        read_bytes=sum(record.n_bytes for record in through["read"]),
        kept_bytes=sum(map(kept_bytes, through["read"])) if config.keep_scans else 0,
        result_bytes=sum(
            row_bytes + point_bytes * min(vertices(record), MOST_POINTS) for record in register
        ),
        seconds=sum(
            len(records) * _seconds(history, source, stage, each[stage])
            for stage, records in through.items()
        ),
    )


def _with_views(
    scans: SourceEstimate, unseen: Sequence[Work], plan: Plan, history: Seconds
) -> SourceEstimate:
    """The estimate with the views of those of the scans `unseen` that are of the source; each is
    read again for them."""
    if not (own := [work.record for work in unseen if work.record.source == scans.source]):
        return scans
    registry = plan.by_id[scans.source].registry
    views = sum(len(asked_for(record, registry)) for record in own)
    each = _mean_read_seconds(own) + VIEW_SECONDS * views / len(own)
    return replace(
        scans,
        views=views,
        seconds=scans.seconds + len(own) * _seconds(history, scans.source, "views", each),
        read_bytes=scans.read_bytes + sum(record.n_bytes for record in own),
    )


def _seconds(history: Seconds, source: str, stage: str, default: float) -> float:
    """Of the source itself, or of others on the same machine."""
    others = [seconds for (_, name), seconds in history.items() if name == stage]
    return history.get((source, stage), sum(others) / len(others) if others else default)


def _mean_read_seconds(records: Sequence[ScanRecord]) -> float:
    return READ_SECONDS * sum(map(vertices, records)) / max(len(records), 1)


def kept_bytes(record: ScanRecord) -> int:
    """Of the clean scan of a file that has not been opened."""
    return round(record.n_bytes * KEPT_SHARE.get(record.format, OTHER_SHARE))


def vertices(record: ScanRecord) -> int:
    return kept_bytes(record) // VERTEX_BYTES


def _version(
    plan: Plan, config: BuildConfig, model: FlameModel, views: Mapping[str, ScanViews]
) -> tuple[int, int, int]:
    """Of the version that will be published its rows, those that are written, and the bytes of
    these: none where it is there already. `views` are those that are made."""
    if not (kept := plan.kept_so_far):
        return 0, 0, 0
    if not plan.todo and not without_views(kept, views):
        quarantine = quarantine_rows(config, plan, plan.known)
        facts = plan, plan.known, quarantine, model, compared_by(config), views
        digest = assembly_digest(config, *facts)
        if published_as(config, digest) is not None:
            return 0, 0, 0
    identity = people_of(config, plan).identity
    people = len({identity[work.record.scan_id] for work in kept})
    keys = {work.record.scan_id: work.keys.register for work in kept}
    carried = carried_fields(config.store_folder, {SCAN: keys})
    form = config.form(len(kept), ModelTag.of(model), people, attached=carried.fields)
    order = row_order(config, kept, identity, form.model, carried)
    written = written_rows(order, form)
    labels = len({identity[work.record.scan_id] for work in written})
    labels *= sum(field.row_bytes for field in form.part(IDENTITY).fields.values())
    rows = -(-len(written) // ROWS_PER_CHUNK) * ROWS_PER_CHUNK
    each = sum(field.row_bytes for field in form.fields.values() if not field.group)
    point = sum(field.row_bytes for field in form.fields.values() if field.group)
    points = sum(min(vertices(work.record), config.points_per_scan) for work in written)
    shown = _views(plan, [*written, *without_views(kept, views)]) * VIEW_BYTES
    return len(kept), len(written), rows * each + points * point + labels + shown


def _views(plan: Plan, works: Sequence[Work]) -> int:
    """How many views are asked for of these scans; one that comes twice counts once."""
    asked = {work.record.scan_id: work.record for work in works if work.views}
    registries = plan.by_id
    return sum(
        len(asked_for(record, registries[record.source].registry)) for record in asked.values()
    )
