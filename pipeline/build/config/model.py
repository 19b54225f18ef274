"""The build file as one strict model."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictBool,
    StrictInt,
    field_validator,
)

from pipeline.build.device import Device
from pipeline.quality.thresholds import Gates
from pipeline.registry.options import StatedOptions
from pipeline.registry.sections import Number
from pipeline.store.attached import Attached
from pipeline.store.form import Form
from pipeline.store.remote.objects import is_url
from pipeline.store.rows import MOST_POINTS, POINTS
from pipeline.store.schema import ModelTag

VARIABLE = re.compile(r"\$(?:\$|\{(\w+)\}|([A-Za-z_]\w*))")
MOST_WORKERS, MOST_SECONDS = 1024, 86400


def expanded(path: str) -> str:
    """`~` and `${VAR}` in a path as a shell expands them; `$$` is a dollar.

    ValueError where no such user or variable is known.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name is None:
            return "$"
        if not os.environ.get(name):
            raise ValueError(f"{name} to be set in the environment; $$ is a dollar")
        return os.environ[name]

    home = os.path.expanduser(path)  # noqa: PTH111 (a Path would lose the // of a URL)
    if home.startswith("~"):
        raise ValueError("the ~ of a user that there is; ./~ begins the name of a file")
    return VARIABLE.sub(value, home)


def _path(value: Any) -> Any:
    if not isinstance(value, (str, Path)) or not str(value):
        raise ValueError("a path")
    return expanded(str(value))


LocalPath = Annotated[Path, BeforeValidator(_path)]
Text = Annotated[str, Field(min_length=1), AfterValidator(expanded)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SourceEntry(Strict):
    """A source to fold in: its registry and the folder it was delivered in."""

    registry: Text = Field(description="Id of a registry, or the path of its YAML file.")
    root: LocalPath = Field(description="The source's folder. It is read and never written.")
    licence_note: str | None = Field(
        None,
        description="How the source may be used here: which agreement, signed when and by whom, "
        "who may read what is made from it. Needed where the source may not be passed on and "
        "`store` is a URL.",
    )


Channels = Number | tuple[Number, Number, Number]


class EmbeddingInput(Strict):
    """What a network takes: (pixels − mean) / scale, of 0 … 255. The default is ArcFace's."""

    size_px: Literal[112] = Field(default=112, description="Width and height of its picture.")
    channels: Literal["rgb", "bgr"] = Field(default="rgb", description="The order of its colours.")
    mean: Channels = Field(
        default=127.5, description="One for all colours, or one each in that order."
    )
    scale: Channels = Field(
        default=127.5, description="One for all colours, or one each; none is 0."
    )

    @field_validator("scale")
    @classmethod
    def _no_zero(cls, value: Channels) -> Channels:
        if 0 in (value if isinstance(value, tuple) else (value,)):
            raise ValueError("numbers other than 0")
        return value


class BuildConfig(Strict):
    """`facefold build`'s YAML file. Relative paths are relative to the file; `~` and `${VAR}` in
    paths are expanded."""

    store: Text = Field(
        description="The dataset: a folder, or a URL such as s3://bucket/prefix. Published "
        "versions lie below it."
    )
    sources: tuple[SourceEntry, ...] = Field(min_length=1, description="What is folded in.")
    model: LocalPath | None = Field(
        None,
        description="FLAME's model file, or `stand-in`; without it FACEFOLD_FLAME_MODEL, and the "
        "stand-in where that is unset.",
    )
    embedding: LocalPath | None = Field(
        None, description="Landmark embedding of the model, where its file has none."
    )
    work: LocalPath = Field(
        Path(".facefold"),
        description="Folder of the ledger, results, kept scans and Prefect's state; and of the "
        "store, before it is sent, where `store` is a URL.",
    )
    splits: Mapping[str, Number] = Field(
        {"train": 0.8, "val": 0.1, "test": 0.1}, description="Share of identities in each split."
    )
    seed: StrictInt = Field(0, description="Seed of the split; the same seed gives the same split.")
    identities: LocalPath = Field(
        Path("identities.yaml"),
        description="File of what people have decided about who is who; without one, geometry and "
        "the registries alone say it.",
    )
    compare_faces: StrictBool = Field(
        True,
        description="Find people with several names, scans under a wrong name and copies of scans "
        "by their geometry.",
    )
    profile: Text = Field(
        "strict",
        description="Who is kept out of training. `strict`: everyone whom a benchmark may test on. "
        "`mica`: MICA's published split. Or the path of a profile of your own.",
    )
    registration: StatedOptions = Field(
        StatedOptions(),
        description="Registration options for all sources; a registry's own come on top.",
    )
    quality: Gates = Field(Gates(), description="Thresholds of the quality gates.")
    device: Device = Field(
        "auto", description="Where scans are registered; `auto` is the GPU of a worker with one."
    )
    workers: StrictInt = Field(
        2,
        ge=1,
        le=MOST_WORKERS,
        description="Local worker processes, where no cluster is named.",
    )
    batch: StrictInt = Field(
        8, ge=1, le=1024, description="Scans registered together by one worker."
    )
    keep_scans: StrictBool = Field(
        True,
        description="Keep each cleaned scan in `work`, so that a changed registration option does "
        "not read the files again.",
    )
    scan_seconds: Number = Field(
        300, gt=0, le=MOST_SECONDS, description="A scan that takes a worker longer is quarantined."
    )
    worker_memory_gb: Number | None = Field(
        None,
        gt=0,
        description="A scan that takes a worker more is quarantined; without it, the machine's "
        "memory shared by the workers.",
    )
    views: StrictBool = Field(
        True, description="Make the photos and renders that registries ask for (`views:`)."
    )
    views_seed: StrictInt = Field(
        0, description="Seed of all that is drawn for renders; another one makes them again."
    )
    embedding_model: LocalPath | None = Field(
        None,
        description="ONNX file of a face recognition network of your own, which sees the aligned "
        "pictures; without one the store has no `embeddings`.",
    )
    embedding_input: EmbeddingInput = Field(
        EmbeddingInput(), description="What that network takes."
    )
    rows_per_shard: StrictInt = Field(
        4096, ge=16, le=1 << 20, multiple_of=16, description="Rows of one shard of the store."
    )
    points_per_scan: StrictInt = Field(
        16384,
        ge=0,
        le=MOST_POINTS,
        multiple_of=256,
        description="The most points of a scan itself that the store keeps; 0 keeps none.",
    )
    sort_rows: StrictBool = Field(
        False,
        description="Order all rows by identity, so that equal sources give equal bytes whatever "
        "was published before. Without it rows keep the places of the published version where that "
        "leaves half of its shards as they are, and those are not written again.",
    )

    _folder: Path | None = PrivateAttr(None)

    @property
    def folder(self) -> Path | None:
        """The build file's own, with what is said beside it; None where there is no file."""
        return self._folder

    def form(
        self,
        rows: int,
        model: ModelTag,
        identities: int = 0,
        views: int = 0,
        attached: tuple[Attached, ...] = (),
        embeddings: bool = False,
    ) -> Form:
        """How a version of so many scans, people with a label and views lays out its arrays."""
        points = POINTS if self.points_per_scan else ()
        return Form(
            *(rows, model, self.rows_per_shard),
            extras=(*points, *(["embeddings"] if embeddings else [])),
            per_scan={"point": self.points_per_scan} if points else {},
            identities=identities,
            views=views,
            attached=attached,
        )

    @property
    def store_url(self) -> str | None:
        """Where the store is sent, if it does not stay in a folder."""
        return self.store if is_url(self.store) else None

    @property
    def store_folder(self) -> Path:
        """The folder that versions are published in first."""
        return self.work / "store" if is_url(self.store) else Path(self.store)
