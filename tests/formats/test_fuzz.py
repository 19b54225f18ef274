"""Damaged and hostile files: refused or read, within bounds, and nothing else touched.

The same inputs as tests/benchmarks/fuzz.py, which runs many more of them.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import mutations
import numpy as np
import pytest
from mutations import OUTSIDE, Target, mutated, outcome, prepare, targets

from pipeline.errors import FormatError
from pipeline.formats import READERS
from pipeline.landmarks import LANDMARK_READERS

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="memory is measured and limited as Linux has it"
)
TARGETS = {target.name: target for target in targets()}
INPUTS = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("fuzz") / "root")


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", TARGETS)
def test_hostile_files_are_refused_or_read(name: str, times: int, folder: Path) -> None:
    n = times * max(30, int(INPUTS * TARGETS[name].share))
    found = [outcome(TARGETS[name], folder, seed) for seed in range(n)]
    assert {seed: o.detail for seed, o in enumerate(found) if o.kind == "failed"} == {}
    kinds = {o.kind for o in found}
    assert kinds == {"refused", "accepted"}, "the mutations are too mild or too strong"


def test_every_reader_is_among_the_targets() -> None:
    assert set(TARGETS) == {
        *READERS,
        *(f"landmarks {form}" for form in LANDMARK_READERS),
        "registry",
    }


def test_the_same_seed_spoils_the_same() -> None:
    for target in TARGETS.values():
        assert mutated(target, 77) == mutated(target, 77)


# the guards themselves must see what they are for; a process that ran other tests may hold some
# hundred megabytes of free memory, which no limit on address space takes from it


def with_reader(read: object) -> Target:
    return Target("obj", "scan.obj", read, TARGETS["obj"].wholes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("read", "detail"),
    [
        (lambda path: path.read_text() and {}["missing"], "KeyError: 'missing'"),
        (lambda path: (path.parent.parent / OUTSIDE / "secret.png").read_bytes(), "touched open"),
        (lambda path: (path.parent / "leads_out.png").read_bytes(), "touched open"),
        (lambda path: list((path.parent / "out").iterdir()), "touched os."),
        (lambda path: bytearray(2 << 30), "MemoryError"),
        (lambda path: np.empty(2 << 30, np.uint8), "MemoryError"),
        (lambda path: mmap.mmap(-1, 2 << 30), "OSError"),
    ],
)
def test_guards_see(folder: Path, read: object, detail: str) -> None:
    assert detail in outcome(with_reader(read), folder, 300).detail


def test_a_reader_without_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutations, "HANG_SECONDS", 0.05)

    def read(path: Path) -> None:
        while True:
            try:
                raise FormatError(path, "again", "and again")
            except Exception:
                pass

    assert outcome(with_reader(read), folder, 300).detail == "no end after 0.05 s"


def test_memory_is_measured(folder: Path) -> None:
    found = outcome(with_reader(lambda path: bytearray(50 << 20) and None), folder, 300)
    assert found.kind == "accepted" and 45 << 20 < found.peak_bytes < 80 << 20
