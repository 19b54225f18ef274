"""The `facefold` command. Heavy packages are imported inside the commands that need them."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.terminal import (
    evaluate_command,
    model_command,
    sources_command,
    splits_command,
    store_commands,
    train_command,
    withdraw_command,
)
from flows.terminal.boundary import ended, say, show, tell
from flows.terminal.options import (
    Beside,
    BuildFile,
    DryRun,
    Embedding,
    Extent,
    FileAxes,
    Folder,
    Json,
    Landmarks,
    MapFile,
    MeshFile,
    MeshUnit,
    Model,
    OuterEyes,
    Overrides,
    Recalibrate,
    Registered,
    Retry,
    Scale,
    ScanFiles,
    Scheduler,
    Scheme,
    Screenshot,
    Unit,
)
from pipeline import __version__
from pipeline.build.device import Device

if TYPE_CHECKING:
    from pipeline.build.config import BuildConfig

app = typer.Typer(
    name="facefold",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


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
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Make synthetic sources, fold them into a store, check it against the truth, load a batch."""
    from flows.prefect_server.local_prefect import use_local_prefect

    use_local_prefect(out / ".facefold" / "prefect")
    from flows.demo import run_demo

    summary = run_demo(out, scans, device, quiet=as_json)
    if as_json:
        show(summary)


@app.command()
def build(
    config: BuildFile,
    overrides: Overrides = None,
    dask: Scheduler = None,
    dry_run: DryRun = False,
    retry: Retry = False,
    recalibrate: Recalibrate = False,
    as_json: Json = False,
) -> None:
    """Rebuild the unified dataset of a build file; what did not change is not computed again."""
    from pipeline.build.config import load_build

    given = tuple(overrides or ())
    loaded = load_build(config, given)
    if dry_run:
        from flows.terminal.dry_run import dry_run_report
        from pipeline.build.dry_run import dry_run as describe

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
    from flows.prefect_server.local_prefect import use_local_prefect
    from pipeline.build.estimate import full_disk_named
    from pipeline.build.run import only_build, plan_build, unchanged

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
    scans: ScanFiles,
    out: Folder,
    unit: Unit = "auto",
    landmarks: Landmarks = None,
    scheme: Scheme = None,
    axes: FileAxes = None,
    outer_eye_mm: OuterEyes = None,
    extent_mm: Extent = None,
    scale: Scale = 1.0,
    model: Model = None,
    embedding: Embedding = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Register the model to scans: <stem>.ply and <stem>.json for each, in millimetres.

    Exit status: 0 all registered, 3 some scans failed (their .json says why), 2 wrong use.
    """
    from flows.terminal.console import registration_table
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
        device=device,
    )
    show(reports) if as_json else registration_table(reports)
    if any(report["status"] == "failed" for report in reports):
        raise typer.Exit(3)


@app.command()
def map_topology(
    mesh: MeshFile,
    out: MapFile,
    unit: MeshUnit,
    landmarks: Landmarks = None,
    scheme: Scheme = None,
    axes: FileAxes = None,
    model: Model = None,
    embedding: Embedding = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Map the model's topology to another mesh's, such as the Basel face's, and back: an .npz.

    The model is registered to the mesh; each vertex of one gets its place on the other's triangles.
    """
    from pipeline.build.map_topology import map_topology as write_map
    from pipeline.flame.assets import load_model

    report = write_map(
        mesh,
        out,
        load_model(model, embedding),
        unit=unit,
        landmarks=landmarks,
        scheme=scheme,
        axes=axes,
        device=device,
    )
    if as_json:
        show(report)
        return
    tell(f"{out}: {report['model']['name']} and {mesh} mapped to each other")
    for way in ("model_to_mesh", "mesh_to_model"):
        found = report[way]
        tell(
            f"{way.replace('_', ' ')}: {found['valid']:,} of {found['vertices']:,} vertices have a "
            f"place, {found['median_mm']:.2f} mm away (median; p95 {found['p95_mm']:.2f} mm)"
        )


@app.command()
def view(
    scans: ScanFiles,
    registered: Registered = None,
    unit: Unit = "auto",
    landmarks: Landmarks = None,
    axes: FileAxes = None,
    beside: Beside = True,
    screenshot: Screenshot = None,
) -> None:
    """Show scans in a window, with the meshes registered to them; needs open3d.

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


for command in (
    *store_commands.COMMANDS,
    evaluate_command.evaluate,
    model_command.model,
    splits_command.splits,
    train_command.train,
    withdraw_command.withdraw,
):
    app.command()(command)
app.add_typer(sources_command.app, name="sources", invoke_without_command=True)


def main() -> None:
    """Entry point: what is refused on purpose, or by the machine, shows no traceback."""
    # before torch is imported: threads win little on one head, and lose much on a busy machine
    if sys.argv[1:2] != ["train"]:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    ended(app)


if __name__ == "__main__":
    main()
