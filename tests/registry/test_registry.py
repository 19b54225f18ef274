"""Source files: every fault is told at once, with the field, what was found and what was wanted."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.errors import RegistryError
from pipeline.formats import READERS
from pipeline.landmarks.schemes import SCHEMES
from pipeline.registry import (
    Axes,
    list_registries,
    load_registry,
    new_registry,
    read_yaml,
    registries_dir,
    registry_schema,
)
from pipeline.registry.naming import any_glob, any_path, fill, glob_regex, without_suffix

FILLED = {"title: FILL": "title: Lab", 'version: "FILL"': 'version: "1"', "unit: FILL": "unit: mm"}


def lab_text() -> str:
    text = new_registry("lab")
    for blank, value in FILLED.items():
        text = text.replace(blank, value)
    head, _, commented = text.partition("# landmarks:")
    return head.replace("FILL", "told") + "# landmarks:" + commented


def lab(**changes: Any) -> dict[str, Any]:
    return yaml.safe_load(lab_text()) | changes


def faults_of(tmp_path: Path, data: dict[str, Any] | str) -> list[str]:
    """The faults of a registry, without the file's name."""
    file = tmp_path / "lab.yaml"
    file.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False))
    with pytest.raises(RegistryError) as caught:
        load_registry(file)
    assert all(fault.startswith(f"{file}: ") for fault in caught.value.faults)
    return [fault.removeprefix(f"{file}: ") for fault in caught.value.faults]


def test_a_new_registry_loads_once_filled(tmp_path: Path) -> None:
    blank = faults_of(tmp_path, new_registry("lab"))
    assert [fault.split(":")[0] for fault in blank] == [
        *("title", "version", "licence.name", "licence.url", "citation", "access", "unit"),
    ]
    (tmp_path / "lab.yaml").write_text(lab_text())
    registry = load_registry(tmp_path / "lab.yaml")
    assert registry.groups("anna/neutral.obj") == {"subject": "anna", "expression": "neutral"}
    assert registry.is_neutral("neutral") and not registry.is_neutral("smile")
    assert registry.landmarks is None and registry.axes is not None
    assert pickle.loads(pickle.dumps(registry)) == registry
    with pytest.raises(RegistryError, match=r"got '\.\./x', expected small letters"):
        new_registry("../x")


def test_every_fault_at_once(tmp_path: Path) -> None:
    data = lab(
        version=1.0,
        verified="no",
        licnse=1,
        metric="yes",
        format="objj",
        unit="ft",
        axes={"up": "+y", "forward": "y"},
        landmarks={"file": "{stm}.pp", "format": "pp", "scheme": "ibug86"},
        limits={"max_rejected_share": 2, "outer_eye_mm": [105, 80]},
        neutral=None,
    )
    del data["access"]
    assert faults_of(tmp_path, data) == [
        'version: got 1.0, expected text: quote it, "1.0"',
        'verified: got "no", expected true or false',
        "access: got nothing, expected this field: How to get the data.",
        'metric: got "yes", expected true, false or recoverable',
        f'format: got "objj", expected one of {", ".join(sorted(READERS))}; did you mean obj?',
        'unit: got "ft", expected one of auto, cm, inch, m, mm',
        'axes.forward: got "y", expected +x, -x, +y, -y, +z or -z',
        f'landmarks.scheme: got "ibug86", expected one of {", ".join(sorted(SCHEMES))}; '
        "did you mean ibug68?",
        "neutral: got null, expected a value, or the word `all`",
        "limits.max_rejected_share: got 2, expected less than or equal to 1",
        "limits.outer_eye_mm: got [105, 80], expected two positive numbers, the smaller first",
        "licnse: got an unknown field, expected one of access, axes, benchmark, citation, "
        "expressions, format, id, images, landmarks, licence, limits, metric, neutral, reader, "
        "registration, rules, scale, scans, subjects, title, transform, unconfirmed, unit, "
        "verified, version, views; did you mean licence?",
    ]


def test_faults_between_fields_are_told_beside_those_of_fields(tmp_path: Path) -> None:
    scans = lab()["scans"] | {"name": r"(?P<subject>\w+)/(?P<expresion>\w+)\.obj"}
    data = lab(
        unit="ft",
        scans=scans,
        subjects={"same_as": {"a": "lab:b"}, "metadata": {"sexe": {}}},
        verified=True,
        images=["{dir}/{stam}.jpg", "*/{stem}.jpg"],
    )
    faults = faults_of(tmp_path, data)
    assert [fault.split(": got")[0] for fault in faults] == [
        *("unit", "unconfirmed", "images.0", "images.1", "subjects.metadata.sexe"),
        *("scans.name", "neutral", "subjects.same_as.a", "scans.examples.anna/neutral.obj"),
    ]
    assert "{stam}, expected one of dir, expresion, stem, subject; did you mean stem?" in faults[2]
    assert "(?P<expresion>…), expected one of" in faults[5]
    assert "did you mean expression?" in faults[5]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("(?P<subject>x", "a regular expression (missing ), unterminated subpattern"),
        (r"(?P<subject>x{9999999999999})", "a regular expression (the repetition number is too"),
        (r"(\w+)\.obj", "a regular expression with the named group (?P<subject>…)"),
    ],
)
def test_a_bad_name_grammar(tmp_path: Path, name: str, expected: str) -> None:
    [fault] = faults_of(tmp_path, lab(scans=lab()["scans"] | {"name": name}))
    assert fault.startswith("scans.name: got ") and expected in fault


@pytest.mark.parametrize("pattern", ["/abs/*.obj", "{a,b}.obj", "[ab.obj", "a\\b", ""])
def test_a_bad_glob(tmp_path: Path, pattern: str) -> None:
    [fault] = faults_of(tmp_path, lab(scans=lab()["scans"] | {"include": [pattern]}))
    assert fault.startswith("scans.include.0: got ") and "expected a glob" in fault


@pytest.mark.parametrize(
    ("example", "wanted", "expected"),
    [
        ("anna/neutral.obj", {"subject": "bob"}, "expected {'subject': 'bob'}"),
        ("neutral.obj", {}, "a path that scans.name fits"),
        ("anna/neutral.ply", {}, "a path that scans.include takes"),
        ("bad/neutral.obj", {}, "a path that scans.exclude leaves in (it says: torn)"),
    ],
)
def test_examples_are_checked(
    tmp_path: Path, example: str, wanted: dict[str, str], expected: str
) -> None:
    exclude = [{"pattern": "bad/**", "reason": "torn"}]
    scans = lab()["scans"] | {"examples": {example: wanted}, "exclude": exclude}
    assert any(expected in fault for fault in faults_of(tmp_path, lab(scans=scans)))


def test_what_yaml_would_pass_in_silence(tmp_path: Path) -> None:
    [fault] = faults_of(tmp_path, lab_text() + "unit: cm\n")
    assert fault.endswith("got unit twice, expected it once")
    [fault] = faults_of(tmp_path, lab_text().replace("same_as: {}", "same_as: {012: b:1}"))
    assert fault.endswith(
        'write its digits without a 0 before them, or quote it, "012", if it is text'
    )
    [fault] = faults_of(tmp_path, lab_text().replace("title: Lab", "title: &a Lab\nversion: *a"))
    assert fault == "line 5: got an alias (*name), expected the value itself"
    [fault] = faults_of(tmp_path, lab_text() + "a: " + "[" * 20_000)
    assert fault == "YAML: got too many levels of nesting"
    [fault] = faults_of(tmp_path, lab_text() + "#" * (1 << 18))
    assert fault == "file: got more than 262144 bytes, expected a YAML file of fewer"
    [fault] = faults_of(tmp_path, lab_text() + "a: [")
    assert fault.startswith("YAML: got") and "expected valid YAML" in fault
    [fault] = faults_of(tmp_path, "")
    assert fault == "file: got an empty file, expected fields and values"
    with pytest.raises(RegistryError, match="got a list, expected fields and values"):
        (tmp_path / "list.yaml").write_text("[1]")
        read_yaml(tmp_path / "list.yaml")


def test_the_id_is_the_name_of_the_file(tmp_path: Path) -> None:
    assert faults_of(tmp_path, lab(id="other")) == [
        "id: got other, expected lab, as the file is called"
    ]


def test_unknown_sources_and_files(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"stirlin: id: got no such source.*mean stirling"):
        load_registry("stirlin")
    with pytest.raises(RegistryError, match=r"none\.yaml: no such file; correct the path"):
        load_registry(tmp_path / "none.yaml")


def test_a_folder_of_own_registries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab.yaml").write_text(lab_text())
    corrected = (registries_dir() / "stirling.yaml").read_text().replace("unit: mm", "unit: cm")
    (tmp_path / "stirling.yaml").write_text(corrected)
    monkeypatch.setenv("FACEFOLD_REGISTRIES", str(tmp_path))
    assert "lab" in [registry.id for registry in list_registries()]
    assert load_registry("stirling").unit == "cm"
    monkeypatch.setenv("FACEFOLD_REGISTRIES", str(tmp_path / "missing"))
    with pytest.raises(RegistryError, match=r"FACEFOLD_REGISTRIES: got .*missing, expected"):
        list_registries()


def test_faults_of_all_registries_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(lab_text().replace("id: lab", "id: three"))
    monkeypatch.setenv("FACEFOLD_REGISTRIES", str(tmp_path))
    with pytest.raises(RegistryError) as caught:
        list_registries()
    assert len(caught.value.faults) == 2


def test_axes_turn_the_file_into_the_canonical_frame() -> None:
    z_up = Axes(up="+z", forward="-y").rotation()
    np.testing.assert_allclose(z_up @ [0, 0, 1], [0, 1, 0])
    np.testing.assert_allclose(z_up @ [0, -1, 0], [0, 0, 1])
    np.testing.assert_allclose(z_up @ [1, 0, 0], [1, 0, 0])
    tilted = Axes(up="+y", forward="+z", rotation_deg=({"x": -90}, {"y": -90})).rotation()
    # first about x: z -> y; then about y: y stays
    np.testing.assert_allclose(tilted @ [0, 0, 1], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(tilted @ [1, 0, 0], [0, 0, 1], atol=1e-12)


def test_mirrored_and_flat_axes_are_refused(tmp_path: Path) -> None:
    [fault] = faults_of(tmp_path, lab(axes={"up": "+y", "forward": "+z", "left": "-x"}))
    assert "`left` to be +x" in fault and "mirrored" in fault
    [fault] = faults_of(tmp_path, lab(axes={"up": "+y", "forward": "-y"}))
    assert "`up` and `forward` on different axes" in fault


def test_case_of_groups(tmp_path: Path) -> None:
    data = lab(subjects={"case": "upper"})
    data["scans"]["examples"] = {}
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump(data))
    groups = load_registry(tmp_path / "lab.yaml").groups("anna/neutral.obj")
    assert groups == {"subject": "ANNA", "expression": "NEUTRAL"}


def test_people_called_by_their_own_names_have_pseudonyms(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump(lab(subjects={"pseudonyms": True})))
    registry = load_registry(tmp_path / "lab.yaml")
    anna = registry.person("anna")
    assert anna != "anna" and len(anna) == 9 and anna != registry.person("bob")
    assert registry.scan_id("x/anna/anna_neutral.obj", "anna") == f"lab:x/{anna}/{anna}_neutral"
    (tmp_path / "lab.yaml").write_text(lab_text())
    registry = load_registry(tmp_path / "lab.yaml")
    assert registry.scan_id("anna/neutral.obj", registry.person("anna")) == "lab:anna/neutral"


@pytest.mark.parametrize(
    ("glob", "fits", "fails"),
    [
        ("*.obj", ["a.obj", "A.OBJ"], ["a/b.obj", "a.obj.mtl"]),
        ("**/*.obj", ["a.obj", "x/y/a.obj"], ["a.ply"]),
        ("raw/**", ["raw/a", "raw/b/c"], ["raw", "x/raw/a"]),
        ("s?/[ab]*.p[!l]y", ["s1/a1.ppy", "s2/b.pay"], ["s1/a.ply", "s/a.pay", "s1/c.pay"]),
        ("a+b(1).obj", ["a+b(1).obj"], ["aab1.obj"]),
    ],
)
def test_globs(glob: str, fits: list[str], fails: list[str]) -> None:
    assert all(glob_regex(glob).fullmatch(path) for path in fits)
    assert not any(glob_regex(glob).fullmatch(path) for path in fails)


def test_any_of_several_globs() -> None:
    any_of = any_glob(["*.obj", "raw/**"])
    assert all(any_of.fullmatch(path) for path in ("a.OBJ", "raw/x/y"))
    assert not any_of.fullmatch("x/a.obj") and not any_of.fullmatch("a.obj/raw")
    assert not any_glob([]).fullmatch("") and not any_glob([]).fullmatch("a")


def test_paths_from_names() -> None:
    assert without_suffix("a.b/c.d.abs.gz") == "a.b/c.d"
    assert without_suffix("c.obj") == "c"
    assert fill("{dir}/{stem}.pp", "x/a.abs.gz", {}) == "x/a.pp"
    assert fill("{dir}/../lmk/{subject}.txt", "x/scans/a.obj", {"subject": "7"}) == "x/lmk/7.txt"
    assert fill("{dir}/{stem}.pp", "a.obj", {}) == "a.pp"
    for subject in ("", "..", "../..", "/etc"):  # which no file's name rules out
        path = fill("{subject}/marks.txt", "a.obj", {"subject": subject})
        assert path in ("marks.txt", "etc/marks.txt")
    assert any_path("{dir}/../lmk/{subject}.txt").fullmatch("x/lmk/7.txt")
    assert not any_path("{dir}/ldmks{stem}.txt").fullmatch("x/person7.txt")


def test_the_schema_lists_choices_and_words() -> None:
    schema = registry_schema()
    assert schema["properties"]["format"]["enum"] == sorted(schema["properties"]["format"]["enum"])
    assert "obj" in schema["properties"]["format"]["enum"]
    assert schema["properties"]["unit"]["enum"] == ["mm", "cm", "m", "inch", "auto"]
    assert {"const": "unknown"} in schema["properties"]["axes"]["anyOf"]
    assert {"const": "none"} in schema["properties"]["landmarks"]["anyOf"]
    assert set(schema["required"]) >= {"id", "unit", "axes", "landmarks", "neutral", "metric"}
    assert all("description" in field for field in schema["properties"].values())


def test_importing_is_light() -> None:
    code = "import sys, pipeline.registry; print({'torch', 'trimesh', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
