"""How the split of a store differs from a split file's: by contents of scans, then by name."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.identity.split_file import Person, Split


@dataclass(frozen=True, order=True)
class Moved:
    """Scans that are in another split; 0 where all of a person's scans are others than before."""

    person: str
    """The identity in the file."""
    now: str
    """The identity in the store."""
    split: str
    split_now: str
    scans: int


@dataclass(frozen=True, order=True)
class Gone:
    """Scans that only one of the two has."""

    person: str
    split: str
    scans: int
    everything: bool
    """The person too is in only one of the two."""


@dataclass(frozen=True)
class Changes:
    """From a split file to the split of a store."""

    moved: tuple[Moved, ...]
    missing: tuple[Gone, ...]
    """In the file alone."""
    added: tuple[Gone, ...]
    """In the store alone."""
    regrouped: tuple[str, ...]
    """People of the file who are several in the store, or several of whom are one."""
    rules: tuple[str, ...]
    """Rules that differ, whatever came of them."""
    people: int
    """Of the file who are in the store as well."""
    scans: int
    """Of the file that are in the store as well."""

    @property
    def same(self) -> bool:
        return not (self.moved or self.missing or self.added)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def changes(file: Split, store: Split) -> Changes:
    """What differs. Scans are the same where their contents are, people where they share a scan or
    a name; identities may be called otherwise."""
    then, now = _places(file), _places(store)
    pairs = _pairs(file, store, then, now)
    known, found = {a for a, _ in pairs}, {b for _, b in pairs}
    shared = then.keys() & now.keys()
    people = _moved_people(file, store, pairs, shared)
    return Changes(
        tuple(sorted([*_moved_scans(then, now, shared), *people])),
        tuple(_gone(file, then.keys() - shared, known)),
        tuple(_gone(store, now.keys() - shared, found)),
        tuple(_regrouped(pairs)),
        tuple(sorted(name for name in file.rules | store.rules if not _equal(name, file, store))),
        len(known),
        len(shared),
    )


Places = Mapping[str, tuple[tuple[str, str], ...]]
"""Content hash -> identity and split of each scan with this content."""


def _places(split: Split) -> Places:
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for identity in sorted(split.people):
        person = split.people[identity]
        place = ((identity, person.split),)
        other = ((identity, f"{person.split} (no true size)"),)
        for scans, own in ((person.scans, place), (person.non_metric, other)):
            for scan in scans:
                found[scan] = found[scan] + own if scan in found else own
    return found


def _pairs(file: Split, store: Split, then: Places, now: Places) -> set[tuple[str, str]]:
    """Identities of the file and of the store that are one person."""
    scans = {
        (before, after)
        for scan in then.keys() & now.keys()
        for before, _ in then[scan]
        for after, _ in now[scan]
    }
    named: dict[str, str] = {
        name: identity for identity, person in store.people.items() for name in person.names
    }
    return scans | {
        (identity, named[name])
        for identity, person in file.people.items()
        for name in person.names
        if name in named
    }


def _moved_scans(then: Places, now: Places, shared: Iterable[str]) -> Iterator[Moved]:
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for scan in shared:
        before, after = then[scan], now[scan]
        if before != after and {split for _, split in before} != {split for _, split in after}:
            counts[before[0][0], after[0][0], _said(before), _said(after)] += 1
    for (person, other, split, split_now), scans in counts.items():
        yield Moved(person, other, split, split_now, scans)


def _said(places: Iterable[tuple[str, str]]) -> str:
    return " and ".join(sorted({split for _, split in places}))


def _moved_people(
    file: Split, store: Split, pairs: Iterable[tuple[str, str]], shared: Iterable[str]
) -> Iterator[Moved]:
    """People in another split who share no scan."""
    held = set(shared)
    for before, after in pairs:
        person, other = file.people[before], store.people[after]
        if person.split != other.split and held.isdisjoint(_scans(person)):
            yield Moved(before, after, person.split, other.split, 0)


def _gone(split: Split, scans: Iterable[str], known: Iterable[str]) -> Iterator[Gone]:
    """By identity; `known` are the identities that the other has as well."""
    gone, there = set(scans), set(known)
    for identity in sorted(split.people):
        person = split.people[identity]
        lost = sum(scan in gone for scan in _scans(person))
        if lost or identity not in there:
            yield Gone(identity, person.split, lost, identity not in there)


def _scans(person: Person) -> list[str]:
    return [*person.scans, *person.non_metric]


def _regrouped(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    ahead: dict[str, set[str]] = defaultdict(set)
    back: dict[str, set[str]] = defaultdict(set)
    for before, after in pairs:
        ahead[before].add(after)
        back[after].add(before)
    for one, several in sorted(ahead.items()):
        if len(several) > 1:
            yield f"{one} is {' and '.join(sorted(several))} in the store"
    for one, several in sorted(back.items()):
        if len(several) > 1:
            yield f"{' and '.join(sorted(several))} are one in the store, {one}"


def _equal(name: str, file: Split, store: Split) -> bool:
    return name in file.rules and name in store.rules and file.rules[name] == store.rules[name]
