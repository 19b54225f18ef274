"""What every landmark reader owes: the landmarks as written, or a FormatError that helps."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import FormatError
from pipeline.landmarks import LANDMARK_READERS, landmark_format_of, read_landmarks
from pipeline.refusals import Code
from pipeline.types import RawLandmarks

COUNTS = {"bnd": 83, "bndplus": 83, "pse": 8, "lnd": 7}
FLAT = ("lm2", "pts", "land")
PHOTO = (64, 48)
"""Width and height of the photo that the rows of a `.land` are shares of."""


def expected(form: str, raw: RawLandmarks) -> np.ndarray:
    """What a file of `points_for(form)` should give, as the reader names it."""
    points = points_for(form)
    if form not in FLAT:
        assert raw.points is not None
        return points
    assert raw.pixels is not None
    if form == "land":  # rows from the bottom, and a pixel's middle is half a pixel in
        return np.stack([points[:, 0] * PHOTO[0], (1 - points[:, 1]) * PHOTO[1]], 1) - 0.5
    return points[:, :2] - (form == "pts")


def points_for(form: str) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 40, (COUNTS.get(form, 12), 3)).round(6)


def npy(points: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, points)
    return buffer.getvalue()


def rows(points: np.ndarray, first: int | None = None) -> bytes:
    starts = [""] * len(points) if first is None else [f"{i} " for i in range(first, 999)]
    lines = [f"{s}{x!r} {y!r} {z!r}" for s, (x, y, z) in zip(starts, points.tolist(), strict=False)]
    return "\n".join(lines).encode() + b"\n"


def pp(points: np.ndarray) -> bytes:
    line = '<point active="1" name="{}" y="{!r}" x="{!r}" z="{!r}"/>\n'
    body = "".join(line.format(i, y, x, z) for i, (x, y, z) in enumerate(points.tolist()))
    return f"<!DOCTYPE PickedPoints>\n<PickedPoints>\n{body}</PickedPoints>\n".encode()


def ljson(points: np.ndarray) -> bytes:
    group = {"landmarks": {"points": points.tolist()}, "labels": []}
    return json.dumps({"version": 3, "groups": {"LJSON": group}}, indent=1).encode()


def lm3(points: np.ndarray) -> bytes:
    rows = [f"Point {i}\n{x!r} {y!r} {z!r}" for i, (x, y, z) in enumerate(points.tolist())]
    return "\n".join(["# 3D", f"{len(points)} landmarks:", "", *rows, ""]).encode()


def lm2(points: np.ndarray) -> bytes:
    names = [f"Point {i}" for i in range(len(points))]
    rows = [f"{x!r} {y!r}" for x, y, _ in points.tolist()]
    head = ["# 2D", f"{len(points)} landmarks", "Labels:"]
    return "\n".join([*head, *names, "2D Image coordinates:", *rows, ""]).encode()


def pts(points: np.ndarray) -> bytes:
    rows = [f"{x!r} {y!r}" for x, y, _ in points.tolist()]
    return "\n".join(["version: 1", f"n_points: {len(points)}", "{", *rows, "}"]).encode()


def land(points: np.ndarray) -> bytes:
    return "\n".join([str(len(points)), *(f"{x!r} {y!r}" for x, y, _ in points.tolist())]).encode()


def csv(points: np.ndarray) -> bytes:
    rows = [f"Point {i},{x!r},{y!r},{z!r}" for i, (x, y, z) in enumerate(points.tolist())]
    return "\n".join(["name,x,y,z", *rows]).encode()


def pse(points: np.ndarray) -> bytes:
    return b"n 0 0 1\nnormal 0.1 0.2 0.97\n" + rows(points, first=1)


WRITERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "npy": npy,
    "txt": rows,
    "txt1": rows,
    "bnd": lambda points: rows(points, first=100),
    "bndplus": lambda points: rows(points).replace(b" ", b","),
    "pse": pse,
    "lm3": lm3,
    "lm2": lm2,
    "pts": pts,
    "land": land,
    "csv": csv,
    "pp": pp,
    "ljson": ljson,
    "lnd": lambda points: rows(points, first=0),
}


def refused(path: Path, form: str, content: bytes | None) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        read_landmarks(path, form)
    assert caught.value.code is Code.LANDMARKS_UNREADABLE
    assert str(path) in str(caught.value) and len(caught.value.remedy) > 5
    return caught.value.fault


@pytest.fixture(params=LANDMARK_READERS)
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def path(form: str, tmp_path: Path) -> Path:
    Image.new("L", PHOTO).save(tmp_path / "scan.png")
    return tmp_path / f"scan.{form}"


def test_reads_the_points_in_order(form: str, path: Path) -> None:
    path.write_bytes(WRITERS[form](points_for(form)))
    raw = read_landmarks(path, landmark_format_of(path))
    found = raw.pixels if form in FLAT else raw.points
    np.testing.assert_allclose(found, expected(form, raw), rtol=1e-12)
    assert not raw.names or raw.names[3] in ("Point 3", "3", "4")


def test_missing_file(form: str, path: Path) -> None:
    assert "No such file" in refused(path, form, None)


def test_empty_file(form: str, path: Path) -> None:
    assert "0 bytes" in refused(path, form, b"")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_truncated_file(form: str, path: Path, share: float) -> None:
    content = WRITERS[form](points_for(form))
    cut = content[: int(share * len(content))]
    if form in ("txt", "txt1", "csv"):  # states no count: only a cut inside a row shows
        cut = cut[: max(cut.rfind(b" "), cut.rfind(b","))]
    refused(path, form, cut)


def test_words_that_are_no_numbers(form: str, path: Path) -> None:
    content = WRITERS[form](points_for(form))
    if form == "npy":
        pytest.skip("holds no words")
    number = repr(float(points_for(form)[3, 1])).encode()
    assert number in content
    refused(path, form, content.replace(number, b"12,x", 1))


def test_gzip_data_and_utf_16(form: str, path: Path) -> None:
    content = WRITERS[form](points_for(form))
    path.write_bytes(content)
    plain = read_landmarks(path, form)
    others = [gzip.compress(content)] + (
        [] if form == "npy" else [content.decode().encode("utf-16")]
    )
    for other in others:
        path.write_bytes(other)
        found = read_landmarks(path, form)
        np.testing.assert_array_equal(
            found.pixels if form in FLAT else found.points,
            plain.pixels if form in FLAT else plain.points,
        )


def test_stand_ins_for_the_file(form: str, path: Path) -> None:
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(FormatError, match="git lfs pull") as caught:
        read_landmarks(path, form)
    assert caught.value.code is Code.LANDMARKS_UNREADABLE
    path.write_bytes(b"<!doctype html><html></html>")
    with pytest.raises(FormatError, match=r"a web page.*download it again"):
        read_landmarks(path, form)


def test_more_values_in_each_row(form: str, path: Path) -> None:
    if form in ("npy", "pp", "ljson", "pts"):
        pytest.skip("has no rows, or rows of three values mean points")
    content = WRITERS[form](points_for(form))
    content = re.sub(rb"(?m)^(.*\d\.\d+)$", rb"\1 0.5", content)
    assert "expected" in refused(path, form, content) or form == "csv"


def test_a_text_larger_than_any_landmarks(form: str, path: Path) -> None:
    if form == "npy":
        pytest.skip("its header states its size")
    content = WRITERS[form](points_for(form)) + b"\n" * (1 << 20)
    assert "expected 1048576 at most" in refused(path, form, content)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x00\x00", b"<html></html>", b"# nothing\n"])
def test_another_kind_of_file(form: str, path: Path, content: bytes) -> None:
    refused(path, form, content)


def test_unknown_formats_list_the_known() -> None:
    known = ", ".join(LANDMARK_READERS)
    with pytest.raises(FormatError, match=rf"a\.doc.*{known}"):
        landmark_format_of(Path("a.doc"))
    with pytest.raises(FormatError, match=rf"unknown landmark format 'doc'.*{known}"):
        read_landmarks(Path("a.doc"), "doc")


def test_every_reader_has_a_writer_here() -> None:
    assert set(WRITERS) == set(LANDMARK_READERS)


N_MUTATIONS = 150


def test_damaged_files_are_refused_or_read_never_more(form: str, path: Path) -> None:
    """Bytes flipped, cut, doubled and put in, from a fixed seed: FormatError is the only error."""
    rng = np.random.default_rng(len(form))
    whole = WRITERS[form](points_for(form))
    extra = [
        b"nan",
        b"-1",
        b"1e999",
        b"9" * 400,
        b"\xff",
        b"\x00",
        b"{",
        b'"',
        b",",
        b"\n",
        b"[" * 3000,
    ]
    for _ in range(N_MUTATIONS):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            a, b = np.sort(rng.integers(0, len(data) + 1, 2))
            b = min(b, a + 20)
            kind = rng.integers(4)
            if kind == 0 and a < len(data):
                data[a] = rng.integers(256)
            elif kind == 1:
                del data[a:b]
            elif kind == 2:
                data[a:a] = data[a:b]
            else:
                data[a:a] = extra[rng.integers(len(extra))]
        path.write_bytes(bytes(data))
        with contextlib.suppress(FormatError):
            read_landmarks(path, form)
