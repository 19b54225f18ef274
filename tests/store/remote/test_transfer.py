"""Stores pushed to and pulled from a real S3-compatible server, which fails on demand."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from random_store import TAG, make_store, random_manifest, random_rows
from s3_server import Bucket, Faults, failing_proxy

from pipeline.errors import StoreError
from pipeline.store import (
    create_staging,
    current_version,
    open_store,
    publish,
    verify,
    write_shard,
)
from pipeline.store.remote import requests
from pipeline.store.remote.objects import Place
from pipeline.store.remote.transfer import pull, push


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two shards: every object costs the server some milliseconds."""
    make_store(tmp_path / "unified.zarr", n=24)
    return tmp_path / "unified.zarr"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def of_another_model(store: Path) -> Path:
    tag = dataclasses.replace(TAG, digest="b" * 64)
    staging = create_staging(store, 16, tag, 16)
    receipt = write_shard(staging, 0, random_rows(16), tag.digest)
    return publish(store, staging, [receipt], random_manifest(16))


def test_there_and_back(store: Path, s3: str, tmp_path: Path) -> None:
    version = current_version(store)
    assert push(store, s3) == f"{s3}/versions/{version.name}"
    assert verify(s3) == [] == verify(f"{s3}/versions/{version.name}")
    got = pull(s3, tmp_path / "pulled")
    assert got == tmp_path / "pulled" / "versions" / version.name
    assert contents(got) == contents(version)
    assert sorted(path.name for path in (tmp_path / "pulled").iterdir() if path.is_dir()) == [
        "versions"
    ]
    open_store(tmp_path / "pulled").map(*open_store(store).fields)
    assert pull(s3, tmp_path / "pulled") == got


def test_the_next_version_leaves_the_first_one(store: Path, s3: str, tmp_path: Path) -> None:
    first, url = current_version(store), push(store, s3)
    second = make_store(store, n=48, seed=1)
    push(store, s3)
    assert pull(s3, tmp_path / "pulled").name == second.name
    assert contents(pull(url, tmp_path / "first")) == contents(first)
    assert Place(s3).read("HEAD") == second.name.encode() + b"\n"


def test_what_is_there_and_right_is_not_sent_again(
    store: Path, s3: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, faults = push(store, s3), Faults()
    there, bucket = Place(url).sizes(), Bucket(s3_endpoint, url)
    bucket.remove("files.json")
    bucket.remove("pose/c/1/0")
    bucket.flip("shape/c/0/0", 77)
    bucket.write("validity/c/0/0", b"short")
    with failing_proxy(s3_endpoint, faults) as endpoint, monkeypatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", endpoint)
        push(store, s3)
    sent = {
        path.partition("/unified.zarr/")[2] for method, path in faults.requests if method == "PUT"
    }
    name = Path(url).name
    damaged = ("files.json", "pose/c/1/0", "shape/c/0/0", "validity/c/0/0")
    assert sent == {"HEAD"} | {f"versions/{name}/{path}" for path in damaged}
    assert Place(url).sizes() == there
    assert verify(s3) == []


@pytest.mark.parametrize("damage", ["none", "lost", "short", "listing"])
def test_what_the_version_before_has_too_is_copied_there(
    store: Path, s3: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """Only the second shard differs: the rows of the first are the same."""
    old, faults = push(store, s3), Faults()
    bucket = Bucket(s3_endpoint, old)
    if damage == "lost":
        bucket.remove("pose/c/0/0")
    elif damage == "short":
        bucket.write("pose/c/0/0", b"short")
    elif damage == "listing":
        bucket.write("files.json", b"{}")
    rows = {name: values[:24].copy() for name, values in random_rows(24).items()}
    rows["pose"][23] += 1
    staging = create_staging(store, 24, TAG, 16)
    receipts = [
        write_shard(staging, k, {n: v[k * 16 :][:16] for n, v in rows.items()}, TAG.digest)
        for k in (0, 1)
    ]
    publish(store, staging, receipts, random_manifest(24))
    with failing_proxy(s3_endpoint, faults) as endpoint, monkeypatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", endpoint)
        new = push(store, s3)
    assert verify(s3) == [] and Path(new).name == current_version(store).name
    reads = {p.partition(f"{Path(new).name}/")[2] for m, p in faults.requests if m == "GET"}
    assert {"pose/c/1/0", "manifest.parquet", "files.json"} <= reads  # sent, and so read back
    assert ("shape/c/0/0" in reads) == (damage == "listing")
    assert ("pose/c/0/0" in reads) == (damage != "none")


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_a_push_broken_off_shows_nothing_and_a_retry_completes(
    store: Path, s3: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr(requests, "MAX_RETRIES", 0)
    faults = Faults({"500": share / 2, "lost": share / 2}, seed=3)
    with failing_proxy(s3_endpoint, faults) as endpoint, monkeypatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(StoreError, match=rf"{s3}.*try again"):
            push(store, s3)
    assert Place(s3).look("HEAD") == (None, None)
    with pytest.raises(StoreError, match=rf"{s3}: holds no published store"):
        open_store(s3)
    push(store, s3)
    assert verify(s3) == []


def test_transfers_through_a_failing_network(
    store: Path, s3: str, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults({"500": 0.05, "503": 0.05, "reset": 0.05, "cut": 0.05, "lost": 0.05}, seed=5)
    with failing_proxy(s3_endpoint, faults) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        push(store, s3)
        assert contents(pull(s3, tmp_path / "pulled")) == contents(current_version(store))
        assert verify(s3) == []
    assert min(faults.seen[kind] for kind in faults.shares) > 3


def test_of_two_pushes_at_once_the_later_is_told(
    store: Path, s3: str, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, faults = Bucket(s3_endpoint, s3), Faults()
    push(store, s3)
    before, mine = current_version(store).name, make_store(store, seed=1).name

    def other_push(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/files.json"):
            bucket.write("HEAD", b"0123456789abcdef\n")

    faults.before = other_push
    with failing_proxy(s3_endpoint, faults) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(
            StoreError,
            match=rf"HEAD: moved from {before} to 0123456789abcdef during the push of {mine}; look",
        ):
            push(store, s3)
    assert bucket.read("HEAD") == b"0123456789abcdef\n"


def test_a_first_push_that_another_overtakes_is_told(
    store: Path, s3: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, faults = Bucket(s3_endpoint, s3), Faults()
    faults.before = lambda method, path: (
        bucket.write("HEAD", b"0123456789abcdef\n")
        if (method == "PUT" and path.endswith("/files.json"))
        else None
    )
    with failing_proxy(s3_endpoint, faults) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(StoreError, match="moved from nothing to 0123456789abcdef"):
            push(store, s3)
    assert bucket.read("HEAD") == b"0123456789abcdef\n"


def test_what_is_not_pushed(store: Path, s3: str, s3_endpoint: str, tmp_path: Path) -> None:
    version = current_version(store)
    bucket = Bucket(s3_endpoint, f"{s3}/versions/{version.name}")
    bucket.write("notes.txt", b"mine")
    with pytest.raises(StoreError, match=r"notes.txt: does not belong to the version; remove it"):
        push(store, s3)
    bucket.remove("notes.txt")
    shard = version / "pose" / "c" / "1" / "0"
    content = shard.read_bytes()
    shard.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(StoreError, match=rf"{shard}: damaged; verify the store"):
        push(store, s3)
    shard.unlink()
    with pytest.raises(StoreError, match=rf"{shard}: missing; verify the store"):
        push(store, s3)
    shard.write_bytes(content)
    assert Place(s3).look("HEAD") == (None, None)
    push(store, s3)
    of_another_model(tmp_path / "other")
    with pytest.raises(StoreError, match=r"made with the model 'test model'.*choose another URL"):
        push(tmp_path / "other", s3)
    Bucket(s3_endpoint, s3).write("HEAD", b"../../elsewhere")
    with pytest.raises(StoreError, match=r"HEAD: damaged, says '../../elsewhere'"):
        push(store, s3)


def test_what_is_not_pulled(store: Path, s3: str, s3_endpoint: str, tmp_path: Path) -> None:
    url, out = push(store, s3), tmp_path / "out"
    before = make_store(out, n=16, seed=9)
    bucket = Bucket(s3_endpoint, url)
    for name in ("pose/c/1/0", "manifest.parquet", "files.json"):
        bucket.flip(name, 1000)
        with pytest.raises(StoreError, match=rf"{url}/{name}: .*(damaged|own digest)"):
            pull(s3, out)
        bucket.flip(name, 1000)
    content = bucket.read("pose/c/1/0")
    bucket.write("pose/c/1/0", content[:-1])
    with pytest.raises(StoreError, match=rf"{url}/pose/c/1/0: got \d+ of \d+ bytes"):
        pull(s3, out)
    bucket.remove("pose/c/1/0")
    with pytest.raises(StoreError, match=rf"{url}/pose/c/1/0: .*not found"):
        pull(s3, out)
    assert current_version(out) == before and verify(out) == []
    assert not list(out.glob(".staging-*"))
    bucket.write("pose/c/1/0", content)
    of_another_model(tmp_path / "other")
    with pytest.raises(StoreError, match="with the model"):
        pull(s3, tmp_path / "other")
    assert pull(s3, out).name == Path(url).name


def test_every_damage_below_a_url_is_found(store: Path, s3: str, s3_endpoint: str) -> None:
    url, random = push(store, s3), np.random.default_rng(0)
    bucket = Bucket(s3_endpoint, url)
    sizes = {name: n for name, n in Place(url).sizes().items() if name != "run.json"}
    bits = {name: int(random.integers(8 * size)) for name, size in sizes.items()}
    bucket.flip("files.json", bits.pop("files.json"))
    assert len(faults := verify(url)) == 1 and "files.json" in faults[0]
    push(store, s3)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bucket.flip, bits, bits.values()))
    assert {fault.partition(":")[0] for fault in verify(url)} == bits.keys()
    push(store, s3)
    assert verify(url) == []
    bucket.flip("pose/c/1/0", 8 * (5 * 60 + 3))
    bucket.flip("run.json", 99)
    bucket.write("shape/c/0/0", bucket.read("shape/c/0/0")[:-1])
    bucket.write("shape/c/9/0", b"")
    bucket.remove("vertices_mm/c/0/0/0")
    Bucket(s3_endpoint, s3).write("notes.txt", b"")
    size = (current_version(store) / "shape/c/0/0").stat().st_size
    assert sorted(fault for fault in verify(s3) if "run.json" not in fault) == [
        "notes.txt: does not belong to the store",
        "pose/c/1/0: content differs from its SHA-256 (rows [21])",
        f"shape/c/0/0: {size - 1} bytes, expected {size}",
        "shape/c/9/0: does not belong to the version",
        "vertices_mm/c/0/0/0: missing",
    ]
    assert any(f"{url}/run.json" in fault for fault in verify(s3))
    with pytest.raises(StoreError, match="no-such-bucket"):
        verify("s3://no-such-bucket/x")
    assert "holds no published store" in verify(s3.replace("unified", "none"))[0]
