"""Loaders do without training, and training is imported without what only pictures and curves
need."""

from __future__ import annotations

import subprocess
import sys

LOADERS = """
import sys
import pipeline.loaders, pipeline.loaders.image_transforms, pipeline.loaders.transforms
print(*sorted(name for name in sys.modules if name.startswith("pipeline.training")))
"""
TRAINING = """
import importlib, importlib.abc, pkgutil, sys

class Note(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torchvision", "tensorboard", "matplotlib"}:
            print("asked for", name)

sys.meta_path.insert(0, Note())
import pipeline.training
found = [m.name for m in pkgutil.walk_packages(pipeline.training.__path__, "pipeline.training.")]
for name in found:
    importlib.import_module(name)
print(len(found), "imported")
"""


def said(code: str) -> list[str]:
    """Lines that an interpreter prints which has imported nothing before."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_loaders_import_nothing_of_training() -> None:
    assert said(LOADERS) == [""]


def test_training_imports_neither_torchvision_nor_tensorboard_nor_matplotlib() -> None:
    *asked, last = said(TRAINING)
    assert not asked and last.endswith("imported") and int(last.split()[0]) > 20
