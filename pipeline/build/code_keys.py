"""Which code, data and libraries a stage's results depend on: a digest for the keys of results.

A stage starts from its functions in `stages.py` beside this file. What these import counts, and
what that imports in turn, as syntax: comments, docstrings and layout do not count, and the digest
is the same on every Python. A module counts whole, but of those that serve many stages (BY_NAME,
and what a package re-exports) only the definitions that are used. A source's reading depends on
its own readers and landmark scheme, and on no others. docs/explanation/builds.md has the reasons.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline.build.ledger import STAGES
from pipeline.build.syntax import LOOSE, Module, Use, parsed, table

ROOT = Path(__file__).parents[1]

ENTRIES: Mapping[str, tuple[Use, ...]] = MappingProxyType(
    {
        **{
            stage: (Use("pipeline.build.stages", function),)
            for stage, function in zip(STAGES, ("read", "registered", "judge"), strict=True)
        },
        "calibrate": (
            Use("pipeline.build.source_calibration", "observe_scan"),
            Use("pipeline.build.source_calibration", "result_of"),
        ),
        "compare": (
            Use("pipeline.build.evidence", "make_evidence"),
            Use("pipeline.build.evidence", "population_of"),
            Use("pipeline.identity.decisions", "compare"),
            Use("pipeline.identity.duplicates", "duplicates"),
        ),
        "label": (Use("pipeline.build.labels", "make_label"),),
        "views": (Use("pipeline.build.views", "views_of"),),
        "embed": (Use("pipeline.build.embeddings", "embed_views"),),
        "assemble": (
            Use("pipeline.build.assembly", "assemble"),
            Use("pipeline.build.assembly", "shard_arrays"),
            Use("pipeline.registry.source", "SourceRegistry"),
        ),
    }
)
"""The stages of a scan; `calibrate`, which finds where a source puts its landmarks; `compare`,
which compares people; `label`, which makes the label of a person; `views`, which makes those of a
scan, and `embed`, which makes their embeddings; `assemble`, which makes the tables of a version of
all results. Each with the functions, and the classes of their arguments, that it starts from."""

BY_NAME = frozenset(
    {
        "pipeline.build.assembly",
        "pipeline.errors",
        "pipeline.formats.readers",
        "pipeline.identity.calibration",
        "pipeline.identity.decisions",
        "pipeline.identity.duplicates",
        "pipeline.identity.misfiled",
        "pipeline.identity.plda",
        "pipeline.landmarks.readers",
        "pipeline.normalise.axes",
        "pipeline.normalise.size",
        "pipeline.refusals",
        "pipeline.registry.sections",
        "pipeline.registry.tables",
        "pipeline.registry.transforms",
        "pipeline.build.source_calibration",
        "pipeline.build.embeddings",
        "pipeline.build.result_files",
        "pipeline.build.stages",
        "pipeline.build.views",
        "pipeline.store.checksums",
        "pipeline.store.durable_files",
        "pipeline.store.head",
        "pipeline.store.paths",
        "pipeline.store.rows",
        "pipeline.store.schema",
        "pipeline.types",
    }
)
"""Modules that serve many stages: only the definitions that a stage uses count."""

OUTSIDE = frozenset(
    {
        "pipeline.catalogue",
        "pipeline.build.code_keys",
        "pipeline.build.config",
        "pipeline.build.ledger",
        "pipeline.build.plan",
        "pipeline.registry.load",
        "pipeline.registry.views",
    }
)
"""Modules whose outcome the keys cover as values (records, options, fields of a registry), or that
keep results as they are."""

READERS = Use("pipeline.formats.readers", "READERS")
LANDMARK_READERS = Use("pipeline.landmarks.readers", "LANDMARK_READERS")
DECLARED = frozenset(
    {
        READERS,
        LANDMARK_READERS,
        Use("pipeline.refusals", "Code"),
    }
)
"""Tables of which a source uses one line, and names with prose: a new line changes no key."""

DATA: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"pipeline.landmarks.check": ("landmarks/average_face.csv",)}
)
"""Module -> the files of the package that it reads, whatever the source."""

SCHEMES = "landmarks/schemes"
MIRRORS = "ibug68"
PROSE = frozenset({"title", "sources", "unconfirmed"})
"""Fields of a landmark scheme that no result depends on."""

LIBRARIES: Mapping[str, str] = MappingProxyType(
    {
        "numpy": "numpy",
        "scipy": "scipy",
        "torch": "torch",
        "PIL": "pillow",
        "DracoPy": "DracoPy",
        "embreex": "embreex",
        "onnxruntime": "onnxruntime",
    }
)
"""Packages that compute or decode what results are made of -> their distributions. Where a stage
imports one, its major and minor version count."""


@cache
def stage_code(stage: str, root: Path = ROOT) -> str:
    """SHA-256 over what a stage of ENTRIES depends on, but for the source's own readers."""
    return _digest(root, ENTRIES[stage])


@cache
def read_code(format: str, landmarks: tuple[str, str] | None = None, root: Path = ROOT) -> str:
    """SHA-256 over what reading a source of this format depends on.

    `landmarks`: their format and scheme. A wrong order is found by comparing schemes of equal
    number, which therefore count, and swapped points by the mirror pairs of ibug68.
    """
    uses = [*ENTRIES["read"], _line(root, READERS, format)]
    if landmarks is None:
        return _digest(root, uses, without="pipeline.landmarks")
    marks, scheme = landmarks
    return _digest(root, [*uses, _line(root, LANDMARK_READERS, marks)], _compared(root, scheme))


@cache
def all_code(root: Path = ROOT) -> str:
    """SHA-256 over the code of all stages with all readers and schemes."""
    return code_of((use for entries in ENTRIES.values() for use in entries), root)


def code_of(uses: Iterable[Use], root: Path = ROOT) -> str:
    """SHA-256 over what `uses` depend on, with all readers and schemes."""
    found = list(uses)
    for declared in (READERS, LANDMARK_READERS):
        found += [Use(declared.module, name) for name in _table(root, declared).values()]
    return _digest(root, found, _schemes(root))


def _digest(
    root: Path, uses: Iterable[Use], schemes: Mapping[str, Any] | None = None, without: str = ""
) -> str:
    parts = closure(root, uses, without)
    data = {file for use in parts for file in DATA.get(use.module, ())}
    imported = frozenset[str]().union(*(libraries for _, libraries in parts.values()))
    facts = [
        sorted((*use, digest) for use, (digest, _) in parts.items()),
        sorted((file, hashlib.sha256((root / file).read_bytes()).hexdigest()) for file in data),
        schemes or {},
        {name: _release(name) for name in LIBRARIES if name in imported},
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def closure(
    root: Path | str, uses: Iterable[Use], without: str = ""
) -> dict[Use, tuple[str, frozenset[str]]]:
    """All that `uses` depend on -> the digest of its syntax and the libraries it imports; modules
    below `without` are left out.

    Raises FileNotFoundError for a module that does not exist.
    """
    root = Path(root)
    counted: dict[Use, tuple[str, frozenset[str]]] = {}
    todo, seen = list(uses), set(DECLARED)
    while todo:
        use = todo.pop()
        if use in seen or _is_below(use.module, *OUTSIDE, *filter(None, [without])):
            continue
        seen.add(use)
        module, is_package = _module(root, use.module)
        if not use.name or not (is_package or use.module in BY_NAME):
            counted[Use(use.module)] = module.whole.digest, module.whole.libraries
            todo += module.whole.uses
        elif use.name in module.definitions:
            part = module.definitions[use.name]
            libraries = {module.libraries[name] for name in part.names & module.libraries.keys()}
            counted[use] = part.digest, part.libraries | libraries
            own = part.names & (module.definitions.keys() | module.bound.keys())
            todo += [*part.uses, *(Use(use.module, name) for name in {*own, LOOSE})]
        elif use.name in module.bound:
            todo.append(module.bound[use.name])
        elif use.name != LOOSE:
            todo.append(Use(f"{use.module}.{use.name}"))
    return counted


def _is_below(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@cache
def _module(root: Path, name: str) -> tuple[Module, bool]:
    """A module of the package in `root`, and whether it is a package itself."""
    path = path_of(root, name)
    return parsed(path.read_bytes()), path.name == "__init__.py"


def path_of(root: Path | str, module: str) -> Path:
    bare = Path(root).joinpath(*module.split(".")[1:])
    package = bare / "__init__.py"
    return package if package.exists() else bare.with_suffix(".py")


def _table(root: Path, declared: Use) -> Mapping[str, str]:
    return table(path_of(root, declared.module).read_bytes(), declared.name)


def _line(root: Path, declared: Use, key: str) -> Use:
    """What a table of DECLARED has for `key`."""
    return Use(declared.module, _table(root, declared)[key])


@cache
def _schemes(root: Path) -> dict[str, Any]:
    """What results depend on of each landmark scheme."""
    known = {path.stem: json.loads(path.read_bytes()) for path in (root / SCHEMES).glob("*.json")}
    return {
        name: {key: value for key, value in scheme.items() if key not in PROSE}
        for name, scheme in known.items()
    }


def _compared(root: Path, scheme: str) -> dict[str, Any]:
    known = _schemes(root)
    n = len(known[scheme]["points"])
    return {name: s for name, s in known.items() if name == MIRRORS or len(s["points"]) == n}


@cache
def _release(library: str) -> str:
    """Major and minor version of a package of LIBRARIES; "" if it is an extra that is not there."""
    try:
        return ".".join(version(LIBRARIES[library]).split(".")[:2])
    except PackageNotFoundError:
        return ""
