"""`facefold sources`: what it lists, checks and prints."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.flows.conftest import facefold


def test_list() -> None:
    rows = facefold("sources", "list", "--json").json
    assert {"stirling", "headspace", "bu3dfe", "synth_studio"} <= {row["id"] for row in rows}
    for row in rows:
        assert {"id", "verified", "metric", "format", "unit", "benchmark"} <= row.keys()


def test_check_names_every_fault(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"id": "mine", "unit": "furlong", "colour": 1}))
    run = facefold("sources", "check", path)
    assert run.status == 2
    for word in ("furlong", "colour", "licence", "scans"):
        assert word in run.stderr
    assert "Traceback" not in run.stderr


def test_check_of_a_good_source() -> None:
    assert facefold("sources", "check", "stirling", "--json").json["valid"] is True


def test_schema_is_json_schema() -> None:
    schema = json.loads(facefold("sources", "schema").stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "unit" in schema["required"]


def test_new_is_a_registry_to_fill_in() -> None:
    text = facefold("sources", "new", "mine").stdout
    assert yaml.safe_load(text)["id"] == "mine"
