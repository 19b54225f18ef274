"""A small store of made people that the tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock
from training_people import People, write_people

PEOPLE = People(train=8, val=3, test=3, seed=5)


@pytest.fixture(scope="session")
def made_people(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """8 people to train on, 3 to validate and 3 to test, of 4 pictures each."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder if worker_id == "master" else folder.parent
    with FileLock(folder / "made-people.lock"):
        return write_people(folder, PEOPLE, processes=1)
