"""People of a build told apart by made results of known people: one label each, what is wrong with
their names found, and nothing computed again for people who did not change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml

from pipeline.build.comparing import (
    compared_by,
    compared_people,
    frozen_population,
    load_compared,
    population_path,
    save_compared,
)
from pipeline.build.config import BuildConfig
from pipeline.build.evidence import (
    Comparison,
    filed_people,
    make_evidence,
    population_of,
    without_evidence,
)
from pipeline.build.labels import label_rows, make_label, people_of, usual_modes, without_label
from pipeline.build.plan import Plan, judgements_of, make_plan
from pipeline.build.result_files import label_path, result_path
from pipeline.build.who_is_who import (
    UNDECIDED,
    WhoIsWho,
    declared,
    modes_of,
    names_of_scans,
    read_findings,
    resolved,
    write_findings,
)
from pipeline.errors import FacefoldError, RegistryError, StoreError
from pipeline.flame.stand_in import stand_in
from pipeline.registration.anchor import anchored
from pipeline.registration.fusion import displacements
from pipeline.types import Array
from tests.made_results import MODES, person, template, write_results
from tests.small_build import build_of, write_source

LAB = ("p1_neutral.obj", "p1_smile.obj", "p2_neutral.obj", "p2_smile.obj", "p3_neutral.obj")
CLINIC = ("p7_neutral.obj", "p8_neutral.obj")
WHO = {"lab:p1": 1, "lab:p2": 2, "lab:p3": 3, "clinic:p7": 1, "clinic:p8": 8}
"""Name -> number of the person: p7 is p1 under another name."""


class Told(NamedTuple):
    who: WhoIsWho
    plan: Plan
    new: list[str]
    """Names whose evidence was gathered."""


def config_of(folder: Path, **fields: Any) -> BuildConfig:
    folder.mkdir(exist_ok=True)
    write_source(folder, "lab", *LAB)
    write_source(folder, "clinic", *CLINIC)
    return build_of(folder, "lab", "clinic", registration={"modes": MODES}, **fields)


def numbers_of(plan: Plan, changed: Mapping[str, int] | None = None) -> dict[str, Array]:
    """By scan id: of the person of its name, or the one that `changed` says."""
    return {
        r.scan_id: person({**WHO, **(changed or {})}.get(r.scan_id, WHO[f"{r.source}:{r.subject}"]))
        if r.scan_id not in (changed or {})
        else person((changed or {})[r.scan_id])
        for r in (work.record for work in plan.works)
    }


def told_apart(config: BuildConfig, changed: Mapping[str, int] | None = None) -> Told:
    """As the flow does it, in this process."""
    plan = make_plan(config, stand_in())
    kept = write_results(config, plan, numbers_of(plan, changed))
    judged = judgements_of(config)
    filed = filed_people(kept, names_of_scans(plan, judged))
    modes = usual_modes(kept, modes_of(plan))
    population = frozen_population(config) or population_of(
        filed.values(), config.work, template(), modes
    )
    population_path(config).parent.mkdir(parents=True, exist_ok=True)
    population.save(population_path(config))
    by = Comparison(population, template(), modes)
    new = without_evidence(filed.values(), config.work, by)
    for one in new:
        make_evidence(one, config.work, by)
    shown = compared_people(config, plan, judged, filed, by)
    who = resolved(config, plan, judged, shown)
    assert who.compared == len(new)
    return Told(who, plan, [one.name for one in new])


def kinds(who: WhoIsWho) -> dict[str, set[frozenset[str]]]:
    found: dict[str, set[frozenset[str]]] = {}
    for row in who.findings:
        found.setdefault(row["kind"], set()).add(frozenset(row["people"]))
    return found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[BuildConfig, Told]:
    config = config_of(tmp_path_factory.mktemp("people"))
    return config, told_apart(config)


def test_one_person_in_two_sources_is_listed_and_nobody_else(
    told: tuple[BuildConfig, Told],
) -> None:
    who = told[1].who
    pair = frozenset(("lab:p1", "clinic:p7"))
    assert kinds(who)["undecided"] == {pair}
    # five people are too few to know what ratios are worth: nobody is merged unasked
    assert kinds(who).keys() == {"undecided"}
    assert [(one.a, one.b) for one in who.undecided] == [("clinic:p7", "lab:p1")]
    assert len(set(who.people.identity.values())) == 5
    assert who.doubts == {}


def test_a_decision_is_honoured_and_the_pair_not_listed_again(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    decide(config, {"same": ["lab:p1", "clinic:p7"]})
    who = told_apart(config).who
    assert who.people.identity["clinic:p7_neutral"] == who.people.identity["lab:p1_smile"]
    assert who.undecided == ()
    decide(config, {"different": ["lab:p1", "clinic:p7"]})
    who = told_apart(config).who
    assert who.people.identity["clinic:p7_neutral"] != who.people.identity["lab:p1_smile"]
    assert who.undecided == ()


def decide(config: BuildConfig, *decisions: dict[str, Any]) -> None:
    rows = [{"by": "me", "date": "2026-11-30", **decision} for decision in decisions]
    config.identities.write_text(yaml.safe_dump({"decisions": rows}))


def test_a_scan_that_is_another_persons_is_doubted(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    write_source(tmp_path, "lab", "p3_smile.obj", "p1_open.obj")
    plan_name = r"(?P<subject>p\d+)_(?P<expression>neutral|smile|open)\.obj"
    write_source(tmp_path, "lab", scans={"include": ["*.obj"], "name": plan_name})
    who = told_apart(config, {"lab:p1_smile": 2}).who
    assert "lab:p1_smile" in who.doubts
    [row] = [row for row in who.findings if row["kind"] == "misfiled"]
    assert row["scans"] == ["lab:p1_smile"] and row["people"] == ["lab:p1", "lab:p2"]
    decide(config, {"scan": "lab:p1_smile", "person": "lab:p2"})
    who = told_apart(config, {"lab:p1_smile": 2}).who
    assert who.doubts == {}
    assert who.people.identity["lab:p1_smile"] == "lab:p2"


def test_a_scan_decided_to_be_left_out_counts_as_excluded(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    decide(config, {"scan": "lab:p3_neutral", "exclude": True})
    plan = make_plan(config, stand_in())
    assert "lab:p3_neutral" not in {work.record.scan_id for work in plan.works}
    files = plan.by_id["lab"].catalogue
    assert ("p3_neutral.obj", "a person decided to leave it out") in files.excluded
    assert files.n_files == len(LAB)


def test_one_more_scan_costs_its_person_alone(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    first = told_apart(config)
    assert sorted(first.new) == sorted(WHO)
    assert told_apart(config).new == []
    write_source(tmp_path, "clinic", "p8_smile.obj")
    again = told_apart(config)
    assert again.new == ["clinic:p8"]
    assert kinds(again.who) == kinds(first.who)
    labels = people_of(again.plan.works, again.who.people.identity, modes_of(again.plan))
    before = people_of(first.plan.works, first.who.people.identity, modes_of(first.plan))
    changed = [name for name in labels if name not in before or labels[name] != before[name]]
    assert changed == ["clinic:p8"]


def test_a_merge_stands_until_a_person_decides_otherwise(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    found = told_apart(config)
    by = Comparison(frozen_population(config) or pytest.fail(), template(), MODES)
    before = load_compared(config, by)
    pair = next(p for p in before.pairs if p.link == {"lab:p1", "clinic:p7"})
    save_compared(config, before._replace(merges=(pair,)))
    again = told_apart(config)
    assert again.who.people.identity["clinic:p7_neutral"] == "clinic:p7"
    assert again.who.people.identity["lab:p1_smile"] == "clinic:p7"
    assert kinds(again.who) == {"merged": {pair.link}} and kinds(found.who) != kinds(again.who)
    assert load_compared(config, by).merges == (pair,)
    decide(config, {"different": ["lab:p1", "clinic:p7"]})
    assert told_apart(config).who.people.identity["lab:p1_smile"] == "lab:p1"


def test_people_are_compared_by_what_was_frozen(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    told_apart(config)
    before = compared_by(config)
    assert compared_by(config.model_copy(update={"compare_faces": False})) != before
    decide(config, {"different": ["lab:p1", "lab:p2"]})
    assert compared_by(config) != before
    config.identities.unlink()
    assert compared_by(config) == before
    population_path(config).write_bytes(b"no population")
    with pytest.raises(FacefoldError, match="recalibrate"):
        compared_by(config)


def test_without_geometry_names_are_what_sources_say(told: tuple[BuildConfig, Told]) -> None:
    config, found = told
    who = declared(config, found.plan)
    assert who.people.identity["clinic:p7_neutral"] == "clinic:p7"
    assert who.findings == ()


def test_decisions_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    decide(config, {"same": ["lab:p1", "clinic:p7"]}, {"different": ["lab:p1", "clinic:p7"]})
    with pytest.raises(RegistryError, match=r"decisions\.1"):
        make_plan(config, stand_in())


def test_what_is_found_is_left_for_people_to_read(told: tuple[BuildConfig, Told]) -> None:
    config, found = told
    write_findings(config, found.who)
    said = read_findings(config)
    assert said["undecided"] == 1 and said["identities"] == 5
    text = (config.work / UNDECIDED).read_text()
    assert "clinic:p7" in text and yaml.safe_load(text) == {"decisions": None}


def test_the_label_of_a_person_is_made_of_all_their_scans(
    told: tuple[BuildConfig, Told],
) -> None:
    config, found = told
    identity = {**found.who.people.identity, "clinic:p7_neutral": "lab:p1"}
    people = people_of(found.plan.works, identity, modes_of(found.plan))
    assert people["lab:p1"].scan_ids == ("clinic:p7_neutral", "lab:p1_neutral", "lab:p1_smile")
    assert without_label(people.values(), config.work) == list(people.values())
    for one in people.values():
        make_label(one, config.work, template())
    assert without_label(people.values(), config.work) == []
    rows = label_rows(config.work, [one.key for one in people.values()])
    assert rows["identity_scans"].tolist() == [1, 3, 2, 1]
    moves = displacements(template(), MODES).double().numpy()
    face = stand_in().regions["face"]
    for name, neutral in zip(people, rows["identity_neutral_mm"], strict=True):
        head = stand_in().template_mm + (moves @ person(WHO[name])).T
        true = anchored(template(), torch.from_numpy(head)).numpy()
        assert np.linalg.norm(neutral - true, axis=1)[face].mean() < 0.6, name


def test_a_label_whose_results_have_gone_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    found = told_apart(config)
    people = people_of(found.plan.works, found.who.people.identity, modes_of(found.plan))
    one = people["lab:p3"]
    result_path(config.work, one.result_keys[0]).unlink()
    with pytest.raises(FacefoldError, match="build again"):
        make_label(one, config.work, template())
    with pytest.raises(StoreError, match="build again"):
        label_rows(config.work, [one.key])
    path = label_path(config.work, one.key)
    assert not path.exists()
