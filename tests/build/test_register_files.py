"""`facefold register`: meshes in the scans' own frames, reports for all, nothing overwritten."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import trimesh

from pipeline.build.register_files import BATCH, register_files, to_scan_frame
from pipeline.errors import RegistrationError
from pipeline.flame.lbs import pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.formats import read_scan
from pipeline.normalise import normalise
from pipeline.registration import RegistrationOptions
from pipeline.registry import Axes
from pipeline.synthetic import accuracy, load_truth, write_sources
from pipeline.types import Array, RawScan
from tests.flows.conftest import facefold_in_process

PATTERN = "{stem}_lmk.npy"
RIGID = RegistrationOptions(method="rigid", model_iterations=2, modes=1)
TURNED = {"metres": ("synth_ply", 1000.0), "centimetres": ("synth_cm", 10.0)}
"""Scans that are not in canonical axes: source and millimetres in one unit."""
NAMES = ("metres", "cut", "centimetres", "unmarked", "miscounted", "ball")


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


class Scans(NamedTuple):
    written: Path
    """Where the synthetic sources and their truth are."""
    folder: Path
    """Scans as a user has them, landmarks beside them."""
    stems: dict[str, str]
    """Name here -> name of the truth."""

    def path(self, name: str) -> Path:
        return next(p for p in self.folder.glob(f"{name}.*"))

    def error(self, name: str, vertices: Array, model: FlameModel) -> dict[str, float]:
        """Distance in mm of (V,3) to the truth in the file's own frame times the unit factor."""
        source, unit_mm = TURNED[name]
        truth = load_truth(self.written, source, self.stems[name])
        return accuracy(vertices, truth, model, np.diag([unit_mm, unit_mm, unit_mm, 1.0]))


@pytest.fixture(scope="module")
def scans(model: FlameModel, tmp_path_factory: pytest.TempPathFactory) -> Scans:
    out = tmp_path_factory.mktemp("register")
    write_sources(out, scans=24, model=model)
    folder = out / "scans"
    folder.mkdir()
    sources, stems = out / "sources", {}
    for name, pattern in (
        ("metres", "synth_ply/s01/session_1/neutral_*.ply"),
        ("cut", "synth_ply/s01/session_2/smile_*.ply"),
        ("centimetres", "synth_cm/subjects/00001/*.obj"),
        ("unmarked", "synth_ply/s02/session_1/smile_*.ply"),
        ("miscounted", "synth_ply/s02/session_1/smile_*.ply"),
    ):
        [path] = sources.glob(pattern)
        shutil.copy(path, folder / f"{name}{path.suffix}")
        stems[name] = path.relative_to(sources).with_suffix("").as_posix().split("/", 1)[1]
    ball = 100 * trimesh.creation.icosphere(subdivisions=4).vertices
    shape = trimesh.Trimesh(ball, trimesh.creation.icosphere(subdivisions=4).faces, process=False)
    shape.export(folder / "ball.ply")
    [points] = sources.glob("synth_ply/s01/session_1/neutral_*_lmk.npy")
    shutil.copy(points, folder / "metres_lmk.npy")
    [indices] = sources.glob("synth_cm/subjects/00001/ldmks*.txt")
    np.save(folder / "centimetres_lmk.npy", np.loadtxt(indices, dtype=np.int64) - 1)
    np.save(folder / "miscounted_lmk.npy", np.zeros((5, 3)))
    np.save(folder / "ball_lmk.npy", np.concatenate([ball[:1], np.full((50, 3), np.nan)]))
    return Scans(out, folder, stems)


class Run(NamedTuple):
    reports: dict[str, dict[str, Any]]
    out: Path


@pytest.fixture(scope="module")
def run(scans: Scans, model: FlameModel, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All scans in one call, whose folder holds meshes of an earlier one."""
    out = tmp_path_factory.mktemp("registered")
    for stem in NAMES:
        (out / f"{stem}.ply").write_bytes(b"of an earlier run")
    paths = [scans.path(name) for name in NAMES]
    reports = register_files(paths, out, model, landmarks=PATTERN, device="cpu")
    assert [report["scan"] for report in reports] == [str(path) for path in paths]
    return Run(dict(zip(NAMES, reports, strict=True)), out)


def strict_json(path: Path) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.mark.parametrize("name", TURNED)
def test_meshes_lie_on_the_truth_in_the_scans_own_frame(
    run: Run, scans: Scans, model: FlameModel, name: str
) -> None:
    mesh = read_scan(run.out / f"{name}.ply", "ply")
    assert mesh.vertices.shape == (5023, 3)
    np.testing.assert_array_equal(mesh.faces, model.faces)
    # vertex by vertex: order, unit, axes and place are all right
    assert scans.error(name, mesh.vertices, model)["mean_mm"] < 1.5


def test_some_landmarks_were_missing(scans: Scans) -> None:
    points = np.load(scans.folder / "metres_lmk.npy")
    assert 3 <= np.isnan(points).any(axis=1).sum() < len(points) == 51


@pytest.mark.parametrize("name", TURNED)
def test_reports_of_registered_scans(run: Run, scans: Scans, model: FlameModel, name: str) -> None:
    report = strict_json(run.out / f"{name}.json")
    assert report == json.loads(json.dumps(run.reports[name]))
    assert report["status"] in ("converged", "iteration limit")
    assert (report["stage"], report["reason"]) == ("", "")
    assert report["mesh"] == str(run.out / f"{name}.ply")
    assert (report["unit"], report["unit_factor_mm"]) == {
        "metres": ("m", 1000.0),
        "centimetres": ("cm", 10.0),
    }[name]
    assert f"only {report['unit']} fits: outer eye corners" in report["unit_evidence"]
    assert report["landmark_scheme"] == {"metres": "ibug51", "centimetres": "ibug68"}[name]
    assert report["model"] == {"name": "stand-in", "digest": model.digest, "is_stand_in": True}
    assert set(report["timings_s"]) == {"read", "register", "quality"}
    assert all(seconds > 0 for seconds in report["timings_s"].values())
    quality = report["quality"]
    assert quality["verdict"] in ("accept", "review")
    assert quality["scan_to_mesh_mm"]["face"]["median"] < 1.0
    assert quality["landmark_error_mm"] < 6 and 75 < quality["outer_eye_mm"] < 112


@pytest.mark.parametrize("name", TURNED)
def test_parameters_pose_the_model_onto_the_mesh(run: Run, model: FlameModel, name: str) -> None:
    parameters = run.reports[name]["parameters"]
    sizes = {"shape": 300, "expression": 100, "pose": 15, "translation_mm": 3}
    assert {key: len(values) for key, values in parameters.items()} == sizes
    posed = pose_vertices(
        to_tensors(model), *(torch.tensor(parameters[key])[None] for key in sizes)
    )[0].numpy()
    mesh = read_scan(run.out / f"{name}.ply", "ply")
    face = model.regions["face"]
    assert np.median(np.linalg.norm(posed - mesh.vertices, axis=1)[face]) < 3.0


@pytest.mark.parametrize(
    ("name", "stage", "word"),
    [
        ("cut", "read", "cut off"),
        ("unmarked", "landmarks", "unmarked_lmk.npy: cannot be read: No such file"),
        ("miscounted", "landmarks", "no landmark scheme has 5 points"),
    ],
)
def test_a_scan_that_fails_says_why_and_has_no_mesh(
    run: Run, name: str, stage: str, word: str
) -> None:
    report = strict_json(run.out / f"{name}.json")
    assert (report["status"], report["stage"], report["mesh"]) == ("failed", stage, None)
    assert word in report["reason"]
    assert report["parameters"] is None and report["quality"] is None
    assert set(report) == set(run.reports["metres"])
    assert not (run.out / f"{name}.ply").exists()


def test_what_is_no_face_has_no_mesh(run: Run) -> None:
    report = strict_json(run.out / "ball.json")
    assert report["status"] == "failed" and report["stage"] in ("register", "quality")
    assert report["reason"] and report["unit_factor_mm"] == 1.0
    assert not (run.out / "ball.ply").exists()


def test_a_rejected_registration_shows_its_figures_and_has_no_mesh(
    scans: Scans, model: FlameModel, tmp_path: Path
) -> None:
    # landmarks place the template, so that no search refuses the ball; the gates have to
    assert model.landmarks is not None
    places = model.landmarks.positions(model.template_mm, model.faces)
    points = np.full((68, 3), np.nan)
    points[model.landmarks.indices_68] = places - model.template_mm.mean(axis=0)
    points *= 100 / np.linalg.norm(points, axis=1, keepdims=True)
    points[[36, 45]] = np.nan
    marks = tmp_path / "marks.npy"
    np.save(marks, points)
    lenient = replace(RIGID, max_median_mm=1000.0, valid_distance_mm=1000.0)
    [report] = register_files(
        [scans.path("ball")], tmp_path, model, landmarks=str(marks), options=lenient
    )
    assert (report["status"], report["stage"]) == ("failed", "quality")
    assert report["quality"]["verdict"] == "reject"
    assert report["reason"] == "; ".join(report["quality"]["reasons"])
    assert report["mesh"] is None and report["parameters"] is None
    assert not (tmp_path / "ball.ply").exists()


def test_the_frame_of_a_turned_scan_is_found_again() -> None:
    random = np.random.default_rng(0)
    ball = trimesh.creation.icosphere(subdivisions=2)
    vertices = ball.vertices * [0.1, 0.12, 0.09] + random.normal(0.0, 0.1, 3)
    scan = normalise(
        RawScan(vertices.astype(np.float32), ball.faces),
        scan_id="turned",
        unit="m",
        axes=Axes(up="+z", forward="+x", rotation_deg=({"y": 20.0}, {"z": -35.0})),
    )
    own = to_scan_frame(scan.vertices_mm, scan)
    assert own.dtype == np.float64
    np.testing.assert_allclose(np.sort(own, 0), np.sort(1000 * vertices, 0), atol=1e-3)
    shift = np.eye(4)
    shift[:3, 3] = [10.0, -20.0, 30.0]
    moved = replace(scan, source_to_canonical=shift @ scan.source_to_canonical)
    np.testing.assert_allclose(
        to_scan_frame(scan.vertices_mm + shift[:3, 3], moved), own, atol=1e-3
    )


def test_what_cannot_be_measured_is_null(scans: Scans, model: FlameModel, tmp_path: Path) -> None:
    unmarked = replace(model, landmarks=None)
    [report] = register_files([scans.path("metres")], tmp_path, unmarked, unit="m", options=RIGID)
    assert report["quality"]["outer_eye_mm"] is None
    assert strict_json(tmp_path / "metres.json")["quality"] == json.loads(
        json.dumps(report["quality"])
    )


def test_more_scans_than_a_batch_keep_their_order(model: FlameModel, tmp_path: Path) -> None:
    paths = [tmp_path / f"gone_{i}.obj" for i in range(BATCH + 1)]
    reports = register_files(paths, tmp_path / "out", model, options=RIGID)
    assert [report["scan"] for report in reports] == list(map(str, paths))
    assert {report["stage"] for report in reports} == {"read"}
    assert len(list((tmp_path / "out").glob("*.json"))) == BATCH + 1


def test_both_parts_of_a_double_suffix_go(model: FlameModel, tmp_path: Path) -> None:
    path = tmp_path / "04201d01.abs.gz"
    path.write_bytes(b"no gzip")
    out = tmp_path / "out"
    [report] = register_files([path], out, model, landmarks=PATTERN, options=RIGID)
    assert report["stage"] == "read" and (out / "04201d01.json").is_file()


@pytest.mark.parametrize(
    ("names", "arguments", "word"),
    [
        (("a/x.obj", "b/x.obj"), {}, "several scans are called x and would overwrite"),
        (("x.obj", "x.abs.gz"), {}, "several scans are called x and would overwrite"),
        (("x.obj",), {"scheme": "ibug67"}, "scheme 'ibug67': expected one of ibug68, ibug51"),
        (("x.obj", "y.obj"), {"landmarks": "z.npy"}, "z.npy names one file for 2 scans"),
    ],
    ids=["one stem", "one stem, two formats", "scheme", "landmarks"],
)
def test_wrong_calls_write_nothing(
    model: FlameModel,
    tmp_path: Path,
    names: tuple[str, ...],
    arguments: dict[str, str],
    word: str,
) -> None:
    with pytest.raises(RegistrationError, match=word):
        register_files([tmp_path / n for n in names], tmp_path / "out", model, **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spelt", [lambda p: p, lambda p: p / ".." / p.name], ids=["", "detour"])
def test_a_mesh_never_overwrites_its_scan(
    model: FlameModel, tmp_path: Path, spelt: Callable[[Path], Path]
) -> None:
    scan = tmp_path / "head.ply"
    scan.write_bytes(b"the only copy")
    with pytest.raises(RegistrationError, match=r"overwrite the scan itself.*head\.ply.*--out"):
        register_files([scan], spelt(tmp_path), model)
    assert scan.read_bytes() == b"the only copy"
    assert list(tmp_path.iterdir()) == [scan]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_a_wrong_call(model: FlameModel, tmp_path: Path) -> None:
    with pytest.raises(RegistrationError, match="device cuda"):
        register_files([tmp_path / "x.obj"], tmp_path / "out", model, device="cuda")


def test_the_command_registers_a_scan(scans: Scans, model: FlameModel, tmp_path: Path) -> None:
    # the landmark file is one for one scan, found beside it
    arguments = ("--unit", "m", "--landmarks", "metres_lmk.npy", "--scheme", "ibug51", "--json")
    done = facefold_in_process("register", scans.path("metres"), "--out", tmp_path, *arguments)
    [report] = done.json
    assert report == strict_json(tmp_path / "metres.json")
    mesh = read_scan(Path(report["mesh"]), "ply")
    assert scans.error("metres", mesh.vertices, model)["mean_mm"] < 1.5


def test_the_command_tells_failed_scans_by_its_status(scans: Scans, tmp_path: Path) -> None:
    done = facefold_in_process("register", scans.path("cut"), "--out", tmp_path, "--json")
    assert done.status == 3, done.stderr
    [report] = json.loads(done.stdout)
    assert report["stage"] == "read" and strict_json(tmp_path / "cut.json") == report


def test_the_command_tells_wrong_use_by_its_status(scans: Scans, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for arguments, word in (
        ((scans.path("cut"),), "--out"),
        ((scans.path("cut"), "--out", out, "--unit", "furlong"), "furlong"),
        ((scans.path("cut"), "--out", scans.folder), "overwrite the scan itself"),
    ):
        done = facefold_in_process("register", *arguments)
        assert done.status == 2
        assert word in done.stderr and "Traceback" not in done.stderr
    assert not out.exists()
