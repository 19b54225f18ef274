"""Layout and remarks change no digest of a module, the slightest change of its code does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.build.syntax import LOOSE, Use, parsed, table

PACKAGE = Path(__file__).parents[2] / "pipeline"
MODULE = '''
import json
import torch.nn as nn
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pipeline.types import Array, Scan as Read
from pipeline.formats import obj

if TYPE_CHECKING:
    from pipeline.registry import SourceRegistry

LIMIT, STEP = 1.5, 2
FORMATS = {"obj": obj, "ply": np}


def size(scan: Read, registry: SourceRegistry) -> Array:
    """The size."""
    from pipeline.units import extent

    return extent(scan.vertices) * (LIMIT + 1) + nn.f(f"{STEP:>{4}} mm", "a", b=(1, 2))


class Box:
    """A box."""

    side: Read


Box.doors = 2
if __name__ == "__main__":
    print(json.dumps(1))
'''


def whole(source: str) -> str:
    return parsed(source.encode()).whole.digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import json", "# how it is kept\nimport json"),
        ("import json", '"""What the module is for."""\n\nimport json'),
        ('"""The size."""', '"""The size, in millimetres."""'),
        ('    """A box."""\n\n', ""),
        ("LIMIT, STEP = 1.5, 2", 'LIMIT, STEP = 1.5, 2\n"""Millimetres."""'),
        ("LIMIT, STEP = 1.5, 2", "LIMIT, STEP = (1.50, 0x2)  # mm\n\n\n"),
        ('"a", b=(1, 2))', "'a',\n        b=(1, 2,),\n    )"),
        ("(LIMIT + 1) + nn", "((LIMIT + 1)) + (nn)"),
        ("    from pipeline.registry import", "    from pipeline.registry import Axes,"),
        ('__name__ == "__main__":\n', '__name__ == "__main__":\n    print(2)\n'),
    ],
)
def test_layout_and_remarks_change_nothing(old: str, new: str) -> None:
    assert old in MODULE
    assert whole(MODULE.replace(old, new)) == whole(MODULE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT, STEP = 1.5, 2", "LIMIT, STEP = 1.5, 3"),
        ("LIMIT, STEP = 1.5, 2", "LIMIT, STEP = 1.5, 2.0"),
        ("LIMIT, STEP = 1.5, 2", "LIMIT, STEP = 1.5, True"),
        ("LIMIT + 1", "LIMIT - 1"),
        ("(LIMIT + 1)", "LIMIT + 1"),
        ('"a"', 'b"a"'),
        (":>{4}", ":>{5}"),
        ("{STEP:", "{STEP!r:"),
        ("b=(1, 2)", "c=(1, 2)"),
        ("import extent", "import middle as extent"),
        ("    side: Read", "    side: Array"),
        ("    return extent", "    del scan\n    return extent"),
        ("def size", "@staticmethod\ndef size"),
        ("Box.doors = 2", "Box.doors = 3"),
        ("import torch.nn as nn", "import torch.fx as nn"),
    ],
)
def test_a_change_of_code_changes_the_digest(old: str, new: str) -> None:
    assert old in MODULE
    assert whole(MODULE.replace(old, new)) != whole(MODULE)


def test_what_a_module_defines_and_refers_to() -> None:
    module = parsed(MODULE.encode())
    assert set(module.definitions) == {"LIMIT", "STEP", "FORMATS", "size", "Box", LOOSE}
    assert module.definitions["size"].names >= {"extent", "LIMIT", "STEP", "nn"}
    assert not module.definitions["size"].names & {"Read", "Array", "SourceRegistry"}
    assert module.definitions["size"].uses == (Use("pipeline.units", "extent"),)
    assert "Read" in module.definitions["Box"].names
    assert module.bound == {
        "Array": Use("pipeline.types", "Array"),
        "Read": Use("pipeline.types", "Scan"),
        "obj": Use("pipeline.formats", "obj"),
        "SourceRegistry": Use("pipeline.registry", "SourceRegistry"),
    }
    assert Use("pipeline.registry", "SourceRegistry") not in module.whole.uses
    assert Use("pipeline.units", "extent") in module.whole.uses
    assert module.libraries.items() >= {("nn", "torch"), ("np", "numpy"), ("Path", "pathlib")}
    assert table(MODULE.encode(), "FORMATS") == {"obj": "obj", "ply": "np"}


def test_a_definition_changes_alone() -> None:
    before = parsed(MODULE.encode()).definitions
    after = parsed(MODULE.replace("LIMIT + 1", "LIMIT + 2").encode()).definitions
    assert {name for name in before if before[name] != after[name]} == {"size"}


@pytest.mark.parametrize("release", ["3.11", "3.12", "3.13", "3.14"])
def test_digests_are_the_same_on_every_python(release: str) -> None:
    """Of every module of the package, and of the syntax that differs most between versions."""
    if release == f"{sys.version_info.major}.{sys.version_info.minor}":
        pytest.skip("this Python is what the others are compared with")
    installed = sorted(Path.home().glob(f".pyenv/versions/{release}.*/bin/python"))
    if not installed:
        pytest.skip(f"no Python {release} below ~/.pyenv")
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1] + '/build')\n"
        "from syntax import parsed\n"
        "files = sorted(Path(sys.argv[1]).rglob('*.py'))\n"
        "for text in [sys.argv[2].encode(), *(file.read_bytes() for file in files)]:\n"
        "    module = parsed(text)\n"
        "    print(module.whole.digest, *sorted(p.digest for p in module.definitions.values()))"
    )
    command = ["-c", code, str(PACKAGE), MODULE]
    here, there = (
        subprocess.run([python, *command], capture_output=True, text=True, check=True).stdout
        for python in (sys.executable, installed[-1])
    )
    assert len(here) > 64 * 150
    assert there == here
