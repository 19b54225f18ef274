"""The page on the design, and the rules of imports, name the rooms that there are."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.house_picture import GROUND, house_svg, rooms_and_imports

ROOT = Path(__file__).parents[1]


def layers() -> list[str]:
    """Rooms from the ground up, by the contract that import-linter checks."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (c["layers"] for c in contracts["contracts"] if c["type"] == "layers")
    return list(reversed(layers))


def test_the_page_lists_the_rooms_in_the_order_of_the_contract() -> None:
    page = (ROOT / "docs" / "explanation" / "design.md").read_text()
    table = page.partition("| room |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == layers()


def test_the_contract_names_every_room_and_no_other() -> None:
    package = ROOT / "pipeline"
    rooms = {p.parent.name for p in package.glob("*/__init__.py")}
    rooms |= {p.stem for p in package.glob("[!_]*.py")}
    assert rooms == {*layers()}


def test_tests_mirror_rooms_and_all_are_collected(pytestconfig: pytest.Config) -> None:
    rooms = {folder.name for folder in (ROOT / "tests").iterdir() if any(folder.glob("test_*.py"))}
    assert {*layers()} - {*GROUND} <= rooms
    skipped = pytestconfig.getini("norecursedirs")
    assert not [room for room in rooms for pattern in skipped if fnmatch(room, pattern)]


def test_the_picture_shows_every_room_with_its_imports() -> None:
    rooms = rooms_and_imports()
    assert {*rooms} | {*GROUND} == {*layers()}
    assert ("registration", "flame") in rooms.edges and ("flame", "registration") not in rooms.edges
    picture = house_svg()
    assert all(f">{room}</text>" in picture for room in layers())
