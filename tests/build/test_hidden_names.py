"""Sources whose ids are people's names: no output holds one."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import pytest

from pipeline.build.assembly import assemble, assembly_digest
from pipeline.build.config import BuildConfig
from pipeline.build.leak_guards import people_of
from pipeline.build.ledger import open_ledger, record, recorded
from pipeline.build.plan import Plan, ledger_path, make_plan
from pipeline.build.quarantine import quarantine_rows, summarise
from pipeline.build.said_of_sources import said_of_registry
from pipeline.build.stages import Recipe, process
from pipeline.catalogue import catalogue
from pipeline.flame.stand_in import stand_in
from pipeline.registry import load_registry
from pipeline.sources.report import report_of, see
from tests.leaks import leaks
from tests.small_build import build_of, outcomes_of, write_registry, write_source

MODEL = stand_in()
NAMES = ("Margarethe", "Ottokar", "Wilhelmine", "Zacharias", "Huldrych")
SCANS = {
    "include": ["**/*.obj"],
    "name": r"(?P<subject>[A-Z][a-z]+)/(?P<expression>\w+)\.obj",
    "exclude": [
        {"pattern": "Margarethe/torn*", "reason": "Margarethe moved"},
        {"pattern": "*/notes.txt", "reason": "notes"},
    ],
    "companions": ["**/*.npy", "**/*.png"],
    "examples": {"Huldrych/smile.obj": {"subject": "Huldrych"}},
}
FACTS: dict[str, Any] = {
    "scans": SCANS,
    "subjects": {"pseudonyms": True, "same_as": {"Ottokar": "clinic:q1"}},
    "landmarks": {"file": "{dir}/{stem}.npy", "format": "npy", "scheme": "ibug68"},
    "images": ["{dir}/{stem}_{subject}.png"],
    "limits": {"max_rejected_share": 1.0},
    "rules": [{"where": {"subject": "Wilhelmine"}, "unit": "cm", "reason": "Wilhelmine in cm"}],
    "title": "Scans of Ottokar University",
}
FILES = (
    *("Margarethe/neutral.obj", "Margarethe/smile_MARGARETHE.obj", "Margarethe/torn.obj"),
    *("Margarethe/neutral_Margarethe.png", "Margarethe/neutral.npy", "Margarethe/what.txt"),
    *("Ottokar/neutral.obj", "Wilhelmine/neutral.obj", "Wilhelmine/notes.txt"),
    *("Zacharias is new.txt", "Zacharias/1 2.obj", "Ottokar/NEUTRAL.obj"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / "studio" / name).parent.mkdir(parents=True, exist_ok=True)
    write_source(tmp_path, "studio", *FILES, **FACTS)
    write_source(
        tmp_path, "clinic", "p1_neutral.obj", subjects={"same_as": {"p1": "studio:Margarethe"}}
    )
    return tmp_path


def test_no_table_message_or_file_of_a_build_holds_a_name(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    config = build_of(folder, "studio", "clinic", work=str(folder / "work"))
    plan = make_plan(config, MODEL)
    outcomes = really_read(config, plan)
    quarantine = quarantine_rows(config, plan, outcomes)
    facts = config, plan, outcomes_of(config, plan), quarantine, MODEL
    assembly = assemble(*facts, assembly_digest(*facts))
    out = folder / "out"
    out.mkdir()
    provenance = dict(assembly.provenance)
    written = {
        "manifest": assembly.manifest.to_pylist(),
        "quarantine": quarantine,
        "excluded": assembly.excluded,
        "summary": summarise(plan, quarantine),
        "unused": [source.catalogue.unused for source in plan.sources],
        "log": caplog.text,
    }
    for title in provenance["sources"]:
        assert title["registry"].pop("title") in ("Scans of Ottokar University", "Lab")
    (out / "tables").write_text(repr(written) + repr(provenance))
    assert leaks(NAMES, out, folder / "work") == []
    assert len(quarantine) == 9 and len(assembly.excluded) == 2
    manifest = {row["scan_id"]: row for row in written["manifest"]}
    margarethe = load_registry(folder / "studio.yaml").person("Margarethe")
    row = manifest[f"studio:{margarethe}/neutral"]
    assert row["subject"] == margarethe and row["identity"] == f"studio:{margarethe}"
    assert f"{margarethe}/neutral_{margarethe}.png" in row["image_files"]
    assert manifest["clinic:p1_neutral"]["identity"] == f"studio:{margarethe}"


def really_read(config: BuildConfig, plan: Plan) -> dict[str, str]:
    """What became of the scans of `plan`, none of which can be read."""
    with open_ledger(ledger_path(config)) as ledger:
        for source in plan.sources:
            works = [w for w in plan.works if w.record.source == source.registry.id]
            recipe = Recipe(source.registry, source.options, plan.gates, config.work)
            done = process(works, recipe, MODEL)
            record(ledger, [result for results in done for result in results])
        keys = [work.keys.judge for work in plan.works]
        return {key: result.stage for key, result in recorded(ledger, keys).items()}


def test_links_by_real_names_and_by_pseudonyms_are_the_same(folder: Path) -> None:
    registry = load_registry(folder / "studio.yaml")
    identity = identities_of(build_of(folder, "studio", "clinic"))
    margarethe, ottokar = registry.person("Margarethe"), registry.person("Ottokar")
    assert identity["clinic:p1_neutral"] == f"studio:{margarethe}"
    assert identity[f"studio:{ottokar}/neutral"] == "clinic:q1"
    write_registry(folder, "clinic", subjects={"same_as": {"p1": f"studio:{margarethe}"}})
    write_registry(
        folder,
        "studio",
        **FACTS | {"subjects": {"pseudonyms": True, "same_as": {ottokar: "clinic:q1"}}},
    )
    assert identities_of(build_of(folder, "studio", "clinic")) == identity


def test_two_laboratories_have_the_same_pseudonyms(folder: Path, tmp_path: Path) -> None:
    """From the same names, whatever else is in the folder."""
    registry = load_registry(folder / "studio.yaml")
    assert registry.person("Margarethe") == "pfe870bca"
    ids = {record.scan_id for record in catalogue(registry, folder / "studio").records}
    (folder / "studio" / "Ottokar" / "neutral.obj").unlink()
    fewer = {record.scan_id for record in catalogue(registry, folder / "studio").records}
    assert fewer < ids and len(ids - fewer) == 1


def test_the_user_looks_at_own_files_by_their_names(folder: Path) -> None:
    registry = load_registry(folder / "studio.yaml")
    hidden = catalogue(registry, folder / "studio", hashes=False)
    shown = catalogue(registry, folder / "studio", hashes=False, own_names_shown=True)
    faults = "\n".join(report_of(shown, [see(shown.records[0], registry)])["faults"])
    assert "Zacharias is new.txt" in faults and "no rule explains this file" in faults
    faults = "\n".join(report_of(hidden, [see(hidden.records[0], registry)])["faults"])
    assert not any(name in faults for name in NAMES) and "unnamed-" in faults
    assert len(shown.quarantined) == len(hidden.quarantined)
    assert shown.n_files == hidden.n_files == len(FILES)


def test_old_caches_of_hashes_lose_the_names_and_stay_of_use(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_names = FACTS | {"subjects": {}}
    cache = folder / "hashes.sqlite"
    write_registry(folder, "studio", **open_names)
    registry = load_registry(folder / "studio.yaml")
    catalogue(registry, folder / "studio", hash_cache=cache)
    assert leaks(["Margarethe"], cache)
    write_registry(folder, "studio", **FACTS)
    registry = load_registry(folder / "studio.yaml")
    monkeypatch.setattr("pipeline.catalogue.digests._digest", None)  # nothing may be opened
    found = catalogue(registry, folder / "studio", hash_cache=cache)
    assert all(record.content_hash for record in found.records)
    assert leaks(NAMES, cache) == []


def test_two_names_with_one_pseudonym_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = load_registry(folder / "studio.yaml")
    monkeypatch.setattr(type(registry), "person", lambda self, subject: "p00000000")
    found = catalogue(registry, folder / "studio", hashes=False, own_names_shown=True)
    assert {record.path.parent.name for record in found.records} == {"Margarethe"}
    reasons = {row.reason for row in found.quarantined if "pseudonym" in row.reason}
    assert reasons == {"another subject's name has the same pseudonym"}


def test_people_who_are_called_alike_in_two_such_sources(folder: Path) -> None:
    write_source(folder, "copies", **FACTS)
    (folder / "copies" / "Ottokar").mkdir()
    (folder / "copies" / "Ottokar" / "smile.obj").write_text("a copy")
    subjects = {"pseudonyms": True, "same_as": {"*": "studio:{subject}"}}
    write_registry(folder, "copies", **FACTS | {"subjects": subjects})
    config = build_of(folder, "studio", "copies")
    [said] = [
        said_of_registry(s.registry, s.catalogue.names, {})
        for s in make_plan(config, MODEL).sources
        if s.registry.id == "copies"
    ]
    assert said["subjects"]["same_as"] == {"*": "studio:{subject}"}
    identity = identities_of(config)
    assert identity[f"copies:{person('copies')}/smile"] == "clinic:q1"
    write_registry(folder, "studio", **FACTS | {"subjects": {"pseudonyms": True}})
    identity = identities_of(config)
    assert identity[f"copies:{person('copies')}/smile"] == f"studio:{person('studio')}"


def person(source: str) -> str:
    return "p" + hashlib.sha256(f"{source}:Ottokar".encode()).hexdigest()[:8]


def identities_of(config: BuildConfig) -> dict[str, str]:
    return dict(people_of(config, make_plan(config, MODEL)).identity)
