"""Views as a stage: what their keys cover, what the ledger has of them, what counts as made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.build.assembly import assembly_digest
from pipeline.build.config import BuildConfig
from pipeline.build.estimate import VIEW_BYTES, estimate
from pipeline.build.ledger import Result, open_ledger, record
from pipeline.build.plan import Plan, known_views, ledger_path, make_plan
from pipeline.build.result_files import ScanViews, embeddings_path, save_views, views_path
from pipeline.build.stages import Work
from pipeline.build.views import asked_for, counted, refused_views, without_views
from pipeline.build.withdrawal import find_person, record_person, remove_recorded
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.refusals import Code
from pipeline.types import Refusal
from tests.leaks import leaks
from tests.small_build import build_of, outcomes_of, write_source

FILES = ("p1_neutral.obj", "p2_neutral.obj", "p2_smile.obj")


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


def planned(folder: Path, model: FlameModel, **views: Any) -> tuple[BuildConfig, Plan]:
    build = views.pop("build", {})
    write_source(folder, "lab", *FILES, landmarks="none", views={"renders": 2, **views})
    config = build_of(folder, "lab", **build)
    return config, make_plan(config, model)


def made(config: BuildConfig, works: Sequence[Work], **refused: Refusal) -> None:
    """Results as the stage leaves them: two renders of each scan, none of the refused."""
    results = []
    for work in works:
        scan_id = work.record.scan_id
        rows = [{"view": f"render{i}", "kind": "render"} for i in range(2)]
        save_views(views_path(config.work, work.views), scan_id, {"images": np.zeros((2, 4))})
        results.append(Result(work.views, scan_id, None, {"rows": rows, "refused": []}))
    with open_ledger(ledger_path(config)) as ledger:
        record(ledger, results)


def test_no_views_are_asked_for_by_default(tmp_path: Path, model: FlameModel) -> None:
    config, plan = planned(tmp_path, model, renders=0)
    assert [work.views for work in plan.works] == [""] * 3
    assert known_views(config, plan.works) == {} and without_views(plan.works, {}) == []
    _, off = planned(tmp_path, model, build={"views": False})
    assert [work.views for work in off.works] == [""] * 3


def keys(plan: Plan) -> list[str]:
    return [work.views for work in plan.works]


def test_a_changed_camera_renders_again_and_registers_nothing(
    tmp_path: Path, model: FlameModel
) -> None:
    _, before = planned(tmp_path, model)
    assert len({*keys(before)}) == 3
    for change in (
        {"renders": 3},
        {"yaw_deg": [-10, 10]},
        {"distance_mm": [500, 600]},
        {"lights": "studio"},
        {"colours": False},
        {"build": {"views_seed": 1}},
    ):
        _, after = planned(tmp_path, model, **change)
        assert [work.keys for work in after.works] == [work.keys for work in before.works]
        assert {*keys(after)}.isdisjoint(keys(before)), change
    _, again = planned(tmp_path, model, build={"seed": 1})  # of the split
    assert keys(again) == keys(before)


def test_a_changed_texture_renders_again(tmp_path: Path, model: FlameModel) -> None:
    def works(**views: Any) -> tuple[Work, ...]:
        section = {"renders": 1, **views}
        write_source(
            tmp_path, "lab", *FILES, landmarks="none", images=["{stem}.png"], views=section
        )
        return make_plan(build_of(tmp_path, "lab"), model).works

    (tmp_path / "lab").mkdir()
    texture = tmp_path / "lab" / "p1_neutral.png"
    texture.write_text("a texture")
    before, grey = works(), works(colours=False)
    texture.write_text("another one")
    after, grey_after = works(), works(colours=False)
    assert [a.keys for a in after] == [b.keys for b in before]
    assert [a.views == b.views for a, b in zip(after, before, strict=True)] == [False, True, True]
    assert [a.views for a in grey_after] == [b.views for b in grey]  # its texture is not shown


def test_another_registration_is_seen_anew_and_another_gate_is_not(
    tmp_path: Path, model: FlameModel
) -> None:
    _, before = planned(tmp_path, model)
    _, judged = planned(tmp_path, model, build={"quality": {"relief": [0.1, 0.05]}})
    assert judged.works[0].keys.judge != before.works[0].keys.judge
    assert keys(judged) == keys(before)
    _, registered = planned(tmp_path, model, build={"registration": {"modes": 20}})
    assert {*keys(registered)}.isdisjoint(keys(before))


def test_views_of_a_rule_are_those_of_its_scans(tmp_path: Path, model: FlameModel) -> None:
    rule = {"where": {"expression": "smile"}, "reason": "faces move", "views": {"renders": 1}}
    write_source(tmp_path, "lab", *FILES, landmarks="none", rules=[rule])
    plan = make_plan(build_of(tmp_path, "lab"), model)
    registry = plan.sources[0].registry
    asked = {w.record.scan_id: asked_for(w.record, registry) for w in plan.works}
    assert asked == {"lab:p1_neutral": [], "lab:p2_neutral": [], "lab:p2_smile": ["render0"]}
    assert [bool(work.views) for work in plan.works] == [False, False, True]


def test_views_are_made_once_and_again_if_their_file_has_gone(
    tmp_path: Path, model: FlameModel
) -> None:
    config, plan = planned(tmp_path, model)
    assert without_views(plan.works, known_views(config, plan.works)) == list(plan.works)
    made(config, plan.works)
    known = known_views(config, plan.works)
    assert without_views(plan.works, known) == []
    assert known["lab:p1_neutral"].rows[1] == {"view": "render1", "kind": "render"}
    views_path(config.work, plan.works[0].views).unlink()
    assert without_views(plan.works, known_views(config, plan.works)) == [plan.works[0]]


def test_a_scan_that_ended_its_worker_keeps_a_refusal_a_view(
    tmp_path: Path, model: FlameModel
) -> None:
    config, plan = planned(tmp_path, model)
    lost, *others = plan.works
    made(config, others)
    source = plan.sources[0]
    slow = Refusal("worker", Code.TOO_SLOW, "took more than 1 s", {"limit_s": 1.0})
    result = refused_views(lost, source.registry, slow, source.catalogue.root)
    with open_ledger(ledger_path(config)) as ledger:
        record(ledger, [result])
    known = known_views(config, plan.works)
    assert without_views(plan.works, known) == []
    rows = known[lost.record.scan_id].refused
    assert [row["view"] for row in rows] == ["render0", "render1"]
    assert rows[0] == {
        "source": "lab",
        "scan_id": "lab:p1_neutral",
        "view": "render0",
        "path": None,
        "stage": "worker",
        "code": "too_slow",
        "reason": "took more than 1 s",
        "figures": '{"limit_s": 1.0}',
    }
    assert counted(known.values()) == {
        "made": 4,
        "kinds": {"render": 4},
        "refused": {"worker: too_slow": 2},
    }
    assert without_views(plan.works, known_views(config, plan.works, retry=True)) == [lost]


def test_refused_views_show_no_name_that_is_hidden(tmp_path: Path, model: FlameModel) -> None:
    hidden = {"pseudonyms": True}
    write_source(tmp_path, "lab", *FILES, landmarks="none", views={"renders": 1}, subjects=hidden)
    plan = make_plan(build_of(tmp_path, "lab"), model)
    source, work = plan.sources[0], plan.works[0]
    fault = Refusal("views", Code.DAMAGED, f"{work.record.path}: damaged", {"file": "p1"})
    result = refused_views(work, source.registry, fault, source.catalogue.root)
    [row] = result.summary["refused"]
    assert "p1" not in {*row.values()} and "p1_" not in str(row) and work.record.subject in str(row)
    assert row["code"] == "damaged" and row["reason"] == Code.DAMAGED.meaning


def test_views_of_a_person_who_withdraws_go(tmp_path: Path, model: FlameModel) -> None:
    config, plan = planned(tmp_path, model, build={"model": "stand-in"})
    outcomes_of(config, plan)
    made(config, plan.works)
    theirs, *others = plan.works
    for work in plan.works:
        path = embeddings_path(config.work, work.views)
        save_views(path, work.record.scan_id, {"embeddings": np.zeros((2, 4))})
    needles = [theirs.views, "lab:p1_neutral"]
    assert leaks(needles, config.work)
    remove_recorded(config, record_person(config, find_person(config, "lab:p1")))
    assert leaks(needles, config.work) == []
    assert without_views(others, known_views(config, others)) == []
    assert len(list(config.work.glob("embeddings/*/*"))) == 2


def test_the_version_depends_on_its_views(tmp_path: Path, model: FlameModel) -> None:
    config, plan = planned(tmp_path, model)
    outcomes = outcomes_of(config, plan)
    facts = config, plan, outcomes, [], model, ()
    views = {"lab:p1_neutral": ScanViews("ab", ({"view": "render0"},))}
    digests = {
        assembly_digest(*facts, found)
        for found in (
            {},
            views,
            {"lab:p1_neutral": ScanViews("cd", ({"view": "render0"},))},
            {"lab:p1_neutral": ScanViews("ab", (), ({"view": "render0"},))},
            {"lab:p1_neutral": views["lab:p1_neutral"]._replace(embedding_key="ef")},
        )
    }
    assert len(digests) == 5
    assert assembly_digest(*facts, dict(views)) in digests


def test_an_estimate_counts_the_views_to_make(tmp_path: Path, model: FlameModel) -> None:
    config, plan = planned(tmp_path, model)
    expected = estimate(plan, config, model)
    assert (expected.views, expected.view_bytes) == (6, 6 * VIEW_BYTES)
    made(config, plan.works[:1])
    assert estimate(plan, config, model).views == 4
    refused = replace(plan, known={plan.works[1].keys.judge: "quality"})
    assert estimate(refused, config, model).views == 2
    _, without = planned(tmp_path, model, renders=0)
    assert expected.seconds > estimate(without, config, model).seconds
