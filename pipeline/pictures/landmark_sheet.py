"""A picture of where a source puts its landmarks on the template, beside the model's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pipeline.errors import FacefoldError
from pipeline.flame.model import FlameModel
from pipeline.pictures.rendering import View, before_camera, render
from pipeline.pictures.sheets import FAULTY, GREEN, INK, LINE, MARGIN, RED, save_sheet, write
from pipeline.registration.landmarks.calibration import LandmarkCalibration
from pipeline.registration.landmarks.offsets import odd_landmarks
from pipeline.types import Array

PIXELS, HEIGHT_MM = 420, 180.0
LEGEND = "red: the source's, with a standard deviation; green: the model's; ringed: odd"
YAWS = (0.0, 50.0)


def landmark_sheet(
    model: FlameModel, calibration: LandmarkCalibration, source: str, path: Path
) -> None:
    """Writes the PNG: the template from the front and from its left. FacefoldError where it cannot
    be written, or the model has no landmarks."""
    if model.landmarks is None:
        raise FacefoldError(f"{path}: the model {model.name} has no landmarks to show")
    marks = model.landmarks.positions(model.template_mm, model.faces)
    odd = {row for row, _ in odd_landmarks(calibration, model.landmarks)}
    head = 3 * LINE
    sheet = Image.new("RGB", (PIXELS * len(YAWS), PIXELS + head), "white")
    title = f"{source}: {calibration.scheme}, from {calibration.scans} scans"
    for i, text in enumerate((title, LEGEND)):
        write(ImageDraw.Draw(sheet), (MARGIN, MARGIN + i * LINE), text, INK)
    for i, yaw in enumerate(YAWS):
        sheet.paste(_view(model, marks, calibration, odd, yaw), (i * PIXELS, head))
    save_sheet(sheet, path)


def _view(
    model: FlameModel, marks: Array, calibration: LandmarkCalibration, odd: set[int], yaw: float
) -> Image.Image:
    middle = tuple(np.median(marks, axis=0).tolist())
    view = View(yaw=yaw, height_mm=HEIGHT_MM, centre_mm=middle)
    picture = Image.fromarray(render(model.template_mm, model.faces, view, PIXELS))
    draw = ImageDraw.Draw(picture)

    def pixels(points: Array) -> Array:
        flat = before_camera(points, view)[:, :2] * [1, -1]
        return np.asarray(PIXELS / 2 + flat * PIXELS / HEIGHT_MM)

    own, given = pixels(marks), pixels(marks + calibration.offset_mm)
    for row, (a, b) in enumerate(zip(own, given, strict=True)):
        if row in odd:
            draw.ellipse((*(b - 9), *(b + 9)), outline=FAULTY, width=2)
        spread = calibration.offset_std_mm[row] * PIXELS / HEIGHT_MM
        if calibration.offset_mm[row].any():
            draw.line((*a, *b), fill=RED)
            draw.ellipse((*(b - spread), *(b + spread)), outline=RED)
            draw.ellipse((*(b - 2), *(b + 2)), fill=RED)
        draw.ellipse((*(a - 2), *(a + 2)), fill=GREEN)
    return picture
