from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.registration import RegistrationOptions
from pipeline.registration.template import Template, prepare_template


@pytest.fixture(scope="session")
def model() -> FlameModel:
    return stand_in()


@pytest.fixture(scope="session")
def bare(model: FlameModel) -> FlameModel:
    n = len(model.template_mm)
    return replace(
        model,
        shape_basis_mm=np.zeros((n, 3, 0)),
        expression_basis_mm=np.zeros((n, 3, 0)),
        pose_basis_mm=np.zeros((n, 3, 0)),
        joint_regressor=np.zeros((0, n)),
        weights=np.zeros((n, 0)),
        parents=np.zeros(0, np.int64),
    )


@pytest.fixture(scope="session")
def template(model: FlameModel) -> Template:
    return prepare_template(model, "cpu", RegistrationOptions().modes)
