"""`facefold splits`: who is in which split of a store, for two laboratories to compare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.terminal.boundary import local, show, tell
from flows.terminal.options import Json, Store
from pipeline.errors import FacefoldError

if TYPE_CHECKING:
    from pipeline.identity.split_changes import Changes
    from pipeline.identity.split_file import Read, Split

SHOWN = 20
"""Differences of a kind that people see; `--json` has all."""


def splits(
    store: Store,
    out: Annotated[
        Path | None, typer.Option(parser=local, help="Write the split file: .json or .yaml.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(parser=local, help="Sign it with this Ed25519 key (OpenSSH's or PEM)."),
    ] = None,
    check: Annotated[
        Path | None, typer.Option(parser=local, help="Compare the store with this split file.")
    ] = None,
    signed_by: Annotated[
        Path | None,
        typer.Option(parser=local, help="Refuse the file unless this key's owner signed it."),
    ] = None,
    shared: Annotated[
        bool,
        typer.Option("--shared", help="What only one of the two has is no difference."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show who is in which split; write it to a signed file, or compare it with one.

    Exit status of --check: 0 the same people and scans are in the same splits, 3 there are
    differences, 2 the file is not as it was written, or wrong use.
    """
    if out is not None and check is not None:
        raise FacefoldError("got --out and --check, expected one of them")
    if (key and out is None) or ((signed_by or shared) and check is None):
        raise FacefoldError("--key goes with --out; --signed-by and --shared with --check")
    from pipeline.store.splits import store_split

    found = store_split(store)
    if check is not None:
        compare(store, found, check, signed_by, shared, as_json)
    elif out is not None:
        write(found, out, key, as_json)
    else:
        summary(found, as_json)


def write(split: Split, out: Path, key: Path | None, as_json: bool) -> None:
    from pipeline.identity.split_file import read_split, written
    from pipeline.store.durable_files import write_file

    if out.suffix not in (".json", ".yaml", ".yml"):
        raise FacefoldError(f"{out}: got the suffix {out.suffix!r}, expected .json or .yaml")
    content = written(split, key)
    write_file(out, content)
    read = read_split(content, out)
    facts = {"file": str(out), **_facts(split, read)}
    if as_json:
        show(facts)
    else:
        tell(f"{out}: {_held(facts)}; {_seal(read)}")


def compare(
    store: str, found: Split, file: Path, signed_by: Path | None, shared: bool, as_json: bool
) -> None:
    from pipeline.identity.split_changes import changes
    from pipeline.identity.split_file import read_split

    read = read_split(file.read_bytes(), file, signed_by)
    differs = changes(read.split, found)
    same = not differs.moved if shared else differs.same
    if as_json:
        show({"store": store, "same": same, **_facts(read.split, read), **differs.as_json()})
    else:
        for line in _lines(differs):
            tell(line)
        verdict = "the same split" if same else "not the same split"
        tell(f"{store}: {verdict} as {file}: {_counts(differs)}")
        tell(f"{file}: {_seal(read)}" + ("" if signed_by is None else ", as asked for"))
    if not same:
        raise typer.Exit(3)


def summary(split: Split, as_json: bool) -> None:
    people: dict[str, dict[str, int]] = {}
    for person in split.people.values():
        of = people.setdefault(person.split, {"people": 0, "scans": 0, "held_back": 0})
        of["people"] += 1
        of["scans"] += len(person.scans) + len(person.non_metric)
        of["held_back"] += bool(person.held_back)
    if as_json:
        show({"store": split.store, "rules": split.rules, "splits": people})
        return
    for name, counts in sorted(people.items()):
        held = f", {counts['held_back']} held back" if counts["held_back"] else ""
        tell(f"{name}: {_held(counts)}{held}")


def _held(counts: Mapping[str, Any]) -> str:
    people, scans = counts["people"], counts["scans"]
    return f"{people} {'person' if people == 1 else 'people'}, {_scans(scans)}"


def _scans(n: int) -> str:
    return f"{n} scan" if n == 1 else f"{n} scans"


def _facts(split: Split, read: Read) -> dict[str, Any]:
    return {
        "people": len(split.people),
        "scans": sum(len(p.scans) + len(p.non_metric) for p in split.people.values()),
        "sha256": read.sha256,
        "signed_by": read.signed_by,
    }


def _seal(read: Read) -> str:
    signer = f"signed by {read.signed_by}" if read.signed_by else "not signed"
    return f"sha256 {read.sha256}, {signer}"


def _counts(found: Changes) -> str:
    return (
        f"{found.people} people and {found.scans} scans are in both; {len(found.moved)} moved, "
        f"{len(found.missing)} missing, {len(found.added)} added"
    )


def _lines(found: Changes) -> list[str]:
    moved = [
        f"moved {m.person}{'' if m.now == m.person else f' (now {m.now})'}: {m.split} -> "
        f"{m.split_now}, " + (_scans(m.scans) if m.scans else "all of its scans are others")
        for m in found.moved
    ]
    missing, added = (
        [
            f"{kind} {g.person} ({g.split}): " + ("all " if g.everything else "") + _scans(g.scans)
            for g in gone
        ]
        for kind, gone in (("missing", found.missing), ("added", found.added))
    )
    regrouped = [f"regrouped: {text}" for text in found.regrouped]
    rules = [f"other rules: {', '.join(found.rules)}"] if found.rules else []
    return [line for kind in (moved, missing, added, regrouped, rules) for line in _short(kind)]


def _short(lines: list[str]) -> list[str]:
    more = len(lines) - SHOWN
    return lines if more <= 0 else [*lines[:SHOWN], f"… and {more} more; --json has all"]
