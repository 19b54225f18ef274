"""Questions to a manifest: `source == 'stirling' and coverage > 0.6 and not benchmark`.

The language is a few of Python's expressions: columns, text, numbers, True, False, None;
`==  !=  <  <=  >  >=  in  not in`, `and  or  not`, brackets. Unknown values (null) are equal to
None and to nothing else; a comparison with one is false.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import StoreError
from pipeline.store.table_reading import said_columns
from pipeline.text import printable, shortened
from pipeline.types import Array

if TYPE_CHECKING:
    from pipeline.store.reader import Store

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}


MOST = 2**63 - 1
"""The largest whole number of a question, as of a column."""


def matching(table: pa.Table, question: str) -> Array:
    """(rows,) bool: the rows for which `question` holds.

    Raises StoreError that says what it does not understand, and names the columns there are where
    it asks for another.
    """
    with _understood(question):
        return np.asarray(_truth(table, _parsed(question)))


def matching_rows(store: Store, question: str) -> Array:
    """(n,) int64, ascending: the rows of a store for which `question` holds.

    Only the columns that it names are read. Raises StoreError as `matching` does.
    """
    if not (names := columns_of(question)):
        names = ("row",)  # which every manifest has, and which says how many rows there are
    return np.flatnonzero(matching(store.columns(*names), question))


def columns_of(question: str) -> tuple[str, ...]:
    """The columns that a question names, each once, by name. Raises StoreError as `matching`."""
    with _understood(question):
        tree = _parsed(question)
        return tuple(sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}))


def _parsed(question: str) -> ast.expr:
    return ast.parse(question.strip(), mode="eval").body


@contextmanager
def _understood(question: str) -> Iterator[None]:
    try:
        yield
    except (SyntaxError, ValueError, RecursionError, MemoryError, pa.ArrowException) as error:
        asked, fault = (shortened(printable(text)) for text in (question, error))
        raise StoreError(
            f"the question '{asked}' is not understood ({fault}); write such as "
            "\"source == 'stirling' and coverage > 0.6 and not benchmark\""
        ) from error


def _truth(table: pa.Table, node: ast.expr) -> Array:
    """(rows,) bool of a condition."""
    if isinstance(node, ast.BoolOp):
        parts = [_truth(table, value) for value in node.values]
        combined = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return np.asarray(combined.reduce(parts))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ~_truth(table, node.operand)
    if isinstance(node, ast.Compare):
        operands = [node.left, *node.comparators]
        pairs = zip(operands, node.ops, operands[1:], strict=False)
        return np.asarray(np.logical_and.reduce([_compared(table, *pair) for pair in pairs]))
    if isinstance(node, ast.Name):  # a column alone: whether it says something
        return _says(_column(table, node.id))
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return np.full(len(table), node.value)
    raise ValueError(f"{ast.unparse(node)!r} is no condition")


def _compared(table: pa.Table, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Array:
    if isinstance(operator, (ast.In, ast.NotIn)):
        column = _operand(table, left)
        if not isinstance(column, pa.ChunkedArray):
            raise ValueError(f"{ast.unparse(left)!r} is no column")
        held = _flags(pc.is_in(column, pa.array(_values(right), column.type)))
        return ~held if isinstance(operator, ast.NotIn) else held
    one, other = _operand(table, left), _operand(table, right)
    if not any(isinstance(side, pa.ChunkedArray) for side in (one, other)):
        raise ValueError(f"{ast.unparse(left)!r} against {ast.unparse(right)!r} names no column")
    if one is None or other is None:
        if not isinstance(operator, (ast.Eq, ast.NotEq)):
            raise ValueError("None is only == or != to something")
        held = _flags(pc.is_null(other if one is None else one))
        return ~held if isinstance(operator, ast.NotEq) else held
    if type(operator) not in COMPARISONS:
        raise ValueError("no such comparison; there are == != < <= > >= in")
    return _flags(COMPARISONS[type(operator)](one, other))


def _operand(table: pa.Table, node: ast.expr) -> Any:
    return _column(table, node.id) if isinstance(node, ast.Name) else _value(node)


def _values(node: ast.expr) -> list[Any]:
    if not isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        raise ValueError(f"{ast.unparse(node)!r} is no list of values")
    return [_value(item) for item in node.elts]


def _value(node: ast.expr) -> str | bool | int | float | None:
    """Text, a truth value, a number that Arrow holds too, or None."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError) as error:
        raise ValueError(f"{ast.unparse(node)!r} is neither a column nor a value") from error
    if type(value) is int and abs(value) > MOST:
        raise ValueError(f"{ast.unparse(node)} is too large a number; the largest is {MOST}")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"{ast.unparse(node)!r} is no text, number, True, False or None")


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise ValueError(
            f"no column {name!r}; there are {', '.join(said_columns(table.column_names))}"
        )
    column = table[name]
    if pa.types.is_dictionary(column.type):  # Arrow's functions on text want it plain
        return column.cast(column.type.value_type)
    return column


def _says(column: pa.ChunkedArray) -> Array:
    if pa.types.is_boolean(column.type):
        return _flags(column)
    if pa.types.is_string(column.type):
        return _flags(pc.greater(pc.utf8_length(column), 0))
    return _flags(pc.is_valid(column))


def _flags(column: pa.ChunkedArray) -> Array:
    """(rows,) bool; null is false."""
    return np.asarray(pc.fill_null(column, False).to_numpy())
