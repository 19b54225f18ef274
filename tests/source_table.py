"""The table of all sources in `docs/reference/sources.md`, made from the registries."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.registry import SourceRegistry, list_registries
from pipeline.registry.views import Views

HEAD = """\
# Sources

Every registry that ships, made from the files in `registries/` by `make schema`; `facefold sources`
lists them too. None but the demo's own was checked on the licensed data itself: what is not
confirmed stands under `unconfirmed` in its file, and the size gate refuses a wrong unit. Each is
tested on a miniature of its dataset (`tests/miniatures/<id>.py`): layout, names, format, unit,
axes, landmarks, defects, and registration against the truth.

- *True size*: `no` keeps its rows out of `train`, `val` and `test` (see `store.md`).
- *Axes*: up, forward; `unknown` lets registration search any pose.
- *Views*: photos, with where their cameras are from, and renders of each scan.
- *Neutral*: the expressions that count as neutral; `none stated` if names do not say.

| id | dataset | format | unit | true size | axes | landmarks | views | neutral | benchmark |
|---|---|---|---|---|---|---|---|---|---|
"""


def sources_markdown() -> str:
    """The whole page."""
    return HEAD + "".join(_row(registry) for registry in list_registries())


def _row(registry: SourceRegistry) -> str:
    size = {True: "yes", False: "no", "recoverable": "once scaled"}[registry.metric]
    axes = "unknown"
    if registry.axes is not None:
        tilt = "".join(
            f", {axis} {degrees:+g}°"
            for step in registry.axes.rotation_deg
            for axis, degrees in step.items()
        )
        axes = f"{registry.axes.up}, {registry.axes.forward}{tilt}"
    landmarks = registry.landmarks.scheme if registry.landmarks else "none"
    views = ", ".join(_views(registry.views)) or "none"
    neutral = "all" if registry.neutral is None else ", ".join(registry.neutral) or "none stated"
    cells = (
        f"[`{registry.id}`](../../registries/{registry.id}.yaml)",
        registry.title,
        registry.format,
        registry.unit,
        size,
        axes,
        landmarks,
        views,
        neutral,
        str(registry.benchmark or ""),
    )
    return "| " + " | ".join(cells) + " |\n"


def _views(views: Views) -> Iterator[str]:
    cameras = dict.fromkeys(photo.camera for photo in views.photos)
    yield from (f"photos ({camera})" for camera in cameras)
    if views.renders:
        yield f"{views.renders} {'' if views.colours else 'grey '}render{'s' * (views.renders > 1)}"
