"""A person's decisions about who is who."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import RegistryError
from pipeline.identity.judgements import (
    Judgements,
    Undecided,
    check,
    load_judgements,
    proposal,
)

GOOD = """\
decisions:
  - same: [a:1, "b:x y"]
    by: Ada
    date: "2026-11-30"
    note: seen on both sheets
  - different: [a:1, c:3, c:4]
    by: Ada
    date: "2026-11-30"
  - scan: a:7/smile
    person: a:8
    by: Ada
    date: "2026-11-30"
  - {scan: a:9/blurred, exclude: true, by: Ada, date: "2026-11-30"}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "identities.yaml"
    path.write_text(text)
    return path


def faults(folder: Path, text: str) -> list[str]:
    path = written(folder, text)
    with pytest.raises(RegistryError) as caught:
        load_judgements(path)
    assert all(fault.startswith(f"{path}: ") for fault in caught.value.faults)
    return [fault.removeprefix(f"{path}: ") for fault in caught.value.faults]


def test_decisions_are_read(tmp_path: Path) -> None:
    found = load_judgements(written(tmp_path, GOOD))
    assert [d.same for d in found.decisions] == [("a:1", "b:x y"), None, None, None]
    assert found.same == {frozenset(("a:1", "b:x y"))}
    pairs = [("a:1", "c:3"), ("a:1", "c:4"), ("c:3", "c:4")]
    assert found.different == dict.fromkeys(map(frozenset, pairs), 1)
    assert found.person_of == {"a:7/smile": "a:8"}
    assert found.excluded == {"a:9/blurred"}


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    text = """\
decisions:
  - {same: [a:1], by: Ada, date: "2026-11-30"}
  - {same: [a:1, a:2], different: [a:3, a:4], by: Ada, date: "2026-11-30"}
  - {scan: a:1/x, by: Ada, date: "2026-11-30"}
  - {same: [a:1, Anna], by: "", date: "30.11.2026", who: me}
people: []
"""
    told = "\n".join(faults(tmp_path, text))
    assert 'decisions.0.same: got ["a:1"], expected two or more people' in told
    assert "decisions.1: got " in told and "expected one of same, different and scan" in told
    assert "decisions.2: got " in told and "expected `person` or `exclude: true`" in told
    assert 'decisions.3.same.1: got "Anna", expected text like' in told
    assert 'decisions.3.date: got "30.11.2026", expected a day, as "2026-11-30"' in told
    assert "decisions.3.by: " in told
    assert "decisions.3.who: got an unknown field" in told
    assert "people: got an unknown field, expected one of decisions" in told


def test_a_day_has_to_be_quoted(tmp_path: Path) -> None:
    text = "decisions:\n  - {same: [a:1, b:1], by: Ada, date: 2026-11-30}\n"
    assert 'quote it, "2026-11-30"' in faults(tmp_path, text)[0]


def test_contradictions_name_all_who_say_so(tmp_path: Path) -> None:
    text = """\
decisions:
  - {same: [a:1, b:1], by: Ada, date: "2026-11-30"}
  - {same: [c:1, b:1, d:1], by: Bob, date: "2026-11-30"}
  - {different: [a:2, d:1, a:1], by: Cleo, date: "2026-11-30"}
"""
    assert faults(tmp_path, text) == [
        "decisions.2: got different: [a:2, d:1, a:1], but decisions.0 says same: [a:1, b:1] and "
        "decisions.1 says same: [c:1, b:1, d:1]; correct or remove one of them"
    ]


def test_a_scan_is_decided_once(tmp_path: Path) -> None:
    text = """\
decisions:
  - {scan: a:1/x, person: a:2, by: Ada, date: "2026-11-30"}
  - {scan: a:1/x, exclude: true, by: Bob, date: "2026-11-30"}
"""
    assert "decisions.1.scan: got a:1/x again" in faults(tmp_path, text)[0]


def test_unknown_names_are_reported_with_the_nearest(tmp_path: Path) -> None:
    found = load_judgements(written(tmp_path, GOOD))
    people = {"a:1", "b:x_y", "c:3", "c:4", "a:8"}
    assert check(found, people) == [
        "decisions.0.same: got b:x y, expected a person of this build; did you mean b:x_y?"
    ]
    scans = {"a:7/smile", "b:1"}
    assert check(found, people | {"b:x y"}, scans) == [
        "decisions.3.scan: got a:9/blurred, expected a scan of this build"
    ]


def test_a_proposal_decides_nothing_until_a_person_does(tmp_path: Path) -> None:
    pairs = [
        Undecided('b:"x" #1', "a:1", "log ratio 7.1\nby: me"),
        Undecided("a:2", "a:3", "twins"),
    ]
    text = proposal(pairs)
    lines = text.splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["decisions:"]
    assert "log ratio 7.1\\nby: me" in text
    chosen = [line.removeprefix("#") for line in lines if line.startswith(("#  -", "#    "))]
    filled = "\n".join(["decisions:", *chosen]).replace("by: ", "by: Ada")
    found = load_judgements(written(tmp_path, filled.replace('""', '"2026-11-30"')))
    assert [d.same for d in found.decisions] == [("a:2", "a:3"), ('b:"x" #1', "a:1")]


@pytest.mark.parametrize("pairs", [[], [Undecided("a:1", "b:1", "")]])
def test_an_unedited_proposal_says_what_is_missing(tmp_path: Path, pairs: list[Undecided]) -> None:
    assert "decisions: got null, expected a list" in faults(tmp_path, proposal(pairs))[0]


def test_no_decisions() -> None:
    assert Judgements().different == {} and check(Judgements(), set()) == []
