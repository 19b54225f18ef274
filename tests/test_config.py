"""The build file: paths relative to it, every fault at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import load_build
from pipeline.errors import RegistryError


def written(folder: Path, **fields: Any) -> Path:
    (folder / "scans").mkdir(exist_ok=True)
    config = {"store": "s.zarr", "sources": [{"registry": "synth_ply", "root": "scans"}]}
    path = folder / "build.yaml"
    path.write_text(yaml.safe_dump(config | fields))
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load_build(written(tmp_path))
    assert config.store == tmp_path / "s.zarr"
    assert config.work == tmp_path / ".facefold"
    assert config.sources[0].root == tmp_path / "scans"
    assert config.sources[0].registry == "synth_ply"


def test_a_registry_of_ones_own_is_a_path(tmp_path: Path) -> None:
    path = written(tmp_path, sources=[{"registry": "mine.yaml", "root": "scans"}])
    with pytest.raises(RegistryError, match=str(tmp_path / "mine.yaml")):
        load_build(path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"workers": 0, "colour": "red"}, ["workers", "colour"]),
        ({"splits": {"train": 0.9}}, ["splits", "add up to 1"]),
        ({"splits": {"train": 1.5, "val": -0.5}}, ["splits"]),
        ({"model": "flame.pkl", "embedding": "e.npy"}, ["flame.pkl", "e.npy"]),
        (
            {"sources": [{"registry": "synth_ply", "root": "gone"},
                         {"registry": "no_such", "root": "scans"}]},
            ["gone", "no_such"],
        ),
        (
            {"sources": [{"registry": "synth_ply", "root": "scans"} for _ in range(2)]},
            ["synth_ply 2 times"],
        ),
        ({"sources": []}, ["sources"]),
    ],
)  # fmt: skip
def test_all_faults_at_once(tmp_path: Path, fields: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(RegistryError) as raised:
        load_build(written(tmp_path, **fields))
    for word in ["build.yaml", *words]:
        assert word in str(raised.value)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"nowhere\.yaml"):
        load_build(tmp_path / "nowhere.yaml")


def test_the_stand_in_is_no_file(tmp_path: Path) -> None:
    assert load_build(written(tmp_path, model="stand-in")).model == Path("stand-in")
