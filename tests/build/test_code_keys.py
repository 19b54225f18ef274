"""A stage's key follows the code and data that its results depend on, and nothing else.

Held against the import graph (grimp's), against what runs, and against changes of every module and
every data file of the package, one at a time.
"""

from __future__ import annotations

import ast
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import grimp
import numpy as np
import pytest

import pipeline.build.code_keys as code_keys
import pipeline.build.plan
from pipeline.build.assembly import assemble
from pipeline.build.code_keys import (
    BY_NAME,
    DECLARED,
    ENTRIES,
    LANDMARK_READERS,
    OUTSIDE,
    READERS,
    ROOT,
    all_code,
    closure,
    path_of,
    read_code,
    stage_code,
)
from pipeline.build.ledger import Keys
from pipeline.build.plan import make_plan
from pipeline.build.stages import Recipe, Work, judge, read, registered
from pipeline.build.syntax import Use
from pipeline.build.views import views_of
from pipeline.flame.model import FlameModel
from pipeline.flame.regions import complete_regions
from pipeline.flame.stand_in import stand_in
from pipeline.formats import READERS as KNOWN_READERS
from pipeline.landmarks import LANDMARK_READERS as KNOWN_LANDMARK_READERS
from pipeline.quality.thresholds import Gates
from pipeline.registration import RegistrationOptions
from pipeline.registration.template import prepare_template
from pipeline.registry import load_registry
from pipeline.types import Scan, ScanRecord
from tests.small_build import build_of, outcomes_of, write_registry, write_source

Source = tuple[str, tuple[str, str] | None]
"""Format; format and scheme of the landmarks."""
SOURCES: Mapping[str, Source] = {
    "off": ("off", None),
    "obj": ("obj", None),
    "obj, txt": ("obj", ("txt", "ibug68")),
    "obj, lnd": ("obj", ("lnd", "fg7")),
    "wrl": ("wrl", ("bnd", "bu83")),
    "bp4d": ("obj", ("bndplus", "bp4d83")),
    "glb": ("glb", ("npy", "ibug51")),
    "png": ("png", None),
}
MARKED = {name for name, (_, landmarks) in SOURCES.items() if landmarks}
EVERY = {*SOURCES}
LATER = {"register", "judge", "views", "embed", "assemble"}


def digests(root: Path = ROOT) -> dict[str, str]:
    """By source, of what reading it depends on; by name, of the other stages."""
    reading = {name: read_code(*source, root) for name, source in SOURCES.items()}
    return reading | {stage: stage_code(stage, root) for stage in LATER}


NAMES = (*SOURCES, *sorted(LATER))


class Package:
    """A copy of the package, to be changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        leave_out = shutil.ignore_patterns("__pycache__", "_registries")
        shutil.copytree(ROOT, root, ignore=leave_out)
        self.before = self.digests()

    def digests(self) -> dict[str, str]:
        for kept in (stage_code, read_code, all_code, code_keys._module, code_keys._schemes):
            kept.cache_clear()
        return digests(self.root)

    @contextmanager
    def altered(self, file: str, change: Callable[[str], str]) -> Iterator[Path]:
        """The package with a change of one file."""
        path = self.root / file
        before = path.read_text(encoding="utf-8")
        after = change(before)
        assert after != before
        path.write_text(after, encoding="utf-8")
        try:
            yield self.root
        finally:
            path.write_text(before, encoding="utf-8")

    def changed(self) -> set[str]:
        found = self.digests()
        return {name for name in NAMES if found[name] != self.before[name]}

    def changed_by(self, file: str, change: Callable[[str], str]) -> set[str]:
        """The stages, and the sources whose reading, a change of one file concerns."""
        with self.altered(file, change):
            return self.changed()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return Package(tmp_path_factory.mktemp("copy") / "pipeline")


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (
            "registry/sections.py",
            "return matrix @ tilt",
            "return -matrix @ tilt",
            EVERY | {"judge", "assemble"},
        ),
        ("registry/sections.py", "path_template)]\n", "glob_regex)]\n", {"assemble"}),
        ("formats/off.py", "import annotations\n", "import annotations\n\n# OFF, by rows\n", set()),
        ("formats/off.py", "return checked_scan", "return  checked_scan", set()),
        ("formats/gltf.py", "import DracoPy", "import DracoPy as D", {"glb"}),
        ("formats/readers.py", '"off": read_off', '"off": read_obj', {"off"}),
        ("formats/readers.py", '"bs": read_bs', '"b": read_bs', set()),
        ("formats/readers.py", "return gltf.read_glb", "return gltf.read_gltf", {"glb"}),
        ("landmarks/readers.py", "NEAR_PIXELS = 5.0", "NEAR_PIXELS = 6.0", MARKED),
        ("normalise/size.py", "(0.6, 1.5)", "(0.5, 1.5)", EVERY),
        ("build/result_files.py", "astype(np.uint32)", "astype(np.uint64)", EVERY),
        ("store/validity_bits.py", 'order="little"', 'order="big"', {"register", "views"}),
        ("store/schema.py", "N_VERTICES = 5023", "N_VERTICES = 5024", {"register", "assemble"}),
        ("store/rows.py", '"status": registration', '"state": registration', {"judge"}),
        ("store/tables.py", "def table(", "def table_(", {"assemble"}),
        ("quality/thresholds.py", "class Gates", "class Limits", {"judge"}),
        ("identity/splits.py", "def assign_splits", "def split", {"assemble"}),
        ("refusals.py", "copy it again from its source", "copy it again", set()),
        ("loaders/loader.py", "class FaceLoader", "class Loader", set()),
        ("build/ledger.py", "timeout=60", "timeout=50", set()),
        ("registry/views.py", "MAX_RENDERS = 64", "MAX_RENDERS = 32", set()),
    ],
)
def test_a_change_concerns_the_stages_that_use_it(
    package: Package, file: str, old: str, new: str, expected: set[str]
) -> None:
    assert package.changed_by(file, replaced(old, new)) == expected


def test_the_layout_of_modules_concerns_nothing(package: Package, tmp_path: Path) -> None:
    """Each is written anew from its syntax tree, which leaves out comments and moves everything."""
    whole, before = all_code(package.root), package.before
    anew = Package(tmp_path / "pipeline")
    for file in anew.root.rglob("*.py"):
        file.write_text(ast.unparse(ast.parse(file.read_bytes())), encoding="utf-8")
    assert anew.digests() == before
    assert all_code(anew.root) == whole


def modules() -> list[str]:
    files = [f.relative_to(ROOT).with_suffix("") for f in sorted(ROOT.rglob("*.py"))]
    parts = [("pipeline", *file.parts) for file in files if "_registries" not in file.parts]
    return [".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts]


def uses_of(name: str) -> tuple[list[Use], str]:
    """What a stage, or the reading of a source, starts from, and what it is without."""
    if name not in SOURCES:
        return list(ENTRIES[name]), ""
    form, landmarks = SOURCES[name]
    uses = [*ENTRIES["read"], Use(READERS.module, KNOWN_READERS[form].__name__)]
    if landmarks is None:
        return uses, "pipeline.landmarks"
    reader = KNOWN_LANDMARK_READERS[landmarks[0]].__name__
    return [*uses, Use(LANDMARK_READERS.module, reader)], ""


@cache
def closure_of(name: str) -> frozenset[Use]:
    return frozenset(closure(ROOT, *uses_of(name)))


def stirred(text: str) -> str:
    """Every function, class and value of a module another than it was."""
    tree = ast.parse(text)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            node.body.insert(0, ast.parse("stirred = 1").body[0])
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            node.value = ast.Tuple([node.value], ast.Load())
    return ast.unparse(ast.fix_missing_locations(tree))


@pytest.mark.parametrize(
    "every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["one of each kind", "every"]
)
def test_every_module_changed_alone(package: Package, every: bool) -> None:
    """The stages whose keys follow are those that reach it by imports. Modules are of a kind if the
    same stages do."""
    counted = {name: {use.module for use in closure_of(name)} for name in NAMES}
    kinds: dict[frozenset[str], list[str]] = {}
    for module in modules():
        if module not in {declared.module for declared in DECLARED}:  # these by hand above
            kind = frozenset(name for name, found in counted.items() if module in found)
            kinds.setdefault(kind, []).append(module)
    unused = {module.split(".")[1] for module in kinds[frozenset()]}
    assert {"loaders", "synthetic", "sources"} <= unused and len(kinds) > 15
    for kind, alike in kinds.items():
        for module in alike if every else alike[-1:]:
            path = path_of(ROOT, module).relative_to(ROOT).as_posix()
            text = (ROOT / path).read_text(encoding="utf-8")
            if stirred(text) != ast.unparse(ast.parse(text)):  # else it only names others
                assert package.changed_by(path, stirred) == kind, module


def test_closures_are_those_of_the_import_graph() -> None:
    graph = grimp.build_graph("pipeline", exclude_type_checking_imports=True, cache_dir=None)
    for name in NAMES:
        uses, without = uses_of(name)
        counted = {use.module for use in closure_of(name)}
        reachable = {use.module for use in uses}.union(
            *(graph.find_upstream_modules(use.module) for use in uses)
        )
        assert counted <= reachable
        outside = (*OUTSIDE, *filter(None, [without]))
        for module in {use.module for use in closure_of(name) if not use.name}:
            for imported in graph.find_modules_directly_imported_by(module):
                if any(imported == o or imported.startswith(f"{o}.") for o in outside):
                    continue
                assert homes(graph, module, imported) <= counted, f"{name}: {module}"


def homes(graph: grimp.ImportGraph, importer: str, imported: str) -> set[str]:
    """The modules in which what one module imports of another is defined, as Python sees it."""
    if not (imported in BY_NAME or graph.find_children(imported)):
        return {imported}
    lines = {
        line["line_number"]
        for line in graph.get_import_details(importer=importer, imported=imported)
    }
    names = {
        item.name
        for statement in ast.walk(ast.parse(path_of(ROOT, importer).read_bytes()))
        if isinstance(statement, ast.ImportFrom) and statement.lineno in lines
        for item in statement.names
    }
    found = {name: getattr(import_module(imported), name) for name in names}
    return {
        home
        for name, value in found.items()
        if (home := getattr(value, "__module__", imported)).startswith("pipeline.")
        if not any(home == o or home.startswith(f"{o}.") for o in OUTSIDE)
        if Use(imported, name) not in DECLARED
    }


def test_every_data_file_changed_alone(package: Package) -> None:
    """A scheme concerns its own sources, and those whose scheme has as many points, for a wrong
    order is found by comparing them; ibug68 has the mirror pairs of all."""
    code = (".py", ".pyc", ".pyi", ".typed")
    found = {f for f in ROOT.rglob("*") if f.is_file() and f.suffix not in code}
    files = {f.relative_to(ROOT).as_posix() for f in found if "_registries" not in f.parts}
    points = {
        Path(file).stem: len(json.loads((ROOT / file).read_bytes())["points"])
        for file in files
        if file.endswith(".json")
    }
    assert {"bu83", "bp4d83", "ibug68"} < set(points)
    schemes = {name: source[1][1] for name, source in SOURCES.items() if source[1]}
    for file in sorted(files):
        scheme = Path(file).stem
        if file == "landmarks/average_face.csv":
            assert package.changed_by(file, replaced("1", "2")) == MARKED | {"views"}
            continue
        alike = {name for name, own in schemes.items() if points[own] == points[scheme]}
        expected = MARKED if scheme == "ibug68" else alike
        first = json.loads((ROOT / file).read_bytes())["points"][0]["name"]
        assert package.changed_by(file, replaced(f'"{first}"', '"another"')) == expected, file
        assert package.changed_by(file, replaced('"title": "', '"title": "The ')) == set()
        assert package.changed_by(file, lambda text: json.dumps(json.loads(text))) == set()
    assert package.changed_by(
        "landmarks/schemes/bu83.json", replaced('"ibug68": 36', '"ibug68": 37')
    )


def test_minor_versions_of_the_libraries_that_a_stage_computes_with_count(
    monkeypatch: pytest.MonkeyPatch, package: Package
) -> None:
    def with_versions(**others: str) -> set[str]:
        """The stages whose digests differ where these are installed, by distribution."""
        code_keys._release.cache_clear()
        with monkeypatch.context() as patched:
            installed = code_keys.version
            patched.setattr(code_keys, "version", lambda name: others.get(name) or installed(name))
            found = package.changed()
        code_keys._release.cache_clear()
        return found

    major, minor, *_ = code_keys.version("torch").split(".")
    assert with_versions(torch=f"{major}.{minor}.99+cpu") == set()
    assert with_versions(torch=f"{major}.{int(minor) + 1}.0") == EVERY | {
        "register",
        "judge",
        "views",
    }
    assert with_versions(DracoPy="99.0") == {"glb"}
    assert with_versions(pillow="99.0") == {"png", "views"}
    assert with_versions(numpy="99.0.1") == EVERY | LATER
    assert with_versions(pydantic="99.0", zarr="99.0") == set()


def test_keys_of_a_plan_follow_the_code_of_their_source(
    tmp_path: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "build"
    folder.mkdir()
    write_source(folder, "lab", "p1_neutral.off", format="off", landmarks="none", **named("off"))
    write_source(folder, "clinic", "p1_neutral.obj")
    config = build_of(folder, "lab", "clinic")

    def keys() -> dict[str, Keys]:
        return {work.record.source: work.keys for work in make_plan(config, stand_in()).works}

    before = keys()
    with package.altered("formats/off.py", replaced("return checked_scan", "yield checked_scan")):
        package.digests()
        with monkeypatch.context() as other:
            other.setattr(pipeline.build.plan, "read_code", partial(read_code, root=package.root))
            after = keys()
    assert after["clinic"] == before["clinic"]
    assert not set(after["lab"]) & set(before["lab"])
    with package.altered("quality/thresholds.py", replaced("class Gates", "class Limits")):
        package.digests()
        with monkeypatch.context() as other:
            other.setattr(pipeline.build.plan, "stage_code", partial(stage_code, root=package.root))
            after = keys()
    for source in ("lab", "clinic"):
        assert after[source][:2] == before[source][:2]
        assert after[source].judge != before[source].judge


def named(suffix: str) -> dict[str, Any]:
    name = rf"(?P<subject>p\d+)_(?P<expression>neutral|smile)\.{suffix}"
    return {"scans": {"include": [f"*.{suffix}"], "name": name}}


@contextmanager
def noted(ran: set[Use]) -> Iterator[None]:
    """Adds the functions of the package that run, each by the name of its module that it is of."""

    def note(frame: Any, event: str, _: Any) -> None:
        module = frame.f_globals.get("__name__", "")
        caller = frame.f_back.f_globals.get("__name__", "") if frame.f_back else ""
        made = frame.f_code.co_filename == "<string>"  # methods of dataclasses
        own = module.startswith("pipeline.") and not code_keys._is_below(caller, *OUTSIDE)
        if event == "call" and own and not made:
            ran.add(Use(module, frame.f_code.co_qualname.split(".")[0]))

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


UNDER = Use("pipeline.registry.source", "SourceRegistry")
"""Gives the values of a rule, which a key covers."""


def uncounted(ran: set[Use], name: str) -> set[Use]:
    counted = closure_of(name)
    return {
        use
        for use in ran
        if use not in counted
        and Use(use.module) not in counted
        and not code_keys._is_below(use.module, *OUTSIDE)
        and use != UNDER
        and use.name != "<module>"
    }


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


@pytest.mark.parametrize("landmarks", [None, ("txt", "ibug68")])
def test_what_runs_in_a_stage_counts(
    tmp_path: Path, model: FlameModel, landmarks: tuple[str, str] | None
) -> None:
    head = np.delete(np.arange(len(model.template_mm)), model.regions["eyeballs"])
    faces = model.faces[np.isin(model.faces, head).all(axis=1)]
    rows = [f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in model.template_mm[head]]
    rows += [f"f {a} {b} {c}" for a, b, c in np.searchsorted(head, faces) + 1]
    (tmp_path / "p1_neutral.obj").write_text("\n".join([*rows, ""]))
    assert model.landmarks is not None
    marks = np.full((68, 3), np.nan)
    marks[model.landmarks.indices_68] = model.landmarks.positions(model.template_mm, model.faces)
    np.savetxt(tmp_path / "p1_neutral.txt", marks)
    told = {"file": "{stem}.txt", "format": "txt", "scheme": "ibug68"} if landmarks else "none"
    write_registry(tmp_path, "lab", landmarks=told, views={"renders": 1})
    record = ScanRecord(
        source="lab",
        scan_id="lab:p1_neutral",
        subject="p1",
        session="",
        expression="neutral",
        neutral=True,
        image_paths=(),
        path=tmp_path / "p1_neutral.obj",
        format="obj",
        unit="mm",
        landmark_path=tmp_path / "p1_neutral.txt" if landmarks else None,
        content_hash="",
    )
    options = RegistrationOptions(model_iterations=4, residual_iterations=2, fine_iterations=2)
    registry = load_registry(tmp_path / "lab.yaml")
    recipe = Recipe(registry, options, Gates(), tmp_path / "work", device="cpu")
    work = Work(record, Keys("aa", "bb", "cc"), "dd")
    template = prepare_template(model, "cpu", options.modes)
    stages: dict[str, set[Use]] = {n: set() for n in ("read", "register", "judge", "views")}
    with noted(stages["read"]):
        scan = read(work, recipe)
    assert isinstance(scan, Scan)
    with noted(stages["register"]):
        [registration] = registered([(work, scan)], recipe, model, template, "cpu")
    assert registration.status != "failed", registration.reason
    with noted(stages["judge"]):
        judge(work, scan, registration, recipe, template)
    whole = complete_regions(model)
    with noted(stages["views"]):
        seen = views_of(work, replace(recipe, root=tmp_path), whole)
    assert [row["view"] for row in seen.summary["rows"]] == ["render0"], seen
    assert [len(ran) > 20 for ran in stages.values()] == [True] * 4
    assert uncounted(stages["read"], "obj, txt" if landmarks else "obj") == set()
    assert uncounted(stages["register"], "register") == set()
    assert uncounted(stages["judge"], "judge") == set()
    # the key of the registration covers the source's reader
    assert uncounted(stages["views"], "views") & uncounted(stages["views"], "obj") == set()


def test_what_runs_in_assembling_counts(tmp_path: Path, model: FlameModel) -> None:
    write_source(tmp_path, "lab", "p1_neutral.obj", "p1_smile.obj")
    config = build_of(tmp_path, "lab")
    plan = make_plan(config, model)
    outcomes = outcomes_of(config, plan)
    ran: set[Use] = set()
    with noted(ran):
        assembly = assemble(config, plan, outcomes, [], model, "")
    assert assembly.manifest.num_rows == 2
    assert Use("pipeline.registry.source", "SourceRegistry") in ran and len(ran) > 10
    assert uncounted(ran, "assemble") == set()
