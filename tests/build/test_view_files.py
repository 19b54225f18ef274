"""What `facefold view` shows, in a process with a display of its own where there are both."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from pipeline.build.given_files import Declared, Request
from pipeline.build.view_files import meshes_of, shown
from pipeline.errors import FormatError, RegistrationError
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from tests.referee import Ask

XVFB = shutil.which("xvfb-run")
FACEFOLD = (sys.executable, "-c", "from flows.terminal.command import main; main()")


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


@pytest.fixture(scope="module")
def scan(model: FlameModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in's head in centimetres, lying on its back: +z up, −y forward … and turned."""
    path = tmp_path_factory.mktemp("view") / "head.ply"
    x, y, z = model.template_mm.T / 10
    trimesh.Trimesh(np.stack([x, -z, y], 1), model.faces, process=False).export(path)
    return path


@pytest.fixture(scope="module")
def mesh(scan: Path) -> Path:
    """The same in millimetres, as registrations are."""
    head = trimesh.load(scan, process=False)
    path = scan.parent / "registered" / "head.ply"
    path.parent.mkdir()
    head.apply_scale(10.0).export(path)
    return path


@pytest.mark.parametrize("axes", [None, {"up": "+z", "forward": "-y"}], ids=["found", "declared"])
def test_faces_look_at_the_viewer(
    scan: Path, mesh: Path, model: FlameModel, axes: dict[str, str] | None
) -> None:
    from pipeline.registry import Axes

    declared = Declared("cm", axes=axes and Axes.model_validate(axes))
    seen = shown(Request(scan, None, declared), mesh, model)
    assert seen.mesh_mm is not None
    off = np.linalg.norm(seen.mesh_mm - model.template_mm, axis=1)
    assert off.max() < (10.0 if axes is None else 0.01)
    np.testing.assert_allclose(seen.scan.vertices_mm.min(0), seen.mesh_mm.min(0), atol=0.01)


def test_meshes_are_those_of_the_scans(tmp_path: Path) -> None:
    requests = [Request(Path(name), None, Declared()) for name in ("a.obj", "b.abs.gz")]
    assert meshes_of(requests, []) == [None, None]
    assert meshes_of(requests, [tmp_path]) == [tmp_path / "a.ply", tmp_path / "b.ply"]
    (tmp_path / "b.json").touch()  # its registration failed
    assert meshes_of(requests, [tmp_path]) == [tmp_path / "a.ply", None]
    assert meshes_of(requests, [Path("x.ply"), Path("y.ply")]) == [Path("x.ply"), Path("y.ply")]
    with pytest.raises(RegistrationError, match="got 1 meshes for 2 scans"):
        meshes_of(requests, [Path("x.ply")])


def test_points_are_no_registered_mesh(scan: Path, model: FlameModel, tmp_path: Path) -> None:
    points = tmp_path / "points.xyz"
    points.write_text("0 0 0\n1 0 0\n0 1 0\n")
    with pytest.raises(FormatError, match="no triangles"):
        shown(Request(scan, None, Declared("cm")), points, model)


def view(*given: str, display: bool) -> subprocess.CompletedProcess[str]:
    under = (str(XVFB), "-a", "-s", "-screen 0 1400x1000x24") if display else ()
    screens = ("DISPLAY", "WAYLAND_DISPLAY")
    environment = {name: value for name, value in os.environ.items() if name not in screens}
    command = [*under, *FACEFOLD, "view", *given]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_without_open3d_the_remedy_is_named(scan: Path) -> None:
    block = "import sys; sys.modules['open3d'] = None\n" + FACEFOLD[2]
    done = subprocess.run(
        [sys.executable, "-c", block, "view", str(scan)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "open3d cannot be imported" in done.stderr and "facefold[view]" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_without_a_display_the_remedy_is_named(scan: Path, ask_open3d: Ask) -> None:
    done = view(str(scan), display=False)
    assert done.returncode == 2
    assert "no display" in done.stderr and "xvfb-run" in done.stderr


@pytest.mark.skipif(XVFB is None, reason="xvfb-run is not installed (apt install xvfb)")
def test_a_screenshot_shows_scan_and_mesh(
    scan: Path, mesh: Path, tmp_path: Path, ask_open3d: Ask
) -> None:
    picture = tmp_path / "pictures" / "view.png"
    options = ("--unit", "cm", "--axes", "up=+z,forward=-y", "--screenshot", str(picture))
    done = view(str(scan), "--registered", str(mesh.parent), *options, display=True)
    assert done.returncode == 0, done.stderr
    pixels = np.asarray(Image.open(picture)).astype(int)
    width = pixels.shape[1]
    drawn = np.abs(pixels - pixels[2, 2]).max(axis=2) > 12
    left, right = drawn[:, : width // 2], drawn[:, width // 2 :]
    assert 0.1 < left.mean() < 0.7
    assert right.mean() == pytest.approx(left.mean(), rel=0.05)  # the mesh is the scan
    # seen from the front a face is as good as symmetric
    columns = np.flatnonzero(left.any(axis=0))
    middle = left[:, columns[0] : columns[-1] + 1]
    assert (middle != middle[:, ::-1]).mean() < 0.02
    assert len(np.unique(pixels[drawn][:, 0])) > 50  # it is shaded
