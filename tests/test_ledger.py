"""The ledger returns what was recorded, and its keys follow everything a result depends on."""

from __future__ import annotations

from pathlib import Path

from pipeline.ledger import Result, code_digest, digest_of, open_ledger, record, recorded


def test_round_trip_across_openings(tmp_path: Path) -> None:
    kept = Result("aa", "s:1", summary={"coverage": 0.5})
    refused = Result("bb", "s:2", "read", "empty file")
    with open_ledger(tmp_path / "l.sqlite") as ledger:
        record(ledger, [kept, refused])
    with open_ledger(tmp_path / "l.sqlite") as ledger:
        found = recorded(ledger, ["aa", "bb", "cc"])
    assert found == {"aa": kept, "bb": refused}
    assert found["aa"].kept and not found["bb"].kept


def test_a_key_computed_again_replaces_its_row(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "l.sqlite") as ledger:
        record(ledger, [Result("aa", "s:1", "read", "truncated")])
        record(ledger, [Result("aa", "s:1")])
        assert recorded(ledger, ["aa"])["aa"].kept


def test_many_keys(tmp_path: Path) -> None:
    keys = [digest_of(i) for i in range(1201)]
    with open_ledger(tmp_path / "l.sqlite") as ledger:
        record(ledger, [Result(key, f"s:{key}") for key in keys])
        assert set(recorded(ledger, keys)) == set(keys)


def test_digests_depend_on_values_not_on_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
    assert len(code_digest()) == 64
