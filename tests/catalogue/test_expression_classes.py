"""One vocabulary of expressions for all sources, and the frame within a sequence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.catalogue import Catalogue, catalogue
from pipeline.errors import RegistryError
from pipeline.registry import load_registry, registries_dir, registry_schema
from pipeline.store.schema import TABLES
from pipeline.types import ExpressionClass, ScanRecord
from tests.small_build import write_registry

NAME = r"(?P<subject>p\d+)_(?P<expression>[A-Z]+\d)_?(?P<frame>\w*)\.obj"
PLAIN = r"(?P<subject>p\d+)_?(?:\w*)\.obj"
TABLE = {"file": "{subject}.txt", "format": "text", "fields": {"expression": "mood"}}


def deliver(tmp_path: Path, files: dict[str, str], name: str = NAME, **changes: Any) -> Catalogue:
    scans = {"include": ["*.obj"], "name": name, "companions": ["*.csv"]}
    write_registry(tmp_path, "lab", **{"scans": scans, "landmarks": "none", **changes})
    (tmp_path / "lab").mkdir(exist_ok=True)
    for file, text in files.items():
        (tmp_path / "lab" / file).write_text(text)
    return catalogue(load_registry(tmp_path / "lab.yaml"), tmp_path / "lab")


def classes(found: Catalogue) -> dict[str, tuple[str, bool]]:
    return {r.path.stem: (r.expression_class, r.neutral) for r in found.records}


def test_words_of_a_source_have_a_class_each(tmp_path: Path) -> None:
    files = dict.fromkeys(["p1_NE0.obj", "p1_HA4.obj", "p1_HA1.obj", "p1_XY1.obj"], "x")
    found = deliver(tmp_path, files, neutral=["NE0"], expressions={"HA1": "lips", "HA?": "smile"})
    assert classes(found) == {
        "p1_NE0": ("neutral", True),
        "p1_HA4": ("smile", False),
        "p1_HA1": ("lips", False),
        "p1_XY1": ("unknown", False),
    }
    assert {r.expression for r in found.records} == {"NE0", "HA4", "HA1", "XY1"}


def test_all_neutral_and_nothing_known(tmp_path: Path) -> None:
    found = deliver(tmp_path, {"p1_NE0.obj": "x"}, neutral="all")
    assert classes(found) == {"p1_NE0": ("neutral", True)}
    found = deliver(tmp_path, {}, neutral=[])
    assert classes(found) == {"p1_NE0": ("unknown", False)}


def test_the_neutral_flag_and_the_class_agree() -> None:
    told = ("s", "s:1", "1", "", "n")
    rest = (Path("1.obj"), "obj", "mm", None, (), "")
    assert ScanRecord(*told, True, *rest).expression_class == "neutral"
    assert ScanRecord(*told, False, *rest).expression_class == "unknown"
    assert ScanRecord(*told, False, *rest, expression_class="smile").expression_class == "smile"
    for neutral, kind in ((True, "smile"), (True, "unknown"), (False, "neutral")):
        with pytest.raises(ValueError, match="expected both or neither to say neutral"):
            ScanRecord(*told, neutral, *rest, expression_class=kind)
    with pytest.raises(ValueError, match="not a valid ExpressionClass"):
        ScanRecord(*told, False, *rest, expression_class="smirk")


def test_a_text_beside_scans_gives_their_expression(tmp_path: Path) -> None:
    files = {"p1.obj": "x", "p1_2.obj": "x", "p2.obj": "x", "p3.obj": "x"}
    files |= {"p1.txt": "mood: calm\n", "p2.txt": "mood: glad\n"}
    told = {"subjects": {"table": TABLE}, "neutral": ["calm"], "expressions": {"glad": "smile"}}
    found = deliver(tmp_path, files, PLAIN, **told)
    assert classes(found) == {
        "p1": ("neutral", True),
        "p1_2": ("neutral", True),
        "p2": ("smile", False),
        "p3": ("unknown", False),  # nothing is told of p3
    }
    assert [record.expression for record in found.records] == ["calm", "calm", "glad", ""]
    assert found.subjects["p1"] == {}, "an expression is a scan's, not a person's"


def test_a_table_of_scans_gives_their_expression(tmp_path: Path) -> None:
    table = {"file": "t.csv", "format": "csv", "scan": "file", "fields": {"expression": "mood"}}
    files = {"p1_1.obj": "x", "p1_2.obj": "x", "t.csv": "file,mood\np1_1,calm\np9_9,glad\n"}
    found = deliver(tmp_path, files, PLAIN, subjects={"table": table}, neutral=["calm"])
    assert classes(found) == {"p1_1": ("neutral", True), "p1_2": ("unknown", False)}


def test_a_file_is_looked_for_under_its_other_names(tmp_path: Path) -> None:
    table = {**TABLE, "else_file": ["about_{subject}.txt"]}
    files = {"p1.obj": "x", "p2.obj": "x", "p1.txt": "mood:a\n", "about_p1.txt": "mood:b\n"}
    files |= {"about_p2.txt": "mood:c\n"}
    found = deliver(tmp_path, files, PLAIN, subjects={"table": table}, neutral=["a"])
    assert [record.expression for record in found.records] == ["a", "c"]
    assert set(found.companions) == {"p1.txt", "about_p1.txt", "about_p2.txt"}


def test_frames_are_numbers(tmp_path: Path) -> None:
    files = ["p1_HA1_0042.obj", "p1_HA1_42.obj", "p1_HA1_front.obj", "p1_HA1.obj"]
    found = deliver(tmp_path, dict.fromkeys(files, "x"), neutral=[])
    assert {record.path.stem: record.frame for record in found.records} == {
        "p1_HA1_0042": 42,
        "p1_HA1_42": 42,
        "p1_HA1_front": None,
        "p1_HA1": None,
    }


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"expressions": {"NE0": "neutral"}}, "`neutral` says which are neutral"),
        ({"expressions": {"HA1": "smirk"}}, "expressions.HA1: got \"smirk\", expected one of"),
        ({"expressions": {"HA1": "simle"}}, "did you mean smile?"),
        ({"expressions": {"HA1": "unknown"}}, "expected one of"),
        ({"expressions": {"HA1": "smile"}, "neutral": "all"}, "none where neutral is `all`"),
    ],
)  # fmt: skip
def test_mappings_that_cannot_be(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(RegistryError) as caught:
        deliver(tmp_path, {}, **{"neutral": ["NE0"], **changes})
    assert fault in str(caught.value)


def test_expressions_need_a_word(tmp_path: Path) -> None:
    for changes in ({"neutral": ["a"]}, {"neutral": [], "expressions": {"a": "smile"}}):
        with pytest.raises(RegistryError, match=r"a group expression in scans\.name, or a field"):
            deliver(tmp_path, {}, PLAIN, **changes)


def test_the_vocabulary_is_declared_once() -> None:
    enum = registry_schema()["properties"]["expressions"]["additionalProperties"]["enum"]
    assert {*enum, "neutral", "unknown"} == set(ExpressionClass)
    [column] = [c for c in TABLES["manifest"] if c.name == "expression_class"]
    assert all(kind in column.meaning for kind in ExpressionClass)
    assert all(kind.meaning for kind in ExpressionClass)


@pytest.mark.parametrize("file", sorted(registries_dir().glob("*.yaml")), ids=lambda f: f.stem)
def test_frames_of_shipped_examples_are_numbers(file: Path) -> None:
    registry = load_registry(file)
    for path in registry.scans.examples:
        frame = (registry.groups(path) or {}).get("frame", "")
        assert not frame or frame.isdecimal(), "call a group that is no number otherwise"
