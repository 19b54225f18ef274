"""Identities within and across sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import FacefoldError, RegistryError
from pipeline.identity import identities
from pipeline.identity.judgements import Judgements
from pipeline.identity.people import Cut, Merge, merged_people
from pipeline.types import ScanRecord


def record(source: str, subject: str, scan: str) -> ScanRecord:
    return ScanRecord(
        source=source,
        scan_id=f"{source}:{scan}",
        subject=subject,
        session="1",
        expression="neutral",
        neutral=True,
        path=Path(scan),
        format="obj",
        unit="mm",
        landmark_path=None,
        image_paths=(),
        content_hash="",
    )


def test_subjects_are_namespaced_by_their_source() -> None:
    found = identities([record("a", "001", "x"), record("b", "001", "y")], {})
    assert found == {"a:x": "a:001", "b:y": "b:001"}


def test_the_same_person_in_three_sources_is_one_identity() -> None:
    records = [record("a", "7", "x"), record("b", "k", "y"), record("c", "3", "z")]
    found = identities([*records, record("c", "4", "w")], {"a:7": "b:k", "b:k": "c:3"})
    assert found == {"a:x": "c:3", "b:y": "c:3", "c:z": "c:3", "c:w": "c:4"}


def test_circles_are_refused() -> None:
    with pytest.raises(FacefoldError, match="a:7 -> b:k -> a:7"):
        identities([record("a", "7", "x")], {"a:7": "b:k", "b:k": "a:7"})


def judged(*decisions: dict[str, object]) -> Judgements:
    who = {"by": "Ada", "date": "2026-11-30"}
    return Judgements.model_validate({"decisions": [{**d, **who} for d in decisions]})


def test_links_and_judgements_join_people() -> None:
    people = ["a:1", "b:1", "c:1", "c:2", "d:1"]
    merges = [Merge("c:1", "b:1", 30.0)]
    found = merged_people(people, {}, merges, judged({"same": ["a:1", "d:1"]}))
    assert found.identity == {"a:1": "a:1", "d:1": "a:1", "b:1": "b:1", "c:1": "b:1", "c:2": "c:2"}
    assert found.cut == []


@pytest.mark.parametrize("order", [1, -1])
def test_the_weakest_link_between_people_judged_different_is_cut(order: int) -> None:
    merges = [Merge("a:1", "b:1", 25.0), Merge("b:1", "c:1", 18.0), Merge("c:1", "d:1", 40.0)]
    apart = judged({"same": ["x:1", "x:2"]}, {"different": ["d:1", "a:1"]})
    found = merged_people(["a:1", "b:1", "c:1", "d:1"], {}, merges[::order], apart)
    assert found.cut == [Cut(merges[1], ("a:1", "d:1"), 1)]
    assert found.identity == {"a:1": "a:1", "b:1": "a:1", "c:1": "c:1", "d:1": "c:1"}


def test_a_person_keeps_the_published_name() -> None:
    people, merges = ["a:1", "b:1", "c:1"], [Merge("a:1", "b:1", 30.0), Merge("b:1", "c:1", 30.0)]
    names = {"b:1": "b:1", "c:1": "b:1"}
    assert set(merged_people(people, {}, merges, published=names).identity.values()) == {"b:1"}
    # whoever the name is of is not in the build any more: still it stays
    gone = {"b:1": "z:9", "c:1": "z:9"}
    assert set(merged_people(people, {}, merges, published=gone).identity.values()) == {"z:9"}


def test_of_two_published_names_the_declared_one_stays() -> None:
    names = {"a:1": "a:1", "b:1": "b:1"}
    assert merged_people(["a:1", "b:1"], {"a:1": "b:1"}, published=names).identity == {
        "a:1": "b:1",
        "b:1": "b:1",
    }


def test_people_parted_again_have_names_of_their_own() -> None:
    names = {"a:1": "a:1", "b:1": "a:1", "c:1": "a:1"}
    apart = judged({"different": ["a:1", "b:1"]})
    found = merged_people(["a:1", "b:1", "c:1"], {}, [Merge("b:1", "c:1", 30.0)], apart, names)
    assert found.identity == {"a:1": "a:1", "b:1": "b:1", "c:1": "b:1"}
    # the same where nobody is called so
    gone = {"b:1": "z:9", "c:1": "z:9"}
    found = merged_people(["b:1", "c:1"], {}, [], judged({"different": ["b:1", "c:1"]}), gone)
    assert found.identity == {"b:1": "z:9", "c:1": "c:1"}


def test_a_name_that_is_not_built_joins_and_names_nobody_unless_declared() -> None:
    people = ["b:1", "c:1"]
    same = judged({"same": ["b:1", "a:0"]}, {"same": ["a:0", "c:1"]})
    assert set(merged_people(people, {}, judgements=same).identity.values()) == {"b:1"}
    found = merged_people(people, {"c:1": "z:1"}, judgements=same).identity
    assert found == {"b:1": "z:1", "c:1": "z:1"}


def test_judgements_against_declared_links_are_refused() -> None:
    apart = judged({"different": ["a:1", "b:1"]})
    with pytest.raises(RegistryError, match="but same_as says a:1 is c:1 and same_as says c:1 is"):
        merged_people(["a:1", "b:1"], {"a:1": "c:1", "c:1": "b:1"}, judgements=apart)


def test_a_misfiled_scan_is_the_person_it_was_judged_to_be() -> None:
    records = [record("a", "1", "x"), record("a", "1", "y"), record("b", "2", "z")]
    moved = judged({"scan": "a:y", "person": "a:7"}, {"same": ["a:7", "b:2"]})
    assert identities(records, {}, (), moved) == {"a:x": "a:1", "a:y": "a:7", "b:z": "a:7"}
