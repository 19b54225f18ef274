"""A similarity of each scan's own, from files beside it or a table: order, direction, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.build.plan import make_plan
from pipeline.catalogue import catalogue
from pipeline.errors import FacefoldError, FormatError, RegistryError
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.normalise import normalise, read_record
from pipeline.normalise.scan import transform
from pipeline.refusals import Code
from pipeline.registry import Axes, load_registry
from pipeline.registry.transforms import OPERATIONS, matrix_of, step_matrix
from pipeline.types import Array, RawScan, TransformStep
from tests.small_build import build_of, write_registry

R = Rotation.from_euler("xyz", [70.0, -20.0, 130.0], degrees=True).as_matrix()
T = np.array([3.0, -40.0, 7.5])
S = 0.0412
POINTS = np.random.default_rng(5).normal(scale=50.0, size=(9, 3))
BACK = [{"subtract": "{stem}_t.npy"}, {"rotate_back": "{stem}_R.npy"}, {"divide": "{stem}_s.npy"}]
"""v' = (v − t)·R / s of rows, as NPHM's makers have it."""
TABLE = [
    {"multiply": "Rt.json", "key": "{subject}/{expression}/0"},
    {"rigid": "Rt.json", "key": "{subject}/{expression}/1"},
]
"""v' = s·v, then R·v' + t, as FaceScape's makers have it."""


def moved(steps: list[tuple[str, Any]], points: Array) -> Array:
    flat = [TransformStep(do, tuple(np.ravel(values).tolist())) for do, values in steps]
    matrix = matrix_of(flat, Path("x"))
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def test_steps_are_applied_in_their_order_and_direction() -> None:
    raw = (POINTS - T) @ R / S
    steps = [("subtract", T), ("rotate_back", R), ("divide", S)]
    np.testing.assert_allclose(moved(steps, POINTS), raw, rtol=1e-12)
    forth = [("multiply", S), ("rotate", R), ("add", T)]
    np.testing.assert_allclose(moved(forth, raw), POINTS, atol=1e-9)
    rt = np.column_stack([R, T])
    aligned = S * POINTS @ R.T + T
    np.testing.assert_allclose(moved([("multiply", S), ("rigid", rt)], POINTS), aligned)
    # the other order is another transform
    assert np.abs(moved([("rigid", rt), ("multiply", S)], POINTS) - aligned).max() > 1
    whole = np.vstack([rt, [0, 0, 0, 1]])
    np.testing.assert_allclose(moved([("rigid_back", whole), ("divide", S)], aligned), POINTS)


def test_rounding_of_a_rotation_changes_no_size() -> None:
    matrix = step_matrix("rotate", R.round(4), Path("R.npy"))
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(matrix[:3, :3], R, atol=1e-4)


@pytest.mark.parametrize(
    ("do", "values", "fault"),
    [
        ("rotate", np.diag([1.0, 1.0, -1.0]), "mirror image"),
        ("rotate", 1.01 * R, "not of length 1 at right angles"),
        ("rotate_back", R + np.eye(3)[[1, 2, 0]] * 0.01, "not of length 1 at right angles"),
        ("rotate", R[:2], "a rotation of 3×3 numbers"),
        ("rotate", np.full((3, 3), np.nan), "finite numbers"),
        ("rigid", np.column_stack([2 * R, T]), "not of length 1"),
        ("rigid", R, "a rotation and a translation of 3×4 numbers"),
        ("rigid_back", np.vstack([np.column_stack([R, T]), [0, 0, 1, 1]]), "0 0 0 1"),
        ("multiply", 0.0, "one positive number"),
        ("divide", -1.0, "one positive number"),
        ("divide", [1.0, 2.0], "one positive number"),
        ("multiply", "wide", "finite numbers"),
        ("multiply", [[1.0], [1.0, 2.0]], "finite numbers"),
        ("multiply", {"s": 1.0}, "finite numbers"),
        ("multiply", 10**400, "finite numbers"),
        ("add", [1.0, 2.0], "three numbers"),
        ("rotate", np.zeros((5000, 5000)), "a rotation of 3×3 numbers"),
        ("subtract", [], "three numbers"),
    ],
)
def test_what_is_no_similarity_is_refused(do: str, values: Any, fault: str) -> None:
    with pytest.raises(FormatError, match=fault) as caught:
        step_matrix(do, values, Path("x.npy"))
    assert caught.value.code is Code.COMPANION


def source(tmp_path: Path, steps: list[dict[str, Any]], **changes: Any) -> Path:
    """Files of two subjects, 40 to 50 mm in size once moved, called as those of `small_build`."""
    transform = {"defined_by": "the makers' reader", "steps": steps}
    told = {"landmarks": "none", "limits": {"extent_mm": [30.0, 300.0]}, "metric": "recoverable"}
    write_registry(tmp_path, "lab", **{**told, "transform": transform, **changes})
    root = tmp_path / "lab"
    root.mkdir()
    return root


def write_scan(root: Path, stem: str, vertices: Array) -> None:
    rows = "".join(f"v {x:.9f} {y:.9f} {z:.9f}\n" for x, y, z in vertices)
    (root / f"{stem}.obj").write_text(rows + "f 1 2 3\nf 4 5 6\nf 7 8 9\n")


def write_own(root: Path, stem: str, s: float, rotation: Array = R, t: Array = T) -> None:
    for name, value in (("s", s), ("R", rotation), ("t", t)):
        np.save(root / f"{stem}_{name}.npy", value)


def write_table(root: Path, scales: dict[str, float]) -> None:
    found: dict[str, dict[str, Any]] = {}
    for stem, scale in scales.items():
        subject, expression = stem.split("_")
        rt = np.column_stack([R, T]).tolist()
        found.setdefault(subject, {})[expression] = [scale, rt]
    (root / "Rt.json").write_text(json.dumps(found))


def test_files_beside_a_scan_give_its_true_size_and_frame(tmp_path: Path) -> None:
    root = source(tmp_path, BACK)
    for stem, s in (("p1_neutral", S), ("p2_neutral", 2 * S)):
        write_scan(root, stem, s * POINTS @ R.T + T)
        write_own(root, stem, s)
    write_scan(root, "p3_neutral", POINTS)
    write_own(root, "p3_neutral", S)
    (root / "p3_neutral_R.npy").unlink()
    write_scan(root, "p3_smile", POINTS)
    write_own(root, "p3_smile", S, rotation=np.diag([1.0, 1.0, -1.0]))
    registry = load_registry(tmp_path / "lab.yaml")
    found = catalogue(registry, root)
    assert len(found.companions) == 3 * 4 - 1
    [row] = found.quarantined
    assert row.path.endswith("p3_neutral.obj")
    assert "its transform needs p3_neutral_R.npy, which is not there" in row.reason
    assert row.refusal.code is Code.COMPANION
    first, second, mirrored = found.records
    for record in (first, second):
        scan = read_record(record, registry)
        matrix = scan.source_to_canonical
        raw = np.loadtxt(record.path.open(), usecols=(1, 2, 3), max_rows=9)
        np.testing.assert_allclose(raw @ matrix[:3, :3].T + matrix[:3, 3], POINTS, atol=1e-4)
        assert "file × " in scan.unit_evidence and scan.unit_factor_mm == 1
    with pytest.raises(FacefoldError, match="determinant is -1") as caught:
        read_record(mirrored, registry)
    assert caught.value.code is Code.COMPANION and caught.value.stage == "read"


def test_a_table_gives_scale_then_motion(tmp_path: Path) -> None:
    root = source(tmp_path, TABLE, axes={"up": "+z", "forward": "-y"})
    for stem in ("p1_neutral", "p1_smile", "p2_neutral"):
        write_scan(root, stem, POINTS)
    write_table(root, {"p1_neutral": 0.5, "p1_smile": 0.75})
    registry = load_registry(tmp_path / "lab.yaml")
    found = catalogue(registry, root)
    [row] = found.quarantined
    assert "holds nothing at p2/neutral/0" in row.reason
    assert row.refusal.code is Code.COMPANION
    assert [len(record.transform) for record in found.records] == [2, 2]
    assert registry.axes is not None
    for record, scale in zip(found.records, (0.5, 0.75), strict=True):
        scan = read_record(record, registry)
        linear = scale * registry.axes.rotation() @ R
        np.testing.assert_allclose(scan.source_to_canonical[:3, :3], linear, atol=1e-9)
        turned = registry.axes.rotation() @ T
        np.testing.assert_allclose(scan.source_to_canonical[:3, 3], turned, atol=1e-9)


def test_a_row_of_a_text_table(tmp_path: Path) -> None:
    root = source(
        tmp_path, [{"multiply": "s.csv", "key": "{stem}/s"}, {"add": "t.csv", "key": "{stem}"}]
    )
    write_scan(root, "p1_neutral", POINTS)
    write_scan(root, "p2_neutral", POINTS)
    (root / "s.csv").write_text("scan,s\np1_neutral,0.5\np2_neutral,wide\n")
    (root / "t.csv").write_text("scan,x,y,z\np1_neutral,1,2,3.5\np2_neutral,1,2,3\n")
    found = catalogue(load_registry(tmp_path / "lab.yaml"), root)
    [record], [row] = found.records, found.quarantined
    assert record.transform == (
        TransformStep("multiply", (0.5,)),
        TransformStep("add", (1.0, 2.0, 3.5)),
    )
    assert "multiply: got wide at p2_neutral/s, expected finite numbers" in row.reason


def test_landmarks_move_with_their_scan(tmp_path: Path) -> None:
    own = matrix_of([TransformStep("multiply", (2.0,)), TransformStep("add", tuple(T))], tmp_path)
    head = stand_in()
    assert head.landmarks is not None
    marks = head.landmarks.positions(head.template_mm, head.faces)
    turned = np.linalg.inv(own)
    raw = RawScan(transform(turned, head.template_mm), head.faces)
    axes = Axes(up="+y", forward="+z")
    scan = normalise(
        raw,
        scan_id="a",
        unit="mm",
        axes=axes,
        landmarks=transform(turned, marks),
        scheme="ibug68",
        own=own,
    )
    assert scan.landmarks_mm is not None
    np.testing.assert_allclose(scan.landmarks_mm, marks, atol=1e-3)
    back = transform(scan.source_to_canonical, transform(turned, head.template_mm))
    np.testing.assert_allclose(back, head.template_mm, atol=1e-3)
    assert scan.unit_evidence.startswith("file × 2, ")


def test_a_motion_alone_is_no_factor(tmp_path: Path) -> None:
    root = source(tmp_path, [{"rotate": "{stem}_R.npy"}], metric=True)
    write_scan(root, "p1_neutral", POINTS)
    write_own(root, "p1_neutral", S)
    registry = load_registry(tmp_path / "lab.yaml")
    [record] = catalogue(registry, root).records
    assert "file ×" not in read_record(record, registry).unit_evidence


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


@pytest.mark.parametrize("steps", [BACK, TABLE], ids=["files", "table"])
def test_a_changed_transform_reads_exactly_its_scan_again(
    tmp_path: Path, model: FlameModel, steps: list[dict[str, Any]]
) -> None:
    root = source(tmp_path, steps)
    stems = ("p1_neutral", "p1_smile", "p2_neutral")
    for stem in stems:
        write_scan(root, stem, POINTS)
        write_own(root, stem, S)
    write_table(root, dict.fromkeys(stems, 0.5))
    if steps is TABLE:
        for path in root.glob("*.npy"):
            path.unlink()
    config = build_of(tmp_path, "lab")

    def keys() -> dict[str, str]:
        return {w.record.scan_id: w.keys.read for w in make_plan(config, model).works}

    before = keys()
    assert keys() == before and len(before) == 3
    if steps is TABLE:
        write_table(root, {**dict.fromkeys(stems, 0.5), "p1_smile": 0.501})
    else:
        write_own(root, "p1_smile", 1.01 * S)
    after = keys()
    assert {scan for scan in before if before[scan] != after[scan]} == {"lab:p1_smile"}
    if steps is BACK:  # files of every scan's own are hashed once, and not opened again
        np.save(root / "p2_neutral_t.npy", T + 1)
        changed = keys()
        assert {scan for scan in after if after[scan] != changed[scan]} == {"lab:p2_neutral"}


def test_a_listed_file_of_its_own_that_cannot_be_opened_refuses_its_scan(tmp_path: Path) -> None:
    root = source(tmp_path, [{"divide": "{stem}_s.npy"}])
    write_scan(root, "p1_neutral", POINTS)
    write_scan(root, "p2_neutral", POINTS)
    np.save(root / "p1_neutral_s.npy", 2.0)
    (tmp_path / "out.npy").write_bytes(b"")
    (root / "p2_neutral_s.npy").symlink_to(tmp_path / "out.npy")
    found = catalogue(load_registry(tmp_path / "lab.yaml"), root)
    assert [record.subject for record in found.records] == ["p1"]
    reasons = {Path(row.path).name: row.reason for row in found.quarantined}
    assert "needs p2_neutral_s.npy" in reasons["p2_neutral.obj"]
    assert "out of the source's root" in reasons["p2_neutral_s.npy"]


def test_own_numbers_as_text_and_as_json(tmp_path: Path) -> None:
    (tmp_path / "R.txt").write_text("\n".join(" ".join(map(repr, row)) for row in R.tolist()))
    (tmp_path / "t.json").write_text(json.dumps(T.tolist()))
    steps = [TransformStep("add", path=tmp_path / "t.json")]
    steps.append(TransformStep("rotate", path=tmp_path / "R.txt"))
    matrix = matrix_of(steps, Path("x"))
    np.testing.assert_allclose(matrix[:3, :3] @ POINTS.T + matrix[:3, 3:], R @ (POINTS + T).T)
    for name in ("R.csv", "R.yaml", "lost.npy"):
        if name != "lost.npy":
            (tmp_path / name).write_text("1\n")
        with pytest.raises(FormatError):
            matrix_of([TransformStep("rotate", path=tmp_path / name)], Path("x"))


RULE = {"defined_by": "x", "steps": [{"divide": "{stem}.npy"}]}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"transform": RULE}, "transform: got a factor, expected none where metric is true"),
        ({"transform": RULE, "scale": {"factor": 2.0}, "metric": False}, "one of the two"),
        ({"transform": {"steps": [{"add": "t.npy"}]}}, "transform.defined_by: got nothing"),
        ({"transform": {**RULE, "steps": [{"turn": "t.npy"}]}}, "steps.0.turn: got an unknown"),
        ({"transform": {**RULE, "steps": [{"add": "t.npy", "rotate": "R.npy"}]}},
         f"one of {', '.join(OPERATIONS)}, and a file"),
        ({"transform": {**RULE, "steps": [{"key": "{subject}"}]}}, "and a file"),
        ({"transform": {**RULE, "steps": []}}, "transform.steps: got [], expected at least one"),
        ({"transform": {**RULE, "steps": [{"add": "{stam}.npy"}]}}, "transform.steps.0.add"),
        ({"transform": {**RULE, "steps": [{"add": "/t.npy"}]}}, "a path relative to the root"),
        ({"transform": {"defined_by": "x", "steps": [{"add": "t.npy"}]}, "metric": "recoverable"},
         "scale: got nothing, expected how true size is recovered"),
    ],
)  # fmt: skip
def test_transforms_that_cannot_be(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    write_registry(tmp_path, "lab", **changes)
    with pytest.raises(RegistryError) as caught:
        load_registry(tmp_path / "lab.yaml")
    assert fault in str(caught.value)


def test_a_motion_without_scale_keeps_true_size(tmp_path: Path) -> None:
    steps = [{"rigid_back": "{stem}.npy"}]
    write_registry(tmp_path, "lab", transform={"defined_by": "x", "steps": steps})
    assert load_registry(tmp_path / "lab.yaml").is_metric
