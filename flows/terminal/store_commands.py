"""`facefold inspect`, `verify`, `subset` and what else is done with a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.terminal.boundary import local, say, show, tell
from flows.terminal.options import (
    Embedding,
    Folder,
    Int16,
    Json,
    Layout,
    LocalStore,
    Model,
    Profile,
    RowOf,
    Store,
    Url,
    Where,
)


def inspect(store: Store, as_json: Json = False) -> None:
    """Show what a store holds: sources, splits, people, licences and what they allow, versions."""
    from pipeline.store import inspect_store

    found = inspect_store(store)
    if as_json:
        show(found)
    else:
        from flows.terminal.store_report import store_report

        store_report(store, found)


def subset(
    store: Store,
    where: Where,
    out: Folder,
    profile: Profile = None,
    int16: Int16 = None,
    as_json: Json = False,
) -> None:
    """Copy the rows that fit a question into a store of their own, as this one or in other form."""
    from pipeline.store import open_store
    from pipeline.store import subset as make_subset

    given = {"profile": profile, "int16": int16}
    form = {name: value for name, value in given.items() if value is not None}
    version = make_subset(store, where, out, **form)
    found = {"store": str(version), "rows": len(open_store(version))}
    show(found) if as_json else tell(f"{out}: {found['rows']} rows")


def export(
    store: Store,
    out: Folder,
    layout: Layout,
    where: Where = "True",
    model: Annotated[
        Path | None, typer.Option(parser=local, help="The model that the store was made with.")
    ] = None,
    embedding: Annotated[
        Path | None, typer.Option(parser=local, help="Its landmarks, as in the build.")
    ] = None,
) -> None:
    """Write a store's registrations as small files: MICA's layout, or meshes in millimetres."""
    from pipeline.flame.assets import load_model
    from pipeline.store import export as write_files

    written = write_files(store, out, layout, load_model(model, embedding), where)
    say(f"{out}: {written} scans")


def attach(
    store: Store,
    field: Annotated[str, typer.Option(help="Name of the field: a new one, or one to replace.")],
    values: Annotated[
        Path,
        typer.Option(
            "--from", parser=local, help="An .npz or .parquet of ids and values, a row each."
        ),
    ],
    unit: Annotated[
        str | None, typer.Option(help="Of a new field: mm, degree …; 1 where there is none.")
    ] = None,
    meaning: Annotated[str | None, typer.Option(help="Of a new field, in one line.")] = None,
    of: Annotated[
        RowOf | None,
        typer.Option(help="What the ids are of, where their name in the file does not say it."),
    ] = None,
    missing: Annotated[
        str | None,
        typer.Option(
            help="What rows hold that the file does not give, now and after later builds: nan, a "
            "number, or kept, for what they hold already. Without it the file has to give all."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Add an array of your own to a store, or replace one, by scan, view or person.

    A new version is published, which has all other files in common with the one before. Later
    builds keep the values of scans that did not change.
    """
    from pipeline.store import attach as attach_values
    from pipeline.store.attached import MANY

    done = attach_values(store, field, values, unit, meaning, of, missing)
    declared = done.field
    found = {
        "store": str(done.version),
        "field": declared.name,
        "of": declared.row_of,
        "type": declared.dtype,
        "shape": list(declared.shape),
        "rows": done.rows,
        "given": done.given,
        "replaced": done.replaced,
    }
    if as_json:
        show(found)
        return
    shape = " × ".join(map(str, declared.shape)) or "1"
    verb = "replaced" if done.replaced else "added"
    tell(
        f"{store}: {verb} {declared.name}, {shape} of {declared.dtype}: {done.given:,} of "
        f"{done.rows:,} {MANY[declared.row_of]} from {values}"
    )


def refit(
    store: LocalStore, model: Model = None, embedding: Embedding = None, as_json: Json = False
) -> None:
    """Make a store's coefficients those of another FLAME version, or model of the same topology.

    They are fitted to the stored vertices, which stay: nothing is registered again. A new version
    is published, which has all other files in common with the one before.
    """
    from flows.terminal.watching import watch
    from pipeline.build.refit_store import refit_store
    from pipeline.flame.assets import load_model

    loaded = load_model(model, embedding)
    with watch(quiet=as_json) as seen:
        made = refit_store(store, loaded, seen)
    if as_json:
        told = made._asdict()
        show({"store": str(told.pop("version")), "model": loaded.name, **told})
        return
    tell(
        f"{store}: coefficients of {loaded.name} for {made.scans:,} scans and {made.people:,} "
        f"people; they leave {made.residual_mm:.2f} mm of valid vertices (median over scans of the "
        f"rms), those before {made.before_mm:.2f} mm"
    )


def prune(
    store: LocalStore,
    keep: Annotated[
        int, typer.Option(min=0, help="How many versions stay besides the published one.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed and stop.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove a store's old versions, the oldest first, and what killed processes left."""
    from flows.terminal.store_report import prune_report
    from pipeline.store import prune as prune_store

    pruned = prune_store(store, keep, dry_run)
    if as_json:
        names = [version.name for version in pruned.versions]
        leftovers = [path.name for path in pruned.leftovers]
        show({"versions": names, "leftovers": leftovers, "bytes": pruned.bytes})
    else:
        prune_report(str(store), pruned, dry_run)


def push(store: LocalStore, url: Url) -> None:
    """Publish a store's version in an object store; what a push that was broken off sent stays."""
    from pipeline.store import push as push_store

    tell(push_store(store, url))


def pull(url: Url, out: LocalStore) -> None:
    """Publish the version that an object store holds in a folder."""
    from pipeline.store import pull as pull_store

    tell(pull_store(url, out))


def verify(store: Store, as_json: Json = False) -> None:
    """Read every byte of a store and compare it with what was written; 3 where faults are found."""
    from pipeline.store import verify as verify_store

    faults = verify_store(store)
    if as_json:
        show({"store": store, "faults": faults})
    else:
        for fault in faults:
            tell(fault)
        tell(f"{store}: {len(faults)} faults" if faults else f"{store}: sound")
    if faults:
        raise typer.Exit(3)


COMMANDS = (inspect, subset, attach, refit, export, prune, push, pull, verify)
