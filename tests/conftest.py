"""Fixtures every test may use."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

# before torch is imported anywhere: its threads stand in each other's way on a small machine
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from s3_server import make_bucket, s3_server, surroundings

from pipeline.pictures.viewer import INSTALL_OPEN3D
from pipeline.store import push
from tests.referee import Ask, open3d_process
from tests.scheduling import ByFile, in_order


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [items[place] for place in in_order([item.nodeid for item in items])]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return ByFile(config, log)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans and open models, or a skip that says where it was looked for."""
    named = os.environ.get("FACEFOLD_SHARED_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not (folder / "scans").is_dir():
        pytest.skip(
            f"real scans are not at {folder}; set FACEFOLD_SHARED_DATA to their folder to run this"
        )
    return folder


@pytest.fixture(scope="session")
def oracles(shared_data: Path) -> Path:
    """The folder of numbers of the authors' public code, or a skip that says where it was sought.

    What is compared with it is marked `oracles`.
    """
    folder = shared_data.parent / "oracles"
    if not folder.is_dir():
        pytest.skip(f"numbers of the authors' code are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def ask_open3d() -> Iterator[Ask]:
    """Calls a function of `tests.referee` in open3d's process; skips where it is not installed."""
    with ExitStack() as running:
        try:
            ask = running.enter_context(open3d_process())
        except (ImportError, OSError) as fault:
            pytest.skip(f"open3d cannot be imported ({fault}); {INSTALL_OPEN3D}")
        yield ask


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The URL of an S3-compatible server, which is a process of its own."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def s3_environment(s3_endpoint: str) -> dict[str, str]:
    """What has to be in the environment to reach the server."""
    return surroundings(s3_endpoint)


def new_place(s3_endpoint: str) -> str:
    """An empty s3:// place in a bucket of its own."""
    bucket = f"b{uuid.uuid4().hex}"
    make_bucket(s3_endpoint, bucket)
    return f"s3://{bucket}/faces/unified.zarr"


@pytest.fixture
def s3(s3_environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty s3:// place, with the environment to reach it; mirrors go to `tmp_path`."""
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return new_place(s3_environment["AWS_ENDPOINT_URL"])


@pytest.fixture(scope="module")
def s3_of_module(s3_environment: dict[str, str]) -> Iterator[str]:
    """An empty s3:// place that the tests of a module share."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in s3_environment.items():
            environment.setenv(name, value)
        yield new_place(s3_environment["AWS_ENDPOINT_URL"])


@pytest.fixture(scope="module")
def pushed(local: Path, s3_of_module: str) -> str:
    """A place below which the store `local` of a module is published too."""
    push(local, s3_of_module)
    return s3_of_module
