"""`facefold model`: a morphable model of a store's people."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.terminal.boundary import local, show, tell
from flows.terminal.options import Embedding, Json, LocalWorkers, Scheduler, Store

SUMMARY = (
    "store", "version", "people", "components", "exact", "share_of_variance", "rms_mm",
    "expected_error_mm", "landmarks_from", "left_out", "licences", "commercial", "redistribution",
    "registered_with", "options", "curves",
)  # fmt: skip
"""Of the account, what the command shows: names of people stay in the files."""


def model(
    store: Store,
    out: Annotated[
        Path,
        typer.Option("--out", parser=local, help="The .npz to write; a .json and .png beside it."),
    ],
    components: Annotated[
        int | None,
        typer.Option(help="How many; at most 300. All that the people have without it."),
    ] = None,
    split: Annotated[str, typer.Option(help="Whose heads the model is made of.")] = "train",
    where: Annotated[
        str, typer.Option(help="A question that a scan of theirs fits: \"source == 'stirling'\".")
    ] = "",
    other: Annotated[
        Path | None,
        typer.Option(
            "--from",
            parser=local,
            help="A model of the same topology whose expressions and joints are taken along; "
            "`stand-in` for the embedded one.",
        ),
    ] = None,
    embedding: Embedding = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    dask: Scheduler = None,
    workers: LocalWorkers = 2,
    as_json: Json = False,
) -> None:
    """Make a morphable model of a store's people: mean, components, variances, in true size.

    The file is one that --model takes. Beside it: how compact and specific the model is, and how
    near it comes to people it has not seen.
    """
    from flows.cluster.modelling import components as found
    from pipeline.evaluation.morphable.model import Asked, make_model
    from pipeline.flame.assets import load_model

    given = None if other is None else load_model(other)
    asked = Asked(store, out, components, split, where, seed, given, embedding)
    made = make_model(asked, partial(found, address=dask, processes=workers))
    if as_json:
        show({"out": str(out)} | {name: made[name] for name in SUMMARY})
    else:
        report(out, made)


def report(out: Path, made: dict[str, Any]) -> None:
    """What was made, of whom, what it is worth, and what may be done with it."""
    tell(
        f"{out}: {made['components']} components of {made['people']:,} people hold "
        f"{100 * made['share_of_variance']:.2f} % of their variance ({made['rms_mm']:.2f} mm rms "
        "a vertex)"
    )
    for reason, count in made["left_out"].items():
        tell(f"left out: {count:,} people: {reason}")
    tried, drawn = (made["curves"][name] for name in ("generalisation", "specificity"))
    if tried["people"]:
        tell(
            f"{tried['people']:,} unseen people ({tried['of']}): {tried['head_mm'][-1]:.2f} mm a "
            f"vertex of the head, {tried['face_mm'][-1]:.2f} of the face, "
            f"{tried['face_surface_mm'][-1]:.2f} to the surface; the mean head "
            f"{tried['head_mm'][0]:.2f}"
        )
    tell(f"heads drawn from it: {drawn['head_mm'][-1]:.2f} mm from the nearest person")
    tell(f"landmarks are known by {made['landmarks_from']}")
    for one in made["licences"]:
        may = ", ".join(
            f"{use} {'allowed' if one[use] else 'not allowed'}"
            for use in ("commercial", "redistribution")
        )
        sources = ", ".join(one["sources"])
        tell(f"licence {one['licence']} of {sources}, {one['people']:,} people: {may}")
    uses = " and ".join(use for use in ("commercial", "redistribution") if made[use])
    tell(
        f"of all sources: {uses or 'neither'} allowed; a model inherits that, and the licence of "
        f"{made['registered_with']['name']}, which the scans were registered with"
    )
