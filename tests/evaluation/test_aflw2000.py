from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FacefoldError
from pipeline.evaluation.aflw2000 import AFLW2000, BINS
from pipeline.evaluation.benchmark import AS_PUBLISHED, STRICT, Given, Row
from pipeline.evaluation.faults import KINDS
from pipeline.evaluation.image_points import errors_percent
from pipeline.flame.stand_in import stand_in
from pipeline.landmarks.schemes import SCHEMES
from pipeline.types import Array
from tests.evaluation import miniature_aflw2000 as miniature
from tests.evaluation.commanding import evaluate, row
from tests.evaluation.commanding import kinds as kinds_of
from tests.evaluation.scenes import stand_in_scene


def given_of(folder: Path, **choices: str) -> Given:
    known = {"frame": "image", "yaw": "", **choices}
    return Given(folder / "aflw", folder / "predicted", stand_in(), "mm", choices=known)


def written(folder: Path, name: str = "near", **options: object) -> Given:
    given = given_of(folder)
    miniature.write(
        given.root, given.predictions, miniature.photos(stand_in_scene(), name), **options
    )
    return given


def rows_of(given: Given, mean: bool = False) -> dict[tuple[str, str, str], Row]:
    """(mode, variant, group) -> row of what was delivered, or of the mean head."""
    pairs = []
    for case in AFLW2000.cases(given).cases:
        if mean or case.prediction is not None:
            read = AFLW2000.mean_head if mean else AFLW2000.read
            pairs.append((case, AFLW2000.score(case, read(case, given), given)))
    return {(row.mode, row.variant, row.group): row for row in AFLW2000.rows(pairs)}


def kinds(given: Given) -> list[str]:
    found = AFLW2000.cases(given).findings
    assert {finding.kind for finding in found} <= set(KINDS)
    return [finding.kind for finding in found if finding.kind != "another_set"]


@pytest.mark.oracles
@pytest.mark.parametrize("frame", ["image", "crop"])
def test_errors_and_bins_are_the_authors(oracles: Path, tmp_path: Path, frame: str) -> None:
    photos = miniature.oracle_photos(oracles)
    with np.load(oracles / "aflw_nme.npz") as found:
        known = dict(found)
    if frame == "crop":
        photos = replace(photos, predicted=known["fit_points_crop"])
    given = given_of(tmp_path, frame=frame)
    miniature.write(given.root, given.predictions, photos)
    assert kinds(given) == []
    cases = AFLW2000.cases(given).cases
    scored = [(case, AFLW2000.score(case, AFLW2000.read(case, given), given)) for case in cases]
    for mode, of_image, of_bins in (
        ("2d", known["nme_ori"], known["bins_ori"]),
        ("reannotated", known["nme_re"], known["bins_re"]),
    ):
        own = [s for _, scores in scored for s in scores if (s.mode, s.variant) == (mode, STRICT)]
        errors = [score.figures["nme_percent"] for score in own]
        np.testing.assert_allclose(errors, 100 * of_image, rtol=1e-5)
        np.testing.assert_allclose([s.distances.mean() for s in own], errors, rtol=1e-5)
        rows = {(r.variant, r.group): r for r in AFLW2000.rows(scored) if r.mode == mode}
        whole = rows[AS_PUBLISHED, ""].figures
        bins = [row.figures["mean_percent"] for (v, g), row in rows.items() if g and v == STRICT]
        np.testing.assert_allclose(bins, of_bins[:3], rtol=1e-5)
        np.testing.assert_allclose([*whole.values()], of_bins[3:], rtol=1e-5)
        strict = rows[STRICT, ""].figures["mean_percent"]
        np.testing.assert_allclose(strict, 100 * of_image.mean(), rtol=1e-5)


@pytest.mark.oracles
@pytest.mark.parametrize(
    ("frame", "given"), [("image", "fit_points_image"), ("crop", "fit_points_crop")]
)
def test_the_command_prints_the_authors_figures(
    oracles: Path, tmp_path: Path, frame: str, given: str
) -> None:
    with np.load(oracles / "aflw_nme.npz") as found:
        known = dict(found)
    photos = replace(miniature.oracle_photos(oracles), predicted=known[given])
    root, predictions = tmp_path / "aflw", tmp_path / "predicted"
    miniature.write(root, predictions, photos)
    options = ("--choose", f"frame={frame}", "--workers", "1")
    result = evaluate("aflw2000", root, predictions, tmp_path / "out", *options)
    assert result["status"] == 0
    assert kinds_of(result) == {"another_set"}
    for mode, bins in (("2d", known["bins_ori"]), ("reannotated", known["bins_re"])):
        groups = [row(result, mode, STRICT, group=name) for _, name in BINS]
        np.testing.assert_allclose([g["mean_percent"] for g in groups], bins[:3], rtol=1e-5)
        whole = row(result, mode, AS_PUBLISHED)
        figures = [whole["mean_percent"], whole["std_percent"]]
        np.testing.assert_allclose(figures, bins[3:], rtol=1e-5)


def test_the_command_names_what_is_wrong_and_what_is_missing(tmp_path: Path) -> None:
    given = written(tmp_path, spoilt=lambda p: [[450], [0]] + p * [[-1], [1]])
    (given.predictions / "image00003.npy").unlink()
    (given.predictions / "image00004.npy").write_bytes(b"no array")
    options = ("--workers", "1")
    result = evaluate("aflw2000", given.root, given.predictions, tmp_path / "out", *options)
    assert result["status"] == 3
    assert {"mirrored", "missing", "not_scored"} <= kinds_of(result)
    assert row(result, "2d", AS_PUBLISHED)["n"] == 4
    assert row(result, "2d", STRICT)["n"] == 6
    assert row(result, "2d", STRICT, of="mean head")["mean_percent"] < 10


def test_the_truth_has_no_error_in_either_delivery(tmp_path: Path) -> None:
    photos = miniature.photos(stand_in_scene(), "truth")
    for folder, write in (("a", miniature.write), ("b", miniature.write_mats)):
        given = given_of(tmp_path / folder)
        write(given.root, given.predictions, photos)
        whole = rows_of(given)["2d", STRICT, ""]
        assert whole.n == len(miniature.YAWS_DEG)
        assert whole.figures["mean_percent"] == pytest.approx(0, abs=1e-4)


def test_both_deliveries_have_the_same_bins_and_errors(tmp_path: Path) -> None:
    photos = miniature.photos(stand_in_scene())
    found = []
    for folder, write in (("a", miniature.write), ("b", miniature.write_mats)):
        given = given_of(tmp_path / folder)
        write(given.root, given.predictions, photos)
        found.append({k: r for k, r in rows_of(given).items() if k[0] == "2d"})
    listed, mats = found
    assert list(listed) == list(mats)
    for key, own in listed.items():
        assert own.n == (2 if key[2] else 6)
        assert own.figures == pytest.approx(mats[key].figures, rel=1e-4)
    modes = {mode for mode, _, _ in rows_of(given_of(tmp_path / "a"))}
    assert modes == {"2d", "reannotated"}


def test_bins_weigh_alike_as_published_and_images_alike_strictly(tmp_path: Path) -> None:
    given = written(tmp_path)
    folder = given.root / "test.configs"
    np.save(folder / "AFLW2000-3D.pose.npy", np.array([0, 1, 2, 3, 45, 90.0]))
    rows = rows_of(given)
    groups = [rows["2d", STRICT, group] for _, _, group in list(rows)[1:4]]
    means = [row.figures["mean_percent"] for row in groups]
    assert [row.n for row in groups] == [4, 1, 1]
    published, strict = rows["2d", AS_PUBLISHED, ""].figures, rows["2d", STRICT, ""].figures
    assert published["mean_percent"] == pytest.approx(np.mean(means))
    assert published["std_percent"] == pytest.approx(np.std(means))
    assert strict["mean_percent"] == pytest.approx(np.average(means, weights=[4, 1, 1]))


def test_yaws_may_be_the_users(tmp_path: Path) -> None:
    given = written(tmp_path)
    path = tmp_path / "labels.txt"
    path.write_text("0\n0\n0\n0\n0\n-80\n")
    labelled = given_of(tmp_path, yaw=str(path))
    assert [case.group for case in AFLW2000.cases(labelled).cases[-2:]] == [
        "yaw to 30°",
        "yaw beyond 60°",
    ]
    path.write_text("0\n0\n0\n")
    with pytest.raises(FacefoldError, match="3 finite yaws, expected 6"):
        AFLW2000.cases(labelled)
    assert AFLW2000.cases(given).cases[-2].group == "yaw beyond 60°"


def crop_of_all(folder: Path) -> Given:
    """Points of the crop, which nobody declared so."""
    photos = miniature.photos(stand_in_scene())
    given = given_of(folder)
    miniature.write(given.root, given.predictions, replace(photos, predicted=photos.in_crop))
    return given


def test_crop_coordinates_are_recognised(tmp_path: Path) -> None:
    given = crop_of_all(tmp_path)
    assert kinds(given) == ["image_points"]
    assert "of the crop" in AFLW2000.cases(given).findings[-1].said
    declared = given_of(tmp_path, frame="crop")
    assert kinds(declared) == []
    whole = rows_of(declared)["2d", STRICT, ""].figures
    in_image = rows_of(written(tmp_path / "b"))["2d", STRICT, ""].figures
    assert whole == pytest.approx(in_image, rel=1e-5)


MIRROR = SCHEMES["ibug68"].mirror
SIZE = np.array([[450.0], [450.0]])


@pytest.mark.parametrize(
    ("spoilt", "kind", "said"),
    [
        (lambda p: [[450], [0]] + p * [[-1], [1]], "mirrored", "x to the left"),
        (lambda p: ([[450], [0]] + p * [[-1], [1]])[:, MIRROR], "mirrored", "swapped"),
        (lambda p: [[0], [450]] + p * [[1], [-1]], "image_points", "y upwards"),
        (lambda p: p[:, MIRROR], "landmark_order", "left and right swapped"),
        (lambda p: p[:, ::-1], "landmark_order", "from the last to the first"),
        (lambda p: np.roll(p, 1, axis=1), "landmark_order", "one row further"),
        (lambda p: 1.1 * p, "scaled", "multiplied by 0.9"),
        (lambda p: 10 * p, "image_points", "multiplied by 0.1"),
        (lambda p: 1000 * p, "image_points", "multiplied by 0.001"),
        (lambda p: 2 * p / SIZE - 1, "image_points", "multiplied by 2"),
    ],
)
def test_what_is_wrong_with_all_points_is_named(
    tmp_path: Path, spoilt: Callable[[Array], Array], kind: str, said: str
) -> None:
    given = written(tmp_path, spoilt=spoilt)
    assert kinds(given) == [kind]
    assert said in AFLW2000.cases(given).findings[-1].said


@pytest.mark.parametrize("name", ["truth", "mean", "near"])
def test_good_points_raise_no_alarm(tmp_path: Path, name: str) -> None:
    given = written(tmp_path, name)
    assert kinds(given) == []
    rough = lambda p: p + np.random.default_rng(0).normal(0, 8, p.shape)  # noqa: E731
    assert kinds(written(tmp_path / "rough", name, spoilt=rough)) == []


def test_the_mean_heads_row_is_of_its_shape(tmp_path: Path) -> None:
    given = written(tmp_path, "truth")
    mean = rows_of(given, mean=True)["2d", STRICT, ""].figures["mean_percent"]
    photos = miniature.photos(stand_in_scene(), "mean")
    true = photos.truth[:, :2].swapaxes(1, 2)
    in_true_pose = errors_percent(photos.predicted.swapaxes(1, 2), true).mean()
    assert 0.5 < mean < in_true_pose + 0.2


def test_what_is_missing_or_unasked_is_listed(tmp_path: Path) -> None:
    given = written(tmp_path)
    (given.predictions / "image00003.npy").unlink()
    (given.predictions / "image99999.npy").touch()
    cases, findings, extra = AFLW2000.cases(given)
    assert [case.id for case in cases if case.prediction is None] == ["image00003"]
    assert [path.name for path in extra] == ["image99999.npy"]
    assert [finding.kind for finding in findings] == ["another_set"]
    assert "6 images (2, 2, 2 in the bins of yaw), expected 2000" in findings[0].said
    assert rows_of(given)["2d", STRICT, ""].n == 5


def test_a_root_of_another_kind_is_refused(tmp_path: Path) -> None:
    given = given_of(tmp_path)
    given.root.mkdir()
    with pytest.raises(FacefoldError, match=r"no test\.configs/AFLW2000-3D_crop\.list"):
        AFLW2000.cases(given)
    written(tmp_path)
    folder = given.root / "test.configs"
    np.save(folder / "AFLW2000-3D.pose.npy", np.zeros(5))
    with pytest.raises(FacefoldError, match=r"crop\.list 6, AFLW2000-3D\.pose\.npy 5"):
        AFLW2000.cases(given)
    written(tmp_path)
    for path in folder.glob("*pts68.npy"):
        path.unlink()
    with pytest.raises(FacefoldError, match=r"neither AFLW2000-3D.pts68.npy"):
        AFLW2000.cases(given)


def test_mats_without_points_and_crops_without_boxes_are_refused(tmp_path: Path) -> None:
    given = given_of(tmp_path, frame="crop")
    photos = miniature.photos(stand_in_scene())
    [name, *_] = miniature.write_mats(given.root, given.predictions, photos)
    case = AFLW2000.cases(given).cases[0]
    with pytest.raises(FacefoldError, match=r"frame=crop: .* has no AFLW2000-3D_crop.roi_box"):
        AFLW2000.read(case, given)
    path = given.root / "AFLW2000" / f"{name}.mat"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(FacefoldError, match=name):
        AFLW2000.cases(given)
