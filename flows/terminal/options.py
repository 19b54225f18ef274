"""Options and arguments of the `facefold` command, each once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from flows.terminal.boundary import local
from pipeline.units import UnitName

# of all commands
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]
Folder = Annotated[Path, typer.Option("--out", parser=local, help="Where the results go.")]

# of a build
BuildFile = Annotated[Path, typer.Argument(parser=local, help="The build's YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Fields to replace: workers=4, sources.0.root=/mnt/x, 'splits={train: 1.0}'.",
    ),
]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of a Dask scheduler; local processes without it.")
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Say what would be read, computed, reused and removed, in what time and space, "
        "and stop.",
    ),
]
Retry = Annotated[
    bool,
    typer.Option("--retry", help="Try scans again that ended their worker or took too long."),
]
Recalibrate = Annotated[
    bool,
    typer.Option(
        "--recalibrate",
        help="Estimate anew where each source puts its landmarks, and how people differ, from the "
        "scans there are now; where landmarks change, a source's scans are registered again.",
    ),
]

# of scan files
ScanFiles = Annotated[list[Path], typer.Argument(parser=local, help="Scan files.")]
Unit = Annotated[UnitName, typer.Option(help="Unit of the files; auto decides or refuses.")]
Landmarks = Annotated[
    str | None,
    typer.Option(help="Landmark file, or a pattern such as '{stem}_lmk.npy' for several."),
]
Scheme = Annotated[
    str | None, typer.Option(help="Landmark scheme; follows from the count without it.")
]
FileAxes = Annotated[
    str | None,
    typer.Option(help="Axes of the files, such as up=+y,forward=+z; any pose without them."),
]
OuterEyes = Annotated[
    tuple[float, float] | None,
    typer.Option(help="Plausible distance of the outer eye corners, such as 60 105."),
]
Extent = Annotated[
    tuple[float, float] | None,
    typer.Option(help="Plausible largest extent of a scan without landmarks."),
]
Scale = Annotated[
    float, typer.Option(help="What brings the files into the unit, if they are in none.")
]
Model = Annotated[
    Path | None, typer.Option(parser=local, help="FLAME's file, an .npz, or a template mesh.")
]
Embedding = Annotated[
    Path | None,
    typer.Option(parser=local, help="The model's landmarks: FLAME's file or vertex indices."),
]
Registered = Annotated[
    list[Path] | None,
    typer.Option(
        parser=local,
        help="Mesh registered to the scan, once a scan in the same order, or the folder that "
        "`facefold register` wrote them to.",
    ),
]
Beside = Annotated[
    bool, typer.Option("--beside/--over", help="Where meshes stand: beside or over the scans.")
]
Screenshot = Annotated[
    Path | None, typer.Option(parser=local, help="Save the picture as this PNG and end.")
]

# of a mesh of another topology
MeshFile = Annotated[
    Path,
    typer.Argument(
        parser=local,
        help="A mesh (.obj, .ply …), Deep3D's BFM_model_front.mat or 3DDFA-V3's face_model.npy.",
    ),
]
MapFile = Annotated[Path, typer.Option("--out", parser=local, help="The .npz to write.")]
MeshUnitName = Literal["mm", "cm", "dm", "m", "inch", "um"]
MeshUnit = Annotated[
    MeshUnitName,
    typer.Option(
        "--unit", help="Unit of the mesh, never fitted: dm for both Basel files, um for the BFM."
    ),
]

# of a store; names of profiles and layouts are compared with the store's own by a test: what
# declares them takes long to import
STORE_HELP = "The folder of a dataset, of one version, or a URL."
Store = Annotated[str, typer.Argument(help=STORE_HELP)]
LocalStore = Annotated[Path, typer.Argument(parser=local, help="The folder of the store.")]
Where = Annotated[
    str, typer.Option(help='A question to the manifest: "commercial and coverage > 0.6".')
]
Url = Annotated[str, typer.Argument(help="s3://bucket/prefix, gs://… or az://….")]
ProfileName = Literal["training", "archive"]
Profile = Annotated[
    ProfileName | None,
    typer.Option(help="training: mapped; archive: compressed, for transfer."),
]
Int16 = Annotated[
    bool | None, typer.Option("--int16/--float32", help="Lengths in steps of 5 µm, or not.")
]
RowOf = Literal["scan", "view", "identity"]
LayoutName = Literal["mica", "ply", "obj"]
Layout = Annotated[LayoutName, typer.Option(help="mica: FLAME parameters and OBJ in metres.")]

# of a source
Source = Annotated[str, typer.Argument(help="Id of a registry, or its YAML file.")]


# of an evaluation; names of benchmarks are compared with the known ones by a test
BenchmarkName = Literal[
    "now", "fg2018", "realy", "micc", "facewarehouse", "aflw2000", "modular", "store"
]
BenchmarkArgument = Annotated[
    str,
    typer.Argument(metavar="BENCHMARK", help=f"One of {', '.join(get_args(BenchmarkName))}."),
]
BenchmarkRoot = Annotated[
    Path,
    typer.Option("--root", parser=local, help="The benchmark as it is delivered, or the store."),
]
Predictions = Annotated[
    Path | None,
    typer.Option(parser=local, help="Folder of the predictions; not needed with --from-store."),
]
PredictionUnit = Annotated[
    UnitName, typer.Option("--unit", help="Unit of all predictions; auto decides by their size.")
]
PredictionLandmarks = Annotated[
    str | None,
    typer.Option(
        "--landmarks",
        help="Pattern of the predictions' landmark files, such as '{stem}_lmk.npy'; without it "
        "those of a mesh's own stem are taken, or the model's for a mesh in its topology.",
    ),
]
Choices = Annotated[
    list[str] | None,
    typer.Option(
        "--choose", metavar="NAME=VALUE", help="What the benchmark lets one choose; repeatable."
    ),
]
FromStore = Annotated[
    str | None,
    typer.Option(metavar="SPLIT", help="Score the scans of a store's split, with --root STORE."),
]
LocalWorkers = Annotated[
    int, typer.Option("--workers", min=1, help="Local processes, if no cluster is named.")
]

# of a training; names of systems are compared with the known ones by a test
SystemName = Literal["mica", "prdl", "pgn", "psl"]
SystemArgument = Annotated[
    str, typer.Argument(metavar="SYSTEM", help=f"One of {', '.join(get_args(SystemName))}.")
]
TrainingStore = Annotated[str | None, typer.Argument(metavar="STORE", help=STORE_HELP)]
TrainingFile = Annotated[
    Path | None,
    typer.Option("--config", parser=local, help="YAML of what is not as by default."),
]
TrainingFolder = Annotated[
    Path | None, typer.Option("--out", parser=local, help="Where the results go.")
]
Defaults = Annotated[
    bool, typer.Option("--defaults", help="Print the default configuration as YAML, and stop.")
]
Seconds = Annotated[
    float | None,
    typer.Option(min=0, help="Stop after so many, with a checkpoint to go on from."),
]
HeadsOf = Annotated[
    str,
    typer.Option("--heads", metavar="SPLIT", help="Split whose people's heads are written."),
]
