"""Pictures of scores: cumulative error curves, and truths painted by their distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.evaluation.benchmark import STRICT, Score, Variant
from pipeline.pictures.rendering import View, before_camera, render
from pipeline.pictures.sheets import in_font
from pipeline.types import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCH_PX = 160
INK, PALE = "#262626", "#9a9a9a"
MODES = ("#1b6ca8", "#c8472b", "#2e8b57", "#8a5aa8", "#c79a1e", "#3aa6a6", "#b5477f", "#6b6b2a")
"""Colours of modes, in the order in which they come; from the first again if there are more."""
SAMPLES = 400
"""Errors at which a curve is drawn."""
PANEL_PX, CAPTION_PX, GAP_PX, MARGIN_PX = 300, 26, 8, 22
HEAT = "Spectral_r"
RELIEF = 0.5
"""Of light and shadow: colours have to stay those of the scale."""
DENSE = 2_000
"""Points from which on dots have no outline."""
VIEWS = (View(), View(yaw=40))
"""Front, and the subject's left cheek turned towards the camera."""


class Curve(NamedTuple):
    """What a cumulative error curve is of."""

    mode: str
    variant: Variant
    mean_head: bool = False


class HeatMap(NamedTuple):
    """A row of heat maps: a prediction's score, and the mean head's in the same mode."""

    caption: str
    score: Score
    mean_head: Score | None = None


def to_show(means: Sequence[float]) -> dict[str, int]:
    """Which cases are worth a look, by their mean errors: "best", "median" and "worst" -> place.

    Each place once; cases whose mean is not finite are none of them.
    """
    order = [int(i) for i in np.argsort(means, kind="stable") if np.isfinite(means[i])]
    if not order:
        return {}
    named = {"best": order[0], "median": order[(len(order) - 1) // 2], "worst": order[-1]}
    return {name: i for name, i in named.items() if name == "best" or i != order[0]}


def save_curve(
    path: Path | str,
    curves: Mapping[Curve, Array],
    limit: float,
    unit: str = "mm",
    title: str = "",
) -> None:
    """One PNG: the share of all distances (N,) of each curve that are at most x, 0 ≤ x ≤ `limit`.

    Infinite distances, as missing predictions have, are never reached: such a curve ends below
    100 %. Curves without distances are left out. A colour a mode; the mean head dashed; strict a
    thin line, as_published a pale broad one below it. Dots are medians. FacefoldError if it cannot
    be written.
    """
    from matplotlib.figure import Figure

    ordered = {curve: np.sort(distances) for curve, distances in curves.items() if len(distances)}
    modes = dict.fromkeys(curve.mode for curve in ordered)
    colours = {mode: MODES[i % len(MODES)] for i, mode in enumerate(modes)}
    of_predictions = sum(not curve.mean_head for curve in ordered)
    height = max(5.4, 1.3 + 0.4 * of_predictions)
    figure = Figure(figsize=(9.6, height), dpi=INCH_PX, facecolor="white")
    axes = figure.add_axes((0.075, 0.65 / height, 0.60, 1 - 1.15 / height))
    x = np.linspace(0, limit, SAMPLES + 1)
    for curve in sorted(ordered, key=lambda c: (c.variant == STRICT, not c.mean_head)):
        style = _style(curve, colours[curve.mode])
        axes.plot(x, _share(ordered[curve], x), **style, zorder=2)
        median = float(np.median(ordered[curve]))
        if median <= limit:
            axes.plot(median, 50, "o", ms=5.5, mfc=style["color"], mec="white", mew=0.9, zorder=3)
    _frame(axes, limit, unit, title)
    _legend(axes, ordered, colours, unit)
    _save(figure, path)


def _share(ordered: Array, x: Array) -> Array:
    """(X,) per cent of the distances, which are in order, that are at most x."""
    share: Array = 100.0 * np.searchsorted(ordered, x, side="right") / len(ordered)
    return share


def _style(curve: Curve, colour: str) -> dict[str, Any]:
    from matplotlib.colors import to_rgb

    strict = curve.variant == STRICT
    dashes = (0, (4.5, 2.5)) if strict else (0, (1.8, 1.0))
    return {
        "color": to_rgb(colour) if strict else tuple(0.4 * np.array(to_rgb(colour)) + 0.6),
        "lw": 1.5 if strict else 4.0,
        "ls": dashes if curve.mean_head else "-",
    }


def _frame(axes: Axes, limit: float, unit: str, title: str) -> None:
    axes.set(xlim=(0, limit), ylim=(0, 100.6))
    axes.set_xlabel(f"error [{unit}]", color=INK, fontsize=10)
    axes.set_ylabel("distances up to this error [%]", color=INK, fontsize=10)
    axes.set_title(in_font(title), color=INK, fontsize=12, loc="left", pad=10, parse_math=False)
    axes.axhline(50, color=PALE, lw=0.9, ls=(0, (1, 2)), zorder=1)
    axes.grid(color="#ececec", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(PALE)


def _legend(
    axes: Axes, ordered: Mapping[Curve, Array], colours: Mapping[str, str], unit: str
) -> None:
    """Beside the axes: medians of each mode and variant, and of the mean head in it."""
    from matplotlib.lines import Line2D

    lines, said = [], []
    medians = {curve: _figure(float(np.median(d)), unit) for curve, d in ordered.items()}
    for curve in ordered:
        if curve.mean_head:
            continue
        head = medians.get(curve._replace(mean_head=True))
        name = in_font(f"{curve.mode}, {curve.variant.replace('_', ' ')}")
        lines.append(Line2D([], [], **_style(curve, colours[curve.mode])))
        said.append(f"{name}\n{medians[curve]}" + (f"   (mean head {head})" if head else ""))
    if any(curve.mean_head for curve in ordered):
        lines.append(Line2D([], [], color=INK, lw=1.5, ls=(0, (4.5, 2.5))))
        said.append("the mean head in each")
    spaced = {"handlelength": 2.6, "labelspacing": 0.9, "alignment": "left", "frameon": False}
    placed = {"bbox_to_anchor": (1.03, 1.0), "borderaxespad": 0}
    look = spaced | placed | {"title": "medians", "fontsize": 8.5, "labelcolor": INK}
    legend = axes.legend(lines, said, loc="upper left", **look)
    legend.get_title().set(color=INK, fontsize=9.5)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _figure(length: float, unit: str) -> str:
    """A length as captions have it."""
    return f"{length:.2f} {unit}" if np.isfinite(length) else "not reached"


def save_heat_maps(
    path: Path | str,
    shown: Sequence[HeatMap],
    limit: float,
    unit: str = "mm",
    title: str = "",
) -> None:
    """One PNG, a row each: the truth's surface painted by the distances of the prediction, and of
    the mean head beside it, from the front and turned by 40°, all at one scale.

    Colours end at `limit`; where a distance is not finite the surface is grey. Of scores without
    triangles the points are drawn. `Score.upright` turns the truth. FacefoldError if it cannot be
    written, ValueError for scores without `vertices_mm`.
    """
    from matplotlib.figure import Figure

    extent_mm = np.max([_extent_mm(row.score) for row in shown], axis=0)
    panel_px, tall_px = np.ceil(PANEL_PX * extent_mm / extent_mm.max()).astype(int).tolist()
    heads = 2 if any(row.mean_head for row in shown) else 1
    pair_px = len(VIEWS) * (panel_px + GAP_PX)
    row_px = tall_px + 2 * CAPTION_PX + GAP_PX
    top = MARGIN_PX + (CAPTION_PX + 10 if title else 0)
    width, height = 2 * MARGIN_PX + heads * pair_px, top + len(shown) * row_px + 76
    figure = Figure(figsize=(width / INCH_PX, height / INCH_PX), dpi=INCH_PX, facecolor="white")
    _write(figure, MARGIN_PX, MARGIN_PX, title, size=8.5)
    for i, row in enumerate(shown):
        _write(figure, MARGIN_PX, top + i * row_px, row.caption, size=7, weight="bold")
        for k, whose in enumerate(("prediction", "mean head")):
            score = (row.score, row.mean_head)[k]
            if score is None:
                continue
            x, y = MARGIN_PX + k * pair_px, top + i * row_px + CAPTION_PX
            mean = _figure(float(np.mean(score.distances)), unit)
            _write(figure, x, y - 4, f"{whose}: mean {mean}", size=6.5)
            for view in VIEWS:
                panel = _panel(figure, x, y + CAPTION_PX - 6, panel_px, tall_px)
                _paint(panel, score, view._replace(height_mm=extent_mm.max()), limit)
                panel.set(xlim=(-extent_mm[0] / 2, extent_mm[0] / 2))
                panel.set(ylim=(-extent_mm[1] / 2, extent_mm[1] / 2))
                x += panel_px + GAP_PX
    _bar(figure, limit, unit)
    _save(figure, path)


def _surface(score: Score) -> Array:
    """(N,3) of the truth, upright."""
    if score.vertices_mm is None:
        raise ValueError(f"the score of {score.mode} has no vertices_mm to paint")
    turned = np.eye(3) if score.upright is None else score.upright
    upright: Array = np.asarray(score.vertices_mm, np.float64) @ turned.T
    return upright


def _extent_mm(score: Score) -> Array:
    """(2,) breadth and height of what shows the whole surface from each of VIEWS."""
    surface = _surface(score)
    seen = [np.ptp(before_camera(surface, view)[:, :2], axis=0) for view in VIEWS]
    extent: Array = 1.04 * np.max(seen, axis=0)
    return extent


def _paint(axes: Axes, score: Score, view: View, limit: float) -> None:
    import matplotlib

    surface = _surface(score)
    known = np.isfinite(score.distances)
    share = np.where(known, score.distances, 0) / limit
    colours = np.where(known[:, None], matplotlib.colormaps[HEAT](share)[:, :3], 0.6)
    if score.faces is None or not len(score.faces):
        at = before_camera(surface, view)
        order = np.argsort(at[:, 2])
        x, y = at[order, :2].T
        edge = 0.3 if len(at) < DENSE else 0.0
        axes.scatter(x, y, _dot(len(at)), colours[order], linewidths=edge, edgecolors=PALE)
        return
    painted = (255 * colours).astype(np.uint8)
    picture = render(surface, _outwards(surface, score.faces), view, PANEL_PX, painted, RELIEF)
    half = view.height_mm / 2
    axes.imshow(picture, extent=(-half, half, -half, half), interpolation="nearest", aspect="auto")


def _dot(n: int) -> float:
    """Area of a dot, points², so that n of them would cover a panel."""
    return float((72 * PANEL_PX / INCH_PX) ** 2 / max(n, 1))


def _outwards(surface: Array, faces: Array) -> Array:
    """The triangles wound so that most of them face the camera in front, whatever the file does."""
    a, b, c = (surface[faces[:, k]] for k in range(3))
    towards = np.cross(b - a, c - a)[:, 2].sum()
    return faces if towards >= 0 else faces[:, ::-1]


def _panel(figure: Figure, x: float, y: float, w: float, h: float) -> Axes:
    """Axes at pixels from the figure's top left corner, without ticks."""
    width, height = figure.bbox.width, figure.bbox.height
    axes = figure.add_axes((x / width, 1 - (y + h) / height, w / width, h / height))
    axes.set_axis_off()
    return axes


def _write(
    figure: Figure, x: float, y: float, text: str, size: float, weight: str = "normal"
) -> None:
    at = x / figure.bbox.width, 1 - y / figure.bbox.height
    said = in_font(text)
    figure.text(*at, said, fontsize=size, weight=weight, color=INK, va="top", parse_math=False)


def _bar(figure: Figure, limit: float, unit: str) -> None:
    """The scale of colours, below all."""
    width = min(2.2 * PANEL_PX, figure.bbox.width - 2 * MARGIN_PX)
    bar = _panel(figure, (figure.bbox.width - width) / 2, figure.bbox.height - 58, width, 12)
    bar.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap=HEAT, extent=(0, limit, 0, 1))
    bar.set_axis_on()
    bar.set_yticks([])
    bar.tick_params(colors=INK, labelsize=6, length=2)
    bar.set_xlabel(f"distance [{unit}]", fontsize=6.5, color=INK, labelpad=2)
    for spine in bar.spines.values():
        spine.set_visible(False)


def _save(figure: Figure, path: Path | str) -> None:
    """A PNG that depends on nothing but what it shows: without a date or a version in it."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", metadata={"Software": None})
    except OSError as error:
        raise FacefoldError(f"{path}: the picture cannot be written ({error.strerror})") from error
