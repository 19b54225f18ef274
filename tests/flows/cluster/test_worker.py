"""A batch on a worker: what is at hand of it, and what is not."""

from __future__ import annotations

from pathlib import Path

from flows.cluster.worker import Batch, Finished, at_hand
from pipeline.build.plan import make_plan
from pipeline.build.result_files import scan_path
from pipeline.build.stages import Recipe
from pipeline.flame.stand_in import stand_in
from pipeline.refusals import Code
from tests.small_build import build_of, write_source


def test_a_file_that_has_gone_since_the_plan_is_left_over_and_stops_no_other(
    tmp_path: Path,
) -> None:
    names = [f"p{i}_neutral.obj" for i in range(3)]
    root = write_source(tmp_path, "lab", *names)
    config = build_of(tmp_path, "lab")
    plan = make_plan(config, stand_in())
    source = plan.sources[0]
    recipe = Recipe(source.registry, source.options, plan.gates, config.work)
    kept = scan_path(config.work, plan.works[1].keys.read)
    kept.parent.mkdir(parents=True)
    kept.touch()
    for name in names[:2]:
        (root / name).unlink()
    batch = Batch(plan.works, tmp_path, tmp_path, tmp_path, "", 1.0)
    finished = Finished()
    assert at_hand(batch, recipe, finished) == list(plan.works[1:])
    [(work, refusal)] = finished.unfinished
    assert work is plan.works[0] and refusal.code is Code.UNREADABLE
    assert refusal.reason.endswith("p0_neutral.obj has gone since the build began")
