"""One label a person: how near it is to the truth, and to itself from source to source.

python tests/benchmarks/neutrals.py [--people N] [--family ict|second|both] [--model flame_ict|bare]
    [--seeds FIRST] [--different N] [--quick] [--json] [--shared-data DIR]
Ten scans each of people in four sources, written as files, read, each source's landmarks
calibrated, and registered (`person_scans.py`). The truth is anchored by the same rule as the label
and nothing else.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from open_models import MODELS, add_shared_data, open_model
from person_scans import FAMILIES, SHOTS, SOURCES, Family, family_of, scans_of
from scipy.spatial.distance import pdist

from pipeline.build.source_calibration import calibrations_of
from pipeline.flame.model import FlameModel
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.anchor import anchored
from pipeline.registration.consensus import Consensus, consensus
from pipeline.registration.fusion import person
from pipeline.registration.template import Template, prepare_template
from pipeline.types import Array, Registration, Scan

OPTIONS = RegistrationOptions()
COUNTS = (1, 2, 5, 10)
AT_REST = [shot.at_rest for shot in SHOTS]
Row = dict[str, float | int]


class Subject(NamedTuple):
    results: list[Registration]  # of SHOTS
    truth_mm: Array  # (V,3) anchored, NaN where unknown


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    model = open_model(arguments.shared_data, arguments.model)
    template = prepare_template(model, "cpu", OPTIONS.modes)
    found = {}
    for name in FAMILIES if arguments.family == "both" else [arguments.family]:
        family = family_of(arguments.shared_data, name)
        first = FAMILIES[name] if arguments.seeds is None else arguments.seeds
        subjects = registered(family, range(first, first + arguments.people), model)
        found[name] = {
            "labels": labels(template, subjects),
            "misfiled": misfiled(template, subjects),
            "across": across(template, subjects, family, arguments.different),
        }
        if not arguments.json:
            print_tables(name, found[name], len(subjects))
    if arguments.json:
        print(json.dumps(found))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--family", choices=[*FAMILIES, "both"], default="both")
    parser.add_argument("--model", choices=MODELS, default="flame_ict")
    parser.add_argument("--seeds", type=int, help="the first person's seed")
    parser.add_argument(
        "--different", type=int, default=500, help="people to tell apart, not scanned"
    )
    parser.add_argument("--quick", action="store_true", help="two people, 50 to tell apart")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    add_shared_data(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.people, arguments.different = 2, 50
    return arguments


def registered(family: Family, seeds: Sequence[int], model: FlameModel) -> list[Subject]:
    """The people of the seeds, each source's landmarks calibrated on its neutral scans."""
    with tempfile.TemporaryDirectory() as folder:
        made = [scans_of(family, seed, Path(folder), model) for seed in seeds]
    template = prepare_template(model, "cpu", OPTIONS.modes)
    known = {}
    for source in SOURCES:
        sample: list[Scan] = [
            scan
            for scans, _ in made
            for scan, shot in zip(scans, SHOTS, strict=True)
            if shot.source == source and shot.at_rest
        ]
        known[source] = next(iter(calibrations_of(sample, OPTIONS, model).values()), None)
    calibrations = [known[shot.source] for shot in SHOTS]
    return [
        Subject(register(scans, model, OPTIONS, calibrations=calibrations), there(template, truth))
        for scans, truth in made
    ]


def there(template: Template, head: Array) -> Array:
    """(V,3) where the rule puts it."""
    return anchored(template, torch.from_numpy(np.asarray(head, np.float64))).numpy()


def label(template: Template, subject: Subject, rows: Sequence[int]) -> Consensus:
    results = [subject.results[i] for i in rows]
    return consensus(template, OPTIONS.modes, results, [AT_REST[i] for i in rows])


def error(template: Template, found: Array, truth: Array) -> float:
    """Mean distance of the face, mm."""
    face = template.face_region.numpy()
    return float(np.nanmean(np.linalg.norm(found[face] - truth[face], axis=1)))


def labels(template: Template, subjects: Sequence[Subject]) -> list[Row]:
    """Of each run of COUNTS scans of each person."""
    rows = []
    constant = constant_part(template, subjects)
    for subject in subjects:
        for count in COUNTS:
            for start in range(0, len(SHOTS), count):
                some = range(start, start + count)
                rows.append(label_row(template, subject, some, constant))
    return rows


def constant_part(template: Template, subjects: Sequence[Subject]) -> Array:
    """(V,3) the mean error of labels from all scans: what a family's faces have in common."""
    all_scans = range(len(SHOTS))
    gaps = [label(template, x, all_scans).neutral_mm - x.truth_mm for x in subjects]
    return np.asarray(np.mean(gaps, axis=0))


def label_row(template: Template, subject: Subject, rows: Sequence[int], constant: Array) -> Row:
    began = time.process_time()
    found = label(template, subject, rows)
    seconds = time.process_time() - began
    face, truth = template.face_region.numpy(), subject.truth_mm
    neutrals = np.mean([subject.results[i].neutral_mm for i in rows], axis=0, dtype=np.float64)
    smooth = person(template, OPTIONS.modes, found.posterior).rest_mm
    gaps = np.linalg.norm(found.neutral_mm - truth, axis=1)[face]
    return {
        "scans": len(rows),
        "label_mm": float(np.nanmean(gaps)),
        "smooth_mm": error(template, there(template, smooth), truth),
        "mean_neutral_mm": error(template, there(template, neutrals), truth),
        "without_constant_mm": error(template, found.neutral_mm - constant, truth),
        "expected_mm": float(found.expected_error_mm[face].mean()),
        "share_below_expected": float(np.nanmean(gaps < found.expected_error_mm[face])),
        "left_out": int((found.weights == 0).sum()),
        "ms": 1e3 * seconds,
    }


def misfiled(template: Template, subjects: Sequence[Subject]) -> list[Row]:
    """A scan of the next person among runs of 3 and 5."""
    rows = []
    for subject, other in zip(subjects, [*subjects[1:], subjects[0]], strict=True):
        for count in (3, 5):
            for start in range(0, len(SHOTS) - count + 1, count):
                own = list(range(start, start + count))
                foreign = (start + count) % len(SHOTS)
                results = [*(subject.results[i] for i in own), other.results[foreign]]
                at_rest = [AT_REST[i] for i in [*own, foreign]]
                found = consensus(template, OPTIONS.modes, results, at_rest)
                rows.append(
                    {
                        "own": count,
                        "found": int(found.weights[-1] == 0),
                        "own_left_out": int((found.weights[:-1] == 0).sum()),
                        "contested": int(found.contested),
                        "label_mm": error(template, found.neutral_mm, subject.truth_mm),
                    }
                )
    return rows


def across(
    template: Template, subjects: Sequence[Subject], family: Family, different: int
) -> dict[str, float]:
    """MICA's weighted L1 distance of one person's labels from two sources, and of two people."""
    weights = mica_weights(template.model)
    own, whole = [], []
    for subject in subjects:
        parts = [[i for i, x in enumerate(SHOTS) if x.source == source] for source in SOURCES]
        made = np.stack([label(template, subject, rows).neutral_mm for rows in parts])
        own.append(distances(made, weights))
        whole.append(label(template, subject, range(len(SHOTS))).neutral_mm)
    true = [there(template, family.rest_of(10**6 + seed)) for seed in range(different)]
    apart = distances(np.stack(true), weights)
    known = distances(np.stack([subject.truth_mm for subject in subjects]), weights)
    return {
        "same_mean": float(np.mean(own)),
        "same_max": float(np.max(own)),
        "different_min": float(apart.min()),
        "different_mean": float(apart.mean()),
        "registered_over_true": float((distances(np.stack(whole), weights) / known).mean()),
    }


def mica_weights(model: FlameModel) -> Array:
    """(V,) of MICA's loss (`utils/masking.py`): 150 in the face, .01 for ears and eyeballs, 1."""
    weights = np.ones(len(model.template_mm))
    for name in ("eyeballs", "left_ear", "right_ear"):
        weights[model.regions[name]] = 0.01
    weights[model.regions["face"]] = 150.0
    return weights


def distances(heads: Array, weights: Array) -> Array:
    """(n,V,3) mm -> (n(n-1)/2,) of all pairs: 1000 times the mean of weight × |difference|, m."""
    flat = np.nan_to_num(heads * weights[:, None]).reshape(len(heads), -1)
    return np.asarray(pdist(flat, "cityblock") / flat.shape[1])


def print_tables(name: str, found: dict[str, list[Row] | dict[str, float]], people: int) -> None:
    print(f"\n{name}: {people} people, ten scans each from four sources; mm on the face\n")
    head = ("label", "smooth part", "mean of neutrals", "label without the constant part")
    print(f"| scans | sets | {' | '.join(head)} | expected | nearer than expected | CPU ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows = found["labels"]
    assert isinstance(rows, list)
    lengths = ("label_mm", "smooth_mm", "mean_neutral_mm", "without_constant_mm", "expected_mm")
    for count in COUNTS:
        some = [row for row in rows if row["scans"] == count]
        means = " | ".join(f"{np.mean([row[key] for row in some]):.3f}" for key in lengths)
        share = np.mean([row["share_below_expected"] for row in some])
        ms = np.median([row["ms"] for row in some])
        print(f"| {count} | {len(some)} | {means} | {share:.0%} | {ms:.0f} |")
    left_out = sum(row["left_out"] for row in rows), sum(row["scans"] for row in rows)
    print(f"\nScans left out of their own person's label: {left_out[0]} of {left_out[1]}\n")
    print(
        "| own scans, and one of another person | sets | found | own left out | contested | label |"
    )
    print("|---|---|---|---|---|---|")
    rows = found["misfiled"]
    assert isinstance(rows, list)
    for count in (3, 5):
        some = [row for row in rows if row["own"] == count]
        keys = ("found", "own_left_out", "contested", "label_mm")
        hit, out, contested, mm = (float(np.sum([row[key] for row in some])) for key in keys)
        counts = f"{len(some)} | {hit:.0f} | {out:.0f} | {contested:.0f}"
        print(f"| {count} | {counts} | {mm / len(some):.3f} |")
    far = found["across"]
    assert isinstance(far, dict)
    print(
        f"\nMICA's distance: one person's labels from two sources {far['same_mean']:.1f} (at most "
        f"{far['same_max']:.1f}); the truths of different people, who were not scanned, at least "
        f"{far['different_min']:.1f}, {far['different_mean']:.1f} on average: ratio "
        f"{far['same_mean'] / far['different_min']:.2f} (at most "
        f"{far['same_max'] / far['different_min']:.2f}).\nDifferent people's labels from all scans "
        f"are {far['registered_over_true']:.2f} times as far apart as their truths."
    )


if __name__ == "__main__":
    main()
