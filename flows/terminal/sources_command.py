"""`facefold sources`: the registries, and new sources tried out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.terminal.boundary import local, say, show
from flows.terminal.options import Embedding, Folder, Json, Model, Source
from pipeline.build.device import Device
from pipeline.errors import FacefoldError

app = typer.Typer(help="The sources facefold knows: one YAML registry each.")


@app.callback()
def sources(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_sources()


@app.command("list")
def list_sources(as_json: Json = False) -> None:
    """List the registries: id, format, unit, metric, verified, benchmark."""
    from flows.terminal.console import sources_table
    from pipeline.registry import list_registries

    rows = [
        {
            name: getattr(registry, name)
            for name in ("id", "title", "verified", "metric", "format", "unit")
        }
        | {"benchmark": str(registry.benchmark) if registry.benchmark else None}
        for registry in list_registries()
    ]
    if as_json:
        show(rows)
    else:
        sources_table(rows)


@app.command("check")
def check_source(
    source: Source,
    root: Annotated[
        Path | None, typer.Option(parser=local, help="The delivered folder to check it on.")
    ] = None,
    sample: Annotated[
        int, typer.Option(min=1, help="Scans to read and to show, spread over the folder.")
    ] = 8,
    sheet: Annotated[
        Path | None,
        typer.Option(parser=local, help="The contact sheet, a PNG; <id>_check.png without it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a registry, and with --root what it makes of a folder: files, units, frames.

    A contact sheet shows the sampled scans from the front, with landmarks, size and verdict.
    Exit status: 0 sound, 3 the folder contradicts the registry, 2 the registry is wrong.
    """
    from flows.terminal.console import mapping_table
    from pipeline.registry import load_registry

    registry = load_registry(source)
    report = {"id": registry.id, "valid": True}
    if root is not None:
        from pipeline.sources import check_folder

        picture = sheet or Path(f"{registry.id}_check.png")
        report |= check_folder(registry, root, picture, sample, own_names_shown=True)
    if as_json:
        show(report)
    else:
        mapping_table(registry.id, report)
    if report.get("faults"):
        raise typer.Exit(3)


@app.command("add")
def add_source(
    source: Source,
    root: Annotated[Path, typer.Option(parser=local, help="The delivered folder.")],
    out: Folder,
    sample: Annotated[
        int, typer.Option(min=1, help="Scans to register, spread over the folder.")
    ] = 8,
    model: Model = None,
    embedding: Embedding = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Try a new source out: check it, register a sample, draw both, say if a build can take it.

    Prints what to paste below `sources:` of a build file. Exit status: 0 ready, or look at what is
    said; 3 not ready: a build would refuse the source; 2 wrong use.
    """
    from flows.prefect_server.local_prefect import use_local_prefect
    from pipeline.registry import load_registry

    load_registry(source)  # what is wrong with it is told before Prefect starts
    use_local_prefect(out / ".facefold" / "prefect")
    from flows.add_source import add_source as try_out
    from flows.terminal.console import trial_table

    found = try_out(source, root, out, sample, model, embedding, device)
    show(found) if as_json else trial_table(found)
    if found["verdict"] == "not ready":
        raise typer.Exit(3)


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of registries, for editors."""
    from pipeline.registry import registry_schema_text

    typer.echo(registry_schema_text(), nl=False)


@app.command("new")
def new_source(
    source: Annotated[str, typer.Argument(help="Id of the new source.")],
    root: Annotated[
        Path | None,
        typer.Option(parser=local, help="The delivered folder: what it shows is filled in."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(parser=local, help="The file to write, named as the id; stdout without it."),
    ] = None,
) -> None:
    """Write a commented registry to fill in: drafted from a folder with --root, blank without."""
    from pipeline.registry import new_registry

    if out is not None and (out.exists() or out.name != f"{source}.yaml"):
        fault = "is there already" if out.exists() else "is not called as its source"
        raise FacefoldError(f"{out}: {fault}; name a new file {source}.yaml")
    draft = None
    if root is not None:
        from pipeline.sources import draft_source

        draft = draft_source(root)
    text = new_registry(source, draft)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
        say(f"{out}: replace every FILL, then: facefold sources check {out} --root {root or 'DIR'}")
