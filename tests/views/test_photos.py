"""Photos of every kind that sources have, and those that cannot be read."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sampled_cameras import looking_at, stand_in_landmarks

from pipeline.errors import FormatError
from pipeline.refusals import Code
from pipeline.types import Array
from pipeline.views import photos
from pipeline.views.photos import read_photo, upright


def gradient(height: int = 12, width: int = 20) -> Array:
    row, column = np.mgrid[:height, :width]
    return np.stack([column * 12, row * 20, 255 - column * 12], axis=-1).astype(np.uint8)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    held = io.BytesIO()
    image.save(held, form, **options)
    return held.getvalue()


def written(folder: Path, data: bytes, name: str = "photo.img") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("form", ["PNG", "BMP", "PPM"])
@pytest.mark.parametrize("packed", [False, True])
def test_lossless_photos_are_what_they_were(tmp_path: Path, form: str, packed: bool) -> None:
    data = encoded(Image.fromarray(gradient()), form)
    path = written(tmp_path, gzip.compress(data) if packed else data)
    found = read_photo(str(path))
    np.testing.assert_array_equal(found, gradient())
    assert found.dtype == np.uint8 and found.flags["C_CONTIGUOUS"]


def test_a_jpeg_is_near_what_it_was(tmp_path: Path) -> None:
    wide = np.kron(gradient(), np.ones((8, 8, 1), np.uint8))
    data = encoded(Image.fromarray(wide), "JPEG", quality=95, subsampling=0)
    assert np.abs(read_photo(written(tmp_path, data)).astype(int) - wide).mean() < 2


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("L", [[90, 90, 90], [200, 200, 200]]),
        ("1", [[0, 0, 0], [255, 255, 255]]),
        ("LA", [[90, 90, 90], [0, 0, 0]]),
        ("RGBA", [[90, 30, 10], [0, 0, 0]]),
        ("P", [[90, 30, 10], [1, 2, 3]]),
    ],
)
def test_pixels_of_every_kind_become_rgb(
    tmp_path: Path, mode: str, expected: list[list[int]]
) -> None:
    if mode == "P":
        image = Image.fromarray(np.array([[0, 1]], np.uint8))
        image.putpalette([90, 30, 10, 1, 2, 3])
    else:
        image = Image.new(mode, (2, 1))
        pixels = {
            "L": (90, 200),
            "1": (0, 1),
            "LA": ((90, 255), (200, 0)),
            "RGBA": ((90, 30, 10, 255), (1, 2, 3, 0)),
        }[mode]
        for column, value in enumerate(pixels):
            image.putpixel((column, 0), value)
    assert read_photo(written(tmp_path, encoded(image, "PNG"))).tolist() == [expected]


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    deep = np.array([[0, 128, 257, 32896, 65535]], np.uint16)
    for form in ("PNG", "PPM"):
        found = read_photo(written(tmp_path, encoded(Image.fromarray(deep), form)))
        assert found[0, :, 1].tolist() == [0, 0, 1, 128, 255]


def test_an_orientation_tag_is_refused_or_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(gradient()), "JPEG", exif=exif, quality=95)
    path = written(tmp_path, data)
    with pytest.raises(FormatError, match="EXIF orientation 6") as refused:
        read_photo(path)
    assert refused.value.code is Code.UNSUPPORTED
    assert read_photo(path, ignore_orientation=True).shape == (12, 20, 3)
    exif[0x0112] = 1
    data = encoded(Image.fromarray(gradient()), "JPEG", exif=exif)
    assert read_photo(written(tmp_path, data)).shape == (12, 20, 3)


def test_more_pixels_than_the_limit_are_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, encoded(Image.fromarray(gradient()), "PNG"))
    monkeypatch.setattr(photos, "MAX_PIXELS", 239)
    with pytest.raises(FormatError, match="20 · 12 pixels, expected at most 239") as refused:
        read_photo(path)
    assert refused.value.code is Code.UNSUPPORTED


def test_a_header_that_announces_billions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="pixels"):
        read_photo(written(tmp_path, b"P6 60000 60000 255\n" + bytes(100)))


@pytest.mark.parametrize(
    ("data", "said", "code"),
    [
        (b"<!DOCTYPE html><html><body>Please log in</body></html>", "web page", "not_this_format"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS", "not_this_format"),
        (b"%PDF-1.7 ...", "a PDF document", "not_this_format"),
        (b"GIF89a" + bytes(40), "expected a JPEG, PNG, BMP or PPM", "not_this_format"),
        (b"", "empty", "unreadable"),
    ],
)
def test_what_is_no_photo_is_named(tmp_path: Path, data: bytes, said: str, code: str) -> None:
    with pytest.raises(FormatError, match=said) as refused:
        read_photo(written(tmp_path, data))
    assert refused.value.code.value == code


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "PPM"])
def test_a_cut_photo_is_refused(tmp_path: Path, form: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), form)
    for share in (0.02, 0.3, 0.9):
        with pytest.raises(FormatError) as refused:
            read_photo(written(tmp_path, data[: int(len(data) * share)]))
        assert refused.value.code in (Code.DAMAGED, Code.NOT_THIS_FORMAT)


@pytest.mark.filterwarnings("error")
def test_spoilt_photos_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x010F] = "maker"
    whole = [encoded(noise, form, exif=exif) for form in ("JPEG", "PNG")]
    whole += [encoded(noise, form) for form in ("BMP", "PPM")]
    n_refused = 0
    for number in range(800):
        data = bytearray(whole[number % 4])
        at = rng.integers(0, min(len(data), 40 if number % 3 else len(data)), 1 + number % 5)
        for place in at:
            data[place] = rng.integers(256)
        try:
            found = read_photo(written(tmp_path, bytes(data)))
        except FormatError:
            n_refused += 1
        else:
            assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3
    assert 100 < n_refused < 800


def test_a_missing_photo_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as refused:
        read_photo(tmp_path / "none.jpg")
    assert refused.value.code is Code.UNREADABLE


@pytest.mark.parametrize("roll", [0, 30, 90, 180, 270, 60])
def test_a_photo_on_its_side_is_turned_with_its_camera(roll: float) -> None:
    camera = looking_at(900, 700, 300, 420, 20, pitch_deg=3, roll_deg=roll)
    landmarks = stand_in_landmarks()
    seen = np.rint(camera.project(landmarks)).astype(int)
    picture = np.zeros((300, 420, 3), np.uint8)
    for number, (column, row) in enumerate(seen):
        picture[row, column] = number + 1
    turned, turned_camera = upright(picture, camera)
    assert (turned_camera.height, turned_camera.width) == turned.shape[:2]
    assert turned_camera.matrix_px[1, 0] == pytest.approx(0, abs=1e-12)
    assert turned_camera.matrix_px[0, 0] == pytest.approx(700)
    again = np.rint(turned_camera.project(landmarks)).astype(int)
    for nose in (27, 30, 33):
        assert turned[again[nose, 1], again[nose, 0], 0] == nose + 1
    up = turned_camera.project(landmarks[[27]]) - turned_camera.project(landmarks[[8]])
    assert up[0, 1] < -abs(up[0, 0]) * 0.9
