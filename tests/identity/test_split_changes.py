"""Two splits compared: who moved, who is missing, who was added, whatever people are called."""

from __future__ import annotations

from typing import Any

from pipeline.identity.split_changes import Gone, Moved, changes
from pipeline.identity.split_file import Person, Split


def split(people: dict[str, tuple[Any, ...]], **rules: Any) -> Split:
    """Identity -> split, scans and, where they are others than the identity, names."""
    return Split(
        store="x",
        facefold="0",
        rules=rules,
        people={
            identity: Person(split=told[0], scans=told[1], names=[*told[2:]] or [identity])
            for identity, told in people.items()
        },
    )


FILE = {
    "lab:p1": ("train", ["s1", "s2"]),
    "lab:p2": ("test", ["s3"]),
    "lab:p3": ("val", ["s4", "s5"]),
}


def test_the_same_split() -> None:
    found = changes(split(FILE, seed=0), split(FILE, seed=0))
    assert found.same and (found.people, found.scans) == (3, 5)
    assert found.regrouped == found.rules == ()


def test_moved_missing_and_added() -> None:
    now = {
        "lab:p1": ("test", ["s1", "s2"]),
        "lab:p3": ("val", ["s4", "s6", "s7"]),
        "lab:p4": ("train", ["s8"]),
    }
    found = changes(split(FILE), split(now))
    assert found.moved == (Moved("lab:p1", "lab:p1", "train", "test", 2),)
    assert found.missing == (Gone("lab:p2", "test", 1, True), Gone("lab:p3", "val", 1, False))
    assert found.added == (Gone("lab:p3", "val", 2, False), Gone("lab:p4", "train", 1, True))
    assert not found.same and (found.people, found.scans) == (2, 3)


def test_people_are_known_by_their_scans_and_names_whatever_they_are_called() -> None:
    now = {
        "clinic:p9": ("train", ["s1", "s2"], "clinic:p9", "lab:p1"),
        "other:p2": ("test", ["s3"], "other:p2"),
        "lab:p3": ("val", ["s4", "s5"]),
    }
    assert changes(split(FILE), split(now)).same


def test_a_person_whose_scans_are_all_others_has_moved_by_name() -> None:
    now = {**FILE, "lab:p1": ("val", ["s9"])}
    found = changes(split(FILE), split(now))
    assert found.moved == (Moved("lab:p1", "lab:p1", "train", "val", 0),)
    assert found.missing == (Gone("lab:p1", "train", 2, False),)
    assert found.added == (Gone("lab:p1", "val", 1, False),)


def test_one_scan_of_two_people_leaks_on_one_side_alone() -> None:
    twice = {**FILE, "lab:p4": ("train", ["s3"])}
    found = changes(split(FILE), split(twice))
    assert found.moved == (Moved("lab:p2", "lab:p2", "test", "test and train", 1),)
    assert changes(split(twice), split(twice)).same


def test_rows_without_true_size_are_in_another_split() -> None:
    def of(person: Person) -> Split:
        return split({}).model_copy(update={"people": {"lab:p1": person}})

    metric = Person(split="train", names=["lab:p1"], scans=["s1"])
    rescaled = Person(split="train", names=["lab:p1"], scans=[], non_metric=["s1"])
    [moved] = changes(of(metric), of(rescaled)).moved
    assert (moved.split, moved.split_now) == ("train", "train (no true size)")


def test_people_united_or_parted_are_said_and_are_no_difference_of_the_split() -> None:
    file = {**FILE, "lab:p5": ("train", ["s9"])}
    united = {
        "lab:p1": ("train", ["s1", "s2", "s9"], "lab:p1", "lab:p5"),
        **{k: v for k, v in FILE.items() if k != "lab:p1"},
    }
    found = changes(split(file), split(united))
    assert found.same
    assert found.regrouped == ("lab:p1 and lab:p5 are one in the store, lab:p1",)
    found = changes(split(united), split(file))
    assert found.same
    assert found.regrouped == ("lab:p1 is lab:p1 and lab:p5 in the store",)


def test_rules_that_differ_are_named() -> None:
    found = changes(split(FILE, seed=0, profile=1), split(FILE, seed=1, splits={}, profile=1))
    assert found.same and found.rules == ("seed", "splits")
