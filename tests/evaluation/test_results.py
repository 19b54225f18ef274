"""What an evaluation writes: findings in lines, rows of parquet, all that it takes to repeat it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.evaluation.benchmark import Finding
from pipeline.evaluation.scoring.results import said_of, write_parquet
from tests.evaluation import spheres
from tests.evaluation.commanding import evaluate, row

RADII_MM = {"p0": 100.0, "p1": 110.0, "p2": 95.0}
ASKED = [f"{person}/{image}" for person in RADII_MM for image in ("a0", "b0")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Of six predictions two are good, one is small, one mirrored, one no array, one missing; and
    there is a file that nobody asked for."""
    folder = tmp_path_factory.mktemp("results")
    root, predictions = folder / "root", folder / "predictions"
    spheres.write(root, predictions, RADII_MM, ASKED)
    spheres.predict(predictions, "p0/b0", 90.0)
    np.save(predictions / "p1/a0.npy", 110.0 * spheres.directions() * [-1, 1, 1])
    (predictions / "p1/b0.npy").write_text("no array")
    (predictions / "p2/a0.npy").unlink()
    spheres.predict(predictions, "p2/unasked", 90.0)
    with pytest.MonkeyPatch.context() as patch:
        spheres.add(patch)
        found = evaluate("spheres", root, predictions, folder / "out", "--unit", "mm")
    return folder / "out", found


def test_findings_come_in_lines_before_any_number(made: tuple[Path, dict[str, Any]]) -> None:
    out, found = made
    lines = found["said"].splitlines()
    (mirrored,) = [line for line in lines if line.startswith("mirrored: ")]
    assert mirrored.startswith("mirrored: 1 of 6 predictions (p1/a0): fits the truth best as its")
    assert "missing: 1 of 6 predictions (p2/a0): no prediction" in lines
    (scaled,) = [line for line in lines if line.startswith("scaled: ")]
    assert scaled.startswith("scaled: 1 of 6 predictions (p0/b0): is made 1.111 times as large")
    (bad,) = [line for line in lines if line.startswith("not scored: ")]
    assert "p1/b0.npy: no .npy file" in bad
    (extra,) = [line for line in lines if line.startswith("extra: ")]
    assert "1 files among the predictions (p2/unasked.npy)" in extra
    page = (out / "table.md").read_text()
    assert page.index(mirrored) < page.index("| mode |")


def test_lines_name_a_few_predictions_only() -> None:
    many = [Finding("mirrored", "said", f"c{i}") for i in range(7)]
    (line,) = said_of([*many, *many[:1]], 20)
    assert line == "mirrored: 7 of 20 predictions (c0, c1, c2, c3, c4 and 2 more): said"
    assert said_of([Finding("image_set", "of another set")], 20) == ["image set: of another set"]
    two = [Finding("scaled", f"{scale} of it", f"c{scale}", {"scale": scale}) for scale in (0.9, 1)]
    (line,) = said_of(two, 20)
    assert line == (
        "scaled: 2 of 20 predictions (c0.9, c1): 0.9 of it (the first of them; in all scale 0.9 to "
        "1)"
    )


def test_scores_have_a_row_for_each_way_a_case_is_compared(
    made: tuple[Path, dict[str, Any]],
) -> None:
    out, _ = made
    rows = pq.read_table(out / "scores.parquet").to_pylist()
    assert len(rows) == 6 * 4
    assert len({(r["case"], r["mode"], r["variant"], r["part"]) for r in rows}) == len(rows)
    (small,) = [
        r for r in rows if (r["case"], r["mode"], r["variant"]) == ("p0/b0", "metric", "strict")
    ]
    assert (small["person"], small["group"], small["n"]) == ("p0", "b", 50)
    assert small["rmse_mm"] == pytest.approx(10.0) and small["mean"] == pytest.approx(10.0)
    assert small["mean_head_rmse_mm"] == pytest.approx(0.0, abs=1e-6)
    assert (small["missing"], small["reason"]) == (False, "")
    gone = [r for r in rows if r["case"] in ("p2/a0", "p1/b0")]
    assert len(gone) == 8 and all(r["missing"] and r["rmse_mm"] is None for r in gone)
    heads = {r["case"]: r["mean_head_rmse_mm"] for r in gone if r["mode"] == "metric"}
    assert heads == pytest.approx({"p1/b0": 10.0, "p2/a0": 5.0}, abs=1e-5)
    assert {r["reason"] for r in gone if r["case"] == "p2/a0"} == {"no prediction"}
    findings = pq.read_table(out / "findings.parquet").to_pylist()
    assert sorted(f["kind"] for f in findings) == sorted(
        ["extra", "mirrored", "missing", "not_scored", "scaled"]
    )
    assert {f["case"] for f in findings if f["kind"] == "scaled"} == {"p0/b0"}
    (scaled,) = [f for f in findings if f["kind"] == "scaled"]
    assert json.loads(scaled["figures"])["scale"] == pytest.approx(100 / 90)


def test_the_json_holds_what_it_takes_to_repeat_it(made: tuple[Path, dict[str, Any]]) -> None:
    out, found = made
    told = json.loads((out / "result.json").read_text())
    assert found == {**told, "out": str(out), "status": 3, "said": found["said"]}
    assert (told["asked"], told["scored"], told["reused"]) == (6, 4, 0)
    assert [one["case"] for one in told["missing"]] == ["p1/b0", "p2/a0"]
    assert told["choices"] == {"poles": "with"} and told["unit"]["unit"] == "mm"
    assert set(told["sha256"]["truth"]) == {"p0.txt", "p1.txt", "p2.txt"}
    assert set(told["sha256"]["predictions"]) == {*(f"{one}.npy" for one in ASKED)} - {"p2/a0.npy"}
    assert {"facefold", "python", "numpy", "scipy", "code"} <= set(told["versions"])
    assert told["title"] == "Spheres" and "Archimedes" in told["citation"]
    assert len(told["model"]["digest"]) == 64 and told["model"]["is_stand_in"]
    assert row(told, "metric", "strict")["n"] == 6
    assert row(told, "metric", "as_published")["n"] == 4
    assert row(told, "metric", "as_published")["mean_mm"] == pytest.approx(10 / 4)


def test_pictures_are_there(made: tuple[Path, dict[str, Any]]) -> None:
    out, _ = made
    assert (out / "cumulative_error.png").read_bytes().startswith(b"\x89PNG")
    assert not (out / "heat_maps.png").exists(), "spheres say no surface"


def test_parquet_of_nothing_and_of_gaps(tmp_path: Path) -> None:
    write_parquet(tmp_path / "none.parquet", [], ("kind", "said"))
    none = pq.read_table(tmp_path / "none.parquet")
    assert none.num_rows == 0 and none.column_names == ["kind", "said"]
    rows: list[dict[str, Any]] = [{"a": "x", "b": None, "d": True}, {"a": "y", "b": 2.5, "c": 1}]
    write_parquet(tmp_path / "some.parquet", rows)
    assert pq.read_table(tmp_path / "some.parquet").to_pylist() == [
        {"a": "x", "b": None, "d": True, "c": None},
        {"a": "y", "b": 2.5, "d": None, "c": 1},
    ]
