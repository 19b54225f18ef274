"""The `facefold` command. Heavy packages are imported inside the commands that need them."""

from __future__ import annotations

import os
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.terminal.boundary import ended, local, say, show, tell
from pipeline import __version__
from pipeline.errors import FacefoldError
from pipeline.units import UnitName

if TYPE_CHECKING:
    from pipeline.build.config import BuildConfig

app = typer.Typer(
    name="facefold",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
sources_app = typer.Typer(help="The sources facefold knows: one YAML registry each.")
app.add_typer(sources_app, name="sources", invoke_without_command=True)


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


Unit = Annotated[UnitName, typer.Option(help="Unit of the files; auto decides or refuses.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]
Folder = Annotated[Path, typer.Option("--out", parser=local, help="Where the results go.")]


def print_version(wanted: bool) -> None:
    if wanted:
        tell(__version__)
        raise typer.Exit


@app.callback()
def facefold(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Fold many 3D face scan datasets into one metric, registered, sharded training set."""


@app.command()
def demo(
    out: Folder = Path("demo"),
    scans: Annotated[int, typer.Option(min=24, help="Scan files to make, broken ones too.")] = 60,
    device: Device = Device.auto,
    as_json: Json = False,
) -> None:
    """Make synthetic sources, fold them into a store, check it against the truth, load a batch."""
    from flows.prefect_server.local_prefect import use_local_prefect

    use_local_prefect(out / ".facefold" / "prefect")
    from flows.demo import run_demo

    summary = run_demo(out, scans, device.value, quiet=as_json)
    if as_json:
        show(summary)


@app.command()
def build(
    config: Annotated[Path, typer.Argument(parser=local, help="The build's YAML file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Fields to replace: workers=4, sources.0.root=/mnt/x, 'splits={train: 1.0}'.",
        ),
    ] = None,
    dask: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler; local processes without it.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what would be read, computed, reused and removed, in what time and space, "
            "and stop.",
        ),
    ] = False,
    retry: Annotated[
        bool,
        typer.Option("--retry", help="Try scans again that ended their worker or took too long."),
    ] = False,
    recalibrate: Annotated[
        bool,
        typer.Option(
            "--recalibrate",
            help="Estimate anew where each source puts its landmarks, from the scans it has now; "
            "where that changes, its scans are registered again.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Rebuild the unified dataset of a build file; what did not change is not computed again."""
    from pipeline.build.config import load_build

    given = tuple(overrides or ())
    loaded = load_build(config, given)
    if dry_run:
        from flows.terminal.dry_run import dry_run as describe
        from flows.terminal.dry_run import dry_run_report

        report = describe(loaded, retry, recalibrate)
        show(report) if as_json else dry_run_report(report)
        return
    from flows.terminal.console import summary_table

    summary = run_build(loaded, config, given, dask, retry, recalibrate)
    if as_json:
        show(summary)
    else:
        summary_table(summary)


def run_build(
    loaded: BuildConfig,
    file: Path,
    overrides: tuple[str, ...],
    dask: str | None,
    retry: bool,
    recalibrate: bool,
) -> dict[str, Any]:
    """As a flow; without one where nothing has changed and no Prefect server is there to tell."""
    from flows.cluster.stopping import stopped_at_once, take_children_along
    from flows.planning import only_build, plan_build, unchanged
    from flows.prefect_server.local_prefect import use_local_prefect
    from pipeline.build.estimate import full_disk_named

    with full_disk_named(loaded.work, loaded.store_folder), ExitStack() as running:
        if os.environ.get("PREFECT_API_URL"):
            use_local_prefect(loaded.work / "prefect")
            from flows.build import build as build_flow

            return build_flow(file, overrides, dask, retry, recalibrate)
        running.enter_context(only_build(loaded.work))
        running.enter_context(stopped_at_once(lambda: "before the first scan"))
        planned = plan_build(loaded, dask, retry, recalibrate)
        if (summary := unchanged(planned)) is not None:
            return summary
        take_children_along()
        use_local_prefect(loaded.work / "prefect")
        from flows.build import build_planned

        return build_planned(planned)


@app.command()
def register(
    scans: Annotated[list[Path], typer.Argument(parser=local, help="Scan files.")],
    out: Folder,
    unit: Unit = "auto",
    landmarks: Annotated[
        str | None,
        typer.Option(help="Landmark file, or a pattern such as '{stem}_lmk.npy' for several."),
    ] = None,
    scheme: Annotated[
        str | None, typer.Option(help="Landmark scheme; follows from the count without it.")
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(help="Axes of the files, such as up=+y,forward=+z; any pose without them."),
    ] = None,
    outer_eye_mm: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Plausible distance of the outer eye corners, such as 60 105."),
    ] = None,
    extent_mm: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Plausible largest extent of a scan without landmarks."),
    ] = None,
    scale: Annotated[
        float, typer.Option(help="What brings the files into the unit, if they are in none.")
    ] = 1.0,
    model: Annotated[
        Path | None, typer.Option(parser=local, help="FLAME's file, an .npz, or a template mesh.")
    ] = None,
    embedding: Annotated[
        Path | None,
        typer.Option(parser=local, help="The model's landmarks: FLAME's file or vertex indices."),
    ] = None,
    device: Device = Device.auto,
    as_json: Json = False,
) -> None:
    """Register the model to scans: <stem>.ply and <stem>.json for each, in millimetres.

    Exit status: 0 all registered, 3 some scans failed (their .json says why), 2 wrong use.
    """
    from pipeline.build.register_files import register_files
    from pipeline.flame.assets import load_model

    reports = register_files(
        scans,
        out,
        load_model(model, embedding),
        unit=unit,
        landmarks=landmarks,
        scheme=scheme,
        axes=axes,
        outer_eye_mm=outer_eye_mm,
        extent_mm=extent_mm,
        scale=scale,
        device=device.value,
    )
    if as_json:
        show(reports)
    else:
        from flows.terminal.console import registration_table

        registration_table(reports)
    if any(report["status"] == "failed" for report in reports):
        raise typer.Exit(3)


@app.command()
def view(
    scans: Annotated[list[Path], typer.Argument(parser=local, help="Scan files.")],
    registered: Annotated[
        list[Path] | None,
        typer.Option(
            parser=local,
            help="Mesh registered to the scan, once a scan in the same order, or the folder that "
            "`facefold register` wrote them to.",
        ),
    ] = None,
    unit: Unit = "auto",
    landmarks: Annotated[
        str | None,
        typer.Option(help="Landmark file, or a pattern such as '{stem}_lmk.npy' for several."),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(
            help="Axes of the files, such as up=+y,forward=+z; the face is searched for without."
        ),
    ] = None,
    beside: Annotated[
        bool, typer.Option("--beside/--over", help="Where meshes stand: beside or over the scans.")
    ] = True,
    screenshot: Annotated[
        Path | None, typer.Option(parser=local, help="Save the picture as this PNG and end.")
    ] = None,
) -> None:
    """Show scans in a window, with the meshes registered to them; needs facefold[view].

    A mesh beside its scan is painted by its distance to it: pale is 0, deep red 2 mm.
    """
    from pipeline.pictures.viewer import KEYS, imported

    imported()
    from pipeline.build.view_files import view_files
    from pipeline.flame.assets import load_model

    if screenshot is None:
        say(KEYS)
    view_files(
        scans,
        load_model(),
        registered=registered or (),
        unit=unit,
        landmarks=landmarks,
        axes=axes,
        beside=beside,
        screenshot=screenshot,
    )


Store = Annotated[str, typer.Argument(help="The folder of a dataset, of one version, or a URL.")]
LocalStore = Annotated[Path, typer.Argument(parser=local, help="The folder of the store.")]


@app.command()
def inspect(store: Store, as_json: Json = False) -> None:
    """Show what a store holds: sources, splits, people, licences and what they allow, versions."""
    from pipeline.store import inspect_store

    found = inspect_store(store)
    if as_json:
        show(found)
    else:
        from flows.terminal.store_report import store_report

        store_report(store, found)


class Profile(StrEnum):
    training = "training"
    archive = "archive"


class Layout(StrEnum):
    mica = "mica"
    ply = "ply"
    obj = "obj"


Where = Annotated[
    str, typer.Option(help='A question to the manifest: "commercial and coverage > 0.6".')
]


@app.command()
def subset(
    store: Store,
    where: Where,
    out: Folder,
    profile: Annotated[
        Profile | None, typer.Option(help="training: mapped; archive: compressed, for transfer.")
    ] = None,
    int16: Annotated[
        bool | None, typer.Option("--int16/--float32", help="Lengths in steps of 5 µm, or not.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Copy the rows that fit a question into a store of their own, as this one or in other form."""
    from pipeline.store import open_store
    from pipeline.store import subset as make_subset

    given = {"profile": profile and profile.value, "int16": int16}
    form = {name: value for name, value in given.items() if value is not None}
    version = make_subset(store, where, out, **form)
    found = {"store": str(version), "rows": len(open_store(version))}
    show(found) if as_json else tell(f"{out}: {found['rows']} rows")


@app.command()
def export(
    store: Store,
    out: Folder,
    layout: Annotated[Layout, typer.Option(help="mica: FLAME parameters and OBJ in metres.")],
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

    written = write_files(store, out, layout.value, load_model(model, embedding), where)
    say(f"{out}: {written} scans")


@app.command()
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


Url = Annotated[str, typer.Argument(help="s3://bucket/prefix, gs://… or az://….")]


@app.command()
def push(store: LocalStore, url: Url) -> None:
    """Publish a store's version in an object store; what a push that was broken off sent stays."""
    from pipeline.store import push as push_store

    tell(push_store(store, url))


@app.command()
def pull(url: Url, out: LocalStore) -> None:
    """Publish the version that an object store holds in a folder."""
    from pipeline.store import pull as pull_store

    tell(pull_store(url, out))


@app.command()
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


@sources_app.callback()
def sources(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_sources()


@sources_app.command("list")
def list_sources(as_json: Json = False) -> None:
    """List the registries: id, format, unit, metric, verified, benchmark."""
    from flows.terminal.console import sources_table
    from pipeline.registry import list_registries

    rows = [
        {
            name: getattr(registry, name)
            for name in ("id", "title", "verified", "metric", "format", "unit", "benchmark")
        }
        for registry in list_registries()
    ]
    if as_json:
        show(rows)
    else:
        sources_table(rows)


@sources_app.command("check")
def check_source(
    source: Annotated[str, typer.Argument(help="Id of a registry, or its YAML file.")],
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

        report |= check_folder(registry, root, sheet or Path(f"{registry.id}_check.png"), sample)
    if as_json:
        show(report)
    else:
        mapping_table(registry.id, report)
    if report.get("faults"):
        raise typer.Exit(3)


@sources_app.command("add")
def add_source(
    source: Annotated[str, typer.Argument(help="Id of a registry, or its YAML file.")],
    root: Annotated[Path, typer.Option(parser=local, help="The delivered folder.")],
    out: Folder,
    sample: Annotated[
        int, typer.Option(min=1, help="Scans to register, spread over the folder.")
    ] = 8,
    model: Annotated[
        Path | None, typer.Option(parser=local, help="FLAME's file, an .npz, or a template mesh.")
    ] = None,
    embedding: Annotated[
        Path | None,
        typer.Option(parser=local, help="The model's landmarks: FLAME's file or vertex indices."),
    ] = None,
    device: Device = Device.auto,
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

    found = try_out(source, root, out, sample, model, embedding, device.value)
    show(found) if as_json else trial_table(found)
    if found["verdict"] == "not ready":
        raise typer.Exit(3)


@sources_app.command("schema")
def schema() -> None:
    """Print the JSON Schema of registries, for editors."""
    from pipeline.registry import registry_schema_text

    typer.echo(registry_schema_text(), nl=False)


@sources_app.command("new")
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


def main() -> None:
    """Entry point: what is refused on purpose, or by the machine, shows no traceback."""
    # before torch is imported: threads win little on one head, and lose much on a busy machine
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    ended(app)


if __name__ == "__main__":
    main()
