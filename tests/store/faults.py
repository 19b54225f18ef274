"""Faults that befall a store, drawn by seed; what a reader then sees, and what a retry mends.

Each fault works on a store of its own, where the rows of seed 0 are published. The rows of another
seed are what is to be published next, so that any mixture of the two shows.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError
from pipeline.store import current_version, open_store, publish, subset, verify
from pipeline.store.reader import Store
from pipeline.store.remote.transfer import push
from tests.s3_server import Bucket, Faults, failing_proxy
from tests.store.random_store import random_manifest, random_points, random_rows, stage

ROWS, ROWS_PER_SHARD, OLD, NEW, OTHER = 200, 64, 0, 1, 2
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.store.faults"])


@dataclass(frozen=True)
class Outcome:
    """What came of one fault; every item should be empty or true."""

    seen: frozenset[int]
    """Seeds of the versions that readers saw, during and after the fault."""
    detected: bool
    """The damage was told: by `verify`, or by the error of whoever met it."""
    mended: bool
    """A retry ended in a sound store of the new rows, and nothing else was left in it."""

    @property
    def fine(self) -> bool:
        return self.seen <= {OLD, NEW, OTHER} and self.detected and self.mended


def publish_rows(store: Path, seed: int) -> None:
    """Publishes the rows of a seed, points included."""
    staging, receipts = stage(store, ROWS, ROWS_PER_SHARD, seed, points=True)
    manifest = [row | {"seed": seed} for row in random_manifest(ROWS)]
    publish(store, staging, receipts, manifest, provenance={"seed": seed})


def seen(store: Path | str) -> int:
    """The seed of all that a reader finds in a store, or below a URL, past any mirror.

    Raises ValueError for a mixture.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _seed_of(open_store(store, cache=Path(folder)))


@cache
def wanted(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `publish_rows` publishes."""
    return random_rows(ROWS, seed), random_points(ROWS, seed)


def _seed_of(found: Store) -> int:
    seeds = set(found.columns("seed")["seed"].to_pylist())
    if len(seeds) != 1:
        raise ValueError(f"the manifest holds rows of {seeds}")
    (seed,) = seeds
    rows, points = wanted(seed)
    for name, values in rows.items():
        if found.read(name, slice(None)).tobytes() != values.tobytes():
            raise ValueError(f"{name} is not that of the manifest's version {seed}")
    for name, by_scan in points.items():
        for row in (0, ROWS // 2, ROWS - 1):
            if found.read_ragged(name, row).tobytes() != by_scan[row].tobytes():
                raise ValueError(f"{name} is not that of the manifest's version {seed}")
    return int(seed)


def whole(store: Path, seed: int) -> bool:
    """The store is sound, shows the rows of this seed, and holds no leftovers."""
    hidden = [path.name for path in store.iterdir() if path.name.startswith(".staging-")]
    return verify(store) == [] and seen(store) == seed and not hidden


def retried(store: Path) -> bool:
    """Publishing once more ends well, in a process of its own as after a crash."""
    retry = processes.Process(target=publish_rows, args=(store, NEW))
    retry.start()
    retry.join()
    return retry.exitcode == 0 and whole(store, NEW)


def killed_writer(store: Path, draw: random.Random) -> Outcome:
    """kill −9 at any moment of staging, writing and publishing, under the eyes of a reader."""
    writer = processes.Process(target=publish_rows, args=(store, NEW))
    delay_s = draw.uniform(0, publishing_s())
    writer.start()
    axe = threading.Timer(delay_s, writer.kill)
    axe.start()
    found = set()
    while writer.is_alive():
        found.add(seen(store))
    axe.join()
    writer.join()
    found.add(seen(store))
    return Outcome(frozenset(found), True, retried(store))


def two_publishers(store: Path, draw: random.Random) -> Outcome:
    """Two processes publish other rows at once: one wins, and neither version is lost."""
    both = [processes.Process(target=publish_rows, args=(store, seed)) for seed in (NEW, OTHER)]
    for writer in both:
        writer.start()
        time.sleep(draw.uniform(0, 0.05))
    found = {seen(store)}
    while any(writer.is_alive() for writer in both):
        found.add(seen(store))
    for writer in both:
        writer.join()
    found.add(seen(store))
    versions = sorted((store / "versions").iterdir())
    kept = {seen(version) for version in versions} == {OLD, NEW, OTHER}
    sound = all(verify(version) == [] for version in versions)
    told = all(writer.exitcode == 0 for writer in both)
    return Outcome(frozenset(found), told and kept and sound, retried(store))


def damaged(damage: Callable[[Path, random.Random], None]) -> Callable[..., Outcome]:
    """A fault of the disk in a file of the published version."""

    def fault(store: Path, draw: random.Random) -> Outcome:
        version = current_version(store)
        files = [store / "HEAD", *sorted(path for path in version.rglob("*") if path.is_file())]
        path = draw.choice(files)
        damage(path, draw)
        name = path.relative_to(version if version in path.parents else store).as_posix()
        told = [line for line in verify(store) if name in line]
        publish_rows(store, OLD)  # the same rows again: what is damaged is replaced
        repaired = whole(store, OLD)
        return Outcome(frozenset(), bool(told), repaired and retried(store))

    return fault


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    bit = draw.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def truncate(path: Path, draw: random.Random) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size))


def delete(path: Path, draw: random.Random) -> None:
    path.unlink()


IN_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size={size} none {folder}
exec {python} -m tests.store.faults {kind} {folder} {seed}
"""


def on_its_own_disk(kind: str) -> Callable[..., Outcome]:
    """A fault of the file system, on one that the fault mounts for itself, unseen by others."""

    def fault(store: Path, draw: random.Random) -> Outcome:
        script = IN_A_SMALL_DISK.format(
            size="60m", folder=store, python=sys.executable, kind=kind, seed=draw.randrange(2**31)
        )
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", script],
            check=True,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        found = json.loads(done.stdout)
        return Outcome(frozenset(found["seen"]), found["detected"], found["mended"])

    return fault


def own_disks_possible() -> bool:
    """May this user mount a file system in a name space of his own?"""
    try:
        done = subprocess.run(
            ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], stderr=subprocess.DEVNULL
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


def within_own_disk(kind: str, store: Path, draw: random.Random) -> dict[str, Any]:
    """Publishes on the disk that is mounted at `store`, which fills up or becomes read-only."""

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(store)], check=True)

    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows"
        publish_rows(rows, NEW)
        publish_rows(store, OLD)
        size = sum(path.stat().st_blocks * 512 for path in store.rglob("*"))
        remount({"full": f"size={int(size * draw.uniform(1.02, 1.9))}", "read-only": "ro"}[kind])
        told = False
        try:
            subset(rows, "True", store)
        except StoreError as error:
            told = "what is published is as it was" in str(error)
        found = [seen(store)]
        sound = verify(store) == []
        remount({"full": "size=60m", "read-only": "rw"}[kind])
        subset(rows, "True", store)
        return {"seen": found, "detected": told and sound, "mended": whole(store, NEW)}


def killed_push(store: Path, draw: random.Random) -> Outcome:
    """kill −9 of a push at any moment, under the eyes of a reader of the URL."""
    url = pushed(store)
    publish_rows(store, NEW)
    pusher = processes.Process(target=push_in, args=(dict(os.environ), store, url))
    pusher.start()
    time.sleep(draw.uniform(0, pushing_s(os.environ["AWS_ENDPOINT_URL"])))
    pusher.kill()
    pusher.join()
    found = {seen(url)}
    return Outcome(frozenset(found), True, pushed_again(store, url))


def two_pushes(store: Path, draw: random.Random) -> Outcome:
    """Two processes push other rows to one URL at once: the later one is told, or follows."""
    url, other = pushed(store), store.with_name(f"{store.name}-other")
    publish_rows(store, NEW)
    publish_rows(other, OTHER)
    both = []
    for one in (store, other):
        both.append(processes.Process(target=push_in, args=(dict(os.environ), one, url)))
        both[-1].start()
        time.sleep(draw.uniform(0, 0.1))
    found = set()
    while any(pusher.is_alive() for pusher in both):
        found.add(seen(url))
    for pusher in both:
        pusher.join()
    codes = {pusher.exitcode for pusher in both}
    found.add(seen(url))
    told = codes <= {0, TOLD} and codes != {TOLD}
    return Outcome(frozenset(found), told, verify(url) == [] and pushed_again(store, url))


def failing_network(store: Path, draw: random.Random) -> Outcome:
    """A push and a reader beyond a network that refuses, cuts, loses and stalls one in five."""
    url = pushed(store)
    publish_rows(store, NEW)
    share = draw.uniform(0.05, 0.2) / 6
    kinds = ("500", "503", "reset", "cut", "lost", "stall")
    faults = Faults(dict.fromkeys(kinds, share), seed=draw.randrange(2**31))
    with failing_proxy(os.environ["AWS_ENDPOINT_URL"], faults) as proxy:
        found = set()
        with environment(AWS_ENDPOINT_URL=proxy, AWS_TIMEOUT="1 seconds"):
            for attempt in (push_in_vain, read_in_vain):
                found |= attempt(store, url)
    found.add(seen(url))
    return Outcome(frozenset(found), True, pushed_again(store, url))


def push_in_vain(store: Path, url: str) -> set[int]:
    try:
        push(store, url)
    except StoreError:  # told is as good as done: never half of it
        return set()
    return {seen(url)}


def read_in_vain(store: Path, url: str) -> set[int]:
    try:
        return {seen(url)}
    except StoreError:
        return set()


def damaged_object(store: Path, draw: random.Random) -> Outcome:
    """A bit flip, a truncation or a loss below a URL, where a push mends it."""
    url = pushed(store)
    name = f"versions/{current_version(store).name}"
    entries = json.loads((current_version(store) / "files.json").read_bytes())["files"]
    path = f"{name}/{draw.choice([*sorted(entries), 'files.json'])}"
    bucket = Bucket(os.environ["AWS_ENDPOINT_URL"], url)
    content = bucket.read(path)
    damage = draw.choice(["flip", "truncate", "remove"])
    if damage == "flip":
        bucket.flip(path, draw.randrange(8 * len(content)))
    elif damage == "truncate":
        bucket.write(path, content[: draw.randrange(len(content))])
    else:
        bucket.remove(path)
    told = [line for line in verify(url) if path.removeprefix(f"{name}/") in line]
    push(store, url)
    repaired = verify(url) == [] and seen(url) == OLD
    publish_rows(store, NEW)
    return Outcome(frozenset(), bool(told), repaired and pushed_again(store, url))


def pushed(store: Path) -> str:
    """A new place below which the store's rows are published too."""
    url = f"s3://faults/{uuid.uuid4().hex}/unified.zarr"
    push(store, url)
    return url


def pushed_again(store: Path, url: str) -> bool:
    push(store, url)
    return verify(url) == [] and seen(url) == NEW


TOLD = 3


def push_in(surroundings: Mapping[str, str], store: Path, url: str) -> None:
    """`push` in a process that is started with another environment; ends with TOLD if told."""
    os.environ.update(surroundings)
    try:
        push(store, url)
    except StoreError:
        sys.exit(TOLD)


@contextmanager
def environment(**changes: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


FAULTS: dict[str, Callable[[Path, random.Random], Outcome]] = {
    "kill −9 of the writer": killed_writer,
    "two publishers at once": two_publishers,
    "bit flip": damaged(flip),
    "truncation": damaged(truncate),
    "deleted file": damaged(delete),
    "full disk": on_its_own_disk("full"),
    "read-only folder": on_its_own_disk("read-only"),
    "S3: kill −9 of a push": killed_push,
    "S3: two pushes at once": two_pushes,
    "S3: errors and time-outs": failing_network,
    "S3: damaged object": damaged_object,
}
OWN_DISK = {"full disk", "read-only folder"}


@cache
def publishing_s() -> float:
    """How long a publication takes here, with the start of its process, and a little more."""
    with tempfile.TemporaryDirectory() as folder:
        return _seconds(publish_rows, Path(folder), NEW)


@cache
def pushing_s(endpoint: str) -> float:
    """How long a push takes here, with the start of its process, and a little more."""
    with tempfile.TemporaryDirectory() as folder:
        publish_rows(Path(folder), OLD)
        return _seconds(push_in, dict(os.environ), Path(folder), f"s3://faults/{uuid.uuid4().hex}")


def _seconds(work: Callable[..., None], *arguments: Any) -> float:
    process = processes.Process(target=work, args=arguments)
    start = time.monotonic()
    process.start()
    process.join()
    return 1.1 * (time.monotonic() - start)


def strike(name: str, store: Path, seed: int) -> Outcome:
    """One fault on a new store at `store`; those of S3 need its environment and a bucket."""
    store.mkdir(parents=True)
    if name not in OWN_DISK:
        publish_rows(store, OLD)
    return FAULTS[name](store, random.Random(seed))


if __name__ == "__main__":
    kind, folder, seed = sys.argv[1:]
    print(json.dumps(within_own_disk(kind, Path(folder), random.Random(int(seed)))))
