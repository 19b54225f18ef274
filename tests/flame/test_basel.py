"""Files laid out as those of Deep3DFaceRecon and 3DDFA-V3, of a made mesh."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from pipeline.errors import FormatError
from pipeline.flame.basel import is_basel, read_basel
from pipeline.types import Array

N = 100


def mesh() -> tuple[Array, Array, Array]:
    draw = np.random.default_rng(0)
    return draw.normal(size=(N, 3)), draw.integers(0, N, (150, 3)), draw.permutation(N)[:68]


def write(path: Path, **changed: Any) -> Path:
    """As both projects lay out what is read, with more beside it."""
    vertices, faces, marks = mesh()
    if path.suffix == ".mat":
        held = {
            "meanshape": vertices.reshape(1, -1).astype(np.float32),
            "idBase": np.zeros((3 * N, 2)),
            "tri": (faces + 1).astype(np.float64),
            "keypoints": (marks + 1).reshape(1, -1).astype(np.float64),
        }
        scipy.io.savemat(path, held | changed)
    else:
        held = {
            "u": vertices.reshape(-1, 1).astype(np.float32),
            "id": np.zeros((3 * N, 2), np.float32),
            "tri": faces,
            "ldm68": marks,
            "annotation": [np.arange(5), np.arange(7)],
        }
        np.save(path, np.array(held | changed, dtype=object), allow_pickle=True)
    return path


@pytest.mark.parametrize("name", ["BFM_model_front.mat", "face_model.npy"])
def test_the_mean_head_is_read(name: str, tmp_path: Path) -> None:
    vertices, faces, marks = mesh()
    found = read_basel(write(tmp_path / name))
    assert is_basel(tmp_path / name)
    assert found.vertices == pytest.approx(vertices, rel=1e-6)
    assert (found.faces == faces).all()
    assert found.landmarks is not None and (found.landmarks == marks).all()


def test_other_meshes_are_no_basel_files() -> None:
    assert not is_basel("head.obj") and not is_basel("head.ply")


@pytest.mark.parametrize(
    ("name", "changed", "told"),
    [
        ("a.npy", {"tri": np.full((3, 3), N)}, f"tri: {N} … {N}, expected whole 0 … {N - 1}"),
        ("a.mat", {"tri": np.zeros((3, 3))}, f"tri: 0.0 … 0.0, expected whole 1 … {N}"),
        ("a.npy", {"ldm68": np.full(68, 0.5)}, "ldm68: 0.5 … 0.5, expected whole"),
        ("a.npy", {"u": np.zeros(31)}, "u: 31 numbers, expected three"),
        ("a.mat", {"meanshape": np.full(3 * N, np.nan)}, "expected three finite ones"),
        ("a.npy", {"tri": np.zeros((4, 4), int)}, r"tri: of shape \(4, 4\)"),
        ("a.npy", {"u": "text"}, "u: holds <U4 values, expected numbers"),
    ],
)
def test_a_damaged_file_is_refused(
    name: str, changed: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(FormatError, match=told):
        read_basel(write(tmp_path / name, **changed))


def test_another_file_is_refused(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "scan.mat", {"vertices": np.zeros((5, 3))})
    with pytest.raises(FormatError, match="no 'meanshape' among vertices; expected Deep3D's"):
        read_basel(tmp_path / "scan.mat")
    np.save(tmp_path / "numbers.npy", np.zeros(5))
    with pytest.raises(FormatError, match="no 'u' among nothing"):
        read_basel(tmp_path / "numbers.npy")
    with pytest.raises(FormatError, match="cannot be read"):
        read_basel(tmp_path / "none.npy")


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_pickle_is_executed(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array({"u": Trap(tmp_path / "sprung")}, dtype=object))
    assert pickle.loads(pickle.dumps(Path("x"))) == Path("x")  # the trap is a pickle as any
    with pytest.raises(FormatError, match=r"names posix\.mkdir"):
        read_basel(tmp_path / "evil.npy")
    assert not (tmp_path / "sprung").exists()
