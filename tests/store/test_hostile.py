"""A store from a stranger, who can seal anything: whatever it says, the answer is a StoreError,
soon, and before anything is allocated for it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from random_store import make_store

from pipeline.errors import StoreError
from pipeline.loaders import FaceDataset
from pipeline.store import current_version, inspect_store, open_store, prune, subset, verify
from pipeline.store.documents import as_json, sealed
from pipeline.store.listing import file_entry
from pipeline.store.versions import list_versions

ASKED = ("vertices_mm", "identity", "identity_neutral_mm")
SECONDS = 1.0
"""For everything that is asked of one store, on a machine that does other work."""
FORMS: dict[str, dict[str, Any]] = {
    "training": {"points": True, "people": True},
    "archive": {"points": True, "people": True, "profile": "archive", "int16": True},
}


@pytest.fixture(scope="module", params=FORMS)
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 40 rows; the tests work on copies of it."""
    store = tmp_path_factory.mktemp("hostile") / "sound.zarr"
    make_store(store, **FORMS[request.param])
    return store


@pytest.fixture
def version(sound: Path, tmp_path: Path) -> Path:
    """A version's folder on its own, of which any file may be changed."""
    return Path(shutil.copytree(current_version(sound), tmp_path / "stranger"))


def reseal(version: Path, change: Callable[[dict[str, Any]], Any] = lambda files: None) -> None:
    """List the files as they are now, then change the listing."""
    listing = json.loads((version / "files.json").read_bytes())
    for name in listing["files"]:
        listing["files"][name] |= file_entry(version / name)
    listing.pop("digest")
    changed = change(listing)
    (version / "files.json").write_bytes(sealed(listing if changed is None else changed))


def attributes(version: Path, **changed: Any) -> None:
    group = json.loads((version / "zarr.json").read_bytes())
    group["attributes"] |= changed
    (version / "zarr.json").write_bytes(as_json(group))
    reseal(version)


def manifest(version: Path, change: Callable[[pa.Table], pa.Table], name: str = "manifest") -> None:
    path = version / f"{name}.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    reseal(version)


def ask(version: Path, out: Path, where: str = "True") -> list[str]:
    """All that somebody does with a store who has just been given it; returns what was refused."""
    start, refused = time.monotonic(), []

    def first_batch() -> None:
        dataset = FaceDataset(version, split="train", fields=ASKED)
        dataset[[0, 1, 2]]
        store = open_store(version)
        store.read("shape", [0, len(store) - 1])
        store.read_ragged("points_mm", 0)

    def verified() -> None:
        if faults := verify(version):
            raise StoreError(faults[0])

    asked: tuple[Callable[[], Any], ...] = (
        verified,
        first_batch,
        lambda: inspect_store(version),
        lambda: subset(version, where, out),
    )
    for question in asked:
        try:
            question()
        except StoreError as error:
            assert len(str(error)) < 1000 and str(error).isprintable()
            refused.append(str(error))
    assert time.monotonic() - start < SECONDS * len(asked)
    return refused


REFUSED: dict[str, dict[str, Any]] = {
    "rows −5": {"rows": -5},
    "rows as text": {"rows": "12"},
    "half a row": {"rows": 12.5},
    "rows 10^15": {"rows": 10**15},
    "more rows": {"rows": 41},
    "fewer rows": {"rows": 39},
    "rows true": {"rows": True},
    "no rows": {"rows": None},
    "identities −1": {"identities": -1},
    "identities 10^15": {"identities": 10**15},
    "more identities": {"identities": 21},
    "fewer identities": {"identities": 19},
    "no identities": {"identities": 0},
    "identities a text": {"identities": "20"},
    "rows_per_shard 0": {"rows_per_shard": 0},
    "rows_per_shard 10^12": {"rows_per_shard": 16 * 10**11},
    "rows_per_shard of others": {"rows_per_shard": 32},
    "huge per_scan": {"per_scan": {"point": 10**12}},
    "per_scan of others": {"per_scan": {"point": 512}},
    "per_scan negative": {"per_scan": {"point": -1}},
    "per_scan a list": {"per_scan": [256]},
    "unknown group": {"per_scan": {"point": 256, "hats": 1}},
    "unknown profile": {"profile": "zip"},
    "profile a number": {"profile": 5},
    "extras a number": {"extras": 7},
    "extras of numbers": {"extras": [7]},
    "unknown extras": {"extras": ["hats"]},
    "int16 a word": {"int16": "no"},
    "schema 10^30": {"facefold_schema": 10**30},
    "schema 0": {"facefold_schema": 0},
    "schema true": {"facefold_schema": True},
    "schema a text": {"facefold_schema": "3"},
    "readable_from a list": {"facefold_schema": 99, "readable_from": ["9"] * 100_000},
    "model a text": {"model": "flame"},
    "model with a strange digest": {"model": {"name": "x", "digest": "../x"}},
    "no vertices": {"model": {"name": "x", "digest": "a" * 64, "is_stand_in": True}},
    **{
        f"{n} vertices": {
            "model": {"name": "x", "digest": "a" * 64, "is_stand_in": True, "n_vertices": n}
        }
        for n in (0, -1, 63, 65, 10**7, 10**18, "64")
    },
    "a name that clears the screen": {
        "model": {"name": "\x1b[2J", "digest": "a" * 64, "is_stand_in": True, "n_vertices": 64}
    },
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_version_says_of_itself(version: Path, tmp_path: Path, case: str) -> None:
    archive = open_store(version).form.profile == "archive"
    attributes(version, **REFUSED[case])
    # what compressed shards hold shows when they are read: an inspection reads none
    unread = archive and case in ("per_scan of others", "63 vertices", "65 vertices")
    unread |= archive and case == f"{10**7} vertices"
    assert len(ask(version, tmp_path / "out")) == 4 - unread
    assert not (tmp_path / "out" / "versions").exists()


def test_other_numbers_of_its_form(version: Path, tmp_path: Path) -> None:
    form = open_store(version).form
    other = {"training": "archive", "archive": "training"}[form.profile]
    for changed in ({"profile": other}, {"int16": not form.int16}):
        attributes(version, **changed)
        assert len(ask(version, tmp_path / "out")) >= 3, changed
        attributes(version, **form.attributes())
    assert ask(version, tmp_path / "out") == []


def entry(listing: dict[str, Any], name: str = "shape/c/1/0", **changed: Any) -> None:
    listing["files"][name] |= changed


def renamed(listing: dict[str, Any], new: str) -> None:
    listing["files"][new] = listing["files"].pop("shape/c/1/0")


LISTINGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an absolute name": lambda listing: renamed(listing, "/etc/passwd"),
    "a name outside": lambda listing: renamed(listing, "../../shape/c/1/0"),
    "a name with NUL": lambda listing: renamed(listing, "shape/c/1\0/0"),
    "half a letter": lambda listing: renamed(listing, "shape/\ud800"),
    "a long name": lambda listing: renamed(listing, "x" * 5000),
    "another name": lambda listing: renamed(listing, "shape/c/7/0"),
    "bytes negative": lambda listing: entry(listing, bytes=-1),
    "bytes a text": lambda listing: entry(listing, bytes="12"),
    "bytes 10^18": lambda listing: entry(listing, bytes=10**18),
    "bytes 10^30": lambda listing: entry(listing, bytes=10**30),
    "a short hash": lambda listing: entry(listing, sha256="ab"),
    "a hash that is a number": lambda listing: entry(listing, sha256=0),
    "a wrong hash": lambda listing: entry(listing, sha256="0" * 64),
    "crc32c 2^32": lambda listing: entry(listing, crc32c=2**32),
    "crc32c a text": lambda listing: entry(listing, crc32c="x"),
    "another field's": lambda listing: entry(listing, field="pose"),
    "no field's": lambda listing: entry(listing, field="hats"),
    "a field that is a list": lambda listing: entry(listing, field=[]),
    "another shard": lambda listing: entry(listing, shard=2),
    "a shard that is a text": lambda listing: entry(listing, shard="1"),
    "an entry that is a number": lambda listing: listing["files"].update({"shape/c/1/0": 3}),
    "files a list": lambda listing: {"files": [1]},
    "no files": lambda listing: {"files": {}},
    "nothing": lambda listing: {},
    "no manifest": lambda listing: listing["files"].pop("manifest.parquet") and None,
}


@pytest.mark.parametrize("case", LISTINGS)
def test_what_a_listing_says(version: Path, tmp_path: Path, case: str) -> None:
    if case == "half a letter":  # cannot be written by itself
        reseal(version, lambda listing: renamed(listing, "half"))
        content = (version / "files.json").read_bytes().replace(b'"half"', b'"\\ud800"')
        (version / "files.json").write_bytes(content)
    else:
        reseal(version, LISTINGS[case])
    refused = ask(version, tmp_path / "out")
    assert len(refused) == (1 if case == "a wrong hash" else 4)  # for that, files have to be read
    if case != "a wrong hash":
        assert not (tmp_path / "out").exists()


def without(name: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.drop_columns([name])


def replaced(name: str, values: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.column_names.index(name), name, pa.array(values))

    return change


MANIFESTS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "of 3 rows": lambda table: table.slice(0, 3),
    "of no rows": lambda table: table.slice(0, 0),
    "of 80 rows": lambda table: pa.concat_tables([table, table]),
    "without split": without("split"),
    "without identity": without("identity"),
    "without row": without("row"),
    "without checksums": without("crc32c_pose"),
    "split as numbers": replaced("split", range(40)),
    "split as lists": replaced("split", [["train"]] * 40),
    "coverage as text": replaced("coverage", ["high"] * 40),
    "checksums as text": replaced("crc32c_pose", ["0"] * 40),
    "split twice": lambda table: table.append_column("split", table["split"]),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_what_a_manifest_says(version: Path, tmp_path: Path, case: str) -> None:
    manifest(version, MANIFESTS[case])
    assert len(ask(version, tmp_path / "out")) == 4


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (replaced("row", np.arange(40)[::-1].copy()), "'row' is not that of the 40 rows"),
        (replaced("shard", np.zeros(40, np.int32)), "'shard' is not that of"),
        (replaced("scan_id", ["s0:same"] * 40), "a scan_id comes twice"),
        (replaced("split", [None, *["train"] * 39]), "column 'split' has empty places"),
    ],
)
def test_verification_looks_at_the_rows(
    version: Path, change: Callable[[pa.Table], pa.Table], match: str
) -> None:
    manifest(version, change)
    assert match in verify(version)[0]


@pytest.mark.parametrize("name", ["quarantine", "excluded", "identities"])
def test_the_other_tables(version: Path, tmp_path: Path, name: str) -> None:
    manifest(version, lambda table: pa.table({"hats": [1]}), name)
    assert "has no column" in verify(version)[0]
    with pytest.raises(StoreError, match=r"has no column|holds 1 rows"):
        open_store(version).table(name)
    ask(version, tmp_path / "out")


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"\x89PNG",
    "a list": b"[]",
    "a number": b"5",
    "NaN": b'{"attributes": {"rows": NaN}}',
    "a huge number": b'{"attributes": {"rows": ' + b"9" * 10_000 + b"}}",
    "deep": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "a key twice": b'{"attributes": {"rows": 40, "rows": 1}}',
    "no letters": b'{"attributes": "\xff\xfe"}',
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("name", ["zarr.json", "files.json"])
def test_what_is_no_json(version: Path, tmp_path: Path, name: str, case: str) -> None:
    (version / name).write_bytes(BROKEN[case])
    if name != "files.json":
        reseal(version)
    assert len(ask(version, tmp_path / "out")) == 4


@pytest.mark.parametrize("name", ["zarr.json", "files.json", "shape/c/0/0", "manifest.parquet"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "huge"])
def test_what_is_no_file(version: Path, tmp_path: Path, name: str, kind: str) -> None:
    path, outside = version / name, tmp_path / "outside"
    path.rename(outside)
    if kind == "link":
        path.symlink_to(outside)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    refused = ask(version, tmp_path / "out")
    assert len(refused) == 4 or (kind == "link" and name == "files.json")  # read, then refused


HEADS: dict[str, bytes] = {
    "5,000 letters": b"a" * 5000,
    "outside": b"../..",
    "absolute": b"/etc",
    "a dot": b".",
    "NUL": b"\0",
    "nothing": b"",
    "no ASCII": "é".encode() * 8,
    "another version": b"0123456789abcdef",
    "control characters": b"\x1b[2J",
    "huge": b"0" * (1 << 20),
}


@pytest.mark.parametrize("case", HEADS)
def test_what_a_head_says(store: Path, tmp_path: Path, case: str) -> None:
    (store / "HEAD").write_bytes(HEADS[case])
    questions: tuple[Callable[[], Any], ...] = (
        lambda: open_store(store),
        lambda: inspect_store(store),
        lambda: subset(store, "True", tmp_path / "out"),
        lambda: prune(store, 0),
        lambda: list_versions(store),
    )
    for question in questions:
        with pytest.raises(StoreError, match=r"HEAD: (damaged, says|names version)") as caught:
            question()
        assert len(str(caught.value)) < 400 and str(caught.value).isprintable()
    assert len(verify(store)) == 1


def test_publishing_again_mends_a_head(store: Path) -> None:
    (store / "HEAD").write_bytes(HEADS["5,000 letters"])
    make_store(store)
    assert verify(store) == []


@pytest.mark.parametrize("case", ["long", "NUL", "/dev/null/x", "/dev/null"])
def test_paths_that_hold_no_store(case: str) -> None:
    path = {"long": "x" * 5000, "NUL": "a\0b"}.get(case, case)
    with pytest.raises(StoreError):
        open_store(path)
    assert len(verify(path)) == 1


@pytest.mark.parametrize("noted", [5, None, [], "yesterday", "2020-01-01T00:00:00"])
def test_a_strange_note_of_when_it_was_published(store: Path, noted: Any) -> None:
    (current_version(store) / "run.json").write_bytes(sealed({"published": noted}))
    make_store(store, seed=1)
    assert len(list_versions(store)) == 2  # dates compare


def test_a_store_is_not_read_from_where_a_file_in_it_says(version: Path) -> None:
    """A mirror is this machine's own; a folder that came from elsewhere is what it holds."""
    pose = open_store(version).read("pose", [3])
    (version / "mirror.json").write_text('{"url": "s3://evil/x", "piece_bytes": 1}')
    np.testing.assert_array_equal(open_store(version).read("pose", [3]), pose)
    assert verify(version) == ["mirror.json: does not belong to the version"]


@pytest.mark.parametrize(
    "places",
    [(-1, 2), (0, -1), (0, 257), (10**9, 5), (0, 10**18), (4090, 100), (-(2**63), 2**63 - 1)],
)
def test_points_that_lie_elsewhere(tmp_path: Path, places: tuple[int, int]) -> None:
    version = make_store(tmp_path / "a", points=True)
    path = version / "points_at" / "c" / "0" / "0"
    path.write_bytes(np.array(places, "<i8").tobytes() + path.read_bytes()[16:])
    reseal(version)
    store = open_store(version)
    for read in (
        lambda: store.read_ragged("points_mm", 0),
        lambda: store.read_points(("normals",), [1, 0], 3),
    ):
        with pytest.raises(
            StoreError, match=r"scan 0 is said to have the rows .* not in its shard"
        ):
            read()
    assert len(store.read_ragged("points_mm", 2)) > 0


def test_chunks_that_lie_elsewhere(tmp_path: Path) -> None:
    from pipeline.store.checksums import with_checksum

    version = make_store(tmp_path / "a", profile="archive")
    path = version / "pose" / "c" / "0" / "0"
    content, n = path.read_bytes(), 16 + 4
    for place in ((0, 10**15), (2**63, 4), (2**64 - 2, 2**64 - 1), (2**64 - 1, 0), (5, 11)):
        path.write_bytes(content[:-n] + with_checksum(np.array(place, "<u8").tobytes()))
        reseal(version)
        with pytest.raises(StoreError, match=r"pose/c/0/0: (its index|its chunks)"):
            open_store(version).read("pose", [0])


def leaves(document: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(document, dict) and document:
        for key in document:
            yield from leaves(document[key], (*way, key))
    elif isinstance(document, list) and document:
        for i in range(len(document)):
            yield from leaves(document[i], (*way, i))
    else:
        yield way


VALUES: list[Any] = [
    *(None, True, -1, 0, 1, 17, 2**31, 2**63, 10**15, 10**30, 0.5, 1e308, "", "0", "../../x"),
    *("/etc/passwd", "\0", "x" * 5000, "\x1b]0;x\x07", "NaN", [], {}, [[]], {"": 0}, [0] * 1000),
]


def mutate(document: Any, way: tuple[Any, ...], value: Any) -> None:
    for step in way[:-1]:
        document = document[step]
    document[way[-1]] = value


@pytest.mark.parametrize(
    ("name", "times"),
    [("zarr.json", 15), ("files.json", 15), ("provenance.json", 3), ("run.json", 3)]
    + [pytest.param(name, 300, marks=pytest.mark.slow) for name in ("zarr.json", "files.json")],
)
def test_random_values_anywhere(version: Path, tmp_path: Path, name: str, times: int) -> None:
    """Everything that is said may be anything: it is refused, or it makes no difference."""
    random, path = np.random.default_rng(times), version / name
    good, pose = path.read_bytes(), open_store(version).read("pose", slice(None))
    for _ in range(times):
        document = json.loads(good)
        document.pop("consolidated_metadata", None)  # is for other readers
        document.pop("digest", None)
        ways = list(leaves(document))
        way, value = ways[random.integers(len(ways))], VALUES[random.integers(len(VALUES))]
        mutate(document, way, value)
        seal = sealed if name in ("files.json", "run.json") else as_json
        path.write_bytes(seal(document))
        if name in ("zarr.json", "provenance.json"):
            reseal(version)
        refused = ask(version, tmp_path / "out", "coverage > 5")  # none: nothing is published
        if len(refused) < 2:
            np.testing.assert_array_equal(open_store(version).read("pose", slice(None)), pose)
        path.write_bytes(good)
        if name in ("zarr.json", "provenance.json"):
            reseal(version)
