"""Files laid out as Deep3D's and 3DDFA-V3's, of a made face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch

from pipeline.errors import FormatError
from pipeline.training.basel_bases import read_bases, read_linear_face
from tests.training.linear_faces import sheet

FILES = ["BFM_model_front.mat", "face_model.npy"]


def write(path: Path, **changed: Any) -> Path:
    made = sheet()
    mean, colour = made.mean.reshape(1, -1), made.mean_albedo.reshape(1, -1)
    if path.suffix == ".mat":
        held = {
            "meanshape": mean,
            "idBase": made.identity,
            "exBase": made.expression,
            "meantex": colour,
            "texBase": made.albedo,
            "tri": (made.faces + 1).astype(np.float64),
            "point_buf": (made.triangles_of_vertex + 1).astype(np.float64),
            "keypoints": (made.landmarks + 1).reshape(1, -1).astype(np.float64),
        }
        scipy.io.savemat(path, held | changed)
    else:
        held = {
            "u": mean.T,
            "id": made.identity,
            "exp": made.expression,
            "u_alb": colour.T,
            "alb": made.albedo,
            "tri": made.faces,
            "point_buf": made.triangles_of_vertex,
            "ldm68": made.landmarks,
        }
        np.save(path, np.array(held | changed, dtype=object), allow_pickle=True)
    return path


@pytest.mark.parametrize("name", FILES)
def test_all_arrays_are_read(name: str, tmp_path: Path) -> None:
    found, made = read_bases(write(tmp_path / name)), sheet()
    for field in made._fields:
        np.testing.assert_array_equal(getattr(found, field), getattr(made, field), err_msg=field)


def test_the_mean_is_recentred_as_each_projects_code_does(tmp_path: Path) -> None:
    deep3d, ddfa = (read_linear_face(write(tmp_path / name)) for name in FILES)
    assert deep3d.mean.mean(0).abs().max() < 1e-6
    assert torch.allclose(ddfa.mean.double(), torch.from_numpy(sheet().mean))


@pytest.mark.parametrize(
    ("name", "changed", "told"),
    [
        (FILES[0], {"idBase": np.zeros((243, 199))}, r"idbase: of shape \(243, 199\), expected"),
        (FILES[1], {"alb": np.full((243, 80), np.nan)}, "alb: .* expected finite numbers"),
        (FILES[1], {"exp": "text"}, "exp: holds <U4 values, expected numbers"),
        (FILES[0], {"keypoints": np.ones((1, 5))}, "no 68 landmarks among"),
    ],
)
def test_a_damaged_file_is_refused(
    name: str, changed: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(FormatError, match=told):
        read_bases(write(tmp_path / name, **changed))


def test_a_file_without_bases_is_refused(tmp_path: Path) -> None:
    """As the mean head alone, which registers but does not train."""
    made = sheet()
    path = tmp_path / "face_model.npy"
    held = {"u": made.mean, "tri": made.faces, "ldm68": made.landmarks, "id": made.identity}
    np.save(path, np.array(held, dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match="no exp, u_alb, alb, point_buf among u, tri"):
        read_bases(path)
    with pytest.raises(FormatError, match=r"ends in \.obj, expected \.mat or \.npy"):
        read_bases(tmp_path / "head.obj")
