"""The ledger returns what was recorded, and its keys follow everything a result depends on."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.build.ledger import (
    Result,
    digest_of,
    forget,
    keys_held,
    mean_seconds,
    open_ledger,
    outcomes,
    record,
    record_seconds,
    recorded,
)
from pipeline.errors import FacefoldError
from pipeline.refusals import Code
from pipeline.types import Refusal

EMPTY = Refusal("read", Code.UNREADABLE, "the file is empty", {"bytes": 0})
HARDLY = Refusal("quality", Code.NOT_A_FACE, "hardly a face")


def test_round_trip_across_openings(tmp_path: Path) -> None:
    kept = Result("aa", "s:1", summary={"coverage": 0.5})
    refused = Result("bb", "s:2", EMPTY)
    with open_ledger(tmp_path / "l.sqlite") as ledger:
        record(ledger, [kept, refused])
    with open_ledger(tmp_path / "l.sqlite") as ledger:
        found = recorded(ledger, ["aa", "bb", "cc"])
    assert found == {"aa": kept, "bb": refused}
    assert found["aa"].kept and not found["bb"].kept
    assert found["bb"].refusal == EMPTY and found["bb"].refusal.code is Code.UNREADABLE


def test_results_of_an_older_layout_are_computed_again(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "l.sqlite") as old:
        old.execute("CREATE TABLE results (key TEXT PRIMARY KEY, reason TEXT)")
        old.execute("INSERT INTO results VALUES ('aa', 'empty file')")
    old.close()
    for _ in range(2):
        with open_ledger(tmp_path / "l.sqlite") as ledger:
            assert "bb" in recorded(ledger, ["aa", "bb"]) or not recorded(ledger, ["aa"])
            record(ledger, [Result("bb", "s:2", EMPTY)])
    with open_ledger(tmp_path / "l.sqlite") as ledger:
        assert recorded(ledger, ["aa", "bb"]) == {"bb": Result("bb", "s:2", EMPTY)}


def test_a_key_computed_again_replaces_its_row(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "l.sqlite") as ledger:
        record(ledger, [Result("aa", "s:1", EMPTY)])
        record(ledger, [Result("aa", "s:1")])
        assert recorded(ledger, ["aa"])["aa"].kept


def test_many_keys(tmp_path: Path) -> None:
    keys = [digest_of(i) for i in range(1201)]
    with open_ledger(tmp_path / "l.sqlite") as ledger:
        record(ledger, [Result(key, f"s:{key}") for key in keys])
        assert set(recorded(ledger, keys)) == set(keys)


def test_keys_come_in_any_order_and_more_than_once(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "l.sqlite") as ledger:
        record(ledger, [Result(key, "s:1", summary={"b": 1, "a": key}) for key in "cab"])
        assert outcomes(ledger, ["c", "a", "b", "a", "d"]) == {"a": "", "b": "", "c": ""}
        assert recorded(ledger, ["b", "a"])["a"].summary == {"a": "a", "b": 1}
        [summary] = ledger.execute("SELECT summary FROM results WHERE key = 'a'").fetchone()
    assert summary == '{"a": "a", "b": 1}'


def test_what_is_recorded_is_there_for_others_and_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    code = (
        "import os, sys; from pathlib import Path; from pipeline.build.ledger import *\n"
        "with open_ledger(Path(sys.argv[1])) as ledger:\n"
        "    for i in range(300): record(ledger, [Result(digest_of(i), f's:{i}')])\n"
        "    os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -9
    keys = [digest_of(i) for i in range(300)]
    with open_ledger(path) as ledger:
        assert outcomes(ledger, keys) == dict.fromkeys(keys, "")


def test_digests_depend_on_values_not_on_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


def test_outcomes_are_the_refusing_stages(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "l.sqlite") as ledger:
        record(ledger, [Result("aa", "s:1"), Result("bb", "s:2", HARDLY)])
        assert outcomes(ledger, ["aa", "bb", "cc"]) == {"aa": "", "bb": "quality"}


def test_mean_seconds_of_all_builds(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "l.sqlite") as ledger:
        assert mean_seconds(ledger) == {}
        record_seconds(ledger, "lab", 2, {"read": 1.0, "register": 3.0})
        record_seconds(ledger, "lab", 6, {"read": 5.0})
        record_seconds(ledger, "clinic", 0, {"read": 5.0})
    with open_ledger(tmp_path / "l.sqlite") as ledger:
        found = mean_seconds(ledger)
    assert found == {("lab", "read"): 0.75, ("lab", "register"): 1.5}


def test_another_file_is_no_ledger(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    path.write_bytes(b"something else entirely" * 100)
    no_ledger = pytest.raises(FacefoldError, match=r"l\.sqlite: no usable ledger .*delete it")
    with no_ledger, open_ledger(path):
        pass


def test_what_is_forgotten_leaves_no_byte(tmp_path: Path) -> None:
    """Whether SQLite overwrites what it deletes or not, and while the ledger is still open."""
    path = tmp_path / "ledger.sqlite"
    with open_ledger(path) as ledger:
        ledger.execute("PRAGMA secure_delete = OFF")
        names = [f"lab:{who}_{i}" for i in range(200) for who in ("anna", "bert")]
        record(ledger, [Result(f"{i:064d}", name) for i, name in enumerate(names)])
        record(ledger, [Result("c" * 64, "lab", None, {"sample": names, "scans": 400})])
        assert forget(ledger, lambda scan_id: scan_id.startswith("lab:anna")) == 200
        there = [file.read_bytes() for file in tmp_path.iterdir()]
        assert not any(b"anna" in content for content in there)
        assert any(b"lab:bert_199" in content for content in there)
        left = recorded(ledger, ["c" * 64])["c" * 64].summary
        assert left == {"sample": [n for n in names if "bert" in n], "scans": 400}
        assert len(keys_held(ledger)) == 201
