"""How a version describes itself to any Zarr library: groups, arrays and attributes, written by
zarr-python, with the names, units and coordinates of the CF conventions.

Shards are not written here: `writer.py` does that.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.store.arrays.int16 import IN_STEPS, STEP_MM
from pipeline.store.arrays.shards import fill_value, zarr_array
from pipeline.store.documents import as_json
from pipeline.store.form import Form, at
from pipeline.store.paths import GROUP
from pipeline.store.schema import IDENTITY, IDENTITY_ROW, NAME_OF, SCAN, SCAN_ROW, VIEW
from pipeline.store.topology import (
    ATTRIBUTE,
    FACES,
    REGION,
    REGION_MASK,
    TRIANGLE_PART,
    Topology,
)
from pipeline.types import Array

if TYPE_CHECKING:
    import zarr

CONVENTIONS = "CF-1.12"
FRAME = {
    "units": {"length": "mm", "angle": "rad"},
    "frame": "right-handed, +y up, +z out of the face, +x to the subject's left",
    "frame_origin": "each scan's own, scans are not aligned with each other: that of its file, "
    "unless source_to_canonical, which takes the file's coordinates here, moves it",
}
_RAGGED = (
    "the rows of scan i are [first : first + count] with first, count = {at}[i]; rows_of_scans of "
    "all rows are of a scan, the others, where a shard ends, are fill values"
)


@dataclass(frozen=True)
class Held:
    """What a version's arrays hold, known when all shards are written."""

    scan_ids: Sequence[str]
    lengths: Mapping[str, int]
    """Group -> rows of its arrays up to the last that a scan has."""
    used: Mapping[str, int]
    """Group -> rows of its arrays that a scan has."""
    people: Sequence[str] = ()
    """Names of the rows of the arrays of identities."""
    identity_row: Array | None = None
    """(rows,) int64, the row there of each scan's person."""
    view_ids: Sequence[str] = ()
    """Names of the rows of the arrays of views."""
    scan_row: Array | None = None
    """(views,) int64, the row of each view's scan."""


def described(form: Form, topology: Topology | None, held: Held | None = None) -> dict[str, bytes]:
    """Path -> content of all files of a version that are neither shards nor tables; of a staging,
    whose rows are not known yet, without the fields. Equal arguments give equal bytes.
    """
    import zarr
    from zarr.storage import MemoryStore

    files: dict[str, Any] = {}
    group = zarr.create_group(MemoryStore(files), attributes=_attributes(form, topology))
    if topology is not None:
        _add_topology(group, topology, form.model.n_vertices)
    if held is not None:
        for part in form.parts.values():
            for name in part.fields:
                _create_field(group, part, name, held)
        _add_names(group, held)
    with warnings.catch_warnings():
        # so that libraries need not list the folder, nor wonder at the tables in it
        warnings.filterwarnings("ignore", "Consolidated metadata", UserWarning)
        zarr.consolidate_metadata(group.store)
    return {path: _plain(path, content.to_bytes()) for path, content in files.items()}


def _plain(path: str, content: bytes) -> bytes:
    """Metadata in one order of keys, whichever zarr-python wrote them."""
    return as_json(json.loads(content)) if path.endswith(GROUP) else content


def _attributes(form: Form, topology: Topology | None) -> dict[str, Any]:
    return {
        "Conventions": CONVENTIONS,
        "title": f"3D face scans registered to the template of {form.model.name}",
        "rows_are": "row i of each array of the dimension scan is row i of manifest.parquet, of "
        "the dimension identity row i of identities.parquet, of the dimension view row i of "
        "views.parquet",
        **form.attributes(),
        **FRAME,
        **({ATTRIBUTE: topology.attributes()} if topology is not None else {}),
    }


def _create_field(group: zarr.Group, form: Form, name: str, held: Held) -> None:
    """The array of a field, whose shards `writer.py` writes."""
    field = form.fields[name]
    zarr_array(
        group,
        form,
        name,
        held.lengths.get(field.group, form.rows),
        dimension_names=(field.group or field.row_of, *field.dims),
        attributes=_field_attributes(form, name, held),
    )


def _field_attributes(form: Form, name: str, held: Held) -> dict[str, Any]:
    field, middle = form.fields[name], IN_STEPS.get(name)
    attributes: dict[str, Any] = {
        "units": field.unit,
        "long_name": field.meaning,
        "stage": field.stage,
    }
    if form.in_steps(name):  # what CF readers then show is millimetres
        fill = int(fill_value(np.dtype(form.stored(name).dtype)))
        attributes |= {"scale_factor": STEP_MM, "_FillValue": fill}
        if middle:
            attributes["long_name"] = f"{name} less {middle}: add that to have {name}"
            attributes["ancillary_variables"] = middle
    if field.group:
        places = at(field.group)
        attributes |= {
            "ancillary_variables": places,
            "comment": _RAGGED.format(at=places),
            "rows_of_scans": held.used[field.group],
        }
    else:
        attributes["coordinates"] = NAME_OF[field.row_of]
    for group in form.per_scan:
        if name == at(group):
            attributes["sample_dimension"] = group
    return attributes


def _add_names(group: zarr.Group, held: Held) -> None:
    """Which scan, which person, and which view, row i of the arrays is of."""
    meaning = "source: and the path within the source, of row i of each array"
    names = np.array(held.scan_ids, np.dtypes.StringDType())
    _add(group, NAME_OF[SCAN], names, (SCAN,), meaning)
    if held.identity_row is not None:
        people = np.array(held.people, np.dtypes.StringDType())
        meaning = "the person of row i of each array of the dimension identity"
        _add(group, NAME_OF[IDENTITY], people, (IDENTITY,), meaning)
        _add(group, IDENTITY_ROW.name, held.identity_row, (SCAN,), IDENTITY_ROW.meaning)
    if held.scan_row is not None:
        views = np.array(held.view_ids, np.dtypes.StringDType())
        meaning = "scan_id, # and name of row i of each array of the dimension view"
        _add(group, NAME_OF[VIEW], views, (VIEW,), meaning)
        _add(group, SCAN_ROW.name, held.scan_row, (VIEW,), SCAN_ROW.meaning)


def _add_topology(group: zarr.Group, topology: Topology, n_vertices: int) -> None:
    names = np.array(list(topology.regions), np.dtypes.StringDType())
    _add(group, FACES, topology.faces, ("face", "corner"), "vertices of each triangle, from 0 on")
    if len(names):
        _add(group, REGION, names, ("region",), "name of a set of the template's vertices")
        meaning = "the vertex belongs to the region"
        masks = topology.masks(n_vertices)
        _add(group, REGION_MASK, masks, ("region", "vertex"), meaning)
    if topology.triangle_part is not None:
        listed = ", ".join(f"{i} {name}" for i, name in enumerate(topology.parts))
        meaning = f"the part that most of the triangle is of: {listed}, -1 none"
        _add(group, TRIANGLE_PART, topology.triangle_part, ("face",), meaning)


def _add(group: zarr.Group, name: str, values: Array, dims: tuple[str, ...], meaning: str) -> None:
    """A small array of one chunk; numbers are not compressed, so that they can be read plainly."""
    group.create_array(
        name,
        data=values,
        chunks=values.shape,
        dimension_names=dims,
        attributes={"long_name": meaning},
        compressors="auto" if values.dtype.kind == "T" else None,
    )
