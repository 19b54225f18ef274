"""What scores are kept by, what stops nothing, and what alignment hides."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FacefoldError, StoreError
from pipeline.evaluation import scoring
from pipeline.evaluation.benchmark import AS_PUBLISHED, STRICT, Case, Finding, Given, Score
from pipeline.evaluation.kept_scores import Kept, kept_path, load_kept, save_kept
from pipeline.evaluation.scoring import (
    Work,
    aligned_away,
    make_scores,
    opened_digests,
    scored,
    scoring_code,
    unscored,
    with_choices,
    works_of,
)
from pipeline.flame.stand_in import stand_in
from tests.evaluation import spheres
from tests.evaluation.spheres import SPHERES

ASKED = ("p0/a0", "p0/a1", "p1/a0")
RADII_MM = {"p0": 100.0, "p1": 110.0}


@pytest.fixture
def given(tmp_path: Path) -> Given:
    spheres.write(tmp_path / "root", tmp_path / "predictions", RADII_MM, ASKED)
    return Given(
        tmp_path / "root",
        tmp_path / "predictions",
        stand_in(),
        "mm",
        choices={"poles": "with"},
    )


def works(given: Given, code: str = "code") -> list[Work]:
    cases = spheres.cases(given).cases
    digests = opened_digests(cases, given, given.root / "digests.sqlite")
    return works_of(cases, given, code, digests)


def test_predictions_of_one_truth_share_the_mean_head(given: Given) -> None:
    a, b, other = works(given)
    assert len({a.key, b.key, other.key}) == 3
    assert a.mean_key == b.mean_key != other.mean_key


def other_prediction(given: Given) -> Given:
    spheres.predict(given.predictions, "p0/a0", 99.0)
    return given


def other_landmarks(given: Given) -> Given:
    (given.predictions / "p0" / "a0.txt").write_text("1 2 3\n" * 7)
    return given


def other_truth(given: Given) -> Given:
    (given.root / "p0.txt").write_text("101")
    return given


def other_model(given: Given) -> Given:
    return replace(given, model=replace(given.model, template_mm=given.model.template_mm + 1))


def test_a_key_follows_all_that_a_score_depends_on(given: Given) -> None:
    before = works(given)
    assert works(given) == before
    assert works(given, "other code")[0].key != before[0].key
    assert works(replace(given, unit="cm"))[0].key != before[0].key
    assert works(replace(given, choices={"poles": "without"}))[0].key != before[0].key
    changes: list[Callable[[Given], Given]] = [
        other_model,
        other_landmarks,
        other_prediction,
        other_truth,
    ]
    for change in changes:
        after = works(change(given))
        assert after[0].key != before[0].key, change
        assert (after[2].key == before[2].key) == (change is not other_model), change
        before = works(given)


def test_a_file_that_is_chosen_counts_by_its_content(given: Given) -> None:
    chosen = given.root / "chosen.txt"
    chosen.write_text("1")
    named = replace(given, choices={"poles": str(chosen)})
    before = works(named)[0]
    chosen.write_text("2")
    assert works(named)[0].key != before.key and works(named)[0].mean_key != before.mean_key


def test_what_is_kept_comes_back_as_it_was(tmp_path: Path) -> None:
    surface = np.arange(12.0).reshape(4, 3)
    distances = np.array([0.1, np.nan, np.inf, 3], np.float32)
    faces = np.array([[0, 1, 2], [1, 2, 3]])
    kept = Kept(
        (
            Score("metric", STRICT, distances, "nose", {"rmse_mm": 1.25}, surface, faces),
            Score("metric", AS_PUBLISHED, distances[:2]),
        ),
        (Finding("mirrored", "said", "a/b", {"determinant": -1.0}),),
        "",
        1.5,
    )
    assert load_kept(tmp_path, "ab12") is None
    save_kept(tmp_path, "ab12", kept)
    found = load_kept(tmp_path, "ab12")
    assert found is not None and found.findings == kept.findings and found.seconds == 1.5
    first, second = found.scores
    assert (first.mode, first.variant, first.part) == ("metric", STRICT, "nose")
    assert first.figures == {"rmse_mm": 1.25}
    np.testing.assert_array_equal(first.distances, distances)
    np.testing.assert_array_equal(first.vertices_mm, surface)
    np.testing.assert_array_equal(first.faces, faces)
    assert second.vertices_mm is None and second.faces is None
    save_kept(tmp_path, "cd34", kept)
    assert len([*tmp_path.glob("surfaces/*")]) == 1, "predictions of a person share the truth's"


def test_a_damaged_file_is_made_again(given: Given, tmp_path: Path) -> None:
    work = works(given)[0]
    make_scores(work, SPHERES, given, tmp_path)
    assert unscored([work], tmp_path) == []
    for key in (work.key, work.mean_key):
        whole = kept_path(tmp_path, key).read_bytes()
        kept_path(tmp_path, key).write_bytes(whole[:-3] + b"abc")
        assert unscored([work], tmp_path) == [work]
        make_scores(work, SPHERES, given, tmp_path)
        assert unscored([work], tmp_path) == []


def test_one_bad_prediction_stops_no_other_and_says_why(given: Given, tmp_path: Path) -> None:
    (given.predictions / "p0" / "a0.npy").write_text("no array")
    (given.predictions / "p0" / "a1.npy").unlink()
    all_works = works(given)
    for work in all_works:
        make_scores(work, SPHERES, given, tmp_path)
    assert unscored(all_works, tmp_path) == [], "a fault is kept as well"
    bad, gone, good = scored(all_works, tmp_path, {})
    assert bad.scores == gone.scores == () and len(good.scores) == 4
    assert [f.kind for f in bad.findings] == ["not_scored"]
    assert "a0.npy: no .npy file; save it by numpy.save" in bad.findings[0].said
    assert [f.kind for f in gone.findings] == ["missing"] and good.findings == ()
    assert len(bad.mean_head) == len(gone.mean_head) == 4, "the mean head is there to stand in"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_reported(given: Given, tmp_path: Path) -> None:
    (given.predictions / "p0" / "a0.npy").chmod(0)
    all_works = works(given)
    for work in all_works:
        make_scores(work, SPHERES, given, tmp_path)
    assert "Permission denied" in scored(all_works, tmp_path, {})[0].findings[0].said


def test_a_file_that_has_gone_is_reported(given: Given, tmp_path: Path) -> None:
    (given.root / "p1.txt").unlink()
    work = works(given)[2]
    assert work.key == "" and "p1.txt: No such file" in work.fault
    (found,) = scored([work], tmp_path, {})
    assert found.findings[0].kind == "not_scored" and "p1.txt" in found.findings[0].said


def test_a_full_disk_is_no_fault_of_a_prediction(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreError("no space left on device")

    monkeypatch.setattr(scoring, "save_kept", full)
    with pytest.raises(StoreError, match="no space left"):
        make_scores(works(given)[0], SPHERES, given, tmp_path)


def test_what_a_worker_lost_has_its_reason(given: Given, tmp_path: Path) -> None:
    (found, *_) = scored(works(given), tmp_path, {"p0/a0": "the workers died"})
    assert [(f.kind, f.said) for f in found.findings] == [("not_scored", "the workers died")]


CASE = Case("a", "a")


def named(mode: str, variant: str, scale: float, determinant: float = 1.0) -> Score:
    told = {"scale": scale, "determinant": determinant}
    return Score(mode, variant, np.zeros(3), figures=told)  # type: ignore[arg-type]


def test_a_hidden_scale_is_named() -> None:
    def kinds(*scores: Score) -> list[str]:
        return [f.kind for f in aligned_away(CASE, scores)]

    assert kinds(named("metric", STRICT, 1.0), named("aligned", STRICT, 1.009)) == []
    assert kinds(named("metric", STRICT, 1.0), named("aligned", STRICT, 1.011)) == ["scaled"]
    assert kinds(named("aligned", AS_PUBLISHED, 0.952)) == ["scaled"]
    (found,) = aligned_away(CASE, [named("aligned", STRICT, 1 / 1.05)])
    assert "0.952 times" in found.said and found.figures["scale"] == pytest.approx(0.952, abs=1e-3)
    assert kinds(Score("metric", STRICT, np.zeros(3))) == [], "without an alignment nothing is said"


def test_a_reflection_is_named_once() -> None:
    flipped = [named("aligned", AS_PUBLISHED, 1.0, -1.0), named("metric", AS_PUBLISHED, 1.0, -1.0)]
    (found,) = aligned_away(CASE, flipped)
    assert found.kind == "mirrored" and "mirror image" in found.said
    assert aligned_away(CASE, flipped, {"mirrored"}) == []


def test_the_size_of_a_mirror_image_is_what_its_reflection_shows() -> None:
    published = named("aligned", AS_PUBLISHED, 1.0, -1.0)
    badly_fitted = named("aligned", STRICT, 0.95)
    assert [f.kind for f in aligned_away(CASE, [published, badly_fitted])] == ["mirrored"]
    small = named("aligned", AS_PUBLISHED, 1.1, -1.0)
    assert [f.kind for f in aligned_away(CASE, [small])] == ["mirrored", "scaled"]


def test_choices_have_defaults_and_are_checked(given: Given) -> None:
    bare = replace(given, choices={})
    assert with_choices(SPHERES, bare).choices == {"poles": "with"}
    assert with_choices(SPHERES, replace(given, choices={"poles": "without"})).choices == {
        "poles": "without"
    }
    with pytest.raises(FacefoldError, match="poles=perhaps: expected one of with, without"):
        with_choices(SPHERES, replace(given, choices={"poles": "perhaps"}))
    with pytest.raises(FacefoldError, match="split=val: Spheres lets one choose poles"):
        with_choices(SPHERES, replace(given, choices={"split": "val"}))


def test_the_code_of_a_benchmark_counts() -> None:
    def elsewhere(case: Case, given: Given) -> Finding:
        raise NotImplementedError

    assert scoring_code(SPHERES) == scoring_code(replace(SPHERES, curve_limit=5.0))
    elsewhere.__module__ = "pipeline.evaluation.nonrigid"
    assert scoring_code(replace(SPHERES, read=elsewhere)) != scoring_code(SPHERES)  # type: ignore[arg-type]
