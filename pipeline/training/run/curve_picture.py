"""The picture of a training's curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import FacefoldError
from pipeline.pictures.sheets import in_font
from pipeline.training.run.curves import LOSS, VALIDATION, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = tuple[list[float], list[float]]
"""Steps and values."""
INCH_PX = 130
INK, PALE = "#262626", "#9a9a9a"
COLOURS = ("#1b6ca8", "#c8472b", "#2e8b57", "#8a5aa8", "#c79a1e", "#3aa6a6", "#b5477f", "#6b6b2a")
MOST_COLUMNS = 3
FEW = 12
"""Points of a line that are shown each."""
LOG_FROM = 8.0
"""Ratio of the largest to the smallest value from which on an axis is logarithmic."""
UNITS = {"mm": "mm", "deg": "°", "px": "px", "share": "share", "percent": "%"}
"""Ends of figures' names that say a unit; figures of one unit share their axes."""


def save_curves(
    path: Path, history: Sequence[Point], title: str, best_step: int | None = None
) -> None:
    """One PNG: losses, and beside them the figures of validations, by unit, over the steps.

    Axes are logarithmic where all values are positive and far apart. Dots mark the best weights.
    Nothing is written without points. FacefoldError if it cannot be written.
    """
    from matplotlib.figure import Figure

    panels = {name: lines for name, lines in _panels(history).items() if lines}
    if not panels:
        return
    columns = min(len(panels), MOST_COLUMNS)
    rows = -(-len(panels) // columns)
    size = (5.0 * columns, 4.2 * rows)
    figure = Figure(figsize=size, dpi=INCH_PX, facecolor="white", layout="constrained")
    figure.suptitle(in_font(title), color=INK, fontsize=12, parse_math=False)
    for i, (name, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        _draw(axes, lines, None if name == "loss" else best_step)
        _frame(axes, name, lines)
    try:
        figure.savefig(path, format="png", metadata={"Software": None})
    except OSError as error:
        raise FacefoldError(f"{path}: the picture cannot be written ({error.strerror})") from error


def _panels(history: Sequence[Point]) -> dict[str, dict[str, Line]]:
    """Lines by name, those of a panel together."""
    panels: dict[str, dict[str, Line]] = {"loss": {}}
    for point in history:
        for name, value in point.items():
            kind, _, short = name.rpartition("/")
            if f"{kind}/" == LOSS:
                panel = "loss"
            elif f"{kind}/" == VALIDATION:
                panel = f"validation, {_unit(short)}".removesuffix(", ")
            else:
                continue
            steps, values = panels.setdefault(panel, {}).setdefault(short, ([], []))
            steps.append(point["step"])
            values.append(value)
    return panels


def _unit(name: str) -> str:
    return UNITS.get(name.rpartition("_")[2], "")


def _draw(axes: Axes, lines: Mapping[str, Line], best_step: int | None) -> None:
    for i, (name, (steps, values)) in enumerate(lines.items()):
        total = name == "total"  # pale and broad below the others, of which it may be one
        colour = PALE if total else COLOURS[i % len(COLOURS)]
        axes.plot(
            steps,
            values,
            color=colour,
            lw=3.5 if total else 1.4,
            ls=("-", "--", ":")[i // len(COLOURS) % 3],
            marker="." if len(steps) < FEW else None,
            label=in_font(name.replace("_", " ")),
            zorder=2 if total else 3,
        )
        if best_step in steps:
            best = values[steps.index(best_step)]
            axes.plot(best_step, best, "o", ms=7, mfc=colour, mec="white", mew=1.2, zorder=4)


def _frame(axes: Axes, title: str, lines: Mapping[str, Line]) -> None:
    values = [v for _, own in lines.values() for v in own if v == v]
    if values and min(values) > 0 and max(values) > LOG_FROM * min(values):
        axes.set_yscale("log")
    axes.set_title(title, color=INK, fontsize=10, loc="left")
    axes.set_xlabel("step", color=INK, fontsize=9)
    axes.grid(color="#ececec", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(PALE)
    look: dict[str, Any] = {"fontsize": 8, "frameon": False, "labelcolor": INK}
    columns = 2 + (len(lines) > 4)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=columns, **look)
