"""A contact sheet: each sampled scan from the front with landmarks, size and verdict."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pipeline.errors import FacefoldError
from pipeline.formats import read_scan
from pipeline.landmarks import read_landmarks, resolve
from pipeline.landmarks.schemes import OUTER_EYES_68, named_scheme, to_68
from pipeline.normalise.surface import clean, cloud_normals
from pipeline.pictures.rendering import View, render, splats
from pipeline.pictures.sheets import (
    BLUE,
    FAULTY,
    GREEN,
    INK,
    LINE,
    MARGIN,
    RED,
    SOUND,
    save_sheet,
    write,
)
from pipeline.registry import SourceRegistry
from pipeline.sources.report import Seen, turn_by_landmarks
from pipeline.types import Array, Scan

SIZE, COLUMNS = 280, 4
TEXT_LINES, WIDTH = 7, 46
"""Lines of text below a picture, letters in a line."""
HEIGHT_MM = 300.0
"""What a picture shows, so that sizes compare; a larger scan is made to fit."""


def contact_sheet(
    registry: SourceRegistry, seen: Sequence[Seen], poses: Mapping[str, Array], path: Path
) -> None:
    """Writes the PNG. FacefoldError where it cannot be written.

    Scans appear as the registry's axes turn them; of unknown axes, as their landmarks do, or the
    `poses` (scan id -> (3,3) from a face's axes to the scan's) found by their shape. What is
    refused appears as it lies in its file, at a size that fits.
    """
    tiles = [tile(registry, one, poses.get(one.record.scan_id)) for one in seen]
    columns = min(COLUMNS, max(1, len(tiles)))
    rows = -(-len(tiles) // columns)
    wide, high = SIZE + MARGIN, SIZE + TEXT_LINES * LINE + MARGIN
    head = 3 * LINE
    sheet = Image.new("RGB", (columns * wide + MARGIN, rows * high + head + MARGIN), "white")
    legend = f"red: subject's right; {HEIGHT_MM:.0f} mm high"
    for i, text in enumerate((registry.id, legend)):
        write(ImageDraw.Draw(sheet), (MARGIN, MARGIN + i * LINE), text, INK)
    for i, one in enumerate(tiles):
        sheet.paste(one, (MARGIN + i % columns * wide, head + MARGIN + i // columns * high))
    save_sheet(sheet, path, "name another file by --sheet")


def tile(registry: SourceRegistry, seen: Seen, pose: Array | None) -> Image.Image:
    """One picture above its lines of text."""
    picture, words = (
        as_in_file(registry, seen) if seen.scan is None else shown(seen, seen.scan, pose)
    )
    made = Image.new("RGB", (SIZE, SIZE + TEXT_LINES * LINE), "white")
    made.paste(picture, (0, 0))
    draw = ImageDraw.Draw(made)
    lines = [(seen.record.scan_id[-WIDTH:], INK), *((word, INK) for word in words)]
    faults = seen.report["faults"]
    verdict, colour = ("; ".join(faults), FAULTY) if faults else ("sound", SOUND)
    verdict = verdict.replace(f"{seen.record.path.parent}/", "")
    left = TEXT_LINES - len(lines)
    wrapped = textwrap.wrap(verdict, WIDTH, max_lines=left, placeholder=" ...")
    for i, (text, ink) in enumerate([*lines, *((line, colour) for line in wrapped)]):
        write(draw, (0, SIZE + i * LINE), text, ink)
    return made


def shown(seen: Seen, scan: Scan, pose: Array | None) -> tuple[Image.Image, list[str]]:
    """The scan's picture and what stands below it: size, unit and pose."""
    size = "x".join(f"{mm}" for mm in seen.report["extents_mm"])
    words = [f"{size} mm, unit {scan.unit}"]
    marks, colours = None, []
    if scan.landmarks_mm is not None and scan.landmark_scheme is not None:
        marks = scan.landmarks_mm.astype(np.float64)
        colours = side_colours(scan.landmark_scheme)
        eyes = to_68(scan.landmark_scheme, marks)[list(OUTER_EYES_68)]
        known = int(np.isfinite(marks).all(axis=1).sum())
        apart = float(np.linalg.norm(eyes[0] - eyes[1]))
        told = f", outer eye corners {apart:.1f} mm apart" if np.isfinite(apart) else ""
        words.append(f"{known} landmarks{told}")
    turn, told = to_front(scan, pose)
    words += [told] if told else []
    picture = front(
        scan.vertices_mm @ turn.T,
        scan.faces,
        scan.normals @ turn.T,
        None if marks is None else marks @ turn.T,
        colours,
        HEIGHT_MM,
    )
    return picture, words


def to_front(scan: Scan, pose: Array | None) -> tuple[Array, str]:
    """(3,3) that turns the scan to the viewer, and how it was found where no axes are declared."""
    if scan.oriented:
        return np.eye(3), ""
    by_marks = turn_by_landmarks(scan)
    if by_marks is not None:
        return by_marks.T, "axes unknown: turned by its landmarks"
    if pose is not None:
        return pose.T, "axes unknown: turned by its shape"
    return np.eye(3), "axes unknown, no face found: as in the file"


def as_in_file(registry: SourceRegistry, seen: Seen) -> tuple[Image.Image, list[str]]:
    """The picture of a scan that is refused, from whatever of it can be read."""
    registry = registry.under(seen.record.rule)
    record, blank = seen.record, Image.new("RGB", (SIZE, SIZE), (225, 225, 225))
    try:
        raw = read_scan(record.path, record.format, **registry.reader)
    except FacefoldError:
        return blank, []
    marks, colours = None, []
    if registry.landmarks is not None and record.landmark_path is not None:
        scheme = registry.landmarks.scheme
        try:
            found = read_landmarks(record.landmark_path, registry.landmarks.format)
            marks = resolve(found, raw, record.landmark_path)
            right_count = len(marks) == len(named_scheme(scheme))
            colours = side_colours(scheme) if right_count else [GREEN] * len(marks)
        except FacefoldError:
            marks = None
    turn = np.eye(3) if registry.axes is None else registry.axes.rotation()
    surface = clean(raw.vertices, raw.faces)
    vertices = surface.vertices @ turn.T
    if len(vertices) < 3:
        return blank, []
    normals = np.zeros((0, 3)) if len(surface.faces) else cloud_normals(vertices)
    turned = None if marks is None else marks @ turn.T
    picture = front(vertices, surface.faces, normals, turned, colours, 0.0)
    return picture, ["as in the file, size made to fit"]


def front(
    vertices: Array,
    faces: Array,
    normals: Array,
    marks: Array | None,
    colours: Sequence[tuple[int, int, int]],
    height: float,
) -> Image.Image:
    """The shaded surface, or points where it has no triangles, with landmarks (L,3) on it.

    What does not fit into `height` is shown smaller; 0 shows it as large as fits.
    """
    low, high = np.percentile(vertices, (0.5, 99.5), axis=0)
    centre = (low + high) / 2
    height = max(height, 1.1 * float((high - low)[:2].max()), 1e-9)
    # rendered at a size of millimetres whatever the unit
    scale = HEIGHT_MM / height
    points = (vertices - centre) * scale
    view = View(height_mm=HEIGHT_MM, centre_mm=(0.0, 0.0, 0.0))
    pixels = (
        render(points, faces, view, SIZE) if len(faces) else splats(points, normals, view, SIZE)
    )
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    if marks is not None:
        for point, colour in zip((marks - centre) * scale, colours, strict=True):
            if np.isfinite(point).all():
                x, y = SIZE / 2 + point[:2] * [1, -1] * SIZE / HEIGHT_MM
                draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour, outline="white")
    return picture


def side_colours(scheme: str) -> list[tuple[int, int, int]]:
    """A colour for each landmark of the scheme, by the side its name says."""
    sides = {"right": RED, "left": BLUE}
    return [
        next((colour for side, colour in sides.items() if side in name.lower()), GREEN)
        for name in named_scheme(scheme).point_names
    ]
