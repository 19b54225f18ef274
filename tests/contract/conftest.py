from __future__ import annotations

import pytest

from pipeline.catalogue import catalogue
from pipeline.registry import load_registry, registries_dir
from tests.contract.built import IDS, Built
from tests.miniatures import build_miniature, covered


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Id of each registry that has a miniature -> both, catalogued."""
    found = {}
    for id in IDS:
        if id in covered():
            miniature = build_miniature(id, tmp_path_factory.mktemp(id))
            registry = load_registry(registries_dir() / f"{id}.yaml")
            found[id] = Built(miniature, registry, catalogue(registry, miniature.root))
    return found
