"""The picture of the house, docs/pictures/house.svg: its rooms, and what each imports."""

from __future__ import annotations

import ast
import textwrap
from html import escape
from pathlib import Path

import grimp
import networkx as nx

ROOT = Path(__file__).parents[1]
GROUND = ("text", "refusals", "errors", "types", "units")
"""Modules that every room may use: no arrows lead to them."""
ROOF = "flows"
WIDE, HIGH, GAP, RISE = 216, 74, 22, 50
"""Pixels: a room's size, what is free beside it, and above it."""
WIDTH = 5 * WIDE + 6 * GAP
STYLE = """
text { font-family: "Helvetica Neue", Arial, sans-serif; fill: #333 }
.name { font-size: 15px; font-weight: bold }
.says { font-size: 10.5px; fill: #555 }
.room { fill: #fffdf7; stroke: #8a7a63; stroke-width: 1.2 }
.roof { fill: #f3dcd3; stroke: #a4553a; stroke-width: 1.2 }
.ground { fill: #e6e4dc; stroke: #8a8a80; stroke-width: 1.2 }
.arrow { fill: none; stroke: #7b8ea3; stroke-width: 1.3; marker-end: url(#tip) }
"""


def house_svg() -> str:
    """Rooms stand above those they import; arrows that others imply are left out."""
    rooms = nx.transitive_reduction(rooms_and_imports())
    floors = arranged(rooms)
    height = GAP + (len(floors) + 2) * (HIGH + RISE) + 24
    places = {
        room: (x, height - (2 + i) * (HIGH + RISE) - 24)
        for i, floor in enumerate(floors)
        for room, x in zip(floor, spread(len(floor)), strict=True)
    }
    parts = [arrow(places[above], places[below]) for above, below in sorted(rooms.edges)]
    parts += [box(f"pipeline/{name}", *places[name], "room") for name in sorted(places)]
    flows = sorted(f.parent.name for f in (ROOT / ROOF).glob("*/__init__.py"))
    roof = [ROOF, *(f"{ROOF}/{name}" for name in flows)]
    parts += [box(name, x, GAP, "roof") for name, x in zip(roof, spread(len(roof)), strict=True)]
    parts += [
        box(f"pipeline/{name}.py", x, height - HIGH - RISE - 24, "ground")
        for name, x in zip(GROUND, spread(len(GROUND)), strict=True)
    ]
    said = (
        "An arrow: imports. Those that others imply are left out. All rooms may use the ground, "
        "flows all rooms."
    )
    parts.append(f'<text class="says" x="{GAP}" y="{height - GAP}">{said}</text>')
    tip = (
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#7b8ea3"/></marker>'
    )
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    paper = '<rect width="100%" height="100%" fill="white"/>'
    lines = [head, f"<style>{STYLE}</style>", f"<defs>{tip}</defs>", paper, *parts, "</svg>"]
    return "\n".join(lines) + "\n"


def rooms_and_imports() -> nx.DiGraph:
    """Rooms of `pipeline` above the ground; an edge leads to what a room imports."""
    graph = grimp.build_graph("pipeline", cache_dir=None, exclude_type_checking_imports=True)
    rooms = nx.DiGraph()
    for module in graph.modules:
        for found in graph.find_modules_directly_imported_by(module):
            above, below = (name.split(".")[1:2] for name in (module, found))
            if above and below and above != below and not {*above, *below} & {*GROUND}:
                rooms.add_edge(above[0], below[0])
    return rooms


def arranged(rooms: nx.DiGraph) -> list[list[str]]:
    """Floors from the lowest, each room right below those that import it; on a floor, rooms stand
    near what they are joined to."""
    depth: dict[str, int] = {}
    for room in nx.lexicographical_topological_sort(rooms):
        depth[room] = max((depth[above] + 1 for above in rooms.predecessors(room)), default=0)
    lowest = max(depth.values())
    floors = [
        sorted(room for room in depth if depth[room] == lowest - i) for i in range(lowest + 1)
    ]
    joined = rooms.to_undirected()
    at = {room: x for floor in floors for room, x in zip(floor, spread(len(floor)), strict=True)}
    for _ in range(8):
        for floor in [*floors, *reversed(floors)]:
            pull = {room: sum(at[n] for n in joined[room]) / len(joined[room]) for room in floor}
            floor.sort(key=lambda room: (pull[room], room))
            at |= dict(zip(floor, spread(len(floor)), strict=True))
    return floors


def spread(n: int) -> list[float]:
    """Left edges of n boxes, evenly over the width."""
    free = (WIDTH - n * WIDE) / (n + 1)
    return [free + i * (WIDE + free) for i in range(n)]


def box(name: str, x: float, y: float, kind: str) -> str:
    lines = textwrap.wrap(purpose(name), 37, max_lines=3, placeholder=" …")
    said = "".join(
        f'<text class="says" x="{x + 10:.0f}" y="{y + 36 + 13 * i:.0f}">{escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    frame = f'<rect class="{kind}" x="{x:.0f}" y="{y:.0f}" width="{WIDE}" height="{HIGH}" rx="5"/>'
    title = name.removeprefix("pipeline/").removesuffix(".py")
    return f'{frame}<text class="name" x="{x + 10:.0f}" y="{y + 20:.0f}">{title}</text>{said}'


def purpose(name: str) -> str:
    """The first sentence of a room's docstring."""
    path = ROOT / name
    source = (path / "__init__.py" if path.is_dir() else path).read_text(encoding="utf-8")
    said = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0]
    return " ".join(said.split()).replace("`", "").partition(". ")[0].removesuffix(".")


def arrow(above: tuple[float, float], below: tuple[float, float]) -> str:
    (x, y), (to_x, to_y) = above, below
    x, to_x, y = x + WIDE / 2, to_x + WIDE / 2, y + HIGH
    bend = RISE if to_y - y < 2 * RISE else (to_y - y) / 2
    curve = f"M{x:.0f} {y:.0f} C{x:.0f} {y + bend:.0f} {to_x:.0f} {to_y - bend:.0f}"
    return f'<path class="arrow" d="{curve} {to_x:.0f} {to_y:.0f}"/>'
