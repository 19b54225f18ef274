"""Every registry that ships holds what a source file promises, whoever wrote it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.registry import list_registries, load_registry, registries_dir, registry_schema_text
from pipeline.registry.naming import any_path, fill, glob_regex
from tests.source_table import sources_markdown

FILES = sorted(registries_dir().glob("*.yaml"))
every_registry = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def test_registries_ship() -> None:
    assert {"stirling", "headspace", "bu3dfe"} <= {file.stem for file in FILES}
    assert [registry.id for registry in list_registries()] == [file.stem for file in FILES]


@every_registry
def test_loads_under_its_own_name(file: Path) -> None:
    assert load_registry(file).id == file.stem
    assert load_registry(file.stem) == load_registry(file)


@every_registry
def test_first_line_gives_editors_the_schema(file: Path) -> None:
    first = file.read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=schema.json"
    assert (file.parent / "schema.json").is_file()


@every_registry
def test_examples_document_the_grammar(file: Path) -> None:
    registry = load_registry(file)
    assert registry.scans.examples, "list at least one example path under scans.examples"
    for path, wanted in registry.scans.examples.items():
        groups = registry.groups(path)
        assert groups is not None
        assert wanted.items() <= groups.items()
        assert groups["subject"]
        assert any(glob_regex(glob).fullmatch(path) for glob in registry.scans.include)
        assert registry.excluded_by(path) is None
        assert registry.groups(path + ".bak") is None


@every_registry
def test_paths_that_follow_from_a_scan_count_as_companions(file: Path) -> None:
    registry = load_registry(file)
    templates = [*registry.images, *([registry.landmarks.file] if registry.landmarks else [])]
    for path in registry.scans.examples:
        groups = registry.groups(path)
        assert groups is not None
        for template in templates:
            assert any_path(template).fullmatch(example(fill(template, path, groups)))


def example(pattern: str) -> str:
    """A name that the wildcards of a path stand for."""
    return re.sub(r"\[(.)[^]]*\]", r"\1", pattern.replace("*", "x"))


@every_registry
def test_axes_are_a_proper_rotation(file: Path) -> None:
    axes = load_registry(file).axes
    if axes is not None:
        rotation = axes.rotation()
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)


@every_registry
def test_what_is_not_verified_is_listed(file: Path) -> None:
    registry = load_registry(file)
    assert registry.verified == (not registry.unconfirmed)


def test_the_checked_in_schema_is_that_of_the_code() -> None:
    checked_in = (registries_dir() / "schema.json").read_text(encoding="utf-8")
    assert checked_in == registry_schema_text(), (
        "registries/schema.json is old: write pipeline.registry.registry_schema_text() to it"
    )
    assert json.loads(checked_in)["additionalProperties"] is False


def test_the_table_of_sources_is_that_of_the_registries() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "sources.md"
    assert page.read_text(encoding="utf-8") == sources_markdown(), "run: make schema"


def test_benchmarks_keep_their_people() -> None:
    known = {registry.id: str(registry.benchmark or "") for registry in list_registries()}
    assert {id: name for id, name in known.items() if name} == {
        "facewarehouse": "facewarehouse",
        "stirling": "fg2018",
        "florence": "micc",
        "now": "now",
        "realy": "realy",
        "headspace": "realy",
        "famos": "now",
    }


def test_sizes_that_are_not_true_are_known() -> None:
    registries = {registry.id: registry for registry in list_registries()}
    rescaled = {id for id, registry in registries.items() if not registry.is_metric}
    assert rescaled == {"facescape_tu", "facescape_mv", "faceverse"}
    scaled = {id for id, registry in registries.items() if registry.scale is not None}
    assert scaled == {"realy"}
    moved = {id for id, registry in registries.items() if registry.transform is not None}
    assert moved == {"facescape_mv", "nphm"}


def test_people_of_two_sources_are_one() -> None:
    vocaset, multi_view = load_registry("vocaset"), load_registry("facescape_mv")
    assert len(vocaset.subjects.same_as) == 12
    assert all(
        vocaset.same_as(subject) == f"coma:{subject}" for subject in vocaset.subjects.same_as
    )
    assert multi_view.same_as("122") == "facescape_tu:122"
    assert load_registry("coma").same_as("FaceTalk_170725_00137_TA") is None
