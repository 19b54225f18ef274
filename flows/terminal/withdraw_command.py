"""`facefold withdraw`: a person leaves a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from flows.terminal.boundary import show, tell
from flows.terminal.options import BuildFile, Json

SAID = 20
"""Files that are listed one by one."""


def withdraw(
    config: BuildFile,
    person: Annotated[
        str, typer.Argument(help="source:subject, or an identity; all names of the person go.")
    ],
    reason: Annotated[str, typer.Option(help="Kept in the record; name nobody in it.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed and stop.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove a person who withdrew consent from the dataset, its versions and all results.

    A record without the data stays beside the build file, and no build takes the person in again.
    One that was broken off is completed when it is called again.
    """
    from pipeline.build.config import load_build
    from pipeline.build.run import only_build
    from pipeline.build.withdrawal import (
        ELSEWHERE,
        find_person,
        find_recorded,
        mentions,
        record_person,
        remove_recorded,
    )

    loaded = load_build(config)
    with only_build(loaded.work):
        record = find_recorded(loaded, person)
        report: dict[str, Any] = {"recorded": record is not None}
        if record is None:
            found = find_person(loaded, person)
            report |= {
                **found.counts(),
                "names": list(found.names),
                "names_in": mentions(loaded, found),
                "files_to_delete": list(map(str, found.files)),
            }
            if not as_json:
                announce(report)
        if not dry_run:
            if not yes:
                typer.confirm("Remove all of this for good?", abort=True, err=True)
            if record is None:
                record = record_person(loaded, found, reason)
            report |= {"removed": remove_recorded(loaded, record), "not_reached": list(ELSEWHERE)}
    if as_json:
        show(report)
    elif not dry_run:
        conclude(report)


def announce(report: Mapping[str, Any]) -> None:
    """Who would leave, and what of theirs is known."""
    tell(f"names of the person: {', '.join(report['names'])}")
    tell(f"{report['scans']} scans and other files, {report['rows']} stored rows")
    for place in report["names_in"]:
        tell(f"{place} names them: take that out")
    files = report["files_to_delete"]
    tell(f"{len(files)} files in the sources' folders, which are read and never written: delete")
    for path in files[:SAID]:
        tell(f"  {path}")
    if (more := len(files) - SAID) > 0:
        tell(f"  … and {more} more; --json lists them all")


def conclude(report: Mapping[str, Any]) -> None:
    """What went, and what no command here reaches."""
    removed = report["removed"]
    if report["recorded"]:
        tell("they had withdrawn already; what was left of that is removed")
    tell(f"published without them: {removed['store'] or 'nothing was published'}")
    folders = ", ".join(removed["folders"]) or "no folder"
    tell(
        f"removed: {len(removed['versions'])} versions, {removed['results']} scans' results, "
        f"{removed['result_files']} files of results, {removed['hashes']} hashes of files, "
        f"{removed['decisions']['entries']} decisions; {folders}"
    )
    tell("not reached from here:")
    for place in report["not_reached"]:
        tell(f"  {place}")
