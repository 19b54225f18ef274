import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FacefoldError
from pipeline.evaluation.benchmark import Case, Given, Prediction
from pipeline.evaluation.crops import SEVEN_68
from pipeline.evaluation.predictions.meshes import (
    landmark_file_of,
    mean_head,
    prediction_file,
    read_mesh,
    without_area,
)
from pipeline.flame.stand_in import stand_in
from pipeline.landmarks.schemes import SCHEMES
from pipeline.types import Array
from tests.evaluation.scenes import embedded, oracle_scene, stand_in_scene, write_obj


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path, tmp_path, stand_in(), "m")


def read(given: Given, name: str = "a.obj") -> Prediction:
    path = given.predictions / name
    return read_mesh(Case("it", "someone", prediction=path), given)


def near() -> tuple[Array, Array]:
    """Vertices in metres and triangles, in the stand-in's topology."""
    scene = stand_in_scene()
    return scene.predictions_m["near"], scene.prediction_faces


def without_eyeballs() -> tuple[Array, Array]:
    """The same as tools leave it that keep the skin alone."""
    vertices, faces = near()
    kept = np.ones(len(vertices), bool)
    kept[stand_in().regions["eyeballs"]] = False
    number = np.cumsum(kept) - 1
    return vertices[kept], number[faces[kept[faces].all(axis=1)]]


def rows(points: Array) -> str:
    return "".join(f"{x} {y} {z}\n" for x, y, z in points)


def kinds(prediction: Prediction) -> list[str]:
    assert all(finding.case == "it" for finding in prediction.findings)
    return [finding.kind for finding in prediction.findings]


def test_a_mesh_in_the_models_topology_needs_no_landmarks(given: Given) -> None:
    vertices, faces = near()
    write_obj(given.predictions / "a.obj", vertices, faces)
    found = read(given)
    assert found.in_model_topology
    assert found.unit_mm == 1000.0
    assert not found.findings
    assert found.vertices.dtype == np.float64
    np.testing.assert_allclose(found.vertices, vertices, atol=1e-9)
    np.testing.assert_allclose(found.landmarks_68, embedded(given.model, vertices), atol=1e-9)


@pytest.mark.parametrize("name", ["a.npy", "a.txt"])
@pytest.mark.parametrize("scheme", ["fg7", "ibug51", "ibug68", "realy85"])
def test_landmarks_beside_are_read_by_their_number(given: Given, scheme: str, name: str) -> None:
    vertices, faces = without_eyeballs()
    points = embedded(given.model, near()[0])
    numbers = SCHEMES[scheme].indices_68
    delivered = points[np.where(numbers < 0, 30, numbers)]
    write_obj(given.predictions / "a.obj", vertices, faces)
    if name.endswith("npy"):
        np.save(given.predictions / name, delivered)
    else:
        (given.predictions / name).write_text(rows(delivered))
    found = read(given)
    known = numbers[numbers >= 0]
    assert not found.in_model_topology
    assert not found.findings
    np.testing.assert_allclose(found.landmarks_68[known], points[known], atol=1e-9)
    assert np.isnan(np.delete(found.landmarks_68, known, axis=0)).all()


def test_seven_points_are_in_the_order_of_fg2018(given: Given) -> None:
    write_obj(given.predictions / "a.obj", *without_eyeballs())
    seven = stand_in_scene().seven_m("near")
    np.save(given.predictions / "a.npy", seven)
    np.testing.assert_array_equal(read(given).landmarks_68[list(SEVEN_68)], seven)


def test_landmarks_may_be_vertices_that_one_file_names_for_all(given: Given) -> None:
    vertices, faces = without_eyeballs()
    write_obj(given.predictions / "a.obj", vertices, faces)
    chosen = [3, 50, 200, 311, 402, 555, 620]
    (given.predictions / "seven.txt").write_text("\n".join(map(str, chosen)))
    found = read(replace(given, landmarks="seven.txt"))
    np.testing.assert_allclose(found.landmarks_68[list(SEVEN_68)], vertices[chosen], atol=1e-9)


def test_a_pattern_finds_landmarks_elsewhere_and_says_if_there_are_none(given: Given) -> None:
    write_obj(given.predictions / "a.obj", *near())
    elsewhere = replace(given, landmarks="../marks/{stem}_7.npy")
    with pytest.raises(FacefoldError, match=r"no landmarks .*_7\.npy beside it"):
        read(elsewhere)
    folder = given.predictions.parent / "marks"
    folder.mkdir()
    np.save(folder / "a_7.npy", stand_in_scene().seven_m("near"))
    assert landmark_file_of(given.predictions / "a.obj", elsewhere) is not None
    assert np.isfinite(read(elsewhere).landmarks_68).all(axis=1).sum() == 7


@pytest.mark.parametrize("name", ["img.1.obj", "img.1.PLY", "IMG.1.stl", "img.1.obj.gz"])
def test_a_prediction_is_found_by_its_stem(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    (tmp_path / "img.1.png").touch()
    (tmp_path / "img.1.npy").touch()
    found = prediction_file(tmp_path, "img.1")
    assert found is not None
    assert found.name == name
    assert prediction_file(tmp_path, "img") is None
    assert prediction_file(tmp_path / "nowhere", "img") is None


def test_names_that_differ_in_case_alone_are_two(tmp_path: Path) -> None:
    for name in ("a.obj", "A.obj"):
        (tmp_path / name).touch()
    assert prediction_file(tmp_path, "A") == tmp_path / "A.obj"


def test_two_files_of_one_stem_are_both_named(given: Given) -> None:
    write_obj(given.predictions / "a.obj", *near())
    (given.predictions / "a.ply").touch()
    with pytest.raises(FacefoldError, match=r"a\.obj and a\.ply"):
        prediction_file(given.predictions, "a")
    for name in ("a.npy", "a.txt"):
        (given.predictions / name).touch()
    with pytest.raises(FacefoldError, match=r"a\.npy and a\.txt"):
        landmark_file_of(given.predictions / "a.obj", given)


def test_a_packed_mesh_is_the_same(given: Given) -> None:
    write_obj(given.predictions / "a.obj", *near())
    whole = read(given)
    packed = gzip.compress((given.predictions / "a.obj").read_bytes())
    (given.predictions / "a.obj.gz").write_bytes(packed)
    np.testing.assert_array_equal(read(given, "a.obj.gz").vertices, whole.vertices)


def test_the_mean_head_is_the_template(given: Given) -> None:
    found = mean_head(given)
    np.testing.assert_array_equal(found.vertices, given.model.template_mm)
    assert found.unit_mm == 1.0
    assert found.in_model_topology
    np.testing.assert_allclose(
        found.landmarks_68, embedded(given.model, given.model.template_mm), atol=1e-9
    )


def merged(vertices: Array, faces: Array) -> tuple[Array, Array]:
    return vertices[:-200], faces[(faces < len(vertices) - 200).all(axis=1)]


@pytest.mark.parametrize(
    ("mesh", "said"),
    [
        (without_eyeballs, "eyeballs of .* are cut off"),
        (lambda: merged(*near()), "merged or split on export .*process=False"),
        (lambda: merged(near()[0][:2000], near()[1]), "another topology"),
    ],
)
def test_another_topology_without_landmarks_says_what_is_needed(
    given: Given, mesh: Callable[[], tuple[Array, Array]], said: str
) -> None:
    vertices, faces = mesh()
    write_obj(given.predictions / "a.obj", vertices, faces)
    with pytest.raises(FacefoldError, match=said) as refused:
        read(given)
    message = str(refused.value)
    assert str(len(vertices)) in message
    assert str(len(given.model.template_mm)) in message
    assert "a.npy or .txt" in message
    case = Case("it", "someone", prediction=given.predictions / "a.obj")
    assert np.isnan(read_mesh(case, given, needs_landmarks=False).landmarks_68).all()


def test_another_order_of_vertices_is_named(given: Given) -> None:
    vertices, faces = near()
    order = np.random.default_rng(0).permutation(len(vertices))
    write_obj(given.predictions / "a.obj", vertices[order], np.argsort(order)[faces])
    with pytest.raises(FacefoldError, match="not in the order of stand-in"):
        read(given)
    np.save(given.predictions / "a.npy", stand_in_scene().seven_m("near"))
    found = read(given)
    assert not found.in_model_topology
    assert kinds(found) == ["topology"]


def test_triangles_that_wind_the_other_way_and_in_another_order_are_the_models(
    given: Given,
) -> None:
    vertices, faces = near()
    faces = np.random.default_rng(0).permutation(faces)[:, [0, 2, 1]]
    write_obj(given.predictions / "a.obj", vertices, faces)
    found = read(given)
    assert found.in_model_topology
    np.testing.assert_array_equal(found.faces, faces)


def test_points_in_the_models_order_take_its_triangles(given: Given) -> None:
    vertices, _ = near()
    header = f"ply\nformat ascii 1.0\nelement vertex {len(vertices)}\n"
    header += "".join(f"property double {axis}\n" for axis in "xyz") + "end_header\n"
    (given.predictions / "a.ply").write_text(header + rows(vertices))
    found = read(given, "a.ply")
    assert kinds(found) == ["topology"]
    np.testing.assert_array_equal(found.faces, given.model.faces)


def write_coloured(path: Path, vertices: Array, faces: Array) -> None:
    write_obj(path, vertices, faces)
    text = path.read_text().splitlines()
    path.write_text("\n".join(row + " .5 .5 1" * row.startswith("v") for row in text) + "\n")


def test_colours_behind_the_vertices_are_named(given: Given) -> None:
    write_coloured(given.predictions / "a.obj", *near())
    found = read(given)
    assert kinds(found) == ["vertex_colours"]
    np.testing.assert_allclose(found.vertices, near()[0], atol=1e-9)


def test_triangles_without_area_are_counted(given: Given) -> None:
    vertices, faces = near()
    vertices = vertices.copy()
    a, b, c = faces[10]
    vertices[c] = (vertices[a] + vertices[b]) / 2
    flat = np.vstack([faces, [[a, a, b], [a, b, b]]])
    write_obj(given.predictions / "a.obj", vertices, flat)
    [finding] = read(given).findings
    assert finding.kind == "degenerate"
    assert finding.figures == {"triangles": 3.0}
    assert finding.said.startswith("3 of 9978 triangles")


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_slim_triangles_have_an_area_in_any_unit(scale: float) -> None:
    slim = np.array([[0.0, 0, 0], [1, 0, 0], [0.5, 1e-4, 0], [0.5, 0, 0]]) * scale
    assert without_area(slim, np.array([[0, 1, 2]])) == 0
    assert without_area(slim, np.array([[0, 1, 2], [0, 1, 3], [1, 1, 0]])) == 2
    assert without_area(slim, np.zeros((0, 3), int)) == 0


@pytest.mark.parametrize("move", [lambda p: 1000 * p, lambda p: p - np.array([0, 0.3, 0])])
def test_landmarks_off_the_mesh_are_named(given: Given, move: Callable[[Array], Array]) -> None:
    write_obj(given.predictions / "a.obj", *without_eyeballs())
    np.save(given.predictions / "a.npy", move(stand_in_scene().seven_m("near")))
    found = read(given)
    assert kinds(found) == ["landmarks_apart"]
    assert "one unit and one frame" in found.findings[0].said


@pytest.mark.parametrize(
    ("delivered", "said"),
    [
        (np.zeros((6, 3)), "6 landmarks, expected 7"),
        (np.zeros((70, 3)), "70 landmarks, expected 7"),
        (np.full((7, 3), np.nan), "no landmark is finite"),
        (np.full((7, 3), np.inf), "infinite"),
        (np.array([1, 2, 3, 4, 5, 6, 9999]), "9999"),
    ],
)
def test_bad_landmarks_are_refused(given: Given, delivered: Array, said: str) -> None:
    write_obj(given.predictions / "a.obj", *near())
    np.save(given.predictions / "a.npy", delivered)
    with pytest.raises(FacefoldError, match=said):
        read(given)


def test_bad_meshes_are_refused(given: Given) -> None:
    vertices, faces = near()
    path = given.predictions / "a.obj"
    write_obj(path, vertices, faces)
    text = path.read_text()
    path.write_text(text[: len(text) // 4])
    with pytest.raises(FacefoldError, match="no faces: cut off"):
        read(given)
    odd = vertices.copy()
    odd[7] = np.nan
    write_obj(path, odd, faces[(faces != 7).all(axis=1)])
    with pytest.raises(FacefoldError, match="1 of 5023 vertices are not finite"):
        read(given)


def test_a_model_without_landmarks_asks_for_an_embedding(given: Given) -> None:
    write_obj(given.predictions / "a.obj", *near())
    bare = replace(given, model=replace(given.model, landmarks=None))
    with pytest.raises(FacefoldError, match="--embedding"):
        read(bare)


@pytest.mark.oracles
def test_the_oracles_predictions_are_read_without_findings(oracles: Path, tmp_path: Path) -> None:
    scene = oracle_scene(oracles, tmp_path)
    given = Given(tmp_path, tmp_path, scene.model, "m")
    for name, vertices in scene.predictions_m.items():
        write_obj(tmp_path / f"{name}.obj", vertices, scene.prediction_faces)
        found = read(given, f"{name}.obj")
        assert found.in_model_topology
        assert not found.findings
        seven = found.landmarks_68[list(SEVEN_68)]
        np.testing.assert_allclose(seven, scene.seven_m(name), atol=1e-9)


@pytest.mark.parametrize("order", ["at random", "backwards", "one row further"])
def test_vertices_in_another_order_than_the_triangles_know_are_refused(
    given: Given, order: str
) -> None:
    vertices, faces = near()
    rng = np.random.default_rng(5)
    mixed = {
        "at random": vertices[rng.permutation(len(vertices))],
        "backwards": vertices[::-1],
        "one row further": np.roll(vertices, 1, axis=0),
    }[order]
    write_obj(given.predictions / "a.obj", mixed, faces)
    with pytest.raises(FacefoldError, match="another order than the triangles know"):
        read(given)


def test_a_crumpled_mesh_of_another_topology_is_refused(given: Given) -> None:
    vertices, faces = without_eyeballs()
    np.savetxt(given.predictions / "a.txt", 1000 * vertices[:7])
    mixed = vertices[np.random.default_rng(6).permutation(len(vertices))]
    write_obj(given.predictions / "a.obj", mixed, faces)
    with pytest.raises(FacefoldError, match="another order than the triangles know"):
        read(given)


def test_strange_and_noisy_meshes_are_not_taken_for_crumpled(given: Given) -> None:
    vertices, faces = near()
    rng = np.random.default_rng(7)
    write_obj(given.predictions / "a.obj", vertices + rng.normal(0, 0.002, vertices.shape), faces)
    assert read(given).in_model_topology
