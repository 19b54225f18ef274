"""A window on scans and the meshes registered to them, drawn by open3d, imported when it opens."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.errors import MachineError
from pipeline.geometry.closest import SurfaceIndex
from pipeline.normalise.surface import surface_normals
from pipeline.pictures.rendering import CLAY, distance_colours
from pipeline.pictures.sheets import save_sheet
from pipeline.types import Array, Scan

INSTALL_OPEN3D = (
    "pip install 'facefold[view]', and on Debian or Ubuntu: "
    "apt install libgl1 libegl1 libx11-6 libusb-1.0-0 libgomp1"
)
KEYS = (
    "drag: turn; wheel: zoom; space: registered meshes beside or over the scans; M: show or hide "
    "them; W: wireframe; R: from the front; Q: close"
)
WIDTH, HEIGHT = 1280, 800
BACKGROUND = (0.93, 0.93, 0.94)
OVER = np.array([0.30, 0.52, 0.72])
"""Of a registered mesh that lies over its scan; beside it is painted by its distance to it."""
LIT = 0.75
"""Of a colour's brightness: open3d's lamps add up to more than white."""
MARK, MARK_MM = (0.78, 0.12, 0.16), 1.5
GAP_MM, MARGIN = 25.0, 1.1
SPACE = 32


@dataclass(frozen=True, eq=False)
class Shown:
    """A scan in millimetres that faces +z, +y up, and the mesh registered to it in that frame."""

    scan: Scan
    mesh_mm: Array | None = None  # (V,3)
    mesh_faces: Array | None = None  # (F,3)


def view(shown: Sequence[Shown], beside: bool = True, screenshot: Path | str | None = None) -> None:
    """Opens a window and waits until it is closed; or saves its picture as a PNG and ends.

    Meshes stand `beside` their scans, to the right of each, or over them. Raises MachineError where
    open3d, a system library of it, or a display is missing.
    """
    open3d = imported()
    window = open3d.visualization.VisualizerWithKeyCallback()
    title = "facefold: " + ", ".join(one.scan.scan_id for one in shown)
    if not window.create_window(title, WIDTH, HEIGHT):
        raise MachineError(
            "open3d cannot open a window here; it needs a display with OpenGL 3.3, which "
            "`xvfb-run -a facefold view …` gives where there is no screen"
        )
    try:
        drawn, meshes = put_up(open3d, shown, beside)
        for part in drawn:
            window.add_geometry(part)
        dress(open3d, window)
        from_the_front(window, drawn)
        if screenshot is not None:
            pixels = np.asarray(window.capture_screen_float_buffer(do_render=True))
            save_sheet(Image.fromarray((255 * pixels).round().astype(np.uint8)), Path(screenshot))
            return
        listen(window, drawn, meshes, beside)
        window.run()
    finally:
        window.destroy_window()


def imported() -> Any:
    """open3d. Raises MachineError with the remedy where it, or a display, is missing."""
    try:
        import open3d
    except (ImportError, OSError) as fault:
        raise MachineError(f"open3d cannot be imported ({fault}); {INSTALL_OPEN3D}") from fault
    screens = ("DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform == "linux" and not any(os.environ.get(name) for name in screens):
        raise MachineError(
            f"no display: neither {' nor '.join(screens)} is set; start it on a desktop, or as "
            "`xvfb-run -a facefold view … --screenshot picture.png` (apt install xvfb)"
        )
    open3d.utility.set_verbosity_level(open3d.utility.VerbosityLevel.Error)
    return open3d


@dataclass(frozen=True, eq=False)
class Beside:
    """A registered mesh in the window: how far it stands from its scan, and its two paints."""

    geometry: Any
    shift: Array  # (3,) mm
    distance_colours: Array  # (V,3) in [0, 1]

    def put(self, beside: bool) -> None:
        """From over the scan to beside it, or back."""
        self.geometry.translate(self.shift if beside else -self.shift)
        self.paint(beside)

    def paint(self, beside: bool) -> None:
        if beside:
            np.asarray(self.geometry.vertex_colors)[:] = self.distance_colours
        else:
            self.geometry.paint_uniform_color(OVER)


def put_up(open3d: Any, shown: Sequence[Shown], beside: bool) -> tuple[list[Any], list[Beside]]:
    """All that is drawn: every scan with its landmarks and its mesh, in a row; and the meshes."""
    step = GAP_MM + max(float(np.ptp(one.scan.vertices_mm[:, 0])) for one in shown)
    drawn: list[Any] = []
    meshes: list[Beside] = []
    for place, one in enumerate(shown):
        scan, column = one.scan, place + len(meshes)
        at = np.array([step * column, 0.0, 0.0])
        at -= (scan.vertices_mm.min(0) + scan.vertices_mm.max(0)) / 2
        clay = surface(open3d, scan.vertices_mm + at, scan.faces, scan.normals)
        drawn.append(clay.paint_uniform_color(LIT * CLAY / 255))
        for mark in [] if scan.landmarks_mm is None else scan.landmarks_mm + at:
            if np.isfinite(mark).all():
                ball = open3d.geometry.TriangleMesh.create_sphere(MARK_MM, 12).translate(mark)
                drawn.append(ball.compute_vertex_normals().paint_uniform_color(MARK))
        if one.mesh_mm is not None and one.mesh_faces is not None:
            normals = surface_normals(one.mesh_mm, one.mesh_faces)
            mesh = surface(open3d, one.mesh_mm + at, one.mesh_faces, normals)
            off_mm = SurfaceIndex(scan.vertices_mm, scan.faces).query(one.mesh_mm).distance
            paint = LIT * distance_colours(off_mm) / 255
            meshes.append(Beside(mesh.paint_uniform_color(OVER), np.array([step, 0.0, 0.0]), paint))
            if beside:
                meshes[-1].put(True)
            drawn.append(mesh)
    return drawn, meshes


def surface(open3d: Any, vertices: Array, faces: Array, normals: Array) -> Any:
    """A mesh with smooth shading; a point cloud where there are no faces."""
    numbers = open3d.utility.Vector3dVector
    if not len(faces):
        cloud = open3d.geometry.PointCloud(numbers(vertices.astype(np.float64)))
        cloud.normals = numbers(normals.astype(np.float64))
        return cloud
    triangles = open3d.utility.Vector3iVector(faces.astype(np.int32))
    mesh = open3d.geometry.TriangleMesh(numbers(vertices.astype(np.float64)), triangles)
    mesh.vertex_normals = numbers(normals.astype(np.float64))
    mesh.compute_triangle_normals()  # without them open3d draws flat colours
    return mesh


def dress(open3d: Any, window: Any) -> None:
    """Background, smooth shading, both sides of surfaces."""
    option = window.get_render_option()
    option.background_color = BACKGROUND
    option.mesh_shade_option = open3d.visualization.MeshShadeOption.Color
    option.mesh_show_back_face = True
    option.point_size = 3.0


def from_the_front(window: Any, drawn: Sequence[Any]) -> None:
    """Sets the camera: all in the picture, nearly parallel, so that none is seen from aside."""
    camera = window.get_view_control()
    low = np.min([part.get_min_bound() for part in drawn], axis=0)
    high = np.max([part.get_max_bound() for part in drawn], axis=0)
    camera.set_lookat((low + high) / 2)
    camera.set_front([0.0, 0.0, 1.0])
    camera.set_up([0.0, 1.0, 0.0])
    camera.change_field_of_view(-90.0)  # down to the least there is
    width, height, _ = extents = high - low
    camera.set_zoom(MARGIN * max(height, width * HEIGHT / WIDTH) / (2 * extents.max()))


def listen(window: Any, drawn: Sequence[Any], meshes: Sequence[Beside], beside: bool) -> None:
    """What space, M and R do; the other keys are open3d's own."""
    state = {"beside": beside, "visible": True}

    def swap(_: Any) -> bool:
        state["beside"] = not state["beside"]
        for mesh in meshes:
            mesh.put(state["beside"])
            window.update_geometry(mesh.geometry)
        return True

    def hide(_: Any) -> bool:
        state["visible"] = not state["visible"]
        change: Callable[..., Any] = (
            window.add_geometry if state["visible"] else window.remove_geometry
        )
        for mesh in meshes:
            change(mesh.geometry, reset_bounding_box=False)
        return True

    def front(_: Any) -> bool:
        window.reset_view_point(True)
        from_the_front(window, drawn)
        return True

    window.register_key_callback(SPACE, swap)
    window.register_key_callback(ord("M"), hide)
    window.register_key_callback(ord("R"), front)
