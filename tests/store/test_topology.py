"""The parts of the template's triangles go with a version, and stores without them still open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from random_store import TAG, random_manifest, random_rows

from pipeline.errors import StoreError
from pipeline.flame.assets import load_model
from pipeline.flame.model import PARTS
from pipeline.flame.named import STAND_IN
from pipeline.store import create_staging, open_store, publish, subset, verify
from pipeline.store import write_shard as write
from pipeline.store.topology import Topology, read_topology

SHARD = 16
TOPOLOGY = Topology(
    np.arange(60).reshape(20, 3).astype("<i4"),
    {"part_nose": np.arange(15, 30)},
    ("nose", "skin"),
    np.repeat(np.array([-1, 0, 1, 1], np.int8), 5),
)


def published(root: Path, topology: Topology) -> Path:
    staging = create_staging(root, 8, TAG, SHARD, topology)
    receipt = write(staging, 0, random_rows(8), TAG.digest)
    return publish(root, staging, [receipt], random_manifest(8))


def test_parts_are_read_back_also_of_a_subset(tmp_path: Path) -> None:
    version = published(tmp_path / "a", TOPOLOGY)
    archive = subset(version, "True", tmp_path / "b", profile="archive")
    for path in (version, archive):
        assert verify(path) == []
        topology = open_store(path).topology
        assert topology is not None
        assert topology.parts == ("nose", "skin")
        np.testing.assert_array_equal(topology.triangle_part, TOPOLOGY.triangle_part)
    shown = xr.open_zarr(version)["triangle_part"]
    assert shown.dims == ("face",)
    assert "0 nose, 1 skin" in shown.attrs["long_name"]


def test_without_parts_nothing_is_said_of_them(tmp_path: Path) -> None:
    """As before schema 5, and as of a template without landmarks."""
    version = published(tmp_path, replace(TOPOLOGY, parts=(), triangle_part=None))
    opened = open_store(tmp_path)
    assert opened.attributes["topology"].keys() == {"faces", "regions"}
    assert not (version / "triangle_part").exists()
    assert opened.topology is not None
    assert opened.topology.parts == ()
    assert opened.topology.triangle_part is None


def test_the_stand_ins_parts() -> None:
    topology = Topology.of(load_model(STAND_IN))
    assert topology.parts == PARTS
    assert topology.triangle_part is not None
    for i, name in enumerate(PARTS):
        own = np.unique(topology.faces[topology.triangle_part == i])
        assert own.tolist() == topology.regions[f"part_{name}"].tolist()


def test_a_template_without_landmarks_has_no_parts() -> None:
    bare = replace(load_model(STAND_IN), landmarks=None, triangle_part=None)
    assert Topology.of(bare).attributes().keys() == {"faces", "regions"}


def test_damaged_parts_are_refused(tmp_path: Path) -> None:
    path = published(tmp_path, TOPOLOGY) / "triangle_part" / "c" / "0"
    content = path.read_bytes()
    for damaged, fault in (
        (content[:-1], r"triangle_part/c/0: 19 bytes, expected 20"),
        (b"\x02" * 20, "a triangle is of a part without a name"),
        (b"\xfe" * 20, "a triangle is of a part without a name"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match=fault):
            open_store(tmp_path).topology  # noqa: B018


@pytest.mark.parametrize("names", ["nose", ["nose", "nose"], ["nose", 3], ["x"] * 200])
def test_damaged_names_of_parts_are_refused(tmp_path: Path, names: object) -> None:
    attributes = {"topology": {"faces": 0, "regions": [], "parts": names}}
    with pytest.raises(StoreError, match="topology: parts"):
        read_topology(tmp_path, attributes, 0)
