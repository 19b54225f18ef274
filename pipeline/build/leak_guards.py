"""Who is who in a build, who may not be trained on, and the split of each person."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from pipeline.build.config import BuildConfig
from pipeline.build.plan import Plan
from pipeline.identity import (
    HeldBack,
    Rule,
    assign_splits,
    held_back,
    identities,
    names_of,
    sure,
)
from pipeline.identity.people import chain_of
from pipeline.registry import (
    SourceRegistry,
    load_profile,
    load_registry,
    public_name,
    registry_files,
)


@dataclass(frozen=True, eq=False)
class People:
    """The people of a build."""

    identity: Mapping[str, str]
    """Scan id -> identity, of all scans of the plan."""
    split: Mapping[str, str]
    """Identity -> split."""
    held: Mapping[str, tuple[HeldBack, ...]]
    """Identity -> why it is kept out of training."""


def people_of(
    config: BuildConfig,
    plan: Plan,
    identity: Mapping[str, str] | None = None,
    undecided: Iterable[tuple[str, str]] = (),
) -> People:
    """Identities, splits and leak guards of a plan.

    `identity` (scan id -> identity) may unite more people than the links that registries declare,
    which hold without it; `undecided` are pairs of names or identities that may be one person.
    Raises FacefoldError where links go in a circle, or the profile states a split that the build
    does not have.
    """
    same_as, pairs = links_of(plan), list(undecided)
    records = [work.record for work in plan.works]
    who = identities(records, same_as) if identity is None else identity
    names = names_of(records, who, same_as)
    every = {name for own in (*names.values(), *pairs) for name in own}
    profile = load_profile(config.profile)
    said = {
        name: entry
        for name in every
        if (entry := next(filter(None, map(profile.of, chain_of(name, same_as))), None))
    }
    held = held_back(names, _rules(plan, every - said.keys()), same_as, pairs)
    certain = sure(held)
    stated = {name: entry.split for name, entry in said.items() if entry.split}
    perhaps = held.keys() - certain
    split = assign_splits(names, config.splits, config.seed, certain, perhaps, stated)
    return People(who, split, held)


def links_of(plan: Plan) -> dict[str, str]:
    """`source:subject` -> the `source:subject` that registries declare to be the same person, of
    all people of the plan and of those that they are led to, in the build or not."""
    built = {s.registry.id: s.registry for s in plan.sources}
    public = cache(lambda name: public_name(name, built))
    same_as = {
        f"{s.registry.id}:{subject}": public(other)
        for s in plan.sources
        for subject in s.catalogue.subjects
        if (other := s.registry.same_as(s.catalogue.own_name(subject)))
    }
    for s in plan.sources:
        ruled = {i: s.registry.under(i) for i, r in enumerate(s.registry.rules) if r.same_as}
        for record in s.catalogue.records if ruled else ():
            name = s.catalogue.own_name(record.subject)
            other = ruled[record.rule].same_as(name) if record.rule in ruled else None
            if other:
                same_as[f"{record.source}:{record.subject}"] = public(other)
    known, led_to = _registries(plan), set(same_as.values()) - same_as.keys()
    while led_to:
        name = led_to.pop()
        source, _, subject = name.partition(":")
        other = registry.same_as(subject) if (registry := known(source)) else None
        if other:
            same_as[name] = public(other)
            led_to |= {same_as[name]} - same_as.keys()
    return same_as


def check_links(plan: Plan) -> None:
    """Raises FacefoldError where links go in a circle, before any scan is opened for it."""
    same_as = links_of(plan)
    for name in same_as:
        chain_of(name, same_as)


def _rules(plan: Plan, names: Collection[str]) -> dict[str, set[Rule]]:
    """Name -> the rules of benchmarks that name it. A scan in the build says which of its source's
    rules hold; of people without one, all that may."""
    found: dict[str, set[Rule]] = defaultdict(set)
    scanned: dict[str, set[tuple[str, str, int | None]]] = defaultdict(set)
    for work in plan.works:
        r = work.record
        scanned[f"{r.source}:{r.subject}"].add((r.source, r.subject, r.rule))
    known = _registries(plan)
    under = cache(lambda source, rule: plan.by_id[source].registry.under(rule))
    for name in names:
        for source, subject, number in scanned.get(name, ()):
            registry = under(source, number)
            own = plan.by_id[source].catalogue.own_name(subject)
            if benchmark := registry.benchmark_of(own):
                stated = number is not None and "benchmark" in registry.rules[number].changes
                field = f"rules.{number}.benchmark" if stated else "benchmark"
                found[name].add(Rule(benchmark, f"{source}: {field}"))
        source, _, subject = name.partition(":")
        if name not in scanned and (named := known(source)):
            for field, benchmark in named.may_be_tested_on(subject).items():
                found[name].add(Rule(benchmark, f"{source}: {field}"))
    return found


def _registries(plan: Plan) -> Callable[[str], SourceRegistry | None]:
    """Source id -> the build's registry of it, else the one found by id, else None."""
    files = registry_files()

    @cache
    def known(source: str) -> SourceRegistry | None:
        if source in plan.by_id:
            return plan.by_id[source].registry
        return load_registry(source) if source in files else None

    return known
