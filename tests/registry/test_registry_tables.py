"""Tables that come with a source: factors that recover true size, demographics of subjects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.catalogue import catalogue
from pipeline.errors import FormatError, RegistryError
from pipeline.normalise import read_record
from pipeline.registry import load_registry
from pipeline.registry.sections import Scale, SubjectTable
from pipeline.registry.tables import scale_factor, subject_rows
from tests.small_build import write_registry

GROUPS = {"subject": "7", "take": "2"}


def table_of(tmp_path: Path, name: str, content: Any) -> Path:
    path = tmp_path / name
    if isinstance(content, np.ndarray):
        np.save(path, content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_no_rule_and_a_factor() -> None:
    assert scale_factor(None, None, {}) == 1.0
    assert scale_factor(Scale(factor=0.25), None, {}) == 0.25


@pytest.mark.parametrize(
    ("name", "content", "key", "first"),
    [
        ("s.json", {"7": {"2": [6.5, [[1, 0], [0, 1]]]}}, "{subject}/{take}/0", 0),
        ("s.npy", np.arange(9) + 0.5, "6", 0),
        ("s.npy", np.array(6.5), "", 0),
        ("s.csv", "id,scale\n6,1\n7,6.5\n", "{subject}/scale", 0),
        ("s.txt", "1\n1\n1\n1\n1\n1\n6.5e+00\n", "{subject}", 1),
    ],
)
def test_a_factor_from_a_table(
    tmp_path: Path, name: str, content: Any, key: str, first: Any
) -> None:
    rule = Scale(file=name, key=key or "0", first=first)
    if not key:  # a single number: NPHM's s.npy
        content = content.reshape(1)
    assert scale_factor(rule, table_of(tmp_path, name, content), GROUPS) == 6.5


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("s.json", {"8": 1.0}, "holds nothing at 7"),
        ("s.json", [1.0] * 7, "holds nothing at 7"),
        ("s.json", {"7": -2.0}, "holds -2.0 at 7; give a positive factor"),
        ("s.json", {"7": "wide"}, "holds 'wide' at 7"),
        ("s.json", {"7": [1.0]}, "holds \\[1.0\\] at 7"),
        ("s.json", "{", "cannot be read"),
        ("s.npy", "no array", "cannot be read"),
        ("s.txt", "a\nb\n", "factors: could not convert"),
        ("s.yaml", "7: 1\n", "expected .json, .npy, .csv, .txt"),
        ("s.json", "", "empty"),
        ("s.json", {"7": 10**400}, "give a positive factor"),
        ("s.json", '{"7":' + "[" * 100_000, "cannot be read"),
        ("s.csv", ",,\n,\n", "holds nothing at 7"),
        ("s.csv", "id,scale\n7," + "9" * 200_000, "cannot be read"),
        ("s.csv", "id,scale\n7\n", "holds .'id': '7'. at 7"),
    ],
)
def test_tables_without_a_factor_say_so(
    tmp_path: Path, name: str, content: Any, fault: str
) -> None:
    with pytest.raises(FormatError, match=fault):
        scale_factor(Scale(file=name, key="{subject}"), table_of(tmp_path, name, content), GROUPS)


def test_a_table_counted_from_1_has_no_item_0(tmp_path: Path) -> None:
    path = table_of(tmp_path, "s.txt", "1\n2\n")
    rule = Scale(file="s.txt", key="{subject}", first=1)
    with pytest.raises(FormatError, match="holds nothing at 0"):
        scale_factor(rule, path, {"subject": "0"})


def test_a_table_that_was_corrected_is_read_anew(tmp_path: Path) -> None:
    rule = Scale(file="s.json", key="7")
    path = table_of(tmp_path, "s.json", {"7": 1.5})
    assert scale_factor(rule, path, {}) == 1.5
    table_of(tmp_path, "s.json", {"7": 2.5})
    import os

    os.utime(path, (1, 1))
    assert scale_factor(rule, path, {}) == 2.5


def test_subjects_from_tables(tmp_path: Path) -> None:
    fields = {"sex": "gender", "age": "age"}
    plain = SubjectTable(
        file="i", format="columns", columns=("id", "gender", "age"), subject="id", fields=fields
    )
    path = table_of(tmp_path, "info_list.txt", "1 m 23 11111\n\n2 f -\n")
    assert subject_rows(plain, path) == {
        "1": {"sex": "m", "age": "23"},
        "2": {"sex": "f", "age": "-"},
    }
    commas = SubjectTable(file="i", format="csv", subject="who", fields=fields)
    path = table_of(tmp_path, "people.csv", 'who,age,gender\n"a, b",30,F\n')
    assert subject_rows(commas, path) == {"a, b": {"sex": "F", "age": "30"}}
    assert subject_rows(commas, table_of(tmp_path, "none.csv", "\n")) == {}
    text = SubjectTable(file="i", format="text", fields=fields)
    path = table_of(tmp_path, "person.txt", "gender: F\nbeard:no: none\nnonsense\n")
    assert subject_rows(text, path) == {"": {"sex": "F", "age": ""}}


def source(tmp_path: Path, **changes: Any) -> Path:
    """Cubes of points of 50 units, called as those of `small_build`."""
    write_registry(tmp_path, "lab", **{"landmarks": "none", "axes": "unknown", **changes})
    root = tmp_path / "lab"
    root.mkdir()
    corners = np.stack(np.meshgrid(*[np.linspace(0, 50, 4)] * 3), -1).reshape(-1, 3)
    text = "".join(f"v {x} {y} {z}\n" for x, y, z in corners) + "f 1 2 22\nf 1 60 33\n"
    for name in ("p1_neutral", "p2_neutral", "p3_smile"):
        (root / f"{name}.obj").write_text(text)
    return root


def test_scans_are_scaled_once_before_their_unit(tmp_path: Path) -> None:
    rule = {"metric": "recoverable", "scale": {"file": "factors.json", "key": "{subject}"}}
    root = source(tmp_path, unit="cm", limits={"extent_mm": [50.0, 600.0]}, **rule)
    table_of(root, "factors.json", {"p1": 0.2, "p3": 0.4})
    registry = load_registry(tmp_path / "lab.yaml")
    found = catalogue(registry, root)
    assert {r.subject: r.scale for r in found.records} == {"p1": 0.2, "p3": 0.4}
    assert found.companions == ("factors.json",)
    [row] = found.quarantined
    assert row.path.endswith("p2_neutral.obj") and "holds nothing at p2" in row.reason
    scan = read_record(found.records[1], registry)
    assert np.ptp(scan.vertices_mm, axis=0).max() == pytest.approx(50 * 0.4 * 10)
    np.testing.assert_allclose(scan.source_to_canonical, np.diag([4.0, 4.0, 4.0, 1.0]))
    assert scan.unit_factor_mm == 10 and "file × 0.4" in scan.unit_evidence


def test_a_missing_table_stops_each_of_its_scans(tmp_path: Path) -> None:
    rule = {"metric": False, "scale": {"file": "factors.json", "key": "{subject}"}}
    root = source(tmp_path, **rule)
    # what lies outside of the source's folder is none of its files
    table_of(tmp_path, "factors.json", {"p1": 1, "p2": 1, "p3": 1})
    found = catalogue(load_registry(tmp_path / "lab.yaml"), root)
    assert not found.records
    assert all("is not there" in row.reason for row in found.quarantined)


def test_people_of_a_table(tmp_path: Path) -> None:
    table = {"file": "people.csv", "format": "csv", "subject": "id", "fields": {"sex": "s"}}
    subjects = {"table": table, "metadata": {"sex": {"F": "female"}}}
    root = source(tmp_path, subjects=subjects)
    table_of(root, "people.csv", "id,s\np1,F\np3,?\n")
    registry = load_registry(tmp_path / "lab.yaml")
    found = catalogue(registry, root, hashes=False)
    assert found.subjects == {"p1": {"sex": "female"}, "p2": {"sex": ""}, "p3": {"sex": "?"}}
    assert found.companions == ("people.csv",) and not found.quarantined
    (root / "people.csv").write_bytes(b"id,s\np1,\xff\n")
    found = catalogue(registry, root, hashes=False)
    assert found.subjects["p1"] == {"sex": ""} and not found.companions
    assert "not UTF-8" in found.quarantined[0].reason
    assert found.n_files == 4


def test_people_of_texts_beside_their_scans(tmp_path: Path) -> None:
    table = {"file": "{dir}/{subject}_*.txt", "format": "text", "fields": {"age": "age"}}
    root = source(tmp_path, subjects={"table": table})
    table_of(root, "p1_about.txt", "age:31\n")
    found = catalogue(load_registry(tmp_path / "lab.yaml"), root, hashes=False)
    assert found.subjects == {"p1": {"age": "31"}, "p2": {"age": ""}, "p3": {"age": ""}}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"scale": {"factor": 2.0}}, "scale: got a factor, expected none where metric is true"),
        ({"metric": "recoverable"}, "scale: got nothing, expected how true size is recovered"),
        ({"metric": False, "scale": {"factor": 0.0}}, "greater than 0"),
        ({"metric": False, "scale": {"file": "a.json"}}, "either `factor`, or `file` and `key`"),
        ({"metric": False, "scale": {"factor": 1.0, "file": "a", "key": "b"}}, "either `factor`"),
        ({"metric": False, "scale": {"file": "a.json", "key": "{subjct}"}}, "did you mean subject"),
        ({"reader": {"fx": 600.0}}, "unknown option 'fx', obj has: none"),
        ({"subjects": {"table": {"file": "*.csv", "format": "csv", "subject": "i",
                                 "fields": {"sex": "s"}}}}, "wildcards nowhere but"),
        ({"subjects": {"table": {"file": "a.csv", "format": "csv", "fields": {"sex": "s"}}}},
         "`subject` for a table"),
        ({"subjects": {"table": {"file": "a", "format": "columns", "subject": "i",
                                 "fields": {"sex": "s"}}}}, "names in `columns`"),
        ({"subjects": {"table": {"file": "a", "format": "csv", "subject": "i", "columns": ["i"],
                                 "fields": {"sex": "s"}}}}, "with all that"),
        ({"subjects": {"metadata": {"sexe": {}}}}, "subjects.metadata.sexe"),
    ],
)  # fmt: skip
def test_rules_that_cannot_be(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    write_registry(tmp_path, "lab", **changes)
    with pytest.raises(RegistryError) as caught:
        load_registry(tmp_path / "lab.yaml")
    assert fault in str(caught.value)
