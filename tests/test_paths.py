"""Every public function takes text where it takes a Path."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipeline
from pipeline.build.config import load_build
from pipeline.build.ledger import open_ledger
from pipeline.build.register_files import register_files
from pipeline.catalogue import catalogue
from pipeline.errors import FacefoldError, ModelError
from pipeline.flame.assets import load_model
from pipeline.flame.embedding import read_embedding
from pipeline.flame.named import STAND_IN, model_path
from pipeline.formats import format_of, read_scan
from pipeline.landmarks import landmark_format_of, read_landmarks, resolve
from pipeline.pictures.sheets import save_grid
from pipeline.registry import load_registry, read_yaml
from pipeline.sources import draft_source
from pipeline.types import RawScan
from tests.small_build import write_registry


def public() -> Iterator[tuple[str, dict[str, str]]]:
    """What packages and the modules beside them offer, with the types of its arguments."""
    for info in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        module = importlib.import_module(info.name)
        if not info.ispkg and info.name.count(".") > 1:
            continue
        own = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == info.name
        ]
        for name in {*getattr(module, "__all__", ()), *own}:
            value = getattr(module, name)
            functions = [value] if inspect.isfunction(value) else []
            if inspect.isclass(value) and "__init__" in vars(value) and not is_dataclass(value):
                functions = [value.__init__]
            for function in functions:
                yield f"{info.name}.{name}", dict(function.__annotations__)


def test_no_public_function_takes_a_path_alone() -> None:
    offered = list(public())
    names = {name for name, _ in offered}
    assert {"pipeline.store.open_store", "pipeline.formats.read_scan"} <= names and len(names) > 80
    wrong = [
        f"{name}({argument}: {kind})"
        for name, types in offered
        for argument, kind in types.items()
        if argument != "return" and re.search(r"\bPath\b", str(kind)) and "str" not in str(kind)
    ]
    # a Store is made by `open_store`
    assert [one for one in wrong if not one.startswith("pipeline.store.Store(")] == []


def test_models_and_their_companions_by_text(tmp_path: Path) -> None:
    assert model_path("stand-in") == STAND_IN
    with pytest.raises(ModelError, match="no such file"):
        load_model(str(tmp_path / "none.pkl"))
    with pytest.raises(ModelError, match="no regular file"):  # and not read without end
        read_embedding(Path("/dev/zero"), np.array([[0, 1, 2]]), np.eye(3))


def test_files_by_text(tmp_path: Path) -> None:
    at = str(tmp_path)
    (tmp_path / "root").mkdir()
    scan = f"{at}/root/a.obj"
    Path(scan).write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    Path(f"{at}/a.txt").write_text("0 0 0\n1 0 0\n0 1 0\n")
    raw = read_scan(scan, format_of(scan))
    marks = read_landmarks(f"{at}/a.txt", landmark_format_of(f"{at}/a.txt"))
    assert isinstance(raw, RawScan) and len(resolve(marks, raw, f"{at}/a.txt")) == 3
    write_registry(tmp_path, "lab")
    registry = load_registry(f"{at}/lab.yaml")
    assert catalogue(registry, f"{at}/root", hash_cache=f"{at}/h.sqlite").n_files == 1
    assert draft_source(f"{at}/root").format == "obj"
    with open_ledger(f"{at}/ledger.sqlite") as ledger:
        assert ledger.execute("SELECT count(*) FROM results").fetchone() == (0,)
    save_grid([[np.zeros((4, 4, 3), np.uint8)]], f"{at}/pictures/grid.png")
    assert Path(f"{at}/pictures/grid.png").is_file()
    Path(f"{at}/build.yaml").write_text(
        "store: s\nwork: w\nsources: [{registry: synth_ply, root: root}]\n"
    )
    assert load_build(f"{at}/build.yaml").sources[0].root == tmp_path / "root"
    assert read_yaml(f"{at}/build.yaml")["work"] == "w"


def test_scans_to_register_by_text(tmp_path: Path) -> None:
    model: Any = None  # which is not looked at before the call is sound
    with pytest.raises(FacefoldError, match="would overwrite the scan itself"):
        register_files([f"{tmp_path}/x.ply"], str(tmp_path), model)
