"""Reading straight from a real S3-compatible server through a bounded mirror."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_store import make_store
from s3_server import Bucket, Faults, failing_proxy

from pipeline.errors import StoreError
from pipeline.store import Store, open_store, verify
from pipeline.store.locks import lock
from pipeline.store.remote import requests
from pipeline.store.remote.mirror import IN_USE, MIRROR, mirrored
from pipeline.store.remote.mirrored_field import MirroredField
from pipeline.store.remote.pieces import ABSENT, CHANGING, Pieces, punch
from pipeline.store.remote.transfer import push
from pipeline.types import Array

N, PIECE = 160, 5000
FIELDS = ("vertices_mm", "pose", "shape", "validity", "unit_factor_mm", "landmarks_mm")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 rows in shards of 64 with points, 1.4 MB; lengths in int16 steps."""
    store = tmp_path_factory.mktemp("mirror") / "unified.zarr"
    make_store(store, N, 64, points=True, int16=True, people=True)
    return store


@pytest.fixture
def remote(pushed: str, s3: str) -> str:
    """The store below a URL, as all tests leave it, and an empty cache."""
    return pushed


def same(got: Store, expected: Store, names: tuple[str, ...], rows: Array) -> None:
    for name in names:
        np.testing.assert_array_equal(got.read(name, rows), expected.read(name, rows), name)


def occupied(mirror: Path) -> int:
    return sum(512 * path.stat().st_blocks for path in mirror.glob("*/c/**/*") if path.is_file())


def test_all_rows_of_all_fields(local: Path, remote: str) -> None:
    mirrored(remote, piece_bytes=PIECE)
    got, expected = open_store(remote), open_store(local)
    single = tuple(name for name, field in expected.fields.items() if not field.group)
    random = np.random.default_rng(0)
    for _ in range(2):
        for size in (1, 7, 300):
            same(got, expected, single, random.integers(0, N, size))
    np.testing.assert_array_equal(got.row("pose", 77), expected.row("pose", 77))
    for name in ("points_mm", "normals"):
        for scan in random.permutation(N):
            for n in (None, 3):
                np.testing.assert_array_equal(
                    got.read_ragged(name, int(scan), n), expected.read_ragged(name, int(scan), n)
                )
    rows = random.integers(0, N, 20)
    points = got.read_points(("points_mm",), rows, 20)["points_mm"]
    np.testing.assert_array_equal(
        points, expected.read_points(("points_mm",), rows, 20)["points_mm"]
    )
    assert got.manifest.equals(expected.manifest)
    out = np.empty((2, 64, 3), "<f4")
    assert got.read_fields(["vertices_mm"], [5, 159], {"vertices_mm": out})["vertices_mm"] is out
    np.testing.assert_array_equal(out, expected.read("vertices_mm", [5, 159]))


def test_only_what_is_asked_for_is_fetched_and_only_once(
    local: Path, remote: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults()
    with failing_proxy(s3_endpoint, faults) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        mirror = mirrored(remote, piece_bytes=PIECE)
        store, expected = Store(mirror), open_store(local)
        before, faults.bytes_sent, faults.requests = occupied(mirror), 0, []
        same(store, expected, ("shape",), np.array([0, 1, 2]))
        assert faults.bytes_sent == 4 * 1200 and len(faults.requests) == 1
        same(Store(mirror), expected, ("shape",), np.array([2, 1, 0, 0]))
        assert mirrored(remote, piece_bytes=99) == mirror
        same(pickle.loads(pickle.dumps(open_store(remote))), expected, ("shape",), np.arange(3))
        assert sum("shape" in path for _, path in faults.requests) == 1
        assert 0 < occupied(mirror) - before <= 3 * 4096
        faults.requests = []
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda rows: Store(mirror).read("shape", rows), [range(64, 128)] * 4))
        assert len(faults.requests) == 16, "of those who want a piece at once, one fetches it"
    with pytest.raises(StoreError, match=rf"{remote}.*shape/c/2/0: .*try again"):
        monkeypatch.setattr(requests, "MAX_RETRIES", 0)
        Store(mirror).read("shape", [150])


@pytest.mark.parametrize("bound", [0, 20_000, 100_000])
def test_the_bound_holds_whatever_is_asked_for(local: Path, remote: str, bound: int) -> None:
    mirror = mirrored(remote, cache_bytes=bound, piece_bytes=PIECE)
    got, expected, random = Store(mirror), open_store(local), np.random.default_rng(1)
    empty = occupied(mirror)
    for size in (5, 5, 5, N, 5):  # N rows of all fields are 1 MB
        same(got, expected, FIELDS, random.integers(0, N, size))
        assert occupied(mirror) - empty <= bound
    assert (occupied(mirror) > empty) == (bound > 0)


def test_the_longest_unused_pieces_make_room(
    remote: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults()
    with failing_proxy(s3_endpoint, faults) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        store = open_store(mirrored(remote, cache_bytes=40_000, piece_bytes=PIECE))
        for row in (0, 30, 60, 0, 90, 0, 120):  # of three pieces at most
            store.read("shape", [row])
        faults.requests = []
        store.read("shape", [0, 120])
        assert not faults.requests
        store.read("shape", [30])
        assert len(faults.requests) == 1


def test_damage_is_found_where_it_is_fetched(local: Path, remote: str, s3_endpoint: str) -> None:
    mirror = mirrored(remote, piece_bytes=PIECE)
    store, url = Store(mirror), json.loads((mirror / MIRROR).read_bytes())["url"]
    bucket, shard = Bucket(s3_endpoint, url), "shape/c/1/0"
    content = bucket.read(shard)
    for bit in np.random.default_rng(0).integers(0, 8 * 1200, 5):
        bucket.flip(shard, 8 * 1200 * 10 + int(bit))
        with pytest.raises(StoreError, match=rf"{url}/{shard}: damaged \(rows \[74\]\); verify"):
            store.read("shape", [73, 75])  # in the same piece
        bucket.write(shard, content)
    np.testing.assert_array_equal(store.read("shape", [74]), open_store(local).read("shape", [74]))
    bucket.write(shard, content[: 1200 * 18])
    with pytest.raises(StoreError, match=rf"{url}/{shard}: got \d+ of \d+ bytes"):
        store.read("shape", [64 + 16])
    with pytest.raises(StoreError, match=rf"{url}/{shard}: .*InvalidRange; verify the store"):
        store.read("shape", [64 + 21])
    bucket.remove(shard)
    with pytest.raises(StoreError, match=rf"{url}/{shard}: .*not found.*push the store"):
        store.read("shape", [64 + 21])
    bucket.write(shard, content)
    bucket.flip("points_mm/c/0/0", 8 * 100)
    with pytest.raises(StoreError, match=rf"{url}/points_mm/c/0/0: damaged \(rows \[0\]\)"):
        store.read_ragged("points_mm", 0)
    bucket.flip("points_mm/c/0/0", 8 * 100)


def test_damaged_tables_make_no_mirror(remote: str, s3_endpoint: str, tmp_path: Path) -> None:
    bucket, head = Bucket(s3_endpoint, remote), Bucket(s3_endpoint, remote).read("HEAD").decode()
    name = f"versions/{head.strip()}/manifest.parquet"
    bucket.flip(name, 800)
    with pytest.raises(StoreError, match=rf"{name}: damaged; verify"):
        open_store(remote)
    bucket.flip(name, 800)
    assert len(open_store(remote).manifest) == N, "what a broken off one left is no hindrance"


def test_a_new_version_has_a_mirror_of_its_own(s3: str, tmp_path: Path) -> None:
    version = make_store(tmp_path / "store", 16)
    push(tmp_path / "store", s3)
    first, rows = open_store(s3), np.arange(16)
    make_store(tmp_path / "store", 16, seed=1)
    push(tmp_path / "store", s3)
    for got, expected in (
        (open_store(s3), tmp_path / "store"),
        (first, version),
        (open_store(f"{s3}/versions/{version.name}"), version),
    ):
        same(got, open_store(expected), ("pose", "shape"), rows)


def test_what_is_no_mirror(remote: str, s3: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=rf"{s3}: holds no published store"):
        open_store(s3)
    make_store(tmp_path / "archive", 16, profile="archive")
    push(tmp_path / "archive", s3)
    archive = open_store(s3)
    assert len(archive.manifest) == 16
    with pytest.raises(StoreError, match=r"of the profile 'archive'.*pull it"):
        archive.read("pose", [0])
    for sizes in ({"cache_bytes": -1}, {"piece_bytes": 0}):
        with pytest.raises(StoreError, match="expected ≥ 0 and ≥ 1"):
            mirrored(s3, **sizes)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Not a directory; name a cache folder on a local disk"):
        open_store(remote, cache=tmp_path / "file")
    reading, writing = os.pipe()
    with pytest.raises(OSError, match=r"Illegal seek|Operation not supported|No such device"):
        punch(writing, 0, 4096)
    os.close(reading), os.close(writing)


def test_mirrors_from_before_a_restart_are_removed(remote: str, tmp_path: Path) -> None:
    cache = tmp_path / "mirrors"
    for name in ("0123456789abcdef-00000000", "0123456789abcdef-11111111"):
        (cache / name).mkdir(parents=True)
        (cache / name / "pieces").write_text("old")
    used = lock(cache / "0123456789abcdef-11111111" / IN_USE, fcntl.LOCK_SH)
    mirror = mirrored(remote, cache)
    folders = {path.name for path in cache.iterdir() if path.is_dir()}
    assert folders == {mirror.name, "0123456789abcdef-11111111"}
    os.close(used)


def test_a_mirror_removed_under_its_reader_is_told(local: Path, remote: str) -> None:
    store = open_store(mirrored(remote, piece_bytes=PIECE))
    store.read("shape", [0])
    shutil.rmtree(store.path)
    with pytest.raises(StoreError, match="removed while it was read; open the store again"):
        store.read("shape", [50])
    same(open_store(mirrored(remote, piece_bytes=PIECE)), open_store(local), FIELDS, np.arange(N))
    with pytest.raises(StoreError, match="removed while it was read; open the store again"):
        store.read("shape", [50])


def test_what_a_killed_writer_left_is_cleared(local: Path, remote: str) -> None:
    mirror = mirrored(remote, cache_bytes=100_000, piece_bytes=PIECE)
    store = open_store(mirror)
    store.read("shape", [0])
    pieces = Pieces(mirror, store.form, PIECE, 100_000)
    first = pieces.numbers["shape"].first
    assert pieces.filled[first] > CHANGING
    pieces.filled[first] = CHANGING
    shard = mirror / "shape" / "c" / "0" / "0"
    with shard.open("r+b") as file:
        file.write(b"half a piece")
    same(store, open_store(local), ("shape",), np.array([0, 1]))
    assert pieces.filled[first] > CHANGING
    pieces.filled[first] = CHANGING
    store.read("shape", [100])
    assert pieces.filled[first] == ABSENT and shard.read_bytes()[:4800] == bytes(4800)


def _refill(mirror: Path, local: Path, begun: Any, enough: Any) -> None:
    """Fill pieces of `shape` at random, each in place of another."""
    pieces, random = Pieces(mirror, Store(local).form, PIECE, 60_000), np.random.default_rng(0)
    shards = [(local / "shape" / "c" / f"{shard}" / "0").read_bytes() for shard in range(3)]
    while not enough.is_set():
        begun.set()
        shard, piece = random.integers(0, [2, 16])
        start = int(piece) * 4800
        number = pieces.numbers["shape"].first + int(shard) * pieces.numbers["shape"].per_shard
        pieces.keep(number + int(piece), start, shards[shard][start : start + 4800])


def test_rows_evicted_while_they_are_copied_do_not_count(local: Path, remote: str) -> None:
    mirror, expected = mirrored(remote, piece_bytes=PIECE), open_store(local)
    shape, values = open_store(mirror)._field("shape"), expected.read("shape", slice(None))
    assert isinstance(shape, MirroredField)
    context, random = multiprocessing.get_context("spawn"), np.random.default_rng(1)
    begun, enough = context.Event(), context.Event()
    arguments = (mirror, expected.path, begun, enough)
    refilling = context.Process(target=_refill, args=arguments, daemon=True)
    refilling.start()
    assert begun.wait(60)
    copied, end = 0, time.monotonic() + 1.5
    while time.monotonic() < end:
        rows = random.integers(0, 128, 500)
        out = np.full((500, 300), np.nan, np.float32)
        absent = shape._copy(rows, shape._pieces_of(rows), out, np.arange(500))
        there = np.setdiff1d(np.arange(500), absent)
        np.testing.assert_array_equal(out[there], values[rows[there]])
        copied += len(there)
    enough.set()
    refilling.join()
    assert copied > 1000 and refilling.exitcode == 0


def _hammer(path: Path, local: Path, seed: int, rounds: int, answers: Any) -> None:
    """Read random rows and compare; says how often they were wrong, or what went wrong."""
    try:
        got, expected, random = Store(path), open_store(local), np.random.default_rng(seed)
        wrong = 0
        for _ in range(rounds):
            rows = random.integers(0, N, 40)
            for name in ("shape", "vertices_mm"):
                wrong += not np.array_equal(got.read(name, rows), expected.read(name, rows))
        answers.put(wrong)
    except BaseException as error:  # shown by the test
        answers.put(repr(error))
        raise


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_many_readers_share_a_mirror_that_holds_a_part(
    local: Path, remote: str, start: str
) -> None:
    mirror = mirrored(remote, cache_bytes=200_000, piece_bytes=PIECE)
    empty, context = occupied(mirror), multiprocessing.get_context(start)
    answers = context.SimpleQueue()
    children = [
        context.Process(target=_hammer, args=(mirror, local, seed, 4, answers), daemon=True)
        for seed in range(1)
    ]
    threads = [
        threading.Thread(target=_hammer, args=(mirror, local, 9 + seed, 4, answers))
        for seed in range(2)
    ]
    for worker in (*children, *threads):
        worker.start()
    assert [answers.get() for _ in range(3)] == [0] * 3
    for worker in (*children, *threads):
        worker.join()
    assert occupied(mirror) - empty <= 200_000


def test_killed_readers_leave_a_mirror_that_can_be_used(local: Path, remote: str) -> None:
    mirror = mirrored(remote, cache_bytes=150_000, piece_bytes=PIECE)
    empty, context, random = (
        occupied(mirror),
        multiprocessing.get_context("fork"),
        np.random.default_rng(2),
    )
    for seed in range(4):
        answers = context.SimpleQueue()
        child = context.Process(target=_hammer, args=(mirror, local, seed, 10**6, answers))
        child.start()
        time.sleep(float(random.uniform(0.05, 0.4)))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert answers.empty()
        same(Store(mirror), open_store(local), ("shape",), random.integers(0, N, 20))
    same(Store(mirror), open_store(local), FIELDS, np.arange(N))
    assert occupied(mirror) - empty <= 150_000
    assert verify(local) == []
