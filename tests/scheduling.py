"""Which tests a process takes at a time, and which come first, so that none waits for another."""

from __future__ import annotations

from collections.abc import Sequence

from xdist.scheduler.loadscope import LoadScopeScheduling

SHARING = ("tests/contract/",)
"""Folders whose files share what takes long to build: one process runs them all."""
FIRST = (
    "tests/flows/prefect_server/test_artifacts.py",  # makes the demo for others
    "tests/contract/",
    "tests/flows/cluster/test_worker_failures.py",
    "tests/registration/test_register.py",
    "tests/flows/cluster/test_cluster.py",
    "tests/flows/test_deployments.py",
    "tests/flows/cluster/test_kills.py",
    "tests/store/test_faults.py",
    "tests/loaders/",
    "tests/build/test_register_files.py",
    "tests/store/",
)
"""What takes longest, in the order in which it is begun."""


def in_order(paths: Sequence[str]) -> list[int]:
    """Places of paths of tests, those of FIRST before the others, which stay as they are."""

    def rank(place: int) -> int:
        starts = (i for i, start in enumerate(FIRST) if paths[place].startswith(start))
        return next(starts, len(FIRST))

    return sorted(range(len(paths)), key=rank)


class ByFile(LoadScopeScheduling):
    """A file is run by one process, and so are those of a folder of SHARING."""

    def _split_scope(self, nodeid: str) -> str:
        folder = next((folder for folder in SHARING if nodeid.startswith(folder)), None)
        return folder or nodeid.partition("::")[0]
