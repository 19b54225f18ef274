"""One writing of the synthetic sources for all tests."""

from __future__ import annotations

import pytest
from written_sources import SCANS, Written

from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.synthetic import write_sources
from pipeline.synthetic.delivery import Cast


@pytest.fixture(scope="session")
def model() -> FlameModel:
    return stand_in()


@pytest.fixture(scope="session")
def cast(model: FlameModel) -> Cast:
    return Cast.of(model, seed=0)


@pytest.fixture(scope="session")
def written(model: FlameModel, tmp_path_factory: pytest.TempPathFactory) -> Written:
    out = tmp_path_factory.mktemp("synthetic")
    return Written(out, write_sources(out, SCANS, seed=0, model=model))
