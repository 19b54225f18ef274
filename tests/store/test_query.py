"""Questions to a manifest pick the rows Python itself would."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import StoreError
from pipeline.store import open_store
from pipeline.store.query import columns_of, matching, matching_rows

ROWS: list[dict[str, Any]] = [
    {"source": "a", "coverage": 0.9, "neutral": True, "benchmark": "now", "frames": 3},
    {"source": "a", "coverage": 0.5, "neutral": False, "benchmark": None, "frames": 1},
    {"source": "b", "coverage": None, "neutral": None, "benchmark": "", "frames": None},
    {"source": "c", "coverage": 0.7, "neutral": True, "benchmark": None, "frames": 2},
]
TABLE = pa.Table.from_pylist(ROWS)
# as a reader gives them: in pieces, each with a dictionary of its own
CODED = pa.concat_tables(
    piece.set_column(0, "source", piece["source"].dictionary_encode()).set_column(
        3, "benchmark", piece["benchmark"].dictionary_encode()
    )
    for piece in (TABLE[:1], TABLE[1:])
)


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ("source == 'a'", [0, 1]),
        ("source != 'a'", [2, 3]),
        ("source in ('a', 'c')", [0, 1, 3]),
        ("source not in ['a']", [2, 3]),
        ("coverage > 0.5", [0, 3]),
        ("0.5 <= coverage < 0.9", [1, 3]),
        ("frames >= 2", [0, 3]),
        ("neutral", [0, 3]),
        ("not neutral", [1, 2]),
        ("neutral == False", [1]),
        ("benchmark", [0]),
        ("benchmark == None", [1, 3]),
        ("coverage != None", [0, 1, 3]),
        ("neutral and not benchmark", [3]),
        ("source == 'b' or (neutral and coverage > .8)", [0, 2]),
        ("True", [0, 1, 2, 3]),
        (" source == 'a'\n", [0, 1]),
    ],
)
def test_rows(question: str, rows: list[int]) -> None:
    assert matching(TABLE, question).nonzero()[0].tolist() == rows
    assert pa.types.is_dictionary(CODED["benchmark"].type)
    assert matching(CODED, question).nonzero()[0].tolist() == rows
    assert matching(TABLE.select(columns_of(question) or ["source"]), question).sum() == len(rows)


def test_columns_of_a_question() -> None:
    assert columns_of("source == 'b' or (neutral and coverage > .8) and neutral") == (
        "coverage",
        "neutral",
        "source",
    )
    assert columns_of("0.5 <= coverage") == ("coverage",)
    assert columns_of("True") == ()
    with pytest.raises(StoreError, match="not understood"):
        columns_of("source = 'a'")


def test_only_the_named_columns_are_read(store: Path) -> None:
    opened = open_store(store)
    assert matching_rows(opened, "source == 's1' and coverage > 0.9").tolist() == [37, 39]
    assert matching_rows(opened, "True").tolist() == list(range(40))
    assert matching_rows(opened, "verdict == 'review'").tolist() == []
    assert "manifest" not in vars(opened)
    with pytest.raises(StoreError, match=r"no column coverag; the manifest has .*coverage"):
        matching_rows(opened, "coverag > 0.9")


@pytest.mark.parametrize(
    ("question", "fault"),
    [
        ("licens == 'x'", "no column 'licens'; there are source, coverage"),
        ("source = 'a'", "not understood"),
        ("__import__('os').getcwd() == 'a'", "neither a column nor a value"),
        ("source", None),
        ("1 < 2", "names no column"),
        ("source is 'a'", "no such comparison"),
        ("source in 'abc'", "no list of values"),
        ("coverage > 'high'", "not understood"),
        ("coverage < None", "only == or !="),
        ("source + 'a'", "no condition"),
        ("", "not understood"),
        ("(" * 500 + "neutral" + ")" * 500, "not understood"),
        ("coverage > 99999999999999999999999999", "too large a number"),
        ("frames == -9223372036854775809", "too large a number"),
        ("source == 1j", "'1j' is no text, number, True, False or None"),
        ("coverage == ...", "'...' is no text"),
        ("source == b'a'", "is no text"),
        ("frames == [3, 1, 2, 0]", "is no text"),
        ("source in {'a': 1}", "no list of values"),
        ("source in [['a']]", "is no text"),
        ("frames in [99999999999999999999]", "too large a number"),
        ("None == None", "names no column"),
        ("source == f'{source}'", "neither a column nor a value"),
        ("(source := 'a')", "no condition"),
        ("lambda: source", "no condition"),
        ("[x for x in source]", "no condition"),
        ("source == 'a\udcff'", "not understood"),
        ("source == '\0'", "not understood|no text"),
        ("frames == " + "9" * 5000, "not understood"),
        ("-" * 20000 + "1 == frames", "not understood"),
        ("not " * 3000 + "neutral", "not understood"),
        ("source.__class__", "no condition"),
        ("sоurce == 'a'", "no column 'sоurce'"),
    ],
)
def test_what_is_not_understood(question: str, fault: str | None) -> None:
    if fault is None:
        assert matching(TABLE, question).all()
        return
    with pytest.raises(StoreError, match=fault):
        matching(TABLE, question)


def test_a_refused_question_is_not_echoed_whole() -> None:
    for question in ("x" * 100_000, "source == " + "(" * 100_000, "source == '" + "\x1b[2J" * 9000):
        with pytest.raises(StoreError) as refused:
            matching(TABLE, question)
        assert len(str(refused.value)) < 1000 and str(refused.value).isprintable()


PARTS = (
    *("source", "coverage", "neutral", "benchmark", "frames", "row", "é", "__class__", "_"),
    *("==", "!=", "<", "<=", ">", ">=", "in", "not in", "is", "and", "or", "not", "if", "else"),
    *("(", ")", "[", "]", "{", "}", ",", ":", ":=", ".", "*", "**", "+", "-", "~", "@", "lambda"),
    *("'a'", "b'a'", "f'{a}'", "'\\x00'", "''", "1", "0", "-1", "1j", "1e999", ".5", "0x1f", "..."),
    *("None", "True", "False", str(2**63), "9" * 400, "await", "yield", "\n", "\\", "#", ";", "\t"),
)


def test_any_question_has_an_answer_or_the_usual_error() -> None:
    random = Random(14)
    answered = 0
    for _ in range(4000):
        question = " ".join(random.choices(PARTS, k=random.randint(1, 9)))
        try:
            answered += len(matching(TABLE, question)) == len(TABLE)
        except StoreError as error:
            assert "write such as" in str(error)
    assert answered > 30
