"""What an evaluation leaves in its folder: a table, a row a prediction, findings, pictures, and a
JSON file with all that it takes to repeat it."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import __version__
from pipeline.evaluation.benchmark import Benchmark, Case, Finding, Given, Score, Scored
from pipeline.evaluation.scoring.cases import MISSING, NOT_SCORED, Work
from pipeline.evaluation.scoring.result_pictures import write_pictures
from pipeline.evaluation.scoring.tables import json_rows, lines_of, markdown, slot_of
from pipeline.evaluation.scoring.unit import Decided
from pipeline.store.durable_files import write_file

LIBRARIES = ("numpy", "scipy", "torch", "trimesh", "pyarrow", "matplotlib")
EXTRA = "extra"
SHOWN = 5
"""Predictions that a line of findings names."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All that is known when the last prediction is scored."""

    name: str
    benchmark: Benchmark
    given: Given
    decided: Decided
    works: Sequence[Work]
    scored: Sequence[Scored]
    common: Sequence[Finding]
    """Findings on the predictions as a whole."""
    extra: Sequence[Path]
    digests: Mapping[Path, str | OSError]
    code: str
    fresh: Set[str]
    """Keys of what was scored now."""
    seconds: float

    @property
    def findings(self) -> list[Finding]:
        """Those of the whole first, then by kind."""
        own = [finding for one in self.scored for finding in one.findings]
        return [*self.common, *_extra(self), *sorted(own, key=lambda f: f.kind)]

    @property
    def missing(self) -> list[Scored]:
        """Cases without a score: their predictions are not there, or cannot be scored."""
        return [one for one in self.scored if not one.scores]

    @property
    def reused(self) -> int:
        """Predictions whose scores were kept already."""
        pairs = zip(self.works, self.scored, strict=True)
        return sum(bool(one.scores) and work.key not in self.fresh for work, one in pairs)


def _extra(made: Evaluation) -> list[Finding]:
    """What is said of files that nobody asked for."""
    if not made.extra:
        return []
    names = [_relative(path, made.given.predictions) for path in made.extra]
    more = ", …" if len(names) > SHOWN else ""
    said = (
        f"{len(names)} files among the predictions ({', '.join(names[:SHOWN])}{more}) are of "
        f"nothing that {made.benchmark.title} asks for, and count for nothing: correct their names"
    )
    return [Finding(EXTRA, said, figures={"files": float(len(names))})]


def said_of(findings: Sequence[Finding], asked: int) -> list[str]:
    """Findings in lines, one a kind: how many predictions, which, and what is said of the first."""
    kinds: dict[tuple[str, bool], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.kind, not finding.case), []).append(finding)
    lines = []
    for (kind, whole), found in kinds.items():
        name = kind.replace("_", " ")
        if whole:
            lines += [f"{name}: {finding.said}" for finding in found]
            continue
        cases = list(dict.fromkeys(finding.case for finding in found))
        more = f" and {len(cases) - SHOWN} more" if len(cases) > SHOWN else ""
        named = f"{', '.join(cases[:SHOWN])}{more}"
        said = f"{found[0].said}{_spread(found)}"
        lines.append(f"{name}: {len(cases)} of {asked} predictions ({named}): {said}")
    return lines


def _spread(found: Sequence[Finding]) -> str:
    """If not all say the same: that the sentence is of the first, and how far figures go."""
    if len({finding.said for finding in found}) == 1:
        return ""
    names = [name for name in found[0].figures if all(name in f.figures for f in found)]
    ranges = [
        f"{name} {min(values):.3g} to {max(values):.3g}"
        for name in names
        for values in [[finding.figures[name] for finding in found]]
    ]
    return f" (the first of them; in all {', '.join(ranges)})" if ranges else " (the first of them)"


def summary_of(made: Evaluation) -> dict[str, Any]:
    """What `result.json` holds."""
    given, benchmark = made.given, made.benchmark
    missing = made.missing
    return {
        "benchmark": made.name,
        "title": benchmark.title,
        "citation": benchmark.citation,
        "asked": len(made.scored),
        "scored": len(made.scored) - len(missing) - made.reused,
        "reused": made.reused,
        "missing": [{"case": one.case.id, "reason": reason_of(one)} for one in missing],
        "extra": [_relative(path, given.predictions) for path in made.extra],
        "findings": [_finding(finding) for finding in made.findings],
        "table": json_rows(lines_of(benchmark, made.scored)),
        "unit": made.decided._asdict(),
        "distances_in": benchmark.unit,
        "choices": dict(given.choices),
        "landmarks": given.landmarks,
        "root": str(given.root),
        "predictions": str(given.predictions),
        "model": {
            "name": given.model.name,
            "digest": given.model.digest,
            "contents_hash": given.model.contents_hash,
            "is_stand_in": given.model.is_stand_in,
        },
        "sha256": _digests(made),
        "versions": {
            "facefold": __version__,
            "code": made.code,
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
        },
        "seconds": round(made.seconds, 2),
    }


def reason_of(one: Scored) -> str:
    """Why a case has no score."""
    kinds = (MISSING, NOT_SCORED)
    return next((f.said for f in one.findings if f.kind in kinds), "nothing is kept; run it again")


def _finding(finding: Finding) -> dict[str, Any]:
    figures = {name: _number(value) for name, value in finding.figures.items()}
    return {"kind": finding.kind, "case": finding.case, "said": finding.said, "figures": figures}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _relative(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _digests(made: Evaluation) -> dict[str, dict[str, str]]:
    """Of all files that were read, relative to the folders that the user named."""
    truth = {path for work in made.works for path in work.case.truth}
    predicted = {path for work in made.works for path in work.files} - truth
    given = made.given
    return {
        "truth": _named(truth, given.root, made.digests),
        "predictions": _named(predicted, given.predictions, made.digests),
    }


def _named(
    paths: Iterable[Path], folder: Path, digests: Mapping[Path, str | OSError]
) -> dict[str, str]:
    known = ((path, digests[path]) for path in sorted(paths))
    return {_relative(path, folder): sha for path, sha in known if isinstance(sha, str)}


def score_rows(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """A row a case × mode × variant × part; those of a missing one have no figures."""
    slots = dict.fromkeys(slot_of(s) for one in scored for s in (*one.scores, *one.mean_head))
    rows: list[dict[str, Any]] = []
    for one in scored:
        own, mean = _by_slot(one.scores), _by_slot(one.mean_head)
        there = own | mean or slots
        rows += [_score_row(one, slot, own.get(slot), mean.get(slot)) for slot in there]
    return rows


def _by_slot(scores: Iterable[Score]) -> dict[tuple[str, str, str], Score]:
    return {slot_of(score): score for score in scores}


def _score_row(
    one: Scored, slot: tuple[str, str, str], own: Score | None, mean: Score | None
) -> dict[str, Any]:
    case: Case = one.case
    mode, variant, part = slot
    return {
        "case": case.id,
        "person": case.person,
        "group": case.group,
        "mode": mode,
        "variant": variant,
        "part": part,
        "missing": not one.scores,
        "reason": "" if one.scores else reason_of(one),
        "n": 0 if own is None else len(own.distances),
        "mean": _mean(own),
        **_figures("", own),
        "mean_head_mean": _mean(mean),
        **_figures("mean_head_", mean),
    }


def _mean(score: Score | None) -> float | None:
    if score is None or not len(score.distances):
        return None
    return float(np.mean(score.distances, dtype=np.float64))


def _figures(before: str, score: Score | None) -> dict[str, float]:
    return {} if score is None else {before + n: float(v) for n, v in score.figures.items()}


def write_results(out: Path, made: Evaluation) -> dict[str, Any]:
    """Writes all files; returns what `result.json` holds."""
    out.mkdir(parents=True, exist_ok=True)
    summary = summary_of(made)
    write_parquet(out / "scores.parquet", score_rows(made.scored))
    findings = [{**row, "figures": json.dumps(row["figures"])} for row in summary["findings"]]
    write_parquet(out / "findings.parquet", findings, ("kind", "case", "said", "figures"))
    write_file(out / "table.md", page(summary, len(made.scored)).encode())
    write_file(out / "result.json", (json.dumps(summary, indent=2) + "\n").encode())
    write_pictures(out, made.benchmark, made.scored)
    return summary


def write_parquet(
    path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()
) -> None:
    """Columns of all rows, null where a row lacks one; texts, whole numbers, truths and float64."""
    names = dict.fromkeys([*columns, *(name for row in rows for name in row)])
    table = pa.table({name: _column([row.get(name) for row in rows]) for name in names})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_file(path, sink.getvalue().to_pybytes())


def _column(values: Sequence[Any]) -> pa.Array:
    there = [value for value in values if value is not None]
    if not there or isinstance(there[0], str):
        return pa.array(values, pa.string() if there or not values else pa.float64())
    return pa.array(values)


def page(summary: Mapping[str, Any], asked: int) -> str:
    """`table.md`."""
    unit = summary["unit"]
    findings = [Finding(f["kind"], f["said"], f["case"]) for f in summary["findings"]]
    said = [f"- {line}" for line in said_of(findings, asked)] or ["- nothing was found wrong"]
    parts = [
        f"# {summary['title']}",
        summary["citation"],
        f"{asked} predictions asked for, {len(summary['missing'])} missing or not scored, "
        f"{len(summary['extra'])} files nobody asked for. "
        f"Unit: {unit['unit'] or 'none'} ({unit['evidence']}). Model: {summary['model']['name']}.",
        "\n".join(said),
        markdown(summary["table"]).rstrip("\n"),
        "`as published` is as the authors' code does; `strict` allows no reflection and no hidden "
        "scale, and a missing prediction counts as the mean head or the worst that was delivered, "
        "whichever is worse. `difference` is predictions − mean head.",
    ]
    return "\n\n".join(parts) + "\n"
