"""What every reader owes: the surface as written, or a FormatError that helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scan_writers import (
    BESIDE,
    DEPTH_IMAGES,
    GRIDS,
    MARKS_HOLES,
    OPTIONS,
    POINT_CLOUDS,
    STATES_NO_INDICES,
    WRITERS,
    expected,
    surface,
)

from pipeline.errors import FormatError
from pipeline.formats import READERS, format_of, option_faults, read_scan, reader_options

KIN = [{"abs", "abs.gz"}, {"xyz", "csv"}]
"""Readers of one content under two names."""


def refused(path: Path, form: str, content: bytes | None) -> str:
    """The fault that the reader finds; the message must name the file and give a remedy."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        read_scan(path, form, **OPTIONS.get(form, {}))
    assert str(path) in str(caught.value)
    assert len(caught.value.remedy) > 5
    return caught.value.fault


@pytest.fixture(params=READERS)
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def path(form: str, tmp_path: Path) -> Path:
    if form in BESIDE:
        name, write = BESIDE[form]
        (tmp_path / name).write_bytes(write(*surface()))
    return tmp_path / f"scan.{form}"


def test_reads_the_surface_and_keeps_its_order(form: str, path: Path) -> None:
    path.write_bytes(WRITERS[form](*surface()))
    vertices, faces = expected(form)
    scan = read_scan(path, format_of(path), **OPTIONS.get(form, {}))
    assert scan.vertices.dtype == np.float64 and scan.faces.dtype == np.int64
    if form == "stl":  # knows only triangles: order of first appearance
        order = dict.fromkeys(faces.ravel().tolist())
        np.testing.assert_array_equal(scan.vertices, vertices[list(order)])
        np.testing.assert_array_equal(scan.vertices[scan.faces], vertices[faces])
    else:
        rounding = 1e-14 if form in DEPTH_IMAGES else 0.0  # their points are computed
        np.testing.assert_allclose(scan.vertices, vertices, rtol=rounding)
        np.testing.assert_array_equal(scan.faces, faces)
    assert (scan.pixels is not None) == (form in GRIDS)


def test_missing_file(form: str, path: Path) -> None:
    assert "No such file" in refused(path, form, None)


def test_a_folder_in_place_of_the_file(form: str, path: Path) -> None:
    path.mkdir()
    assert "cannot be read" in refused(path, form, None)


def test_empty_file(form: str, path: Path) -> None:
    assert "0 bytes" in refused(path, form, b"")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.97])
def test_truncated_file(form: str, path: Path, share: float) -> None:
    content = WRITERS[form](*surface())
    # inside a row: what is left of an OBJ cut between two rows is a whole OBJ
    refused(path, form, content[: int(share * len(content))].rstrip(b"\n"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_vertices_that_are_not_finite(form: str, path: Path, value: float) -> None:
    if form in MARKS_HOLES:
        pytest.skip("a value that is no number means no reading; the format's own test has it")
    vertices, faces = surface()
    vertices[[7, 22], 1] = value
    if form in GRIDS | POINT_CLOUDS:  # no file states a triangle that needs them
        path.write_bytes(WRITERS[form](vertices, faces))
        scan = read_scan(path, form)
        kept = np.isfinite(scan.vertices).all(axis=1)
        assert scan.left_out == {"vertices_not_finite": 2}
        np.testing.assert_array_equal(scan.vertices[kept], np.delete(vertices, [7, 22], axis=0))
        return
    fault = refused(path, form, WRITERS[form](vertices, faces))
    assert "2 of 30 vertices are not finite" in fault
    if form != "stl":
        assert "the first is vertex 7 " in fault


@pytest.mark.parametrize("corner", [30, 2_000_000_000, -2])
def test_index_out_of_range(form: str, path: Path, corner: int) -> None:
    if form in STATES_NO_INDICES:
        pytest.skip(f"{form} states no indices")
    if form in ("obj", "glb", "gltf") and corner < 0:
        pytest.skip("OBJ counts negative indices from the end, glTF has none")
    vertices, faces = surface()
    faces[11, 2] = corner
    fault = refused(path, form, WRITERS[form](vertices, faces))
    assert "1 of 40 triangles name a vertex outside 0 … 29" in fault and str(corner) in fault


def test_no_vertices(form: str, path: Path) -> None:
    if form in GRIDS:
        pytest.skip("a range image has pixels; its own test marks them all invalid")
    refused(path, form, WRITERS[form](np.empty((0, 3), np.float32), np.empty((0, 3), np.int64)))


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" * 8,
        b"<html>404: not found</html>\n",
        b"\xff\xfe" + "v 1 2 3\n".encode("utf-16-le") * 5,
        "größe 1 2 3\n".encode("latin-1") * 9,
        b" \n\t\n",
    ],
    ids=["binary", "html", "utf-16", "latin-1", "blank"],
)
def test_another_kind_of_file(form: str, path: Path, content: bytes) -> None:
    refused(path, form, content)


def test_a_file_of_every_other_format(form: str, path: Path) -> None:
    for other, write in WRITERS.items():
        if other != form and {form, other} not in KIN:
            refused(path, form, write(*surface()))


def test_format_of_the_suffix() -> None:
    assert format_of(Path("a/b.OBJ")) == "obj"
    assert format_of(Path("02463d452.abs.gz")) == "abs.gz"
    with pytest.raises(FormatError, match=r"scan\.fbx.*\.obj, \.ply, .*\.abs\.gz"):
        format_of(Path("scan.fbx"))


def test_unknown_format_lists_the_known() -> None:
    with pytest.raises(FormatError, match=r"unknown format 'fbx'.*obj, ply"):
        read_scan(Path("scan.fbx"), "fbx")


def test_the_longer_suffix_counts() -> None:
    assert format_of(Path("a.depth.npz")) == "depth.npz"
    assert format_of(Path("a.npz")) == format_of(Path("depth.npz")) == "npz"


def test_options_are_the_readers_own() -> None:
    assert reader_options("bs") == {"shape": int}
    assert {"fx", "fy", "cx", "cy", "step"} <= set(reader_options("png"))
    assert not reader_options("obj")


@pytest.mark.parametrize(
    ("form", "options", "faults"),
    [
        ("obj", {}, []),
        ("png", {"fx": 500, "fy": 500.5, "cx": 1, "cy": 1, "step": 1}, []),
        ("obj", {"shape": 1}, ["unknown option 'shape', obj has: none"]),
        ("bs", {"shape": 1.5}, ["option 'shape' is 1.5, expected int"]),
        ("bs", {"shape": True}, ["option 'shape' is True, expected int"]),
        ("mat", {"faces": 3}, ["option 'faces' is 3, expected str | None"]),
        (
            "png",
            {"fx": "500", "focal": 1},
            [
                "option 'fx' is '500', expected float | None",
                "unknown option 'focal', png has: fx, fy, cx, cy, pixel_size, step",
            ],
        ),
    ],
)
def test_option_faults(form: str, options: dict[str, Any], faults: list[str]) -> None:
    assert option_faults(form, options) == faults
    if faults:
        with pytest.raises(FormatError) as caught:
            read_scan(Path("scan"), form, **options)
        assert all(fault in str(caught.value) for fault in faults)


def test_every_reader_has_a_writer_here() -> None:
    assert set(WRITERS) == set(READERS)
