"""Folders that can hold no store, and file systems without locks, are told in one line."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest
from random_store import TAG, make_store

from pipeline.errors import StoreError
from pipeline.store import create_staging, prune, subset, verify


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """No such file system can be mounted here: the kernel's answer is that of NFS without lockd."""

    def refused(descriptor: int, kind: int) -> None:
        raise OSError(error, os.strerror(error))

    def ask() -> int:
        for write in (
            lambda: create_staging(tmp_path / "new", 16, TAG),
            lambda: subset(store, "True", tmp_path / "part"),
            lambda: prune(store, 0),
        ):
            with pytest.raises(StoreError, match=r"has no file locks \(.*write to a local disk"):
                write()
        return len(list(Path("/proc/self/fd").iterdir()))

    monkeypatch.setattr(fcntl, "flock", refused)
    assert ask() + 2 > ask()  # each would leave one
    assert verify(store) == []


@pytest.mark.parametrize("published", [False, True])
def test_a_folder_that_holds_foreign_files(tmp_path: Path, published: bool) -> None:
    if published:
        make_store(tmp_path)
    (tmp_path / "thesis.tex").write_text("mine")
    (tmp_path / ".DS_Store").write_text("anybody's")
    said = r"holds what belongs to no store \('thesis.tex'\); name an empty folder"
    with pytest.raises(StoreError, match=said):
        create_staging(tmp_path, 16, TAG)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name not in ("HEAD", "versions"))[-1] == (
        "thesis.tex"
    )
    (tmp_path / "thesis.tex").unlink()
    make_store(tmp_path)
    assert verify(tmp_path) == []


def test_many_foreign_files_of_any_name(tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"\x1b[2J{i}").write_text("")
    with pytest.raises(StoreError, match=r"no store .* …\)") as caught:
        create_staging(tmp_path, 16, TAG)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "out", ["/proc/x", "/dev/null", "/dev/null/x", "/proc/1", "x" * 5000, "\0"]
)
def test_places_where_no_store_can_be(store: Path, out: str) -> None:
    for write in (lambda: subset(store, "True", out), lambda: create_staging(out, 16, TAG)):
        with pytest.raises(StoreError):
            write()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(store: Path) -> None:
    store.chmod(0o500)
    with pytest.raises(StoreError, match="make the folder writable"):
        prune(store, 0)
    store.chmod(0o700)
