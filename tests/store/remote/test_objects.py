"""Objects below a URL, on a real S3-compatible server."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from s3_server import Bucket, Faults, failing_proxy

from pipeline.errors import StoreError
from pipeline.store.remote import objects, requests
from pipeline.store.remote.objects import Place, is_url


def test_what_a_url_is(tmp_path: Path) -> None:
    assert is_url("s3://bucket/faces") and is_url("gs://bucket")
    assert not is_url(tmp_path) and not is_url("unified.zarr")
    assert str(Place("s3://bucket/faces/") / "versions") == "s3://bucket/faces/versions"
    for url in ("memory://x", "file:///x", "ftp://host/x", "s3://"):
        with pytest.raises(StoreError, match=f"{url}: no URL of an object store"):
            Place(url)


def test_names_sizes_and_bytes(s3: str, tmp_path: Path) -> None:
    place, file = Place(s3), tmp_path / "file"
    content = bytes(range(256)) * (5 << 12)  # more than one piece of reading and of sending
    file.write_bytes(content)
    assert place.sizes() == {}
    place.send("a/b c", file)
    place.send("d", Path(__file__))
    assert place.sizes() == {"a/b c": len(content), "d": Path(__file__).stat().st_size}
    assert (place / "a").sizes() == {"b c": len(content)}
    assert place.read("a/b c") == content
    assert place.read_range("a/b c", 300, 5) == content[300:305]
    pieces = list(place.pieces("a/b c", len(content)))
    assert [len(piece) for piece in pieces] == [objects.PIECE, len(content) - objects.PIECE]
    assert b"".join(pieces) == content
    with pytest.raises(StoreError, match=rf"{s3}/a/b c: got 5 of 6 bytes from byte"):
        place.read_range("a/b c", len(content) - 5, 6)
    with pytest.raises(StoreError, match=rf"{s3}/nothing: .*push the store there"):
        place.read("nothing")
    with pytest.raises(StoreError, match=rf"{s3}/nothing: .*push the store there"):
        place.read_range("nothing", 0, 1)


def test_a_swap_finds_what_was_seen_or_changes_nothing(s3: str) -> None:
    place = Place(s3)
    assert place.look("HEAD") == (None, None)
    assert place.swap("HEAD", b"one", None)
    assert not place.swap("HEAD", b"two", None)
    content, seen = place.look("HEAD")
    assert content == b"one" and seen
    assert place.swap("HEAD", b"two", seen)
    assert not place.swap("HEAD", b"three", seen)
    assert place.swap("HEAD", b"two", seen), "it is what was to be put there"
    assert place.read("HEAD") == b"two"


def test_troubles_are_told_with_their_remedy(
    s3: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ask in (
        Place("s3://no-such-bucket/x").sizes,
        lambda: Place("s3://no-such-bucket").read("x"),
    ):
        with pytest.raises(StoreError, match=r"s3://no-such-bucket.*look at the bucket") as told:
            ask()
        assert "\n" not in str(told.value)
    monkeypatch.setattr(requests, "MAX_RETRIES", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=rf"{s3}/HEAD: .*check endpoint, network and credentials"):
        Place(s3).look("HEAD")
    with failing_proxy(s3_endpoint, Faults({"403": 1.0})) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(StoreError, match=rf"{s3}/HEAD: .*set credentials"):
            Place(s3).look("HEAD")


@pytest.mark.parametrize("kind", ["500", "503", "reset", "cut", "stall"])
def test_failing_requests_are_made_again_or_told(
    s3: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    content = bytes(range(256)) * 40
    Bucket(s3_endpoint, s3).write("x", content)
    monkeypatch.setenv("AWS_TIMEOUT", "500ms")
    faults = Faults({kind: 0.3}, seed=1)
    with failing_proxy(s3_endpoint, faults) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        place = Place(s3)
        for start in range(0, 10_000, 1000):
            assert place.read_range("x", start, 100) == content[start : start + 100]
        assert faults.seen[kind] > 0 < faults.seen["none"]
        faults.shares = {kind: 1.0}
        monkeypatch.setattr(requests, "MAX_RETRIES", 1)
        with pytest.raises(StoreError, match=rf"{s3}/x: .*; check endpoint, network"):
            Place(s3).read_range("x", 0, 100)


def test_a_swap_whose_answer_is_lost_is_done(
    s3: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults()
    with failing_proxy(s3_endpoint, faults) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        place = Place(s3)

        def once(method: str, path: str) -> None:
            faults.shares = {"lost": 1.0} if method == "PUT" and not faults.seen["lost"] else {}

        faults.before = once
        assert place.swap("HEAD", b"one", None)
        assert faults.seen["lost"] == 1
        assert not place.swap("HEAD", b"two", None)
    assert Bucket(s3_endpoint, s3).read("HEAD") == b"one"


def _in_child(url: str, answers: Any) -> None:
    place = Place(url)
    answers.put(place.read("x"))
    try:
        place.read("nothing")
    except StoreError as error:
        answers.put(str(error))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_children_of_a_process_that_has_made_requests(
    s3: str, s3_endpoint: str, start: str
) -> None:
    Bucket(s3_endpoint, s3).write("x", b"content")
    assert Place(s3).read("x") == b"content"
    context = multiprocessing.get_context(start)
    answers = context.Queue()
    child = context.Process(target=_in_child, args=(s3, answers), daemon=True)
    child.start()
    assert answers.get(timeout=60) == b"content"
    assert f"{s3}/nothing" in answers.get(timeout=60)
    child.join()
