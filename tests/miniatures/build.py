"""Registry id -> its miniature."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.miniatures.folder import Miniature, Writing

SYNTHETIC = "synth_"
"""The demo's own sources start so: `write_sources` delivers them and `tests/synthetic` covers them,
file by file and scan by scan, with the same truth."""


def covered() -> set[str]:
    """Ids of the registries that have a miniature."""
    here = Path(__file__).parent
    modules = {path.stem for path in here.glob("*.py")}
    return modules - {"__init__", "build", "folder", "heads", "files", "photos", "sequences"}


def build_miniature(id: str, folder: Path) -> Miniature:
    """Writes the miniature of the registry `id` below `folder`, which becomes its root.

    The same bytes each time. ModuleNotFoundError where there is no `tests/miniatures/<id>.py`.
    """
    writing = Writing(id, folder)
    import_module(f"tests.miniatures.{id}").build(writing)
    return writing.done()
