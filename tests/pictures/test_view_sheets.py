"""Sheets of views, pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import FacefoldError
from pipeline.flame.model import PARTS
from pipeline.pictures.sheets import GREEN, LINE, MARGIN, RED
from pipeline.pictures.view_sheets import COLOURS, ShownView, painted, save_views, strip

H, W = 60, 80


def view(grey: int = 100, caption: str = "render0, a scan") -> ShownView:
    parts = np.zeros((len(PARTS), H, W), bool)
    for i, mask in enumerate(parts):
        mask[5:10, 10 * i : 10 * i + 5] = True
    marks = np.array([[20.0, 30.0], [40.0, 30.0], [np.nan, np.nan], [500.0, 500.0]])
    seen = np.array([True, False, True, True])
    image = np.full((H, W, 3), grey, np.uint8)
    return ShownView(image, parts, marks, seen, np.full((H, W), 7, np.uint8), caption)


def test_each_part_is_painted_in_its_own_colour() -> None:
    one = view()
    found = painted(one.image, one.parts)
    assert len(np.unique(COLOURS, axis=0)) == len(PARTS)
    for i, colour in enumerate(COLOURS.astype(float)):
        np.testing.assert_allclose(found[7, 10 * i + 2], 45 + 0.55 * colour, atol=1)
    untouched = ~one.parts.any(axis=0)
    assert (found[untouched] == 100).all()


def test_a_strip_is_picture_parts_landmarks_and_mesh() -> None:
    found = strip(view())
    assert found.shape == (H, 4 * W, 3)
    assert (found[:, :W] == 100).all()
    assert (found[:, 3 * W :] == 7).all()
    marks = found[:, 2 * W : 3 * W]
    assert tuple(marks[30, 20]) == GREEN
    assert tuple(marks[30, 40]) == RED
    assert ((marks != 100).any(axis=2)).sum() < 40


def test_views_lie_beside_and_below_each_other(tmp_path: Path) -> None:
    views = [view(grey) for grey in (50, 100, 150)]
    save_views(tmp_path / "new" / "sheet.png", views, per_row=2)
    sheet = np.asarray(Image.open(tmp_path / "new" / "sheet.png"))
    left, top = MARGIN + W // 2, LINE + 2 * MARGIN + LINE + H - 2
    right, below = left + 4 * W + MARGIN, top + H + LINE + MARGIN
    assert [sheet[y, x, 0] for y, x in ((top, left), (top, right), (below, left))] == [50, 100, 150]
    assert (sheet[below, right] == 255).all()
    # captions
    assert (sheet[top - H - 10 : top - H, MARGIN : MARGIN + 60] < 128).any()


def test_a_sheet_of_no_views_and_one_that_cannot_be_written(tmp_path: Path) -> None:
    save_views(tmp_path / "none.png", [])
    assert (tmp_path / "none.png").is_file()
    (tmp_path / "file").write_text("")
    with pytest.raises(FacefoldError, match="the sheet cannot be written"):
        save_views(tmp_path / "file" / "sheet.png", [view()])
