"""What one more scan costs a build of many people: who is compared again, and in what time.

    python tests/benchmarks/one_more.py [--people N] [--folder DIR]

Nobody is scanned: each person's evidence is made (d numbers of random people, as surely known as in
a registered scan), and left where a build leaves it. Then one person gets another scan.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.build.comparing import compared_path, compared_people
from pipeline.build.config import load_build
from pipeline.build.evidence import (
    Comparison,
    FiledPerson,
    face_vertices,
    filed_people,
    without_evidence,
)
from pipeline.build.labels import people_of
from pipeline.build.plan import make_plan
from pipeline.build.result_files import PersonEvidence, evidence_path, save_evidence
from pipeline.build.who_is_who import modes_of, names_of_scans, resolved
from pipeline.flame.stand_in import stand_in
from pipeline.identity.judgements import Judgements
from pipeline.identity.population import Population
from pipeline.registration.template import prepare_template
from pipeline.types import Array
from tests.small_build import write_registry

MODES, SURE = 60, 40.0
"""Of the residual; information of each number of a person."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=50_000)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    try:
        measure(folder, arguments.people)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)


def measure(folder: Path, n: int) -> None:
    template = prepare_template(stand_in(), "cpu", MODES)
    by = Comparison(Population.default(template, MODES), template, MODES)
    config = load_build(write_files(folder, n))
    seconds: dict[str, float] = {}
    with timed("plan of all files, hashed", seconds):
        plan = make_plan(config, stand_in())
    with timed("evidence made", seconds):
        filed = filed_people(plan.works, names_of_scans(plan, Judgements()))
        for person in filed.values():
            save_evidence(path_of(config.work, person, by), evidence_of(person, by))
    with timed("everybody compared with everybody", seconds):
        shown = compared_people(config, plan, Judgements(), filed, by)
    print(f"{n:,} people, {shown.compared:,} compared, {len(shown.decisions.listed)} pairs listed")
    (folder / "many" / "0" / "p0_e1.obj").write_bytes(b"one more")
    with timed("plan with one more scan", seconds):
        plan = make_plan(config, stand_in())
    more = filed_people(plan.works, names_of_scans(plan, Judgements()))
    new = without_evidence(more.values(), config.work, by)
    for person in new:
        save_evidence(path_of(config.work, person, by), evidence_of(person, by))
    with timed("one person compared with everybody", seconds):
        shown = compared_people(config, plan, Judgements(), more, by)
    with timed("identities, splits, report", seconds):
        who = resolved(config, plan, Judgements(), shown)
    with timed("labels looked up", seconds):
        labels = people_of(plan.works, who.people.identity, modes_of(plan))
    before = people_of(
        [w for w in plan.works if w.record.scan_id != "many:0/p0_e1"],
        who.people.identity,
        modes_of(plan),
    )
    changed = [name for name in labels if labels[name] != before[name]]
    print(f"one more scan: evidence of {len(new)}, {shown.compared} compared, labels {changed}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"  memory at most {peak:.1f} GB; {compared_path(config).stat().st_size / 1e6:.1f} MB kept"
    )


def write_files(folder: Path, n: int) -> Path:
    name = r"\d+/(?P<subject>p\d+)_(?P<expression>e\d+)\.obj"
    write_registry(folder, "many", scans={"include": ["*/*.obj"], "name": name}, neutral=["e0"])
    for i in range(n):
        path = folder / "many" / str(i // 1000) / f"p{i}_e0.obj"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % i)
    build = folder / "build.yaml"
    build.write_text(
        "store: unified.zarr\nmodel: stand-in\nregistration: {modes: 60}\n"
        "sources: [{registry: many.yaml, root: many}]\n"
    )
    return build


def path_of(work: Path, person: FiledPerson, by: Comparison) -> Path:
    return evidence_path(work, person.key(by.population.digest))


def evidence_of(person: FiledPerson, by: Comparison) -> PersonEvidence:
    """Of a person whom the name alone decides."""
    rng = np.random.default_rng(list(person.name.encode()))
    d, n = by.population.size, len(person.works)
    x = rng.normal(size=d) + rng.normal(size=d) / np.sqrt(SURE)
    variance = np.full((1, d), 1 / (1 + SURE), np.float32)
    face = face_of(by) + rng.normal(scale=2.0, size=face_of(by).shape)
    return PersonEvidence(
        np.zeros(n, np.int64),
        (SURE * np.eye(d, dtype=np.float32))[None],
        (SURE * x)[None].astype(np.float32),
        (SURE * x)[None].astype(np.float32) * variance,
        variance,
        np.ones(1, bool),
        np.full(1, np.inf),
        (face + rng.normal(scale=1.2, size=(n, *face.shape))).astype(np.float32),
        np.ones((n, len(face)), bool),
    )


def face_of(by: Comparison) -> Array:
    found: Array = by.template.model.template_mm[face_vertices(by.template)]
    return found


@contextmanager
def timed(what: str, seconds: dict[str, float]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[what] = time.perf_counter() - began
    print(f"{what}: {seconds[what]:.1f} s", flush=True)


if __name__ == "__main__":
    main()
