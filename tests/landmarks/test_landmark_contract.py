"""What every landmark reader owes: the landmarks as written, or a FormatError that helps."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FormatError
from pipeline.landmarks import LANDMARK_READERS, landmark_format_of, read_landmarks

COUNTS = {"bnd": 83, "lnd": 7}


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


WRITERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "npy": npy,
    "txt": rows,
    "txt1": rows,
    "bnd": lambda points: rows(points, first=100),
    "pp": pp,
    "ljson": ljson,
    "lnd": lambda points: rows(points, first=0),
}


def refused(path: Path, form: str, content: bytes | None) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        read_landmarks(path, form)
    assert str(path) in str(caught.value) and len(caught.value.remedy) > 5
    return caught.value.fault


@pytest.fixture(params=LANDMARK_READERS)
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def path(form: str, tmp_path: Path) -> Path:
    return tmp_path / f"scan.{form}"


def test_reads_the_points_in_order(form: str, path: Path) -> None:
    points = points_for(form)
    path.write_bytes(WRITERS[form](points))
    raw = read_landmarks(path, landmark_format_of(path))
    assert raw.indices is None and len(raw) == len(points)
    np.testing.assert_array_equal(raw.points, points)


def test_missing_file(form: str, path: Path) -> None:
    assert "No such file" in refused(path, form, None)


def test_empty_file(form: str, path: Path) -> None:
    assert "0 bytes" in refused(path, form, b"")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_truncated_file(form: str, path: Path, share: float) -> None:
    content = WRITERS[form](points_for(form))
    cut = content[: int(share * len(content))]
    if form in ("txt", "txt1"):  # states no count: only a cut inside a row shows
        cut = cut[: cut.rindex(b" ")]
    refused(path, form, cut)


def test_words_that_are_no_numbers(form: str, path: Path) -> None:
    content = WRITERS[form](points_for(form))
    if form == "npy":
        pytest.skip("holds no words")
    number = repr(float(points_for(form)[3, 1])).encode()
    assert number in content
    refused(path, form, content.replace(number, b"12,x", 1))


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x00\x00", b"<html></html>", b"# nothing\n"])
def test_another_kind_of_file(form: str, path: Path, content: bytes) -> None:
    refused(path, form, content)


def test_unknown_formats_list_the_known() -> None:
    with pytest.raises(FormatError, match=r"a\.csv.*npy, txt, txt1, bnd, pp, ljson, lnd"):
        landmark_format_of(Path("a.csv"))
    with pytest.raises(FormatError, match=r"unknown landmark format 'csv'.*npy, txt, txt1, bnd"):
        read_landmarks(Path("a.csv"), "csv")


def test_every_reader_has_a_writer_here() -> None:
    assert set(WRITERS) == set(LANDMARK_READERS)
