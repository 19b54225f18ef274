"""Who may not be trained on, and why: people whom a benchmark tests on, under any of their names.

A benchmark's rule names people as one source does. They stay out of training under their other
names as well, whether these were declared to be theirs, found by geometry, or may be theirs as long
as nobody has decided it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.identity.people import chain_of

How = Literal["rule", "link", "geometry", "undecided"]
"""How a name is known to be that of a benchmark's person, the surest first: the benchmark's own
rule names it; `same_as` leads from one to the other; geometry or a person's decision made them one
identity; geometry lists them, and nobody has decided."""
HOWS: tuple[How, ...] = ("rule", "link", "geometry", "undecided")
EXAMPLES = 5
"""Names that a row of the report gives."""


@dataclass(frozen=True, order=True)
class Rule:
    """What says that a benchmark tests on a name."""

    benchmark: str
    said_by: str
    """The field of a registry: `headspace: benchmark`."""


@dataclass(frozen=True, order=True)
class HeldBack:
    """A name of an identity that is kept out of training."""

    identity: str
    benchmark: str
    how: How
    name: str
    """`source:subject`, one of the identity's."""
    by: str
    """The name that the benchmark's rule names."""
    said_by: str
    """That rule."""


def held_back(
    names: Mapping[str, Collection[str]],
    rules: Mapping[str, Collection[Rule]],
    same_as: Mapping[str, str],
    undecided: Iterable[tuple[str, str]] = (),
) -> dict[str, tuple[HeldBack, ...]]:
    """Identity -> why it is held back: a row for each of its names and each benchmark.

    `names` maps identity -> the person's names (`names_of`), `rules` a name -> the rules that name
    it, `same_as` a name -> the name that is declared to be the same person's. `undecided` are
    pairs of names, or of identities, that may be one person; one of each may be of a source that is
    not in the build. A pair holds back whom it pairs with a person of a benchmark, and nobody
    further. Raises FacefoldError where `same_as` goes in a circle.
    """
    found = {
        person: rows for person in sorted(names) if (rows := _rows(person, names, rules, same_as))
    }
    people: dict[str, set[str]] = defaultdict(set)
    for person, own in names.items():
        for name in (person, *own):
            people[name].add(person)
    open_rows: dict[str, set[HeldBack]] = defaultdict(set)
    for pair in undecided:
        for name, other in (pair, pair[::-1]):
            sure = [row for person in people.get(other, ()) for row in found.get(person, ())]
            reasons = {(row.by, row.benchmark, row.said_by) for row in sure} or {
                (other, rule.benchmark, rule.said_by) for rule in rules.get(other, ())
            }
            for person in people.get(name, set()) - found.keys():
                for by, benchmark, said_by in reasons:
                    row = HeldBack(person, benchmark, "undecided", name, by, said_by)
                    open_rows[person].add(row)
    return found | {person: tuple(sorted(open_rows[person])) for person in sorted(open_rows)}


def _rows(
    person: str,
    names: Mapping[str, Collection[str]],
    rules: Mapping[str, Collection[Rule]],
    same_as: Mapping[str, str],
) -> tuple[HeldBack, ...]:
    """Each name of a person by the surest way that leads from it to a name that a rule names."""
    named = sorted(name for name in names[person] if rules.get(name))
    if not named:
        return ()
    ends = {name: chain_of(name, same_as)[-1] for name in names[person]}

    def how(name: str, by: str) -> How:
        return "rule" if name == by else "link" if ends[name] == ends[by] else "geometry"

    surest: dict[tuple[str, str], HeldBack] = {}
    for name in sorted(names[person]):
        for by in named:
            for rule in sorted(rules[by]):
                row = HeldBack(person, rule.benchmark, how(name, by), name, by, rule.said_by)
                other = surest.setdefault((name, rule.benchmark), row)
                if HOWS.index(row.how) < HOWS.index(other.how):
                    surest[name, rule.benchmark] = row
    return tuple(sorted(surest.values()))


def sure(held: Mapping[str, Collection[HeldBack]]) -> set[str]:
    """The identities that are a benchmark's people, and not just perhaps."""
    return {person for person, rows in held.items() if any(r.how != "undecided" for r in rows)}


def report_rows(held: Mapping[str, Collection[HeldBack]]) -> list[dict[str, Any]]:
    """Rows of the build's report: how many names each rule holds back in each way, and the first
    EXAMPLES of them, as `name` or `name = the name that the rule names`."""
    groups: dict[tuple[str, str, int], list[HeldBack]] = defaultdict(list)
    for rows in held.values():
        for row in rows:
            groups[row.benchmark, row.said_by, HOWS.index(row.how)].append(row)
    return [
        {
            "benchmark": benchmark,
            "said_by": said_by,
            "how": HOWS[how],
            "names": len(rows),
            "people": len({row.identity for row in rows}),
            "examples": [_said(row) for row in sorted(rows)[:EXAMPLES]],
        }
        for (benchmark, said_by, how), rows in sorted(groups.items())
    ]


def _said(row: HeldBack) -> str:
    return row.name if row.name == row.by else f"{row.name} = {row.by}"
