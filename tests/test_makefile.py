"""`make` builds its environment with the newest Python that runs, and says what to do without."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MAKE = shutil.which("make")
ROOT = Path(__file__).parents[1]
SHIM = "echo 'pyenv: command not found' >&2; exit 127"

pytestmark = pytest.mark.skipif(MAKE is None, reason="make is not installed (apt install make)")


def says(change: str = "") -> str:
    """What an interpreter runs: the real one's answer after a change to it; environments are made
    in name only."""
    asked = f"exec '{sys.executable}' -c \"import sys; {change}\n$2\""
    return f'case "$1" in -c) {asked};; -m) /bin/mkdir -p "$3/bin"; echo "$0" > "$3/made_by";; esac'


VERSION = "sys.version_info = ({}, {}, 0)"
WITHOUT_VENV = "sys.modules['ensurepip'] = None"


def made(folder: Path, pythons: dict[str, str], *given: str) -> subprocess.CompletedProcess[str]:
    """Runs make for an environment where PATH has these interpreters and no others."""
    commands = folder / "commands"
    commands.mkdir()
    (commands / "head").symlink_to(shutil.which("head") or "head")
    for name, script in pythons.items():
        (commands / name).write_text(f"#!/bin/sh\n{script}\n")
        (commands / name).chmod(0o755)
    venv = folder / "venv"
    command = [str(MAKE), "-C", str(ROOT), f"VENV={venv}", f"{venv}/bin/python", *given]
    return subprocess.run(command, env={"PATH": str(commands)}, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("pythons", "given", "chosen"),
    [
        ({"python3.13": says(), "python3.12": says()}, (), "python3.13"),
        ({"python3.14": SHIM, "python3.13": "exit 1", "python3.12": says()}, (), "python3.12"),
        ({"python3.13": says(WITHOUT_VENV), "python3.11": says()}, (), "python3.11"),
        ({"python3": says(VERSION.format(3, 14))}, (), "python3"),
        ({"python3.13": says(), "mine": says()}, ("PYTHON=mine",), "mine"),
    ],
    ids=["newest", "shims lie", "without venv", "python3 alone", "named"],
)
def test_the_environment_is_made_by(
    pythons: dict[str, str], given: tuple[str, ...], chosen: str, tmp_path: Path
) -> None:
    done = made(tmp_path, pythons, *given)
    assert done.returncode == 0, done.stderr
    made_by = (tmp_path / "venv" / "made_by").read_text().strip()
    assert Path(made_by).name == chosen


def test_where_none_fits_each_is_named_with_its_reason(tmp_path: Path) -> None:
    pythons = {
        "python3.13": SHIM,
        "python3.12": says(WITHOUT_VENV),
        "python3": says(VERSION.format(3, 10)),
    }
    done = made(tmp_path, pythons)
    assert done.returncode != 0 and not (tmp_path / "venv").exists()
    for line in (
        "facefold needs Python 3.11 to 3.14",
        "python3.13: pyenv: command not found",
        "python3.12: lacks ensurepip: apt install python3-venv",
        "python3: is Python 3.10",
        "make PYTHON=",
    ):
        assert line in done.stderr


def test_a_named_python_that_does_not_fit_is_refused_though_others_would(tmp_path: Path) -> None:
    done = made(
        tmp_path, {"python3.13": says(), "mine": says(VERSION.format(3, 15))}, "PYTHON=mine"
    )
    assert done.returncode != 0
    assert "mine: is Python 3.15" in done.stderr


def test_the_makefile_and_the_package_agree_on_versions() -> None:
    package = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">=3.11,<3.15"' in package
    assert "(3, 11) <= v <= (3, 14)" in (ROOT / "Makefile").read_text(encoding="utf-8")
