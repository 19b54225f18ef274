"""Textures against images whose every pixel is known."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import FormatError
from pipeline.formats import read_scan
from pipeline.types import Array, RawScan
from pipeline.views.textures import Texture, texture_of, texture_of_image

ONE = np.ones(1)


def four(*greys: int) -> Texture:
    """Two rows of two pixels, the upper left first."""
    pixels = np.repeat(np.array(greys, np.uint8).reshape(2, 2, 1), 3, axis=2)
    return texture_of_image(pixels)


def at(texture: Texture, u: float, v: float, covered_px: float = 1.0) -> float:
    found = texture.sample(np.array([[u, v]]), np.array([covered_px]))
    assert found.shape == (1, 3) and found.dtype == np.float32
    return float(found[0, 1])


def test_pixels_lie_at_their_middles_and_v_runs_up() -> None:
    texture = four(10, 20, 30, 40)
    assert [at(texture, u, v) for v in (0.75, 0.25) for u in (0.25, 0.75)] == [10, 20, 30, 40]
    assert at(texture, 0.5, 0.75) == 15 and at(texture, 0.25, 0.5) == 20
    assert at(texture, 0.375, 0.75) == 12.5


def test_the_image_repeats_beyond_its_edges() -> None:
    texture = four(10, 20, 30, 40)
    assert at(texture, 1.25, 0.75) == 10 and at(texture, -0.25, -1.75) == 40
    assert at(texture, 0.0, 0.75) == 15 and at(texture, 1.0, 0.75) == 15


@pytest.fixture
def checks() -> Texture:
    """Black and white pixels in turn, which a picture of fewer pixels cannot show."""
    row, column = np.mgrid[:256, :256]
    return texture_of_image(
        np.repeat((255 * ((row + column) % 2)).astype(np.uint8)[..., None], 3, 2)
    )


def test_what_is_too_fine_becomes_its_mean(checks: Texture) -> None:
    rng = np.random.default_rng(0)
    uv = rng.random((5000, 2))
    sharp = checks.sample(uv, np.ones(5000))
    assert sharp.std() > 40
    for covered in (2.0, 3.0, 7.5, 40.0, 1e9):
        smooth = checks.sample(uv, np.full(5000, covered))
        assert np.abs(smooth - 127.5).max() <= 1


def test_sizes_blend(checks: Texture) -> None:
    """Half way between two sizes is half way between their samples."""
    place = (128.5 / 256, 128.5 / 256)
    both = [at(checks, *place, covered_px=c) for c in (1.0, 2.0)]
    assert abs(both[0] - both[1]) > 100
    assert at(checks, *place, covered_px=np.sqrt(2)) == pytest.approx(np.mean(both), abs=1e-3)


def test_a_size_is_the_mean_of_what_it_covers() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    texture = texture_of_image(pixels)
    assert [size.shape for size in texture.sizes] == [(16, 32, 3), (8, 16, 3), (4, 8, 3)]
    # the pixel of the third size whose middle is at column 6, row 6 of the whole image
    found = texture.sample(np.array([[6.0 / 32, 1 - 6.0 / 16]]), 4 * ONE)
    np.testing.assert_allclose(found[0], pixels[4:8, 4:8].mean(axis=(0, 1)), atol=1.01)


def test_an_image_too_small_to_shrink() -> None:
    assert at(four(10, 20, 30, 40), 0.25, 0.75, covered_px=100) == 10


def scan(**given: Any) -> RawScan:
    corners = np.array([[[0, 0], [1, 0], [1, 1]]], np.float32)
    return RawScan(np.eye(3), np.array([[0, 1, 2]]), uv=corners, **given)


def encoded(pixels: Array, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


PIXELS = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)


@pytest.mark.parametrize("form", ["PNG", "BMP", "PPM"])
@pytest.mark.parametrize("packed", [False, True])
def test_images_beside_the_scan(tmp_path: Path, form: str, packed: bool) -> None:
    content = encoded(PIXELS, form)
    path = tmp_path / "skin.img"
    path.write_bytes(gzip.compress(content) if packed else content)
    texture = texture_of(scan(texture_path=path))
    assert texture is not None
    np.testing.assert_array_equal(texture.sizes[0], PIXELS)


def test_an_image_inside_the_scan() -> None:
    texture = texture_of(scan(texture_bytes=encoded(PIXELS, "PNG")))
    assert texture is not None
    np.testing.assert_array_equal(texture.sizes[0], PIXELS)
    with pytest.raises(FormatError, match="image inside the scan's file"):
        texture_of(scan(texture_bytes=b"an image"))


def test_an_orientation_turns_nothing(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "skin.jpg"
    path.write_bytes(encoded(PIXELS, "JPEG", exif=exif))
    texture = texture_of(scan(texture_path=path))
    assert texture is not None and texture.shape == (8, 6)


def test_no_texture_without_coordinates_or_an_image(tmp_path: Path) -> None:
    path = tmp_path / "skin.png"
    path.write_bytes(encoded(PIXELS, "PNG"))
    bare = RawScan(np.eye(3), np.array([[0, 1, 2]]), texture_path=path)
    assert texture_of(bare) is None and texture_of(scan()) is None


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize(("width", "kept"), [(4096, 4096), (4097, 2049), (8192, 4096)])
def test_images_finer_than_any_view_are_halved(
    tmp_path: Path, form: str, width: int, kept: int
) -> None:
    """Dark on the left of a column, bright on its right: it stays where it is."""
    pixels = np.full((64, width, 3), 20, np.uint8)
    pixels[:, 3000:] = 220
    path = tmp_path / "skin.img"
    path.write_bytes(encoded(pixels, form))
    texture = texture_of(scan(texture_path=path))
    assert texture is not None and texture.shape[1] == kept
    beside = np.array([[2984, 0], [3016, 0]]) / [width, 1] + [0, 0.5]
    found = texture.sample(beside, np.ones(2))
    np.testing.assert_allclose(found, [[20] * 3, [220] * 3], atol=3)


def test_images_of_too_many_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "skin.png"
    Image.new("1", (1 << 13, (1 << 13) + 1)).save(path)
    with pytest.raises(FormatError, match="pixels"):
        texture_of(scan(texture_path=path))


def test_a_real_scan_and_its_image(shared_data: Path) -> None:
    """Its lips are redder than its collar, by corners near to both."""
    raw = read_scan(shared_data / "scans/james/james.obj", "obj")
    texture = texture_of(raw)
    assert texture is not None and raw.uv is not None and texture.shape == (1600, 2400)
    places = raw.vertices[raw.faces].mean(axis=1)
    colours = texture.sample(raw.uv.mean(axis=1), np.full(len(raw.faces), 8.0))
    hair = colours[places[:, 1] > np.quantile(places[:, 1], 0.97)]
    collar = colours[places[:, 1] < np.quantile(places[:, 1], 0.02)]
    assert np.median(hair) < 60 and np.median(collar) > 90
