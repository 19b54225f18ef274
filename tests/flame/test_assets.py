"""Models, embeddings and masks from files: FLAME's own layout, `.npz`, bare templates."""

from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from ball import sphere
from scipy.spatial import cKDTree

from pipeline.errors import FormatError, ModelError
from pipeline.flame.assets import MODEL_VARIABLE, STAND_IN, load_model
from pipeline.flame.embedding import read_embedding
from pipeline.flame.stand_in import stand_in
from pipeline.types import Array


def flame_arrays(n_components: int = 400) -> dict[str, Any]:
    """A model with FLAME's keys, dtypes and joints, in metres."""
    vertices, faces = sphere()
    rng = np.random.default_rng(0)
    weights = rng.random((len(vertices), 5))
    regressor = scipy.sparse.random(5, len(vertices), 0.05, "csc", random_state=1)
    return {
        "v_template": vertices,
        "f": faces.astype(np.uint32),
        "shapedirs": rng.normal(0, 1e-3, (len(vertices), 3, n_components)),
        "posedirs": rng.normal(0, 1e-3, (len(vertices), 3, 36)),
        "J_regressor": regressor,
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.uint32),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def save_pickle(path: Path, arrays: dict[str, Any]) -> Path:
    path.write_bytes(pickle.dumps(arrays, 2))
    return path


def save_npz(path: Path, arrays: dict[str, Any]) -> Path:
    dense = {k: v.toarray() if scipy.sparse.issparse(v) else v for k, v in arrays.items()}
    np.savez(path, **dense)
    return path


@pytest.mark.parametrize("save", [save_pickle, save_npz])
def test_flames_layout_in_millimetres(tmp_path: Path, save: Any) -> None:
    arrays = flame_arrays()
    path = save(tmp_path / ("m.pkl" if save is save_pickle else "m.npz"), arrays)
    model = load_model(path)
    assert (model.name, model.is_stand_in) == ("m", False)
    np.testing.assert_allclose(model.template_mm, 1000 * arrays["v_template"])
    np.testing.assert_allclose(model.shape_basis_mm, 1000 * arrays["shapedirs"][:, :, :300])
    np.testing.assert_allclose(model.expression_basis_mm, 1000 * arrays["shapedirs"][:, :, 300:])
    np.testing.assert_allclose(model.pose_basis_mm, 1000 * arrays["posedirs"])
    np.testing.assert_allclose(model.joint_regressor, arrays["J_regressor"].toarray())
    np.testing.assert_array_equal(model.parents, [-1, 0, 1, 1, 1])
    np.testing.assert_array_equal(model.faces, arrays["f"])
    assert {"face", "eyeballs", "hidden", "boundary"} <= model.regions.keys()


@pytest.mark.parametrize(("unit", "factor"), [("m", 1.0), ("cm", 100.0), ("mm", 1000.0)])
def test_the_unit_follows_from_the_size_and_scales_everything(
    tmp_path: Path, unit: str, factor: float
) -> None:
    arrays = flame_arrays(n_components=7)
    scaled = {k: arrays[k] * factor for k in ("v_template", "shapedirs", "posedirs")}
    model = load_model(save_npz(tmp_path / f"{unit}.npz", {**arrays, **scaled, "n_shape": 5}))
    np.testing.assert_allclose(model.template_mm, 1000 * arrays["v_template"])
    np.testing.assert_allclose(model.shape_basis_mm, 1000 * arrays["shapedirs"][:, :, :5])
    np.testing.assert_allclose(model.expression_basis_mm, 1000 * arrays["shapedirs"][:, :, 5:])


def test_an_implausible_size_is_refused(tmp_path: Path) -> None:
    vertices, _ = sphere()
    path = save_npz(tmp_path / "m.npz", {**flame_arrays(3), "v_template": vertices * 7})
    with pytest.raises(ModelError, match=r"measures 1\.53 .*0\.15–0\.6 metres"):
        load_model(path)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no triangles": ({"f": None}, r"has no f\. FLAME is free .*flame\.is\.tue\.mpg\.de"),
    "other basis": ({"shapedirs": np.zeros((9, 3, 4))}, r"shapedirs has shape \(9, 3, 4\)"),
    "too many": ({"shapedirs": np.zeros((768, 3, 500))}, "300 identity and 200 expression"),
    "n_shape": ({"n_shape": 9}, "9 identity and -5 expression"),
    "weights": ({"weights": np.ones((768, 5))}, "do not sum to 1"),
    "no tree": ({"kintree_table": None}, "but not all of"),
    "cycle": ({"kintree_table": np.array([[2**32 - 1, 2, 1, 1, 1]] * 2)}, "each before its child"),
    "triangle": ({"f": np.array([[0, 1, 768]])}, "names vertex 768, expected 0 … 767"),
    "quads": ({"f": np.array([[0, 1, 2, 3]])}, r"shape \(1, 4\)"),
    "not finite": ({"v_template": np.full((768, 3), np.nan)}, "measures nan"),
    "text": ({"v_template": np.array("abc")}, "no array of numbers"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_models_are_refused_by_name(tmp_path: Path, fault: str) -> None:
    changed, message = WRONG[fault]
    arrays = {**flame_arrays(n_components=4), **changed}
    path = save_npz(tmp_path / "m.npz", {k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(ModelError, match=message) as raised:
        load_model(path)
    assert str(path) in str(raised.value)


def test_missing_and_foreign_files_say_where_flame_is(tmp_path: Path) -> None:
    for path in (tmp_path / "generic_model.pkl", tmp_path / "model.zip"):
        if path.suffix == ".zip":
            path.write_bytes(b"PK")
        with pytest.raises(ModelError, match=r"https://flame\.is\.tue\.mpg\.de.*--model"):
            load_model(path)


def test_a_list_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no v_template and no f"):
        load_model(save_pickle(tmp_path / "m.pkl", [1, 2]))  # type: ignore[arg-type]


def write_obj(path: Path, vertices: Array, faces: Array) -> Path:
    rows = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in vertices]
    rows += [f"f {a}/{a} {b}/{b} {c}/{c}" for a, b, c in faces + 1]
    path.write_text("\n".join(rows) + "\n")
    return path


def write_ply(path: Path, vertices: Array, faces: Array) -> Path:
    head = (
        f"ply\nformat ascii 1.0\nelement vertex {len(vertices)}\nproperty float x\n"
        f"property float y\nproperty float z\nelement face {len(faces)}\n"
        "property list uchar int vertex_indices\nend_header\n"
    )
    rows = [f"{x:.9g} {y:.9g} {z:.9g}" for x, y, z in vertices]
    path.write_text(head + "\n".join(rows + [f"3 {a} {b} {c}" for a, b, c in faces]) + "\n")
    return path


@pytest.mark.parametrize("write", [write_obj, write_ply])
def test_bare_templates_keep_their_order_and_have_empty_bases(tmp_path: Path, write: Any) -> None:
    vertices, faces = sphere()
    model = load_model(write(tmp_path / f"t.{write.__name__[-3:]}", vertices, faces))
    np.testing.assert_allclose(model.template_mm, 1000 * vertices, atol=1e-4)
    np.testing.assert_array_equal(model.faces, faces)
    v = len(vertices)
    assert model.shape_basis_mm.shape == model.expression_basis_mm.shape == (v, 3, 0)
    assert model.joint_regressor.shape == (0, v)
    assert model.weights.shape == (v, 0)


def test_damaged_templates_are_format_errors(tmp_path: Path) -> None:
    (tmp_path / "t.obj").write_text("v 0 0 0\nf 1 2 3\n")
    with pytest.raises(FormatError, match="outside"):
        load_model(tmp_path / "t.obj")


def test_environment_names_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_pickle(tmp_path / "flame2023.pkl", flame_arrays(3))
    monkeypatch.setenv(MODEL_VARIABLE, str(path))
    assert load_model().name == "flame2023"
    other = save_npz(tmp_path / "other.npz", flame_arrays(3))
    assert load_model(other).name == "other"
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "absent.pkl"))
    with pytest.raises(ModelError, match="no such file"):
        load_model()


def test_the_stand_in_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    model = load_model()
    assert model.is_stand_in
    assert {"face", "eyeballs", "hidden", "boundary"} <= model.regions.keys()
    assert model.landmarks is not None


def nearest_vertices(indices_68: list[int]) -> list[int]:
    """Vertices of the stand-in at its landmarks."""
    model = stand_in()
    assert model.landmarks is not None
    points = model.landmarks.positions(model.template_mm, model.faces)[indices_68]
    return cKDTree(model.template_mm).query(points)[1].tolist()


SEVEN = nearest_vertices([36, 39, 42, 45, 33, 48, 54])


def vertex_lists(folder: Path) -> list[Path]:
    (folder / "a.txt").write_text("# corners\n" + "\n".join(map(str, SEVEN)) + "\n")
    (folder / "b.txt").write_text(", ".join(map(str, SEVEN)))
    np.save(folder / "c.npy", np.array(SEVEN))
    np.save(folder / "d.npy", np.array(SEVEN, dtype=np.float32))
    return sorted(folder.iterdir())


def test_vertex_lists_are_embeddings(tmp_path: Path) -> None:
    """Seven vertices that lie as the scheme's points do are those; any others are paired in order,
    even if a scheme has as many."""
    model = stand_in()
    vertices, faces = model.template_mm, model.faces
    for path in vertex_lists(tmp_path):
        embedding = read_embedding(path, faces, vertices)
        assert not embedding.in_order
        np.testing.assert_array_equal(embedding.indices_68, [36, 39, 42, 45, 33, 48, 54])
        np.testing.assert_allclose(embedding.positions(vertices, faces), vertices[SEVEN])
    for number in (4, 5, 6, 7, 8, 22):
        own = np.arange(number) * 100 + 7
        np.save(tmp_path / "own.npy", own)
        embedding = read_embedding(tmp_path / "own.npy", faces, vertices)
        assert embedding.in_order and len(embedding.indices_68) == number
        np.testing.assert_allclose(embedding.positions(vertices, faces), vertices[own])
        assert np.isnan(embedding.positions_68(vertices, faces)).all()


def test_absent_landmarks_are_left_out(tmp_path: Path) -> None:
    model = stand_in()
    some = [SEVEN[0], -1, *SEVEN[2:5], -1, SEVEN[6]]
    np.save(tmp_path / "e.npy", np.array(some))
    embedding = read_embedding(tmp_path / "e.npy", model.faces, model.template_mm)
    np.testing.assert_array_equal(embedding.indices_68, [36, 42, 45, 33, 54])
    there = [v for v in some if v >= 0]
    np.testing.assert_allclose(
        embedding.positions(model.template_mm, model.faces), model.template_mm[there]
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 2 3", "3 vertices of 3 landmarks, in no scheme's order; expected at least 4"),
        ("1 2 3 -1 5", "4 vertices of 5 landmarks.* and a vertex for each"),
        ("1 2 3 4 5 6 x", "expected one vertex index a line"),
        ("1 2 3 4 5 6 9999999", r"vertices \[9999999\] are in no triangle"),
        ({"a": 1}, r"holds \['a'\], expected a landmark embedding"),
        ({"lmk_face_idx": [1] * 51, "lmk_b_coords": np.ones((51, 3))}, "do not sum to 1"),
        ({"lmk_face_idx": [1] * 51, "lmk_b_coords": np.ones((50, 3)) / 3}, "51 triangles but 50"),
        ({"lmk_face_idx": [9999] * 51, "lmk_b_coords": np.ones((51, 3)) / 3}, "another topology"),
        (np.ones((7, 3)), "expected vertex indices"),
        (np.full(7, 1.5), "expected vertex indices"),
    ],
)
def test_wrong_embeddings(tmp_path: Path, content: Any, message: str) -> None:
    vertices, faces = sphere()
    path = tmp_path / ("e.txt" if isinstance(content, str) else "e.npy")
    if isinstance(content, str):
        path.write_text(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(ModelError, match=message):
        read_embedding(path, faces, vertices)


def test_flame_ict(shared_data: Path) -> None:
    path = shared_data / "flame_ict" / "flame_ict.npz"
    model = load_model(path, shared_data / "flame" / "landmark_embedding.npy")
    truth = np.load(path)
    assert model.shape_basis_mm.shape == (5023, 3, 40)
    assert model.expression_basis_mm.shape == (5023, 3, 57)
    np.testing.assert_allclose(model.template_mm, 1000 * truth["v_template"])
    np.testing.assert_allclose(model.expression_basis_mm, 1000 * truth["shapedirs"][:, :, 40:])
    assert len(model.regions["eyeballs"]) == 2 * 546


def test_flame_template_finds_what_lies_beside_it(shared_data: Path) -> None:
    model = load_model(shared_data / "flame" / "head_template.obj")
    assert model.landmarks is not None
    np.testing.assert_array_equal(model.landmarks.indices_68, np.arange(68))
    at = model.landmarks.positions(model.template_mm, model.faces)
    outer_eyes = np.linalg.norm(at[36] - at[45])
    assert 88 < outer_eyes < 95
    assert len(model.regions["face"]) == 1787
    assert len(model.regions["left_ear"]) == 588
    static = shared_data / "flame" / "flame_static_embedding.pkl"
    by_pickle = read_embedding(static, model.faces, model.template_mm)
    np.testing.assert_allclose(
        by_pickle.positions(model.template_mm, model.faces), at[17:], atol=10
    )
    # the two files define brows and nose ridge differently
    np.testing.assert_allclose(
        by_pickle.positions(model.template_mm, model.faces)[19:], at[36:], atol=1.0
    )


def test_foreign_masks_and_embeddings_are_refused(shared_data: Path, tmp_path: Path) -> None:
    model = save_npz(tmp_path / "m.npz", flame_arrays(3))
    with pytest.raises(ModelError, match=r"region .* names vertex .* the model has 768"):
        load_model(model, masks=shared_data / "flame" / "FLAME_masks.pkl")
    with pytest.raises(ModelError, match="another topology"):
        load_model(model, shared_data / "flame" / "landmark_embedding.npy")


def test_hostile_model_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(f"cos\nsystem\n(S'touch {marker}'\ntR.".encode())
    with pytest.raises(ModelError, match=re.escape(f"{path}: refused, the pickle names os.system")):
        load_model(path)
    assert not marker.exists()


def test_a_turned_template_is_refused(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "flame"
    model = load_model(folder / "head_template.obj")
    turned = write_obj(tmp_path / "t.obj", model.template_mm[:, [0, 2, 1]], model.faces)
    shutil.copy(folder / "landmark_embedding.npy", tmp_path)
    with pytest.raises(ModelError, match=r"expected \+y up, \+z out of the face"):
        load_model(turned)


def test_the_stand_in_by_name_whatever_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEFOLD_FLAME_MODEL", "nowhere.pkl")
    assert load_model(STAND_IN).is_stand_in
    with pytest.raises(ModelError, match="nowhere"):
        load_model()
