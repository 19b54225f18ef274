"""Morphable models by Dask: as exact ones, whoever computes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from distributed import LocalCluster

from flows.cluster import modelling
from flows.cluster.modelling import components
from pipeline.errors import FacefoldError, StoreError
from pipeline.evaluation.morphable.model import in_memory
from pipeline.evaluation.morphable.people import Heads, people_of
from pipeline.flame.morphable import Morphable
from pipeline.flame.stand_in import stand_in
from pipeline.store import open_store
from tests.evaluation.people_store import heads_of, write_people

N, KNOWN = 70, 30
BLOCK = 16


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Heads:
    store = tmp_path_factory.mktemp("modelling") / "unified.zarr"
    write_people(store, stand_in(), heads_of(stand_in(), N, 11, KNOWN))
    return people_of(str(store), open_store(store), "train").heads


@pytest.fixture(autouse=True)
def small_blocks() -> Iterator[None]:
    with patch.object(modelling, "BLOCK", BLOCK):
        yield


def by(workers: int, heads: Heads, count: int, seed: int = 0) -> Morphable:
    """By so many workers of one thread each, of a cluster that is named."""
    with LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        return components(heads, count, seed, cluster.scheduler_address, 1)


def test_workers_find_what_one_process_finds(heads: Heads) -> None:
    found, exact = by(2, heads, 12), in_memory(heads, 12, 0)
    assert found.people == exact.people == 56
    assert found.mean_mm == pytest.approx(exact.mean_mm, abs=1e-6)
    assert found.total_mm2 == pytest.approx(exact.total_mm2)
    assert found.variances_mm2 == pytest.approx(exact.variances_mm2, rel=1e-6)
    assert found.components == pytest.approx(exact.components, abs=1e-5)


def test_the_number_of_workers_changes_nothing(heads: Heads) -> None:
    one, three = by(1, heads, 20), by(3, heads, 20)
    assert one.variances_mm2 == pytest.approx(three.variances_mm2, rel=1e-6)
    scaled = [x.components * np.sqrt(x.variances_mm2)[:, None] for x in (one, three)]
    assert scaled[0] == pytest.approx(scaled[1], abs=1e-6)


def test_few_people_need_no_workers(heads: Heads) -> None:
    with patch.object(modelling, "workers", side_effect=AssertionError):
        found = components(heads, 5, 0, None, 2)
    assert (found.components == in_memory(heads, 5, 0).components).all()


def test_many_people_get_processes_of_their_own(heads: Heads) -> None:
    with patch.object(modelling, "SMALL", 50):
        found = components(heads, 5, 0, None, 1)
    exact = in_memory(heads, 5, 0)
    assert found.variances_mm2 == pytest.approx(exact.variances_mm2, rel=1e-6)
    assert (found.components != exact.components).any()


def test_nobody_answers_and_workers_that_do_not_see_the_store(heads: Heads) -> None:
    refused = pytest.raises(FacefoldError, match="no scheduler answers")
    with patch("flows.cluster.connection.ANSWER_S", 1.0), refused:
        components(heads, 5, 0, "tcp://127.0.0.1:1", 1)
    other = Heads(heads.store, "0" * 16, heads.field, heads.rows)
    with pytest.raises(StoreError, match="another was published meanwhile"):
        by(1, other, 5)


def test_a_folder_that_is_not_there(heads: Heads, tmp_path: Path) -> None:
    away = Heads(str(tmp_path / "x"), heads.version, heads.field, heads.rows)
    with pytest.raises(StoreError, match="holds no published store"):
        by(1, away, 5)
