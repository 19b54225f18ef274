"""A module's source as what it says, whatever its layout: digests of its syntax, and its imports.

Comments, docstrings and other texts that stand alone, blank lines, quotes and brackets do not
count, nor does what is imported for type checkers only. The written form is our own, since that of
`ast.dump` differs between versions of Python: fields that are empty are left out.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

OWN = "pipeline"
LOOSE = "*"
"""Stands for the statements of a module that define no name."""
_WITHOUT_MEANING = (ast.Load, ast.Store, ast.Del, ast.TypeIgnore)


class Use(NamedTuple):
    """A module of `pipeline`, or one name of it."""

    module: str
    name: str = ""


@dataclass(frozen=True)
class Part:
    """Statements, and what they refer to."""

    digest: str
    names: frozenset[str]
    """Names they use, those of functions' annotations left out: these hold at no run."""
    uses: tuple[Use, ...]
    """What they import of `pipeline`, in functions as well."""
    libraries: frozenset[str]
    """Top-level packages of others that they import."""


@dataclass(frozen=True)
class Module:
    whole: Part
    definitions: Mapping[str, Part]
    """By name; LOOSE are those without."""
    bound: Mapping[str, Use]
    """Names imported from `pipeline`, those for type checkers included."""
    libraries: Mapping[str, str]
    """Names imported from other packages -> the package."""


@dataclass
class _Written:
    """The form of statements, as it grows."""

    text: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    imports: list[ast.Import | ast.ImportFrom] = field(default_factory=list)

    def part(self) -> Part:
        return Part(
            hashlib.sha256("".join(self.text).encode()).hexdigest(),
            frozenset(self.names),
            tuple(use for node in self.imports for _, use in _own(node)),
            frozenset(package for node in self.imports for _, package in _others(node)),
        )


@cache
def parsed(source: bytes) -> Module:
    """The module with this source, which imports by absolute names.

    Raises SyntaxError where it is no Python.
    """
    whole = _Written()
    written: dict[str, _Written] = {}
    bound: dict[str, Use] = {}
    libraries: dict[str, str] = {}
    for statement in ast.parse(source).body:
        for node in _guarded(statement):
            if isinstance(node, ast.Import | ast.ImportFrom):
                bound |= _own(node)
                libraries |= _others(node)
        if isinstance(statement, ast.Import | ast.ImportFrom):
            _write(statement, whole)
        elif not _is_guard(statement, "TYPE_CHECKING", "__name__"):
            one = _Written()
            _write(statement, one)
            if one.text:
                for name in _defined(statement) or (LOOSE,):
                    _append(written.setdefault(name, _Written()), one)
                _append(whole, one)
    definitions = {name: one.part() for name, one in written.items()}
    return Module(whole.part(), definitions, bound, libraries)


@cache
def table(source: bytes, name: str) -> Mapping[str, str]:
    """Keys of the dictionary of names that a module defines as `name` -> the names."""
    for statement in ast.parse(source).body:
        if name in _defined(statement):
            found = next(node for node in ast.walk(statement) if isinstance(node, ast.Dict))
            return {
                key.value: value.id
                for key, value in zip(found.keys, found.values, strict=True)
                if isinstance(key, ast.Constant) and isinstance(value, ast.Name)
                if isinstance(key.value, str)
            }
    raise KeyError(f"no table {name}")


def _append(written: _Written, more: _Written) -> None:
    written.text += more.text
    written.names |= more.names
    written.imports += more.imports


def _guarded(statement: ast.stmt) -> list[ast.stmt]:
    """The statements of `if TYPE_CHECKING:`; any other statement itself."""
    if isinstance(statement, ast.If) and _is_guard(statement, "TYPE_CHECKING"):
        return statement.body
    return [statement]


def _is_guard(statement: ast.stmt, *names: str) -> bool:
    """Whether it is `if TYPE_CHECKING:`, or `if __name__ == …:`."""
    if not isinstance(statement, ast.If):
        return False
    test = statement.test.left if isinstance(statement.test, ast.Compare) else statement.test
    return isinstance(test, ast.Name) and test.id in names


def _defined(statement: ast.stmt) -> list[str]:
    """The names that a statement of a module gives a value."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return []
    return [node.id for target in targets for node in _flat(target) if isinstance(node, ast.Name)]


def _flat(target: Any) -> Iterator[Any]:
    if isinstance(target, ast.Tuple | ast.List):
        for item in target.elts:
            yield from _flat(item)
    else:
        yield target


def _own(node: ast.Import | ast.ImportFrom) -> list[tuple[str, Use]]:
    """Names that an import of `pipeline` binds, with what they stand for."""
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        if module.split(".")[0] != OWN:
            return []
        return [(item.asname or item.name, Use(module, item.name)) for item in node.names]
    own = (item for item in node.names if item.name.split(".")[0] == OWN)
    return [(item.asname or OWN, Use(item.name)) for item in own]


def _others(node: ast.Import | ast.ImportFrom) -> list[tuple[str, str]]:
    """Names that an import of another package binds, with the package."""
    if isinstance(node, ast.ImportFrom):
        package = (node.module or "").split(".")[0]
        return [] if package == OWN else [(i.asname or i.name, package) for i in node.names]
    found = ((item.asname, item.name.split(".")[0]) for item in node.names)
    return [(name or package, package) for name, package in found if package != OWN]


def _write(node: Any, to: _Written) -> None:
    """Appends the form of a node, of a list of nodes or of a value."""
    kind, out = node.__class__, to.text.append
    if kind is list:
        out("[")
        for item in node:
            _write(item, to)
        out("]")
    elif kind is ast.Name:
        if isinstance(node.ctx, ast.Load):
            to.names.add(node.id)
        out(f"{node.id};")
    elif kind is ast.Constant:
        out(f"{node.value.__class__.__name__} {node.value!a};")
    elif kind is ast.JoinedStr:  # of which Python 3.12 ends some with an empty text
        out("JoinedStr")
        _write([part for part in node.values if getattr(part, "value", None) != ""], to)
    elif not isinstance(node, ast.AST):
        out(f"{node!a};")
    elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            to.imports.append(node)
        out(f"{kind.__name__}(")
        for name in kind._fields:
            value = getattr(node, name, None)
            if value is not None and value != [] and not isinstance(value, _WITHOUT_MEANING):
                out(f"{name}=")
                if name == "returns" or kind is ast.arg:
                    annotation = _Written(to.text)
                    _write(value, annotation)
                else:
                    _write(value, to)
        out(")")
