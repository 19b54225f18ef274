"""Verdicts over rows, tables of precision and recall."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from gate_cases import PLACES, SLID_MM, SOUND_MM
from gate_rows import KINDS, SOUND, Row
from gate_slides import SLIDES

from pipeline.quality.gates import GATES, findings_of
from pipeline.quality.thresholds import Gates
from pipeline.refusals import Code
from pipeline.types import Array, Verdict


def biases(rows: Sequence[Row]) -> dict[tuple[str, str], Array]:
    """(family, part) → (K,3) mm median gap of the family's sound faces."""
    found: dict[tuple[str, str], list[Array]] = {}
    for row in rows:
        if row.kind == SOUND:
            for part, gap in row.gaps.items():
                found.setdefault((row.family, part), []).append(gap)
    return {key: np.median(gaps, axis=0) for key, gaps in found.items() if len(gaps) >= 5}


def errors_of(row: Row, bias: dict[tuple[str, str], Array]) -> dict[str, float]:
    """Part → mm from the truth, the family's constant bias taken out."""
    return {
        part: float(np.linalg.norm(gap - bias.get((row.family, part), 0.0), axis=1).max())
        for part, gap in row.gaps.items()
    }


def is_good(row: Row, errors: dict[str, float]) -> bool:
    """Real scans are taken for good: they were looked at."""
    if row.kind != SOUND or row.family.startswith("real"):
        return row.kind == SOUND
    return bool(errors) and max(errors.values()) < SOUND_MM


def is_bad(errors: dict[str, float]) -> bool:
    return any(errors.get(place, 0.0) > SLID_MM for place in PLACES)


def judged(row: Row, gates: Gates) -> tuple[Verdict, list[Code]]:
    """As `pipeline.quality.refusing.judged` does, and the codes of its reasons."""
    if row.measures is None:
        assert row.refused is not None
        return "reject", [row.refused]
    found = findings_of(row.measures, gates)
    codes = [finding.refusal.code for finding in found]
    if row.refused is not None:
        return "reject", [row.refused, *codes]
    if not found:
        return "accept", []
    return ("reject" if found[0].verdict == "reject" else "review"), codes


def tables(rows: Sequence[Row], bias: dict[tuple[str, str], Array], gates: Gates) -> dict[str, Any]:
    """Everything that is printed, as plain numbers."""
    known = [(row, errors_of(row, bias), *judged(row, gates)) for row in rows]
    good = [(row, codes, verdict) for row, e, verdict, codes in known if is_good(row, e)]
    natural = [v for row, e, v, _ in known if row.kind == SOUND and is_bad(e)]
    result: dict[str, Any] = {"sound": {}, "spoiled": {}, "confusion": {}, "gates": {}}
    for family in sorted({row.family for row, *_ in known}):
        own = [verdict for row, _, verdict in good if row.family == family]
        everyone = [r for r in rows if r.family == family and r.kind == SOUND]
        result["sound"][family] = {"n": len(everyone), **shares(own)}
    result["sound"]["all good"] = shares([verdict for *_, verdict in good])
    result["spoiled"]["not spoiled, > 4 mm off"] = shares(natural)
    for kind in KINDS:
        own_rows = [(v, c) for row, e, v, c in known if row.kind == kind and is_spoiled(row, e)]
        first = Counter(str(codes[0]) if codes else "none" for _, codes in own_rows)
        named = [bool(codes) and codes[0] in KINDS[kind] for _, codes in own_rows]
        any_named = [bool(set(codes) & KINDS[kind]) for _, codes in own_rows]
        result["spoiled"][kind] = {
            **shares([verdict for verdict, _ in own_rows]),
            "named": mean(named),
            "named among": mean(any_named),
        }
        result["confusion"][kind] = dict(first.most_common())
    for name, gate in GATES.items():
        fired = {SOUND: 0, **dict.fromkeys(KINDS, 0)}
        for row, e, *_ in known:
            counts = is_good(row, e) if row.kind == SOUND else is_spoiled(row, e)
            if counts and row.measures is not None and gate(row.measures, gates) is not None:
                fired[row.kind] += 1
        wrong, right = fired[SOUND], sum(fired.values()) - fired[SOUND]
        result["gates"][name] = {
            "good": wrong,
            "spoiled": right,
            "precision": right / max(wrong + right, 1),
            "kinds": {k: n for k, n in fired.items() if n and k != SOUND},
        }
    return result


def is_spoiled(row: Row, errors: dict[str, float]) -> bool:
    """A slide counts where it ended more than SLID_MM off."""
    return row.kind not in SLIDES or is_bad(errors)


def shares(verdicts: Sequence[str]) -> dict[str, Any]:
    count, n = Counter(verdicts), max(len(verdicts), 1)
    return {
        "counted": len(verdicts),
        **{verdict: count[verdict] / n for verdict in ("accept", "review", "reject")},
    }


def mean(flags: Sequence[bool]) -> float:
    return float(np.mean(flags)) if flags else math.nan


def print_tables(result: dict[str, Any]) -> None:
    print(f"{'':28}{'counted':>8}{'accept':>8}{'review':>8}{'reject':>8}{'named':>8}{'among':>8}")
    for group in ("sound", "spoiled"):
        for name, row in result[group].items():
            figures = [row[k] for k in ("accept", "review", "reject")]
            figures += [row[k] for k in ("named", "named among") if k in row]
            print(f"{name:28}{row['counted']:8}" + "".join(f"{x:8.3f}" for x in figures))
    print("\nfirst code of each kind")
    for kind, codes in result["confusion"].items():
        print(f"{kind:28}" + ", ".join(f"{code} {n}" for code, n in codes.items()))
    print("\ngates: good held up, spoiled held up, precision")
    for name, row in result["gates"].items():
        kinds = ", ".join(f"{k} {n}" for k, n in row["kinds"].items())
        print(f"{name:20}{row['good']:5}{row['spoiled']:6}{row['precision']:7.3f}  {kinds}")
